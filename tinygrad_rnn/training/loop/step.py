"""A training step: loss, gradient, clipping and the optimizer's update, as one plan if they can be compiled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from ...checks import flag, instance, number
from ...compiler.api import Compiled
from ...compiler.plans.plan import Plan
from ...compiler.settings import chosen_executor
from ...credit.forward import ForwardPolicy
from ...credit.nests import arrays_of, first_state
from ...credit.update import Past
from ...data.arrays import as_batch
from ...engine.autograd import grad
from ...engine.saved import Saved
from ...engine.tape import Array
from ...engine.tensor import Tensor, adopt
from ...engine.tree import flatten, map_leaves
from ...errors import ConfigError, NonFiniteError
from ...nn.cells import State
from ...nn.module import Module
from ...ops import cut
from ...optim import Optimizer
from ...optim.clipping import factor_of, norms
from ...parallel.exchange import parse_exchange, reduction_of
from ...parallel.group import group_of
from ...parallel.shares import Share, share_of
from ...truncation import Policy, bptt, parse_policy
from .guards import cause, parameters_of, trouble_in
from .local import Local, mean_state
from .objective import Batch, Loss, Objective, Outcome, as_number, size_of
from .online import Online
from .overlapping import Overlapping, part_of, past_of
from .parts import Found, Parts, Rng, joined
from .pieces import HeldRows, agreed_policy, is_compilable, resized
from .result import StepResult
from .together import Moments, Together
from .vectors import Given, Summed, Vectors, flat_of

Params: TypeAlias = dict[str, Tensor]
Change: TypeAlias = tuple[Outcome, Array, dict[str, Array], Moments]
"""Results of the loss function, norms of the gradients, new parameters, new state of the optimizer."""


class TrainStep:
    """One update of a model from one batch, or from several together: `step(batch, state) -> StepResult`.

    The loss, its gradient, the norm, clipping and the optimizer's rule are recorded once and replayed as one plan, for
    batches of any length; parameters and the optimizer's state are read at each call. The state is cut before the
    batch: its value goes on, the gradient does not.

    Args:
        model: the `Module` that is trained.
        loss: `loss(model, batch, state, rng) -> (loss, state, metrics)`, a mean; state, rng, metrics are optional.
        optimizer: its `rule` must be written with operators on values, as those of `optim` are.
        clip: largest global norm of the gradient; 0: no clipping.
        policy: a truncation policy, or its text: every array of a batch is then (N, T, ...), passes and cuts stand
            where the policy says, and a pass at the end of each batch. None: the gradient of the whole batch.
        compile: False: record each batch anew, as is done in any case under a policy that is not `is_compilable`.
        executor: the executor of the plan; see `compile`.
        resumable: whether `past` will be asked for, see `Recurrence`.
        comm: a communicator of mpi4py, or a `Group`: its processes make each update together, of one batch that they
            divide by rows; see `docs/scale.md`. None: this process alone.
        exchange: what they send, "gradients" or another name of `parse_exchange`.

    Raises:
        ConfigError: if a setting is out of range, or the model has no parameters; or several processes cannot make
            updates under the policy.

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
        resumable: bool = False,
        comm: object = None,
        exchange: str = "gradients",
    ) -> None:
        parameters_of("TrainStep", model)
        self.model = model
        self.objective = loss if isinstance(loss, Objective) else Objective(loss)
        self.optimizer = instance("TrainStep", "optimizer", optimizer, Optimizer, "such as Adam(lr=0.001)")
        self.clip = number("TrainStep", "clip", clip, low=0) or math.inf
        self.policy = None if policy is None else parse_policy(policy, argument="TrainStep: policy")
        self.compile = flag("TrainStep", "compile", compile)
        self._executor = executor
        self._fast = {draws: self.compile and is_compilable(self.policy, draws) for draws in (False, True)}
        self._carries_over = bool(self.policy and self.policy.every and not is_compilable(self.policy))
        self._online: Online | None = None
        if isinstance(self.policy, ForwardPolicy):
            self._online = Online(self.objective, model, self.policy, self.compile, executor)
        self._across: Online | Overlapping | None = self._online
        self._followed = self.policy
        self.resumable = flag("TrainStep", "resumable", resumable)
        self._fused = Compiled(self._whole, executor=executor)
        self._gradients_alone = Compiled(self._gradients, executor=executor)
        self._exchange = parse_exchange(exchange)
        self.group = group_of(comm)
        self.share: Share | None = None  # the rows that this process held last
        self._together: Together | None = None
        self._local: Local | None = None
        self._waiting: Past | None = None  # what the next batch goes on from
        self._weight = 0.0  # of the last update that this process made alone
        self.regroup()

    def regroup(self) -> None:
        """Prepare for the processes that the group has now, and forget what is carried from earlier batches."""
        several = self.group.size > 1
        self._followed = agreed_policy(self.policy, self.group)
        if self._online is None and self._carries_over and self._followed is not None:
            self._across = Overlapping(self.objective, self.model, self._followed)
        self.share = self._together = None
        if several:
            reduce, under_policy = reduction_of(self._exchange), None if self.policy is None else self._gradients
            vectors = Vectors(self.objective, self.model, under_policy, self._executor, exact=reduce is None)
            plans = vectors if self.compile else None
            self._together = Together(self.group, self.optimizer, self.clip, reduce, self._executor, plans)
        self._local = None
        if several and self._exchange.is_local:
            self._local = Local(self._exchange, self.group, self.model.parameters())
        self.forget()

    @property
    def plans(self) -> int:
        """The number of plans that are kept; each size counts."""
        online = 0 if self._online is None else self._online.plans
        together = 0 if self._together is None else len(self._together.plans)
        return len(self._fused.plans) + len(self._gradients_alone.plans) + online + together

    @property
    def every_plan(self) -> list[Plan]:
        """The plans of an update of one batch: one, or with several processes that of its gradients and of its rest."""
        if self._together is None or self._local is not None:
            return self._fused.plans
        return self._together.plans

    @property
    def compiled(self) -> Compiled[..., object]:
        """The compiled update of one batch, with its plans."""
        return self._fused

    def past(self) -> Past | None:
        """Return what all processes hold of the batches before, for files: in the first one, None in the others.

        All of them call it together.
        """
        return past_of(self._across, self.policy, self.group)

    def continue_from(self, past: Past | None) -> None:
        """Take the `past` of a step before; the next batch must be given the state and the generator after its last.

        Raises:
            ModelFileError: if it was a step under another policy.

        Warns:
            UserWarning: if another number of processes held it, so that it cannot be divided.
        """
        self.forget()
        self._waiting = part_of(past, self._across, self.policy, self.group)

    def executor(self, draws: bool = False) -> str | None:
        """Return the executor of the updates, "native" or "numpy"; None: each update is recorded anew.

        Args:
            draws: whether the loss function is given a generator.
        """
        steps = self._online is not None and self.compile
        return chosen_executor(self._executor) if steps or self._fast[flag("executor", "draws", draws)] else None

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
        batches = [as_batch(batch) for batch in batches]
        if any(isinstance(part, Tensor) for part in flatten(state)):
            state = first_state("TrainStep", state, params)
        moments, rates = self.optimizer.start(params, lr)
        update = self._alone if self._together is None else self._of_all if self._local is None else self._locally
        outcome, lengths, new, moments = update(batches, state, rng, params, moments, rates)
        loss = float(outcome.loss)
        if trouble := trouble_in(loss, lengths, params):
            self.forget()
            raise NonFiniteError(f"{trouble}: {cause(params, batches, state)}; no parameter was touched")
        for name, parameter in params.items():
            adopt(parameter, np.asarray(new[name]))  # of a single element, arithmetic makes a scalar
        number = self.optimizer.steps
        self.optimizer.take(moments)
        if self._local is not None:
            self._local.made(params, self._weight)
        metrics = {name: as_number(value) for name, value in outcome.metrics.items()}
        assert outcome.weight is not None
        return StepResult(loss, outcome.state, metrics, float(outcome.weight), float(lengths[-1]), lr, number)

    def pieces(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches that updates are made from: the same ones, or in pieces as long as a policy's passes."""
        if self.policy is None or self.policy.every is None:
            return iter(batches)
        return resized(batches, self.policy.every)

    def forget(self) -> None:
        """Forget what is carried from earlier batches."""
        self._waiting = None
        if self._across is not None:
            self._across.restart()

    def _alone(
        self, batches: Sequence[Batch], state: State, rng: Rng, params: Params, moments: Moments, rates: State
    ) -> Change:
        """Return the update that this process makes of its batches."""
        fast = self._fast[rng is not None]
        if fast and len(batches) == 1:
            rates = map_leaves(partial(np.asarray, dtype=np.float64), rates)
            return self._fused(params, moments, batches[0], state, rates, rng)
        found = self._several(batches, state, rng, fast, params)
        lengths = norms("TrainStep", found.gradients, raises=False)
        if not np.isfinite(lengths).all():  # an error says so
            return found.outcome, lengths, {}, moments
        arrays = {name: parameter.data for name, parameter in params.items()}
        factor = factor_of(lengths[-1], self.clip)
        return found.outcome, lengths, *self.optimizer.updated(arrays, found.gradients, moments, rates, factor)

    def _of_all(
        self, batches: Sequence[Batch], state: State, rng: Rng, params: Params, moments: Moments, rates: State
    ) -> Change:
        """Return the update that all processes make of the batches, of which each holds some rows."""
        assert self._together is not None
        together, fast = self._together, self._fast[rng is not None]
        vectors = together.vectors if fast else None

        def given(batch: Batch, now: State) -> Given:
            share = self.share = share_of(batch, self.group)
            return params, share.batch, share.rows_of(now), together.rng(rng, share)

        def sums() -> Iterator[tuple[Summed, bool]]:
            now = state
            for batch in batches:
                arguments = given(batch, now)
                assert self.share is not None
                if vectors is not None:
                    found = vectors(*arguments, link)
                else:
                    if self._online is not None:
                        self._online.hold(HeldRows(self.share, self.group))
                    one = self._several([self.share.batch], *arguments[2:], fast, params)
                    assert one.outcome.weight is not None
                    found = Summed(flat_of(one.gradients, one.outcome.weight), {}, one.outcome)
                now = found.outcome.state
                yield found, self.share.counts

        if vectors is not None and vectors.tables is None:
            vectors.find_tables(self.group, lambda: given(batches[0], state))
        link = together.linked(batches) if fast else None
        found = together.summed(sums, link, vectors is not None and together.divides(params, link))
        if vectors is not None and vectors.link is None and len(batches) == 1:
            vectors.find_link(self.group, found.flat, params)
        return found.outcome, *together.changed(params, moments, found, rates)

    def _locally(
        self, batches: Sequence[Batch], state: State, rng: Rng, params: Params, moments: Moments, rates: State
    ) -> Change:
        """Return the update that this process makes of its rows, with the means over all processes."""
        assert self._together is not None
        together = self._together

        def change() -> Change:
            shares = [share_of(batch, self.group) for batch in batches]
            if not all(share.counts for share in shares):
                raise ConfigError(
                    f"exchange={self._exchange.kind!r}: each process makes updates of its own rows, so a batch must "
                    f"have {self.group.size} or more, got {min(share.total for share in shares)}"
                )
            self.share = share = shares[-1]
            parts = [share.batch for share in shares]
            return self._alone(parts, share.rows_of(state), together.rng(rng, share), params, moments, rates)

        outcome, lengths, new, moments = together.agreed(change)
        self._weight = float(np.asarray(outcome.weight))
        lengths = np.array(lengths)
        self.group.add(lengths)  # so that what is not finite is so for all
        return together.outcome([(outcome, True)]), lengths / self.group.size, new, moments

    def settle(self) -> None:
        """Give all processes the same parameters and the same state of the optimizer, if they make updates alone."""
        if self._local is not None:
            self._local.settle(self.model.parameters())
            mean_state(self.group, self.optimizer)

    def outer_state(self) -> dict[str, Array] | None:
        """Return the state of the optimizer that makes the steps of all processes; None: there is none."""
        return None if self._local is None else self._local.outer.state_dict()

    def load_outer_state(self, state: Mapping[str, Saved] | None) -> None:
        """Take what `outer_state` returned, and go on from the parameters that the model has now."""
        if self._local is not None:
            self._local.start_from(self.model.parameters())
            if state is not None:
                self._local.outer.load_state_dict(state)

    def _whole(
        self,
        params: dict[str, Tensor],
        moments: Moments,
        batch: Batch,
        state: State,
        rates: State,
        rng: Rng,
    ) -> Change:
        gradients, outcome = self._gradients(params, batch, state, rng)
        lengths = norms("TrainStep", gradients, raises=False)  # a value that is not finite is reported with the loss
        factor = factor_of(lengths[-1], self.clip)
        new, moments = self.optimizer.updated(params, gradients, moments, rates, factor)
        return outcome, lengths, new, moments

    def _several(
        self, batches: Sequence[Batch], state: State, rng: Rng, fast: bool, params: dict[str, Tensor]
    ) -> Found:
        """Return the gradient of the mean over several batches."""
        gradients = self._gradients_alone if fast else self._gradients
        if self._across is not None:  # credit may reach into the batches before
            self._across.resumable = self.resumable
            if self._waiting is not None:
                self._across.continue_from(self._waiting, state, rng)
                self._waiting = None
            gradients = self._across.gradients
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
        assert self._followed is not None
        said = Parts(self.objective, self.model, rng, self.policy.recompute)
        return said.found(bptt(said.step, params, batch, state, self._followed, rng))
