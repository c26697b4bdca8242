"""`compare_handwritten`: right layers pass; planted mistakes are found, in the right quantity, and named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from testing.students import StudentLSTM, StudentRNN, StudentTimeLSTM, StudentTimeRNN, in_place, piled_up

import tinygrad_rnn as tr
from tinygrad_rnn import handwritten as hw
from tinygrad_rnn.testing import GradCheckError
from tinygrad_rnn.testing.handwritten import compare_handwritten
from tinygrad_rnn.testing.targets.handwritten import Automatic, Window

sizes = st.integers(1, 4)
CELLS = {
    "rnn": lambda D, H, rng: tr.RNNCell(D, H, rng),
    "lstm": lambda D, H, rng: tr.LSTMCell(D, H, rng),
    "gru after": lambda D, H, rng: tr.GRUCell(D, H, rng),
    "gru before": lambda D, H, rng: tr.GRUCell(D, H, rng, reset="before"),
}
RIGHT = {
    "RNN": ("rnn", hw.RNN),
    "TimeRNN": ("rnn", hw.TimeRNN),
    "TimeRNN, stateful": ("rnn", lambda *weights: hw.TimeRNN(*weights, stateful=True)),
    "LSTM": ("lstm", hw.LSTM),
    "TimeLSTM": ("lstm", hw.TimeLSTM),
    "TimeLSTM, stateful": ("lstm", lambda *weights: hw.TimeLSTM(*weights, stateful=True)),
    "GRU": ("gru after", hw.GRU),
    "TimeGRU": ("gru after", hw.TimeGRU),
    "GRU, before": ("gru before", lambda *weights: hw.GRU(*weights, reset="before")),
    "TimeGRU, before": ("gru before", lambda *weights: hw.TimeGRU(*weights, reset="before")),
}


@pytest.mark.sample(5)
@pytest.mark.parametrize("name", RIGHT)
@given(D=sizes, H=sizes, N=sizes, T=sizes, seed=st.integers(0, 2**32 - 1))
def test_the_layers_of_this_package_are_right(name, D, H, N, T, seed):
    cell, layer = RIGHT[name]
    report = compare_handwritten(CELLS[cell](D, H, np.random.default_rng(seed)), layer, T=T, N=N, seed=seed)
    assert report.ok
    assert {result.run for result in report.results} == {"1 step", f"{T} steps" if T > 1 else "1 step"}


@given(D=sizes, H=sizes, N=sizes, T=sizes, seed=st.integers(0, 2**32 - 1))
def test_the_automatic_side_is_the_gradient_of_unroll(D, H, N, T, seed):
    rng = np.random.default_rng(seed)
    cell = tr.LSTMCell(D, H, rng, np.float64)
    xs, h, c = (tr.tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((N, T, D), (N, H), (N, H)))
    dhs, dc = rng.standard_normal((N, T, H)), rng.standard_normal((N, H))
    ours = Automatic(cell, (0, 0)).run(Window(xs.data, [h.data, c.data], dhs, [dc]))
    outputs, (_, last) = tr.unroll(cell, xs, (h, c))
    dxs, dh, d_c, gradients = tr.grad([outputs, last], [xs, h, c, cell.parameters()], cotangent=[dhs, dc])
    expected = {"dx": dxs, "dh": dh, "dc": d_c} | {f"d{name}": gradient for name, gradient in gradients.items()}
    for name, gradient in expected.items():
        np.testing.assert_allclose(ours.quantities[name], gradient, rtol=1e-11, atol=1e-13)
    for name in gradients:
        total = sum(part[f"d{name}"] for part in ours.parts)
        np.testing.assert_allclose(total, gradients[name], rtol=1e-11, atol=1e-13)


EVERY = {"dx", "dh", "dWx", "dWh", "db"}
# what is wrong: (layer, the piece that is wrong, names that must be found wrong, words that the report must hold)
STEP_FAULTS = {
    "tanh' missing": (
        StudentRNN,
        {"da": lambda self, dy, y: dy},
        EVERY,
        "derivative of tanh, 1 - tanh(a)^2, is missing",
    ),
    "tanh' twice": (StudentRNN, {"da": lambda self, dy, y: dy * (1 - y * y) ** 2}, EVERY, "is taken twice"),
    "sign": (StudentRNN, {"da": lambda self, dy, y: -dy * (1 - y * y)}, EVERY, "times -1 in every entry"),
    "Wh not transposed": (
        StudentRNN,
        {"dh": lambda self, da, Wh: da @ Wh},
        {"dh"},
        "dh is da @ Wh; it must be da @ Wh'",
    ),
    "dWh transposed": (StudentRNN, {"dWh": lambda self, h, da, y: da.T @ h}, {"dWh"}, "transposed"),
    "dWh of the new state": (StudentRNN, {"dWh": lambda self, h, da, y: y.T @ da}, {"dWh"}, "dWh = h_prev' @ da"),
    "dWx transposed": (StudentRNN, {"dWx": lambda self, x, da: da.T @ x}, {"dWx"}, "has shape (4, 3): transposed"),
    "db mean": (StudentRNN, {"db": lambda self, da: da.mean(axis=0)}, {"db"}, "times 0.5 = 1/N in every entry"),
    "db over the wrong axis": (
        StudentRNN,
        {"db": lambda self, da: da.sum(axis=1)},
        {"db"},
        "summed over the wrong axis",
    ),
    "db of the first sequence": (StudentRNN, {"db": lambda self, da: da[0]}, {"db"}, "db"),
    "dWx missing": (StudentRNN, {"dWx": lambda self, x, da: np.zeros((3, 4))}, {"dWx"}, "no gradient arrives"),
    "dh missing": (
        StudentRNN,
        {"dh": lambda self, da, Wh: 0 * da},
        {"dh", "dx", "dWx", "dWh", "db"},
        "no gradient arrives",
    ),
    "dx times N": (StudentRNN, {"dx": lambda self, da, Wx: 2 * da @ Wx.T}, {"dx"}, "times 2 = N in every entry"),
    "dWx 1e-8": (StudentRNN, {"dWx": lambda self, x, da: x.T @ da * (1 + 1e-8)}, {"dWx"}, "1 + 1.0e-08"),
    "dWh in float32": (
        StudentRNN,
        {"dWh": lambda self, h, da, y: (h.T @ da).astype(np.float32).astype(np.float64)},
        {"dWh"},
        "float32",
    ),
    "dWh one entry": (
        StudentRNN,
        {"dWh": lambda self, h, da, y: h.T @ da * (1 + 1e-8 * (np.arange(16) == 5).reshape(4, 4))},
        {"dWh"},
        "in row 1",
    ),
    "i and f swapped": (
        StudentLSTM,
        {"gates": lambda self, i, f, o, g: (f, i, o, g)},
        EVERY,
        "gate blocks 0 and 1 of 4 are swapped",
    ),
    "sigmoid' missing": (
        StudentLSTM,
        {"ds": lambda self, i: 1},
        EVERY,
        "derivative of the sigmoid, s * (1 - s), is missing in gate block 0 of 4",
    ),
    "tanh' of g missing": (
        StudentLSTM,
        {"dt": lambda self, g: 1},
        EVERY,
        "1 - tanh(a)^2, is missing in gate block 3 of 4",
    ),
    "tanh'(c) missing": (
        StudentLSTM,
        {"dc": lambda self, dy, dnew, o, new: dnew + dy * o},
        {*EVERY, "dc"},
        "1 - tanh(c)^2, is missing in gate blocks 0, 1, 3 of 4",
    ),
    "dc of the next state dropped": (
        StudentLSTM,
        {"dc": lambda self, dy, dnew, o, new: dy * o * (1 - np.tanh(new) ** 2)},
        {*EVERY, "dc"},
        "dc",
    ),
    "dc not times f": (StudentLSTM, {"back": lambda self, dc, f: dc}, {*EVERY, "dc"}, "dc"),
    "forward": (
        StudentRNN,
        {"forward": lambda self, x, h: np.tanh(StudentRNN.forward(self, x, h))},
        {"h"},
        "make it equal",
    ),
    "grads accumulate": (StudentRNN, {"put": piled_up}, set(), "grads accumulate"),
    "dy changed": (StudentRNN, {"da": in_place}, set(), "backward writes into an array that it was given"),
    "raises": (StudentRNN, {"dh": lambda self, da, Wh: da @ Wh.T[:2]}, set(), "backward raised ValueError: matmul"),
    "dh not returned": (
        StudentRNN,
        {"backward": lambda self, dy: StudentRNN.backward(self, dy)[0]},
        set(),
        "expected it to return 2 arrays, got 1",
    ),
    "grads not set": (
        StudentRNN,
        {"put": lambda self, new: setattr(self, "grads", new[:2])},
        set(),
        "to hold 3 arrays",
    ),
}


@pytest.mark.parametrize("name", STEP_FAULTS)
def test_a_wrong_step_is_named(name):
    base, pieces, names, words = STEP_FAULTS[name]
    cell = (tr.LSTMCell if base is StudentLSTM else tr.RNNCell)(3, 4, np.random.default_rng(0))
    assert compare_handwritten(cell, base).ok
    with pytest.raises(GradCheckError) as caught:
        compare_handwritten(cell, type("Wrong", (base,), pieces))
    report = caught.value.report
    assert names <= set(report.wrong)
    if name not in ("forward", "dh missing"):
        in_one_step = {result.name for result in report.results if result.run == "1 step" and result.verdict == "wrong"}
        assert in_one_step <= names
    assert words in str(report)
    assert "reproduce: compare_handwritten(RNNCell" in str(report) or base is StudentLSTM


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ({"ds": lambda self, i: 1}, "in gate block 0 of 4 only"),
        ({"gates": lambda self, i, f, o, g: (i, f, -o, g)}, "in gate block 2 of 4 only: times -1 in every entry"),
        ({"gates": lambda self, i, f, o, g: (2 * i, 2 * f, o, g)}, "in gate blocks 0, 1 of 4 only: times 2 = N"),
        ({"gates": lambda self, i, f, o, g: (f, o, i, g)}, "gate blocks are in the order [1, 2, 0, 3]"),
    ],
)
def test_gates_are_named(pieces, words):
    cell = tr.LSTMCell(3, 4, np.random.default_rng(0))
    report = compare_handwritten(cell, type("Wrong", (StudentLSTM,), pieces), check=False)
    assert report.result("db", "1 step").hint.startswith(words)


# what is wrong: (the piece, wrong quantity: (words of where, first wrong step going backward), words of the report)
TIME_FAULTS = {
    "dh lost after 3 steps": (
        {"into": lambda self, dy, dh, t, T: dy + dh * (t != T - 4)},
        {"dx": ("from step 1 back; the last 3 are right", 1), "dWx": ("with a loss at step 2 alone, and later", None)},
        "what step 2 sends back to h of step 1 is lost",
    ),
    "dh lost at once": (
        {"into": lambda self, dy, dh, t, T: dy},
        {"dx": ("from step 3 back; the last one is right", 3), "dWh": ("with a loss at step 1 alone, and later", None)},
        "what step 4 sends back to h of step 3 is lost",
    ),
    "dhs lost": (
        {"into": lambda self, dy, dh, t, T: dh if t < T - 1 else dy},
        {"dx": ("from step 3 back; the last one is right", 3)},
        "look at what the loop over time does at step 3",
    ),
    "last step": (
        {"dx": lambda self, dx, t, T: dx if t < T - 1 or T == 1 else 2 * dx},
        {"dx": ("at the last step only (t = 4)", 4)},
        "at step 4: times 2 = N",
    ),
    "first step": (
        {"dx": lambda self, dx, t, T: dx if t or T == 1 else -dx},
        {"dx": ("at the first step only (t = 0)", 0)},
        "at step 0: times -1",
    ),
    "one step": (
        {"dx": lambda self, dx, t, T: dx if t != 2 else 0 * dx},
        {"dx": ("first at step 2, going backward; wrong: 2", 2)},
        "at step 2: 0 in every entry",
    ),
    "dWh of the last step dropped": (
        {"part": lambda self, dW, k, t, T: dW if k != 1 or t < T - 1 or T == 1 else 0},
        {"dWh": ("with a loss at step 4 alone", None)},
        "look at how the loop adds up dWh",
    ),
    "dWh of step 2 dropped": (
        {"part": lambda self, dW, k, t, T: dW if k != 1 or t != 2 else 0},
        {"dWh": ("with a loss at step 2 alone, and later", None)},
        "look at how the loop adds up dWh",
    ),
    "mean over time": (
        {"sums": lambda self, total, T: [dW / T for dW in total]},
        {
            "dWx": ("with a loss at step 0 alone, and later", None),
            "db": ("with a loss at step 0 alone, and later", None),
        },
        "times 0.2 = 1/T in every entry: averaged instead of summed",
    ),
    "order of dxs": (
        {"backward": lambda self, dhs: StudentTimeRNN.backward(self, dhs)[:, ::-1]},
        {"dx": ("first at step 4, going backward; wrong: 0, 1, 3, 4", 4)},
        "dx",
    ),
}


@pytest.mark.parametrize("name", TIME_FAULTS)
def test_a_wrong_loop_over_time_is_named(name):
    pieces, quantities, words = TIME_FAULTS[name]
    cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    assert compare_handwritten(cell, StudentTimeRNN).ok
    with pytest.raises(GradCheckError) as caught:
        compare_handwritten(cell, type("Wrong", (StudentTimeRNN,), pieces))
    report = caught.value.report
    assert all(result.verdict == "ok" for result in report.results if result.run == "1 step")
    for quantity, (place, step) in quantities.items():
        result = report.result(f"{quantity}", "5 steps")
        assert (result.verdict, result.where, result.first_step) == ("wrong", place, step)
    assert words in str(report)


def test_c_not_carried_back_is_told_from_h():
    report = compare_handwritten(tr.LSTMCell(3, 4, np.random.default_rng(0)), StudentTimeLSTM, check=False)
    assert "looks like: what step 4 sends back to c of step 3 is lost" in str(report)


def test_steps_of_a_weight_are_found_in_a_layer_of_one_step():
    class ForgetsAtZero(StudentRNN):
        """The mistake shows in steps whose input has a negative first entry."""

        def dWx(self, x, da):
            return x.T @ (da * (x[:, :1] > 0))

    rng = np.random.default_rng(0)
    report = compare_handwritten(tr.RNNCell(3, 4, rng), ForgetsAtZero, N=1, check=False)
    assert report.wrong == ("dWx",)
    draws = np.random.default_rng(0)
    [draws.standard_normal(shape) for shape in ((3, 4), (4, 4), 4, (1, 4))]
    xs = draws.standard_normal((1, 5, 3))
    assert report.result("dWx", "5 steps").steps == tuple(np.flatnonzero(xs[0, :, 0] < 0))
