"""Measure the tables of docs/credit.md.

python docs/measure_credit.py           # of language models, an LSTM and a GRU: some minutes
python docs/measure_credit.py sizes     # memory and time of a step against n and P: some minutes
python docs/measure_credit.py length    # memory against T, up to 100,000 compiled steps: ten minutes
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn.data.text import embedded_text

POLICIES = [
    "windowed:1",
    "windowed:5",
    "windowed:20",
    "rtrl",
    "snap:1",
    "eprop",
    "eprop:random",
    "kf",
    "uoro",
    "forward",
]
N, T, H, UPDATES = 4, 60, 32, 200


def measured(cell: str) -> tr.TruncationReport:
    """Return the report for a language model of one layer, after a short training on the text that Python ships."""
    train, valid = tr.load_corpus(embedded_text(), "char", max_tokens=100_000)
    model = tr.RNNLM(len(train.vocabulary), 16, H, np.random.default_rng(0), cell=cell, dtype=np.float64)
    step = tr.TrainStep(model, lambda model, batch: model.loss(*batch)[0], tr.Adam(lr=0.01))
    windows = iter(tr.OffsetBatches(train.ids[: 8 * 20 * UPDATES + 8], batch_size=8, bptt=20))
    for batch in windows:
        step(tuple(batch))
    ids = valid.ids[: N * T].reshape(N, T)
    targets = valid.ids[1 : N * T + 1].reshape(N, T)
    return tr.truncation_report(model, ids, targets, POLICIES, horizon=1, repeats=1)


ONLINE = [*POLICIES[3:], "rflo"]


def a_gru(H: int) -> tuple[Callable[..., Any], dict[str, tr.Tensor], Any]:
    """Return the step of a GRU of H units and as many inputs, its parameters, and its first state."""
    cell = tr.GRUCell(H, H, np.random.default_rng(0))

    def step(xs: Any, state: Any) -> Any:
        outputs, state = tr.unroll(cell, xs, state)
        return np.sum(outputs * outputs), state

    return step, cell.parameters(), cell.initial_state(1)


def inputs_of(H: int, steps: int) -> Iterator[Any]:
    """Yield the inputs of some steps."""
    rng = np.random.default_rng(1)
    for _ in range(steps):
        yield rng.standard_normal((1, 1, H)).astype(np.float32)


def sizes() -> None:
    """Print what an eager step costs for several n and P."""
    print("| policy | n | P | peak memory (KiB) | ms per step |\n| --- | --- | --- | --- | --- |")
    for policy in ONLINE:
        for H in (16, 32, 64):
            step, params, state = a_gru(H)
            run = tr.Recurrence(step, params, tr.parse_policy(policy, every=1), state)
            tracemalloc.start()
            for xs in inputs_of(H, 20):
                list(run.feed(xs))
            peak = tracemalloc.get_traced_memory()[1] / 1024
            tracemalloc.stop()
            times = []
            for xs in inputs_of(H, 50):
                start = time.process_time()
                list(run.feed(xs))
                times.append(time.process_time() - start)
            P = sum(p.size for p in params.values())
            print(f"| `{policy}` | {H} | {P:,} | {peak:,.0f} | {1000 * float(np.median(times)):.2f} |", flush=True)


def lengths(policy: str) -> None:
    """Print how much the process has ever held more than after 200 steps, for streams of up to 100,000 steps."""
    step, params, state = a_gru(8)
    how, carry = tr.parse_policy(policy, every=1), None

    def advance(params: Any, xs: Any, state: Any, carry: Any) -> Any:
        run = tr.Recurrence(step, params, how, state, carry=carry)
        (update,) = run.feed(xs)
        return update.loss, update.gradients, update.state, run.carry

    call, peaks = tr.compile(advance, donate=["carry"]), []
    for number, xs in enumerate(inputs_of(8, 100_000), 1):
        _, _, state, carry = call(params, xs, state, carry)
        if number in (200, 1_000, 10_000, 100_000):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    print(f"| `{policy}` | {peaks[0] / 1024:.1f} MiB | " + " | ".join(f"{p - peaks[0]} KiB" for p in peaks[1:]) + " |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["sizes"]:
        sizes()
        raise SystemExit
    if sys.argv[1:2] == ["length"]:
        for name in sys.argv[2:] or ONLINE:  # each in a process of its own: what it has held at most is asked for
            if sys.argv[2:]:
                lengths(name)
            else:
                subprocess.run([sys.executable, __file__, "length", name], check=True)
        raise SystemExit
    print("| policy | cell | cosine | relative error | deviation of a draw | peak memory | ms per step |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in sys.argv[1:] or ["lstm", "gru"]:
        for row in measured(name).policies:
            found = row.agreement
            spread = f"{row.deviation:.2g}" if row.deviation else ""
            print(
                f"| `{row.name}` | {name} | {found.cosine:.3f} | {found.error:.2g} | {spread} | {row.peak_mib:.2f} MiB "
                f"| {row.ms / T:.2f} |",
                flush=True,
            )
