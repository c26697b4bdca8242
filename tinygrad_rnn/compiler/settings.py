"""Settings of a replay: the executor and the number of threads."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigError
from .native.build import available

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # Linux: the quota of processor time in each period, and the period


def chosen_executor(executor: str | None = None) -> str:
    """Return the executor that `compile(..., executor=executor)` uses, "native" or "numpy"; may build the C library.

    Raises:
        ConfigError: if the name is unknown.

    >>> chosen_executor("numpy")
    'numpy'
    """
    named = named_executor(executor)
    return ("native" if available() else "numpy") if named == "auto" else named


def named_executor(executor: str | None) -> str:
    """Return "auto", "native" or "numpy": the given name, checked, or that of TINYGRAD_RNN_EXECUTOR."""
    named = os.environ.get("TINYGRAD_RNN_EXECUTOR", "auto") if executor is None else executor
    if named not in ("auto", "native", "numpy"):
        raise ConfigError(
            f'compile: executor (or TINYGRAD_RNN_EXECUTOR) must be "auto", "native" or "numpy", got {named!r}'
        )
    return named


def default_threads() -> int:
    """Return the number of workers: OPENBLAS_NUM_THREADS if that is set, else one for each core, up to 4."""
    text = os.environ.get("OPENBLAS_NUM_THREADS", "")
    if text.isdecimal() and int(text):
        return int(text)
    return min(_cores(), 4)  # with more, each has few rows of a small batch, and they wait for each other


def _cores() -> int:
    """Return the number of cores that this process may use: its affinity, limited by the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # not Linux, or "max": no limit
        return cores
