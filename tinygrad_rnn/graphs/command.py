"""What the command `graph` draws where no model is saved: a small language model with a named cell or one's own."""

from __future__ import annotations

import numpy as np

from ..engine.tape import Array
from ..errors import ConfigError
from ..imports import import_object
from ..nn.cells import CELLS
from ..nn.models import RNNLM

VOCABULARY, EMBEDDING, HIDDEN, BATCH = 16, 8, 12, 4


def small_model(name: str, steps: int, layers: int = 1) -> tuple[RNNLM, Array, Array]:
    """Return a small language model with the cell that is named, and ids and targets (N, T) that are drawn.

    Args:
        name: rnn, lstm or gru; or "mymodule:MyCell", a class or function f(input_size, hidden_size, rng) that makes a
            cell, in a module that the working folder or Python's path has.
        steps: T.
        layers: of the model.

    Raises:
        ConfigError: if there is no such cell, or it does not behave as a cell.

    >>> model, ids, targets = small_model("gru", steps=5)
    >>> ids.shape, targets.shape
    ((4, 5), (4, 5))
    """
    cell = name if name in CELLS else import_object("graph", name)
    rng = np.random.default_rng(0)
    text = rng.integers(0, VOCABULARY, (BATCH, steps + 1))
    try:
        model = RNNLM(VOCABULARY, EMBEDDING, HIDDEN, rng, cell=cell, layers=layers)
        model.loss(text[:, :1], text[:, :1])
    except Exception as error:  # a cell of the user's may raise anything
        raise ConfigError(
            f"graph: {name} raised {type(error).__name__}: {error}; expected a class or function "
            "f(input_size, hidden_size, rng) that makes a cell"
        ) from error
    return model, text[:, :-1], text[:, 1:]


def shown_steps(text: str | None) -> int | tuple[int, ...] | None:
    """Return which steps `--show` names: a number of them, or a list such as "1,2,10".

    Raises:
        ConfigError: if it is neither.

    >>> shown_steps("4"), shown_steps("1,2,10"), shown_steps(None)
    (4, (1, 2, 10), None)
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"graph: --show must be a number of steps, or steps such as 1,2,10, got {text!r}")
    return int(text) if len(parts) == 1 else tuple(int(part) for part in parts)
