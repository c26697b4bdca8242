"""Training steps of language models drawn at random, against PyTorch eager: times and memory.

    python benchmarks/sweep.py                               # 70 models on one thread and on two: some hours at most
    python benchmarks/sweep.py --count 12 --threads 1 --quick
    python benchmarks/sweep.py --before ../other             # against the package of another checkout too
    python benchmarks/sweep.py --draw                        # the tables again, from the kept JSON

Models of 1 to 3 layers of rnn, lstm or gru, N 1 to 128, T 5 to 60, D and H 16 to 1,024, V 50 to 10,000, sizes drawn
log-uniformly, every fourth in float64, none with more matrix arithmetic in a step than `--most` GFLOP. The seed and the
number of a model decide what it is, so a longer run goes on where a shorter one stopped: each model is written to the
JSON when it is done, and what stands there is not measured again, as long as the commit is the same (`--anew` starts
from nothing).

Ours and PyTorch, a process each, have the same first losses, and take turns in short bursts as in `train_step.py`; a
ratio above 1 says that PyTorch takes longer. Memory is the peak of a step, resident, over the same process when it had
only imported its library. Needs the extra [bench].
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers.process import PeerError, Worker, before, commit, describe_machine, environment
from peers.task import Config
from report import brief, head, missing, save, table
from train_step import check, take_turns

RANGES = {"N": (1, 128), "T": (5, 60), "D": (16, 1024), "H": (16, 1024), "V": (50, 10_000)}
WORST = 10  # models that are listed
RESULTS = Path(__file__).parent / "results" / "sweep"
Record = dict[str, Any]


def draw_config(seed: int, number: int, most: float) -> Config:
    """Return model NUMBER of a seed: the first draw whose step has no more than `most` GFLOP of matrix arithmetic."""
    rng = np.random.default_rng([seed, number])
    while True:
        sizes = {
            name: round(math.exp(rng.uniform(math.log(low), math.log(high)))) for name, (low, high) in RANGES.items()
        }
        cell = str(rng.choice(["rnn", "lstm", "gru"]))
        dtype = "float64" if number % 4 == 3 else "float32"
        config = Config(cell, **sizes, layers=int(rng.integers(1, 4)), dtype=dtype)
        if config.flop <= most * 1e9:
            return config


def measure_model(config: Config, env: dict[str, str], args: argparse.Namespace) -> Record:
    """Return times, ratios and memory of one model."""
    peers = {"ours": ("ours_compiled", env), "pytorch": ("pytorch", env)}
    if args.before is not None:
        peers["before"] = "ours_compiled", before(env, args.before)
    workers: dict[str, Worker] = {}
    name = ""
    try:
        for name, (module, own) in peers.items():
            workers[name] = Worker(module, config, own, args.limit)
            check(workers[name].ready["losses"], workers["ours"].ready["losses"])
        record: Record = {"versions": [worker.ready["version"] for worker in workers.values()]}
        for name, worker in workers.items():
            record |= {f"{name}_mib": worker.ready["peak_mib"], f"{name}_cold_s": worker.ready["cold_s"]}
        name = "pytorch"
        record |= take_turns(workers["ours"], workers[name], args.rounds, args.burst)
        if args.before is not None:
            name = "before"
            record["before"] = take_turns(workers["ours"], workers[name], args.rounds, args.burst)
        return record
    except PeerError as error:
        return {"missing": f"{name}: {error}"}
    finally:
        for worker in workers.values():
            worker.close()


def measure(args: argparse.Namespace) -> Record:
    """Return the record of all models; those that it has already are left as they are."""
    path = args.out.with_suffix(".json")
    found: Record = {}
    if path.exists() and not args.anew:
        found = json.loads(path.read_text(encoding="utf-8"))
        if (found["seed"], found["most_gflop"]) != (args.seed, args.most):
            raise SystemExit(f"sweep: {path} has another seed or --most; pass --anew, or another --out")
    found |= {"seed": args.seed, "most_gflop": args.most, "rounds": args.rounds, "burst_s": args.burst}
    found |= {"commit": commit(Path(__file__).parents[1]), "machines": found.get("machines", {})}
    if args.before is not None:
        found["commit_before"] = commit(args.before)
    # What an earlier commit took would mislead beside this one's.
    found["models"] = [model for model in found.get("models", []) if model["commit"] == found["commit"]]
    models: list[Record] = found["models"]
    for threads in args.threads:
        env = environment(threads, args.kernels)
        found["machines"][str(threads)] = describe_machine(env)
        done = {model["number"] for model in models if model["threads"] == threads}
        for number in range(args.count):
            if number in done:
                continue
            config = draw_config(args.seed, number, args.most)
            record = {"number": number, "threads": threads, "sizes": config._asdict(), "gflop": config.flop / 1e9}
            record |= {"commit": found["commit"]} | measure_model(config, env, args)
            models.append(record)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            text = "{median_of_ratios:.2f} ({ours_median_ms:.3g} ms)" if "min_ms" in record else "{missing}"
            print(f"{threads} threads, {number}: {label(record)}: {text.format(**record)}", flush=True)
    return found


def label(model: Record) -> str:
    """Return a model's sizes in a line."""
    return "{layers} x {cell} N={N} T={T} D={D} H={H} V={V} {dtype}".format(**model["sizes"])


def tables(found: Record) -> str:
    """Return the report."""
    measured = [model for model in found["models"] if "min_ms" in model]
    versions = list(dict.fromkeys(version for model in measured for version in model["versions"]))
    threads = list(dict.fromkeys(model["threads"] for model in found["models"]))
    machine = found["machines"][str(threads[0])] | {"threads": " and ".join(map(str, threads))}
    parts = [
        "# Language models drawn at random, against PyTorch eager\n",
        head(found | {"machine": machine, "versions": versions}) + f" Seed {found['seed']}, steps of at most "
        f"{found['most_gflop']:g} GFLOP. Written by `benchmarks/sweep.py`, which says what is measured and how.\n",
        "## Time of a training step: PyTorch / ours\n",
    ]
    rows = []
    for count in threads:
        for key in ("median_of_ratios", "ratio_of_minima"):
            ratios = sorted(model[key] for model in measured if model["threads"] == count)
            if ratios:
                below = sum(ratio < 1 for ratio in ratios)
                figures = [statistics.median(ratios), statistics.geometric_mean(ratios), ratios[0], ratios[-1]]
                rows.append([count, key.replace("_", " "), len(ratios), *(f"{x:.2f}" for x in figures), below])
    columns = ["threads", "", "models", "median", "geometric mean", "least", "most", "below 1"]
    parts += [table(columns, rows)]
    if "commit_before" in found:
        parts += [
            f"## Time and memory of a training step: commit {found['commit_before']} / this one\n",
            table(["threads", "", "models", "median", "least", "most", "below 1"], _earlier(measured, threads)),
        ]
    rows = []
    for count in threads:
        ratios = [model["pytorch_mib"] / max(model["ours_mib"], 0.1) for model in measured if model["threads"] == count]
        if ratios:
            more = sum(ratio < 1 for ratio in ratios)
            rows.append([count, *(f"{x:.2f}" for x in (statistics.median(ratios), min(ratios), max(ratios))), more])
    parts += ["## Memory: PyTorch / ours\n", table(["threads", "median", "least", "most", "below 1"], rows)]
    for title, key in (("The worst times", "median_of_ratios"), ("The most memory against PyTorch", "memory")):
        ranked = [model | {"memory": model["pytorch_mib"] / max(model["ours_mib"], 0.1)} for model in measured]
        ranked.sort(key=lambda model: model[key])
        rows = [
            [
                label(model),
                model["threads"],
                f"{model['median_of_ratios']:.2f}",
                f"{model['ratio_of_minima']:.2f}",
                brief(model["ours_median_ms"]),
                brief(model["median_ms"]),
                brief(model["ours_mib"]),
                brief(model["pytorch_mib"]),
            ]
            for model in ranked[:WORST]
        ]
        columns = [
            "model",
            "threads",
            "median of ratios",
            "ratio of minima",
            "ours (ms)",
            "PyTorch (ms)",
            "ours (MiB)",
            "PyTorch (MiB)",
        ]
        parts += [f"## {title}\n", table(columns, rows)]
    reasons: dict[str, list[str]] = {}
    for model in found["models"]:
        if "missing" in model:
            reasons.setdefault(model["missing"], []).append(f"{label(model)}, {model['threads']} threads")
    return "\n".join(parts + missing(reasons))


def _earlier(measured: Sequence[Record], threads: Sequence[int]) -> list[list[Any]]:
    """Return the rows on how another checkout's times and memory compare with these."""
    rows: list[list[Any]] = []
    for count in threads:
        models = [model for model in measured if model["threads"] == count and "before" in model]
        kinds = {
            key.replace("_", " "): [model["before"][key] for model in models]
            for key in ("median_of_ratios", "ratio_of_minima")
        }
        kinds["memory"] = [model["before_mib"] / max(model["ours_mib"], 0.1) for model in models]
        for kind, ratios in kinds.items():
            if ratios:
                figures = [f"{x:.2f}" for x in (statistics.median(ratios), min(ratios), max(ratios))]
                rows.append([count, kind, len(ratios), *figures, sum(ratio < 1 for ratio in ratios)])
    return rows


def main(argv: Sequence[str] | None = None) -> Record:
    """Measure, print, write, and return the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=70, help="models (default 70)")
    parser.add_argument("--seed", type=int, default=0, help="of the models (default 0)")
    parser.add_argument("--most", type=float, default=40, help="GFLOP of matrix products in a step (default 40)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of each process (default 1 and 2)")
    parser.add_argument("--before", type=Path, help="another checkout of the project, measured beside this one")
    parser.add_argument("--rounds", type=int, help="pairs of bursts for each model (default 8; quick 3)")
    parser.add_argument("--burst", type=float, help="seconds of a burst of the slower one (default 0.3; quick 0.1)")
    parser.add_argument("--kernels", help="kernels that OpenBLAS must take, such as Haswell (default: it looks itself)")
    parser.add_argument("--limit", type=float, default=120, help="seconds that a peer may take to start (default 120)")
    parser.add_argument("--anew", action="store_true", help="measure again what the JSON has")
    parser.add_argument("--quick", action="store_true", help="a look at it: few rounds, written to runs/")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write the tables from the JSON")
    parser.add_argument("--out", type=Path, help="path without an ending (default benchmarks/results/sweep)")
    args = parser.parse_args(argv)
    for name, value in zip(("rounds", "burst"), (3, 0.1) if args.quick else (8, 0.3), strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.out = args.out or (Path("runs/sweep") if args.quick else RESULTS)
    found: Record = json.loads(args.out.with_suffix(".json").read_text("utf-8")) if args.draw else measure(args)
    save(found, tables(found), args.out)
    return found


if __name__ == "__main__":
    main()
