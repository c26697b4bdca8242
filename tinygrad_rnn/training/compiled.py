"""A training step as one plan: loss, gradient, norm, clipping and the optimizer's update, compiled together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from ..checks import number
from ..compiler.api import Compiled, compile
from ..engine.autograd import grad
from ..engine.tape import Array
from ..engine.tensor import Tensor, adopt
from ..engine.tree import map_leaves
from ..errors import NonFiniteError
from ..ops import cut
from ..optim import Optimizer
from ..optim.clipping import norms, scaled
from ..truncation import Policy, bptt, parse_policy
from ..truncation.driver import decides
from .guards import cause, loss_of, parameters_of


class CompiledUpdate:
    """One update of a model from one window of text: the same as recording, `clip_by_norm` and `Optimizer.update`.

    The parameters and the optimizer's state are read from where they are, so the two ways can be mixed. A plan is made
    for each shape of window, and for the types of the learning rates.

    Args:
        model: anything with `parameters()` and `loss(ids, targets, state, rng=rng) -> (mean loss, state)`.
        optimizer: its `rule` must be written with operators on values, as those of `optim` are.
        clip: largest global norm of the gradient; 0: no clipping.
        policy: a truncation policy that `is_compilable`, or its text; None: full BPTT in each window.
        executor: what replays the plan; see `compile`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model, optimizer = tr.RNNLM(5, 4, 4, np.random.default_rng(0)), tr.SGD(lr=0.1)
    >>> update, state = CompiledUpdate(model, optimizer, clip=1.0), model.initial_state(2)
    >>> ids = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
    >>> losses = []
    >>> for _ in range(30):
    ...     loss, norm, state = update(ids[:, :-1], ids[:, 1:], state, lr=0.1)
    ...     losses.append(loss)
    >>> losses[-1] < losses[0], optimizer.steps
    (True, 30)
    """

    def __init__(
        self,
        model: Any,
        optimizer: Optimizer,
        clip: float = 0.0,
        policy: Policy | str | None = None,
        executor: str | None = None,
    ) -> None:
        self.policy = None if policy is None else parse_policy(policy, argument="CompiledUpdate: policy")
        self.model, self.optimizer = model, optimizer
        self.clip = number("CompiledUpdate", "clip", clip, low=0) or math.inf
        self.step: Compiled = compile(self._step, executor=executor)

    def __call__(
        self, ids: Array, targets: Array, state: Any, lr: float, rng: np.random.Generator | None = None
    ) -> tuple[float, float, Any]:
        """Update the model; return the mean loss in nats, the norm before clipping, and the new state (arrays).

        Raises:
            NonFiniteError: if the loss or the gradient is not finite; nothing has been changed then.
        """
        params = parameters_of("CompiledUpdate", self.model)
        before = state
        moments, rates = self.optimizer.start(params, lr)
        rates = map_leaves(partial(np.asarray, dtype=np.float64), rates)
        loss, lengths, new, moments, state = self.step(params, moments, ids, targets, state, rates, rng)
        value, norm = float(loss), float(lengths[-1])
        if trouble := _trouble(value, lengths, params):
            raise NonFiniteError(f"{trouble}: {cause(params, [(ids, targets)], before)}; no parameter was touched")
        for name, parameter in params.items():
            adopt(parameter, new[name])
        self.optimizer.take(moments)
        return value, norm, state

    def _step(
        self, params: dict[str, Tensor], moments: Any, ids: Any, targets: Any, state: Any, rates: Any, rng: Any
    ) -> tuple[Any, ...]:
        loss, grads, after = self._gradients(params, ids, targets, cut(state), rng)
        lengths = norms("train_epoch", grads, raises=False)  # what is not finite is said with the loss
        new, moments = self.optimizer.updated(params, scaled(grads, lengths[-1], self.clip), moments, rates)
        return loss, lengths, new, moments, after

    def _gradients(self, params: dict[str, Tensor], ids: Any, targets: Any, state: Any, rng: Any) -> tuple[Any, ...]:
        if self.policy is None:
            loss, after = loss_of(self.model, ids, targets, state, rng)
            return loss, grad(loss, params, allow_unused=True), after
        size = math.prod(targets.shape)

        def part(inputs: Any, state: Any) -> tuple[Any, Any]:
            loss, state = loss_of(self.model, inputs[0], inputs[1], state, rng)
            return loss * math.prod(inputs[1].shape), state

        found = bptt(part, params, (ids, targets), state, self.policy)
        return sum(found.losses) / size, {name: g / size for name, g in found.gradients.items()}, found.state


def is_compilable(policy: Policy | str | None, draws: bool = False) -> bool:
    """Return whether updates under a policy can be plans: each pass ends where the one before began.

    Not so where windows overlap (parameters are updated between the passes over one step), where cuts differ from pass
    to pass, are drawn or follow from norms, and where dropout's draws would have to be repeated for a recomputation.

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
    if decides(policy) or (policy.recompute and draws):
        return False
    if policy.every is None:
        return True  # it acts inside each window
    every, first = policy.every, policy.factors(policy.every)
    passes = [[policy.factor(begin + t, begin + every) for t in range(every)] for begin in (every, 2 * every)]
    return all(factors == [0.0, *first[1:]] for factors in passes)


def _trouble(loss: float, lengths: Array, names: Iterable[str]) -> str:
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    for name, length in zip((*names, "all parameters together"), lengths, strict=True):
        if not math.isfinite(length):
            return f"the gradient of {name} has a length of {length}"
    return ""
