"""Exported ONNX files in ONNX Runtime, against `Stepper` and compiled windows here: one LSTM of 128 and of 512 units.

    python benchmarks/export_onnx.py            # about a minute
    python benchmarks/export_onnx.py --quick
    python benchmarks/export_onnx.py --draw     # the table again, from the kept JSON

D = H, float32, random weights. "Step" is one step with the state in and out, N sequences side by side, as in a stream;
ours is `tr.Stepper`. "Window" is T steps in one call; ours is `tr.compile` of `unroll`. ONNX Runtime runs the file that
`tr.export` writes, in which the cell is one LSTM node, and for comparison a file of the same cell written by a user,
which has one node for each operation of the step, and a Scan for a window. What they give must agree to 1e-5 of the
largest entry before anything is timed. They take turns in short bursts in one process; the ratio is that of the minima.
Above 1: ONNX Runtime takes longer. Size on disk and the time until the first result are those of the file and of a new
session. Needs the extra [onnx].
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from peers.process import commit, describe_machine, environment
from report import brief, head, save, table

import tinygrad_rnn as tr

RESULTS = Path(__file__).parent / "results" / "export_onnx"
Record = dict[str, Any]
SIZES = [(H, N, T) for H in (128, 512) for N, T in ((1, None), (16, None), (1, 100), (16, 100))]


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Return a session of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def caller(path: Path, threads: int, xs: np.ndarray, state: Sequence[np.ndarray]) -> Callable[[], Sequence[np.ndarray]]:
    """Return a call of a file on the same arguments each time."""
    program = session(path, threads)
    names = [one.name for one in program.get_inputs()]
    given = dict(zip(names, [xs, *state], strict=True))
    return lambda: program.run(None, given)


def burst(call: Callable[[], object], seconds: float) -> list[float]:
    """Return the seconds of calls, one after another."""
    found, end = [], time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def measure(H: int, N: int, T: int | None, args: argparse.Namespace) -> Record:
    """Return the record of one size."""
    cell = tr.LSTMCell(H, H, np.random.default_rng(0))
    shape = (N, H) if T is None else (N, T, H)
    xs = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    state = tuple(part.data for part in cell.initial_state(N))
    ours = tr.Stepper(cell, threads=args.threads)
    whole = tr.compile(lambda xs, state: tr.unroll(cell, xs, state), threads=args.threads)
    calls: dict[str, Callable[[], Any]] = {"ours": (lambda: ours(xs, state)) if T is None else lambda: whole(xs, state)}
    record: Record = {"H": H, "N": N, "T": T}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("node", "operations"):
            path = Path(folder, f"{name}.onnx")
            if name == "node":
                tr.export(cell, path, xs, state)
            else:
                plain(cell, path, xs, state)
            start = time.perf_counter()
            calls[name] = caller(path, args.threads, xs, state)
            calls[name]()
            record[f"{name}_start_s"] = time.perf_counter() - start
            record[f"{name}_bytes"] = path.stat().st_size
    y, after = calls["ours"]()
    for name in ("node", "operations"):
        got = calls[name]()
        for one, other in zip(got, (y, *after), strict=True):
            assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max(), name
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.rounds):
        for name, call in calls.items():
            times[name] += burst(call, args.burst)
    for name, found in times.items():
        record[f"{name}_us"] = 1e6 * min(found)
    return record


def plain(cell: tr.LSTMCell, path: Path, xs: np.ndarray, state: Sequence[np.ndarray]) -> None:
    """Write a cell with one node for each of its operations: as a cell that is not known to the standard is written."""

    class Own(tr.Module):
        def __init__(self) -> None:
            self.cell = cell

        def initial_state(self, batch_size: int) -> object:
            return cell.initial_state(batch_size)

        def __call__(self, x: tr.Tensor, state: tuple[tr.Tensor, tr.Tensor]) -> tuple[object, object]:
            h, c = state
            i, f, o, g = tr.split(x @ cell.Wx + cell.b + h @ cell.Wh, 4, axis=-1)
            c = tr.sigmoid(f) * c + tr.sigmoid(i) * np.tanh(g)
            h = tr.sigmoid(o) * np.tanh(c)
            return h, (h, c)

    tr.export(Own(), path, xs, state)


def tables(found: Record) -> str:
    """Return the table in Markdown."""
    rows = []
    for one in found["points"]:
        per = f"{one['N']} x {one['T'] or 1}"
        rate = [f"{one[f'{name}_us']:.1f}" for name in ("ours", "node", "operations")]
        ratios = [brief(one[f"{name}_us"] / one["ours_us"]) for name in ("node", "operations")]
        disk = f"{one['node_bytes'] / 1e6:.2f} MB"
        rows.append(
            [
                one["H"],
                per,
                rate[0],
                f"{rate[1]} ({ratios[0]})",
                f"{rate[2]} ({ratios[1]})",
                disk,
                brief(1e3 * one["node_start_s"]),
            ]
        )
    columns = ["H", "N x T", "ours, us", "ONNX Runtime, LSTM node", "an operation a node", "on disk", "start, ms"]
    parts = ["# Exported ONNX files\n", head(found) + f" {found['rounds']} bursts of each, in turns.\n"]
    parts.append("Written by `benchmarks/export_onnx.py`, which says what is measured and how.\n")
    parts += [table(columns, rows), "In microseconds a call; in brackets how many times as long as ours.\n"]
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> Record:
    """Measure, print, write, and return the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="bursts of each (default 12; quick 3)")
    parser.add_argument("--burst", type=float, default=0.1, help="seconds of a burst (default 0.1)")
    parser.add_argument("--threads", type=int, default=1, help="of each (default 1)")
    parser.add_argument("--quick", action="store_true", help="a look at it: few rounds, written to runs/")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write the table from the JSON")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (3 if args.quick else 12)
    out = Path("runs/export_onnx") if args.quick else RESULTS
    if args.draw:
        found: Record = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    else:
        os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)
        found = {
            "machine": describe_machine(environment(args.threads, None)),
            "commit": commit(Path(__file__).parents[1]),
        }
        found |= {"rounds": args.rounds, "burst_s": args.burst, "versions": [f"ONNX Runtime {onnxruntime.__version__}"]}
        found["points"] = [measure(*one, args) for one in SIZES]
    save(found, tables(found), out)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
