"""What each pass of the compiler gains: one training step with all passes, and with one of them switched off.

    python benchmarks/compile_passes.py                      # prints a Markdown table, writes it to results/
    python benchmarks/compile_passes.py --executor numpy     # the same for plans that NumPy replays

Forward, backward and SGD update, float32, the configurations of train_step.py, one thread.
The plan with all passes and the one without a pass take turns; each figure is the minimum of all steps of the one over
the minimum of the other, in processor time. Above 1: the step is slower without the pass.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import describe, machine
from peers.ours_eager import make_model
from peers.task import CONFIGS, LR, Config, make_weights, make_windows

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes import PASSES

RESULTS = Path(__file__).parent / "results"


def stepper(config: Config, without: tuple[str, ...], executor: str) -> tuple[Callable[[], None], tr.Compiled]:
    """Return a function that makes one step, and what was compiled."""
    model = make_model(config, make_weights(config))
    params, state = model.parameters(), model.initial_state(config.N)
    ids, targets = make_windows(config, 1)[0]

    def train(params, ids, targets, state):
        loss, state = model.loss(ids, targets, state)
        grads = tr.grad(loss, params)
        return loss, {name: p - LR * grads[name] for name, p in params.items()}, state

    compiled = tr.compile(train, without=without, executor=executor, threads=1)
    return lambda: compiled(params, ids, targets, state) and None, compiled


def least(steps: list[Callable[[], None]], seconds: float) -> list[float]:
    """Return the least processor time of each step, in seconds; they take turns."""
    best, end = [np.inf] * len(steps), time.perf_counter() + seconds
    while time.perf_counter() < end:
        for number, step in enumerate(steps):
            start = time.process_time()
            step()
            best[number] = min(best[number], time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", choices=list(CONFIGS), default=["book", "words-lstm", "char", "long"])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each pass (default: %(default)s)")
    parser.add_argument("--executor", choices=["native", "numpy"], default="native", help="default: %(default)s")
    arguments = parser.parse_args()
    executor = arguments.executor
    print(describe(), "\n")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in arguments.configs:
        found[name] = {}
        for switched_off in PASSES:
            all_on, plan = stepper(CONFIGS[name], (), executor)
            off, other = stepper(CONFIGS[name], (switched_off,), executor)
            all_on(), off()
            with_it, without_it = least([all_on, off], arguments.seconds)
            found[name][switched_off] = {
                "ratio": without_it / with_it,
                "ms": 1000 * with_it,
                "calls": len(list(plan.plan.flat())),
                "calls_without": len(list(other.plan.flat())),
            }
    record = {"machine": machine(), "executor": executor, "passes": found}
    name = "compile_passes.json" if executor == "native" else "compile_passes_numpy.json"
    (RESULTS / name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("| without | " + " | ".join(found) + " |")
    print("| --- |" + " --- |" * len(found))
    for switched_off in PASSES:
        cells = (f"{found[name][switched_off]['ratio']:.2f}" for name in found)
        print(f"| `{switched_off}` | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
