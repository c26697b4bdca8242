"""The training loop: truncated backpropagation through time over windows of text, as one plain function."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import generator, integer, number
from ..errors import ConfigError, CorpusError, NonFiniteError
from ..nn.models import RNNLM
from ..optim import Optimizer, Schedule, clip_by_norm
from ..truncation import Full, Policy, Recurrence, Update
from .compiled import CompiledUpdate, is_compilable
from .guards import cause, parameters_of, warn_if_mixed


@dataclass(frozen=True)
class Window:
    """One update.

    Attributes:
        step: number of updates before this one.
        nats: mean loss of the positions that it covers, nats per token, before the update.
        tokens: positions that it covers, N * T.
        gradient_norm: global norm before clipping.
        lr: learning rate of the update.
    """

    step: int
    nats: float
    tokens: int
    gradient_norm: float
    lr: float


@dataclass(frozen=True)
class EpochResult:
    """One pass over the windows.

    Attributes:
        nats: mean training loss in nats per token; each position's from before its update.
        tokens: positions trained on.
        steps: updates.
        gradient_norm: mean of the windows' global norms before clipping.
        lr: learning rate of the last update.
        seconds: time taken.
        stopped: whether `on_window` ended the pass.
    """

    nats: float
    tokens: int
    steps: int
    gradient_norm: float
    lr: float
    seconds: float
    stopped: bool


def train_epoch(
    model: RNNLM,
    windows: Iterable[tuple[Any, Any]],
    optimizer: Optimizer,
    state: Any,
    *,
    policy: Policy | None = None,
    schedule: Schedule | None = None,
    clip: float = 0.0,
    rng: np.random.Generator | None = None,
    step: int = 0,
    compiled: bool | CompiledUpdate = False,
    on_window: Callable[[Window], bool] | None = None,
) -> EpochResult:
    """Train a model on windows that continue each other, and carry the state from each to the next.

    Without a policy there is one update for each window, and the state is cut in between: its value goes on, the
    gradient does not (truncated BPTT, Williams and Peng 1990). A policy makes updates and cuts where it says, whatever
    the length of the windows. The gradient is that of the mean loss of the positions that an update covers; it and its
    norm are checked before the update.

    Args:
        model: anything with `parameters()` and `loss(ids, targets, state, rng=rng) -> (loss, state)`.
        windows: pairs (ids, targets), integers (N, T) without masked targets, such as an `OffsetBatches`.
        optimizer: gives the parameters new arrays.
        state: before the first window, such as `model.initial_state(batch_size)`.
        policy: a truncation policy; None: one update a window.
        schedule: learning rate of each update; None: the optimizer's own.
        clip: largest global norm of the gradient; 0: no clipping.
        rng: generator for dropout; None: nothing is dropped.
        step: number of the first update, for the schedule and for messages.
        compiled: make a plan of the update and replay it (see `compile`): the same numbers to rounding, faster. A
            `CompiledUpdate` of this model, optimizer and policy keeps its plans from one pass to the next. Under a
            policy that is not `is_compilable` updates are recorded anew each time.
        on_window: called after each update; returns True to end the pass there.

    Returns:
        Means over the pass.

    Raises:
        ConfigError: if a setting is out of range, the model has no parameters, or `compiled` is an update of
            something else; before the first update.
        CorpusError: if there are no windows.
        NonFiniteError: if a loss or a gradient is not finite; the message names the update, and what was not finite
            before it (the data, the state, a parameter). No parameter has been touched by that update.

    Warns:
        UserWarning: if the parameters, or the state that they meet, are of several dtypes.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.data import OffsetBatches
    >>> from tinygrad_rnn.optim import Adam
    >>> model = tr.RNNLM(3, 8, 8, np.random.default_rng(0), cell="gru")
    >>> windows, optimizer = OffsetBatches(np.arange(200) % 3, batch_size=2, bptt=5), Adam(lr=0.02)
    >>> passes = [train_epoch(model, windows, optimizer, model.initial_state(2)) for _ in range(3)]
    >>> passes[0].tokens, passes[2].nats < passes[0].nats
    (198, True)
    """
    started = time.perf_counter()
    params = parameters_of("train_epoch", model)
    clip, rate = number("train_epoch", "clip", clip, low=0), _Rate(optimizer, schedule, step)
    if rng is not None:
        generator("train_epoch", "rng", rng)
    if not step:
        warn_if_mixed("train_epoch", params, state)
    if compiled and is_compilable(policy, rng is not None):
        update = _update(compiled, model, optimizer, clip, policy)
        parts = windows if policy is None or policy.every is None else _resized(windows, policy.every)
        windows_done = _compiled_updates(update, parts, state, rng, rate)
    else:
        windows_done = _eager_updates(model, windows, optimizer, state, policy, clip, rng, rate)
    steps, tokens, nats, norms, lr, stopped = 0, 0, 0.0, 0.0, optimizer.lr, False
    for window in windows_done:
        steps, tokens, nats = steps + 1, tokens + window.tokens, nats + window.nats * window.tokens
        norms, lr = norms + window.gradient_norm, window.lr
        if on_window is not None and on_window(window):
            stopped = True
            break
    if not steps:
        raise CorpusError("train_epoch: windows is empty; an iterator can be used for one pass only")
    for parameter in params.values():
        parameter.data = parameter.data  # memory of its own, which no plan writes again
    seconds = time.perf_counter() - started
    return EpochResult(nats / tokens, tokens, steps, norms / steps, lr, seconds, stopped)


class _Rate:
    """Numbers the updates, and knows the learning rate of each."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule | None, step: int) -> None:
        self._optimizer, self._schedule = optimizer, schedule
        self.step = integer("train_epoch", "step", step, low=0)

    @property
    def lr(self) -> float:
        return self._optimizer.lr if self._schedule is None else self._schedule.lr(self.step)


def _update(
    compiled: bool | CompiledUpdate, model: Any, optimizer: Optimizer, clip: float, policy: Policy | None
) -> CompiledUpdate:
    """Return the compiled update that was passed, if it is one of all these, or a new one."""
    if not isinstance(compiled, CompiledUpdate):
        return CompiledUpdate(model, optimizer, clip, policy)
    wanted = {"model": model, "optimizer": optimizer, "clip": clip or math.inf, "policy": policy}
    for name, value in wanted.items():
        if (own := getattr(compiled, name)) is not value and own != value:
            raise ConfigError(f"train_epoch: compiled is an update with another {name} ({own!r}) than {value!r}")
    return compiled


def _resized(windows: Iterable[tuple[Any, Any]], steps: int) -> Iterator[tuple[Any, Any]]:
    """Yield the same streams in windows of `steps` steps; the last may be shorter."""
    rest: tuple[Any, Any] | None = None
    for window in windows:
        ids, targets = (
            window if rest is None else (np.concatenate(pair, axis=1) for pair in zip(rest, window, strict=True))
        )
        whole = np.shape(ids)[1] // steps * steps
        for start in range(0, whole, steps):
            yield ids[:, start : start + steps], targets[:, start : start + steps]
        rest = ids[:, whole:], targets[:, whole:]
    if rest is not None and rest[0].shape[1]:
        yield rest


def _compiled_updates(
    update: CompiledUpdate,
    windows: Iterable[tuple[Any, Any]],
    state: Any,
    rng: np.random.Generator | None,
    rate: _Rate,
) -> Iterator[Window]:
    for ids, targets in windows:
        lr = rate.lr
        try:
            nats, norm, state = update(ids, targets, state, lr, rng)
        except NonFiniteError as error:
            raise NonFiniteError(f"train_epoch: update {rate.step}: {error}") from error
        yield Window(rate.step, nats, np.size(targets), norm, lr)
        rate.step += 1


def _eager_updates(
    model: RNNLM,
    windows: Iterable[tuple[Any, Any]],
    optimizer: Optimizer,
    state: Any,
    policy: Policy | None,
    clip: float,
    rng: np.random.Generator | None,
    rate: _Rate,
) -> Iterator[Window]:
    params = model.parameters()
    covered: list[Any] = []  # by the next update

    def window_loss(inputs: Any, state: Any) -> tuple[Any, Any]:
        ids, targets = inputs
        covered.append(inputs)
        loss, state = model.loss(ids, targets, state, rng=rng)
        if policy is not None:
            loss = loss * np.size(targets)  # a sum: how many positions share an update is the policy's business
        return loss, state

    run = Recurrence(window_loss, params, policy or Full(), state, rng)
    for update, size in _updates(run, windows, flush=policy is None):
        count = 1 if policy is None else size
        value = update.loss / count
        try:
            if not math.isfinite(value):
                raise NonFiniteError(f"the loss is {value}")
            grads, norm = clip_by_norm({name: g / count for name, g in update.gradients.items()}, clip or math.inf)
        except NonFiniteError as error:
            raise NonFiniteError(
                f"train_epoch: update {rate.step}: {error}: {cause(params, covered, None)}; no parameter was touched"
            ) from error
        covered.clear()
        lr = rate.lr
        optimizer.update(params, grads, lr)
        yield Window(rate.step, value, size, norm, lr)
        rate.step += 1


def _updates(run: Recurrence, windows: Iterable[tuple[Any, Any]], flush: bool) -> Iterator[tuple[Update, int]]:
    """Yield each update with the number of positions that it covers."""
    before, N = 0, 0
    for ids, targets in windows:
        N = len(ids)
        for update in run.feed((ids, targets)):
            yield update, N * (update.end - before)
            before = update.end
        if flush and (last := run.finish()) is not None:
            yield last, N * (last.end - before)
            before = last.end
    if (last := run.finish()) is not None:
        yield last, N * (last.end - before)
