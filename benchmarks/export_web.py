"""Plans as WebAssembly in Node, against the native executor on one thread: single steps of an LSTM, and training steps.

    python benchmarks/export_web.py            # about two minutes
    python benchmarks/export_web.py --quick
    python benchmarks/export_web.py --draw     # the table again, from the kept JSON

float32, random weights. "Step": one step of an RNNLM with one LSTM of H units and V = 64, N = 1, with the state kept.
"Train": loss, gradient by BPTT over T steps of N streams, and SGD, at a rate so small that nothing changes.
`model.step` in Node, inputs and outputs included, takes turns in short bursts with the C library's replay of the same
plan, and with the call of the compiled function in Python; the ratio is that of the minima of processor time. Above 1:
WebAssembly takes longer. The library is built for this CPU, and for AVX2 (TINYGRAD_RNN_CPU=x86-64-v3): vectors of
WebAssembly have 128 bits wherever it runs. Needs the extra [native], and node.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers.process import commit, describe_machine, environment
from report import brief, head, save, table

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten
from tinygrad_rnn.exports.source import Source, source_of_function, source_of_module

RESULTS = Path(__file__).parent / "results" / "export_web"
Record = dict[str, Any]
LEVELS = {"this CPU": None, "AVX2": "x86-64-v3"}
STEPS = [32, 128, 512]
TRAINS = [(32, 8, 16), (64, 16, 32), (128, 16, 32)]

SERVER = """
import { createInterface } from "node:readline";
const begin = performance.now();
const model = await (await import(process.argv[2])).load();
const given = Object.fromEntries(model.inputs.map(({ name, shape }) =>
  [name, new Array(shape.reduce((a, b) => a * b, 1)).fill(1)]));
for (const { name, dtype } of model.inputs)
  if (dtype === "int64") given[name] = BigInt64Array.from(given[name], BigInt);
model.step(given);
console.log(performance.now() - begin);
for await (const line of createInterface({ input: process.stdin })) {
  const end = performance.now() + 1000 * Number(line);
  let [best, calls] = [Infinity, 1];
  while (performance.now() < end) {
    const start = process.cpuUsage();
    for (let k = 0; k < calls; k++) model.step(given);
    const { user, system } = process.cpuUsage(start);
    best = Math.min(best, Math.max(user + system, 1) / calls / 1000);
    calls = Math.ceil(Math.min(1000, 2 / best));
  }
  console.log(1000 * best);
}
"""


def step_source(H: int) -> Source:
    """Return one step of a language model."""
    return source_of_module(tr.RNNLM(64, H, H, np.random.default_rng(0), cell="lstm"))


def train_source(H: int, N: int, T: int) -> Source:
    """Return a training step."""
    model = tr.RNNLM(64, H, H, np.random.default_rng(0), cell="lstm")

    def update(params: dict[str, tr.Tensor], ids: Any, targets: Any, state: Any) -> Any:
        loss, state = model.loss(ids, targets, state)
        gradients = tr.grad(loss, params)
        return loss, {name: p - 1e-6 * gradients[name] for name, p in params.items()}, state

    ids = np.ones((N, T), np.int64)
    return source_of_function(update, (model.parameters(), ids, ids, model.initial_state(N)), ("params", "state"))


def replay_of(source: Source) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the call of the compiled function, and the library's replay of its plan alone."""
    fast = tr.compile(source.function, threads=1, executor="native")
    args = tuple(np.ones_like(arg) if isinstance(arg, np.ndarray) else arg for arg in source.args)
    fast(*args)
    fast(*args)
    ready = next(reversed(fast._plans.values()))
    leaves = [leaf.data if isinstance(leaf, tr.Tensor) else leaf for leaf in flatten(args)]
    bound, _, _ = ready.executor._prepared(ready.arrays(leaves))

    def replay() -> None:
        for function, operands in bound:
            function(*operands)

    return lambda: fast(*args), replay


def burst(call: Callable[[], object], seconds: float) -> float:
    """Return the least mean of some calls that take two milliseconds, in microseconds of the processor."""
    best, calls, end = np.inf, 1, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, max(time.process_time() - start, 1e-6) / calls)
        calls = math.ceil(min(1000, 2e-3 / best))
    return 1e6 * best


def measure(name: str, source: Source, args: argparse.Namespace) -> Record:
    """Return the record of one plan."""
    with tempfile.TemporaryDirectory() as folder:
        path, loader = tr.export(source.function, Path(folder, "m.wasm"), *source.args, carry=source.carried)
        server = Path(folder, "server.mjs")
        server.write_text(SERVER, encoding="utf-8")
        with subprocess.Popen(
            ["node", str(server), loader.as_uri()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as node:
            assert node.stdin is not None
            assert node.stdout is not None
            record: Record = {"name": name, "bytes": path.stat().st_size, "start_ms": float(node.stdout.readline())}
            call, replay = replay_of(source)
            found: dict[str, list[float]] = {"wasm": [], "call": [], "replay": []}
            for _ in range(args.rounds):
                node.stdin.write(f"{args.burst}\n")
                found["wasm"].append(float(node.stdout.readline()))
                found["call"].append(burst(call, args.burst))
                found["replay"].append(burst(replay, args.burst))
            node.stdin.close()
    return record | {f"{kind}_us": min(times) for kind, times in found.items()}


def points(args: argparse.Namespace) -> list[Record]:
    """Return the records of all plans, with the library as the environment wants it."""
    found = [measure(f"step, H = {H}", step_source(H), args) for H in STEPS]
    return found + [measure(f"train, H = {H}, N x T = {N} x {T}", train_source(H, N, T), args) for H, N, T in TRAINS]


def child(level: str | None, args: argparse.Namespace) -> list[Record]:
    """Return the records of a process of its own, whose library is built for a level of the CPU."""
    wanted = {} if level is None else {"TINYGRAD_RNN_CPU": level}
    command = [sys.executable, __file__, "--points", "--rounds", str(args.rounds), "--burst", str(args.burst)]
    made = subprocess.run(command, env=os.environ | wanted, stdout=subprocess.PIPE, text=True, check=True)
    found: list[Record] = json.loads(made.stdout.splitlines()[-1])
    return found


def tables(found: Record) -> str:
    """Return the table in Markdown."""
    rows = []
    for number, one in enumerate(found["levels"]["this CPU"]):
        row = [one["name"], f"{one['wasm_us']:.1f}", f"{one['call_us']:.1f}"]
        for records in found["levels"].values():
            same = records[number]
            row.append(f"{same['replay_us']:.1f} ({brief(same['wasm_us'] / same['replay_us'])})")
        rows.append([*row, f"{one['bytes'] / 1e3:.0f} kB", f"{one['start_ms']:.0f}"])
    columns = ["plan", "wasm, us", "call in Python, us", *(f"C library, {level}, us" for level in found["levels"])]
    how = f"{found['rounds']} bursts of each, in turns; load average before: {found['load']:.0f}."
    parts = ["# Plans as WebAssembly\n", f"{head(found)} {how}\n"]
    parts.append("Written by `benchmarks/export_web.py`, which says what is measured and how.\n")
    parts += [table([*columns, "on disk", "start, ms"], rows)]
    parts.append("In microseconds a call; in brackets how many times as long as the C library WebAssembly takes.\n")
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="bursts of each (default 12; quick 3)")
    parser.add_argument("--burst", type=float, default=0.15, help="seconds of a burst (default 0.15)")
    parser.add_argument("--quick", action="store_true", help="a look at it: few rounds, written to runs/")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write the table from the JSON")
    parser.add_argument("--points", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (3 if args.quick else 12)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if args.points:
        print(json.dumps(points(args)))
        return
    out = Path("runs/export_web") if args.quick else RESULTS
    if args.draw:
        found: Record = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    else:
        node = subprocess.run(["node", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        found = {"machine": describe_machine(environment(1, None)), "commit": commit(Path(__file__).parents[1])}
        found |= {"rounds": args.rounds, "burst_s": args.burst, "versions": [f"Node {node}"]}
        found["load"] = os.getloadavg()[0]  # of all processes, before it starts
        found["levels"] = {name: child(level, args) for name, level in LEVELS.items()}
    save(found, tables(found), out)


if __name__ == "__main__":
    main(sys.argv[1:])
