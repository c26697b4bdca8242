"""SnAp against an influence masked by hand; e-prop and RFLO against their equations; the oracle in integers."""

import dataclasses

import numpy as np
import pytest
from credit.steps import MASK, an_lstm, assert_same_gradients, of_cell, recurrence
from hypothesis import given, settings
from hypothesis import strategies as hst

import tinygrad_rnn as tr
import tinygrad_rnn.testing.strategies as st
from tinygrad_rnn.credit.feedback import Feedback
from tinygrad_rnn.credit.patterned import LocalCarrier
from tinygrad_rnn.engine.tree import flatten

SIZES = {"N": hst.integers(1, 3), "T": hst.integers(1, 6), "seed": st.SEEDS}


# -- integers, as in tests/truncation/test_oracle.py -------------------------------------------------------------------

X, E = np.array([[1.0, -1.0, 2.0, 1.0, -2.0, 3.0]]), np.array([[1.0, 2.0, -1.0, 1.0, 3.0, 1.0]])


def linear():
    w = tr.tensor(2.0, requires_grad=True)

    def step(inputs, h):
        xs, es = inputs
        total = 0.0
        for t in range(xs.shape[1]):
            h = h * w + xs[:, t]
            total = total + (h * es[:, t]).sum()
        return total, h

    return step, {"w": w}


@pytest.mark.parametrize("policy", [tr.RTRL(), tr.RTRL(every=None), tr.SnAp(1), tr.EProp()], ids=repr)
def test_all_credit_in_integers(policy):
    """With one unit, e-prop and SnAp leave nothing out either."""
    step, parameters = linear()
    found = tr.bptt(step, parameters, (X, E), np.ones(1), policy)
    assert found.gradients["w"] == 631
    assert found.state == [99]
    assert sum(found.losses) == 1 * 3 + 2 * 5 - 12 + 25 + 3 * 48 + 99


def test_chunks_with_the_influence_carried_over_their_border():
    """301 within chunks of 3; across the border the later losses give h_3 a cotangent of 22, and dh_3/dw is 15."""
    step, parameters = linear()
    chunked = tr.bptt(step, parameters, (X, E), np.ones(1), tr.Chunked(3))
    assert chunked.gradients["w"] == 301
    run = tr.Recurrence(step, parameters, tr.RTRL(), np.ones(1))
    first = list(run.feed((X[:, :3], E[:, :3])))
    ((influence,),) = run.carry
    later = tr.bptt(step, parameters, (X[:, 3:], E[:, 3:]), run.state, tr.Full())
    assert influence.item() == 15
    assert later.state_gradient.item() == 22
    total = sum(float(update.gradients["w"]) for update in first) + float(later.gradients["w"])
    assert total + 22 * 15 == 631
    rest = [float(update.gradients["w"]) for update in run.feed((X[:, 3:], E[:, 3:]))]
    assert sum(float(update.gradients["w"]) for update in first) + sum(rest) == 631


def test_a_window_of_one_step_is_not_real_time_recurrent_learning():
    step, parameters = linear()
    found = [tr.bptt(step, parameters, (X, E), np.ones(1), policy) for policy in (tr.Windowed(1), tr.RTRL())]
    assert [float(update.gradients["w"]) for update in found] == [137, 631]


# -- SnAp --------------------------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(cell=st.cells() | st.cells("stacked"), **SIZES)
def test_snap_with_enough_steps_is_rtrl(cell, N, T, seed):
    arguments = of_cell(cell, N, T, seed)
    n = sum(part.shape[1] for part in flatten(arguments[3]))  # no path between two units is longer
    found = tr.bptt(*arguments, tr.SnAp(n + 1))
    assert_same_gradients(found.gradients, tr.bptt(*arguments, tr.RTRL()).gradients)


@pytest.mark.parametrize("mask", [np.ones((3, 3)), MASK, np.eye(3, k=1)], ids=["dense", "sparse", "chain"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_snap_is_an_influence_masked_by_hand(n, mask):
    """J = M * (D J + I) in a loop of NumPy, with M[k + 1] = M[1] or pattern(D) M[k]."""
    rng, N, T, H = np.random.default_rng(0), 2, 7, 3
    W, V, b = (rng.standard_normal(shape) for shape in ((H, H), (H, H), (H,)))
    xs, cs = rng.standard_normal((2, N, T, H))
    parameters = {name: tr.tensor(a, requires_grad=True) for name, a in {"W": W, "V": V, "b": b}.items()}

    def step(inputs, h):
        x, c = inputs[0][:, 0], inputs[1][:, 0]
        h = tr.tanh(x @ parameters["W"] + h @ (parameters["V"] * mask) + parameters["b"])
        return (h * c).sum(), h

    expected, h = np.zeros(2 * H * H + H), np.zeros((N, H))
    J = np.zeros((N, H, expected.size))
    M = first = (
        np.concatenate([np.tile(np.eye(H), H), np.tile(np.eye(H), H) * mask.reshape(-1), np.eye(H)], axis=1) != 0
    )
    for _ in range(n - 1):
        M = first | ((mask.T != 0) @ M)
    for t in range(T):
        new = np.tanh(xs[:, t] @ W + h @ (V * mask) + b)
        for s in range(N):
            slope = np.diag(1 - new[s] ** 2)
            by_rows = [np.kron(row, slope) for row in (xs[s, t], h[s])]
            I = np.concatenate([by_rows[0], by_rows[1] * mask.reshape(-1), slope], axis=1)  # noqa: E741
            J[s] = M * (slope @ (V * mask).T @ J[s] + I)
            expected += cs[s, t] @ J[s]
        h = new
    found = tr.bptt(step, parameters, (xs, cs), np.zeros((N, H)), tr.SnAp(n)).gradients
    flat = np.concatenate([found[name].reshape(-1) for name in ("W", "V", "b")])
    np.testing.assert_allclose(flat, expected, rtol=0, atol=1e-12)


def entries(name, policy):
    step, parameters, inputs, state = recurrence(name, 1, 1, 0)
    run = tr.Recurrence(step, parameters, policy, state)
    list(run.feed(inputs))
    return sum(part.size for parts in run.carry for part in parts)


def test_a_sparse_matrix_keeps_fewer_entries():
    """W (3, 3), V (3, 3), b (3,) reach 3 units; with SnAp(1) one; V with a mask has 5 elements."""
    assert [entries("plain", policy) for policy in (tr.RTRL(), tr.SnAp(2), tr.SnAp(1))] == [63, 63, 21]
    assert entries("masked", tr.SnAp(1)) == 17
    assert entries("masked", tr.SnAp(1)) < entries("masked", tr.SnAp(2)) <= entries("masked", tr.RTRL()) < 63


@pytest.mark.parametrize("policy", [tr.SnAp(1), tr.EProp()], ids=repr)
@pytest.mark.parametrize(
    ("make", "factors"),
    [
        (tr.RNNCell, 0),
        (tr.GRUCell, 0),
        (tr.LSTMCell, 8),
        (tr.PeepholeLSTMCell, 8),
        (tr.CoupledLSTMCell, 8),
        (tr.IndRNNCell, 0),
    ],
)
def test_a_cell_keeps_one_entry_for_each_parameter(make, factors, policy):
    """In an LSTM h follows from c: parameters of three gates have an entry for a unit of c, those of o for one of h."""
    cell = make(4, 8, np.random.default_rng(0), dtype=np.float64)
    step, parameters, inputs, state = of_cell(cell, 3, 2, 0)
    run = tr.Recurrence(step, parameters, policy, state)
    list(run.feed(inputs))
    P = sum(p.size for p in parameters.values())
    assert sum(part.size for parts in run.carry for part in parts) == 3 * (P + factors)


def test_neither_state_nor_influence_tell_the_factors_of_an_lstm():
    """Two histories end in the same h, c and J, and go on to other gradients: dh/dc = o differs where c is 0.

    g stays 0, and so do c and h. J of the parameters of g is a sum over steps, whose terms the inputs choose.
    """
    cell = tr.LSTMCell(1, 1, np.random.default_rng(0), dtype=np.float64)
    for p, value in zip(cell.parameters().values(), ([[0, 0, 1, 0]], [[0, 0, 0, 1]], [0, 0, 0, 0]), strict=True):
        p.data = np.array(value, np.float64)  # i = f = 1/2, o = sigmoid(x), g by h alone

    def step(xs, state):
        outputs, state = tr.unroll(cell, xs, state)
        return np.sum(outputs), state

    def keeps(x):
        """Return by what an entry of c is multiplied after a step with input x."""
        return 0.5 + 0.5 / (1 + np.exp(-x))

    first, second = [0.0, 1.0], [-3.0]
    one, two = keeps(first[0]), keeps(first[1])
    wanted = two * (1 + one) / (1 + keeps(second[0]))  # J by the bias of g
    second.append(-np.log(1 / (2 * (wanted - 0.5)) - 1))
    first.append(0.0)
    second.append(
        two * (first[1] + one * first[0]) - wanted * (second[1] + keeps(second[0]) * second[0])
    )  # J by the weight of x
    runs = []
    for xs in (first, second):
        runs.append(tr.Recurrence(step, cell.parameters(), tr.SnAp(1), cell.initial_state(1)))
        list(runs[-1].feed(np.array(xs).reshape(1, 3, 1)))
    *one, factor = runs[0].carry
    *two, other = runs[1].carry
    for a, b in zip(flatten([runs[0].state, one]), flatten([runs[1].state, two]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-15)
    assert abs(factor[0] - other[0]) > 0.1
    (a,), (b,) = (list(run.feed(np.ones((1, 1, 1)))) for run in runs)
    assert abs(a.gradients["b"][3] - b.gradients["b"][3]) > 0.01


def test_an_lru_keeps_a_complex_number_for_each_parameter():
    """Exactly: `RTRL` keeps the real and the imaginary part of one unit for each, and no more."""
    step, parameters, inputs, state = of_cell(tr.LRUCell(4, 8, np.random.default_rng(0), dtype=np.float64), 1, 2, 0)
    found = tr.influence_pattern(step, parameters, inputs, state, None)
    assert all((np.count_nonzero(kept, axis=0) == 2).all() for kept in found.kept.values())
    assert found.is_complete


@pytest.mark.parametrize(("make", "n"), [(tr.IndRNNCell, 1), (tr.MinGRUCell, 1), (tr.MinLSTMCell, 1), (tr.LRUCell, 2)])
def test_for_cells_on_elements_alone_all_are_exact(make, n):
    """In an LRU the real part of a unit reaches the imaginary part with the step after."""
    arguments = of_cell(make(2, 3, np.random.default_rng(0), dtype=np.float64), 2, 6, 0)
    expected = tr.bptt(*arguments, tr.Full()).gradients
    for policy in (tr.SnAp(n), tr.EProp()):
        assert_same_gradients(tr.bptt(*arguments, policy).gradients, expected)


# -- e-prop and RFLO ---------------------------------------------------------------------------------------------------


def test_eprop_of_a_leaky_network_by_hand():
    """Murray's and Bellec's trace: e = a e + (1 - a) tanh'(u) x, gradient L e, L the cotangent of the unit."""
    rng, N, T, H, a = np.random.default_rng(0), 2, 8, 4, 0.7
    W, V, R = (rng.standard_normal(shape) / 2 for shape in ((3, H), (H, H), (H, 2)))
    xs, targets = rng.standard_normal((N, T, 3)), rng.standard_normal((N, T, 2))
    parameters = {name: tr.tensor(part, requires_grad=True) for name, part in {"W": W, "V": V, "R": R}.items()}

    def step(inputs, h):
        x, target = inputs[0][:, 0], inputs[1][:, 0]
        h = a * h + (1 - a) * tr.tanh(x @ parameters["W"] + h @ parameters["V"])
        return ((h @ parameters["R"] - target) ** 2).sum() / 2, h

    h, eW, eV = np.zeros((N, H)), np.zeros((N, 3, H)), np.zeros((N, H, H))
    expected = {name: np.zeros(part.shape) for name, part in {"W": W, "V": V, "R": R}.items()}
    for t in range(T):
        u = np.tanh(xs[:, t] @ W + h @ V)
        slope = (1 - a) * (1 - u**2)[:, None, :]
        eW, eV = a * eW + slope * xs[:, t, :, None], a * eV + slope * h[:, :, None]
        h = a * h + (1 - a) * u
        error = h @ R - targets[:, t]
        signal = (error @ R.T)[:, None, :]
        expected["W"] += (signal * eW).sum(axis=0)
        expected["V"] += (signal * eV).sum(axis=0)
        expected["R"] += h.T @ error
    found = tr.bptt(step, parameters, (xs, targets), np.zeros((N, H)), tr.EProp())
    assert_same_gradients(found.gradients, expected)


def test_eprop_of_an_lstm_by_hand():
    """Bellec et al. 2020, Methods: traces of c fall with the forget gate; h gets its output gate and o tanh'(c) e."""
    N, T, H = 2, 6, 3
    step, parameters, (xs, weights), state = an_lstm(N, T, H)
    named = {name: p.data for name, p in parameters.items()}
    expected = {name: np.zeros(part.shape) for name, part in named.items()}
    order = "ifog"
    h, c = np.zeros((N, H)), np.zeros((N, H))
    traces = {name: np.zeros((N, *part.shape)) for name, part in named.items()}
    for t in range(T):
        sums = xs[:, t] @ named["Wx"] + h @ named["Wh"] + named["b"]
        gate = dict(zip(order, np.split(sums, 4, axis=1), strict=True))
        i, f, o = (1 / (1 + np.exp(-gate[name])) for name in "ifo")
        g = np.tanh(gate["g"])
        by = {"f": c * f * (1 - f), "i": g * i * (1 - i), "g": i * (1 - g**2), "o": np.zeros((N, H))}
        c = f * c + i * g
        of_c = np.concatenate([by[name] for name in order], axis=1)
        of_o = np.concatenate([np.tanh(c) * o * (1 - o) if n == "o" else np.zeros((N, H)) for n in order], axis=1)
        fall, slope = np.tile(f, (1, 4)), np.tile(o * (1 - np.tanh(c) ** 2), (1, 4))
        signal = np.tile(weights[:, t], (1, 4))
        for name, row in {"Wx": xs[:, t], "Wh": h, "b": np.ones((N, 1))}.items():
            shape = (N, -1, 4 * H)
            trace = fall[:, None] * traces[name].reshape(shape) + row[:, :, None] * of_c[:, None]
            of_h = slope[:, None] * trace + row[:, :, None] * of_o[:, None]
            traces[name] = trace.reshape(traces[name].shape)
            expected[name] += (signal[:, None] * of_h).sum(axis=0).reshape(expected[name].shape)
        h = o * np.tanh(c)
    found = tr.bptt(step, parameters, (xs, weights), state, tr.EProp())
    assert_same_gradients(found.gradients, expected)


class Transposed(Feedback):
    """Feedback through the matrices of the forward pass themselves."""

    def __init__(self, parameters):
        super().__init__(np.random.default_rng(0))
        self._drawn = {name: p.data for name, p in parameters.items()}


@dataclasses.dataclass(frozen=True)
class WithTheirOwn(tr.EProp):
    """e-prop with random feedback, whose matrices are those of the forward pass."""

    parameters: object = None

    def carrier(self):
        return LocalCarrier(self, Transposed(self.parameters))


def two_layers(N, T, seed=0):
    """A leaky network on a leaky network, and a head of two matrices."""
    rng, shapes = (
        np.random.default_rng(seed),
        {"W0": (3, 4), "V0": (4, 4), "W1": (4, 3), "V1": (3, 3), "A": (3, 5), "B": (5, 2)},
    )
    p = {name: tr.tensor(rng.standard_normal(shape) / 2, requires_grad=True) for name, shape in shapes.items()}

    def step(inputs, state):
        total, (a, b) = 0.0, state
        for t in range(inputs.shape[1]):
            a = 0.8 * a + tr.tanh(inputs[:, t] @ p["W0"] + a @ p["V0"])
            b = 0.6 * b + tr.tanh(a @ p["W1"] + b @ p["V1"])
            total = total + np.sin(tr.tanh(b @ p["A"]) @ p["B"]).sum()
        return total, (a, b)

    return step, p, rng.standard_normal((N, T, 3)), (np.zeros((N, 4)), np.zeros((N, 3)))


def test_feedback_through_the_forward_matrices_is_symmetric():
    step, parameters, inputs, state = two_layers(2, 5)
    found, expected = (
        tr.bptt(step, parameters, inputs, state, policy)
        for policy in (WithTheirOwn(parameters=parameters), tr.EProp("symmetric"))
    )
    assert_same_gradients(found.gradients, expected.gradients)


@pytest.mark.parametrize("policy", [tr.RFLO(rng=1), tr.EProp("random", rng=2)], ids=repr)
def test_random_feedback_is_another_gradient_except_for_the_last_matrix(policy):
    step, parameters, inputs, state = two_layers(2, 5)
    found = tr.bptt(step, parameters, inputs, state, policy).gradients
    symmetric = tr.bptt(step, parameters, inputs, state, tr.EProp()).gradients
    full = tr.bptt(step, parameters, inputs, state, tr.Full()).gradients
    assert_same_gradients({"B": found["B"]}, {"B": full["B"]})
    assert all(not np.allclose(found[name], symmetric[name]) for name in ("W0", "V0", "W1", "V1", "A"))
    again = tr.bptt(step, parameters, inputs, state, policy).gradients
    assert_same_gradients(found, again, 0)


KEPT = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])


@pytest.mark.parametrize("N", [1, 3])
@pytest.mark.parametrize(
    ("read", "shape", "back"),
    [
        (lambda h, W: h @ W, (3, 2), lambda error, B: error @ B.T),
        (lambda h, W: h @ W, (3,), np.outer),
        (lambda h, W: h @ W.T, (2, 3), lambda error, B: error @ B.T),
        (lambda h, W: (W @ h.T).T, (2, 3), lambda error, B: error @ B),
        (lambda h, W: W @ h.T, (3,), np.outer),
        (lambda h, W: h @ (W * KEPT), (3, 3), lambda error, B: error @ B.T),
        (lambda h, W: np.tensordot(h, W, 1), (3, 2), lambda error, B: error @ B.T),
        (lambda h, W: (h[:, None] @ W)[:, 0], (3, 2), lambda error, B: error @ B.T),
    ],
    ids=["W", "a vector", "W.T", "W on the left", "a vector on the left", "W * mask", "tensordot", "rows"],
)
def test_errors_come_back_through_a_random_matrix_however_the_readout_is_spelled(read, shape, back, N):
    rng = np.random.default_rng(0)
    W, V = (tr.tensor(rng.standard_normal(size), requires_grad=True) for size in (shape, (3, 3)))

    def step(xs, h):
        h = 0.8 * h + tr.tanh(xs[:, 0] + h @ V)
        return np.sum(np.sin(read(h, W))), h

    inputs, h = rng.standard_normal((N, 4, 3)), rng.standard_normal((N, 3))
    run = tr.Recurrence(step, {"W": W, "V": V}, tr.RFLO(rng=1), h, resumable=True)
    found = sum(update.gradients["V"] for update in run.feed(inputs))
    (B,) = run.past["carrier"]["feedback"]["drawn"].values()
    trace, expected = np.zeros((N, 3, 3)), np.zeros((3, 3))
    for x in np.swapaxes(inputs, 0, 1):
        z = np.tanh(x + h @ V.data)
        trace = 0.8 * trace + h[:, :, None] * (1 - z**2)[:, None]
        h = 0.8 * h + z
        expected += np.sum(trace * back(np.cos(read(h, W.data)), B)[:, None], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_signal_of_a_layer_comes_through_those_above_it_within_the_step():
    """Of D the operations on elements alone, of I the unit that a parameter enters: written out for two layers."""
    step, parameters, inputs, state = two_layers(1, 6)
    p = {name: part.data for name, part in parameters.items()}
    a, b = (part[0] for part in state)
    traces = {name: np.zeros(p[name].shape) for name in ("W0", "V0", "W1", "V1")}
    expected = {name: np.zeros(part.shape) for name, part in p.items()}
    for x in inputs[0]:
        ua = np.tanh(x @ p["W0"] + a @ p["V0"])
        traces["W0"], traces["V0"] = (
            0.8 * traces[name] + np.outer(row, 1 - ua**2) for name, row in (("W0", x), ("V0", a))
        )
        a = 0.8 * a + ua
        ub = np.tanh(a @ p["W1"] + b @ p["V1"])
        traces["W1"], traces["V1"] = (
            0.6 * traces[name] + np.outer(row, 1 - ub**2) for name, row in (("W1", a), ("V1", b))
        )
        b = 0.6 * b + ub
        z = np.tanh(b @ p["A"])
        error = np.cos(z @ p["B"])
        back = (error @ p["B"].T) * (1 - z**2)
        expected["B"] += np.outer(z, error)
        expected["A"] += np.outer(b, back)
        of_b = back @ p["A"].T
        of_a = (of_b * (1 - ub**2)) @ p["W1"].T
        for name, signal in {"W0": of_a, "V0": of_a, "W1": of_b, "V1": of_b}.items():
            expected[name] += traces[name] * signal
    found = tr.bptt(step, parameters, inputs, state, tr.EProp())
    assert_same_gradients(found.gradients, expected)
