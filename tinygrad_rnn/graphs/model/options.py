"""What a user asked of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Settings of a view; each view reads those that it understands.

    Attributes:
        title: headline; "": the view's own.
        note: a fact for the line below it, such as the truncation policy.
        steps: how many steps to show (the first ones and the last ones), or which, counted from 1; None: all up to
            eight, else 1, 2, T-2, T-1 and T.
        depth: 1: a cell is one box; 2: opened to its operations; None: the view's own choice.
    """

    title: str = ""
    note: str = ""
    steps: int | Sequence[int] | None = None
    depth: int | None = None
