"""The agreement of a truncated gradient with the full one, and the cost of a policy."""

from __future__ import annotations

import copy
import math
import time
import tracemalloc
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..credit.patterned import RTRL, EProp, SnAp
from ..credit.policy import Policy
from ..credit.sampled import UORO, Sampled
from ..credit.update import Step, Update
from ..engine.tape import Array, Node
from ..engine.tensor import Tensor, shape_of
from ..engine.tree import flatten
from ..errors import ConfigError
from .deciding import Randomized
from .driver import bptt
from .parse import policy_text
from .policies import Checkpointed, Chunked, Decay, Full, Windowed

DRAWS = 10
"""The number of draws over which bias and deviation of a policy are measured."""

_SECONDS = 2.0  # seconds after which no further timed run of a policy begins
_FEW_ENTRIES = 2**21  # 8 MB in float32; a step of RTRL over them takes some ms


@dataclass(frozen=True)
class Agreement:
    """Agreement of a gradient g with the full gradient f.

    Attributes:
        cosine: g . f / (|g| |f|) over all parameters; 1 is the same direction.
        error: |g - f| / |f|.
        cosines: name of a parameter to the cosine of its part.
        errors: name of a parameter to the error of its part.
    """

    cosine: float
    error: float
    cosines: dict[str, float]
    errors: dict[str, float]

    @property
    def worst(self) -> str:
        """The parameter with the lowest cosine."""
        return list(self.cosines)[int(np.argmin([*self.cosines.values()]))]

    @property
    def lowest(self) -> float:
        """The lowest cosine of a parameter, which an output layer, unchanged by any truncation, cannot hide."""
        return self.cosines[self.worst]


@dataclass(frozen=True)
class PolicyCost:
    """One policy: the agreement of its gradient with the full one, and its cost.

    Attributes:
        policy: the policy that was measured.
        agreement: agreement with the full gradient; for a random policy, that of one draw.
        passes: number of backward passes.
        forward_steps: number of steps run forward, T and those that are run again.
        alive_steps: largest number of steps whose graph was held at a time.
        peak_mib: peak memory of the forward and backward passes, MiB.
        ms: shortest time of several runs over the sequence, forward and backward, milliseconds.
        bias: |mean over draws - f| / |f|, f the full gradient; for a policy that draws nothing, its error.
        deviation: root mean square of |g - mean over draws| / |f|.
    """

    policy: Policy
    agreement: Agreement
    passes: int
    forward_steps: int
    alive_steps: int
    peak_mib: float
    ms: float
    bias: float = 0.0
    deviation: float = 0.0

    @property
    def name(self) -> str:
        """The policy in the form of the command line; a user's own policy as its repr."""
        try:
            return policy_text(self.policy)
        except ConfigError:
            return repr(self.policy)


def agreement(found: Mapping[str, Array], full: Mapping[str, Array]) -> Agreement:
    """Return the agreement of a gradient with the full one, computed in float64.

    Where the full gradient is 0, the cosine is 1 if the other is 0 too, else 0.

    Args:
        found: parameter to array.
        full: parameter to array.

    >>> import numpy as np
    >>> agreement({"w": np.array([3.0, 0.0])}, {"w": np.array([3.0, 4.0])})
    Agreement(cosine=0.6, error=0.8, cosines={'w': 0.6}, errors={'w': 0.8})
    """
    scale = max(float(np.abs(f).max(initial=0.0)) for f in full.values()) or 1.0  # no square of a norm overflows
    cosines, errors, total = {}, {}, np.zeros(4)
    for name, f in full.items():
        wide = np.result_type(f, np.float64)
        a, b = found[name].astype(wide) / scale, f.astype(wide) / scale
        products = np.array([np.vdot(x, y).real for x, y in ((a, b), (a, a), (b, b), (a - b, a - b))])
        cosines[name], errors[name] = _cosine_and_error(*products.tolist())
        total += products
    cosine, error = _cosine_and_error(*total.tolist())
    return Agreement(cosine, error, cosines, errors)


def _cosine_and_error(ab: float, aa: float, bb: float, difference: float) -> tuple[float, float]:
    if not aa or not bb:
        return float(aa == bb), 0.0 if aa == bb else 1.0 if bb else math.inf
    return max(-1.0, min(1.0, ab / math.sqrt(aa * bb))), math.sqrt(difference / bb)


def measure(
    step: Step,
    parameters: Mapping[str, Tensor],
    inputs: object,
    state: object,
    policy: Policy,
    full: Mapping[str, Array],
    repeats: int = 3,
) -> PolicyCost:
    """Run a policy on a sequence and return its agreement and its cost.

    Memory is traced in a separate run, since tracing takes time. Each run has a copy of the policy: random policies
    draw the same each time, and the given policy does not change.

    Args:
        step: as in `Recurrence`; it must compute the same each time.
        parameters: name to leaf Tensor.
        inputs: arrays (N, T, ...), or any nesting of them.
        state: before the first step.
        policy: the policy to measure.
        full: the full gradient.
        repeats: timed runs; fewer if they take longer than 2 seconds.

    Raises:
        ShapeError, GradientError, ConfigError: as `Recurrence`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> w = tr.tensor(2.0, requires_grad=True)
    >>> def step(xs, h):
    ...     h = h * w + xs[:, 0]
    ...     return h.sum(), h
    >>> cost = measure(step, {"w": w}, np.ones((1, 3)), np.ones(1), tr.Windowed(2), {"w": np.array(23.0)})
    >>> cost.name, cost.passes, cost.forward_steps, cost.alive_steps, round(cost.agreement.error * 23, 6)
    ('windowed:2', 3, 3, 2, 4.0)
    """
    held: list[tuple[int, weakref.ref[Node]]] = []
    alive_steps = forward_steps = 0

    def watched(inputs: object, state: object) -> tuple[object, object]:
        nonlocal alive_steps, forward_steps
        steps: int = shape_of(flatten(inputs)[0])[1]
        forward_steps += steps
        loss, after = step(inputs, state)
        made = [part.node for part in flatten((loss, after)) if isinstance(part, Tensor) and part.node is not None]
        held[:] = [(length, node) for length, node in held if node() is not None]
        held.extend((steps, weakref.ref(node)) for node in made[:1])
        alive_steps = max(alive_steps, sum(length for length, _ in held))
        return loss, after

    already = tracemalloc.is_tracing()
    if not already:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        found = bptt(watched, parameters, inputs, state, copy.deepcopy(policy))
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        if not already:
            tracemalloc.stop()
    seconds: list[float] = []
    while not seconds or (len(seconds) < repeats and sum(seconds) < _SECONDS):
        again = copy.deepcopy(policy)
        started = time.perf_counter()
        bptt(step, parameters, inputs, state, again)
        seconds.append(time.perf_counter() - started)
    one = agreement(found.gradients, full)
    bias, deviation = one.error, 0.0
    if isinstance(policy, Randomized | Sampled):
        again = copy.deepcopy(policy)
        bias, deviation = _over_draws([bptt(step, parameters, inputs, state, again) for _ in range(DRAWS)], full)
    return PolicyCost(
        policy,
        one,
        len(policy.passes(found.end)),
        forward_steps,
        alive_steps,
        peak / 2**20,
        1000 * min(seconds),
        bias,
        deviation,
    )


def _over_draws(updates: Sequence[Update], full: Mapping[str, Array]) -> tuple[float, float]:
    """Return bias and deviation, relative to the norm of the full gradient."""
    rows = np.stack([np.concatenate([np.ravel(update.gradients[name]) for name in full]) for update in updates])
    whole = np.concatenate([np.ravel(g) for g in full.values()])
    norm = float(np.linalg.norm(whole)) or 1.0
    mean = rows.mean(axis=0)
    spread = np.sqrt(np.mean(np.sum(np.abs(rows - mean) ** 2, axis=1)))
    return float(np.linalg.norm(mean - whole)) / norm, float(spread) / norm


def default_policies(T: int, entries: int = 0) -> list[Policy]:
    """Return the default policies of a report: some of each kind that suit T steps.

    Args:
        T: steps.
        entries: N * n * P, the numbers of a whole influence: `SnAp` and `RTRL` are left out where they are many.

    >>> [policy.n for policy in default_policies(30) if isinstance(policy, Chunked)]
    [1, 2, 5, 10, 20]
    """
    return [
        Full(),
        Checkpointed(max(1, math.isqrt(T))),
        Checkpointed(states=max(1, T.bit_length())),
        *(Chunked(n) for n in (1, 2, 5, 10, 20, 35, 50, 100) if n < T),
        *(Windowed(2 * n, every=n) for n in (5, 10, 20) if 2 * n < T),
        Decay(0.9),
        Randomized(c=0.02),
        *([RTRL()] if entries <= _FEW_ENTRIES else []),
        *([SnAp(1)] if entries <= 8 * _FEW_ENTRIES else []),
        EProp(),
        UORO(),
    ]
