"""`compare_handwritten`: the ways to hand in a backward pass, what cannot be compared, and the report."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn import handwritten as hw
from tinygrad_rnn.testing.handwritten import compare_handwritten, where


def forward(x, state, parameters):
    (h,) = state
    y = np.tanh(x @ parameters["Wx"] + h @ parameters["Wh"] + parameters["b"])
    return (y,), (x, h, y, parameters)


def backward(dstate, cache):
    x, h, y, parameters = cache
    da = dstate[0] * (1 - y * y)
    gradients = {"Wx": x.T @ da, "Wh": h.T @ da, "b": da.sum(axis=0)}
    return da @ parameters["Wx"].T, (da @ parameters["Wh"].T,), gradients


def backward_without_bias(dstate, cache):
    dx, dstate, gradients = backward(dstate, cache)
    return dx, dstate, {**gradients, "b": np.zeros(4)}


def listed(layer):
    layer.params = [param.tolist() for param in layer.params]
    return layer


def test_a_pair_of_functions():
    cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    assert compare_handwritten(cell, (forward, backward)).ok
    report = compare_handwritten(cell, (forward, backward_without_bias), check=False)
    assert report.target == "(forward, backward_without_bias) by hand against RNNCell, N = 2, T = 5"
    assert report.wrong == ("db",)
    assert report.result("db", "1 step").hint == "0 in every entry: no gradient arrives"
    report = compare_handwritten(cell, (forward, lambda dstate, cache: backward(dstate, cache)[:2]), check=False)
    assert report.failures[0] == "in a run of 1 step, backward: expected it to return (dx, dstate, gradients)"


def test_an_object_is_copied_and_takes_the_cells_weights():
    layer = hw.RNN(np.ones((3, 4)), np.ones((4, 4)), np.ones(4))
    cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    before = cell.Wx.data.copy()
    assert compare_handwritten(cell, layer).ok
    np.testing.assert_array_equal(layer.params[0], np.ones((3, 4)))
    assert layer.cache is None
    np.testing.assert_array_equal(cell.Wx.data, before)
    assert cell.Wx.dtype == np.float32


def test_a_cell_of_ones_own():
    class Leaky(tr.Module):
        """h' = tanh(x @ Wx + a * h), a leak for each unit."""

        def __init__(self, rng):
            self.Wx = tr.tensor(rng.standard_normal((3, 4)), requires_grad=True)
            self.a = tr.tensor(rng.standard_normal(4), requires_grad=True)

        def initial_state(self, batch_size):
            return np.zeros((batch_size, 4))

        def __call__(self, x, h):
            h = np.tanh(x @ self.Wx + self.a * h)
            return h, h

    class ByHand:
        def __init__(self, Wx, a):
            self.params, self.grads = [Wx, a], [np.zeros_like(Wx), np.zeros_like(a)]

        def forward(self, x, h):
            self.kept = x, h, np.tanh(x @ self.params[0] + self.params[1] * h)
            return self.kept[2]

        def backward(self, dy):
            x, h, y = self.kept
            da = dy * (1 - y * y)
            self.grads = [x.T @ da, (h * da).sum(axis=0)]
            return da @ self.params[0].T, da * self.params[1]

    report = compare_handwritten(Leaky(np.random.default_rng(0)), ByHand, T=3)
    assert [result.name for result in report.results] == ["h", "dx", "dh", "dWx", "da"] * 2


@pytest.mark.parametrize(
    ("handwritten", "error", "words"),
    [
        (3, TypeError, "must be a layer with forward and backward, .* got an int"),
        (hw.RNN(np.ones((2, 4)), np.ones((4, 4)), np.ones(4)), ValueError, r"\(3, 4\), got float64 \(2, 4\)"),
        (
            hw.RNN(*(np.ones(s, np.float32) for s in ((3, 4), (4, 4), 4))),
            ValueError,
            "build the layer of float64 arrays",
        ),
        (lambda Wx, Wh, b: hw.TimeEmbedding(Wx), ValueError, "expected params to hold 3 arrays"),
        (lambda Wx: hw.RNN(Wx, Wx, Wx), TypeError, "must take the cell's 3 weights, Wx, Wh, b, as its"),
        (lambda *weights: type("Half", (), {"forward": len})(), TypeError, "Half has no method backward"),
        (lambda *weights: None, TypeError, "NoneType has no method forward"),
        (lambda Wx, Wh, b: listed(hw.RNN(Wx, Wh, b)), ValueError, "params to hold Wx, .*, got a list"),
    ],
)
def test_what_cannot_be_compared(handwritten, error, words):
    with pytest.raises(error, match=words):
        compare_handwritten(tr.RNNCell(3, 4, np.random.default_rng(0)), handwritten)


def test_what_is_no_cell():
    with pytest.raises(TypeError, match="cell is a type; expected a Module"):
        compare_handwritten(tr.RNNCell, hw.RNN)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda dx, dh: (dh, dx), "expected dx, then gradients of the state of shapes [(2, 4)], got [(2, 3)]"),
        (lambda dx, dh: (dx, dh.sum(axis=0)), "shapes [(2, 4)], got [(4,)]"),
        (lambda dx, dh: (dx, None), "arrays of real numbers, got float64 (2, 3), NoneType"),
        (lambda dx, dh: (dx, dh + 0j), "arrays of real numbers, got float64 (2, 3), complex128 (2, 4)"),
        (lambda dx, dh: (dx, "dh"), "arrays of real numbers, got float64 (2, 3), str"),
    ],
)
def test_gradients_that_the_step_before_cannot_take(returned, words):
    class Wrong(hw.RNN):
        def backward(self, dy):
            return returned(*super().backward(dy))

    report = compare_handwritten(tr.RNNCell(3, 4, np.random.default_rng(0)), Wrong, check=False)
    assert not report.ok
    assert words in report.failures[-1]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda h: h[None], "forward: expected a state of shapes [(2, 4)], got [(1, 2, 4)]"),
        (lambda h: 3.0, "forward: expected a state of shapes [(2, 4)], got [()]"),
    ],
)
def test_states_that_the_next_step_cannot_take(returned, words):
    class Wrong(hw.RNN):
        def forward(self, x, h):
            return returned(super().forward(x, h))

    report = compare_handwritten(tr.RNNCell(3, 4, np.random.default_rng(0)), Wrong, check=False)
    assert [words in failure for failure in report.failures] == [True, True]


def test_gates_of_a_cell_with_a_projection():
    """A gate has as many columns as c, and h has fewer."""

    class Wrong(hw.LSTM):
        def backward(self, dh, dc):
            found = super().backward(dh, dc)
            self.grads[2][:5] *= 3
            return found

    cell = tr.LSTMCell(3, 5, np.random.default_rng(0), proj_size=3)
    assert compare_handwritten(cell, hw.LSTM).ok
    report = compare_handwritten(cell, Wrong, check=False)
    assert report.wrong == ("db",)
    assert report.result("db", "1 step").hint == "in gate block 0 of 4 only: times 3 in every entry"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"T": 0}, "compare_handwritten: T must be an integer of 1 or more, got 0"),
        ({"N": 2.0}, "compare_handwritten: N must be an integer of 1 or more, got 2.0"),
        ({"rtol": -1}, "compare_handwritten: rtol must be a finite number of 0 or more, got -1"),
    ],
)
def test_errors_of_options_name_the_function(options, words):
    with pytest.raises(tr.ConfigError, match=words):
        compare_handwritten(tr.RNNCell(3, 4, np.random.default_rng(0)), hw.RNN, **options)


def test_the_report_in_a_notebook():
    report = compare_handwritten(tr.RNNCell(3, 4, np.random.default_rng(0)), hw.RNN)
    assert str(report).startswith("RNN by hand against RNNCell, N = 2, T = 5: ok (seed 0)\n")
    assert report._repr_html_().count("<tr") == 1 + len(report.results)
    with pytest.raises(KeyError):
        report.result("dc", "1 step")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], ""),
        ([0, 1, 2, 3], "at every step"),
        ([3], "at the last step only (t = 3)"),
        ([0], "at the first step only (t = 0)"),
        ([0, 1], "from step 1 back; the last 2 are right"),
        ([1, 3], "first at step 3, going backward; wrong: 1, 3"),
    ],
)
def test_where_in_words(steps, words):
    assert where(steps, 4) == words
