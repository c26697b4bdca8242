"""A compiled function computes what the function does: float64 to 1e-12, float32 to 2e-5, of the largest entry.

Terms within products and reductions are added up in another order, so the last bits may differ: for float32 the bound
is 170 units in the last place.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import complex_gradient, relative_error
from replay import assert_replays

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes import PASSES

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}
dtypes = st.sampled_from(["float64", "float32"])
sizes = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)
switched_off = st.lists(st.sampled_from(list(PASSES)), max_size=2, unique=True)
choices = st.fixed_dictionaries({"without": switched_off})


# -- models --------------------------------------------------------------------------------------------------------


@given(
    cell=st.sampled_from(["rnn", "lstm", "gru"]),
    sizes=st.tuples(*[st.integers(1, 5)] * 5),
    layers=st.integers(1, 3),
    dropout=st.sampled_from([0.0, 0.4]),
    tied=st.booleans(),
    cut_every=st.sampled_from([None, 1, 2]),
    masked=st.booleans(),
    dtype=dtypes,
    options=choices,
    seed=seeds,
)
def test_training_steps_of_a_language_model(
    cell, sizes, layers, dropout, tied, cut_every, masked, dtype, options, seed
):
    N, T, D, H, V = sizes
    rng = np.random.default_rng(seed)
    D = H if tied else D
    model = tr.RNNLM(V, D, H, rng, cell=cell, layers=layers, dropout=dropout, tied=tied, dtype=dtype)
    params = model.parameters()

    def step(ids, targets, state, lr, rng):
        value, state = model.loss(ids, targets, state, rng=rng, cut_every=cut_every)
        grads = tr.grad(value, params, allow_unused=True)
        return value, {name: p - lr * grads[name] for name, p in params.items()}, state

    calls = []
    for number in range(3):
        ids, targets = rng.integers(0, V, (2, N, T))
        if masked:
            targets = np.where(np.arange(T) == 0, targets, -1)
        state = model.initial_state(N) if number else None
        calls.append((ids, targets, state, np.asarray(rng.random(), dtype), np.random.default_rng(number)))
    assert_replays(step, *calls, tolerance=TOLERANCE[dtype], **options)


@given(
    cell=st.sampled_from([tr.RNNCell, tr.LSTMCell, tr.GRUCell]),
    N=sizes,
    T=st.integers(1, 6),
    lengths=st.one_of(st.none(), st.just("drawn")),
    cut_every=st.sampled_from([None, 2]),
    both_ways=st.booleans(),
    dtype=dtypes,
    options=choices,
    seed=seeds,
)
def test_sequences_of_different_lengths_and_both_directions(
    cell, N, T, lengths, cut_every, both_ways, dtype, options, seed
):
    rng = np.random.default_rng(seed)
    ahead, back = cell(3, 4, rng, dtype), cell(3, 4, rng, dtype)
    params = [ahead.parameters(), back.parameters() if both_ways else {}]

    def f(xs, lengths):
        if both_ways:
            outputs, state = tr.bidirectional(ahead, back, xs, (None, None), cut_every, lengths)
        else:
            outputs, state = tr.unroll(ahead, xs, None, cut_every, lengths)
        total = np.sum(outputs * outputs) + np.sum(tr.max(outputs, axis=1)) + np.mean(outputs[:, -1])
        return outputs, state, tr.grad(total, params)

    if lengths is not None:
        lengths = tuple(int(n) for n in rng.integers(1, T + 1, N))
    calls = [(rng.standard_normal((N, T, 3)).astype(dtype), lengths) for _ in range(2)]
    assert_replays(f, *calls, tolerance=TOLERANCE[dtype], **options)


@given(combine=st.sampled_from(["sum", "concat"]), N=sizes, C=sizes, V=st.integers(1, 6), dtype=dtypes, seed=seeds)
def test_continuous_bag_of_words(combine, N, C, V, dtype, seed):
    rng = np.random.default_rng(seed)
    model = tr.CBOW(V, 3, C, rng, combine=combine, dtype=dtype)

    def f(contexts, targets):
        value = model.loss(contexts, targets)
        return value, tr.grad(value, model.parameters())

    calls = [(rng.integers(0, V, (N, C)), rng.integers(0, V, N)) for _ in range(3)]
    assert_replays(f, *calls, tolerance=TOLERANCE[dtype])


# -- drawn cells ---------------------------------------------------------------------------------------------------

UNARY = [
    np.tanh,
    tr.sigmoid,
    tr.relu,
    lambda a: np.exp(-a * a),
    lambda a: a * 0.5 - 1,
    lambda a: 2.0 * a * 3.0,
    lambda a: np.log(1 + a * a),
    lambda a: np.sqrt(a * a + 1),
    lambda a: tr.log_softmax(a, axis=-1),
    lambda a: a - np.mean(a, axis=1, keepdims=True),
    lambda a: tr.concatenate(tr.split(a, 2, axis=1)[::-1], axis=1),
    lambda a: np.maximum(a, 0.1),
    lambda a: np.clip(a, -1, 1),
    lambda a: tr.cut(a),
    lambda a: a[:, ::-1],
    lambda a: tr.stack(tr.split(a, 2, axis=1)).sum(axis=0) @ np.ones((a.shape[1] // 2, a.shape[1]), a.dtype),
    lambda a: a / (1 + np.absolute(a)),
    lambda a: a**3,
    lambda a: np.astype(np.astype(a, np.float64), a.dtype),
]
BINARY = [
    np.add,
    np.subtract,
    np.multiply,
    np.maximum,
    lambda a, b: np.where(a > b, a, b * 0.5),
    lambda a, b: a / (1 + b * b),
    lambda a, b: tr.sigmoid(a) * b + (1 - tr.sigmoid(a)) * a,
    lambda a, b: a + b + 1.0 + b,
    lambda a, b: tr.concatenate([a[:, :2], b[:, :-2]], axis=1),
    lambda a, b: tr.stack([a, b], axis=1)[:, 1],
]


@given(
    formula=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=9),
    N=st.integers(1, 3),
    T=st.integers(1, 5),
    parts=st.integers(1, 2),
    H=st.sampled_from([2, 4]),
    carried_outputs=st.booleans(),
    use_rng=st.booleans(),
    dtype=dtypes,
    options=choices,
    seed=seeds,
)
def test_drawn_cells(formula, N, T, parts, H, carried_outputs, use_rng, dtype, options, seed):
    """A cell whose formula is drawn: each line is an operation on two values from the lines before."""
    rng = np.random.default_rng(seed)
    Wx = tr.tensor(rng.standard_normal((3, H)), dtype, True, "Wx")
    Wh = tr.tensor(rng.standard_normal((H, H)) / H, dtype, True, "Wh")
    b = tr.tensor(rng.standard_normal(H), dtype, True, "b")
    drop = tr.Dropout(0.3)

    def cell(x, states, rng):
        pool = [x @ Wx, *states]
        for kind, first, second in formula:
            one, two = pool[first % len(pool)], pool[second % len(pool)]
            kinds = len(UNARY) + len(BINARY) + 4
            kind %= kinds
            if kind < len(UNARY):
                pool.append(UNARY[kind](one))
            elif kind < len(UNARY) + len(BINARY):
                pool.append(BINARY[kind - len(UNARY)](one, two))
            else:
                pool.append([one @ Wh, one @ Wh.T + b, one + b, drop(one, rng)][kind - kinds + 4])
        states = [tr.tanh(pool[-1 - number % len(pool)] + state @ Wh) for number, state in enumerate(states)]
        return (pool[-1] if carried_outputs else states[0] * 1.0), states

    def f(xs, states, rng):
        outputs = []
        for t, x in enumerate(np.unstack(xs, axis=1)):
            with tr.at_step(t):
                y, states = cell(x, states, rng)
            outputs.append(np.tanh(y))
        outputs = tr.stack(outputs, axis=1)
        total = np.sum(outputs * outputs) + sum(np.sum(state) for state in states)
        return outputs, states, tr.grad(total, [Wx, Wh, b], allow_unused=True)

    calls = []
    for number in range(2):
        xs = rng.standard_normal((N, T, 3)).astype(dtype)
        states = [rng.standard_normal((N, H)).astype(dtype) for _ in range(parts)]
        calls.append((xs, states, np.random.default_rng(number) if use_rng else None))
    with np.errstate(all="ignore"):
        assert_replays(f, *calls, tolerance=TOLERANCE[dtype] * 10, **options)


@given(N=st.integers(1, 3), T=st.integers(1, 4), seed=seeds, options=choices)
def test_attention_over_the_states_before(N, T, seed, options):
    rng = np.random.default_rng(seed)
    W, U = (tr.tensor(rng.standard_normal((3, 3)), requires_grad=True) for _ in range(2))

    def f(xs):
        past = [np.tanh(xs[:, 0] @ W)]
        for t in range(1, T):
            with tr.at_step(t):
                memory = tr.stack(past, axis=1)
                weights = tr.softmax((memory @ past[-1][:, :, None])[:, :, 0])
                seen = (weights[:, None] @ memory)[:, 0]
                past.append(np.tanh(xs[:, t] @ W + seen @ U))
        outputs = tr.stack(past, axis=1)
        total = np.sum(outputs[:, -1] * np.mean(outputs, axis=1))
        return outputs, total, tr.grad(total, [W, U], allow_unused=True)

    assert_replays(f, *[(rng.standard_normal((N, T, 3)),) for _ in range(2)], **options)


@settings(max_examples=4)
@given(T=st.integers(1, 3), order=st.sampled_from(["values", "loss"]), dtype=dtypes, seed=seeds, options=choices)
def test_gradients_inside_and_their_gradients(T, order, dtype, seed, options):
    rng = np.random.default_rng(seed)
    cell = tr.GRUCell(3, 4, rng, dtype)
    head = tr.Linear(4, 5, rng, dtype)
    params = {**cell.parameters(), **{f"head.{name}": p for name, p in head.parameters().items()}}

    def f(xs, targets, v):
        outputs, _ = tr.unroll(cell, xs)
        logits = head(outputs)
        value = tr.cross_entropy(logits, targets) if order == "loss" else np.sum(np.tanh(logits))
        grads = tr.grad(value, params, create_graph=True)
        norm = sum(np.sum(g * g) for g in grads.values())
        product = tr.grad(grads["Wh"], params, cotangent=v, allow_unused=True)
        return value, grads, norm, tr.grad(norm, params, allow_unused=True), product

    calls = [
        (
            rng.standard_normal((2, T, 3)).astype(dtype),
            rng.integers(0, 5, (2, T)),
            rng.standard_normal((4, 12)).astype(dtype),
        )
        for _ in range(2)
    ]
    assert_replays(f, *calls, tolerance=TOLERANCE[dtype] * 10, **options)


@settings(max_examples=4)
@given(dtype=dtypes, clip=st.sampled_from([0.0, 0.1]), seed=seeds)
def test_updates_with_momentum_and_clipping_in_the_function(dtype, clip, seed):
    rng = np.random.default_rng(seed)
    model = tr.RNNLM(6, 3, 4, rng, cell="lstm", dtype=dtype)
    params = model.parameters()

    def step(params, moments, ids):
        value, _ = model.loss(ids, ids)
        grads = tr.grad(value, params)
        norm = np.sqrt(sum(np.sum(g * g) for g in grads.values()))
        scale = tr.minimum(1.0, clip / norm) if clip else 1.0
        moments = {name: 0.9 * moments[name] + scale * g for name, g in grads.items()}
        return value, norm, moments, {name: p - 0.1 * moments[name] for name, p in params.items()}

    moments = {name: rng.standard_normal(p.shape).astype(dtype) for name, p in params.items()}
    calls = [(params, moments, rng.integers(0, 6, (2, 5))) for _ in range(2)]
    assert_replays(step, *calls, tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["Wx", "Wh", "b"])
def test_compiled_gradients_against_complex_step(name):
    cell = tr.LSTMCell(2, 3, np.random.default_rng(0), np.float64)
    xs = np.random.default_rng(1).standard_normal((2, 3, 2))
    names = list(cell.parameters())

    def loss(*values):
        """The same cell on plain (complex) arrays, in NumPy."""
        Wx, Wh, b = (values[names.index(part)] for part in ("Wx", "Wh", "b"))
        h, c, total = np.zeros((2, 3)), np.zeros((2, 3)), 0
        for t in range(3):
            gates = xs[:, t] @ Wx + h @ Wh + b
            i, f, o = (1 / (1 + np.exp(-part)) for part in np.split(gates[:, :9], 3, axis=1))
            c = f * c + i * np.tanh(gates[:, 9:])
            h = o * np.tanh(c)
            total = total + np.sum(h * h)
        return total

    def step(xs):
        outputs, _ = tr.unroll(cell, xs)
        return tr.grad(np.sum(outputs * outputs), cell.parameters())

    expected = complex_gradient(loss, [p.data for p in cell.parameters().values()], names.index(name))
    assert relative_error(tr.compile(step)(xs)[name], expected) <= 1e-12


# -- single operations ---------------------------------------------------------------------------------------------

X = np.random.default_rng(0).standard_normal((4, 6))
Y = np.random.default_rng(1).standard_normal((4, 6))
IDS = np.array([3, 0, 3])

EXPRESSIONS = {
    "integers": lambda x, i: (i + 1, i * 2.0, np.sum(i), i / 2, -i, np.maximum(i, 1)),
    "comparisons": lambda x, i: (x > 0, x <= x.T[0, 0], i == 3, i != 3, np.isfinite(x), np.logical_not(x > 0)),
    "where": lambda x, i: (np.where(x > 0, x, 0), np.where(x > 0, 1.0, -x), np.where(x[0] > 0, x, -1)),
    "arg": lambda x, i: (np.argmax(x), np.argmax(x, axis=-1), np.argsort(x, axis=0), np.argmin(x, axis=1)),
    "getitem": lambda x, i: (x[i], x[i, i], x[:, i], x[i, 1:], x[..., 0], x[-1], x[1, 2], x[::-1, None]),
    "take": lambda x, i: (tr.take(x, i, axis=0), tr.take(x, i, axis=1), tr.take(x, i), tr.take(x, i - 4, axis=0)),
    "along": lambda x, i: tr.take_along_axis(x, np.argsort(x, axis=1), axis=1),
    "reductions": lambda x, i: (
        np.sum(x),
        np.mean(x, axis=0),
        np.max(x, axis=1, keepdims=True),
        np.min(x),
        np.var(x, axis=1),
        tr.logsumexp(x, axis=0),
        np.sum(x, axis=(-1, 0)),
    ),
    "shapes": lambda x, i: (
        x.reshape(6, -1),
        x.T,
        np.expand_dims(x, (0, -1)),
        np.squeeze(x[:1]),
        np.moveaxis(x[None], 0, 2),
        np.swapaxes(x, 0, 1) * 1.0,
        np.broadcast_to(x[:1], (3, 6)),
        np.ravel(x.T),
    ),
    "splits": lambda x, i: (tr.split(x, 3, axis=1), tr.split(x, (1, 1, 3)), np.unstack(x, axis=1)),
    "products": lambda x, i: (
        x @ x.T,
        x[0] @ x[1],
        x @ x[0],
        x[:, 0] @ x,
        x[None] @ x.T,
        np.stack([x, x]) @ np.stack([x.T, -x.T]),
    ),
    "cuts": lambda x, i: (tr.cut(x) * x, tr.cut(x, scale=0.5) * x),
    "powers": lambda x, i: (x**2, x**3.0, 2.0**x, (x * x + 1) ** x, (x * x) ** 0.5),
    "extremes": lambda x, i: (x / 0.0, np.log(x * 0), np.exp(x * 1e4), tr.sigmoid(x * 1e4), tr.softmax(x * 1e3)),
    "numbers": lambda x, i: (2.0 * x * 3.0, 2 + x + 3 + x, 1 - x - 1, x * True, x * np.float64(2), x + np.float32(1)),
    "constants": lambda x, i: (np.ones(3), np.zeros_like(x), np.full_like(x, 2.0), np.asarray(5), x * 0 + np.arange(6)),
    "nothing": lambda x, i: (None, 5, "text", {"a": [], "b": (None, x)}, [x, ()]),
    "same_twice": lambda x, i: (x, x, x.T, (y := x + 1), y, y[0], tr.stack([y, x])),
    "empty": lambda x, i: (x[:0], np.sum(x[:0], axis=0), x[:, :0] @ x.T[:0], tr.concatenate([x[:0], x]), i[:0]),
    "scalars": lambda x, i: (x[0, 0], x[0, 0] * x[1, 1], tr.stack([x[0, 0], x[0, 1]]), np.sum(x)[None] * x[0, 0]),
    "types": lambda x, i: (np.astype(x, np.float32), np.astype(x, int), np.astype(i, float), x * np.astype(x, "f4")),
    "losses": lambda x, i: (
        tr.cross_entropy(x[:3], i),
        tr.cross_entropy(x[:3], i, ignore_label=3),
        tr.cross_entropy(x[0], np.asarray(2)),
        tr.cross_entropy(x.reshape(2, 2, 6), [[0, 1], [-1, 5]]),
    ),
}


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("wanted", ["values", "gradients"])
@pytest.mark.parametrize("function", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_operations(function, wanted):
    def gradients(x, i):
        parts = [part for part in tr.engine.tree.flatten(function(x, i)) if isinstance(part, tr.Tensor)]
        parts = [part for part in parts if part.requires_grad]
        total = sum(np.sum(part * np.cos(0.1 * k + 1)) for k, part in enumerate(parts))
        return tr.grad(total, x, allow_unused=True) if parts else None

    x = tr.tensor(X, requires_grad=True)
    f = function if wanted == "values" else gradients
    step = assert_replays(f, (x, IDS), (x, IDS[::-1]), (x, np.array([1, 2, 3])))
    x.data = Y
    for got, want in zip(*(tr.engine.tree.flatten(g(x, IDS)) for g in (step, f)), strict=True):
        if isinstance(want, tr.Tensor | np.ndarray):
            np.testing.assert_allclose(got, want.data if isinstance(want, tr.Tensor) else want, rtol=1e-11, atol=1e-12)
