"""The credit profile: how much of the gradient comes from k steps back, exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..credit.forward import ForwardPolicy
from ..credit.nests import arrays_of, edge_to, floats, fresh_leaf, leaves_of, loss_and_state, steps_of
from ..credit.profile import forward_profile
from ..credit.update import Step
from ..engine.tape import Array, Edge
from ..engine.tensor import Tensor
from ..engine.tree import map_leaves
from ..engine.walk import own, pull_back


def credit_profile(
    step: Step, parameters: Mapping[str, Tensor], inputs: object, state: object, policy: ForwardPolicy | None = None
) -> Iterator[dict[str, Array]]:
    """Yield G_0, G_1, ..., G_{T-1}: the parts of the full gradient that come from k steps back.

    G_k = sum over tau of C[tau, tau-k], with C the credits of `policies`. So sum over all k of G_k is the full
    gradient, and sum over k < h is the gradient of Windowed(h).

    The steps are recorded once, each as a separate graph. One walk back over all of them at once carries every loss's
    cotangent one step further, and gives one G_k: the cost is a full backward pass for each requested k, with T steps
    alive.

    Args:
        step: as in `Recurrence`; if it draws, it draws only once.
        parameters: name to leaf Tensor.
        inputs: arrays (N, T, ...), or any nesting of them.
        state: before the first step.
        policy: `RTRL`, `SnAp`, `EProp` or `RFLO`: the parts of its gradient in place of the full one's.

    Yields:
        Name to array, as the gradients of an `Update`.

    Raises:
        ShapeError: if inputs do not agree on N and T.
        ConfigError: if the policy is another one.
        GradientError: if `step` returns a loss that is not a single element, or a parameter has no `requires_grad`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> w = tr.tensor(2.0, requires_grad=True)
    >>> def step(xs, h):
    ...     h = h * w + xs[:, 0]
    ...     return h.sum(), h
    >>> [float(found["w"]) for found in credit_profile(step, {"w": w}, np.ones((1, 3)), np.ones(1))]
    [11.0, 8.0, 4.0]
    """
    if policy is not None:
        yield from forward_profile(step, parameters, inputs, state, policy)
        return
    T, parameters = steps_of(inputs), leaves_of(parameters, "credit_profile")
    seeds: list[tuple[Edge, Array]] = []
    before_leaf: dict[Edge, Edge] = {}  # from the leaf of a state to the result of the previous step that it represents
    after: object = None
    for t in range(T):
        before = map_leaves(fresh_leaf, arrays_of(state))
        for leaf, result in zip(floats(before), floats(after), strict=bool(t)):
            if isinstance(result, Tensor) and result.node is not None:
                before_leaf[edge_to(leaf)] = (result.node, result.index)
        here = map_leaves(lambda x, t=t: x[:, t : t + 1], inputs)
        loss, after = loss_and_state(step(here, before), "credit_profile")
        if isinstance(loss, Tensor) and loss.node is not None:
            seeds.append(((loss.node, loss.index), np.ones_like(loss.data)))
        state = after
    places = {name: edge_to(parameter) for name, parameter in parameters.items()}
    for _ in range(T):
        found = pull_back(seeds, [*places.values(), *before_leaf])
        values = own(
            found[place] if place in found else np.zeros(parameters[name].shape, parameters[name].dtype)
            for name, place in places.items()
        )
        yield dict(zip(places, values, strict=True))
        seeds = [(before_leaf[leaf], found[leaf]) for leaf in before_leaf if leaf in found]


class Trend(NamedTuple):
    """The trend of the credit: level * rate ** k, fitted to the logarithms of the norms over the older half.

    Attributes:
        rate: factor per step.
        level: the fitted norm at k = 0.
        first: first k of the fit.
        last: last k of the fit.
    """

    rate: float
    level: float
    first: int
    last: int

    @property
    def kind(self) -> str:
        """One of "vanishing", "exploding" and "lasting"; the last if the fit changes by less than a factor of 2."""
        change = (self.last - self.first) * math.log2(self.rate)
        return "lasting" if abs(change) < 1 else "vanishing" if change < 0 else "exploding"

    @property
    def sentence(self) -> str:
        """The kind, with its numbers, in words."""
        fitted = f"factor {self.rate:.4g} per step, fitted from k = {self.first} to {self.last}"
        if self.kind == "lasting":
            return f"lasting: the credit changes little with the distance ({fitted})"
        change = "halves" if self.kind == "vanishing" else "doubles"
        return f"{self.kind}: the credit {change} every {1 / abs(math.log2(self.rate)):.3g} steps ({fitted})"


def fit_trend(norms: Sequence[float]) -> Trend | None:
    """Return the trend of a profile's tail: a straight line through the logarithms of its older half.

    Args:
        norms: norms of G_0, G_1, ...; those from the first that is 0 or not finite on are left out.

    Returns:
        None if fewer than 3 norms are left for the fit.

    >>> fit_trend([3.0, 1.0, 1.0, 0.25, 0.0625, 0.015625]).sentence
    'vanishing: the credit halves every 0.5 steps (factor 0.25 per step, fitted from k = 3 to 5)'
    """
    usable = next((k for k, norm in enumerate(norms) if not 0 < norm < math.inf), len(norms))
    first = usable // 2
    if usable - first < 3:
        return None
    slope, level = np.polyfit(np.arange(first, usable), np.log(norms[first:usable]), 1)
    return Trend(float(np.exp(slope)), float(np.exp(level)), first, usable - 1)
