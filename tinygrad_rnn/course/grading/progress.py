"""Which exercises were solved: kept in a file, from run to run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from ...errors import ConfigError
from ...files import write_atomically
from .grade import Grade

_FORMAT = "tinygrad_rnn course"


def progress_file() -> Path:
    """Return where progress is kept: `TINYGRAD_RNN_PROGRESS`, or a file in the user's folder of data."""
    given = os.environ.get("TINYGRAD_RNN_PROGRESS")
    if given:
        return Path(given)
    home = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA") or str(Path.home() / ".local" / "share")
    return Path(home, "tinygrad_rnn", "course.json")


def solved(path: Path) -> dict[int, set[str]]:
    """Return the solved exercises of each lesson.

    Raises:
        ConfigError: if the file is of another kind, or damaged.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(content["format"])
        return {int(number): set(map(str, names)) for number, names in content["solved"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ConfigError(
            f"lesson: {str(path)!r} does not hold the progress of a course ({error}); move it away"
        ) from error


def remember(path: Path, number: int, grades: Iterable[Grade]) -> dict[int, set[str]]:
    """Add what was solved to the file, and return everything that is in it; what was solved once stays solved.

    Raises:
        ConfigError: if the file is of another kind, or damaged.
        OSError: if it cannot be written.
    """
    known = solved(path)
    known.setdefault(number, set()).update(grade.exercise for grade in grades if grade.passed)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": _FORMAT, "solved": {str(key): sorted(names) for key, names in sorted(known.items()) if names}}
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    return known
