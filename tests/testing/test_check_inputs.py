"""What `check_grads` takes beside leaves: targets of losses, learned first states, gradients within a function."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.testing import GradCheckError, check_grads

RNG = np.random.default_rng
XS, YS = RNG(1).standard_normal((2, 5, 3)), RNG(2).standard_normal((2, 5, 1))


class Learned(tr.Module):
    """An RNN whose first state is a parameter, and a running maximum that starts from -inf."""

    def __init__(self, dtype=np.float64):
        rng = RNG(0)
        self.input_size = self.output_size = 3
        self.W = tr.parameter(rng.standard_normal((6, 3)), dtype)
        self.h0 = tr.parameter(np.full(3, 0.1), dtype)

    def initial_state(self, batch_size):
        return {
            "h": np.broadcast_to(self.h0, (batch_size, 3)),
            "t": np.zeros(batch_size, int),
            "most": np.full((batch_size, 3), -np.inf),
        }

    def __call__(self, x, state):
        h = np.tanh(np.concatenate([x, state["h"]], axis=1) @ self.W)
        most = np.logaddexp(state["most"], h)
        return h + most, {"h": h, "t": state["t"] + 1, "most": most}


# -- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [tr.mse, tr.mae, tr.huber])
@pytest.mark.parametrize("tupled", [True, False])
def test_targets_of_a_loss_are_constants(loss, tupled):
    model = tr.SequenceModel("gru", 3, 4, 1, RNG(0))
    inputs = [(XS, YS)] if tupled else [XS, YS]
    report = check_grads(model, *inputs, loss=lambda model, xs, ys: loss(model(xs), 2 * ys[:, :, :1]))
    assert [leaf.name for leaf in report.leaves][-1] == "xs"
    assert f"not checked: ys, as the targets of {loss.__name__} get no gradient" in report.notes


def test_distributions_as_targets_are_constants():
    p = np.full((2, 5, 3), 1 / 3)
    for loss in (tr.cross_entropy, tr.binary_cross_entropy):
        assert [leaf.name for leaf in check_grads(lambda x, p, loss=loss: loss(x, p), XS, p).leaves] == ["x"]


def test_inputs_that_are_also_targets_are_constants():
    cell = tr.GRUCell(3, 3, RNG(0), np.float64)
    report = check_grads(lambda xs: tr.mse(tr.unroll(cell, xs[:, :-1])[0], xs[:, 1:]), XS, parameters=cell.parameters())
    assert [leaf.name for leaf in report.leaves] == ["Wx", "Wh", "b", "bh"]


def test_a_prediction_in_the_place_of_targets_is_refused():
    model = tr.SequenceModel("gru", 3, 4, 1, RNG(0))
    with pytest.raises(tr.UnsupportedError, match="exchange the arguments"):
        check_grads(model, XS, YS, loss=lambda model, xs, ys: tr.mse(ys, model(xs)))
    y = tr.tensor(YS, requires_grad=True)
    with pytest.raises(tr.UnsupportedError, match="targets are constants"):
        check_grads(model, XS, y, loss=lambda model, xs, ys: tr.mse(model(xs), ys))


def test_targets_that_are_written_to_are_found():
    def loss(model, xs, ys):
        found = tr.mse(model(xs), ys)
        ys.data.flags.writeable = True
        ys.data[...] += 1
        return found

    with pytest.raises(GradCheckError, match="wrote into its input ys"):
        check_grads(tr.SequenceModel("gru", 3, 4, 1, RNG(0)), XS, YS.copy(), loss=loss)


# -- first states -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("xs", [XS, XS[:, 0]])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_learned_first_state(xs, dtype):
    report = check_grads(Learned(dtype), xs, order=2)
    assert [leaf.name for leaf in report.leaves] == ["W", "h0", "xs" if xs.ndim == 3 else "x", "state.h"]
    checked = check_grads(Learned(dtype), xs)
    assert "not checked: state.most, which has values that are not finite" in checked.notes


def test_a_mistake_in_a_learned_first_state_is_found():
    class Wrong(Learned):
        def initial_state(self, batch_size):
            return super().initial_state(batch_size) | {"h": np.broadcast_to(self.h0.data, (batch_size, 3))}

    with pytest.raises(GradCheckError, match=r"h0\[\d\]: no gradient"):
        check_grads(Wrong(), XS)


@pytest.mark.parametrize("policy", ["full", "chunked:2", "windowed:3/2", "rtrl"])
def test_under_a_policy_a_learned_first_state_is_left_out(policy):
    report = check_grads(Learned(), XS, truncation=policy)
    assert [leaf.name for leaf in report.leaves][:1] == ["W"]
    assert "not checked: h0, which a learned first state alone is computed from" in report.notes


# -- gradients within the function ------------------------------------------------------------------------------------


def adapted(w, x, y, rate, create_graph=True):
    """The loss after a step of gradient descent."""

    def loss(w):
        return np.mean((np.tanh(x @ w) - y) ** 2)

    return loss(w - rate * tr.grad(loss(w), w, create_graph=create_graph))


INNER = RNG(0).standard_normal((3, 2)), RNG(1).standard_normal((4, 3)), RNG(2).standard_normal((4, 2)), 0.3


@pytest.mark.parametrize("method", ["complex", "longdouble"])
def test_a_function_that_takes_a_gradient(method):
    check_grads(adapted, *INNER, method=method)
    check_grads(adapted, *INNER, order=2)


def test_a_gradient_within_that_was_not_recorded_is_found():
    with pytest.raises(GradCheckError, match=r"w\[.*wrong"):
        check_grads(lambda w, x, y: adapted(w, x, y, 0.3, create_graph=False), *INNER[:3])


def test_another_error_of_a_gradient_is_passed_on():
    with pytest.raises(tr.GradientError, match="no graph"):
        check_grads(lambda w: np.sum(w) + tr.grad(np.sum(tr.tensor(INNER[0])), w), INNER[0])
