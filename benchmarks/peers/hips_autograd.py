"""HIPS autograd: the one-layer RNN, step by step."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import autograd.numpy as np
from autograd import value_and_grad
from autograd.tracer import getval

from .task import LR, Config, Weights

VERSION = f"autograd {version('autograd')}"


def start(config: Config, weights: Weights) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    names = ("embedding.W", "layers.0.Wx", "layers.0.Wh", "layers.0.b", "output.W", "output.b")
    parameters = tuple(weights[name].copy() for name in names)
    state: Any = np.zeros((config.N, config.H), np.float32)

    def loss(parameters: Any, ids: Any, targets: Any) -> Any:
        nonlocal state
        embedding, Wx, Wh, b, W, b_out = parameters
        h, hs = state, []
        for x in ids.T:
            h = np.tanh(np.dot(embedding[x], Wx) + np.dot(h, Wh) + b)
            hs.append(h)
        state = getval(h)
        logits = np.dot(np.concatenate(hs), W) + b_out
        logits = logits - np.max(logits, axis=1, keepdims=True)
        picked = logits[np.arange(targets.size), targets.T.reshape(-1)]
        return np.mean(np.log(np.sum(np.exp(logits), axis=1)) - picked)

    gradient = value_and_grad(loss)

    def step(ids: Any, targets: Any) -> float:
        value, grads = gradient(parameters, ids, targets)
        for p, g in zip(parameters, grads, strict=True):
            p -= LR * g
        return float(value)

    return step
