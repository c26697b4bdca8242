"""How far back the gradient reaches: the numbers against the engine, and the plot."""

import builtins

import numpy as np
import pytest
from matplotlib.figure import Figure

import tinygrad_rnn as tr
from tinygrad_rnn.errors import ConfigError, DrawingError
from tinygrad_rnn.graphs.plot import plot_gradient_flow

POLICIES = {"full": lambda t: True, "chunked:3": lambda t: t % 3 != 0}


def model_and_text(cell="rnn", layers=1, T=8):
    rng = np.random.default_rng(0)
    text = rng.integers(0, 9, (2, T + 1))
    return tr.RNNLM(9, 6, 5, rng, cell=cell, layers=layers, dtype=np.float64), text[:, :-1], text[:, 1:]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("losses", ["last", "all"])
def test_norms_are_those_of_the_state_gradient(policy, losses):
    model, ids, targets = model_and_text(layers=2)
    found = plot_gradient_flow(model, ids, targets, policies=[policy], losses=losses)[policy]
    assert list(found) == ["layers.0 h", "layers.1 h"]
    for t in range(1, 8):
        state, total = model.initial_state(2), 0.0
        for step in range(8):
            state = state if POLICIES[policy](step) or not step else tr.cut(state)
            if step == t:
                before = state = tuple(part * 1.0 for part in state)
            loss, state = model.loss(ids[:, step : step + 1], targets[:, step : step + 1], state)
            total = total + loss / 8 if losses == "all" else loss
        gradients = tr.grad(total, before, allow_unused=True) if POLICIES[policy](t) else [0.0, 0.0]
        for name, gradient in zip(found, gradients, strict=True):
            assert found[name][t - 1] == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-9, abs=1e-15)


def test_both_parts_of_an_lstm_state_and_every_policy_are_there():
    found = plot_gradient_flow(*model_and_text("lstm"), policies=["full", tr.Decay(0.5), "randomized:0.3"])
    assert list(found) == ["full", "decay:0.5", "randomized:0.3"]
    assert all(list(norms) == ["layers.0 c", "layers.0 h"] for norms in found.values())
    assert all(len(values) == 7 for norms in found.values() for values in norms.values())


def test_a_loss_that_is_recorded_already():
    model, ids, targets = model_and_text("gru")
    found = plot_gradient_flow(model.loss(ids, targets)[0])
    assert list(found) == ["as recorded"]
    assert all(value > 0 for value in found["as recorded"]["layers.0 h"])


def test_a_cell_of_ones_own_with_a_policy_of_ones_own():
    class Third(tr.Policy):
        every = None

        def scale(self, edge, end):
            return 1 / 3

    cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    found = plot_gradient_flow(cell, np.ones((2, 5, 3), np.float32), policies=[Third()])
    assert "Third" in next(iter(found))


def test_the_plot_has_a_line_for_each_state_and_policy(tmp_path):
    axes = Figure().subplots()
    found = plot_gradient_flow(*model_and_text(layers=2), policies=["full", "chunked:3"], axes=axes)
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    expected = [f"{state}, {policy}" for policy, norms in found.items() for state in norms]
    assert list(lines) == [*expected, "stopped by a cut"]
    for policy, norms in found.items():
        for state, values in norms.items():
            drawn = lines[f"{state}, {policy}"].get_ydata()
            assert np.array_equal(drawn, [value if value else np.nan for value in values], equal_nan=True)
    assert axes.get_yscale() == "log"
    path = tmp_path / "flow.png"
    plot_gradient_flow(*model_and_text(), path=path)
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_policies_need_an_example():
    model, ids, targets = model_and_text()
    with pytest.raises(ConfigError, match="needs a model or cell with its example"):
        plot_gradient_flow(model.loss(ids, targets)[0], policies=["full"])


def test_steps_that_differ_are_named():
    cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    outputs, _ = tr.unroll(cell, np.ones((2, 5, 3), np.float32), lengths=[3, 5])
    with pytest.raises(DrawingError, match="plot_gradient_flow: step t = "):
        plot_gradient_flow(np.sum(outputs))


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert plot_gradient_flow(*model_and_text())
    with pytest.raises(ImportError, match=r"tinygrad_rnn\[plot\]"):
        plot_gradient_flow(*model_and_text(), path=tmp_path / "flow.png")
