"""The training loop: one pass over batches, as one plain function."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from ...checks import generator, instance, integer
from ...engine.tensor import shape_of
from ...engine.tree import flatten
from ...errors import ConfigError, CorpusError, NonFiniteError
from ...metrics import Metric, merged
from ...nn.cells import State
from ...nn.module import Module
from ...optim import Optimizer, Schedule
from ...truncation import Adaptive, Policy, parse_policy
from .guards import parameters_of, warn_if_mixed
from .objective import Batch, Loss, Objective, language_loss
from .parts import Rng
from .result import StepResult
from .step import TrainStep

OnUpdate: TypeAlias = Callable[[StepResult], bool | None]
"""Called after each update; returns True to end the pass there."""


@dataclass(frozen=True)
class EpochResult:
    """One pass over the batches.

    Attributes:
        loss: mean training loss; that of each batch before its update.
        metrics: name to mean, computed in the same way.
        weight: the number of elements that the means are taken over: positions, for a language model.
        steps: updates.
        gradient_norm: mean of the updates' global norms before clipping.
        lr: learning rate of the last update.
        seconds: time taken.
        stopped: whether `on_update` ended the pass.
    """

    loss: float
    metrics: dict[str, float]
    weight: float
    steps: int
    gradient_norm: float
    lr: float
    seconds: float
    stopped: bool

    @property
    def nats(self) -> float:
        """The loss of a language model, in nats per token."""
        return self.loss

    @property
    def tokens(self) -> int:
        """Positions that a language model was trained on."""
        return round(self.weight)


@dataclass
class Totals:
    """The sums of a pass so far, and its position: the part of it that a checkpoint holds.

    Attributes:
        batches: batches (or pieces of them) that were read.
        steps, lr, seconds: as in `EpochResult`.
        weight: as in `EpochResult`.
        norms: sum of the norms.
        sums: name to sum of weight * mean, "loss" among them.
        metrics: name to metric of all so far.
    """

    batches: int = 0
    steps: int = 0
    weight: float = 0.0
    norms: float = 0.0
    lr: float = 0.0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)

    def add(self, result: StepResult, batches: int) -> None:
        """Add an update, and the number of batches that it was made from."""
        self.batches, self.steps = self.batches + batches, self.steps + 1
        self.norms, self.lr = self.norms + result.gradient_norm, result.lr
        self.take({"loss": result.loss, **result.metrics}, result.weight)

    def take(self, means: Mapping[str, float | Metric], weight: float) -> None:
        """Add means over `weight` elements, and metrics."""
        if not 0 <= weight < math.inf:
            raise ConfigError(
                f'loss: "weight" among the metrics, the number of elements, must be finite and 0 or more, got {weight}'
            )
        self.weight += weight
        for name, mean in means.items():
            if isinstance(mean, Metric):
                self.metrics[name] = merged([self.metrics[name], mean]) if name in self.metrics else mean
            else:  # where nothing counts, the mean of it is not a number
                self.sums[name] = self.sums.get(name, 0.0) + (mean * weight if weight else 0.0)

    @property
    def means(self) -> dict[str, float]:
        """Name to mean, over all of it, or to the value of a metric."""
        if self.sums and not self.weight:
            raise ConfigError(
                'loss: "weight" among the metrics is 0 in all batches, so nothing counts, and the mean is undefined'
            )
        means = {name: total / self.weight for name, total in self.sums.items()}
        return means | {name: metric.value for name, metric in self.metrics.items()}


def summed(parts: Sequence[Totals]) -> Totals:
    """Return the sums of what several processes have measured."""
    whole = Totals()
    for part in parts:
        whole.weight += part.weight
        for name, total in part.sums.items():
            whole.sums[name] = whole.sums.get(name, 0.0) + total
        whole.take(part.metrics, 0.0)
    return whole


def run_epoch(
    step: TrainStep,
    batches: Iterable[Batch],
    state: State = None,
    *,
    schedule: Schedule | None = None,
    rng: Rng = None,
    accumulate: int = 1,
    first: int = 0,
    totals: Totals | None = None,
    on_update: OnUpdate | None = None,
) -> EpochResult:
    """Train on batches that continue each other, and carry the state from each to the next.

    Args:
        step: makes the updates.
        batches: what its loss function takes, one after another; with a truncation policy that has passes of its own
            (`every`), they are cut into pieces as long as these.
        state: before the first batch.
        schedule: learning rate of each update; None: the optimizer's own.
        rng: generator for the loss function.
        accumulate: batches of an update.
        first: number of the first update, for the schedule and messages.
        totals: those of an interrupted pass, which is continued: its batches are skipped, and the rest is added.
        on_update: called after each update, once `totals` includes it; returns True to end the pass there.

    Raises:
        CorpusError: if there are no batches.
        NonFiniteError: if a loss or a gradient is not finite. The parameters are those before that update.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model, x = tr.Linear(3, 1, np.random.default_rng(0)), np.ones((4, 3), np.float32)
    >>> step = tr.TrainStep(model, lambda model, x: np.mean(model(x) ** 2), tr.SGD(lr=0.1))
    >>> result = run_epoch(step, [x] * 6, accumulate=2)
    >>> result.steps, result.weight
    (3, 24.0)
    """
    totals = Totals() if totals is None else totals
    params = parameters_of("run_epoch", step.model)
    pieces = itertools.islice(step.pieces(batches), totals.batches, None)
    stopped, started, before = False, time.perf_counter(), totals.seconds
    for group in _groups(pieces, accumulate):
        number = first + totals.steps
        if not number:
            warn_if_mixed("train_epoch", params, {"the state": state, "the batch": group[0]})
        lr = step.optimizer.lr if schedule is None else schedule.lr(number)
        try:
            result = step.accumulated(group, state, lr=lr, rng=rng, params=params)._replace(step=number)
        except NonFiniteError as error:
            raise NonFiniteError(f"update {number}: {error}") from error
        state = result.state
        totals.add(result, len(group))
        totals.seconds = before + time.perf_counter() - started
        if on_update is not None and on_update(result):
            stopped = True
            break
    if not totals.steps:
        raise CorpusError("train_epoch: batches (windows) is empty; an iterator can be used for one pass only")
    for parameter in params.values():
        parameter.data = parameter.data  # in memory of its own, which no plan writes to again
    means, norm = totals.means, totals.norms / totals.steps
    loss = means.pop("loss")
    return EpochResult(loss, means, totals.weight, totals.steps, norm, totals.lr, totals.seconds, stopped)


def train_epoch(
    model: Module,
    windows: Iterable[Batch],
    optimizer: Optimizer,
    state: State = None,
    *,
    loss: Loss | None = None,
    policy: Policy | str | None = None,
    schedule: Schedule | None = None,
    clip: float = 0.0,
    rng: np.random.Generator | None = None,
    step: int = 0,
    compiled: bool = False,
    on_window: OnUpdate | None = None,
) -> EpochResult:
    """Train a model on batches that continue each other, and carry the state from each to the next.

    Without a policy there is one update for each batch, and the state is cut in between: its value goes on, the
    gradient does not (truncated BPTT, Williams and Peng 1990). A policy that sets when its passes run (`every`) makes
    updates and cuts there, whatever the length of the batches; one that does not, such as `Full()` or `Decay(0.9)`,
    acts inside each batch. So memory holds one batch, or as much as the policy reaches back. The gradient is that of
    the mean loss over what an update covers; it and its norm are checked before the update.

    For several passes make a `TrainStep`, which keeps its plans, and call `run_epoch`; a `Trainer` does so.

    Args:
        model: a `Module`; without `loss`, one with `loss(ids, targets, state, rng=rng) -> (loss, state)`.
        windows: batches; without `loss` pairs (ids, targets), integers (N, T) without masked targets, such as an
            `OffsetBatches`.
        optimizer: gives the parameters new arrays.
        state: before the first batch, such as `model.initial_state(batch_size)`.
        loss: `loss(model, batch, state, rng) -> (loss, state, metrics)`, as in `TrainStep`; None: the model's own.
        policy: a truncation policy, or its text, whose passes run once a window unless it sets when; None: `Full()`.
        schedule: learning rate of each update; None: the optimizer's own.
        clip: largest global norm of the gradient; 0: no clipping.
        rng: generator for dropout; None: nothing is dropped.
        step: number of the first update, for the schedule and messages.
        compiled: make a plan of the update and replay it (see `TrainStep`): the same numbers to rounding, faster.
        on_window: called with the `StepResult` of each update; returns True to end the pass there.

    Returns:
        Means over the pass.

    Raises:
        ConfigError: if a setting is out of range, there is no such policy, or the model has no parameters; before the
            first update.
        CorpusError: if there are no batches.
        NonFiniteError: if a loss or a gradient is not finite; the message names the update, and what was not finite
            before it (the data, the state, a parameter). No parameter has been touched by that update.

    Warns:
        UserWarning: if the parameters, or what they meet, are of several dtypes.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.data import OffsetBatches
    >>> from tinygrad_rnn.optim import Adam
    >>> model = tr.RNNLM(3, 8, 8, np.random.default_rng(0), cell="gru")
    >>> windows, optimizer = OffsetBatches(np.arange(200) % 3, batch_size=2, bptt=5), Adam(lr=0.02)
    >>> passes = [train_epoch(model, windows, optimizer, model.initial_state(2)) for _ in range(3)]
    >>> passes[0].tokens, passes[2].nats < passes[0].nats
    (198, True)
    """
    parameters_of("train_epoch", model)
    instance("train_epoch", "optimizer", optimizer, Optimizer, "such as Adam(lr=0.001)")
    instance("train_epoch", "windows", windows, Iterable, "such as OffsetBatches")
    if schedule is not None:
        instance("train_epoch", "schedule", schedule, Schedule, "such as Cosine(0.1, total_steps)")
    first = integer("train_epoch", "step", step, low=0)
    if rng is not None:
        generator("train_epoch", "rng", rng)
    batches = iter(windows)
    if loss is None:
        batches = _pairs(batches)
        loss = Objective(language_loss, f"{type(model).__name__}.loss")
    policy, batches = _policy_for(policy, batches)
    update = TrainStep(model, loss, optimizer, clip=clip, policy=policy, compile=compiled)
    return run_epoch(update, batches, state, schedule=schedule, rng=rng, first=first, on_update=on_window)


def _groups(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    while group := list(itertools.islice(batches, size)):
        yield group


def _pairs(windows: Iterable[Batch]) -> Iterator[Batch]:
    for count, window in enumerate(windows):
        if not isinstance(window, tuple | list) or len(window) != 2:
            raise CorpusError(
                f"train_epoch: windows[{count}] must be a pair (inputs, targets), got {type(window).__name__}"
            )
        inputs, targets = (np.asarray(part) if isinstance(part, list) else part for part in window)
        yield inputs, targets


def _policy_for(policy: Policy | str | None, batches: Iterator[Batch]) -> tuple[Policy | None, Iterator[Batch]]:
    """Return the policy, and the batches; the passes of an adaptive policy given as text run once a batch.

    The length of the batches is taken from the first.
    """
    if policy is None:
        return None, batches
    found = parse_policy(policy, argument="train_epoch: policy")
    if not (isinstance(policy, str) and isinstance(found, Adaptive)):
        return found, batches
    for first in batches:
        every = shape_of(flatten(first)[0])[1]
        return parse_policy(policy, every, argument="train_epoch: policy"), itertools.chain([first], batches)
    return found, batches
