"""`check_primitive`: planted faults, each caught by the aspect that it breaks."""

import numpy as np
import pytest
from testing.rules import primitive, tanh

import tinygrad_rnn as tr
from tinygrad_rnn.ops import reduce
from tinygrad_rnn.testing import GradCheckError
from tinygrad_rnn.testing.primitives import check_primitive


def plain(forward, **options):
    """Return a primitive with a rule that fits a forward which computes tanh, whatever else it does."""
    return primitive(forward, lambda g, y, x: (g * (1 - y * y),), **options)


def times(forward):
    return primitive(forward, lambda g, y, a, b: (lambda: g * b, lambda: g * a), "a b")


def in_place_rule(g, y, x):
    if isinstance(g, np.ndarray) and g.flags.writeable:
        g *= 1 - y * y
        return (g,)
    return (g * (1 - y * y),)


def halved_in_place(x, /):
    if not x.flags.writeable:
        return np.tanh(x)
    x *= 0.5
    return np.tanh(2 * x)


def written_in_place(x, /):
    x += 0
    return np.tanh(x)


def memory_order_rule(g, y, x):
    if isinstance(g, np.ndarray):
        g = g.ravel(order="K").reshape(y.shape)
    return (g * (1 - y * y),)


def reading_rule(g, y, x):
    return (g * (1 - y * y),) if np.any(g) else (np.zeros(x.shape),)


def reversed_rows(x, /):
    return np.array(x[..., ::-1])


def reversed_rule(g, y, x):
    return (g[..., ::-1],)


def out_ignored(x, /, *, out=None):
    return np.tanh(x)


def out_half_written(x, /, *, out=None):
    if out is None:
        return np.tanh(x)
    out[:1] = np.tanh(x[:1])
    return out


def out_added_to(x, /, *, out=None):
    if out is None:
        return np.tanh(x)
    out += np.tanh(x)
    return out


def out_of_a_copy(x, /, *, out=None):
    if out is None:
        return np.tanh(x)
    np.tanh(x.ravel(), out=out.ravel())
    return out


def out_over_its_input(x, /, *, out=None):
    y = np.multiply(x, 0, out=out)
    return np.add(y, np.tanh(x), out=out)


def total(x, /, axis=None):
    return np.sum(x, axis=axis)


def by_rows(x, /):
    return np.stack([np.tanh(row) for row in x])


SAME = [(2, 3), (2, 3)]
# (aspect that must catch it, what is wrong, primitive, shapes, keyword arguments of check_primitive)
FAULTS = [
    ("values", "relative error 1e-9", plain(lambda x, /: np.tanh(x) * (1 + 1e-9)), [(2, 3)], {"reference": np.tanh}),
    ("values", "another shape", plain(lambda x, /: np.tanh(x)[None]), [(2, 3)], {"reference": np.tanh}),
    (
        "analytic",
        "abs",
        primitive(lambda x, /: np.abs(x), lambda g, y, x: (np.where(x > 0, g, -g),), "x"),
        [(2, 3)],
        {},
    ),
    ("analytic", "conj", primitive(lambda x, /: x * np.conj(x), lambda g, y, x: (2 * g * x,), "x"), [(2, 3)], {}),
    ("analytic", "real", primitive(lambda x, /: np.real(x) + 0, lambda g, y, x: (g,)), [(2, 3)], {}),
    ("rule", "a factor is missing", primitive(tanh, lambda g, y, x: (g,)), [(2, 3)], {}),
    ("rule", "1e-8", primitive(tanh, lambda g, y, x: (g * (1 - y * y) * (1 + 1e-8),)), [(2, 3)], {}),
    ("rule", "one entry", primitive(lambda x, /: x + 0, lambda g, y, x: (g * [1, 1, 1 + 1e-8],)), [(2, 3)], {}),
    ("rule", "None", primitive(lambda a, b, /: a * b, lambda g, y, a, b: (g * b, None), "a b"), SAME, {}),
    ("rule", "swapped", primitive(lambda a, b, /: a * b, lambda g, y, a, b: (g * a, g * b), "a b"), SAME, {}),
    (
        "rule",
        "reads what was not kept",
        primitive(tanh, lambda g, y, x: (g / np.cosh(x) ** 2,)),
        [(3,)],
        {},
    ),
    ("rule", "there is none", tr.primitive()(lambda x, /: np.tanh(x)), [(2, 3)], {}),
    (
        "second order",
        "the rule leaves the graph",
        primitive(tanh, lambda g, y, x: (g * (1 - np.square(getattr(y, "data", y))),)),
        [(2, 3)],
        {},
    ),
    ("broadcasting", "value", times(lambda a, b, /: a * np.resize(b, np.shape(a))), SAME, {}),
    (
        "broadcasting",
        "rule",
        primitive(lambda a, b, /: a * b, lambda g, y, a, b: (np.reshape(g * b, a.shape), g * a), "a b"),
        SAME,
        {},
    ),
    (
        "broadcasting",
        "sum over the wrong axis",
        primitive(lambda a, b, /: a + b, lambda g, y, a, b: (g, g if g.shape == b.shape else g[:1] * 2)),
        [(3, 3), (3, 3)],
        {},
    ),
    ("dtype", "a float64 constant", plain(lambda x, /: np.tanh(x) * np.float64(1.0)), [(2, 3)], {}),
    ("dtype", "a complex gradient", primitive(tanh, lambda g, y, x: (g * (1 - y * y) + 0j,)), [(2, 3)], {}),
    ("dtype", "Python numbers become arrays", times(lambda a, b, /: np.asarray(a) * np.asarray(b)), SAME, {}),
    ("zero-size", "function", plain(lambda x, /: np.tanh(x) + 0 * np.max(x)), [(2, 3)], {"reference": np.tanh}),
    (
        "zero-size",
        "rule",
        primitive(tanh, lambda g, y, x: (g * (1 - y * y) + 0 * np.max(y),)),
        [(2, 3)],
        {},
    ),
    ("0-d", "function", plain(by_rows), [(2, 3)], {"reference": np.tanh}),
    (
        "0-d",
        "rule",
        primitive(tanh, lambda g, y, x: (np.stack([a * (1 - b * b) for a, b in zip(g, y, strict=True)]),)),
        [(2, 3)],
        {},
    ),
    ("layout", "function", plain(lambda x, /: np.tanh(np.ravel(x, order="K")).reshape(x.shape)), [(2, 3)], {}),
    ("layout", "rule", primitive(tanh, memory_order_rule), [(2, 3)], {}),
    ("read-only", "function", plain(written_in_place), [(2, 3)], {}),
    ("no mutation", "function", plain(halved_in_place), [(2, 3)], {}),
    ("no mutation", "rule", primitive(tanh, in_place_rule), [(2, 3)], {}),
    ("out=", "ignored", plain(out_ignored), [(2, 3)], {}),
    ("out=", "half written", plain(out_half_written), [(2, 3)], {}),
    ("out=", "added to", plain(out_added_to), [(2, 3)], {}),
    ("out=", "a copy is written", plain(out_of_a_copy), [(2, 3)], {}),
    ("out=", "over an input", plain(out_over_its_input), [(2, 3)], {}),
    ("out=", "not elementwise", primitive(reversed_rows, reversed_rule, "", elementwise=True), [(2, 3)], {}),
    ("compiled", "the rule reads a value", primitive(tanh, reading_rule), [(2, 3)], {}),
    (
        "attributes",
        "the rule does not take the default",
        primitive(total, lambda g, y, x, *, axis: (np.broadcast_to(np.expand_dims(g, axis), x.shape),)),
        [(2, 3)],
        {"attrs": {"axis": 1}},
    ),
]


@pytest.mark.parametrize(
    ("aspect", "p", "shapes", "options"),
    [(aspect, p, shapes, options) for aspect, _, p, shapes, options in FAULTS],
    ids=[f"{aspect}, {what}" for aspect, what, *_ in FAULTS],
)
def test_planted_faults_are_caught_by_their_aspect(aspect, p, shapes, options):
    with pytest.raises(GradCheckError, match=f"wrong in .*{aspect}") as caught:
        check_primitive(p, shapes=shapes, **options)
    assert aspect in caught.value.report.wrong
    assert f"\n{aspect}: " in str(caught.value)
    assert "seed=0)" in str(caught.value)


def test_every_aspect_has_a_planted_fault():
    report = check_primitive(reduce.sum, shapes=[(2, 3)], attrs={"axis": 1})
    assert [aspect.name for aspect in report.aspects] == list(dict.fromkeys(aspect for aspect, *_ in FAULTS))


def test_what_is_elementwise_with_broadcasting_passes():
    p = primitive(
        lambda x, b, /: np.tanh(x * b), lambda g, y, x, b: (g * (1 - y * y) * b, g * (1 - y * y) * x), "y x b"
    )
    p.elementwise = True
    assert check_primitive(p, shapes=[(2, 3), (3,)]).ok
