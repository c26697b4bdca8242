"""Draws from generators during recording: a draw that no operation makes would be frozen in the plan."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import cast

import numpy as np

State = Mapping[str, object]


class Draws:
    """The draws from a generator while a function is recorded; `state` is its state before."""

    def __init__(self, generator: np.random.Generator, state: State | None = None) -> None:
        self.generator, self._unseen = generator, False
        self.first = self.last = state_of(generator) if state is None else state

    def drawn(self, before: State) -> None:
        """Count a draw that is recorded; `before` is the state before it."""
        self._unseen = self._unseen or not equal_states(before, self.last)
        self.last = state_of(self.generator)

    @property
    def unseen(self) -> bool:
        """Whether there were draws that are not recorded."""
        return self._unseen or not equal_states(self.generator.bit_generator.state, self.last)

    def rewind(self) -> None:
        """Restore the state that the generator had before."""
        self.generator.bit_generator.state = self.first


class OtherSources:
    """Sources of random numbers that a function must not draw from while it is recorded; their states are restored.

    They are `np.random` and `random`, and the older generators that the function names.
    """

    def __init__(self, named: Iterable[object]) -> None:
        self._sources: list[tuple[str, Callable[[], object], Callable[..., None]]] = [
            ("np.random", partial(np.random.get_state, legacy=False), np.random.set_state),
            ("random", random.getstate, random.setstate),
        ]
        for part in named:
            if isinstance(part, np.random.RandomState):
                self._sources.append(("a np.random.RandomState", partial(part.get_state, legacy=False), part.set_state))
            elif isinstance(part, random.Random):
                self._sources.append(("a random.Random", part.getstate, part.setstate))
        self._before = [get() for _, get, _ in self._sources]  # each a copy

    def restore(self) -> str | None:
        """Restore the states of all sources; return the name of one that was drawn from, or None."""
        drawn = None
        for (name, get, put), before in zip(self._sources, self._before, strict=True):
            if not equal_states(get(), before):
                put(before)
                drawn = drawn or name
        return drawn


def state_of(generator: np.random.Generator) -> State:
    """Return a copy of the state of a generator."""
    return cast(State, _copied(generator.bit_generator.state))


def _copied(part: object) -> object:
    """Return a copy of a part of a state: `deepcopy` takes ten times as long for nested dicts of numbers."""
    if isinstance(part, dict):
        return {name: _copied(inner) for name, inner in part.items()}
    return part if isinstance(part, int | str) else copy.deepcopy(part)


def equal_states(a: object, b: object) -> bool:
    """Return whether two states of generators, nested dicts with arrays in them, are equal."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal_states(a[key], b[key]) for key in a)
    return np.array_equal(a, np.asarray(b)) if isinstance(a, np.ndarray) else bool(a == b)
