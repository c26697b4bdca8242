"""tinygrad_rnn on the examples: `TrainStep`, as the `Trainer` of each example makes its updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tinygrad_rnn as tr

from . import examples_task
from .examples_task import TASKS, Config
from .ours_eager import VERSION as VERSION

TASK = examples_task


def start(config: Config, weights: dict[str, Any]) -> Callable[[Any], float]:
    """Return what goes through a window, an update for each batch, and returns the mean loss."""
    task = TASKS[config.task]
    model = task.model()
    model.load(weights)
    optimizer = tr.AdamW(task.lr, weight_decay=task.decay) if task.decay else tr.Adam(task.lr)
    step = tr.TrainStep(model, task.loss, optimizer, clip=task.clip)

    def window(batches: Any) -> float:
        state, total = task.state(model) if task.state else None, 0.0
        for batch in batches:
            result = step(batch, state)
            state, total = result.state, total + result.loss
        return total / len(batches)

    return window
