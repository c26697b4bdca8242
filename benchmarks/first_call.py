"""The first call of a compiled training step, and the first update, against the length T of the sequence.

    python benchmarks/first_call.py                         # about an hour while a loop is recorded as T copies
    python benchmarks/first_call.py --quick --models lstm --steps 35 100
    python benchmarks/first_call.py --before ../other       # the package of another checkout too, in the same run
    python benchmarks/first_call.py --draw                  # the tables again, from the kept JSON

Language models (V=65, D=64, H=128; N=20 up to T=100, N=1 beyond) with every built-in cell, and the configurations of
`train_step.py`. Each first call has a process of its own, which has compiled something tiny before, so that libraries
are loaded and our C library is built; several rounds, in which the peers take turns.

"First update" is the whole first step: recording, compiling, running, the update of every parameter. "First call" is
the same less the fastest of the steps that follow, hence without the replay itself: recording, passes, layout, binding;
in JAX tracing and XLA. What the operating system does in the first step (it zeroes memory that is touched for the first
time) is a part of it; a table without it shows what depends on T in the program. Eager peers have a first update too,
and their "first call" is what their first step takes longer than a later one. torch.compile keeps PyTorch's recurrent
layers as calls of its library, so it has little to compile here; `own_cell.py` has a cell that it must compile.
"ours-eager" is our package without `compile`.

The stages of ours are measured in one more process, which goes through them one by one. A peer that is over the limit
at some T is not asked for a longer T of the same model. Needs the extra [bench]; a peer that is not there is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.process import PeerError, before, commit, describe_machine, environment, once
from peers.task import CONFIGS, Config
from report import brief, head, missing, save, table

MODELS = {"rnn": ("rnn", 1), "lstm": ("lstm", 1), "lstm-2": ("lstm", 2), "gru": ("gru", 1)}
STEPS = (10, 35, 100, 1000, 10_000)
LONG = 100  # steps up to which N is 20
PEERS = {
    "ours": "ours_compiled",
    "before": "ours_compiled",
    "ours-eager": "ours_eager",
    "jax": "jax_jit",
    "pytorch": "pytorch",
    "pytorch-compiled": "pytorch_compiled",
}
STAGES = {"trace": "trace_s", "passes": "passes_s", "plan": "plan_s", "bind": "bind_s"}
RESULTS = Path(__file__).parent / "results" / "first_call"
Record = dict[str, Any]


def points(models: Sequence[str], steps: Sequence[int], configs: Sequence[str]) -> list[tuple[str, Config]]:
    """Return (name, configuration) of all points, shorter T of a model first."""
    made = []
    for name in models:
        cell, layers = MODELS[name]
        made += [(name, Config(cell, 65, 64, 128, 20 if T <= LONG else 1, T, layers)) for T in sorted(steps)]
    return made + [(name, CONFIGS[name]) for name in configs]


def first_calls(
    config: Config, environments: dict[str, dict[str, str]], args: argparse.Namespace, out: set[str]
) -> dict[str, Record]:
    """Return the record of each peer; those in `out` are left out, and who is over the limit joins them."""
    runs: dict[str, list[Record]] = {name: [] for name in environments}
    found: dict[str, Record] = {name: {"missing": "over the limit at a smaller T"} for name in environments}
    for number in range(args.rounds):
        order = list(environments) if number % 2 == 0 else list(reversed(environments))
        for name in order:
            if name in out or (number and not runs[name]):
                continue
            try:
                runs[name].append(once("first", [PEERS[name], config], environments[name], args.limit))
            except PeerError as error:
                found[name] = {"missing": str(error)}
                runs[name] = []
                if "limit" in str(error):
                    out.add(name)
    for name, made in runs.items():
        if made:
            calls = [run["first_s"] - run["again_s"] for run in made]
            updates = [run["first_s"] for run in made]
            work = [run["first_cpu_s"] - run["again_cpu_s"] for run in made]
            alone = [run["first_cpu_s"] - run["first_system_s"] - run["again_cpu_s"] for run in made]
            found[name] = {
                "version": made[0]["version"],
                "first_call_s": {"min": min(calls), "median": statistics.median(calls)},
                "first_update_s": {"min": min(updates), "median": statistics.median(updates)},
                "first_call_cpu_s": {"min": min(work), "median": statistics.median(work)},
                "first_call_own_s": {"min": min(alone), "median": statistics.median(alone)},
                "again_ms": 1e3 * min(run["again_s"] for run in made),
                "import_s": min(run["import_s"] for run in made),
                "losses": made[0]["losses"],
            }
    check(found)
    return found


def check(found: dict[str, Record]) -> None:
    """Drop a peer whose losses are not those of the first one there."""
    there = [name for name, record in found.items() if "losses" in record]
    for name in there[1:]:
        pairs = zip(found[name]["losses"], found[there[0]]["losses"], strict=False)
        if any(abs(mine - other) > 1e-3 * abs(other) for mine, other in pairs):
            found[name] = {"missing": "other losses"}


def measure(args: argparse.Namespace) -> Record:
    """Return the record of all points."""
    env = environment(args.threads, args.kernels)
    environments = {name: env for name in PEERS if name in [*args.peers, "ours"] and name != "before"}
    found: Record = {"machine": describe_machine(env), "commit": commit(Path(__file__).parents[1])}
    found |= {"rounds": args.rounds, "limit_s": args.limit, "versions": [], "points": []}
    if args.before is not None:
        environments["before"] = before(env, args.before)
        found["commit_before"] = commit(args.before)
    late: dict[str, set[str]] = {}
    for name, config in points(args.models, args.steps, args.configs):
        print(f"{name}, T = {config.T:,}", flush=True)
        out = late.setdefault(name, set())
        point: Record = {
            "model": name,
            "sizes": config._asdict(),
            "peers": first_calls(config, environments, args, out),
        }
        point["stages"] = {
            who: stages(config, environments[who], args, out, who) for who in ("ours", "before") if who in environments
        }
        for who, record in point["peers"].items():
            text = record.get("missing") or "{min:.3g} s, median {median:.3g}".format(**record["first_call_s"])
            print(f"  {who}: {text}", flush=True)
            if "version" in record and record["version"] not in found["versions"]:
                found["versions"].append(record["version"])
        found["points"].append(point)
        save_json(found, args.out)
    return found


def stages(config: Config, env: dict[str, str], args: argparse.Namespace, out: set[str], who: str) -> Record:
    """Return the seconds of our stages; the run with the smallest sum of them."""
    if who in out:
        return {"missing": "over the limit"}
    try:
        runs = [once("stages", [config], env, args.limit) for _ in range(args.rounds)]
    except PeerError as error:
        return {"missing": str(error)}
    return min(runs, key=lambda run: sum(run[key] for key in STAGES.values()))


def save_json(found: Record, out: Path) -> None:
    """Keep what there is, for a run that is stopped."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def tables(found: Record) -> str:
    """Return the report."""
    names = [name for name in PEERS if any(name in point["peers"] for point in found["points"])]
    reasons: dict[str, list[str]] = {}
    for point in found["points"]:
        for name, record in point["peers"].items():
            if "missing" in record:
                reasons.setdefault(f"{name}: {record['missing']}", []).append(_label(point))
        for who, record in point["stages"].items():
            if "missing" in record:
                reasons.setdefault(f"stages of {who}: {record['missing']}", []).append(_label(point))

    def seconds(key: str) -> str:
        rows = []
        for point in found["points"]:
            cells = [_cell(point["peers"].get(name, {}), key) for name in names]
            rows.append([_label(point), *cells, *(_ratio(point, name, key) for name in ("jax", "before"))])
        return table(["", *names, "jax / ours", "before / ours"], rows)

    rows = [
        [_label(point), who, *(brief(1e3 * record[key]) for key in STAGES.values()), record["instructions"]]
        for point in found["points"]
        for who, record in point["stages"].items()
        if "missing" not in record
    ]
    earlier = f" Before: commit {found['commit_before']}." if "commit_before" in found else ""
    parts = [
        "# The first call of a compiled training step\n",
        head(found) + f"{earlier} {found['rounds']} processes for each number, limit {found['limit_s']:g} s. "
        "Written by `benchmarks/first_call.py`, which says what is measured and how.\n",
        "## First call: seconds, the replay itself not counted; least / median\n",
        seconds("first_call_s"),
        "## First update: seconds; least / median\n",
        seconds("first_update_s"),
        "## First call: seconds of processor time over all threads; least / median\n",
        "The same, less sensitive to what else the machine does.\n",
        seconds("first_call_cpu_s"),
        "## First call: seconds of processor time without those of the operating system; least / median\n",
        "It zeroes memory when it is touched for the first time, which the first replay does: 144 MB for lstm-2 at\n"
        "T = 10,000.\n",
        seconds("first_call_own_s"),
        "## Stages of ours: ms\n",
        table(["", "of", *STAGES, "instructions"], rows),
        *missing(reasons),
    ]
    return "\n".join(parts)


def _label(point: Record) -> str:
    sizes = point["sizes"]
    return f"{point['model']} T={sizes['T']:,} N={sizes['N']}"


def _cell(record: Record, key: str) -> str:
    if key not in record:
        return "over" if "limit" in record.get("missing", "") else "-"
    return f"{brief(record[key]['min'])} / {brief(record[key]['median'])}"


def _ratio(point: Record, name: str, key: str) -> str:
    pair = [point["peers"].get(who, {}).get(key) for who in (name, "ours")]
    return "-" if None in pair else f"{pair[0]['median'] / pair[1]['median']:.2f}"


def main(argv: Sequence[str] | None = None) -> Record:
    """Measure, print, write, and return the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS), help="default: all")
    parser.add_argument("--steps", nargs="+", type=int, default=list(STEPS), help="lengths T of the models")
    parser.add_argument("--configs", nargs="*", choices=CONFIGS, default=list(CONFIGS), help="default: all")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="default: all; ours always")
    parser.add_argument("--before", type=Path, help="another checkout of the project, measured beside this one")
    parser.add_argument("--rounds", type=int, help="processes for each number (default 5; quick 2)")
    parser.add_argument("--threads", type=int, default=1, help="of every peer (default 1)")
    parser.add_argument("--kernels", help="kernels that OpenBLAS must take, such as Haswell (default: it looks itself)")
    parser.add_argument("--limit", type=float, default=60, help="seconds that a process may take (default 60)")
    parser.add_argument("--quick", action="store_true", help="a look at it: two rounds, written to runs/")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write the tables from the JSON")
    parser.add_argument("--out", type=Path, help="path without an ending (default benchmarks/results/first_call)")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.out = args.out or (Path("runs/first_call") if args.quick else RESULTS)
    found: Record = json.loads(args.out.with_suffix(".json").read_text("utf-8")) if args.draw else measure(args)
    save(found, tables(found), args.out)
    return found


if __name__ == "__main__":
    main()
