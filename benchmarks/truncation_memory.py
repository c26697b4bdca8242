"""Peak memory and steps alive of one long sequence under every truncation policy.

    python benchmarks/truncation_memory.py       # 4 minutes, nearly all for T = 10,000 with tracemalloc
    python benchmarks/truncation_memory.py --steps 100 1000 --json runs/truncation_memory.jsonl

An LSTM, H=64, reads N=4 streams of random inputs, D=16, in windows that are made on the fly (20 steps; sqrt(T) where
the policy records again, since its segments cannot be longer than the windows), so the data itself takes no memory
beyond what a policy holds on to. Each step has a loss. Steps alive is the most steps whose graph is held at a time,
counted through weak references; seconds are those of this run. A second run of the same gives the peak of what
tracemalloc sees from just before the first window to the end, arrays of NumPy included, without the parameters.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from machine import describe, machine
from numpy.typing import NDArray

import tinygrad_rnn as tr

N, D, H = 4, 16, 64
WINDOW = 20  # steps


class Cost(NamedTuple):
    """What one sequence took."""

    policy: str
    T: int
    peak_mib: float
    steps_alive: int
    seconds: float


def policies(T: int) -> list[tr.Policy]:
    """Return a new policy of each kind for a sequence of T steps."""
    return [
        tr.Full(),
        tr.Decay(0.9),
        tr.Randomized(c=0.05, rng=0),
        tr.Checkpointed(math.isqrt(T)),
        tr.Checkpointed(states=20),
        tr.Chunked(10),
        tr.Windowed(20, every=5),
        tr.Adaptive(0.1, max_window=20, every=5),
    ]


def label(policy: tr.Policy) -> str:
    """Return a name of a policy that does not depend on T."""
    if isinstance(policy, tr.Checkpointed):
        return "Checkpointed(sqrt T)" if policy.states is None else f"Checkpointed(states={policy.states})"
    if isinstance(policy, tr.Adaptive):
        return f"Adaptive({policy.tolerance}, {policy.max_window}, every={policy.every})"
    if isinstance(policy, tr.Randomized):
        return f"Randomized(c={policy.c})"
    return repr(policy).replace("every=None", "").replace(", )", ")")


def windows(T: int, length: int) -> Iterator[NDArray[np.float32]]:
    """Yield T steps of random inputs, (N, length, D) at a time."""
    rng = np.random.default_rng(1)
    for start in range(0, T, length):
        yield rng.standard_normal((N, min(length, T - start), D), dtype=np.float32)


def step_of(cell: Callable[[Any, Any], tuple[Any, Any]]) -> tr.truncation.Step:
    """Return a step with the loss sum(h * h) at every time step."""

    def step(xs: Any, state: Any) -> tuple[Any, Any]:
        hs, state = tr.unroll(cell, xs, state)
        return np.sum(hs * hs), state

    return step


def read(cell: tr.LSTMCell, step: tr.truncation.Step, policy: tr.Policy, T: int) -> None:
    """Go through one sequence and drop every update."""
    inputs = windows(T, math.isqrt(T) if policy.recompute and policy.states is None else WINDOW)
    for _ in tr.stream(step, cell.parameters(), inputs, cell.initial_state(N), policy):
        pass


def measure(index: int, T: int) -> Cost:
    """Return what a sequence of T steps takes under one policy."""
    cell = tr.LSTMCell(D, H, np.random.default_rng(0))
    held: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    def counted(x: Any, state: Any) -> tuple[Any, Any]:
        nonlocal most
        output, state = cell(x, state)
        if output.node is not None:  # a policy may only move the state forward, and record nothing
            held.add(output.node)
        most = max(most, len(held))
        return output, state

    start = time.perf_counter()
    read(cell, step_of(counted), policies(T)[index], T)
    seconds = time.perf_counter() - start

    tracemalloc.start()  # after the other run: Python's and NumPy's stocks of small objects are full now
    try:
        read(cell, step_of(cell), policies(T)[index], T)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return Cost(label(policies(T)[index]), T, peak / 2**20, most, seconds)


def main(argv: Sequence[str] | None = None) -> list[Cost]:
    """Measure, print the table, and return the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000, 10_000], help="lengths T")
    parser.add_argument("--json", type=Path, help="file that gets a line for each policy and length")
    args = parser.parse_args(argv)

    print(f"LSTM, H={H}, N={N}, D={D}, float32; {describe()}\n")
    print(f"{'':28}" + "".join(f"{f'T = {T:,}':>26}" for T in args.steps))
    print(f"{'policy':28}" + f"{'MiB':>10}{'alive':>8}{'s':>8}" * len(args.steps))
    costs = []
    for index, policy in enumerate(policies(1)):
        print(f"{label(policy):28}", end="", flush=True)
        for T in args.steps:
            cost = measure(index, T)
            costs.append(cost)
            print(f"{cost.peak_mib:10.2f}{cost.steps_alive:8,}{cost.seconds:8.1f}", end="", flush=True)
            if args.json:
                args.json.parent.mkdir(parents=True, exist_ok=True)
                with args.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**cost._asdict(), **machine()}) + "\n")
        print()
    return costs


if __name__ == "__main__":
    main()
