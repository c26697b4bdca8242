"""The pattern of the influence holds all of it; entries that follow by a link are not kept, and count all the same."""

import numpy as np
import pytest
from credit.steps import STEPS, Weights, an_lstm, assert_same_gradients, of_cell, recurrence, score
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as hst

import tinygrad_rnn as tr
import tinygrad_rnn.testing.strategies as st
from tinygrad_rnn.engine.tree import flatten

OTHERS = (tr.PeepholeLSTMCell, tr.CoupledLSTMCell, tr.IndRNNCell, tr.MinGRUCell, tr.MinLSTMCell, tr.LRUCell)


def influence(step, parameters, inputs, state):
    """Return dh/dtheta after all steps, unit by unit through the graph of all of them: name to (n, *shape)."""
    _, after = step(inputs, state)
    rows = {name: [] for name in parameters}
    for part in flatten(after):
        for unit in range(np.size(part)) if np.ndim(part) else ():
            of_part = isinstance(part, tr.Tensor) and part.requires_grad
            found = [None] * len(rows)
            if of_part:
                found = tr.grad(part.reshape(-1)[unit], list(parameters.values()), allow_unused=True)
            for row, parameter, value in zip(rows.values(), parameters.values(), found, strict=True):
                row.append(np.zeros(parameter.shape) if value is None else value)
    return {name: np.array(row) for name, row in rows.items()}


def assert_holds_all(steps, step, parameters, inputs, state):
    pattern = tr.influence_pattern(step, parameters, inputs, state, steps)
    for name, values in influence(step, parameters, inputs, state).items():
        reached = pattern.reached.get(name, np.zeros(values.shape, bool))
        assert not ((values != 0) & ~reached).any(), name
        assert (pattern.kept.get(name, reached) <= reached).all()


@settings(max_examples=examples(25))
@given(cell=st.cells() | st.cells("stacked") | st.cells(*OTHERS), T=hst.integers(1, 4), seed=st.SEEDS)
def test_the_pattern_of_some_steps_holds_all_that_they_reach(cell, T, seed):
    assert_holds_all(T, *of_cell(cell, 1, T, seed))


@pytest.mark.sample(10)
@pytest.mark.parametrize("name", [name for name in STEPS if not name.endswith(("each step", "some steps"))])
@settings(max_examples=3)
@given(T=hst.integers(1, 4), seed=st.SEEDS)
def test_the_pattern_of_steps_of_a_user_holds_all_that_they_reach(name, T, seed):
    assert_holds_all(T, *recurrence(name, 1, T, seed))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("follows", {"W": 9, "V": 9, "b": 3}),
        ("follows in reverse", {"W": 9, "V": 9, "b": 3, "r": 3}),
        ("a chain", {"W": 9, "V": 9, "b": 6, "r": 3}),  # b reaches the trace by way of z, and on its own
        ("from two parts", {"W": 9, "V": 9, "b": 3, "r": 6}),  # r enters h and b
        ("halves", {"W": 18, "V": 18, "b": 6}),  # two units of c in one of h: no factor does
    ],
)
def test_what_follows_is_not_kept(name, kept):
    step, parameters, inputs, state = recurrence(name, 1, 1, 0)
    found = tr.influence_pattern(step, parameters, inputs, state)
    assert {name: np.count_nonzero(entries) for name, entries in found.kept.items()} == kept


@pytest.mark.parametrize(("policy", "steps"), [(tr.RTRL(), None), (tr.SnAp(1), 1), (tr.SnAp(2), 2)], ids=repr)
@settings(max_examples=10)
@given(cell=st.cells() | st.cells("stacked") | st.cells(*OTHERS), N=hst.integers(1, 3))
def test_what_is_said_to_be_kept_is_what_is_kept(policy, steps, cell, N):
    step, parameters, inputs, state = of_cell(cell, N, 2, 0)
    found = tr.influence_pattern(step, parameters, inputs, state, steps)
    run = tr.Recurrence(step, parameters, policy, state)
    list(run.feed(inputs))
    carried = flatten(run.carry)
    assert N * (found.entries + found.factors) == sum(part.size for part in carried)
    assert N * found.nbytes == sum(part.nbytes for part in carried)


PRODUCTS = {
    "h @ V": lambda h, V: h @ V,
    "einsum": lambda h, V: np.einsum("nh,hu->nu", h, V),
    "einsum of V and h": lambda h, V: np.einsum("hu,nh->nu", V, h),
    "tensordot": lambda h, V: np.tensordot(h, V, 1),
    "inner": lambda h, V: np.inner(h, V.T),
    "rows": lambda h, V: (h[:, None] @ V)[:, 0],
    "halves": lambda h, V: np.concatenate([h[:, :1], h[:, 1:]], axis=1) @ np.concatenate([V[:1], V[1:]]),
    "columns": lambda h, V: np.stack([h @ V[:, u] for u in range(3)], axis=1),
    "sum": lambda h, V: np.sum(h[:, :, None] * V, axis=1),
}
LEAKS = {
    "h * a + z": lambda h, a, z: h * a + z,
    "a * h": lambda h, a, z: np.multiply(a, h) + z,
    "einsum": lambda h, a, z: np.einsum("h,nh->nh", a, h) + z,
    "a[None]": lambda h, a, z: a[None] * h + z,
    "tile": lambda h, a, z: np.tile(a, (len(h), 1)) * h + z,
    "mean": lambda h, a, z: 2 * np.stack([h * a, z], axis=-1).mean(axis=-1),
    "columns": lambda h, a, z: np.stack([h[:, u] * a[u] + z[:, u] for u in range(3)], axis=1),
    "before all": lambda h, a, z: (h * 2) * (a / 2) + z,
}


@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_how_a_step_is_spelled_does_not_matter(product, leak, N):
    """What local policies keep, and their gradients, which depend on what is found to be on elements alone."""
    w, rng = Weights(N, 0), np.random.default_rng(1)
    inputs, state, found = rng.standard_normal((N, 4, 3)), rng.standard_normal((N, 3)), []
    for times, plus in ((PRODUCTS["h @ V"], LEAKS["h * a + z"]), (PRODUCTS[product], LEAKS[leak])):

        def step(xs, h, times=times, plus=plus):
            h = h * np.tanh(w.s)  # the same for all units: it reaches all, and each still has its own past alone
            h = plus(h, w.b, tr.tanh(times(xs[:, 0], w.W) + times(h, w.V)))
            return score(h), h

        run = tr.Recurrence(step, w.all, tr.SnAp(1), state)
        list(run.feed(inputs))
        size = sum(part.size for part in flatten(run.carry))
        assert size == N * tr.influence_pattern(step, w.all, inputs, state).entries
        found.append((size, [tr.bptt(step, w.all, inputs, state, policy) for policy in (tr.SnAp(1), tr.EProp())]))
    (size, expected), (other, actual) = found
    assert (size, other) == (24 * N, 24 * N)  # 9 + 9 + 3 in one unit each, and s in three
    for one, two in zip(actual, expected, strict=True):
        assert_same_gradients(one.gradients, two.gradients)


def test_a_step_that_breaks_a_link_keeps_what_it_needs():
    """Once h does not follow from c, its own entries are carried on, with what followed so far."""
    step, parameters, _, state = recurrence("follows at some steps", 1, 1, 0)
    inputs = np.ones((1, 6, 3)) * np.array([1, 1, -1, 1, -1, -1])[:, None]
    for policy in (tr.RTRL(), tr.SnAp(1)):  # no matrix of the state: both are exact
        run = tr.Recurrence(step, parameters, policy, state)
        sizes, found = [], []
        for t in range(6):
            found += run.feed(inputs[:, t : t + 1])
            sizes.append(sum(part.size for parts in run.carry for part in parts))
        assert sizes[0] == sizes[1] < sizes[2] == sizes[5]
        total = {name: sum(update.gradients[name] for update in found) for name in parameters}
        assert_same_gradients(total, tr.bptt(step, parameters, inputs, state, tr.Full()).gradients)


def test_snap_of_an_lstm_by_hand():
    """Of c, the parameters of i, f and g; of h, those of o; h of the others is dh/dc times their c, at each step."""
    N, T, H = 2, 6, 3
    step, parameters, (xs, weights), state = an_lstm(N, T, H)
    named = {name: p.data for name, p in parameters.items()}
    expected = {name: np.zeros(part.shape) for name, part in named.items()}
    itself = {gate: np.diag(part) for gate, part in zip("ifog", np.split(named["Wh"], 4, axis=1), strict=True)}
    h, c, factor = np.zeros((N, H)), np.zeros((N, H)), np.zeros((N, H))
    traces = {name: np.zeros((N, *part.shape)) for name, part in named.items()}
    for t in range(T):
        sums = xs[:, t] @ named["Wx"] + h @ named["Wh"] + named["b"]
        gate = dict(zip("ifog", np.split(sums, 4, axis=1), strict=True))
        i, f, o = (1 / (1 + np.exp(-gate[name])) for name in "ifo")
        g, before = np.tanh(gate["g"]), h
        slope = {"f": c * f * (1 - f), "i": g * i * (1 - i), "g": i * (1 - g**2)}
        c = f * c + i * g
        slope["o"] = np.tanh(c) * o * (1 - o)
        h, new = o * np.tanh(c), o * (1 - np.tanh(c) ** 2)
        by_h = sum(slope[name] * itself[name] for name in "ifg")  # dc/dh of a unit by itself
        keep = dict.fromkeys("ifg", f + by_h * factor) | {"o": new * by_h + slope["o"] * itself["o"]}
        keeps, slopes = (np.concatenate([part[name] for name in "ifog"], axis=1) for part in (keep, slope))
        factor = new
        signal = np.concatenate([weights[:, t] * (1 if name == "o" else factor) for name in "ifog"], axis=1)
        for name, row in {"Wx": xs[:, t], "Wh": before, "b": np.ones((N, 1))}.items():
            trace = keeps[:, None] * traces[name].reshape(N, -1, 4 * H) + row[:, :, None] * slopes[:, None]
            traces[name] = trace.reshape(traces[name].shape)
            expected[name] += (signal[:, None] * trace).sum(axis=0).reshape(expected[name].shape)
    found = tr.bptt(step, parameters, (xs, weights), state, tr.SnAp(1))
    assert_same_gradients(found.gradients, expected)
