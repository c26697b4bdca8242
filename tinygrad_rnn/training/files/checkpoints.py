"""Checkpoints: the whole state of a run, in archives of which the last ones are kept."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ...checks import integer
from ...engine.tape import Array
from ...errors import ConfigError, ModelFileError, warn
from .archive import Kind, read_archive, write_archive
from .lock import folder_taken
from .plain import Plain, decoded, encoded

CHECKPOINT = Kind("tinygrad_rnn checkpoint", 2, "a checkpoint of tinygrad_rnn")
_NAME = re.compile(r"checkpoint-(\d+)\.npz")


@dataclass(frozen=True)
class Checkpoints:
    """A folder for the checkpoints of one run.

    Each is written completely or not at all, with a digest of every array; the last ones are kept, so that one of them
    is intact whatever happens to the other.

    Args:
        folder: made when the first one is written.
        every: updates between two of them, in addition to those at the ends of epochs; 0: none.
        keep: how many are kept.
        force: whether those of an earlier run may be removed.

    Raises:
        ConfigError: if a number is out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(folder)
    ...     with checkpoints.taken():
    ...         for step in (10, 20, 30):
    ...             checkpoints.save(step, {"step": step})
    ...     [path.name for path in checkpoints.files()], checkpoints.latest()
    (['checkpoint-000000030.npz', 'checkpoint-000000020.npz'], {'step': 30})
    """

    folder: str | os.PathLike[str]
    every: int = 0
    keep: int = 2
    force: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | os.PathLike):
            raise ConfigError(f"Checkpoints: folder must be a path, got {self.folder!r}")
        integer("Checkpoints", "every", self.every, low=0)
        integer("Checkpoints", "keep", self.keep)

    def files(self) -> list[Path]:
        """Return the checkpoints that are there, the newest first."""
        found = {int(match[1]): path for path in Path(self.folder).glob("*") if (match := _NAME.fullmatch(path.name))}
        return [found[step] for step in sorted(found, reverse=True)]

    @contextmanager
    def taken(self, resuming: bool = False) -> Iterator[None]:
        """Create the folder and hold its lock, so that no other run writes to it.

        Args:
            resuming: whether the run continues from the checkpoints that are there.

        Raises:
            ConfigError: if checkpoints of another run are there and may not be removed, the folder cannot be made or
                written to, or another run holds its lock.
        """
        with folder_taken(Path(self.folder)):
            earlier = [] if resuming else self.files()
            if earlier and not self.force:
                raise ConfigError(
                    f"{earlier[0]} is a checkpoint of an earlier run: resume it, choose another folder, "
                    "or overwrite it with force"
                )
            yield

    def save(self, step: int, snapshot: Mapping[str, Plain], alone: bool = False) -> None:
        """Write a checkpoint, and remove those that are older than the last `keep`.

        Args:
            step: updates so far.
            snapshot: what `latest` will return.
            alone: remove all others, which are of another run.

        Raises:
            ConfigError: if a part of it cannot be written to a file.
            OSError: if it cannot be written; the earlier ones are unchanged.
        """
        arrays: dict[str, Array] = {}
        manifest = {"snapshot": encoded(dict(snapshot), arrays, "run"), "environment": _environment()}
        file = Path(self.folder, f"checkpoint-{step:09d}.npz")
        write_archive(file, CHECKPOINT, manifest, arrays)
        for path in [path for path in self.files() if path != file] if alone else self.files()[self.keep :]:
            path.unlink()

    def latest(self) -> dict[str, Plain] | None:
        """Return the content of the newest intact checkpoint; None if there are no checkpoints.

        Raises:
            ModelFileError: if there are checkpoints, and none is intact.

        Warns:
            UserWarning: if a newer one is damaged, or it was written in another environment, so that the bits
                may differ.
        """
        error: ModelFileError | None = None
        for path in self.files():
            try:
                archive = read_archive(path, CHECKPOINT, "resume")
            except ModelFileError as problem:
                error = error or problem
                continue
            if error is not None:
                warn(f"{error}; the one before is used")
            _warn_of_environment(cast(Mapping[str, str], archive.manifest["environment"]))
            return cast(dict[str, Plain], decoded(archive.manifest["snapshot"], archive.arrays))
        if error is not None:
            raise error
        return None


def checkpoints_in(given: Checkpoints | str | os.PathLike[str]) -> Checkpoints:
    """Return `Checkpoints` as given, or those of a folder."""
    return given if isinstance(given, Checkpoints) else Checkpoints(given)


def _environment() -> dict[str, str]:
    """Return what the bits of a result depend on, apart from the program."""
    return {
        "NumPy": np.__version__,
        "Python": ".".join(map(str, sys.version_info[:2])),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": os.environ.get("OPENBLAS_NUM_THREADS", "not set"),
    }


def _warn_of_environment(then: Mapping[str, str]) -> None:
    now = _environment()
    differing = [f"{name} {then.get(name)} then, {now[name]} now" for name in now if then.get(name) != now[name]]
    if differing:
        warn(
            f"resume: the checkpoint was written in another environment ({'; '.join(differing)}): the run "
            "continues, but not with the same bits",
        )
