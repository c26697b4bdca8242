"""MyGrad: the one-layer RNN, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mygrad as mg
import numpy as np
from mygrad.nnet.losses import softmax_crossentropy

from .task import LR, Config, Weights

VERSION = f"MyGrad {mg.__version__}"


def start(config: Config, weights: Weights) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    names = ("embedding.W", "layers.0.Wx", "layers.0.Wh", "layers.0.b", "output.W", "output.b")
    parameters = [mg.tensor(weights[name].copy()) for name in names]
    embedding, Wx, Wh, b, W, b_out = parameters
    h: Any = np.zeros((config.N, config.H), np.float32)

    def step(ids: Any, targets: Any) -> float:
        nonlocal h
        hs = []
        for x in ids.T:
            h = mg.tanh(mg.matmul(embedding[x], Wx) + mg.matmul(h, Wh) + b)
            hs.append(h)
        loss = softmax_crossentropy(mg.matmul(mg.concatenate(hs), W) + b_out, targets.T.reshape(-1))
        loss.backward()
        for p in parameters:
            p.data -= LR * p.grad
            p.null_grad()
        h = h.data.copy()
        return loss.item()

    return step
