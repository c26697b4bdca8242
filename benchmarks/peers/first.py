"""One first call in a process of its own: `python -m peers.first MODULE CONFIG`; see `process.once`.

Answers with the seconds of the import, of making the step, of the first step, and of the fastest of some steps after
it: what the first takes longer than that is compiling. The time of the processor, over all threads, too, and how much
of the first step's is the operating system's, which zeroes memory that is touched for the first time.
"""

from __future__ import annotations

import importlib
import itertools
import json
import resource
import sys
import time
from typing import Any

from .task import Config, make_weights, make_windows

AGAIN = 5  # steps after the first
ENOUGH = 2.0  # seconds of them; 2 steps in any case


def measure(module: str, config: Config) -> dict[str, Any]:
    """Return what the first step of a peer takes; whatever compiles has compiled something tiny before."""
    begin = time.perf_counter()
    peer = importlib.import_module(f"peers.{module}")
    imported = time.perf_counter() - begin
    if hasattr(peer, "warm_up"):
        peer.warm_up()
    weights, windows = make_weights(config), itertools.cycle(make_windows(config))
    begin = time.perf_counter()
    step = peer.start(config, weights)
    made = time.perf_counter() - begin
    times: list[float] = []
    work: list[float] = []
    system: list[float] = []
    losses: list[float] = []
    while len(times) < 3 or (len(times) <= AGAIN and sum(times[1:]) < ENOUGH):
        window = next(windows)
        in_system = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        begin, worked = time.perf_counter(), time.process_time()
        losses.append(step(*window))
        times.append(time.perf_counter() - begin)
        work.append(time.process_time() - worked)
        system.append(resource.getrusage(resource.RUSAGE_SELF).ru_stime - in_system)
    return {
        "version": peer.VERSION,
        "import_s": imported,
        "start_s": made,
        "first_s": times[0],
        "again_s": min(times[1:]),
        "first_cpu_s": work[0],
        "first_system_s": system[0],
        "again_cpu_s": min(work[1:]),
        "losses": losses,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]), Config(*json.loads(sys.argv[2])))))
