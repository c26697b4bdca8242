"""From the names and numbers of a configuration to the objects that they mean."""

from __future__ import annotations

import numpy as np

from ..config import TrainConfig
from ..data.batches import OffsetBatches
from ..nn.models import RNNLM
from ..optim import SGD, Adam, AdamW, Constant, Cosine, Momentum, Plateau, RMSprop, Rule, Schedule, Warmup
from ..truncation import Policy, parse_policy

_OPTIMIZERS: dict[str, type[Rule]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
}


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of one purpose: the same key gives the same numbers, other keys independent ones.

    Args:
        seed: seed of the run.
        key: what the numbers are for, such as (1, epoch) for an epoch's dropout.

    >>> stream(0, 1, 2).integers(100) == stream(0, 1, 2).integers(100)
    np.True_
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def make_model(config: TrainConfig, vocab_size: int) -> RNNLM:
    """Return the model of a configuration, with its first weights drawn from `stream(seed, 0)`.

    Args:
        config: of the run.
        vocab_size: V.

    >>> make_model(TrainConfig(hidden_size=4), vocab_size=10).parameter_count()  # 10*4 + 4*16 + 4*16 + 16 + 4*10 + 10
    234
    """
    return RNNLM(
        vocab_size,
        config.embedding_width,
        config.hidden_size,
        stream(config.seed, 0),
        cell=config.cell,
        layers=config.layers,
        dropout=config.dropout,
        tied=config.tied,
        dtype=config.dtype,
    )


def named_executor(config: TrainConfig) -> str | None:
    """Return the executor that a configuration names, as `compile` takes it; None where the environment may choose.

    >>> named_executor(TrainConfig(executor="numpy")), named_executor(TrainConfig())
    ('numpy', None)
    """
    return None if config.executor == "auto" else config.executor


def make_optimizer(config: TrainConfig) -> Rule:
    """Return the optimizer of a configuration.

    >>> make_optimizer(TrainConfig(optimizer="sgd", lr=0.5)).lr
    0.5
    """
    return _OPTIMIZERS[config.optimizer](config.lr, weight_decay=config.weight_decay)


def make_policy(config: TrainConfig) -> Policy | None:
    """Return the truncation policy of a configuration; None: one update a window of bptt steps, cut in between.

    Full, decay, randomized, adaptive and checkpointed have their passes every bptt steps.

    Raises:
        ConfigError: if the text names no policy.

    >>> make_policy(TrainConfig(truncation="windowed:70/35"))
    Windowed(h=70, every=35)
    """
    if not config.truncation:
        return None
    return parse_policy(config.truncation, config.bptt, stream(config.seed, 3), argument="truncation")


def updates_per_pass(windows: OffsetBatches, policy: Policy | None) -> int:
    """Return how many updates one pass over the windows makes under a policy.

    >>> import numpy as np
    >>> windows = OffsetBatches(np.arange(101), batch_size=2, bptt=20)  # streams of 50 tokens
    >>> updates_per_pass(windows, None), updates_per_pass(windows, parse_policy("windowed:20/5"))
    (3, 10)
    """
    if policy is None or policy.every is None:
        return len(windows)
    return len(policy.passes(windows.stream_length))


def make_schedule(config: TrainConfig, total_steps: int) -> Schedule:
    """Return the learning-rate schedule of a configuration.

    Args:
        config: of the run.
        total_steps: updates in the whole run, for the cosine.

    >>> make_schedule(TrainConfig(schedule="constant", lr=0.1, warmup=10), total_steps=100).lr(4)
    0.05
    """
    schedule: Schedule
    if config.schedule == "cosine":
        schedule = Cosine(config.lr, total_steps)
    elif config.schedule == "halving":
        schedule = Plateau(config.lr)
    else:
        schedule = Constant(config.lr)
    return Warmup(schedule, config.warmup) if config.warmup else schedule
