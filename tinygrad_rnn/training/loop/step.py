"""A training step: loss, gradient, clipping and the optimizer's update, as one plan if they can be compiled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from ...checks import flag, instance, number
from ...compiler.api import Compiled
from ...compiler.settings import chosen_executor
from ...credit.forward import ForwardPolicy
from ...credit.nests import arrays_of
from ...engine.autograd import grad
from ...engine.tape import Array
from ...engine.tensor import Tensor, adopt
from ...engine.tree import flatten, map_leaves
from ...errors import NonFiniteError
from ...metrics import Metric
from ...nn.cells import State
from ...nn.module import Module
from ...ops import cut
from ...optim import Optimizer
from ...optim.clipping import norms, scaled
from ...truncation import Policy, Recurrence, bptt, parse_policy
from ...truncation.driver import decides
from .guards import cause, parameters_of
from .objective import Batch, Loss, Objective, Outcome, as_number, size_of
from .online import Online
from .parts import Found, Parts, Rng, joined

Moments: TypeAlias = dict[str, dict[str, Array]]


class StepResult(NamedTuple):
    """One update.

    Attributes:
        loss: mean over the batches of the update, before it.
        state: after the last batch, arrays.
        metrics: name to mean, or to a `Metric`.
        weight: the number of elements that the means are taken over: given by the loss function, else N (under a
            truncation policy N * T).
        gradient_norm: global norm before clipping.
        lr: learning rate of the update.
        step: number of updates before this one.
    """

    loss: float
    state: State
    metrics: dict[str, float | Metric]
    weight: float
    gradient_norm: float
    lr: float
    step: int

    @property
    def nats(self) -> float:
        """The loss of a language model, in nats per token."""
        return self.loss

    @property
    def tokens(self) -> int:
        """Positions of a language model that the update covers."""
        return round(self.weight)


class TrainStep:
    """One update of a model from one batch, or from several together: `step(batch, state) -> StepResult`.

    The loss, its gradient, the norm, clipping and the optimizer's rule are recorded once and replayed as one plan;
    parameters and the optimizer's state are read at each call. The state is cut before the batch:
    its value goes on, the gradient does not. A plan serves batches of any length; lengths are arrays in the batch.

    Args:
        model: the `Module` that is trained.
        loss: `loss(model, batch, state, rng) -> (loss, state, metrics)`; state, rng and metrics may be left out. The
            loss is a mean.
        optimizer: its `rule` must be written with operators on values, as those of `optim` are.
        clip: largest global norm of the gradient; 0: no clipping.
        policy: a truncation policy, or its text: every array of a batch is then (N, T, ...), and passes and cuts stand
            where the policy says. None: the gradient of the whole batch.
        compile: False: record each batch anew, as is done in any case under a policy that is not `is_compilable`.
        executor: the executor of the plan; see `compile`.

    Raises:
        ConfigError: if a setting is out of range, or the model has no parameters.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model, x = tr.Linear(3, 1, np.random.default_rng(0)), np.ones((4, 3), np.float32)
    >>> def loss(model, batch):
    ...     xs, ys = batch
    ...     return np.mean((model(xs) - ys) ** 2)
    >>> step = tr.TrainStep(model, loss, tr.SGD(lr=0.1), clip=1.0)
    >>> losses = [step((x, x[:, :1])).loss for _ in range(30)]
    >>> losses[-1] < 0.01 * losses[0]
    True
    """

    def __init__(
        self,
        model: Module,
        loss: Loss | Objective,
        optimizer: Optimizer,
        *,
        clip: float = 0.0,
        policy: Policy | str | None = None,
        compile: bool = True,
        executor: str | None = None,
    ) -> None:
        parameters_of("TrainStep", model)
        self.model = model
        self.objective = loss if isinstance(loss, Objective) else Objective(loss)
        self.optimizer: Optimizer = instance("TrainStep", "optimizer", optimizer, Optimizer, "such as Adam(lr=0.001)")
        self.clip = number("TrainStep", "clip", clip, low=0) or math.inf
        self.policy = None if policy is None else parse_policy(policy, argument="TrainStep: policy")
        self.compile = flag("TrainStep", "compile", compile)
        self._executor = executor
        self._fast = {draws: self.compile and is_compilable(self.policy, draws) for draws in (False, True)}
        self._carries_over = (
            self.policy is not None and self.policy.every is not None and not is_compilable(self.policy)
        )
        self._online: Online | None = None
        if isinstance(self.policy, ForwardPolicy):
            self._online = Online(self.objective, model, self.policy, self.compile, executor)
        self._fused = Compiled(self._whole, executor=executor)
        self._gradients_alone = Compiled(self._gradients, executor=executor)
        self._open: _Open | None = None  # the graph of earlier batches that overlapping passes still hold

    @property
    def plans(self) -> int:
        """The number of plans that are kept; each size counts."""
        online = 0 if self._online is None else self._online.plans
        return len(self._fused.plans) + len(self._gradients_alone.plans) + online

    @property
    def compiled(self) -> Compiled[..., object]:
        """The compiled update of one batch, with its plans."""
        return self._fused

    @property
    def is_whole(self) -> bool:
        """Whether no graph of earlier batches is held, so that a checkpoint is complete."""
        if self._online is not None:
            return not self._online.holds_past
        return self._open is None or not self._open.recurrence.alive_steps

    def executor(self, draws: bool = False) -> str | None:
        """Return the executor of the updates, "native" or "numpy"; None: each update is recorded anew.

        Args:
            draws: whether the loss function is given a generator.
        """
        steps = self._online is not None and self.compile
        return chosen_executor(self._executor) if steps or self._fast[draws] else None

    def __call__(self, batch: Batch, state: State = None, *, lr: float | None = None, rng: Rng = None) -> StepResult:
        """Update the model from one batch.

        Args:
            batch: what the loss function takes.
            state: before the batch.
            lr: learning rate; None: the optimizer's own.
            rng: generator for the loss function; None: none, as for evaluation.

        Raises:
            NonFiniteError: if the loss or the gradient is not finite; nothing has been changed then.
        """
        return self.accumulated([batch], state, lr=lr, rng=rng)

    def accumulated(
        self,
        batches: Sequence[Batch],
        state: State = None,
        *,
        lr: float | None = None,
        rng: Rng = None,
        params: dict[str, Tensor] | None = None,
    ) -> StepResult:
        """Make one update from several batches, which need not fit into memory together; see `__call__`.

        The gradient is that of the mean over all of them, by their weights, as if they were one batch. The state goes
        from each to the next. `params` are the model's parameters, if the caller has them already.
        """
        params = parameters_of("TrainStep", self.model) if params is None else params
        lr = self.optimizer.lr if lr is None else lr
        moments, rates = self.optimizer.start(params, lr)
        fast, before = self._fast[rng is not None], state
        new: dict[str, Array] | None = None
        if fast and len(batches) == 1:
            rates = map_leaves(partial(np.asarray, dtype=np.float64), rates)
            outcome, lengths, new, moments = self._fused(params, moments, batches[0], state, rates, rng)
        else:
            found = self._several(batches, state, rng, fast, params)
            outcome, lengths = found.outcome, norms("TrainStep", found.gradients, raises=False)
        loss = float(outcome.loss)
        if trouble := _trouble(loss, lengths, params):
            self._open = None
            if self._online is not None:
                self._online.restart()
            raise NonFiniteError(f"{trouble}: {cause(params, batches, before)}; no parameter was touched")
        if new is None:
            arrays = {name: parameter.data for name, parameter in params.items()}
            clipped = scaled(found.gradients, lengths[-1], self.clip)
            new, moments = self.optimizer.updated(arrays, clipped, moments, rates)
        for name, parameter in params.items():
            adopt(parameter, np.asarray(new[name]))  # of a single element, arithmetic makes a scalar
        number = self.optimizer.steps
        self.optimizer.take(moments)
        metrics = {name: as_number(value) for name, value in outcome.metrics.items()}
        assert outcome.weight is not None
        return StepResult(loss, outcome.state, metrics, float(outcome.weight), float(lengths[-1]), lr, number)

    def pieces(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches that updates are made from: the same ones, or in pieces as long as a policy's passes."""
        if self.policy is None or self.policy.every is None:
            return iter(batches)
        return _resized(batches, self.policy.every)

    def _whole(
        self,
        params: dict[str, Tensor],
        moments: Moments,
        batch: Batch,
        state: State,
        rates: State,
        rng: Rng,
    ) -> tuple[Outcome, Array, dict[str, Array], Moments]:
        gradients, outcome = self._gradients(params, batch, state, rng)
        lengths = norms("TrainStep", gradients, raises=False)  # a value that is not finite is reported with the loss
        new, moments = self.optimizer.updated(params, scaled(gradients, lengths[-1], self.clip), moments, rates)
        return outcome, lengths, new, moments

    def _several(
        self, batches: Sequence[Batch], state: State, rng: Rng, fast: bool, params: dict[str, Tensor]
    ) -> Found:
        """Return the gradient of the mean over several batches."""
        gradients = self._gradients_alone if fast else self._gradients
        if self._online is not None:
            gradients = self._online.gradients
        elif self._carries_over:  # a pass may reach into the batches before
            gradients = self._carried
        total: Found | None = None
        for batch in batches:
            found = Found(*gradients(params, batch, state, rng))
            state = found.outcome.state
            total = found if total is None else joined(total, found)
        assert total is not None
        return total

    def _gradients(self, params: dict[str, Tensor], batch: Batch, state: State, rng: Rng) -> Found:
        if self.policy is None:
            loss, found = self.objective.recorded(self.model, batch, cut(state), rng)
            gradients = grad(loss, params, allow_unused=True)
            weight = size_of(batch) if found.weight is None else found.weight
            return Found(gradients, Outcome(*arrays_of((loss, found.state, found.metrics, weight))))
        said = Parts(self.objective, self.model, rng, self.policy.recompute)
        return said.found(bptt(said.step, params, batch, state, self.policy, rng))

    def _carried(self, params: dict[str, Tensor], batch: Batch, state: State, rng: Rng) -> Found:
        """Return the gradient of the pass at the end of a batch, which may go back into the batches before."""
        assert self.policy is not None
        if self._open is None or self._open.recurrence.state is not state or self._open.said.rng is not rng:
            said = Parts(self.objective, self.model, rng, self.policy.recompute)
            self._open = _Open(said, Recurrence(said.step, params, self.policy, state, rng))
        updates = [*self._open.recurrence.feed(batch)]
        if not updates and (last := self._open.recurrence.finish()) is not None:
            updates.append(last)
        total = updates[0]
        for update in updates[1:]:
            grads = {name: g + update.gradients[name] for name, g in total.gradients.items()}
            total = update._replace(gradients=grads, losses=total.losses + update.losses)
        return self._open.said.found(total)


class _Open(NamedTuple):
    """A sequence whose passes overlap, so that part of its graph is kept from batch to batch."""

    said: Parts
    recurrence: Recurrence


def _resized(batches: Iterable[Batch], steps: int) -> Iterator[Batch]:
    """Yield the same sequences in pieces of `steps` steps; the last may be shorter."""
    rest: Batch = None
    for batch in batches:
        whole = batch if rest is None else map_leaves(_side_by_side, rest, batch)
        length = int(np.shape(flatten(whole)[0])[1])
        for start in range(0, length - steps + 1, steps):
            yield _steps_of(whole, start, start + steps)
        rest = _steps_of(whole, length // steps * steps, length) if length % steps else None
    if rest is not None:
        yield rest


def _steps_of(batch: Batch, begin: int, end: int) -> Batch:
    return map_leaves(lambda array: np.asarray(array)[:, begin:end], batch)


def _side_by_side(left: Array, right: Array) -> Array:
    return np.concatenate([left, right], axis=1)


def is_compilable(policy: Policy | str | None, draws: bool = False) -> bool:
    """Return whether updates under a policy can be compiled: each pass ends where the one before began.

    They cannot where windows overlap (parameters are updated between the passes over one step), where cuts differ from
    pass to pass, are drawn or follow from norms, where the number of states to keep follows from the bytes of a
    recorded step, where a recomputation would have to repeat dropout's draws, and where credit is carried
    forward (then the gradient of one step is compiled, and the update is not).

    Args:
        policy: a truncation policy, its text, or None.
        draws: whether the model draws (dropout).

    >>> import tinygrad_rnn as tr
    >>> [is_compilable(policy) for policy in (None, tr.Chunked(5), tr.Decay(0.9, every=5), tr.Windowed(5, 1))]
    [True, True, True, False]
    """
    if policy is None:
        return True
    policy = parse_policy(policy, argument="is_compilable: policy")
    if isinstance(policy, ForwardPolicy) or decides(policy) or policy.budget is not None:
        return False
    if policy.recompute and draws:
        return False
    if policy.every is None:
        return True  # it acts inside each window
    every, first = policy.every, policy.factors(policy.every)
    passes = [[policy.factor(begin + t, begin + every) for t in range(every)] for begin in (every, 2 * every)]
    return all(factors == [0.0, *first[1:]] for factors in passes)


def _trouble(loss: float, lengths: Array, params: Mapping[str, Tensor]) -> str:
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    for name, length in zip((*params, "all parameters together"), lengths, strict=True):
        if not math.isfinite(length):
            return f"the gradient of {name} has a length of {length}"
    return ""
