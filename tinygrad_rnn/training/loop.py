"""The training loop: truncated backpropagation through time over windows of text, as one plain function."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import flag, generator, instance, integer, number
from ..errors import ConfigError, CorpusError, NonFiniteError
from ..nn.models import RNNLM
from ..optim import Optimizer, Schedule, clip_by_norm
from ..truncation import Adaptive, Full, Policy, Step, Update, parse_policy, stream
from .compiled import CompiledUpdate, is_compilable
from .guards import cause, loss_of, parameters_of, warn_if_mixed


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
    policy: Policy | str | None = None,
    schedule: Schedule | None = None,
    clip: float = 0.0,
    rng: np.random.Generator | None = None,
    step: int = 0,
    compiled: bool | CompiledUpdate = False,
    on_window: Callable[[Window], bool] | None = None,
) -> EpochResult:
    """Train a model on windows that continue each other, and carry the state from each to the next.

    Without a policy there is one update for each window, and the state is cut in between: its value goes on, the
    gradient does not (truncated BPTT, Williams and Peng 1990). A policy that says when its passes run (`every`) makes
    updates and cuts there, whatever the length of the windows; one that does not, such as `Full()` or `Decay(0.9)`,
    acts inside each window, with one update a window. So no more is held than a window, or than the policy reaches
    back. The gradient is that of the mean loss of the positions that an update covers; it and its norm are checked
    before the update.

    Args:
        model: anything with `parameters()` and `loss(ids, targets, state, rng=rng) -> (loss, state)`.
        windows: pairs (ids, targets), integers (N, T) without masked targets, such as an `OffsetBatches`.
        optimizer: gives the parameters new arrays.
        state: before the first window, such as `model.initial_state(batch_size)`.
        policy: a truncation policy, or its text, whose passes run once a window if it does not say; None: `Full()`.
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
        ConfigError: if a setting is out of range, there is no such policy, the model has no parameters, or `compiled`
            is an update of something else; before the first update.
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
    instance("train_epoch", "optimizer", optimizer, Optimizer, "such as Adam(lr=0.001)")
    if schedule is not None:
        instance("train_epoch", "schedule", schedule, Schedule, "such as Cosine(0.1, total_steps)")
    clip, rate = number("train_epoch", "clip", clip, low=0), _Rate(optimizer, schedule, step)
    first, windows = _opened(windows)
    policy = _policy_for(policy, first)
    if rng is not None:
        generator("train_epoch", "rng", rng)
    if not step:
        warn_if_mixed("train_epoch", params, {"the state": state, "the inputs": first[0]})
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
    for parameter in params.values():
        parameter.data = parameter.data  # memory of its own, which no plan writes again
    seconds = time.perf_counter() - started
    return EpochResult(nats / tokens, tokens, steps, norms / steps, lr, seconds, stopped)


def _opened(windows: Iterable[tuple[Any, Any]]) -> tuple[tuple[Any, Any], Iterator[tuple[Any, Any]]]:
    """Return the first window, and an iterator over all of them."""
    pairs = _pairs(instance("train_epoch", "windows", windows, Iterable, "such as OffsetBatches"))
    for first in pairs:
        return first, itertools.chain([first], pairs)
    raise CorpusError("train_epoch: windows is empty; an iterator can be used for one pass only")


def _pairs(windows: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    for count, window in enumerate(windows):
        if not isinstance(window, tuple | list) or len(window) != 2:
            raise CorpusError(
                f"train_epoch: windows[{count}] must be a pair (inputs, targets), got {type(window).__name__}"
            )
        inputs, targets = (np.asarray(part) if isinstance(part, list) else part for part in window)
        yield inputs, targets


def _policy_for(policy: Policy | str | None, first: tuple[Any, Any]) -> Policy | None:
    """Return the policy; one that adapts and is given as text has a pass for each window, as long as the first is."""
    if policy is None:
        return None
    found = parse_policy(policy, argument="train_epoch: policy")
    if isinstance(policy, str) and isinstance(found, Adaptive):
        return parse_policy(policy, np.shape(first[0])[1], argument="train_epoch: policy")
    return found


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
        flag("train_epoch", "compiled", compiled)
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
        loss, state = loss_of(model, ids, targets, state, rng)
        if policy is not None:
            loss = loss * np.size(targets)  # a sum: how many positions share an update is the policy's business
        return loss, state

    updates = _inside_windows if policy is None or policy.every is None else _across_windows
    for update, size in updates(window_loss, params, windows, state, policy or Full(), rng):
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


def _inside_windows(
    loss: Step, params: Any, windows: Iterable[tuple[Any, Any]], state: Any, policy: Policy, rng: Any
) -> Iterator[tuple[Update, int]]:
    """Yield an update for each window, which is a sequence of its own, with the number of positions that it covers."""
    for ids, targets in windows:
        for update in stream(loss, params, [(ids, targets)], state, policy, rng):
            yield update, np.size(targets)
            state = update.state


def _across_windows(
    loss: Step, params: Any, windows: Iterable[tuple[Any, Any]], state: Any, policy: Policy, rng: Any
) -> Iterator[tuple[Update, int]]:
    """Yield each update that a policy asks for, with the number of positions that it covers."""
    before, N = 0, 0

    def counted() -> Iterator[tuple[Any, Any]]:
        nonlocal N
        for ids, targets in windows:
            N = len(ids)
            yield ids, targets

    for update in stream(loss, params, counted(), state, policy, rng):
        yield update, N * (update.end - before)
        before = update.end
