"""The CPU that the C library is compiled for: the one of this machine, or a lower level of x86-64, for tests."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path

from ...errors import ConfigError

_CPUINFO = Path("/proc/cpuinfo")
_MODEL = (  # the lines of /proc/cpuinfo that name a CPU and its instruction sets
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),  # x86
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),  # ARM
    *("cpu", "isa", "uarch", "features"),  # POWER, RISC-V, IBM Z
)
# The levels of the x86-64 psABI, and the names in /proc/cpuinfo of the instruction sets that each needs.
_V2 = frozenset(["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"])
_V3 = _V2 | frozenset(["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"])
_V4 = _V3 | frozenset(["avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"])
_LEVELS = {"x86-64": frozenset[str](), "x86-64-v3": _V3, "x86-64-v4": _V4}


def processor() -> str:
    """Return model and instruction sets of the first processor.

    >>> processor() == processor()
    True
    """
    lines = []
    with contextlib.suppress(OSError), _CPUINFO.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.isspace():
                break
            if line.partition(":")[0].strip() in _MODEL:
                lines.append(line)
    return "".join(lines) or platform.processor()


def levels() -> list[str]:
    """Return the levels of x86-64 that this CPU has, lowest first: none on another architecture.

    >>> all(level.startswith("x86-64") for level in levels())
    True
    """
    if sys.platform == "win32" or os.uname().machine != "x86_64":
        return []
    has = set(processor().split())
    return [level for level, needed in _LEVELS.items() if needed <= has]


def target() -> str:
    """Return the CPU to compile for, from `TINYGRAD_RNN_CPU`: "native", the default, or a level of x86-64.

    Raises:
        ConfigError: if the variable names no level, or one that this CPU does not have.

    >>> target() in ("native", *levels())
    True
    """
    named = os.environ.get("TINYGRAD_RNN_CPU") or "native"
    if named == "native":
        return named
    if named not in _LEVELS:
        known = ", ".join(f'"{level}"' for level in _LEVELS)
        raise ConfigError(f'compile: TINYGRAD_RNN_CPU must be "native", {known}, got {named!r}')
    if named not in (here := levels()):
        found = ", ".join(here) or "no level of x86-64"
        raise ConfigError(
            f"compile: TINYGRAD_RNN_CPU={named}, but this CPU has {found}; name one that it has, or unset it"
        )
    return named
