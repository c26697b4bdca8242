"""What is kept of each epoch, and of a whole run."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """One epoch of any task.

    Attributes:
        epoch: counted from 1.
        step: updates since the start of the run.
        train: name to mean over the epoch, the loss as "loss"; each batch's from before its update.
        valid: name to mean over the held-out batches after the epoch; empty without any.
        lr: learning rate of the last update.
        gradient_norm: mean global norm of the gradient before clipping.
        weight: what the means of training are over.
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
        rows = _rows(self.records)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*lines, f"best epoch: {self.best.epoch}"])

    def _repr_html_(self) -> str:
        """Return the table for a notebook, the best epoch in bold."""
        head, *rows = _rows(self.records)
        body = "".join(
            f"<tr{' style=font-weight:bold' if record is self.best else ''}>{_cells(row, 'td')}</tr>"
            for record, row in zip(self.records, rows, strict=True)
        )
        return f"<table><thead><tr>{_cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _rows(records: Sequence[Record]) -> list[list[str]]:
    rows = [record.row() for record in records]
    columns = [*dict.fromkeys(name for row in rows for name in row)]
    return [columns, *([row.get(name, "") for name in columns] for row in rows)]


def _cells(texts: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a language model, as a line of metrics.jsonl holds it.

    Attributes:
        epoch: counted from 1.
        step: updates since the start of the run.
        train_nats: mean training loss, nats per token, with dropout, each window's from before its update.
        train_perplexity: exp(train_nats).
        valid_nats: held-out loss after the epoch, nats per token.
        valid_perplexity: exp(valid_nats).
        valid_bits: held-out loss in bits per token (bits per character at the character level).
        lr: learning rate of the last update.
        gradient_norm: mean global norm of the gradient before clipping.
        tokens: trained on in this epoch.
        tokens_per_s: training speed, tokens/s, without the evaluation.
        seconds: for training and evaluation.
        interrupted: whether the epoch was cut short.
    """

    epoch: int
    step: int
    train_nats: float
    train_perplexity: float
    valid_nats: float
    valid_perplexity: float
    valid_bits: float
    lr: float
    gradient_norm: float
    tokens: int
    tokens_per_s: float
    seconds: float
    interrupted: bool


@dataclass(frozen=True)
class RunResult:
    """A whole run of a language model.

    Attributes:
        records: one for each epoch.
        best: the epoch with the lowest held-out loss; its parameters are the model's now.
        interrupted: whether a signal ended the run: Ctrl-C or SIGTERM.
        stopped_early: whether `patience` ended it.
        signal: the number of the signal that ended it; None: none did.
    """

    records: tuple[EpochRecord, ...]
    best: EpochRecord
    interrupted: bool
    stopped_early: bool
    signal: int | None = None
