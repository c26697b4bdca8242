"""Epochs of the examples against PyTorch: the same models, first weights, batches and optimizers.

    python benchmarks/examples.py                        # about ten minutes
    python benchmarks/examples.py --tasks sunspots dates --threads 1
    python benchmarks/examples.py --draw                 # the tables again, from the kept JSON

What is timed is a pass over the batches of an epoch, an update for each: forward, backward, clipping of the norm, Adam.
Ours is `TrainStep`, by which the `Trainer` of each example makes its updates; PyTorch has its own layers
(`torch.nn.GRU`, `LSTM`), with packed sequences where lengths differ. Of long epochs the first batches are taken, and
the seconds of an epoch are computed from them. The data are those of the examples, made in memory; chorales are random
notes of the sizes that chorales have, and there is no dropout, for PyTorch's layers have none in the state.

Each side is a process of its own. Before anything is timed their losses must agree within 2 %: PyTorch's GRU has a
second bias of two gates, so they do not stay the same. Then both take turns in short bursts, as in `train_step.py`: the
ratio of the minima of all passes, and the median of the ratios of bursts side by side. Above 1: PyTorch takes longer
than ours. "First" is the first pass, with the import and, for ours, all compiling. With --clock cpu, passes are
measured in processor time, for one thread on a machine that has other work too, and the first is left out. Needs the
extra [bench].
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.examples_task import LONGEST, TASKS, Config
from peers.process import PeerError, Worker, commit, describe_machine, environment
from report import brief, head, missing, save, table
from train_step import side_by_side

RESULTS = Path(__file__).parent / "results" / "examples"
PEERS = {"ours": "examples_ours", "pytorch": "examples_pytorch"}
MEASURED = {"wall": "seconds that passed", "cpu": "processor time, for the machine was busy"}
Record = dict[str, Any]


def measure(name: str, env: dict[str, str], args: argparse.Namespace) -> Record:
    """Return the records of both sides on a task."""
    losses: list[float] = []

    def ready(peer: str) -> tuple[Worker, Record]:
        worker = Worker(PEERS[peer], Config(name, args.longest), env, args.limit)
        record = dict(worker.ready)
        losses.append(record.pop("losses")[0])
        if not math.isclose(losses[0], losses[-1], rel_tol=0.02):
            worker.close()
            raise PeerError(f"another loss: {losses[-1]:.4f} instead of {losses[0]:.4f}")
        return worker, record

    return side_by_side(list(PEERS), ready, args.rounds, args.burst)


def tables(found: Record) -> str:
    """Return the report."""
    text = (
        "# Epochs of the examples\n",
        head(found) + f" {found['rounds']} pairs of bursts for each task, measured in {MEASURED[found['clock']]}. "
        "Written by `benchmarks/examples.py`, which says what is measured and how.\n",
    )
    parts, reasons = list(text), dict[str, list[str]]()
    columns = [
        "example",
        "model",
        "ours, s an epoch",
        "PyTorch",
        "ours, epochs/s",
        "PyTorch",
        "ratio of minima",
        "median of ratios",
    ]
    starts = found["clock"] == "wall"  # the first pass is measured in seconds that passed, whatever the clock
    if starts:
        columns += ["first, ours (s)", "PyTorch (s)"]
    for threads, tasks in found["threads"].items():
        rows = []
        for name, task in tasks.items():
            ours, theirs = task["peers"]["ours"], task["peers"]["pytorch"]
            if "missing" in theirs:
                reasons.setdefault(theirs["missing"], []).append(f"{name}, {threads} threads")
                continue
            share = task["updates"] / task["timed"] / 1000
            seconds = [record["min_ms"] * share for record in (ours, theirs)]
            rows.append(
                [
                    name,
                    task["title"],
                    *map(brief, seconds),
                    *(brief(1 / each) for each in seconds),
                    f"{theirs['ratio_of_minima']:.2f}",
                    f"{theirs['median_of_ratios']:.2f}",
                    *(brief(record["cold_s"]) for record in (ours, theirs) if starts),
                ]
            )
        parts += [f"## {threads} thread{'s'[: int(threads) > 1]}\n", table(columns, rows)]
    return "\n".join(parts + missing(reasons))


def main(argv: Sequence[str] | None = None) -> Record:
    """Measure, print, write, and return the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of both sides (default 1 and 2)")
    parser.add_argument("--longest", type=int, default=LONGEST, help=f"batches that are timed (default {LONGEST})")
    parser.add_argument("--rounds", type=int, default=8, help="pairs of bursts (default 8)")
    parser.add_argument("--burst", type=float, default=0.5, help="seconds of a burst of the slower one (default 0.5)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what passes are measured by")
    parser.add_argument("--kernels", help="kernels that OpenBLAS must take, such as Haswell (default: it looks itself)")
    parser.add_argument("--limit", type=float, default=900, help="seconds that a side may take to start (default 900)")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write the tables from the JSON")
    parser.add_argument("--out", type=Path, default=RESULTS, help="path without an ending")
    args = parser.parse_args(argv)
    if args.draw:
        found: Record = json.loads(args.out.with_suffix(".json").read_text("utf-8"))
    else:
        clock = {"PEERS_CLOCK": args.clock}
        environments = {threads: environment(threads, args.kernels) | clock for threads in args.threads}
        found = {
            "machine": describe_machine(environments[args.threads[0]]),
            "commit": commit(Path(__file__).parents[1]),
            "rounds": args.rounds,
            "clock": args.clock,
            "threads": {},
        }
        for threads, env in environments.items():
            tasks = found["threads"][str(threads)] = {}
            for name in args.tasks:
                print(f"{name}, {threads} threads", flush=True)
                updates = len(TASKS[name].batches())
                tasks[name] = {
                    "title": TASKS[name].title,
                    "updates": updates,
                    "timed": min(updates, args.longest),
                    "peers": measure(name, env, args),
                }
        peers = [task["peers"] for tasks in found["threads"].values() for task in tasks.values()]
        records = [record for sides in peers for record in sides.values()]
        found["versions"] = list(dict.fromkeys(record["version"] for record in records if "version" in record))
        found["machine"]["threads"] = " and ".join(map(str, args.threads))
    save(found, tables(found), args.out)
    return found


if __name__ == "__main__":
    main()
