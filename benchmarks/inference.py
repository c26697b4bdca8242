"""Inference against PyTorch: tokens generated one at a time, for one stream and for 16, and a text evaluated.

    python benchmarks/inference.py                       # about two minutes
    python benchmarks/inference.py --quick --cells lstm
    python benchmarks/inference.py --draw                # the tables again, from the kept JSON

One layer, V=2,600, D=H=200, float32. "Generate" is `tr.generate` at temperature 0.8: the step of the model, softmax,
the draw, and the drawn token's way back into the model, one token of N streams a step. PyTorch (Embedding, LSTM or
another layer of its own, Linear, `no_grad`) does the same with `multinomial`, and in a second variant draws by a search
in the cumulated probabilities, which is quicker and is what ours does. "Evaluate" is `tr.evaluate` on a text of 20
streams of 35 tokens, beside one training step on as many: forward, backward, SGD update.

Every peer is a process of its own and starts from the same weights; before anything is timed the nats that it gives to
what follows must be ours. Then ours and each peer take turns in short bursts, as in `train_step.py`: the ratio of the
minima of all steps, and the median of the ratios of bursts side by side. Above 1: the peer takes longer than ours.
Needs the extra [bench] (PyTorch, CPU build); a peer that is not there is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.process import Worker, commit, describe_machine, environment
from peers.task import Config
from report import brief, head, missing, save, table
from train_step import side_by_side

RESULTS = Path(__file__).parent / "results" / "inference"
Record = dict[str, Any]

# what -> peers: name to module; the first is ours
TASKS: dict[str, dict[str, str]] = {
    "generate": {
        "ours": "generate_ours",
        "ours-eager": "generate_ours_eager",
        "pytorch": "generate_pytorch",
        "pytorch, search": "generate_pytorch_search",
    },
    "evaluate": {
        "ours": "evaluate_ours",
        "ours, training": "ours_compiled",
        "pytorch": "evaluate_pytorch",
        "pytorch, training": "pytorch",
    },
}


def points(cells: Sequence[str]) -> list[tuple[str, Config]]:
    """Return what is measured: a task and its sizes."""

    def sizes(cell: str, N: int, T: int) -> Config:
        return Config(cell, V=2600, D=200, H=200, N=N, T=T)

    generated = [("generate", sizes(cell, N, 35)) for cell in cells for N in (1, 16)]
    return generated + [("evaluate", sizes(cell, 20, 35)) for cell in cells]


def measure(task: str, config: Config, env: dict[str, str], args: argparse.Namespace) -> dict[str, Record]:
    """Return the record of each peer."""
    tokens = config.N * (config.T if task == "evaluate" else 1)

    def ready(name: str) -> tuple[Worker, Record]:
        worker = Worker(TASKS[task][name], config, env, args.limit)
        record = dict(worker.ready)
        if "training" in name:  # it reads other targets at the ends of streams
            del record["losses"]
        return worker, record

    records = side_by_side(list(TASKS[task]), ready, args.rounds, args.burst)
    for record in records.values():
        if "min_ms" in record:
            record["tokens_per_s"] = 1e3 * tokens / record["min_ms"]
    return records


def tables(found: Record) -> str:
    """Return the tables in Markdown."""
    parts = ["# Inference\n", head(found) + f" {found['rounds']} pairs of bursts for each peer.\n"]
    parts.append("Written by `benchmarks/inference.py`, which says what is measured and how.\n")
    reasons: dict[str, list[str]] = {}
    for task, peers in TASKS.items():
        rows = []
        for point in found["points"]:
            if point["task"] != task:
                continue
            sizes, row = point["sizes"], []
            place = f"{sizes['cell']}, N={sizes['N']}" + (f", T={sizes['T']}" if task == "evaluate" else "")
            for name in peers:
                record = point["peers"][name]
                if "missing" in record:
                    reasons.setdefault(f"{name}: {record['missing']}", []).append(place)
                    row.append("-")
                elif "tokens_per_s" in record:
                    rate = f"{record['tokens_per_s']:,.0f}"
                    ratios = [brief(record[key]) for key in ("ratio_of_minima", "median_of_ratios") if key in record]
                    row.append(rate + (f" ({' / '.join(ratios)})" if ratios else ""))
                else:
                    row.append("alone")
            rows.append([place, *row])
        parts += [f"## {task.capitalize()}: tokens/s\n", table([task, *peers], rows)]
    parts.append("In brackets how many times as long as ours: of minima / median of bursts side by side.\n")
    return "\n".join(parts + missing(reasons))


def main(argv: Sequence[str] | None = None) -> Record:
    """Measure, print, write, and return the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=["rnn", "lstm", "gru"], default=["lstm", "gru"])
    parser.add_argument("--rounds", type=int, help="pairs of bursts for each peer (default 12; quick 3)")
    parser.add_argument("--burst", type=float, help="seconds of a burst of the slower one (default 0.3; quick 0.1)")
    parser.add_argument("--threads", type=int, default=1, help="of every peer (default 1)")
    parser.add_argument("--kernels", help="kernels that OpenBLAS must take, such as Haswell (default: it looks itself)")
    parser.add_argument("--limit", type=float, default=300, help="seconds that a peer may take to start (default 300)")
    parser.add_argument("--quick", action="store_true", help="a look at it: few rounds, written to runs/")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write the tables from the JSON")
    parser.add_argument("--out", type=Path, help="path without an ending (default benchmarks/results/inference)")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (3 if args.quick else 12)
    args.burst = args.burst or (0.1 if args.quick else 0.3)
    out = args.out or (Path("runs/inference") if args.quick else RESULTS)
    if args.draw:
        found: Record = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    else:
        env = environment(args.threads, args.kernels)
        found = {"machine": describe_machine(env), "commit": commit(Path(__file__).parents[1])}
        found |= {"rounds": args.rounds, "burst_s": args.burst, "versions": [], "points": []}
        for task, config in points(args.cells):
            print(f"{task}, {config.cell}, N={config.N}", flush=True)
            records = measure(task, config, env, args)
            found["points"].append({"task": task, "sizes": config._asdict(), "peers": records})
            versions = [*found["versions"], *(one["version"] for one in records.values() if "version" in one)]
            found["versions"] = list(dict.fromkeys(versions))
    save(found, tables(found), out)
    return found


if __name__ == "__main__":
    main()
