"""The argument check that the files of this folder share."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.errors import ConfigError


def positive_int(function: str, name: str, value: object) -> int:
    """Return `value` as a Python int if it is an integer of 1 or more.

    A Python int or a NumPy integer passes; a bool does not, because `True` for a count is a slip.

    Args:
        function: Name of the function that the user called, for the message.
        name: Name of the argument, for the message.
        value: What the user passed.

    Returns:
        The value as an int.

    Raises:
        ConfigError: If the value is not an integer or is below 1. (A ConfigError is a ValueError.)

    Example:
        >>> positive_int("train", "batch_size", 20)
        20
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{function}: {name} must be an integer of 1 or more, got {value!r} ({type(value).__name__})")
    return int(value)
