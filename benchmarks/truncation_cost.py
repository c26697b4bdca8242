"""What truncation policies cost in time, against full backpropagation through time over the same steps.

    python benchmarks/truncation_cost.py         # half a minute
    python benchmarks/truncation_cost.py --cells lstm --rounds 5 --json runs/truncation_cost.jsonl

One sequence of T=400 steps, N=16, D=H=64, a loss at each step, float32. The policies take turns, round after round,
in one process, so all meet the same machine. "forward" is the time in the cell's first recording of the steps,
"backward" all the rest: the passes, what the driver does around them, and what a policy records a second time. The
table gives minimum and median over the rounds, and the ratio of each to that of Full(). "expected" is what arithmetic
says of the backward time: the uses of the parameters that all passes walk together, over T (what Checkpointed records
again is not in it); "whole" is both times.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from machine import describe, machine

import tinygrad_rnn as tr

N, D, H = 16, 64, 64
CELLS = {"rnn": tr.RNNCell, "lstm": tr.LSTMCell}


class Times(NamedTuple):
    """Seconds of one pass through the sequence."""

    forward: float
    backward: float


def policies(T: int) -> dict[str, tr.Policy]:
    """Return the policies by name; the first is what the others are compared with."""
    return {
        "Full()": tr.Full(),
        "Windowed(20, every=1)": tr.Windowed(20, every=1),
        "Windowed(20, every=5)": tr.Windowed(20, every=5),
        "Windowed(20, every=20)": tr.Windowed(20, every=20),
        "Chunked(20)": tr.Chunked(20),
        "Decay(0.9)": tr.Decay(0.9),
        "Randomized(0.05)": tr.Randomized(c=0.05, rng=0),
        f"Checkpointed({math.isqrt(T)})": tr.Checkpointed(math.isqrt(T)),
        "Checkpointed(states=20)": tr.Checkpointed(states=20),
    }


def arithmetic(policy: tr.Policy, T: int) -> float:
    """Return the uses of the parameters that all backward passes walk, over T."""
    M = policy.mask(T)
    passes = itertools.pairwise([0, *policy.passes(T)])
    return sum(np.count_nonzero(M[begin:end].any(axis=0)) for begin, end in passes) / T


def measure(cell: Any, policy: tr.Policy, xs: Any) -> Times:
    """Return the times of one sequence under one policy."""
    recorded, forward = 0, 0.0

    def step(inputs: Any, state: Any) -> tuple[Any, Any]:
        nonlocal recorded, forward
        start = time.perf_counter()
        hs, state = tr.unroll(cell, inputs, state)
        loss = np.sum(hs * hs)
        if recorded < xs.shape[1]:  # from there on the policy records again
            forward += time.perf_counter() - start
        recorded += inputs.shape[1]
        return loss, state

    start = time.perf_counter()
    tr.bptt(step, cell.parameters(), xs, cell.initial_state(N), policy)
    return Times(forward, time.perf_counter() - start - forward)


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, list[Times]]]:
    """Measure, print the tables, and return all times by cell and policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="default: both")
    parser.add_argument("--steps", type=int, default=400, help="T (default 400)")
    parser.add_argument("--rounds", type=int, default=10, help="default 10")
    parser.add_argument("--json", type=Path, help="file that gets a line for each cell and policy")
    args = parser.parse_args(argv)

    print(f"T={args.steps}, N={N}, D=H={H}, float32, {args.rounds} rounds; {describe()}")
    results: dict[str, dict[str, list[Times]]] = {}
    for name in args.cells:
        rng = np.random.default_rng(0)
        cell, xs = CELLS[name](D, H, rng), rng.standard_normal((N, args.steps, D), dtype=np.float32)
        times: dict[str, list[Times]] = {label: [] for label in policies(args.steps)}
        for _ in range(args.rounds):
            for label, policy in policies(args.steps).items():
                times[label].append(measure(cell, policy, xs))
        results[name] = times
        print_table(name, times, args.steps)
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            with args.json.open("a", encoding="utf-8") as file:
                for label, rows in times.items():
                    record = {"cell": name, "policy": label, "T": args.steps, **machine()}
                    record |= {key: [round(getattr(row, key), 6) for row in rows] for key in Times._fields}
                    file.write(json.dumps(record) + "\n")
    return results


def print_table(cell: str, times: dict[str, list[Times]], T: int) -> None:
    """Print minimum and median of each policy in ms, and their ratios to those of the first."""
    print(
        f"\n{cell:21}{'forward ms':>15}{'backward ms':>18}{'backward / Full':>21}{'expected':>10}{'whole / Full':>19}"
    )
    print(f"{'policy':21}" + "".join(f"{'min':>{gap}}{'median':>8}" for gap in (7, 10, 13)), end="")
    print(f"{'min':>21}{'median':>8}")
    # axes: policy; minimum or median over the rounds; forward, backward, both
    found = np.array(
        [
            [statistic([(*row, sum(row)) for row in rows], axis=0) for statistic in (np.min, np.median)]
            for rows in times.values()
        ]
    )
    for (label, policy), values, ratios in zip(policies(T).items(), 1e3 * found, found / found[0], strict=True):
        print(f"{label:21}{values[0, 0]:7.1f}{values[1, 0]:8.1f}{values[0, 1]:10.1f}{values[1, 1]:8.1f}", end="")
        print(f"{ratios[0, 1]:13.2f}{ratios[1, 1]:8.2f}{arithmetic(policy, T):10.2f}", end="")
        print(f"{ratios[0, 2]:11.2f}{ratios[1, 2]:8.2f}")


if __name__ == "__main__":
    main()
