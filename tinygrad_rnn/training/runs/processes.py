"""A run of several processes: alike at the start, whole in a checkpoint, and going on when one of them dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ...nn.cells import State
from ...nn.module import Module
from ...parallel.group import Group, LostError
from ...parallel.shares import joined_state
from ..loop.step import TrainStep

Snapshot = TypeVar("Snapshot")


def alike(group: Group, model: Module) -> None:
    """Give the model of each process the arrays of the first one's."""
    if group.size > 1:
        model.load(group.share({name: np.asarray(array) for name, array in model.state_dict().items()}))


def whole_state(step: TrainStep, state: State) -> State:
    """Return the state of all streams, of which each process holds some; all processes call it together."""
    if step.group.size == 1 or state is None:
        return state
    return joined_state(step.group.gather((step.share, state)))


def recovered(
    group: Group, step: TrainStep, updates: int, state: State, snapshot: Callable[[], Snapshot], fresh: State
) -> tuple[Snapshot, State, str]:
    """Return what the run goes on from after processes have died: that of a process that made the last update.

    Streams of dead processes begin anew, from `fresh`; all others keep their state.

    Args:
        group: the processes, some of which have died.
        step: makes the updates.
        updates, state: of this process.
        snapshot: returns all that the run consists of, but for the state.
        fresh: state of all streams at the start of an epoch.

    Returns:
        The snapshot, the state of all streams, and what has happened, in words.

    Raises:
        LostError: if this MPI cannot go on without a process.
    """
    before = group.size
    while True:
        left = group.shrink()
        try:
            found = group.gather((updates, step.share, state))
            last = max(done for done, _, _ in found)
            source = next(rank for rank, (done, _, _) in enumerate(found) if done == last)
            shared = group.share(snapshot() if group.rank == source else None, source)
        except LostError:
            continue  # another one
        break
    assert shared is not None
    whole = joined_state([(share, part) for _, share, part in found], fresh)
    step.regroup()
    dead = before - len(left)
    processes = "1 process has" if dead == 1 else f"{dead} processes have"
    begun = "" if fresh is None else "; the streams of the dead begin with a fresh state"
    text = f"{processes} died; {len(left)} of {before} go on from update {last:,}{begun}"
    return shared, whole, text
