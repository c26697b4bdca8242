"""The influence that a policy carries forward beside the state: its size, its norm, and the gradient that it gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ...credit.forward import ForwardPolicy, ForwardRecurrence
from ...credit.patterned import RTRL, EProp, SnAp
from ...credit.sampled import UORO, ForwardGradient, KroneckerFactored
from ...credit.update import Update
from ...engine.tape import Array
from ...engine.tensor import Tensor
from ...engine.tree import flatten

Step = Callable[[int, object], tuple[Tensor | None, object]]
"""Function of t and the state before step t that returns the step's loss, or None, and the state after it."""

_SYMBOLS: tuple[tuple[type[ForwardPolicy] | tuple[type[ForwardPolicy], ...], str, str], ...] = (
    ((RTRL, SnAp), "J", "the influence ∂h/∂θ of the parameters on the state"),
    (EProp, "e", "the eligibility traces"),
    (UORO, "s wᵀ", "the influence as one product of two vectors"),
    (KroneckerFactored, "u⊗A", "the influence as Kronecker products"),
    (ForwardGradient, "J v", "the tangent in one direction of the parameters"),
    (ForwardPolicy, "carry", "a policy's own numbers"),
)


class Credit(NamedTuple):
    """What a policy carries forward.

    Attributes:
        symbol: its symbol, such as "J".
        name: its description.
        sizes: how many numbers it holds after each step, for the whole batch.
        norms: their Euclidean norm after each step.
        gradients: name of a parameter to the gradient of the sum of all losses.
    """

    symbol: str
    name: str
    sizes: tuple[int, ...]
    norms: tuple[float, ...]
    gradients: Mapping[str, Array]

    def facts(self, step: int) -> list[str]:
        """Return the lines of a tooltip about what a step, counted from 0, passes on."""
        return [f"carried forward: {self.name}", f"numbers: {self.sizes[step]:,}", f"norm: {self.norms[step]:.3g}"]


def carry_forward(policy: ForwardPolicy, step: Step, T: int, state: object, parameters: Mapping[str, Tensor]) -> Credit:
    """Run T steps under a policy; return what it carries from each step to the next.

    >>> import tinygrad_rnn as tr
    >>> w = tr.tensor(2.0, requires_grad=True)
    >>> def step(t, h):
    ...     h = h * w + 1.0
    ...     return h.sum(), h
    >>> credit = carry_forward(tr.RTRL(), step, 3, np.ones(1), {"w": w})
    >>> credit.symbol, credit.norms, credit.gradients["w"].item()
    ('J', (1.0, 5.0, 17.0), 23.0)
    """
    recurrence = ForwardRecurrence(
        lambda ts, before: step(int(np.asarray(ts)[0, 0]), before), parameters, policy, state
    )
    updates, sizes, norms = list[Update](), list[int](), list[float]()
    for t in range(T):
        updates += recurrence.feed(np.array([[t]]))
        carried = [np.asarray(part) for part in flatten(recurrence.carry)]
        sizes.append(sum(part.size for part in carried))
        norms.append(math.hypot(*(float(np.linalg.norm(part)) for part in carried)))
    updates += [rest] if (rest := recurrence.finish()) is not None else []
    gradients = {name: np.sum([update.gradients[name] for update in updates], axis=0) for name in parameters}
    symbol, name = next((symbol, name) for kind, symbol, name in _SYMBOLS if isinstance(policy, kind))
    return Credit(symbol, name, tuple(sizes), tuple(norms), gradients)
