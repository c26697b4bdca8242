"""What the benchmarks say of the machine that they ran on; as a script, with the speed of its products, as JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import numpy as np

from tinygrad_rnn.compiler.native.build import available, library


def blas_threads() -> int:
    """Return the threads that NumPy's matrix product may use."""
    return int(os.environ.get("OPENBLAS_NUM_THREADS", os.cpu_count() or 1))


def cpu_level() -> str:
    """Return the widest SIMD extension that NumPy found on this machine."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    return found[-1] if found else "baseline"


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def gflops(size: int = 1536, seconds: float = 1.0) -> float:
    """Return the billions of float32 operations a second of NumPy's product of square matrices, best of many."""
    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    out, best, end = np.empty_like(a), np.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        np.matmul(a, a, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def machine() -> dict[str, str | int]:
    """Return what a record of a measurement should name, for JSON."""
    return {
        "threads": blas_threads(),
        "kernels": os.environ.get("OPENBLAS_CORETYPE", "detected"),
        "cpu": cpu_level(),
        "arch": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "compiler": library().compiler if available() else "none",
    }


def describe() -> str:
    """Return the same in one line, for a table's head."""
    text = "{threads} BLAS threads ({kernels} kernels), {cpu}, {arch}, Python {python}, NumPy {numpy}"
    return text.format(**machine())


if __name__ == "__main__":
    print(json.dumps(machine() | {"processor": processor(), "cores": os.cpu_count(), "gflops": round(gflops(), 1)}))
