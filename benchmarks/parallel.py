"""Data-parallel training by several processes: efficiency, the model of its cost, what is sent, and deaths.

    python benchmarks/parallel.py                 # efficiency and the model: about five minutes
    python benchmarks/parallel.py --bytes         # perplexity against bytes sent
    python benchmarks/parallel.py --kills 20      # SIGKILL of one of three processes, at random updates
    python benchmarks/parallel.py --draw          # the page again, from the kept JSON

Efficiency: every process has the N streams of a configuration of `train_step.py`, so P processes make updates of P * N
streams. One process of one thread, two of one thread each and one of two threads take turns, each started anew; the
least time of an update of each is compared, as other work on the machine can only make it longer.

The numbers of the model (`tinygrad_rnn.parallel.cost`) are measured before the updates in the same processes, all at
once: the speed of the product that counts most (hidden states with the output weights, forward and backward), of memory
and of caches of three sizes, the latency of a small sum and the bandwidth of one of the size of the gradient. What an
update needs of them follows from its plan (`tinygrad_rnn.parallel.traffic`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, processor
from peers.task import CONFIGS

import tinygrad_rnn as tr
from tinygrad_rnn.launch import launched
from tinygrad_rnn.parallel.cost import Machine, Work, efficiency, measured, update_seconds
from tinygrad_rnn.parallel.group import Group, world
from tinygrad_rnn.parallel.traffic import traffic

RESULTS = Path(__file__).parent / "results" / "parallel"
WORDS = ("words-lstm", "medium", "char")
CURVE = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def started(processes: int, threads: int, *arguments: str, ulfm: bool = False) -> list[str]:
    """Return the command that starts so many processes of a program."""
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec"
    return [
        *(mpiexec, "--allow-run-as-root", "--oversubscribe", *(["--with-ft", "ulfm"] if ulfm else [])),
        *("-x", f"OPENBLAS_NUM_THREADS={threads}", "--bind-to", "none", "-n", str(processes), sys.executable),
        *arguments,
    ]


# -- efficiency


def worker(name: str, seconds: float) -> None:
    """Make updates for some seconds, and print what they took; runs in each process."""
    config, group = CONFIGS[name], world() if launched() > 1 else Group()
    streams = config.N * group.size * int(os.environ["OPENBLAS_NUM_THREADS"])
    model = tr.RNNLM(config.V, config.D, config.H, np.random.default_rng(0), cell=config.cell, layers=config.layers)
    step = tr.TrainStep(
        model, lambda model, batch, state: model.loss(*batch, state), tr.SGD(lr=0.1), clip=5.0, comm=group
    )
    ids = np.random.default_rng(1).integers(0, config.V, (streams, config.T + 1))
    batch, state = (ids[:, :-1], ids[:, 1:]), model.initial_state(streams)
    rows, table = config.N * config.T, 4 * config.V * config.D
    table *= 2 * group.size * rows <= config.V  # a larger one is summed whole
    summed = 4 * model.parameter_count() - table
    numbers = measured(group, summed, (rows, config.H, config.V))
    times: list[float] = []
    own: list[float] = []
    for number in range(10_000):
        if group.largest(float(number > 4 and sum(times) > seconds))[0]:
            break
        begun, worked = time.perf_counter(), time.process_time()
        state = step(batch, state).state
        times.append(time.perf_counter() - begun)
        own.append(time.process_time() - worked)
    processor_s = group.largest(min(own))[0]
    if group.is_first:
        plans = [plan.explain() for plan in step.every_plan]
        first, *others = traffic(step.every_plan)
        found = {
            "least_ms": 1e3 * min(times),
            "median_ms": 1e3 * statistics.median(times[3:]),
            "processor_ms": 1e3 * processor_s,
            "updates": len(times),
            "machine": [numbers.gemm, numbers.memory, numbers.latency, numbers.bandwidth],
            "work": {
                "flops": sum(plan.flops for plan in plans),
                "nbytes": first,
                "gradient_bytes": summed,
                "divided_nbytes": [group.size * sum(level) for level in zip(*others, strict=True)],
                "table_bytes": table,
                "row_bytes": rows * (4 * config.D + 8) if table else 0,
            },
        }
        print(json.dumps(found))


def measure_efficiency(names: Sequence[str], rounds: int, seconds: float) -> dict[str, Any]:
    """Return the times of updates of each configuration, by processes and threads."""
    found: dict[str, Any] = {}
    for name in names:
        runs: dict[str, list[dict[str, Any]]] = {"1x1": [], "2x1": [], "1x2": []}
        for number in range(rounds):
            for kind in runs:
                processes, threads = map(int, kind.split("x"))
                command = started(processes, threads, __file__, "--worker", name, "--seconds", str(seconds))
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                runs[kind].append(json.loads(done.stdout.splitlines()[-1]))
                print(name, kind, number, runs[kind][-1]["least_ms"], flush=True)
        found[name] = {kind: min(those, key=lambda run: run["least_ms"]) for kind, those in runs.items()}
        for kind, those in runs.items():
            found[name][kind]["processor_ms"] = min(run["processor_ms"] for run in those)
        for kind, those in runs.items():  # the numbers of the machine: the best of all rounds, as the times are
            gemm, memory, latency, bandwidth = zip(*(run["machine"] for run in those), strict=True)
            speeds = [max(level) for level in zip(*memory, strict=True)]
            found[name][kind]["machine"] = [max(gemm), speeds, min(latency), max(bandwidth)]
    return found


def as_machine(run: dict[str, Any]) -> Machine:
    gemm, memory, latency, bandwidth = run["machine"]
    return Machine(gemm, tuple(memory), latency, bandwidth)


def as_work(run: dict[str, Any]) -> Work:
    return Work(**{name: tuple(value) if isinstance(value, list) else value for name, value in run["work"].items()})


# -- bytes


SENT = ("gradients", "bfloat16", "topk:0.1", "topk:0.01", "local:4", "local:16", "diloco:16", "diloco:64")


def bytes_worker(exchange: str, updates: int) -> None:
    """Train on text that Python carries, and print the held-out perplexity and the bytes sent."""
    group = world() if launched() > 1 else Group()
    train, held_out = tr.load_corpus(tr.embedded_text()[:700_000], "word")
    model = tr.RNNLM(len(train.vocabulary), 64, 64, np.random.default_rng(0), cell="lstm")
    rate = 0.5 if exchange.startswith("diloco") else 1.0
    trainer = tr.Trainer(
        model,
        lambda model, batch, state: model.loss(*batch, state),
        tr.OffsetBatches(train.ids, 20, 35),
        optimizer=tr.SGD(lr=rate),
        clip=0.5,
        updates=updates,
        epoch_updates=None,
        state=lambda: model.initial_state(20),
        comm=group,
        exchange=exchange,
        progress=False,
    )
    trainer.fit()
    if group.is_first:
        found = tr.evaluate(model, held_out.ids, 20, 35)
        print(json.dumps({"perplexity": found.perplexity, "bytes": trainer.group.bytes / trainer.run.updates}))


def measure_bytes(updates: int) -> dict[str, Any]:
    """Return perplexity and bytes by what is sent, on two processes."""
    found = {}
    for exchange in SENT:
        command = started(2, 1, __file__, "--bytes-worker", exchange, "--updates", str(updates))
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[exchange] = json.loads(done.stdout.splitlines()[-1])
        print(exchange, found[exchange], flush=True)
    return {"updates": updates, "runs": found}


# -- deaths


def measure_kills(count: int) -> dict[str, Any]:
    """Return what happened in runs of three processes, one of which was killed at a random moment."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        text.write_text(tr.embedded_text()[:300_000], encoding="utf-8")
        flags = ["--hidden-size", "32", "--batch-size", "12", "--epochs", "3", "--checkpoint-every", "20"]
        flags += ["--no-progress", "--force"]
        program = ["-m", "tinygrad_rnn", "train", str(text), *flags, "--save"]
        whole = _run_killed(started(3, 1, *program, str(Path(folder, "whole"))), Path(folder, "whole"), None, 0)
        runs = []
        for number in range(count):
            place, rank = Path(folder, f"run{number}"), rng.randrange(3)
            delay = rng.uniform(0.05, 0.9) * whole["seconds"]
            runs.append(_run_killed(started(3, 1, *program, str(place), ulfm=True), place, rank, delay))
            print(number, runs[-1], flush=True)
            shutil.rmtree(place)
    return {"undisturbed": whole, "runs": runs}


def _run_killed(command: list[str], place: Path, rank: int | None, delay: float) -> dict[str, Any]:
    environment = os.environ | {"OMPI_MCA_mpi_yield_when_idle": "1"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    lines: list[tuple[float, str]] = []
    killed = resumed = trained = 0.0
    assert running.stdout is not None
    for line in running.stdout:
        lines.append((time.monotonic(), line))
        if line.startswith("epoch") or line.lstrip().startswith("epoch "):
            begun = time.monotonic()
            if rank is not None:
                time.sleep(delay)
                os.kill(_process(running.pid, rank), signal.SIGKILL)
                killed = time.monotonic()
        if "go on from update" in line:
            resumed = time.monotonic()
        if line.startswith("best epoch"):
            trained = time.monotonic()
    code = running.wait(60)
    seconds = trained - begun
    text = "".join(line for _, line in lines)
    last = json.loads((place / "metrics.jsonl").read_text().splitlines()[-1])
    found = {"code": code, "seconds": seconds, "perplexity": last["valid_perplexity"], "epochs": last["epoch"]}
    if rank is not None:
        update = text.partition("go on from update ")[2].partition(";")[0]
        found |= {"rank": rank, "update": update, "gap_s": resumed - killed}
        found["checkpoints"] = len(list((place / "checkpoints").glob("checkpoint-*.npz")))
    return found


def _process(parent: int, rank: int) -> int:
    """Return the process of a rank."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if above == parent and f"OMPI_COMM_WORLD_RANK={rank}".encode() in environment:
                return int(folder.name)
    raise RuntimeError(f"there is no process of rank {rank}")


# -- the page


def page(found: dict[str, Any]) -> str:
    """Return the tables."""
    lines = ["# Several processes", "", f"{found['where']}. Written by `benchmarks/parallel.py`, which says how.", ""]
    for name, part in (("efficiency", _efficiency), ("bytes", _bytes), ("kills", _kills)):
        if name in found:
            lines += [*part(found[name]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _efficiency(found: dict[str, Any]) -> list[str]:
    lines = [
        "## Efficiency",
        "",
        f"Least times of an update in ms; load of the machine at the end {found['load']}. Two processes have 2 N "
        "streams, and so has the one of two threads. Wall time, and the model's share of it, mean something on a quiet "
        "machine only; processor time is that of the busier process, without what others take and without waiting. The "
        "ratios are tokens a second of two processes over those of one of one thread; then model over wall time.",
        "",
        "| configuration | 1 process, 1 thread: processor | wall | 2 processes: processor | wall | 1 process, 2 "
        "threads: wall | ratio, processor time | ratio, wall time | model : wall |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    curves = []
    for name, runs in found["runs"].items():
        one, two, threads = (runs[kind]["least_ms"] for kind in ("1x1", "2x1", "1x2"))
        own, both = runs["1x1"]["processor_ms"], runs["2x1"]["processor_ms"]
        wanted = 1e3 * update_seconds(as_machine(runs["2x1"]), as_work(runs["2x1"]), 2)
        lines.append(
            f"| {name} | {own:.1f} | {one:.1f} | {both:.1f} | {two:.1f} | {threads:.1f} | {2 * own / both:.2f} | "
            f"{2 * one / two:.2f} | {wanted / two:.2f} |"
        )
        curve = [efficiency(as_machine(runs["2x1"]), as_work(runs["2x1"]), P) for P in CURVE]
        curves.append(f"| {name} | " + " | ".join(f"{share:.2f}" for share in curve) + " |")
    head = [
        "",
        "Efficiency on P processes by the model, each with its own N streams, at this machine's latency and bandwidth:",
        "",
    ]
    head += ["| P | " + " | ".join(map(str, CURVE)) + " |", "| --- |" + " --- |" * len(CURVE)]
    return lines + head + curves


def _bytes(found: dict[str, Any]) -> list[str]:
    exact = found["runs"]["gradients"]["bytes"]
    lines = [
        "## Perplexity against bytes sent",
        "",
        f"Two processes, LSTM of 64 units on words, SGD with a rate of 1 (diloco: 0.5), {found['updates']} updates, 20 "
        "streams of 35 steps: far from the end of training, where an outer momentum is ahead of all without one.",
        "",
        "| what is sent | bytes an update and process | of all | held-out perplexity |",
        "| --- | --- | --- | --- |",
    ]
    for name, run in found["runs"].items():
        lines.append(f"| {name} | {run['bytes']:,.0f} | {run['bytes'] / exact:.1%} | {run['perplexity']:.1f} |")
    return lines


def _kills(found: dict[str, Any]) -> list[str]:
    whole, runs = found["undisturbed"], found["runs"]
    lines = [
        "## Deaths",
        "",
        f"SIGKILL of one of three processes at a random moment, `mpiexec --with-ft ulfm`, {len(runs)} times. "
        f"Undisturbed: held-out perplexity {whole['perplexity']:.2f}.",
        "",
        "| rank | goes on from update | seconds until it says so | epochs | checkpoints | held-out perplexity | code |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        lines.append(
            f"| {run['rank']} | {run['update']} | {run['gap_s']:.2f} | {run['epochs']} | {run['checkpoints']} | "
            f"{run['perplexity']:.2f} | {run['code']} |"
        )
    return lines


def main() -> None:
    """Measure what was asked for, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", choices=list(CONFIGS), help=argparse.SUPPRESS)
    parser.add_argument("--bytes-worker", choices=SENT, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--configs", nargs="+", choices=list(CONFIGS), default=WORDS)
    parser.add_argument("--bytes", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--draw", action="store_true")
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker, arguments.seconds)
        return
    if arguments.bytes_worker:
        bytes_worker(arguments.bytes_worker, arguments.updates)
        return
    file = RESULTS.with_suffix(".json")
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    found["where"] = f"{processor()}, {describe()}"
    if arguments.bytes:
        found["bytes"] = measure_bytes(arguments.updates)
    elif arguments.kills:
        found["kills"] = measure_kills(arguments.kills)
    elif not arguments.draw:
        before = found.get("efficiency", {}).get("runs", {})
        runs = before | measure_efficiency(arguments.configs, arguments.rounds, arguments.seconds)
        found["efficiency"] = {"runs": runs, "load": f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"}
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
