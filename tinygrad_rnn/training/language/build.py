"""From the names and numbers of a configuration to model, optimizer, policy and schedule."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ...config import TrainConfig
from ...data.batches import OffsetBatches
from ...errors import ConfigError
from ...exits import INPUT_ERRORS
from ...imports import import_object
from ...nn.awd import AWDLM
from ...nn.cells import output_size
from ...nn.models import RNNLM
from ...optim import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Averaged,
    Constant,
    Cosine,
    Lion,
    Momentum,
    Optimizer,
    Plateau,
    RMSprop,
    Rule,
    Schedule,
    StepDecay,
    Warmup,
)
from ...truncation import Policy, parse_policy
from ..loop.streams import stream

_OPTIMIZERS: dict[str, type[Rule]] = {
    "sgd": SGD,
    "asgd": SGD,
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
        ConfigError: if the named object cannot be imported, raises an error, or does not return a model.

    >>> make_model(TrainConfig(hidden_size=4), vocab_size=10).parameter_count()  # 10*4 + 4*16 + 4*16 + 16 + 4*10 + 10
    234
    """
    made = _made(config, vocab_size, stream(config.seed, 0))
    if config.init_scale:
        rng = stream(config.seed, 6)
        for parameter in made.parameters().values():
            parameter.data = rng.uniform(-config.init_scale, config.init_scale, parameter.shape)
    return made


def _made(config: TrainConfig, vocab_size: int, rng: np.random.Generator) -> RNNLM:
    if config.model:
        return _own(config.model, vocab_size, config, rng)
    cell = import_object("cell", config.cell) if ":" in config.cell else config.cell
    sizes = vocab_size, config.embedding_width, config.hidden_size
    with _named("cell", config.cell, "f(input_size, hidden_size, rng) that makes a cell"):
        return RNNLM(
            *sizes,
            rng,
            cell=cell,
            layers=config.layers,
            dropout=config.dropout,
            tied=config.tied,
            dtype=config.dtype,
        )


def _own(name: str, vocab_size: int, config: TrainConfig, rng: np.random.Generator) -> RNNLM:
    """Return the model that a function of the user's makes."""
    make = import_object("model", name)
    with _named("model", name, "make(vocab_size, config, rng) that returns the model"):
        made: RNNLM = make(vocab_size, config, rng)
    expected = (
        f"model: {name} must return a Module with initial_state(batch_size) and loss(ids, targets, state, rng=rng)"
    )
    if not all(callable(getattr(made, method, None)) for method in ("initial_state", "loss", "parameters")):
        raise ConfigError(f"{expected}, got {type(made).__name__}")
    try:
        inspect.signature(made.loss).bind(None, None, None, rng=None)
        inspect.signature(made.initial_state).bind(1)
    except TypeError as error:
        raise ConfigError(f"{expected}; those of {type(made).__name__} take other arguments: {error}") from error
    return made


@contextmanager
def _named(setting: str, name: str, expected: str) -> Iterator[None]:
    """Name the user's function in what it raises, on one line; errors of this package say enough.

    Raises:
        ConfigError: for any error that is not one of this package's.
    """
    try:
        yield
    except INPUT_ERRORS:
        raise
    except Exception as error:  # whatever the user's function raises
        raise ConfigError(
            f"{setting}: {name} raised {type(error).__name__}: {error}; expected a function {expected}"
        ) from error


def awd_lm(vocab_size: int, config: TrainConfig, rng: np.random.Generator) -> AWDLM:
    """Return the model of the ready configuration "awd-like", for `--model`: an `AWDLM` of a configuration's sizes.

    Source of the first weights: the code of Merity, Keskar and Socher 2018.

    >>> awd_lm(10, TrainConfig(hidden_size=4, embedding_size=3, layers=2), stream(0)).layers[-1].output_size
    3
    """
    sizes = config.embedding_width, config.hidden_size
    made = AWDLM(vocab_size, *sizes, rng, layers=config.layers, dropout=config.dropout, dtype=config.dtype)
    for layer in made.layers:  # as in the paper's code, by PyTorch's rule for an LSTM: uniform in +- 1/sqrt(H)
        limit = output_size(layer, config.hidden_size) ** -0.5
        for parameter in layer.parameters().values():
            parameter.data = rng.uniform(-limit, limit, parameter.shape)
    return made


def named_executor(config: TrainConfig) -> str | None:
    """Return the executor that a configuration names, as `compile` takes it; None if the environment may choose.

    >>> named_executor(TrainConfig(executor="numpy")), named_executor(TrainConfig())
    ('numpy', None)
    """
    return None if config.executor == "auto" else config.executor


def make_optimizer(config: TrainConfig) -> Optimizer:
    """Return the optimizer of a configuration; that of "asgd" averages from its `begin()` on, see `averaging_is_due`.

    >>> make_optimizer(TrainConfig(optimizer="sgd", lr=0.5)).lr
    0.5
    """
    rule = _OPTIMIZERS[config.optimizer](config.lr, weight_decay=config.weight_decay)
    return Averaged(rule, decay=None, start=None) if config.optimizer == "asgd" else rule


def averaging_is_due(losses: Sequence[float], nonmonotone: int) -> bool:
    """Return whether the last held-out loss is above the best of those before the last n.

    Source: Merity, Keskar and Socher 2018, Regularizing and optimizing LSTM language models, algorithm 1.

    Args:
        losses: held-out losses of the epochs so far.
        nonmonotone: n, 1 or more.

    >>> averaging_is_due([5.0, 4.0, 4.2], 1), averaging_is_due([5.0, 4.0, 4.2], 2), averaging_is_due([4.0, 5.0], 2)
    (True, False, False)
    """
    return len(losses) > nonmonotone and losses[-1] > min(losses[:-nonmonotone])


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
    return len(policy.passes(windows.tokens // windows.batch_size))


def make_schedule(config: TrainConfig, total_steps: int) -> Schedule:
    """Return the learning-rate schedule of a configuration.

    Args:
        config: of the run.
        total_steps: updates in the whole run, for the cosine and the decay.

    >>> make_schedule(TrainConfig(schedule="constant", lr=0.1, warmup=10), total_steps=100).lr(4)
    0.05
    """
    schedule: Schedule
    if config.schedule == "decay":
        changes = range(config.decay_after, config.epochs)
        updates = max(1, total_steps // config.epochs)
        schedule = StepDecay(config.lr, [updates * epoch for epoch in changes], config.decay)
    elif config.schedule == "cosine":
        schedule = Cosine(config.lr, total_steps)
    elif config.schedule == "halving":
        schedule = Plateau(config.lr)
    else:
        schedule = Constant(config.lr)
    return Warmup(schedule, config.warmup) if config.warmup else schedule
