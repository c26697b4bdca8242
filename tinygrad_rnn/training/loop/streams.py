"""Random numbers: one independent stream for each purpose of a run."""

from __future__ import annotations

import numpy as np


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of one purpose: the same key gives the same numbers, other keys independent ones.

    Args:
        seed: seed of the run.
        key: what the numbers are for, such as (1, epoch) for an epoch's dropout.

    >>> stream(0, 1, 2).integers(100) == stream(0, 1, 2).integers(100)
    np.True_
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
