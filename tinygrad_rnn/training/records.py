"""What is kept of each epoch, and of a whole run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, as a line of metrics.jsonl holds it.

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
    """A whole run.

    Attributes:
        records: one for each epoch.
        best: the epoch with the lowest held-out loss; its parameters are the model's now.
        interrupted: whether Ctrl-C ended the run.
        stopped_early: whether `patience` ended it.
    """

    records: tuple[EpochRecord, ...]
    best: EpochRecord
    interrupted: bool
    stopped_early: bool
