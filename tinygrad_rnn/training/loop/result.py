"""What an update returns."""

from __future__ import annotations

from typing import NamedTuple

from ...engine.tree import brief
from ...metrics import Metric
from ...nn.cells import State


class StepResult(NamedTuple):
    """One update.

    Attributes:
        loss: mean over the batches of the update, before it.
        state: after the last batch, arrays.
        metrics: name to mean, or to a `Metric`.
        weight: the number of elements that the means are taken over: given by the loss function, else N (under a
            truncation policy N * T).
        gradient_norm: global norm before clipping.
        lr: learning rate of the update.
        step: number of updates before this one.
    """

    loss: float
    state: State
    metrics: dict[str, float | Metric]
    weight: float
    gradient_norm: float
    lr: float
    step: int

    def __repr__(self) -> str:
        return brief(self)
