"""tinygrad_rnn as it runs by itself: a graph recorded and walked backward at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_rnn as tr

from .task import LR, Config, Weights

VERSION = f"tinygrad_rnn {tr.__version__}"


def make_model(config: Config, weights: Weights) -> tr.RNNLM:
    """Return the language model with these weights."""
    cell, V, D, H, _, _, layers = config
    model = tr.RNNLM(V, D, H, np.random.default_rng(0), cell=cell, layers=layers)
    model.load(weights)
    return model


def start(config: Config, weights: Weights) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    model, optimizer = make_model(config, weights), tr.SGD(LR)
    parameters, state = model.parameters(), model.initial_state(config.N)

    def step(ids: Any, targets: Any) -> float:
        nonlocal state
        loss, state = model.loss(ids, targets, tr.cut(state))
        optimizer.update(parameters, tr.grad(loss, parameters))
        return loss.item()

    return step
