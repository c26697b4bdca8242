"""An epoch over sequences of many lengths, cold: whatever is recorded or compiled for a new length is counted.

    python benchmarks/any_length.py                          # some minutes
    python benchmarks/any_length.py --quick --batches 12
    python benchmarks/any_length.py --before ../other        # the package of another checkout too, in the same run
    python benchmarks/any_length.py --draw                   # the tables again, from the kept JSON

An LSTM language model (V=65, D=64, H=128) trains on batches of N=20 sequences, lengths drawn from 20 to 200. Each batch
is as long as its longest sequence; what lies beyond the end of a sequence is padding, which the loss ignores. With
"random" batches, any sequences make one, as data comes; with "alike" ones those of about the same length do, which
wastes no work on padding, and has more lengths. "jax-longest" pads every batch to 200 steps, so that JAX compiles once,
and "ours-longest" does the same; "jax" compiles for each length. All have the same data and weights; every loss of the
epoch must agree to 1e-3.

Each epoch has a process of its own, which has compiled something tiny before (libraries are loaded, our C library is
built), several rounds, in which the peers take turns. The cost of a new length is the processor time (of all threads)
of the first batch of that T less that of a batch of the same T when it comes again at once, the least of the rounds;
the table has the median and the largest over the lengths. Needs the extra [bench]; a peer that is not there is left
out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.epoch import Epoch
from peers.process import PeerError, before, commit, describe_machine, environment, once
from peers.task import Config
from report import brief, head, missing, save, table

CONFIG = Config("lstm", V=65, D=64, H=128, N=20, T=0)
SHORTEST, LONGEST = 20, 200
PEERS = {
    "ours": "ours_compiled",
    "before": "ours_compiled",
    "ours-longest": "ours_compiled",
    "ours-eager": "ours_eager",
    "pytorch": "pytorch",
    "jax": "jax_jit",
    "jax-longest": "jax_jit",
}
RESULTS = Path(__file__).parent / "results" / "any_length"
Record = dict[str, Any]


def epochs(order: str, environments: dict[str, dict[str, str]], args: argparse.Namespace) -> dict[str, Record]:
    """Return the record of each peer on one order of batches."""
    runs: dict[str, list[Record]] = {name: [] for name in environments}
    found: dict[str, Record] = {}
    config = CONFIG._replace(T=LONGEST)
    for number in range(args.rounds):
        for name in list(environments) if number % 2 == 0 else list(reversed(environments)):
            if name in found:
                continue
            epoch = Epoch(config, SHORTEST, LONGEST, args.batches, order, name.endswith("-longest"), args.seed)
            try:
                runs[name].append(once("epoch", [PEERS[name], epoch], environments[name], args.limit))
            except PeerError as error:
                found[name] = {"missing": str(error)}
            else:
                print("  {}: {epoch_s:.3g} s".format(name, **runs[name][-1]), flush=True)
    return found | {name: summary(made) for name, made in runs.items() if made and name not in found}


def summary(runs: Sequence[Record]) -> Record:
    """Return what is kept of the epochs of a peer: their times, and the cost of a new length, the least of each T."""
    seconds = [run["epoch_s"] for run in runs]
    of_length: dict[int, float] = {}
    for run in runs:
        firsts = dict(reversed([*zip(run["lengths"], run["batch_cpu_s"], strict=True)]))  # the first of each T
        for T, first in firsts.items():
            of_length[T] = min(of_length.get(T, math.inf), 1e3 * (first - run["again_cpu_s"][str(T)]))
    costs = of_length.values()
    return {
        "version": runs[0]["version"],
        "epoch_s": {"min": min(seconds), "median": statistics.median(seconds), "all": seconds},
        "start_s": min(run["start_s"] for run in runs),
        "import_s": min(run["import_s"] for run in runs),
        "lengths": runs[0]["lengths"],
        "new_length_ms": {"median": statistics.median(costs), "max": max(costs), "min": min(costs)},
        "first_batch_s": min(run["batch_s"][0] for run in runs),
        "again_ms": {T: 1e3 * s for T, s in runs[0]["again_s"].items()},
        "losses": runs[0]["losses"],
    }


def check(found: dict[str, Record]) -> None:
    """Leave out who has other losses than the first peer there: more than 1e-3 of one of the epoch's losses."""
    there = [name for name, record in found.items() if "losses" in record]
    for name in there[1:]:
        pairs = zip(found[name]["losses"], found[there[0]]["losses"], strict=True)
        found[name]["loss_difference"] = max(abs(mine - other) / abs(other) for mine, other in pairs)
        if not found[name]["loss_difference"] <= 1e-3:
            found[name] = {"missing": "other losses: they differ by {loss_difference:.2g}".format(**found[name])}


def measure(args: argparse.Namespace) -> Record:
    """Return the record of all peers on all orders of batches."""
    env = environment(args.threads, args.kernels)
    environments = {name: env for name in PEERS if name in [*args.peers, "ours"] and name != "before"}
    found: Record = {"machine": describe_machine(env), "commit": commit(Path(__file__).parents[1])}
    if args.before is not None:
        environments["before"] = before(env, args.before)
        found["commit_before"] = commit(args.before)
    found |= {"rounds": args.rounds, "batches": args.batches, "seed": args.seed, "limit_s": args.limit, "orders": {}}
    for order in args.orders:
        print(order, flush=True)
        made = epochs(order, environments, args)
        found["orders"][order] = {name: made[name] for name in PEERS if name in made}
        check(found["orders"][order])
    records = [record for order in found["orders"].values() for record in order.values()]
    found["versions"] = list(dict.fromkeys(record["version"] for record in records if "version" in record))
    return found


def tables(found: Record) -> str:
    """Return the report."""
    earlier = f" Before: commit {found['commit_before']}." if "commit_before" in found else ""
    parts = [
        "# A cold epoch over sequences of many lengths\n",
        head(found)
        + f"{earlier} LSTM language model, V=65, D=64, H=128; {found['batches']} batches of N=20 sequences, "
        f"lengths {SHORTEST} to {LONGEST}; {found['rounds']} processes for each number. "
        "Written by `benchmarks/any_length.py`, which says what is measured and how.\n",
    ]
    reasons: dict[str, list[str]] = {}
    for order, records in found["orders"].items():
        rows = []
        ours = records.get("ours", {}).get("epoch_s")
        for name, record in records.items():
            if "missing" in record:
                reasons.setdefault(f"{name}: {record['missing']}", []).append(order)
                continue
            seconds, cost = record["epoch_s"], record["new_length_ms"]
            ratio = [f"{seconds[key] / ours[key]:.2f}" if ours else "-" for key in ("min", "median")]
            difference = f"{record['loss_difference']:.1e}" if "loss_difference" in record else "-"
            rows.append(
                [
                    name,
                    brief(seconds["min"]),
                    brief(seconds["median"]),
                    *ratio,
                    brief(cost["median"]),
                    brief(cost["max"]),
                    difference,
                ]
            )
        lengths: list[int] = next(
            (record["lengths"] for record in records.values() if len(set(record.get("lengths", []))) > 1), []
        )
        columns = [
            "",
            "epoch, least (s)",
            "median (s)",
            "least / ours",
            "median / ours",
            "a new length, median (ms of processor time)",
            "max (ms)",
            "losses differ by",
        ]
        parts += [
            f'## Batches of "{order}" sequences: {len(lengths)} batches, {len(set(lengths))} lengths\n',
            table(columns, rows),
        ]
    return "\n".join(parts + missing(reasons))


def main(argv: Sequence[str] | None = None) -> Record:
    """Measure, print, write, and return the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", nargs="+", choices=["random", "alike"], default=["random", "alike"])
    parser.add_argument("--batches", type=int, default=60, help="of an epoch (default 60: 1,200 sequences)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="default: all; ours always")
    parser.add_argument("--before", type=Path, help="another checkout of the project, measured beside this one")
    parser.add_argument("--rounds", type=int, help="processes for each number (default 5; quick 1)")
    parser.add_argument("--seed", type=int, default=0, help="of lengths and texts (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="of every peer (default 1)")
    parser.add_argument("--kernels", help="kernels that OpenBLAS must take, such as Haswell (default: it looks itself)")
    parser.add_argument("--limit", type=float, default=300, help="seconds that a process may take (default 300)")
    parser.add_argument("--quick", action="store_true", help="a look at it: one round, written to runs/")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write the tables from the JSON")
    parser.add_argument("--out", type=Path, help="path without an ending (default benchmarks/results/any_length)")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (1 if args.quick else 5)
    args.out = args.out or (Path("runs/any_length") if args.quick else RESULTS)
    found: Record = json.loads(args.out.with_suffix(".json").read_text("utf-8")) if args.draw else measure(args)
    save(found, tables(found), args.out)
    return found


if __name__ == "__main__":
    main()
