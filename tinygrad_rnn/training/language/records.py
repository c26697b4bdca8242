"""Records of the epochs of a language model, and of its whole run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..inference.evaluation import perplexity
from ..runs.records import Record


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a language model: a line of metrics.jsonl.

    Attributes:
        epoch: counted from 1.
        step: updates since the start of the run.
        train_nats: mean training loss, nats per token, with dropout, each window's loss before its update.
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


def epoch_record(record: Record) -> EpochRecord:
    """Return the record of an epoch as that of a language model."""
    train, valid = record.train["loss"], record.valid["loss"]
    return EpochRecord(
        epoch=record.epoch,
        step=record.step,
        train_nats=train,
        train_perplexity=perplexity(train),
        valid_nats=valid,
        valid_perplexity=perplexity(valid),
        valid_bits=valid / math.log(2),
        lr=record.lr,
        gradient_norm=record.gradient_norm,
        tokens=round(record.weight),
        tokens_per_s=record.weight / record.train_seconds,
        seconds=record.seconds,
        interrupted=record.interrupted,
    )
