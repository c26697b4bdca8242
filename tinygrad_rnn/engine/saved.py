"""Objects that can be saved and resumed: their state is a nest of arrays and JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..errors import ConfigError

Saved: TypeAlias = "npt.NDArray[np.generic] | str | int | float | bool | Sequence[Saved] | Mapping[str, Saved] | None"
"""Arrays, strings, numbers, booleans and None, in lists and in dicts with strings as keys."""


@runtime_checkable
class Stateful(Protocol):
    """An object that can be saved and resumed: an optimizer, a schedule, a stream of batches.

    The result of `state_dict` shares nothing with the object. `load_state_dict` of an object made with the same
    settings takes it, all or nothing, and that object then continues as the first one would have.

    >>> from tinygrad_rnn.optim import Plateau
    >>> isinstance(Plateau(0.1), Stateful), isinstance([], Stateful)
    (True, False)
    """

    def state_dict(self) -> Mapping[str, Saved]:
        """Return the state."""

    def load_state_dict(self, state: Mapping[str, Saved]) -> None:
        """Take a state that `state_dict` returned."""


def check_keys(where: str, state: object, expected: Set[str]) -> Mapping[str, Saved]:
    """Return `state` if it is a mapping with these keys and no others.

    Raises:
        ConfigError: if it is not; the message starts with `where`.

    >>> check_keys("Plateau.load_state_dict", {"lr": 0.1}, {"lr", "best"})
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: Plateau.load_state_dict: expected a state with ['best', 'lr'], got ['lr']
    """
    if isinstance(state, Mapping) and state.keys() == expected:
        return state
    found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
    raise ConfigError(f"{where}: expected a state with {sorted(expected)}, got {found}")
