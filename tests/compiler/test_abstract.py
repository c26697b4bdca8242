"""Shapes and dtypes without computing: for every primitive, what the rule says is what the operation gives."""

import importlib
import math
import pkgutil
import warnings

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import lines, write
from replay import leaf, normal, record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.abstract import _RULES, specs_of
from tinygrad_rnn.compiler.ir.arrays import abstract_array, uniform_elementwise, uniform_reduction
from tinygrad_rnn.compiler.ir.operators import operator_of
from tinygrad_rnn.compiler.ir.table import ELEMENTWISE
from tinygrad_rnn.compiler.recording.loops import LoopTracer
from tinygrad_rnn.compiler.recording.trace import trace
from tinygrad_rnn.engine.operands import without_gradient
from tinygrad_rnn.engine.primitive import Primitive
from tinygrad_rnn.engine.tape import tracing

MODULES = [m.name for m in pkgutil.walk_packages(tr.__path__, "tinygrad_rnn.") if not m.name.endswith("__main__")]
PRIMITIVES = {
    p.name: p for name in MODULES for p in vars(importlib.import_module(name)).values() if isinstance(p, Primitive)
}
DTYPES = ["f2", "f4", "f8", "c8", "c16", ">f4", "i1", "u1", "i8", "?"]
NUMBERS = [2, -3, 300, 10**30, 10**400, 0.5, 1e300, True, 1j, np.float32(2), np.float64(2), np.int8(3)]
LENGTHS = st.integers(0, 3)

arrays = st.builds(lambda shape, dtype: np.ones(shape, dtype), st.lists(LENGTHS, max_size=3), st.sampled_from(DTYPES))
floats = st.builds(
    lambda shape, dtype: np.ones(shape, dtype), st.lists(LENGTHS, max_size=3), st.sampled_from(DTYPES[:6])
)
regular = st.builds(  # matrices that have an inverse
    lambda lead, n, dtype: np.ones((*lead, 1, 1), dtype) * np.eye(n, dtype=dtype),
    *(st.lists(LENGTHS, max_size=2), LENGTHS, st.sampled_from(DTYPES)),
)


@st.composite
def axis_of(draw, x):
    return draw(st.integers(-x.ndim - 1, x.ndim))


@st.composite
def operands_of(draw, count):
    """Draw operands that broadcast, or nearly: arrays, and numbers."""
    shape = draw(st.lists(LENGTHS, max_size=3))
    parts = []
    for _ in range(count):
        if draw(st.integers(0, 3)) == 0:
            parts.append(draw(st.sampled_from(NUMBERS)))
            continue
        own = [n if draw(st.integers(0, 9)) else draw(LENGTHS) for n in shape[draw(st.integers(0, len(shape))) :]]
        parts.append(np.ones([1 if draw(st.integers(0, 4)) == 0 else n for n in own], draw(st.sampled_from(DTYPES))))
    return parts


def shaped(draw, x):
    """Draw a shape with as many elements, or nearly; one length may be -1."""
    options = [x.shape, (-1,), x.shape[::-1], (x.size,), x.size, -1, (-1, -1), (2, -1), (*x.shape, 1), (3, 2), (-2, -3)]
    return draw(st.sampled_from(options))


def ids_for(draw, length, shape=None):
    shape = draw(st.lists(LENGTHS, max_size=2)) if shape is None else shape
    low, high = -length, length if draw(st.integers(0, 5)) == 0 else max(length - 1, -length)
    count = math.prod(shape)
    return np.array(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)), int).reshape(shape)


def joined(draw):
    first = draw(arrays)
    return [first] + [
        np.ones(
            [n if draw(st.integers(0, 3)) else draw(LENGTHS) for n in first.shape],
            draw(st.sampled_from([first.dtype.str, "f4", "f8", "i8"])),
        )
        for _ in range(draw(st.integers(0, 2)))
    ]


def reduction(draw):
    x = draw(arrays)
    axis = draw(st.one_of(st.none(), axis_of(x), st.lists(axis_of(x), max_size=2).map(tuple)))
    return [x], {"axis": axis, "keepdims": draw(st.booleans())}


def scanned(draw):
    x = draw(floats)
    return [x], {"axis": draw(axis_of(x))}


def broadcast(draw):
    x = draw(arrays)
    return [x], {"shape": draw(st.sampled_from([(2, *x.shape), x.shape, 3, (2, 3), ()]))}


def turned(draw):
    x = draw(arrays)
    axes = draw(st.one_of(st.none(), st.permutations(range(x.ndim)).map(tuple), st.just((0, 0))))
    return [x], {"axes": axes}


def stacked(draw):
    parts = joined(draw)
    if draw(st.booleans()):
        parts.append(draw(st.sampled_from(NUMBERS)))
    return parts, {"axis": draw(axis_of(parts[0]))}


def cut_apart(draw):
    x = draw(arrays)
    sections = draw(st.one_of(st.integers(1, 3), st.lists(st.integers(-4, 4), max_size=3).map(tuple)))
    return [x], {"indices_or_sections": sections, "axis": draw(axis_of(x))}


def picked(draw):
    x = draw(arrays)
    n = (*x.shape, 1, 1)
    basic = [
        0,
        -1,
        slice(None),
        slice(1, None),
        (slice(None), 0),
        (Ellipsis, -1),
        (None, slice(0, 1)),
        3,
        (),
        np.int8(0),
    ]
    one, two = ids_for(draw, n[0]), ids_for(draw, n[1], (2,))
    arrays_too = [one, (one, two), (slice(None), two), (0, two), (two, slice(None), one), np.ones(n[0], bool)]
    return [x], {"index": draw(st.sampled_from([*basic, *arrays_too]))}


def looked_up(draw):
    x = draw(arrays)
    axis = draw(axis_of(x))
    return [x], {"indices": ids_for(draw, x.shape[axis] if -x.ndim <= axis < x.ndim else 1), "axis": axis}


def along(draw):
    x = draw(arrays)
    axis = draw(st.integers(0, max(x.ndim - 1, 0)))
    shape = [n if place != axis else draw(LENGTHS) for place, n in enumerate(x.shape)]
    if draw(st.integers(0, 3)) == 0:
        shape = [1 for _ in shape]
    return [x], {"indices": ids_for(draw, x.shape[axis] if x.ndim else 1, shape), "axis": axis}


def back(name):
    def drawn(draw):
        [x], attrs = {"scatter": picked, "take_back": looked_up, "take_along_back": along}[name](draw)
        forward = {"scatter": "getitem", "take_back": "take", "take_along_back": "take_along"}[name]
        try:
            g = PRIMITIVES[forward].forward(x, **attrs)
        except (IndexError, ValueError):
            return None
        if not x.ndim:
            return None
        if "axis" in attrs:
            attrs["axis"] %= x.ndim
        return [np.ones(g.shape, draw(st.sampled_from(DTYPES)))], {**attrs, "shape": x.shape}

    return drawn


def loss(draw):
    shape = [*draw(st.lists(LENGTHS, max_size=2)), draw(st.integers(1, 3))]
    logits = np.ones(shape, draw(st.sampled_from(DTYPES[:6])))
    return [logits], {"targets": np.zeros(shape[:-1], int), "ignore_label": -1}


def loss_back(draw):
    [logits], attrs = loss(draw)
    g = draw(st.sampled_from([1.0, np.ones((), "f4"), np.ones((), "f8"), np.ones((), "c8"), np.ones((), "f2")]))
    return [logits, g], attrs


CASES = {
    **{
        name: lambda draw, n=name: (draw(operands_of(PRIMITIVES[n]._arity)), {})
        for name in PRIMITIVES.keys() & ELEMENTWISE
    },
    **dict.fromkeys(("sum", "mean", "max", "min", "logsumexp", "prod"), reduction),
    **dict.fromkeys(("log_softmax", "cumsum", "cumprod"), scanned),
    **{name: back(name) for name in ("scatter", "take_back", "take_along_back")},
    "astype": lambda draw: ([draw(arrays)], {"dtype": draw(st.sampled_from([*DTYPES, float, np.float32]))}),
    "round": lambda draw: ([draw(arrays)], {"decimals": draw(st.integers(-1, 2))}),
    "cut": lambda draw: ([draw(floats)], {"scale": 0.5}),
    "matmul": lambda draw: (draw(st.lists(arrays, min_size=2, max_size=2)), {}),
    "inv": lambda draw: ([draw(st.one_of(regular, arrays.filter(lambda x: x.ndim < 2)))], {}),
    "solve": lambda draw: ([draw(regular), draw(arrays)], {}),
    "reshape": lambda draw: ([x := draw(arrays)], {"shape": shaped(draw, x)}),
    "transpose": turned,
    "broadcast_to": broadcast,
    "concatenate": lambda draw: (parts := joined(draw), {"axis": draw(axis_of(parts[0]))}),
    "stack": stacked,
    "split": cut_apart,
    "unstack": lambda draw: ([x := draw(arrays)], {"axis": draw(axis_of(x))}),
    "getitem": picked,
    "take": looked_up,
    "take_along": along,
    "linear_recurrence": lambda draw: ([draw(floats.filter(np.ndim)), draw(floats)], {}),
    "cross_entropy": loss,
    "cross_entropy_back": loss_back,
    "norms": lambda draw: (
        [np.ones(part.shape, part.real.dtype) for part in draw(st.lists(floats, min_size=1, max_size=2))],
        {"function": "f", "names": ()},
    ),
}


def test_every_primitive_of_the_package_has_a_rule_and_is_drawn():
    assert CASES.keys() == PRIMITIVES.keys()
    assert {operator_of(p).name for p in PRIMITIVES.values()} <= _RULES.keys()


def given_by(p, parts, attrs):
    """Return shapes and dtypes of what a primitive gives; None if it raises."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            made = p.forward(*parts, **attrs)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return [(np.shape(part), np.asarray(part).dtype) for part in (made if p.multiple else (made,))]


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_the_rule_says_what_the_operation_gives(name, data):
    p = PRIMITIVES[name]
    case = CASES[name](data.draw)
    if case is None or not any(isinstance(part, np.ndarray) for part in case[0]):
        return
    parts, attrs = case
    try:
        attrs = attrs if p._canonical is None else p._canonical(name, parts, {**p._defaults, **attrs})
    except (tr.ShapeError, tr.DTypeError):
        return
    found = specs_of(operator_of(p).name, p.forward, parts, attrs)
    if found is not None:
        assert found == given_by(p, parts, attrs)
        assert all(
            dtype.str == want.str for (_, dtype), (_, want) in zip(found, given_by(p, parts, attrs), strict=True)
        )
        assert all(type(n) is int for shape, _ in found for n in shape)


FOLLOWED = [
    ("matmul", [(20, 2, 3), (3, 4)], {}),
    ("matmul", [(5, 1, 2, 3), (4, 3, 2)], {}),
    ("matmul", [(3,), (4, 3, 2)], {}),
    ("add", [(4, 1), (3,)], {}),
    ("where", [(4, 1), (3,), ()], {}),
    ("sum", [(2, 3)], {"axis": (0, 1), "keepdims": True}),
    ("log_softmax", [(2, 3)], {"axis": -1}),
    ("reshape", [(2, 3)], {"shape": (-1, 2)}),
    ("transpose", [(2, 3, 4)], {"axes": (2, 0, 1)}),
    ("broadcast_to", [(3,)], {"shape": (2, 3)}),
    ("concatenate", [(2, 3), (1, 3)], {"axis": 0}),
    ("stack", [(2, 3), (2, 3)], {"axis": 1}),
    ("split", [(2, 6)], {"indices_or_sections": 3, "axis": 1}),
    ("split", [(2, 6)], {"indices_or_sections": (1, 4), "axis": 1}),
    ("unstack", [(2, 6)], {"axis": 0}),
    ("getitem", [(2, 6)], {"index": (Ellipsis, slice(1, 3))}),
    ("getitem", [(2, 6)], {"index": np.array([0, 1, 1])}),
    ("take", [(2, 6)], {"indices": np.array([[0, 1, 1]]), "axis": 0}),
    ("take_along", [(2, 6)], {"indices": np.array([[0], [1]]), "axis": 1}),
    ("cross_entropy", [(2, 6)], {"targets": np.array([0, 1]), "ignore_label": -1}),
]


@pytest.mark.parametrize(("name", "shapes", "attrs"), FOLLOWED)
def test_rules_follow_what_is_common(name, shapes, attrs):
    parts = [abstract_array(shape, np.dtype("f4")) for shape in shapes]
    p = PRIMITIVES[name]
    assert specs_of(name, p.forward, parts, attrs) == given_by(p, parts, attrs) is not None


# -- while a function is recorded --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=examples(60), deadline=None)
@given(before=lines, body=lines, after=lines, steps=st.integers(0, 2), seed=st.integers(0, 2**32 - 1))
def test_what_stands_for_results_of_programs_is_what_they_would_be(before, body, after, steps, seed):
    program = write(before, body, after, steps, "float32", seed)

    class Compared(LoopTracer):
        def abstract(self, operation, values, attrs):
            made = super().abstract(operation, values, attrs)
            if made is not None:
                assert [(part.shape, part.dtype) for part in made] == given_by(operation, values, attrs)
            return made

    function, tracer = program.function(1), Compared()
    inputs = [
        tracer.argument(x._array, x if x.requires_grad else None, "x") if isinstance(x, tr.Tensor) else x
        for x in program.inputs
    ]
    with tracing(tracer), np.errstate(all="ignore"):
        function(*inputs)


def large(x, w, ids):
    """Compute something of every kind on arrays that no machine could hold."""
    h = np.tanh(np.concatenate([x @ w, np.stack([x @ w, x @ w])[0]], axis=1))
    h = np.where(h > 0, np.maximum(h, 0.5), tr.sigmoid(h) * 2)[:, : w.shape[1]]
    h = h + np.astype(h >= x[:, :1], h.dtype)
    return tr.grad(tr.cross_entropy(h, ids) + np.mean(tr.softmax(h)) + np.max(np.exp(h)), w)


def test_nothing_large_is_computed():
    n = 1 << 24  # a product of (n, n) and (n, n) has 2**72 multiplications
    tracer, dtype = LoopTracer(), np.dtype("f4")
    one = abstract_array((), dtype)
    x, w = (tracer.argument(one, None, name) for name in "xw")
    for part in (x, w):
        part._array = abstract_array((n, n), dtype)
    w.requires_grad = True
    tracer.know(w, tracer.inputs[1])
    ids = np.zeros(n, int)
    with tracing(tracer), np.errstate(all="ignore"):
        gradient = large(x, w, ids)
    assert (gradient.shape, gradient.dtype) == ((n, n), dtype)


@pytest.mark.parametrize("name", ["sum", "max", "min"])
@pytest.mark.parametrize("axis", [None, 0, (0, 1), ()])
@pytest.mark.parametrize("element", [True, np.int8(-3)])
def test_whole_numbers_that_are_all_one_are_counted(name, axis, element):
    x = np.broadcast_to(element, (3, 4))
    want = getattr(np, name)(x, axis=axis)
    made = uniform_reduction(name, x, (np.shape(want), want.dtype))
    assert (made.dtype, made.shape) == (want.dtype, np.shape(want))
    assert np.array_equal(made, want)
    assert uniform_reduction(name, np.arange(3), ((), np.dtype(int))) is None


def test_comparisons_of_abstract_values_are_one_element():
    made = uniform_elementwise(np.greater, [abstract_array((1000, 1000), np.dtype("f4")), 0], (1000, 1000))
    assert (made.shape, made.strides, bool(made[5, 5])) == ((1000, 1000), (0, 0), True)
    assert uniform_elementwise(np.add, [np.arange(3), 1], (3,)) is None


ERRORS = [
    lambda x: x @ np.ones((2, 5)),
    lambda x: x + np.ones((5, 7)),
    lambda x: np.reshape(x, (5, 5)),
    lambda x: np.concatenate([x, np.ones((1, 9))]),
    lambda x: np.stack([x, np.ones((1, 9))]),
    lambda x: np.broadcast_to(x, (3, 9)),
    lambda x: np.split(x, 3, axis=1),
    lambda x: x[7],
    lambda x: np.take(x, [9], axis=0),
    lambda x: np.take_along_axis(x, np.array([[9]]), axis=0),
    lambda x: np.max(x[:0]),
    lambda x: np.tanh(x, foo=1),
    lambda x: np.sum(x, foo=1),
    lambda x: np.floor(x * 1j),
    lambda x: x * 10**400,
]


@pytest.mark.parametrize("wrong", ERRORS)
def test_errors_are_those_of_eager_execution(wrong):
    with pytest.raises(Exception) as eager:
        wrong(leaf(3, 4))
    with pytest.raises(type(eager.value)) as recorded:
        record(wrong, leaf(3, 4))
    assert str(recorded.value).partition(" (arguments")[0] == str(eager.value).partition(" (arguments")[0]


def test_integers_are_computed():
    seen = []

    def f(x, ids):
        more = np.add(ids, 1)
        without_gradient("look", lambda given: seen.append(given.tolist()) or given, more)
        return x[more]

    record(f, normal(4, 2), np.array([0, 2]))
    assert seen == [[1, 3]]


def test_a_gradient_is_no_part_of_the_graph_unless_that_is_wanted():
    w = leaf(3)
    with pytest.raises(tr.GradientError, match="no graph was recorded for y"):
        record(lambda: tr.grad(np.sum(tr.grad(np.sum(w**3), w)), w))
    assert trace(lambda: tr.grad(np.sum(tr.grad(np.sum(w**3), w, create_graph=True)), w), ((), {})).graph.calls
