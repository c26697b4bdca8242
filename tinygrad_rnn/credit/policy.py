"""Truncation policies: which losses give credit to which uses of the parameters, and how much of it.

Let C[tau, t] be the gradient of loss tau with respect to the use of the parameters at step t (to a copy theta_t of its
own, in the full graph). A policy is a matrix of weights over these credits:

    dL/dtheta = sum over t <= tau of M[tau, t] * C[tau, t],    M = policy.mask(T)

A policy defines when backward passes run (after every `every` steps, and at the end), and the factor by which each
state edge multiplies the cotangent. Steps count from 0; edge j joins the uses j-1 and j; the pass at `end` covers the
losses before step `end` that no pass has covered. `mask` is computed from these definitions alone, so the picture and
the driver cannot differ.

A window of h means that a loss reaches h uses of the parameters, hence crosses h - 1 state edges. Other libraries count
edges, or steps before the window, and differ by one from each other.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from ..checks import integer, number
from ..engine.tape import Array
from ..errors import ConfigError


class Policy(ABC):
    """Base of the truncation policies; derive from it for a policy of your own.

    Attributes:
        every: steps between backward passes; None: one pass, at the end.
        reach: largest number of uses of the parameters that a pass goes back, counted from the next multiple of `every`
            (from the end of the sequence without one); None: no limit. The edge before them is a cut; `scale` is not
            called for it or any earlier edge, and earlier steps are freed.
        grain: cuts are only at multiples of this many steps, so the graph is recorded in segments of that length; None:
            only at passes.
        recompute: keep only the state at each segment's start, and record the segment again in the backward pass.
        states: with `recompute`, the most such states that are kept at a time, those from which a pass needs the fewest
            calls of the step; None: all.
        budget: with `recompute`, the bytes that such states and the graph of one segment may take, from which the
            number of states follows; None: any number.

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
    states: int | None = None
    budget: int | None = None

    @abstractmethod
    def scale(self, edge: int, end: int) -> float:
        """Return the factor of the cotangent at `edge` in the pass at `end`; 0 ends the pass there.

        The library calls it through `factor`, so never for an edge beyond `reach`.
        """

    def factor(self, edge: int, end: int) -> float:
        """Return `scale` of an edge within `reach`, and 0 beyond it.

        Raises:
            ConfigError: if `scale` returns anything but a finite number.

        >>> import tinygrad_rnn as tr
        >>> tr.Windowed(3).factor(8, 10), tr.Windowed(3).factor(7, 10)
        (1.0, 0.0)
        """
        if self.reach is not None:
            update = end if self.every is None else -(-end // self.every) * self.every
            if update - edge >= self.reach:
                return 0.0
        return number(type(self).__name__, f"scale({edge}, {end})", self.scale(edge, end))

    def factors(self, end: int, begin: int = 0) -> list[float]:
        """Return the factor of every edge before `end`; that of edge 0, which does not exist, is 1.

        Args:
            end: where the pass runs.
            begin: the first loss that it covers; older edges that no cotangent passes have 0.

        >>> import tinygrad_rnn as tr
        >>> tr.Decay(0.5).factors(3)
        [1.0, 0.5, 0.5]
        """
        found = [1.0] + [0.0] * (end - 1)
        for edge in reversed(range(1, end)):
            found[edge] = self.factor(edge, end)
            if found[edge] == 0 and edge <= begin:
                break
        return found

    def may_cut(self, edge: int) -> bool:
        """Return whether a pass may scale the cotangent at an edge: at a multiple of `grain` or of `every`."""
        return any(edge % steps == 0 for steps in (self.grain, self.every) if steps is not None)

    def start(self) -> Policy:
        """Return the policy for a new sequence: itself, unless it draws for each sequence."""
        return self

    def observe(self, end: int, begin: int, norms: Sequence[tuple[int, float]]) -> None:  # noqa: B027 (most need none)
        """Observe a pass at `end` over the losses from step `begin`.

        `norms` holds (edge, norm of the cotangent that arrived there), newest first.
        """

    def passes(self, T: int) -> list[int]:
        """Return the steps after which a backward pass runs in a sequence of T steps; the last is T.

        Raises:
            ConfigError: if T is not an integer of 0 or more.
        """
        T = integer(type(self).__name__, "T", T, low=0)
        return sorted({*range(self.every or T, T + 1, self.every or T), T}) if T else []

    def mask(self, T: int) -> Array:
        """Return M (T, T) float64, row tau the loss, column t the use; for a random policy, one draw of it.

        Raises:
            ConfigError: if T is not an integer of 0 or more, `scale` returns anything but a finite number or scales an
                edge where `grain` allows no cut, or the policy is not one that a driver can follow.
        """
        T = integer(type(self).__name__, "T", T, low=0)
        policy, M, begin = started(self), np.zeros((T, T)), 0
        for end in policy.passes(T):
            factors = policy.factors(end, begin)
            for edge in reversed(range(1, end)):
                if factors[edge] != 1 and not policy.may_cut(edge):
                    raise inside_a_segment(policy, edge)
                if factors[edge] == 0 and edge <= begin:
                    break
            for tau in range(begin, end):
                weight = M[tau, tau] = 1.0
                for t in reversed(range(tau)):
                    if not factors[t + 1]:
                        break  # nothing passes, not even an infinite cotangent
                    M[tau, t] = weight = weight * factors[t + 1]
            begin = end
        return M

    def expected_mask(self, T: int) -> Array:
        """Return the mean of `mask(T)` over the policy's draws; `mask(T)` itself if it draws nothing."""
        return self.mask(T)


def started(policy: Policy) -> Policy:
    """Return the policy for a new sequence, checked.

    Raises:
        ConfigError: if its every, reach or grain is not a number of steps, or its `start` returns no policy.
    """
    check_steps(policy)
    found: object = policy.start()
    if not isinstance(found, Policy):
        raise ConfigError(
            f"{type(policy).__name__}: expected start() to return the policy of the new sequence (self, unless each "
            f"sequence has one of its own), got {found!r}"
        )
    check_steps(found)
    return found


def check_steps(policy: Policy) -> None:
    """Raise `ConfigError` if a setting that every policy has is not a number of steps, or of bytes."""
    set_steps(policy, "every", "reach", "grain", "states", "budget")


def inside_a_segment(policy: Policy, edge: int) -> ConfigError:
    """Return the error for a policy that scales an edge where it may not."""
    steps = [f"{name} {value}" for name in ("grain", "every") if (value := getattr(policy, name)) is not None]
    where = f"is no multiple of {' or '.join(steps)}" if steps else "no border divides: it has neither grain nor every"
    return ConfigError(
        f"{type(policy).__name__}: scale() is not 1 at edge {edge}, which {where}; set grain to a number of steps that "
        "divides every edge that is scaled (1: all of them)"
    )


def policy_state(policy: Policy | None) -> dict[str, object]:
    """Return copies of the parts of a policy that may change: its numbers, lists of numbers, and generators.

    >>> import tinygrad_rnn as tr
    >>> policy_state(tr.Adaptive(0.1, max_window=8, every=2))["window"]
    4
    """
    if policy is None:
        return {}
    return {name: copy.deepcopy(value) for name, value in vars(policy).items() if _may_change(value)}


def restore_policy(policy: Policy, state: Mapping[str, object]) -> None:
    """Give a policy the parts that `policy_state` returned; its generators stay the same objects."""
    for name, value in state.items():
        own = getattr(policy, name, None)
        if isinstance(own, np.random.Generator) and isinstance(value, np.random.Generator):
            own.bit_generator.state = value.bit_generator.state
        elif own != value:
            object.__setattr__(policy, name, copy.copy(value))  # a policy may be frozen


def _may_change(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(part, int | float) for part in value)
    return isinstance(value, int | float | np.random.Generator)


def set_steps(policy: Policy, *names: str) -> None:
    """Check the settings of a policy that are numbers of steps, and store them as Python integers.

    Args:
        policy: the policy, which may be frozen.
        names: names of the settings; a setting of None is left alone.

    Raises:
        ConfigError: if one is not an integer of 1 or more.
    """
    for name in names:
        value = getattr(policy, name)
        if value is None:
            continue
        whole = integer(type(policy).__name__, name, value)
        if type(value) is not int:
            object.__setattr__(policy, name, whole)


def inside(edge: int, end: int, every: int | None) -> float:
    """Return 1 for an edge of the window of `every` steps that ends at `end`, 0 for older ones."""
    return 0.0 if every is not None and edge <= (end - 1) // every * every else 1.0
