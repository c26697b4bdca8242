"""Policies that decide where to cut as they go: randomized ones draw, the adaptive one looks at norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..checks import integer, number
from ..credit.policy import Policy, inside, set_steps
from ..engine.tape import Array
from ..errors import ConfigError
from .policies import Full


@dataclass(frozen=True)
class Randomized(Policy):
    """Random cuts, unbiased: each edge multiplies by 0 with probability c, else by 1 / (1 - c), so E[M] = 1.

    The compensation applies only to the state edge. Source: Tallec and Ollivier 2017, Unbiasing truncated
    backpropagation through time. With `mean_length` L instead of c, the probability depends on the d edges since the
    last cut, c = (alpha - 1) / ((alpha - 2) * L + d), which makes long spans likelier and the variance smaller.

    Cost: one backward pass; T (or `every`) steps alive.

    Args:
        c: probability of a cut at an edge, in [0, 1).
        mean_length: mean number of steps between cuts, above 1; instead of c.
        alpha: exponent of the tail, above 2; with mean_length.
        rng: generator or seed of the draws. Each sequence continues to draw from it.
        every: as in `Full`.

    Raises:
        ConfigError: if not exactly one of c and mean_length is given, or a number is out of range.

    >>> Randomized(c=0.5, rng=0).mask(3)
    array([[1., 0., 0.],
           [2., 1., 0.],
           [0., 0., 1.]])
    """

    c: float | None = None
    mean_length: float | None = None
    alpha: float = 6.0
    rng: int | np.random.Generator = 0
    every: int | None = None
    _generator: np.random.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        set_steps(self, "every")
        if (self.c is None) == (self.mean_length is None):
            raise ConfigError("Randomized: give either c or mean_length")
        if self.c is not None:
            object.__setattr__(self, "c", number("Randomized", "c", self.c, 0, 1, below=True))
        else:
            mean = number("Randomized", "mean_length", self.mean_length, 1, above=True)
            object.__setattr__(self, "mean_length", mean)
            object.__setattr__(self, "alpha", number("Randomized", "alpha", self.alpha, 2, above=True))
        if not isinstance(self.rng, np.random.Generator):
            object.__setattr__(self, "rng", integer("Randomized", "rng, if it is no numpy Generator,", self.rng, 0))
        object.__setattr__(self, "grain", 1)
        object.__setattr__(self, "_generator", np.random.default_rng(self.rng))

    def probability(self, since: int) -> float:
        """Return the probability of a cut at an edge that is `since` edges after the last cut (1 is the first)."""
        if self.c is not None:
            return self.c
        assert self.mean_length is not None
        return min(1.0, (self.alpha - 1) / ((self.alpha - 2) * self.mean_length + since))

    def start(self) -> Policy:
        """Return a policy with draws of its own for a new sequence."""
        return _Drawn(self)

    def scale(self, edge: int, end: int) -> float:
        """Raise an error, because the draws belong to a sequence; call `start()`."""
        raise ConfigError("Randomized: scale is known for a started sequence only; use policy.start()")

    def expected_mask(self, T: int) -> Array:
        """Return the mean of `mask(T)`: that of full BPTT."""
        return Full(self.every).mask(T)


class _Drawn(Policy):
    """The draws of a random policy for one sequence, made edge by edge in order, whichever edge is asked for first."""

    grain = 1

    def __init__(self, policy: Randomized) -> None:
        self.every = policy.every
        self._policy = policy
        self._scales: list[float] = [1.0]
        self._since = 0

    def scale(self, edge: int, end: int) -> float:
        while len(self._scales) <= edge:
            self._since += 1
            c = self._policy.probability(self._since)
            cut = bool(self._policy._generator.random() < c)
            self._since = 0 if cut else self._since
            self._scales.append(0.0 if cut else 1 / (1 - c))
        return self._scales[edge] * inside(edge, end, self.every)


class Adaptive(Policy):
    """BPTT(K; every) with a window K chosen from how fast the cotangent fades. Source: Aicher, Foti and Fox 2019.

    After each pass the norms n_k of the cotangent at k edges before the losses are fitted by n_k ~ beta ** k over the
    older half. The part that a window of K leaves out is then at most n_K * beta / (1 - beta), and K becomes the
    smallest window for which this is at most `tolerance` times the part within the window; if the cotangent does not
    fade, or not enough within K, K is doubled, up to `max_window`.

    Cost: as Windowed(K, every), with max_window + every steps alive.

    Args:
        tolerance: largest estimated relative bias; above 0.
        max_window: largest K, uses of the parameters.
        every: steps between passes.
        window: K to start with; None: twice `every`.

    Raises:
        ConfigError: if a number is out of range.

    >>> Adaptive(0.1, max_window=8, every=2).window
    4
    """

    grain = 1

    def __init__(self, tolerance: float, max_window: int, every: int = 1, window: int | None = None) -> None:
        self.tolerance = number("Adaptive", "tolerance", tolerance, 0, above=True)
        self.max_window = self.reach = integer("Adaptive", "max_window", max_window)
        self.every: int = integer("Adaptive", "every", every, 1, self.max_window)
        first = min(self.max_window, 2 * self.every) if window is None else window
        self.window = integer("Adaptive", "window", first, self.every, self.max_window)

    def __repr__(self) -> str:
        return f"Adaptive({self.tolerance}, max_window={self.max_window}, every={self.every}, window={self.window})"

    def scale(self, edge: int, end: int) -> float:
        """Return 1 within the current window."""
        assert self.every is not None
        update = -(-end // self.every) * self.every
        return 1.0 if update - edge < self.window else 0.0

    def observe(self, end: int, begin: int, norms: Sequence[tuple[int, float]]) -> None:
        """Choose the next window from the norms of this pass."""
        assert self.every is not None
        if not norms:
            return  # a pass without a loss, or without an edge, gives no information
        fading = [norm for edge, norm in norms if edge <= begin]  # past all the losses of the pass, newest first
        if len(fading) < 2 or not all(math.isfinite(norm) and norm > 0 for norm in fading):
            self.window = min(self.max_window, 2 * self.window)
            return
        older = fading[len(fading) // 2 - 1 :]
        beta = (older[-1] / older[0]) ** (1 / (len(older) - 1))
        wanted = math.inf
        if beta < 1:
            total = 0.0
            for k, norm in enumerate(fading):
                total += norm
                if norm * beta / (1 - beta) <= self.tolerance * total:
                    wanted = self.every + k + 1
                    break
        self.window = int(min(self.max_window, max(wanted, self.every + 1) if wanted < math.inf else 2 * self.window))
