"""tinygrad_rnn: `generate`, one token of N streams a step. The first step says the nats of what follows instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinygrad_rnn as tr

from .ours_eager import VERSION as VERSION
from .ours_eager import make_model
from .task import Config, Weights

TEMPERATURE = 0.8
ENDLESS = 1 << 40  # tokens


def start(config: Config, weights: Weights, compiled: bool = True) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    stepper = tr.Stepper(make_model(config, weights), compiled=compiled)
    vocabulary = tr.Vocabulary([str(n) for n in range(config.V)])
    tokens: Iterator[Any] | None = None

    def step(ids: Any, targets: Any) -> float:
        nonlocal tokens
        if tokens is None:
            logits, _ = stepper(ids[:, 0])
            prompt = ids[0, :1] if config.N == 1 else ids[:, :1]
            rng = np.random.default_rng(0)
            tokens = tr.generate(stepper, vocabulary, prompt, ENDLESS, temperature=TEMPERATURE, rng=rng)
            return float(tr.cross_entropy(logits, targets[:, 0]).item())
        next(tokens)
        return 0.0

    return step
