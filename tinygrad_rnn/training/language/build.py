"""From the names and numbers of a configuration to model, optimizer, policy and schedule."""

from __future__ import annotations

from ...config import TrainConfig
from ...data.batches import OffsetBatches
from ...errors import ConfigError
from ...imports import import_object
from ...nn.models import RNNLM
from ...optim import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Lion,
    Momentum,
    Plateau,
    RMSprop,
    Rule,
    Schedule,
    Warmup,
)
from ...truncation import Policy, parse_policy
from ..loop.streams import stream

_OPTIMIZERS: dict[str, type[Rule]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "lion": Lion,
}


def make_model(config: TrainConfig, vocab_size: int) -> RNNLM:
    """Return the model of a configuration, with its first weights drawn from `stream(seed, 0)`.

    `config.model` names a function of the user's, make(vocab_size, config, rng), which is imported, and so is a cell
    that `config.cell` names as module:Name.

    Args:
        config: of the run.
        vocab_size: V.

    Raises:
        ConfigError: if the named object cannot be imported, or does not return a model.

    >>> make_model(TrainConfig(hidden_size=4), vocab_size=10).parameter_count()  # 10*4 + 4*16 + 4*16 + 16 + 4*10 + 10
    234
    """
    rng = stream(config.seed, 0)
    if config.model:
        made: RNNLM = import_object("model", config.model)(vocab_size, config, rng)
        if not all(callable(getattr(made, name, None)) for name in ("initial_state", "loss", "parameters")):
            raise ConfigError(
                f"model: {config.model} must return a Module with initial_state(batch_size) and "
                f"loss(ids, targets, state, rng=rng), got {type(made).__name__}"
            )
        return made
    return RNNLM(
        vocab_size,
        config.embedding_width,
        config.hidden_size,
        rng,
        cell=import_object("cell", config.cell) if ":" in config.cell else config.cell,
        layers=config.layers,
        dropout=config.dropout,
        tied=config.tied,
        dtype=config.dtype,
    )


def named_executor(config: TrainConfig) -> str | None:
    """Return the executor that a configuration names, as `compile` takes it; None if the environment may choose.

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

    The passes of full, decay, randomized, adaptive and checkpointed run every bptt steps.

    Raises:
        ConfigError: if the text is not that of a policy.

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
