"""The lock of a folder, which one run at a time writes to: a file, created exclusively, that names the owner."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from ...errors import ConfigError, warn

NAME = ".tinygrad_rnn.lock"
_PART = re.compile(r"\..+\.[0-9a-f]{16}\.part")  # as `write_atomically` names them
_Owner: TypeAlias = dict[str, str | int | None]


@contextmanager
def folder_taken(folder: Path) -> Iterator[None]:
    """Create a folder and hold its lock; afterwards remove the folders that were created for it and are still empty.

    Raises:
        ConfigError: if it cannot be made or written to, or another run holds its lock.
    """
    with made(folder), contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder))
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written to ({error.strerror})") from error
        for path in folder.glob(".*.part"):  # half written when a run was killed
            if _PART.fullmatch(path.name):
                path.unlink(missing_ok=True)
        yield


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    The lock names the process and the machine. The lock of a dead process on this machine is taken over.

    Args:
        folder: it exists.

    Raises:
        ConfigError: if another run holds it; the message names the process and the lock file.
        OSError: if the folder cannot be written to.

    Warns:
        UserWarning: if the lock of a dead process was taken over.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     with locked(Path(name)):
    ...         print([path.name for path in Path(name).iterdir()])
    ...     print(list(Path(name).iterdir()))
    ['.tinygrad_rnn.lock']
    []
    """
    path = folder / NAME
    own = {
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "host": socket.gethostname(),
        "token": secrets.token_hex(8),  # no two locks are the same
    }
    while not _made(path, own):
        owner = _owner(path)
        if not owner and not path.exists():
            continue  # unlocked this moment
        if not _is_dead(owner) or not _removed(path, owner):
            raise _held(path, owner)
        warn(
            f"the run that wrote there before (process {owner['pid']}) ended without unlocking its folders; its locks "
            "were taken over",
        )
    try:
        yield
    finally:
        if _owner(path) == own:
            path.unlink(missing_ok=True)


def _made(path: Path, own: _Owner) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(own))
    except FileExistsError:
        return False
    return True


def _owner(path: Path) -> _Owner:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # gone again, or not written yet
        return {}
    return found if isinstance(found, dict) else {}


def _is_dead(owner: _Owner) -> bool:
    """Return whether the process of a lock is known to be gone."""
    pid = owner.get("pid")
    if os.name != "posix" or owner.get("host") != socket.gethostname() or type(pid) is not int or pid < 1:
        return False
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return True
    except OSError:
        return False
    now = _started(pid)  # the number may belong to another process by now
    return None not in (now, owner.get("started")) and now != owner["started"]


def _removed(path: Path, owner: _Owner) -> bool:
    """Remove a dead process's lock; only one process may do that, so that none removes the lock of the next run."""
    claim = path.with_name(f"{NAME}.{owner.get('token')}")
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        return False
    try:
        if _owner(path) == owner:
            path.unlink()
    finally:
        claim.unlink()
    return True


def _started(pid: int) -> str | None:
    """Return when a process was started, in ticks since boot; None if the system does not tell."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    return None


def _held(path: Path, owner: _Owner) -> ConfigError:
    who = f"process {owner.get('pid', 'unknown')} on {owner.get('host', 'an unknown machine')}"
    return ConfigError(
        f"{path.parent}: another run ({who}) is writing there; choose another place to save, or remove {path} if that "
        "run is gone"
    )


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Create a folder and its parents; afterwards remove those of them that are still empty."""
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be made ({error.strerror})") from error
        yield
    finally:
        remove_empty(missing)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, the innermost first, until one is not empty."""
    for path in folders:
        try:
            path.rmdir()
        except OSError:
            if os.path.lexists(path):  # otherwise it could not be made
                return
