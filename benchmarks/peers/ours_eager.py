"""tinygrad_rnn as it runs by itself: a graph recorded and walked backward at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_rnn as tr

from .task import LR, Config, Weights

VERSION = f"tinygrad_rnn {tr.__version__}"


class LeakyUnit(tr.Module):
    """The cell of `own_cell.py`, as a user writes it: a minimal gated unit whose candidate is normalised, and a leak.

    f = sigmoid(x @ Wx_f + h @ Wf + b_f); n = tanh(gain * norm(x @ Wx_n + (f * h) @ Wn + b_n) + shift), norm over the
    units; h' = h + sigmoid(leak) * f * (n - h).
    Sources: Zhou et al. 2016 (minimal gated unit); Ba et al. 2016 (layer normalisation).
    """

    def __init__(self, input_size: int, hidden_size: int, rng: np.random.Generator, dtype: Any) -> None:
        D, H = input_size, hidden_size  # the values come from the task's weights, so nothing is drawn
        self.Wx, self.b = tr.parameter(np.zeros((D, 2 * H)), dtype), tr.parameter(np.zeros(2 * H), dtype)
        self.Wf, self.Wn = tr.parameter(np.zeros((H, H)), dtype), tr.parameter(np.zeros((H, H)), dtype)
        self.gain, self.shift = tr.parameter(np.ones(H), dtype), tr.parameter(np.zeros(H), dtype)
        self.leak = tr.parameter(np.zeros(H), dtype)

    def initial_state(self, batch_size: int) -> Any:
        return np.zeros((batch_size, self.leak.shape[0]), self.leak.dtype)

    def __call__(self, x: Any, h: Any) -> tuple[Any, Any]:
        x_f, x_n = np.split(x @ self.Wx + self.b, 2, axis=1)
        f = tr.sigmoid(x_f + h @ self.Wf)
        a = x_n + (f * h) @ self.Wn
        a = a - np.mean(a, axis=1, keepdims=True)
        a = a / np.sqrt(np.mean(a * a, axis=1, keepdims=True) + 1e-5)
        n = np.tanh(self.gain * a + self.shift)
        h = h + tr.sigmoid(self.leak) * f * (n - h)
        return h, h


def make_model(config: Config, weights: Weights) -> tr.RNNLM:
    """Return the language model with these weights."""
    cell = LeakyUnit if config.cell == "leaky" else config.cell
    rng = np.random.default_rng(0)
    model = tr.RNNLM(config.V, config.D, config.H, rng, cell=cell, layers=config.layers, dtype=config.dtype)
    model.load(weights)
    return model


def start(config: Config, weights: Weights, carry: bool = True) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    model, optimizer = make_model(config, weights), tr.SGD(LR)
    parameters, state = model.parameters(), model.initial_state(config.N)

    def step(ids: Any, targets: Any) -> float:
        nonlocal state
        loss, after = model.loss(ids, targets, tr.cut(state))
        state = after if carry else state
        optimizer.update(parameters, tr.grad(loss, parameters))
        return loss.item()

    return step
