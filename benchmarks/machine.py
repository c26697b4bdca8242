"""What the benchmarks say of the machine that they ran on."""

from __future__ import annotations

import os
import platform

import numpy as np


def blas_threads() -> int:
    """Return the threads that NumPy's matrix product may use."""
    return int(os.environ.get("OPENBLAS_NUM_THREADS", os.cpu_count() or 1))


def cpu_level() -> str:
    """Return the widest SIMD extension that NumPy found on this machine."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return found[-1] if found else "baseline"


def machine() -> dict[str, str | int]:
    """Return what a record of a measurement should name, for JSON."""
    return {
        "threads": blas_threads(),
        "kernels": os.environ.get("OPENBLAS_CORETYPE", "detected"),
        "cpu": cpu_level(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def describe() -> str:
    """Return the same in one line, for a table's head."""
    text = "{threads} BLAS threads ({kernels} kernels), {cpu}, {arch}, Python {python}, NumPy {numpy}"
    return text.format(**machine())
