"""The process of one peer: `python -m peers.worker MODULE CONFIG`, CONFIG a JSON list of the fields of `Config`.

Writes one JSON line when it is ready (seconds from the first import to the end of the first step, memory, first
losses); then for each line with a number k that it reads, the seconds of k steps. Where PEERS_CLOCK is "cpu", these are
seconds of the processor, of all threads together, which a busy machine changes least.
"""

from __future__ import annotations

import ctypes
import importlib
import itertools
import json
import math
import os
import sys
import time
from pathlib import Path

STEPS = 8  # steps behind the first one in which memory is watched and losses are noted
ENOUGH = 5.0  # seconds of them; 3 steps in any case


def resident(which: str) -> float:
    """Return VmRSS (now) or VmHWM (the most since `forget_peak`) of this process in MiB; NaN without /proc."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.nan
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def forget_peak() -> None:
    """Let VmHWM start again from what is resident now, where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def main() -> None:
    """Start a peer, report, and run steps on demand."""
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[os.environ.get("PEERS_CLOCK", "wall")]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not get between the answers

    begin = time.perf_counter()
    peer = importlib.import_module(f"peers.{sys.argv[1]}")
    imported = time.perf_counter() - begin
    task = getattr(peer, "TASK", None) or importlib.import_module("peers.task")
    config = task.Config(*json.loads(sys.argv[2]))
    idle = resident("VmRSS")
    weights, windows = task.make_weights(config), itertools.cycle(task.make_windows(config))

    begin = time.perf_counter()
    step = peer.start(config, weights)
    losses = [step(*next(windows))]
    cold = imported + time.perf_counter() - begin
    first = resident("VmHWM")
    del weights
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    forget_peak()

    def timed() -> float:
        window = next(windows)
        begin = clock()
        losses.append(step(*window))
        return clock() - begin

    times: list[float] = []
    while len(times) < 3 or (len(times) < STEPS and sum(times) < ENOUGH):
        times.append(timed())
    ready = {
        "version": peer.VERSION,
        "import_s": imported,
        "cold_s": cold,
        "idle_mib": idle,
        "first_mib": first - idle,
        "peak_mib": resident("VmHWM") - idle,
        "losses": losses[:],
        "step_s": min(times),
    }
    print(json.dumps(ready), file=answers, flush=True)
    for line in sys.stdin:
        timed()  # wakes threads and caches, for another peer had the machine
        losses.clear()
        print(json.dumps([timed() for _ in range(int(line))]), file=answers, flush=True)


if __name__ == "__main__":
    main()
