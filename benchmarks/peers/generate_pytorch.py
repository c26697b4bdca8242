"""PyTorch: one token of N streams a step, drawn with `multinomial`. The first step says the nats of what follows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from .generate_ours import TEMPERATURE
from .pytorch import VERSION as VERSION
from .pytorch import Model, load
from .task import Config, Weights


def multinomial(p: Any) -> Any:
    """Return ids (N,) drawn from probabilities (N, V)."""
    return torch.multinomial(p, 1)[:, 0]


def start(config: Config, weights: Weights, draw: Callable[[Any], Any] = multinomial) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = Model(config)
    load(model, config, weights)
    zeros = torch.zeros(config.layers, config.N, config.H)
    state: Any = (zeros, zeros) if config.cell == "lstm" else zeros
    now: Any = None

    @torch.no_grad()
    def step(ids: Any, targets: Any) -> float:
        nonlocal state, now
        first = now is None
        if first:
            now = torch.from_numpy(ids[:, 0].copy())
        hs, state = model.layers(model.embedding(now[None]), state)
        logits = model.output(hs[0])
        now = draw(torch.softmax(logits / TEMPERATURE, -1))
        if not first:
            now.tolist()  # whoever draws tokens wants to see them
            return 0.0
        return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets[:, 0].copy())))

    return step
