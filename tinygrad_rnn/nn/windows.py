"""A hint for a state that is carried from window to window without a cut.

Each backward pass then goes back through all earlier windows, and each step takes longer than the last. The result is
still right and may be intended, so there is only a warning, once the chain is long.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..engine.tape import Node, context
from ..engine.tensor import Tensor
from ..engine.tree import flatten
from ..errors import GradientWarning, warn
from .cells import State

MANY = 10
"""The number of windows in a chain, with a gradient taken after each, at which there is a warning."""


def uncut_windows(state: State) -> int:
    """Return the number of windows that a state has passed through without a cut, with a gradient taken in each.

    One loss over many windows (a decoder that is stepped by hand) does not count, however many they are.
    """
    windows = max((node.windows + 1 for node in _nodes(state) if node.walked), default=0)
    if windows >= MANY:
        warn(
            f"unroll: the state has been carried through {windows} windows, and the gradient of each went back through "
            "all before it: each step takes longer than the last. Pass cut(state), or with full backpropagation meant, "
            "silence this GradientWarning",
            GradientWarning,
        )
    return windows


def mark_windows(state: State, windows: int) -> None:
    """Note the number of such windows on a new state, for the next call of `uncut_windows`."""
    if windows:
        for node in _nodes(state):
            node.windows = windows


def _nodes(state: State) -> Iterator[Node]:
    if context().recording:
        yield from (leaf.node for leaf in flatten(state) if isinstance(leaf, Tensor) and leaf.node is not None)
