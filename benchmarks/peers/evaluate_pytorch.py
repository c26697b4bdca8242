"""PyTorch: the mean loss over a text of N streams of T tokens, without gradients, a step."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .pytorch import VERSION as VERSION
from .pytorch import Model, load
from .task import Config, Weights


def start(config: Config, weights: Weights) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = Model(config)
    load(model, config, weights)
    zeros = torch.zeros(config.layers, config.N, config.H)
    state: Any = (zeros, zeros) if config.cell == "lstm" else zeros

    @torch.no_grad()
    def step(ids: Any, targets: Any) -> float:
        text = np.append(ids.ravel(), targets[-1, -1])
        xs, ts = (torch.from_numpy(part.reshape(config.N, config.T).T.copy()) for part in (text[:-1], text[1:]))
        loss, _ = model(xs, ts, state)
        return float(loss)

    return step
