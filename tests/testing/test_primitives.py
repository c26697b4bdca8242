"""Every primitive of the package through `check_primitive`."""

import importlib
import pkgutil

import numpy as np
import pytest
from testing.rules import primitive, tanh

import tinygrad_rnn as tr
from tinygrad_rnn import ops
from tinygrad_rnn.ops import index, logistic, loss, recurrence, reduce, scan, shape, truncate
from tinygrad_rnn.testing.primitives import check_primitive

POSITIVE = (0.5, 2.0)
MASK = np.array([[True, False, True], [False, False, True]])
IDS = np.array([[0, 2], [-1, 0]])
ALONG = np.array([[0, 2], [1, 1]])
REGULAR = np.random.default_rng(6).standard_normal((2, 3, 3)) + 3 * np.eye(3)
TARGETS = np.array([[1, 0, -1], [3, 3, 2]])
RNG = np.random.default_rng(5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def logsumexp(x, axis=None, keepdims=False):
    shift = np.max(x, axis=axis, keepdims=True)
    total = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return total if keepdims else np.squeeze(total, axis=axis)


def log_softmax(x, axis=-1):
    return x - logsumexp(x, axis=axis, keepdims=True)


def scatter(g, index, shape):
    y = np.zeros(shape)
    np.add.at(y, index, g)
    return y


def take_back(g, indices, axis, shape):
    rows = np.moveaxis(g, axis, 0) if indices.ndim == 1 else np.moveaxis(g, (axis, axis + 1), (0, 1))
    y = np.zeros(shape)
    np.add.at(np.moveaxis(y, axis, 0), indices, rows)
    return y


def recurred(a, b):
    h = [b[0]]
    for factor, addend in zip(a[1:], b[1:], strict=True):
        h.append(factor * h[-1] + addend)
    return np.stack(h)


def take_along_back(g, indices, axis, shape):
    y = np.zeros(shape)
    for place in np.ndindex(indices.shape):
        there = list(place)
        there[axis] = indices[place]
        y[tuple(there)] += g[place]
    return y


def cross_entropy(logits, targets, ignore_label):
    kept = targets != ignore_label
    return -np.mean(np.take_along_axis(log_softmax(logits), np.where(kept, targets, 0)[..., None], -1)[kept])


def cross_entropy_back(logits, g, targets, ignore_label):
    kept = (targets != ignore_label)[..., None]
    onehot = targets[..., None] == np.arange(logits.shape[-1])
    return g * kept * (np.exp(log_softmax(logits)) - onehot) / np.count_nonzero(kept)


# name: (primitive, inputs or their shapes, keyword arguments of check_primitive)
CASES = {
    "add": (ops.add, [(2, 3), (2, 3)], {}),
    "subtract": (ops.subtract, [(2, 3), (3,)], {}),
    "multiply": (ops.multiply, [(2, 3), (2, 1)], {}),
    "divide": (ops.divide, [(2, 3), (2, 3)], {"domain": POSITIVE}),
    "negative": (ops.negative, [(2, 3)], {}),
    "power": (ops.power, [(2, 3), (2, 3)], {"domain": POSITIVE}),
    "power, Python number": (ops.power, [RNG.standard_normal((2, 3)), 3], {}),
    "power, integers": (ops.power, [RNG.standard_normal((2, 3)), np.array([0, 1, 2])], {}),
    "exp": (ops.exp, [(2, 3)], {}),
    "log": (ops.log, [(2, 3)], {"domain": POSITIVE}),
    "sqrt": (ops.sqrt, [(2, 3)], {"domain": POSITIVE}),
    "tanh": (ops.tanh, [(2, 3)], {}),
    "sigmoid": (ops.sigmoid, [(2, 3)], {"reference": sigmoid}),
    "sigmoid_slope": (logistic._sigmoid_slope, [(2, 3), (2, 3)], {"reference": lambda y, x: y * sigmoid(-x)}),
    "softplus": (ops.softplus, [(2, 3)], {"reference": lambda x: np.log1p(np.exp(x))}),
    "relu": (ops.relu, [(4, 5)], {"reference": lambda x: np.maximum(x, 0)}),
    "maximum": (ops.maximum, [(4, 5), (4, 5)], {}),
    "minimum": (ops.minimum, [(4, 5), (4, 5)], {}),
    "sin": (ops.sin, [(2, 3)], {}),
    "cos": (ops.cos, [(2, 3)], {}),
    "tan": (ops.tan, [(2, 3)], {"domain": (-1.2, 1.2)}),
    "arcsin": (ops.arcsin, [(2, 3)], {"domain": (-0.9, 0.9)}),
    "arccos": (ops.arccos, [(2, 3)], {"domain": (-0.9, 0.9)}),
    "arctan": (ops.arctan, [(2, 3)], {}),
    "arctan2": (ops.arctan2, [(2, 3), (3,)], {}),
    "hypot": (ops.hypot, [(2, 3), (3,)], {}),
    "sinh": (ops.sinh, [(2, 3)], {}),
    "cosh": (ops.cosh, [(2, 3)], {}),
    "arcsinh": (ops.arcsinh, [(2, 3)], {}),
    "arccosh": (ops.arccosh, [(2, 3)], {"domain": (1.2, 3.0)}),
    "arctanh": (ops.arctanh, [(2, 3)], {"domain": (-0.9, 0.9)}),
    "log1p": (ops.log1p, [(2, 3)], {"domain": POSITIVE}),
    "expm1": (ops.expm1, [(2, 3)], {}),
    "log2": (ops.log2, [(2, 3)], {"domain": POSITIVE}),
    "log10": (ops.log10, [(2, 3)], {"domain": POSITIVE}),
    "exp2": (ops.exp2, [(2, 3)], {}),
    "cbrt": (ops.cbrt, [(2, 3)], {"domain": POSITIVE}),
    "logaddexp": (ops.logaddexp, [(2, 3), (3,)], {}),
    "floor": (ops.floor, [(2, 3)], {"domain": (0.1, 0.9)}),
    "ceil": (ops.ceil, [(2, 3)], {"domain": (0.1, 0.9)}),
    "trunc": (ops.trunc, [(2, 3)], {"domain": (0.1, 0.9)}),
    "rint": (ops.rint, [(2, 3)], {"domain": (0.6, 0.9)}),
    "sign": (ops.sign, [(2, 3)], {"domain": (0.5, 1.0)}),
    "round": (ops.round, [(2, 3)], {"domain": (0.6, 0.9)}),
    "floor_divide": (ops.floor_divide, [(2, 3), (3,)], {"domain": [(3.1, 3.9), (1.01, 1.02)]}),
    "remainder": (ops.remainder, [(2, 3), (3,)], {"domain": [(3.1, 3.9), (1.01, 1.02)]}),
    "fmod": (ops.fmod, [(2, 3), (3,)], {"domain": [(3.1, 3.9), (1.01, 1.02)]}),
    "where": (ops.where, [MASK, RNG.standard_normal((2, 3)), RNG.standard_normal((2, 3))], {}),
    "astype": (ops.astype, [(2, 3)], {"attrs": {"dtype": np.float64}, "reference": lambda x, dtype: x.astype(dtype)}),
    "matmul": (ops.matmul, [(2, 3), (3, 4)], {}),
    "matmul, vectors": (ops.matmul, [(3,), (3,)], {}),
    "matmul, vector left": (ops.matmul, [(3,), (3, 4)], {}),
    "matmul, vector right": (ops.matmul, [(2, 3), (3,)], {}),
    "matmul, batch": (ops.matmul, [(2, 2, 3), (2, 3, 4)], {}),
    "matmul, sequence by matrix": (ops.matmul, [(2, 5, 3), (3, 4)], {}),
    "inv": (ops.inv, [REGULAR], {}),
    "solve": (ops.solve, [REGULAR, (3, 2)], {}),
    "sum": (reduce.sum, [(2, 3)], {"reference": np.sum}),
    "sum, axis": (reduce.sum, [(2, 3, 4)], {"attrs": {"axis": 1}, "reference": np.sum}),
    "sum, axes": (reduce.sum, [(2, 3, 4)], {"attrs": {"axis": (0, -1), "keepdims": True}, "reference": np.sum}),
    "mean": (reduce.mean, [(2, 3)], {"reference": np.mean}),
    "mean, axis": (reduce.mean, [(2, 3, 4)], {"attrs": {"axis": 1}, "reference": np.mean}),
    "max": (reduce.max, [(2, 3)], {"reference": np.max}),
    "max, axis": (reduce.max, [(2, 3, 4)], {"attrs": {"axis": -1, "keepdims": True}, "reference": np.max}),
    "min": (reduce.min, [(2, 3)], {"reference": np.min}),
    "cumsum": (scan._cumsum, [(2, 3)], {"attrs": {"axis": 1}, "reference": np.add.accumulate}),
    "cumprod": (scan._cumprod, [(2, 3)], {"attrs": {"axis": 0}, "reference": np.multiply.accumulate}),
    "linear_recurrence": (recurrence.linear_recurrence, [(9, 2), (9, 2)], {"reference": recurred}),
    "linear_recurrence, short": (recurrence.linear_recurrence, [(3, 2), (3, 2)], {"reference": recurred}),
    "prod": (scan._prod, [(2, 3)], {"reference": np.prod}),
    "prod, axes": (scan._prod, [(2, 3, 4)], {"attrs": {"axis": (0, 2), "keepdims": True}, "reference": np.prod}),
    "logsumexp": (ops.logsumexp, [(2, 3)], {"reference": logsumexp}),
    "logsumexp, axis": (ops.logsumexp, [(2, 3)], {"attrs": {"axis": 0}, "reference": logsumexp}),
    "log_softmax": (ops.log_softmax, [(2, 3)], {"reference": log_softmax}),
    "log_softmax, axis": (ops.log_softmax, [(2, 3)], {"attrs": {"axis": 0}, "reference": log_softmax}),
    "reshape": (ops.reshape, [(2, 6)], {"attrs": {"shape": (3, -1)}}),
    "transpose": (ops.transpose, [(2, 3, 4)], {}),
    "transpose, axes": (ops.transpose, [(2, 3, 4)], {"attrs": {"axes": (-1, 0, 1)}}),
    "broadcast_to": (ops.broadcast_to, [(2, 1)], {"attrs": {"shape": (4, 2, 3)}}),
    "concatenate": (
        shape._concatenate,
        [(2, 3), (2, 1), (2, 3)],
        {"attrs": {"axis": 1}, "reference": lambda *xs, axis: np.concatenate(xs, axis)},
    ),
    "stack": (
        shape._stack,
        [(2, 3), (2, 3)],
        {"attrs": {"axis": -1}, "reference": lambda *xs, axis=0: np.stack(xs, axis)},
    ),
    "split": (ops.split, [(2, 6)], {"attrs": {"indices_or_sections": 3, "axis": 1}}),
    "split, uneven": (ops.split, [(5, 2)], {"attrs": {"indices_or_sections": (1, 3)}}),
    "unstack": (ops.unstack, [(3, 2)], {"attrs": {"axis": 1}}),
    "getitem": (
        index._getitem,
        [(3, 4)],
        {"attrs": {"index": (slice(1, None), slice(None, None, -2), None)}, "reference": lambda x, index: x[index]},
    ),
    "getitem, repeated": (
        index._getitem,
        [(3, 4)],
        {"attrs": {"index": np.array([0, 2, 2])}, "reference": lambda x, index: x[index]},
    ),
    "scatter": (index._scatter, [(2, 4)], {"attrs": {"index": slice(1, 3), "shape": (3, 4)}, "reference": scatter}),
    "scatter, repeated": (
        index._scatter,
        [(3, 4)],
        {"attrs": {"index": np.array([0, 2, 2]), "shape": (3, 4)}, "reference": scatter},
    ),
    "take": (index._take, [(3, 4)], {"attrs": {"indices": IDS, "axis": 0}, "reference": np.take}),
    "take, last axis": (index._take, [(2, 3)], {"attrs": {"indices": IDS, "axis": -1}, "reference": np.take}),
    "take_back": (
        index._take_back,
        [(2, 2, 4)],
        {"attrs": {"indices": IDS, "axis": 0, "shape": (3, 4)}, "reference": take_back},
    ),
    "take_back, axis 1": (
        index._take_back,
        [(2, 2, 2)],
        {"attrs": {"indices": IDS, "axis": 1, "shape": (2, 3)}, "reference": take_back},
    ),
    "take_along": (
        index._take_along,
        [(2, 3)],
        {"attrs": {"indices": ALONG, "axis": 1}, "reference": np.take_along_axis},
    ),
    "take_along_back": (
        index._take_along_back,
        [(2, 2)],
        {"attrs": {"indices": ALONG, "axis": 1, "shape": (2, 3)}, "reference": take_along_back},
    ),
    "cross_entropy": (
        loss._cross_entropy,
        [(2, 3, 4)],
        {"attrs": {"targets": TARGETS, "ignore_label": -1}, "reference": cross_entropy},
    ),
    "cross_entropy_back": (
        loss._cross_entropy_back,
        [(2, 3, 4), ()],
        {"attrs": {"targets": TARGETS, "ignore_label": -1}, "reference": cross_entropy_back},
    ),
    "cut": (truncate._cut, [(2, 3)], {"attrs": {"scale": 1.0}, "reference": lambda h, scale: h}),
}


def report_on(p, inputs, options, **more):
    if all(isinstance(value, tuple) for value in inputs):
        return check_primitive(p, shapes=inputs, **options, **more)
    return check_primitive(p, *inputs, **options, **more)


@pytest.mark.sample(50)
@pytest.mark.parametrize("name", CASES)
def test_every_primitive(name):
    report = report_on(*CASES[name])
    assert report.ok
    assert {aspect.name: aspect.verdict for aspect in report.aspects}["values"] == "ok"


def test_no_primitive_is_missing_in_the_table():
    modules = [
        importlib.import_module(f"tinygrad_rnn.ops.{found.name}") for found in pkgutil.iter_modules(ops.__path__)
    ]
    every = {value.name for module in modules for value in vars(module).values() if isinstance(value, tr.Primitive)}
    assert every == {p.name for p, _, _ in CASES.values()}
    assert len(every) > 35


def test_what_does_not_apply_is_said():
    report = report_on(*CASES["max"])
    verdicts = {aspect.name: (aspect.verdict, aspect.detail) for aspect in report.aspects}
    assert verdicts["analytic"] == ("not applicable", "declared not analytic")
    assert verdicts["broadcasting"] == ("not applicable", "one input")
    assert verdicts["attributes"] == ("not applicable", "called without attributes")
    assert "4 points" in verdicts["rule"][1]


def test_a_cut_is_not_its_derivative_and_says_so():
    report = report_on(truncate._cut, [(2, 3)], {"attrs": {"scale": 0.5}}, check=False)
    assert report.wrong == ("analytic",)


def test_a_report_without_raising():
    report = check_primitive(primitive(tanh, lambda g, y, x: (g,)), shapes=[(2, 3)], check=False, seed=3)
    assert not report.ok
    assert report.reproducer == "check_primitive(tanh, shapes=[(2, 3)], seed=3)"
    assert str(report).splitlines()[1].split() == ["aspect", "verdict", "what", "was", "seen"]
    assert report._repr_html_().count("<tr") == 1 + len(report.aspects)
    assert "font-weight:bold" in report._repr_html_()


def test_inputs_are_left_alone():
    x = np.arange(6.0).reshape(2, 3)
    check_primitive(ops.tanh, x)
    np.testing.assert_array_equal(x, np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: check_primitive(ops.tanh), "inputs, or shapes="),
        (lambda: check_primitive(ops.tanh, 1.0, shapes=[()]), "not both"),
        (lambda: check_primitive(ops.tanh, np.arange(3)), "nothing to differentiate"),
        (lambda: check_primitive(ops.tanh, shapes=[(2,)], rtol=-1), "check_primitive: rtol must be a finite number"),
        (lambda: check_primitive(ops.add, shapes=[(2,)] * 2, domain=[None]), r"one pair for each shape, got \[None\]"),
    ],
)
def test_bad_arguments(call, words):
    with pytest.raises(ValueError, match=words):
        call()
