"""Truncation policies: which losses give credit to which uses of the parameters, and how much of it.

Let C[tau, t] be the gradient of loss tau with respect to the use of the parameters at step t (to a copy theta_t of its
own, in the full graph). A policy is a matrix of weights over these credits:

    dL/dtheta = sum over t <= tau of M[tau, t] * C[tau, t],    M = policy.mask(T)

A policy says when backward passes run (behind every `every` steps, and at the end), and what each state edge multiplies
the cotangent by. Steps count from 0; edge j joins the uses j-1 and j; the pass at `end` covers the losses before step
`end` that no pass has covered. `mask` is computed from just these, so what is drawn and what is done cannot differ.

A window of h means that a loss touches h uses of the parameters, hence crosses h - 1 state edges. Other libraries count
edges, or steps before the window, and are off by one from each other.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..engine.tape import Array
from ..errors import ConfigError


class Policy(ABC):
    """What every policy has; derive from it for a policy of your own.

    Attributes:
        every: steps between backward passes; None: one pass, at the end.
        reach: most uses of the parameters that a loss can touch; None: no limit. What lies further back is freed.
        grain: cuts stand at multiples of this many steps only, so the graph is recorded in segments of that length;
            None: at passes only.
        recompute: keep only the state at each segment's start, and record the segment again going backward.

    Example:
        A linear taper: the weight of a use falls evenly to 0 over h steps.

    >>> import tinygrad_rnn as tr
    >>> class Taper(tr.Policy):
    ...     every = grain = 1
    ...
    ...     def __init__(self, h):
    ...         self.h = self.reach = h
    ...
    ...     def scale(self, edge, end):
    ...         back = end - edge  # uses from this edge to the loss
    ...         return max(0, self.h - back) / (self.h - back + 1)
    >>> Taper(3).mask(4).round(2)
    array([[1.  , 0.  , 0.  , 0.  ],
           [0.67, 1.  , 0.  , 0.  ],
           [0.33, 0.67, 1.  , 0.  ],
           [0.  , 0.33, 0.67, 1.  ]])
    """

    every: int | None = None
    reach: int | None = None
    grain: int | None = None
    recompute: bool = False

    @abstractmethod
    def scale(self, edge: int, end: int) -> float:
        """Return what the cotangent is multiplied by at `edge` in the pass at `end`; 0 ends the pass there."""

    def start(self) -> Policy:
        """Return the policy for a new sequence: itself, unless it draws something for each."""
        return self

    def observe(self, end: int, begin: int, norms: Sequence[tuple[int, float]]) -> None:  # noqa: B027 (most need none)
        """Take note of a pass at `end` over the losses from step `begin`.

        `norms` holds (edge, norm of the cotangent that arrived there), newest first.
        """

    def passes(self, T: int) -> list[int]:
        """Return the steps behind which a backward pass runs in a sequence of T steps; the last is T."""
        return sorted({*range(self.every or T, T + 1, self.every or T), T}) if T else []

    def mask(self, T: int) -> Array:
        """Return M (T, T) float64, row tau the loss, column t the use; for a random policy, one draw of it."""
        policy, M, begin = self.start(), np.zeros((T, T)), 0
        for end in policy.passes(T):
            scales = [1.0, *(policy.scale(edge, end) for edge in range(1, end))]
            for tau in range(begin, end):
                M[tau, tau] = 1
                for t in reversed(range(tau)):
                    M[tau, t] = M[tau, t + 1] * scales[t + 1]
            begin = end
        return M

    def expected_mask(self, T: int) -> Array:
        """Return the mean of `mask(T)` over what the policy draws; `mask(T)` itself if it draws nothing."""
        return self.mask(T)


def _at_least_1(policy: object, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigError(f"{type(policy).__name__}: {name} must be a whole number of steps from 1, got {value!r}")


@dataclass(frozen=True)
class Full(Policy):
    """Full BPTT: M[tau, t] = 1. Source: Werbos 1990, Backpropagation through time.

    Cost: one backward pass over T steps; T steps alive.

    Args:
        every: None: one pass at the end. Given: a pass behind this many steps, with the state cut there; the sequences
            are then these windows.

    >>> Full().mask(3)
    array([[1., 0., 0.],
           [1., 1., 0.],
           [1., 1., 1.]])
    """

    every: int | None = None

    def __post_init__(self) -> None:
        _at_least_1(self, every=self.every)

    def scale(self, edge: int, end: int) -> float:
        """Return 1 inside a window, 0 at its border."""
        return _inside(edge, end, self.every)


def _inside(edge: int, end: int, every: int | None) -> float:
    return 0.0 if every is not None and edge <= (end - 1) // every * every else 1.0


@dataclass(frozen=True)
class Chunked(Policy):
    """The chapter's truncated BPTT: M[tau, t] = 1 within chunks of n steps, else 0 (k1 = k2 = n).

    Source: Williams and Peng 1990, BPTT(n; n). Cost: one backward pass over n steps for each n steps; n steps alive.

    Args:
        n: steps in a chunk.

    Raises:
        ConfigError: if n is below 1.

    >>> Chunked(2).mask(4)
    array([[1., 0., 0., 0.],
           [1., 1., 0., 0.],
           [0., 0., 1., 0.],
           [0., 0., 1., 1.]])
    """

    n: int

    def __post_init__(self) -> None:
        _at_least_1(self, n=self.n)
        object.__setattr__(self, "every", self.n)

    def scale(self, edge: int, end: int) -> float:
        """Return 0 at multiples of n, else 1."""
        return 0.0 if edge % self.n == 0 else 1.0


@dataclass(frozen=True)
class Windowed(Policy):
    """BPTT(h; every): each pass reaches back h uses. M[tau, t] = 1 if t > s(tau) - h, steps counted from 1.

    s(tau) is the next multiple of `every` at or behind tau. With every=1 each loss has its own window of h uses; with
    every=h this is Chunked(h). Each loss is counted once. Source: Williams and Peng 1990.

    Cost: a backward pass over h steps for each `every` steps (h / every times a full pass); at most h + every steps
    alive; nothing is computed forward twice. With updates in between, older steps keep the parameters that they were
    recorded with.

    Args:
        h: uses of the parameters that a pass reaches back.
        every: steps between passes, at most h.

    Raises:
        ConfigError: if a number is below 1 or every is above h.

    >>> Windowed(2).mask(3)
    array([[1., 0., 0.],
           [1., 1., 0.],
           [0., 1., 1.]])
    """

    h: int
    every: int = 1

    def __post_init__(self) -> None:
        _at_least_1(self, h=self.h, every=self.every)
        if self.every > self.h:
            raise ConfigError(f"Windowed: every ({self.every}) must be at most h ({self.h}), or losses would be lost")
        object.__setattr__(self, "reach", self.h)
        object.__setattr__(self, "grain", math.gcd(self.h, self.every))

    def scale(self, edge: int, end: int) -> float:
        """Return 1 while the use before the edge lies within h of the update."""
        update = -(-end // self.every) * self.every
        return 1.0 if update - edge < self.h else 0.0


@dataclass(frozen=True)
class Decay(Policy):
    """Every state edge multiplies the cotangent by g: M[tau, t] = g ** (tau - t).

    decay(0) is chunked(1), decay(1) is full. Cost: one backward pass; T (or `every`) steps alive.

    Args:
        g: factor, any finite number, usually in [0, 1].
        every: as in `Full`.

    Raises:
        ConfigError: if g is not finite or every is below 1.

    >>> Decay(0.5).mask(3)
    array([[1.  , 0.  , 0.  ],
           [0.5 , 1.  , 0.  ],
           [0.25, 0.5 , 1.  ]])
    """

    g: float
    every: int | None = None

    def __post_init__(self) -> None:
        _at_least_1(self, every=self.every)
        if isinstance(self.g, bool) or not isinstance(self.g, int | float) or not math.isfinite(self.g):
            raise ConfigError(f"Decay: g must be a finite number, got {self.g!r}")
        object.__setattr__(self, "grain", 1)

    def scale(self, edge: int, end: int) -> float:
        """Return g inside a window, 0 at its border."""
        return self.g * _inside(edge, end, self.every)


@dataclass(frozen=True)
class Checkpointed(Policy):
    """The exact full gradient in little memory: M[tau, t] = 1. Source: Gruslys et al. 2016.

    Only the state at each segment's start is kept; going backward each segment is recorded again, seeded with the
    cotangent of the state behind it.

    Cost: one backward pass and one more forward pass; `segment` steps alive and T / segment states.

    Args:
        segment: steps in a segment; about the square root of T takes least memory.
        every: as in `Full`.

    Raises:
        ConfigError: if a number is below 1.

    >>> bool((Checkpointed(2).mask(5) == Full().mask(5)).all())
    True
    """

    segment: int
    every: int | None = None

    def __post_init__(self) -> None:
        _at_least_1(self, segment=self.segment, every=self.every)
        object.__setattr__(self, "grain", self.segment)
        object.__setattr__(self, "recompute", True)

    def scale(self, edge: int, end: int) -> float:
        """Return 1 inside a window, 0 at its border."""
        return _inside(edge, end, self.every)


@dataclass(frozen=True)
class Randomized(Policy):
    """Random cuts, unbiased: each edge multiplies by 0 with probability c, else by 1 / (1 - c), so E[M] = 1.

    The compensation stands on the state edge only. Source: Tallec and Ollivier 2017, Unbiasing truncated
    backpropagation through time. With `mean_length` L instead of c, the probability depends on the d edges since the
    last cut, c = (alpha - 1) / ((alpha - 2) * L + d), which makes long stretches likelier and the variance smaller.

    Cost: one backward pass; T (or `every`) steps alive.

    Args:
        c: probability of a cut at an edge, in [0, 1).
        mean_length: mean number of steps between cuts, above 1; instead of c.
        alpha: exponent of the tail, above 2; with mean_length.
        rng: generator or seed of the draws. Each sequence draws on.
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
        _at_least_1(self, every=self.every)
        if (self.c is None) == (self.mean_length is None):
            raise ConfigError("Randomized: give either c or mean_length")
        if self.c is not None and not 0 <= self.c < 1:
            raise ConfigError(f"Randomized: c must lie in [0, 1), got {self.c}")
        if self.mean_length is not None and not (1 < self.mean_length < math.inf and 2 < self.alpha < math.inf):
            raise ConfigError(
                f"Randomized: expected mean_length above 1 and alpha above 2, got {self.mean_length} and {self.alpha}"
            )
        object.__setattr__(self, "grain", 1)
        object.__setattr__(self, "_generator", np.random.default_rng(self.rng))

    def probability(self, since: int) -> float:
        """Return the probability of a cut at an edge that is `since` edges behind the last cut (1 is the first)."""
        if self.c is not None:
            return self.c
        assert self.mean_length is not None
        return min(1.0, (self.alpha - 1) / ((self.alpha - 2) * self.mean_length + since))

    def start(self) -> Policy:
        """Return a policy with draws of its own for a new sequence."""
        return _Drawn(self)

    def scale(self, edge: int, end: int) -> float:
        """Raise: the draws belong to a sequence; ask `start()`."""
        raise ConfigError("Randomized: scale is known for a started sequence only; use policy.start()")

    def expected_mask(self, T: int) -> Array:
        """Return the mean of `mask(T)`: that of full BPTT."""
        return Full(self.every).mask(T)


class _Drawn(Policy):
    """The draws of a random policy for one sequence, made edge by edge in order, whoever asks first."""

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
        return self._scales[edge] * _inside(edge, end, self.every)


class Adaptive(Policy):
    """BPTT(K; every) with a window K chosen from how fast the cotangent fades. Source: Aicher, Foti and Fox 2019.

    Behind each pass the norms n_k of the cotangent at k edges behind the losses are fitted by n_k ~ beta ** k over the
    older half. What a window of K leaves out is then at most n_K * beta / (1 - beta), and K becomes the smallest window
    for which this is no more than `tolerance` times what the window has; where the cotangent does not fade, or not
    enough within K, K is doubled, up to `max_window`.

    Cost: as Windowed(K, every), with max_window + every steps alive.

    Args:
        tolerance: largest relative bias, estimated; above 0.
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
        _at_least_1(self, max_window=max_window, every=every, window=window)
        if not 0 < tolerance < math.inf:
            raise ConfigError(f"Adaptive: tolerance must be above 0, got {tolerance}")
        if every > max_window or (window is not None and not every <= window <= max_window):
            raise ConfigError(
                f"Adaptive: expected every <= window <= max_window, got {every}, {window} and {max_window}"
            )
        self.tolerance, self.max_window, self.every = tolerance, max_window, every
        self.window = min(max_window, 2 * every) if window is None else window
        self.reach = max_window

    def __repr__(self) -> str:
        return f"Adaptive({self.tolerance}, max_window={self.max_window}, every={self.every}, window={self.window})"

    def scale(self, edge: int, end: int) -> float:
        """Return 1 within the window of now."""
        assert self.every is not None
        update = -(-end // self.every) * self.every
        return 1.0 if update - edge < self.window else 0.0

    def observe(self, end: int, begin: int, norms: Sequence[tuple[int, float]]) -> None:
        """Choose the next window from the norms of this pass."""
        assert self.every is not None
        if not norms:
            return  # a pass without a loss, or without an edge, says nothing
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
