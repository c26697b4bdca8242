"""Settings of a replay: which executor, how many threads."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigError
from .native.build import available

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # Linux: microseconds of all cores together, in a period of so many


def chosen_executor(executor: str | None = None) -> str:
    """Return the executor of `compile(..., executor=executor)`: "native" or "numpy"; this may build the C library.

    Raises:
        ConfigError: if there is no such executor.

    >>> chosen_executor("numpy")
    'numpy'
    """
    named = named_executor(executor)
    return ("native" if available() else "numpy") if named == "auto" else named


def named_executor(executor: str | None) -> str:
    """Return "auto", "native" or "numpy": the argument, or else TINYGRAD_RNN_EXECUTOR, once it is checked."""
    named = os.environ.get("TINYGRAD_RNN_EXECUTOR", "auto") if executor is None else executor
    if named not in ("auto", "native", "numpy"):
        raise ConfigError(
            f'compile: executor (or TINYGRAD_RNN_EXECUTOR) must be "auto", "native" or "numpy", got {named!r}'
        )
    return named


def default_threads() -> int:
    """Return the number of threads of matrix products: OPENBLAS_NUM_THREADS, or one for each core, up to 4."""
    text = os.environ.get("OPENBLAS_NUM_THREADS", "")
    if text.isdecimal() and int(text):
        return int(text)
    return min(_cores(), 4)  # more would have few rows of a small batch each, and wait for each other


def _cores() -> int:
    """Return the cores that this process may use: those it is bound to, and no more than its container grants."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # not Linux, or "max": no limit
        return cores
