"""`to_jax`: the same numbers as NumPy and as plans, gradients and vmap."""

import importlib
import sys
from functools import partial

import numpy as np
import pytest
from jax_runs import M, assert_same, check, jax, normal, rng, values, x, y
from jax_runs import settings_of_jax as settings_of_jax

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import map_leaves
from tinygrad_rnn.exports.jax_constants import CONSTANTS
from tinygrad_rnn.exports.jax_operators import OPERATORS

# -- operators --------------------------------------------------------------------------------------------------------

ids, rows = np.array([[1, 0], [1, 1]]), np.array([2, 0])
NEAR = {
    "arcsin": np.tanh(x),
    "arccos": np.tanh(x),
    "arctanh": np.tanh(x),
    "arccosh": x * x + 1.5,
    "log": x * x + 0.1,
    "log1p": x * x,
    "log2": x * x + 0.1,
    "log10": x * x + 0.1,
    "sqrt": x * x + 0.1,
}
UFUNCS = {name: f for name in OPERATORS if isinstance(f := getattr(np, name, None), np.ufunc)}
UNARY = [*(name for name in UFUNCS.keys() - NEAR.keys() if UFUNCS[name].nin == 1), "relu", "sigmoid", "softplus"]
BINARY = [name for name in UFUNCS.keys() - {"power", "matmul"} if UFUNCS[name].nin == 2]
CALLS = {
    **{name: (getattr(tr, name), x) for name in sorted(UNARY)},
    **{name: (getattr(tr, name), given) for name, given in NEAR.items()},
    **{name: (getattr(tr, name), x, y) for name in sorted(BINARY)},
    "power": (lambda a, b: (a * a + 0.5) ** b, x, y),
    "promotion": (lambda a, i: (i + a, i / 2, i * 2.5, a > i), x.astype(np.float32), np.arange(3)),
    "where": (lambda a, b: np.where(a > b, a, 0), x, y),
    "astype": (lambda a: np.astype(a * 3, np.int64), x),
    "round": (lambda a: np.round(a, 1), x),
    "matmul": (lambda a, b: (a @ b, a[0] @ b, a @ b[:, 0], a @ a.T), x, M),
    "reductions": (lambda a: [f(a, axis=1, keepdims=True) for f in (np.sum, np.mean, np.max, np.min, np.prod)], x),
    "scans": (lambda a: (np.cumsum(a, axis=0), np.cumprod(a, axis=1)), x),
    "logarithms": (lambda a: (tr.logsumexp(a, axis=1), tr.log_softmax(a), tr.logsumexp(a[:, :0], axis=1)), x),
    "shapes": (lambda a: (a.T, a.reshape(3, 2), np.broadcast_to(a[:, None], (2, 4, 3))), x),
    "joined": (lambda a, b: (tr.stack([a, b], axis=1), tr.concatenate([a, b], axis=1), np.unstack(a, axis=1)), x, y),
    "split": (lambda a: [*np.split(a, 3, axis=1), *np.split(a, [2, 1], axis=1)], x),
    "getitem": (lambda a: (a[:, ::-1], a[0], a[..., None, 1:], a[ids % 2]), x),
    "take": (lambda a, i: (tr.take(a, i, axis=1), tr.take(a, i), tr.take_along_axis(a, i, axis=1)), x, ids),
    "linear_recurrence": (lambda a, b: tr.linear_scan(a, b, axis=0), normal(9, 3), normal(9, 3, seed=1)),
    "cross_entropy": (lambda a, t: tr.cross_entropy(a, t), normal(2, 3, 4), np.array([[0, 3, -1], [2, -1, 1]])),
    "weighted": (
        partial(tr.cross_entropy, class_weights=np.arange(1.0, 5), smoothing=0.1),
        normal(2, 4),
        np.array([0, -1]),
    ),
    "masked": (lambda a, t, m: tr.cross_entropy(a, t, mask=m, reduction="sum"), normal(2, 4), rows, rows > 0),
    "binary": (lambda a, t, m: tr.binary_cross_entropy(a, t, mask=m), x, (y > 0).astype(float), rows > 0),
    "distribution": (lambda a, t: tr.cross_entropy(a, t, reduction="none"), x, np.full((2, 3), 1 / 3)),
    "mse": (lambda a, t, m: tr.mse(a, t, mask=m), x, y, rows > 0),
    "norms": (lambda a, b: tr.clip_by_norm({"a": a * 1e150, "b": b}, 1.0), x, y),
    "ctc": (
        lambda a, t, n, m: tr.ctc(a, t, lengths=n, target_lengths=m),
        normal(2, 6, 4),
        np.array([[1, 2], [3, 3]]),
        np.array([5, 6]),
        np.array([1, 2]),
    ),
    "numpy": (lambda a: (np.argmax(a, axis=1), np.argsort(a, axis=1), np.sort(a, axis=0), np.any(a > 0)), x),
}


@pytest.mark.nightly
@pytest.mark.parametrize("name", CALLS)
def test_operators(name):
    """Each with the gradient of its results, for which rules call other operators."""
    f, *args = CALLS[name]
    tensors = [tr.tensor(a, requires_grad=a.dtype.kind == "f" and number < 1) for number, a in enumerate(args)]

    def both(*args):
        made = f(*args)
        parts = [p for p in (made if isinstance(made, list | tuple) else [made]) if getattr(p, "requires_grad", False)]
        total = sum((np.sum(part * part) for part in parts), 0.0)
        return made, tr.grad(total, args[0]) if parts else None

    check(both, *tensors, weights={0: tensors[0]})


def test_all_operators_together():
    """One program of them all: compiling each by itself takes a minute."""
    kept = [name for name in CALLS if name not in ("ctc", "weighted")]
    f = lambda args: {name: CALLS[name][0](*args[name]) for name in kept}  # noqa: E731
    wrapped = {name: [tr.tensor(part) for part in CALLS[name][1:]] for name in kept}
    got = jax.jit(tr.to_jax(f))({name: CALLS[name][1:] for name in kept})
    assert_same({name: got[name] for name in kept}, f(wrapped))


def test_the_tables_have_every_function_that_the_package_records():
    modules = {name: part for name, part in sys.modules.items() if name.startswith("tinygrad_rnn.")}
    primitives = {
        part.name
        for name, module in modules.items()
        for part in vars(module).values()
        if name.startswith("tinygrad_rnn.ops") and isinstance(part, tr.Primitive)
    }
    assert "cross_entropy_back" in primitives
    assert primitives <= OPERATORS.keys()
    for name in CONSTANTS:  # what they stand for exists
        module, _, function = name.removesuffix(".Embedding._checked").rpartition(".")
        importlib.import_module(f"tinygrad_rnn.{module or name}") if module else None
        assert name.endswith("Embedding._checked") or hasattr(sys.modules[f"tinygrad_rnn.{module}"], function), name


# -- recurrent models -------------------------------------------------------------------------------------------------


class LeakyCell(tr.Module):
    def __init__(self, input_size, hidden_size, rng):
        self.Wx = tr.parameter(rng.standard_normal((input_size, hidden_size)), np.float64)
        self.Wh = tr.parameter(rng.standard_normal((hidden_size, hidden_size)) / 2, np.float64)
        self.leak = tr.parameter(np.zeros(hidden_size), np.float64)

    def initial_state(self, batch_size):
        return np.zeros((batch_size, len(self.leak)))

    def __call__(self, x, h):
        a = tr.sigmoid(self.leak)
        h = (1 - a) * h + a * np.tanh(x @ self.Wx + h @ self.Wh)
        return h, h


def cell_of(kind):
    return kind(3, 4, rng()) if kind is LeakyCell else kind(3, 4, rng(), np.float64)


OTHERS = [tr.RNNCell, tr.LSTMCell, tr.GRUCell, tr.PeepholeLSTMCell, tr.CoupledLSTMCell, tr.LayerNormLSTMCell]
OTHERS += [tr.IndRNNCell, tr.MinGRUCell, tr.MinLSTMCell, tr.LRUCell]


@pytest.mark.parametrize("kind", [LeakyCell, *(pytest.param(kind, marks=pytest.mark.nightly) for kind in OTHERS)])
def test_a_cell_with_lengths_and_cuts(kind):
    """Its outputs and gradients; and what JAX makes of the loss is what `grad` makes of it, cuts included."""
    cell, xs, lengths = cell_of(kind), normal(2, 6, 3), np.array([4, 6])
    params = cell.parameters()

    def loss(params, xs, lengths):
        outputs, state = tr.unroll(cell, xs, lengths=lengths, cut_every=2)
        return np.sum(outputs**2) + sum(np.sum(part) for part in jax.tree.leaves(state))

    def step(params, xs, lengths):
        total = loss(params, xs, lengths)
        return total, tr.grad(total, params)

    given, wanted = values(params), step(params, xs, lengths)
    weights = {"params": params}
    assert_same(jax.jit(tr.to_jax(step, weights=weights))(given, xs, lengths), wanted)
    assert_same(jax.jit(jax.grad(tr.to_jax(loss, weights=weights)))(given, xs, lengths), wanted[1])


@pytest.mark.nightly
def test_both_directions():
    one, other = tr.GRUCell(3, 2, rng(), np.float64), tr.RNNCell(3, 2, rng(1), np.float64)
    check(lambda xs, n: tr.bidirectional(one, other, xs, lengths=n), normal(2, 4, 3), np.array([3, 4]))


@pytest.mark.nightly
def test_sequence_to_sequence():
    model = tr.Seq2Seq(6, 6, 3, 4, rng(), dtype=np.float64)
    given = np.array([[1, 2, 3], [2, 5, 1]]), np.array([[0, 4, 2], [0, 1, 3]])
    check(
        lambda params, s, t: tr.grad(model.loss(s, t), params),
        model.parameters(),
        *given,
        weights={0: model.parameters()},
    )


def test_twenty_updates_with_adam_and_clipping():
    """The whole update, against the native executor; its state and its parameters stay in JAX."""
    model, optimizer = tr.RNNLM(7, 3, 4, rng(), dtype=np.float64), tr.Adam(lr=0.02)
    params, state = model.parameters(), model.initial_state(2)

    def update(params, moments, ids, targets, state, rates):
        loss, state = model.loss(ids, targets, tr.cut(state))
        grads, norm = tr.clip_by_norm(tr.grad(loss, params), 0.5)
        params, moments = optimizer.updated(params, grads, moments, rates)
        return loss, norm, params, moments, state

    compiled, step = tr.compile(update), jax.jit(tr.to_jax(update, weights={"params": params}))
    now, after = tr.to_jax(update).arrays((params, state))
    moments, _ = optimizer.start(params)
    text = rng(1).integers(0, 7, (2, 61))
    for start in range(0, 60, 3):
        ids, targets = text[:, start : start + 3], text[:, start + 1 : start + 4]
        kept, rates = optimizer.start(params)
        rates = map_leaves(np.asarray, rates)
        loss, norm, new, kept, state = compiled(params, kept, ids, targets, state, rates)
        for name, p in params.items():
            p.data = new[name]
        optimizer.take(kept)
        *seen, now, moments, after = step(now, moments, ids, targets, after, rates)
        assert_same(seen, [loss, norm], 1e-11)
    assert_same((now, moments, after), (new, kept, state), 1e-10)


def test_a_cut_passes_what_its_scale_says():
    f = tr.to_jax(lambda h: np.sum(tr.cut(h, scale=0.25)) + np.sum(tr.cut(h * h)))
    assert jax.grad(f)(x).tolist() == np.full((2, 3), 0.25).tolist()
    assert jax.jvp(f, (x,), (np.ones((2, 3)),))[1] == 1.5


def test_a_loop_in_python_becomes_a_scan():
    W = tr.tensor(normal(3, 3), requires_grad=True)

    def f(W, xs):
        h = np.zeros((2, 3))
        for t in range(30):
            with tr.at_step(t):
                h = np.tanh(xs[:, t] + h @ W)
        return h

    jaxpr = str(jax.make_jaxpr(tr.to_jax(f, weights={"W": W}))(W.data, normal(2, 30, 3)))
    assert jaxpr.count("scan") == 1
    assert jaxpr.count("tanh") == 1


def test_a_scan_in_a_scan_is_a_scan_in_a_scan():
    W, xs = tr.tensor(normal(3, 3) / 2, requires_grad=True), normal(2, 4, 12, 3)

    def inner(x, h):
        h = np.tanh(x + h @ W)
        return h, h

    def outer(rows, h):
        hs, h = tr.scan(inner, h, rows, axis=1)
        return np.sum(hs, axis=1), h

    def f(W, xs):
        return tr.scan(outer, np.zeros((2, 3)), xs, axis=1)

    exported = tr.to_jax(f, weights={"W": W})
    text = str(jax.make_jaxpr(exported)(W.data, xs))
    assert (text.count("scan["), text.count("tanh"), text.count("dot_general")) == (2, 1, 1)


@pytest.mark.nightly
def test_the_gradient_of_a_scan_in_a_scan():
    W, xs = tr.tensor(normal(3, 3) / 2, requires_grad=True), normal(2, 4, 8, 3)

    def f(W, xs):
        inner = lambda x, h: 2 * (np.tanh(x + h @ W),)  # noqa: E731
        outer = lambda rows, h: tr.scan(inner, h, rows, axis=1)  # noqa: E731
        total = sum(np.sum(part**2) for part in tr.scan(outer, np.zeros((2, 3)), xs, axis=1))
        return total, tr.grad(total, W)

    text = str(jax.make_jaxpr(tr.to_jax(f, weights={"W": W}))(W.data, xs))
    assert (text.count("scan["), text.count("tanh")) == (4, 1)  # there and back, each with one in it
    check(f, W, xs, weights={"W": W})


@pytest.mark.nightly
def test_vmap_and_second_derivatives():
    W = tr.tensor(normal(3, 3), requires_grad=True)
    f = tr.to_jax(lambda W, x: np.sum(np.tanh(x @ W) ** 2), weights={"W": W})
    xs = normal(4, 2, 3)
    each = jax.vmap(f, (None, 0))(W.data, xs)
    assert_same(each, np.stack([np.sum(np.tanh(x @ W.data) ** 2) for x in xs]))
    hessian = jax.hessian(f)(W.data, xs[0])
    assert_same(hessian, tr.jacobian(lambda W: tr.grad(np.sum(np.tanh(xs[0] @ W) ** 2), W, create_graph=True), W))
