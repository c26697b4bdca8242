"""Records of the epochs of any task, and of a whole run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import DivergedError, NonFiniteError
from ...tables import html_table, text_table


@dataclass(frozen=True)
class Record:
    """One epoch of any task.

    Attributes:
        epoch: counted from 1.
        step: updates since the start of the run.
        train: name to mean over the epoch, the loss as "loss"; that of each batch before its update.
        valid: name to mean over the held-out batches after the epoch; empty without any.
        lr: learning rate of the last update.
        gradient_norm: mean global norm of the gradient before clipping.
        weight: the number of elements that the means of training are taken over.
        train_seconds: for training alone.
        seconds: for training and evaluation.
        interrupted: whether the epoch was cut short.
    """

    epoch: int
    step: int
    train: dict[str, float]
    valid: dict[str, float]
    lr: float
    gradient_norm: float
    weight: float
    train_seconds: float
    seconds: float
    interrupted: bool = False

    def values(self) -> dict[str, object]:
        """Return name to value: of all attributes, and of each mean as "train/NAME" or "valid/NAME".

        >>> Record(1, 9, {"loss": 2.5}, {}, 0.1, 1.0, 36.0, 0.5, 0.7).values()["train/loss"]
        2.5
        """
        means = {f"train/{name}": mean for name, mean in self.train.items()}
        means |= {f"valid/{name}": mean for name, mean in self.valid.items()}
        others = {name: value for name, value in vars(self).items() if name not in ("train", "valid", "epoch", "step")}
        return {"epoch": self.epoch, "step": self.step, **means, **others}

    def row(self) -> dict[str, str]:
        """Return column to text."""
        means = {f"train {name}": mean for name, mean in self.train.items()}
        means |= {f"valid {name}": mean for name, mean in self.valid.items()}
        return {
            "epoch": f"{self.epoch}{'*' if self.interrupted else ''}",
            "step": str(self.step),
            **{name: f"{mean:.4g}" for name, mean in means.items()},
            "lr": f"{self.lr:.2g}",
            "seconds": f"{self.seconds:.1f}",
        }


@dataclass(frozen=True)
class History:
    """A whole run of any task; it prints as a table, and is shown as one in a notebook.

    Attributes:
        records: one for each epoch.
        best: the epoch whose parameters are the model's now.
        interrupted: whether a signal ended the run: Ctrl-C or SIGTERM.
        stopped_early: whether `patience` ended it.
        signal: the number of the signal that ended it; None: none did.
    """

    records: tuple[Record, ...]
    best: Record
    interrupted: bool = False
    stopped_early: bool = False
    signal: int | None = None

    def __str__(self) -> str:
        return "\n".join([*text_table(_rows(self.records), right=True), f"best epoch: {self.best.epoch}"])

    def _repr_html_(self) -> str:
        """Return the table for a notebook, the best epoch in bold."""
        best = [number for number, record in enumerate(self.records) if record is self.best]
        return html_table(_rows(self.records), bold=best)


def _rows(records: Sequence[Record]) -> list[list[str]]:
    rows = [record.row() for record in records]
    columns = [*dict.fromkeys(name for row in rows for name in row)]
    return [columns, *([row.get(name, "") for name in columns] for row in rows)]


def check_losses(epoch: int, trained: float, held_out: float, limit: float) -> None:
    """Check the losses of an epoch.

    Raises:
        NonFiniteError: if the held-out loss is not finite.
        DivergedError: if both are above the limit.
    """
    if not math.isfinite(held_out):
        raise NonFiniteError(f"Trainer: the held-out loss after epoch {epoch} is {held_out}; lower lr or clip")
    if min(trained, held_out) > limit:
        raise DivergedError(
            f"Trainer: training diverged: in epoch {epoch} the training loss is {trained:.3g} and the "
            f"held-out loss {held_out:.3g}, above the limit of {limit:.3g}; lower lr or clip"
        )
