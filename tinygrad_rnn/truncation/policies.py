"""Policies whose weights are known beforehand: full, chunked, windowed, decay, checkpointed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..checks import number
from ..credit.policy import Policy, inside, set_steps
from ..errors import ConfigError
from .sizes import bytes_of


@dataclass(frozen=True)
class Full(Policy):
    """Full BPTT: M[tau, t] = 1. Source: Werbos 1990, Backpropagation through time.

    Cost: one backward pass over T steps; T steps alive.

    Args:
        every: a pass after this many steps, with the state cut there, so that the sequences are these windows; None:
            one pass, at the end.

    >>> Full().mask(3)
    array([[1., 0., 0.],
           [1., 1., 0.],
           [1., 1., 1.]])
    """

    every: int | None = None

    def __post_init__(self) -> None:
        set_steps(self, "every")

    def scale(self, edge: int, end: int) -> float:
        """Return 1 inside a window, 0 at its border."""
        return inside(edge, end, self.every)


@dataclass(frozen=True)
class Chunked(Policy):
    """The textbook's truncated BPTT: M[tau, t] = 1 within chunks of n steps, else 0 (k1 = k2 = n).

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
        set_steps(self, "n")
        object.__setattr__(self, "every", self.n)

    def scale(self, edge: int, end: int) -> float:
        """Return 0 at multiples of n, else 1."""
        return 0.0 if edge % self.n == 0 else 1.0


@dataclass(frozen=True)
class Windowed(Policy):
    """BPTT(h; every): each pass reaches back h uses. M[tau, t] = 1 if t > s(tau) - h, steps counted from 1.

    s(tau) is the next multiple of `every` at or after tau. With every=1 each loss has its own window of h uses; with
    every=h this is Chunked(h). Each loss is counted once. Source: Williams and Peng 1990.

    Cost: a backward pass over h steps for each `every` steps (h / every times a full pass); at most h + every steps
    alive; nothing is computed forward twice. If parameters are updated in between, older steps keep those that they
    were recorded with.

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
        set_steps(self, "h", "every")
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
        set_steps(self, "every")
        object.__setattr__(self, "g", number("Decay", "g", self.g))
        object.__setattr__(self, "grain", 1)

    def scale(self, edge: int, end: int) -> float:
        """Return g inside a window, 0 at its border."""
        return self.g * inside(edge, end, self.every)


@dataclass(frozen=True)
class Checkpointed(Policy):
    """The exact full gradient in little memory: M[tau, t] = 1. Sources: Gruslys et al. 2016; Griewank and Walther 2000.

    Only states at the start of segments are kept; in the backward pass each segment is recorded again, seeded with the
    cotangent of the state after it. `Checkpointed(segment)` keeps the state before each segment: it calls the step
    twice for each (once for the last), with `segment` steps alive and T / segment states.

    `Checkpointed(states=s)` keeps s states, and computes the others again from them, in segments of a single step
    unless `segment` says otherwise. The states are those with which n segments take the fewest calls of the step, n to
    record them and besides

        t(n, s) = r n - (s + r)! / ((s + 1)! (r - 1)!),    r the smallest with n <= (s + r)! / (s! r!)

    so s states suffice for some s ** r / r! segments with r + 1 calls for each. This holds where the number of steps is
    known beforehand: with `every`, and for a sequence that is fed at once. For one that turns out to be longer, some of
    the states are dropped as it goes, which takes at most a fifth more calls, with ten states or more a tenth. The
    inputs of all segments are held.

    Args:
        segment: steps in a segment; without a limit on the states, about the square root of T takes the least memory.
        every: as in `Full`.
        states: the most states that are kept at a time, the first one among them; None: that of each segment.
        memory: bytes for the states and the graph of one segment, a number or a text such as "64 MB"; instead of
            states, whose number follows from the first segment. Inputs, parameters and their gradients are extra.

    Raises:
        ConfigError: if a number is below 1, if none of segment, states and memory is given, or both states and memory;
            in the first segment, if the memory is not enough for one state.
        GradientError: in the pass, if a segment has another loss when it is recorded again: what it draws from must be
            passed as `rng`.

    >>> bool((Checkpointed(2).mask(5) == Full().mask(5)).all())
    True
    >>> Checkpointed(memory="64 MB")
    Checkpointed(segment=1, every=None, states=None, memory=64000000)
    """

    segment: int | None = None
    every: int | None = None
    states: int | None = None
    memory: int | str | None = None

    def __post_init__(self) -> None:
        if self.segment is None and self.states is None and self.memory is None:
            raise ConfigError("Checkpointed: give the steps of a segment, the number of states, or memory")
        if self.states is not None and self.memory is not None:
            raise ConfigError("Checkpointed: give either states or memory")
        if self.segment is None:
            object.__setattr__(self, "segment", 1)
        if self.memory is not None:
            object.__setattr__(self, "memory", bytes_of("Checkpointed", "memory", self.memory))
            object.__setattr__(self, "budget", self.memory)
        set_steps(self, "segment", "every", "states")
        object.__setattr__(self, "grain", self.segment)
        object.__setattr__(self, "recompute", True)

    def scale(self, edge: int, end: int) -> float:
        """Return 1 inside a window, 0 at its border."""
        return inside(edge, end, self.every)
