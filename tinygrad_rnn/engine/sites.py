"""Where operations are recorded: the line that a user wrote, for messages and drawings."""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from types import CodeType
from typing import TypeAlias

# Frames of these modules are the engine's own; the first one outside is the line that the user wrote.
_ENGINE = frozenset(
    f"{__package__}.{name}"
    for name in ("conversions", "methods", "operands", "operators", "primitive", "tape", "tensor", "tree")
)
_ENGINE_OPS = f"{__package__.rpartition('.')[0]}.ops"

Site: TypeAlias = tuple[CodeType, int]
"""A code object, and the offset of an instruction in it, which is read in a quarter of the time of a line number."""


def call_site() -> Site:
    """Return the innermost call outside the engine; no frame, so nothing is kept alive."""
    frame = sys._getframe(2)  # the caller is part of the engine
    while (outer := frame.f_back) is not None:
        module = frame.f_globals.get("__name__", "")
        if module not in _ENGINE and not module.startswith(_ENGINE_OPS):
            break
        frame = outer
    return frame.f_code, frame.f_lasti


def position_of(site: Site) -> tuple[int | None, ...]:
    """Return the first and last line of a site's call, and its first and last column, as far as they are known.

    A call has one position, and several offsets: others once the interpreter has specialized its instruction.
    """
    return _positions(site[0])[site[1] // 2]


@lru_cache(maxsize=64)
def _positions(code: CodeType) -> tuple[tuple[int | None, ...], ...]:
    return tuple(code.co_positions())


def line_of(site: Site) -> int:
    """Return the number of a site's line in its file."""
    return position_of(site)[0] or site[0].co_firstlineno


def describe_site(site: Site, step: int | None = None, names: tuple[str, ...] = (), folder: bool = True) -> str:
    """Return a place of recording as "file.py:12, step 3, in layers.0", with the folder of the file or without it."""
    path = site[0].co_filename
    if not folder:
        path = re.split(r"[/\\]", path)[-1]
    place = f"{path}:{line_of(site)}"
    if step is not None:
        place += f", step {step}"
    return place + (f", in {'.'.join(names)}" if names else "")
