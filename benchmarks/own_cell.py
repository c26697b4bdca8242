"""A training step with a cell that a user wrote in ten lines: ours compiled, PyTorch eager and compiled, JAX.

    python benchmarks/own_cell.py                            # about a quarter of an hour, most of it torch.compile
    python benchmarks/own_cell.py --quick --peers pytorch jax
    python benchmarks/own_cell.py --before ../other          # the package of another checkout too, in the same run
    python benchmarks/own_cell.py --draw                     # the tables again, from the kept JSON

The cell is a minimal gated unit whose candidate is normalised over the units, and that leaks (`LeakyUnit` in
`peers/ours_eager.py`): no library has a kernel for it. It stands in a language model (V=65, D=64, H=128, T=100, N=20
and N=1); a step is forward, backward and the SGD update of every parameter. PyTorch calls the cell for each step,
with the products of all inputs taken before the loop and its own layer normalisation, and torch.compile compiles
exactly that; JAX scans. All have the same data and weights, and the same losses.

"Step": peers of a process each take turns with ours in short bursts, as in `train_step.py`: minima, and the median of
the ratios of bursts side by side. "First call" is the first step less the fastest of those that follow, in processes
that compiled something tiny before, so it is what compiling takes. "Steps to catch up": how many steps ours has done
when the peer has done as many, compiling included (0: it is never ahead); and the ratio of the times of 1,000 steps,
compiling included. Needs the extra [bench]; a peer that is not there is left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.process import Worker, before, commit, describe_machine, environment, once
from peers.task import Config
from report import brief, head, missing, save, table
from train_step import side_by_side

PEERS = {
    "ours": "ours_compiled",
    "before": "ours_compiled",
    "ours-numpy": "ours_numpy",
    "ours-eager": "ours_eager",
    "pytorch": "pytorch",
    "pytorch-compiled": "pytorch_compiled",
    "jax": "jax_jit",
}
MANY = 1000  # steps of a short training
RESULTS = Path(__file__).parent / "results" / "own_cell"
Record = dict[str, Any]


def first_calls(config: Config, module: str, env: dict[str, str], args: argparse.Namespace) -> Record:
    """Return what compiling takes, over some processes: fewer where it takes long."""
    calls: list[float] = []
    while len(calls) < args.starts and sum(calls) < args.enough:
        run = once("first", [module, config], env, args.limit)
        calls.append(run["first_s"] - run["again_s"])
    return {"min": min(calls), "median": statistics.median(calls), "all": calls}


def measure_point(
    config: Config, environments: dict[str, dict[str, str]], args: argparse.Namespace
) -> dict[str, Record]:
    """Return the record of each peer at one T."""

    def ready(name: str) -> tuple[Worker, Record]:
        env = environments[name]
        first = first_calls(config, PEERS[name], env, args)
        worker = Worker(PEERS[name], config, env, args.limit)
        return worker, {"first_call_s": first, **worker.ready}

    return side_by_side(list(environments), ready, args.rounds, args.burst)


def measure(args: argparse.Namespace) -> Record:
    """Return the record of all peers at each T."""
    env = environment(args.threads, args.kernels)
    environments = {name: env for name in PEERS if name in args.peers or name == "ours"}
    environments.pop("before", None)
    found: Record = {"machine": describe_machine(env), "commit": commit(Path(__file__).parents[1])}
    if args.before is not None:
        environments["before"] = before(env, args.before)
        found["commit_before"] = commit(args.before)
    found |= {"rounds": args.rounds, "burst_s": args.burst, "limit_s": args.limit, "points": []}
    for N, T in itertools.product(args.batch, args.steps):
        config = Config("leaky", V=65, D=64, H=128, N=N, T=T)
        print(f"N = {N}, T = {T:,}", flush=True)
        made = measure_point(config, environments, args)
        found["points"].append(
            {
                "sizes": config._asdict(),
                "gflop": config.flop / 1e9,
                "peers": {name: made[name] for name in PEERS if name in made},
            }
        )
    records = [record for point in found["points"] for record in point["peers"].values()]
    found["versions"] = list(dict.fromkeys(record["version"] for record in records if "version" in record))
    return found


def catching_up(ours: Record, peer: Record) -> str:
    """Return after how many steps ours has done as many as the peer, compiling included; "never" if it does not."""
    late = 1e3 * (ours["first_call_s"]["median"] - peer["first_call_s"]["median"])
    gain = peer["median_ms"] - ours["median_ms"]
    if late <= 0:
        return "0" if gain >= 0 else f"up to {-late / -gain:.0f}"
    return f"{late / gain:.0f}" if gain > 0 else "never"


def tables(found: Record) -> str:
    """Return the report."""
    earlier = f" Before: commit {found['commit_before']}." if "commit_before" in found else ""
    parts = [
        "# A training step with a cell of the user's own\n",
        head(found) + f"{earlier} {found['rounds']} pairs of bursts for each peer. "
        "Written by `benchmarks/own_cell.py`, which says what is measured and how.\n",
    ]
    columns = [
        "",
        "step, least (ms)",
        "median (ms)",
        "ratio of minima",
        "median of ratios",
        "first call, least (s)",
        "median (s)",
        "steps to catch up",
        f"{MANY:,} steps / ours",
        "memory (MiB)",
    ]
    reasons: dict[str, list[str]] = {}
    for point in found["points"]:
        rows = []
        ours = point["peers"]["ours"]

        def whole(record: Record) -> float:
            return float(1e3 * record["first_call_s"]["median"] + MANY * record["median_ms"])

        for name, record in point["peers"].items():
            if "missing" in record or "min_ms" not in record:
                why = record.get("missing", "no peer to take turns with")
                reasons.setdefault(f"{name}: {why}", []).append("N={N} T={T}".format(**point["sizes"]))
                continue
            rows.append(
                [
                    name,
                    brief(record["min_ms"]),
                    brief(record["median_ms"]),
                    f"{record.get('ratio_of_minima', 1):.2f}",
                    f"{record.get('median_of_ratios', 1):.2f}",
                    brief(record["first_call_s"]["min"]),
                    brief(record["first_call_s"]["median"]),
                    "-" if name == "ours" else catching_up(ours, record),
                    f"{whole(record) / whole(ours):.2f}",
                    f"{record['peak_mib']:.0f}",
                ]
            )
        least = 1e3 * point["gflop"] / found["machine"]["gflops"]
        parts += [
            "## N={N}, T={T}, D={D}, H={H}, V={V}\n".format(**point["sizes"]),
            f"The matrix arithmetic of a step at the speed of the first line: {brief(least)} ms.\n",
            table(columns, rows),
        ]
    return "\n".join(parts + missing(reasons))


def main(argv: Sequence[str] | None = None) -> Record:
    """Measure, print, write, and return the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", type=int, default=[100], help="lengths T (default 100)")
    parser.add_argument("--batch", nargs="+", type=int, default=[20, 1], help="N (default 20 and 1)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="default: all; ours always")
    parser.add_argument("--before", type=Path, help="another checkout of the project, measured beside this one")
    parser.add_argument("--rounds", type=int, help="pairs of bursts for each peer (default 12; quick 3)")
    parser.add_argument("--burst", type=float, help="seconds of a burst of the slower one (default 0.4; quick 0.1)")
    parser.add_argument("--starts", type=int, help="new processes for the first call (default 5; quick 1)")
    parser.add_argument("--enough", type=float, default=30, help="seconds of first calls of a peer (default 30)")
    parser.add_argument("--threads", type=int, default=1, help="of every peer (default 1)")
    parser.add_argument("--kernels", help="kernels that OpenBLAS must take, such as Haswell (default: it looks itself)")
    parser.add_argument("--limit", type=float, default=900, help="seconds that a peer may take to start (default 900)")
    parser.add_argument("--quick", action="store_true", help="a look at it: few rounds, written to runs/")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write the tables from the JSON")
    parser.add_argument("--out", type=Path, help="path without an ending (default benchmarks/results/own_cell)")
    args = parser.parse_args(argv)
    for name, value in zip(("rounds", "burst", "starts"), (3, 0.1, 1) if args.quick else (12, 0.4, 5), strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.out = args.out or (Path("runs/own_cell") if args.quick else RESULTS)
    found: Record = json.loads(args.out.with_suffix(".json").read_text("utf-8")) if args.draw else measure(args)
    save(found, tables(found), args.out)
    return found


if __name__ == "__main__":
    main()
