"""Options of a picture, and its largest size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...checks import integer
from ...errors import DrawingError

MOST_BOXES = 3000
"""The largest number of boxes: a larger picture would be unreadable."""


@dataclass(frozen=True)
class Options:
    """Settings of a view; each view reads those that concern it.

    Attributes:
        title: of the picture; "": the default of the view.
        notes: facts for the subtitle, such as the truncation policy.
        steps: how many steps to show (the first ones and the last ones), or which, counted from 1; None: all up to
            eight, else 1, 2, T-2, T-1 and T.
        depth: 1: a cell is one box; 2: its operations are shown; None: the default of the view.
    """

    title: str = ""
    notes: tuple[str, ...] = ()
    steps: int | Sequence[int] | None = None
    depth: int | None = None


def checked_steps(steps: object) -> int | list[int] | None:
    """Return the requested steps, how many or which, checked to be integers of 1 or more."""
    if isinstance(steps, Iterable) and not isinstance(steps, str):
        return [integer("draw", "steps", step) for step in steps]
    return None if steps is None else integer("draw", "steps", steps)


def check_size(view: str, boxes: int) -> None:
    """Raise `DrawingError` for a picture of more than 3000 boxes."""
    if boxes > MOST_BOXES:
        raise DrawingError(
            f'draw: view="{view}" needs {boxes:,} boxes, and more than {MOST_BOXES:,} cannot be read; choose fewer '
            'steps with steps=, or view="rolled", which draws one step; to give a graph steps, record it with unroll '
            "or inside at_step(t)"
        )
