"""A training step exported to JAX, against the same step written in JAX by hand, and against the native executor.

    python benchmarks/to_jax.py                        # the configurations of train_step.py; some minutes
    python benchmarks/to_jax.py --quick --configs book
    python benchmarks/to_jax.py --draw                 # the tables again, from the kept JSON

All on the CPU, in processes that take turns, with as many threads each; the least of all steps. The time is that of the
processor, over all threads, which a busy machine changes least. "First step" is recording, compiling and running, in
seconds of the clock; JAX and its libraries are loaded before. "Equal" compares the parameters and the state after one
update in float64 with those of the native executor: the largest difference, relative to the largest change. Needs the
extra [bench].
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers.process import PeerError, Worker, commit, describe_machine, environment, once
from peers.task import CONFIGS, Config, make_weights, make_windows
from report import brief, head, missing, save, table

PEERS = {"exported": "ours_jax", "by hand": "jax_jit", "native": "ours_compiled"}
OWN = {"own cell": Config("leaky", V=1000, D=64, H=128, N=20, T=35)}
RESULTS = Path(__file__).parent / "results" / "to_jax"
Record = dict[str, Any]


def difference(config: Config) -> float:
    """Return how far an update in JAX is from that of the native executor, in float64."""
    import jax
    from peers.ours_compiled import make_train
    from peers.ours_eager import make_model

    import tinygrad_rnn as tr

    jax.config.update("jax_enable_x64", True)
    config = config._replace(dtype="float64")
    model = make_model(config, make_weights(config))
    parameters, (ids, targets) = model.parameters(), make_windows(config)[0]
    before = {name: p.data for name, p in parameters.items()}
    state, train = model.initial_state(config.N), make_train(model)
    wanted = tr.compile(train)(parameters, ids, targets, state)
    exported = tr.to_jax(train, weights={"parameters": parameters})
    got = jax.jit(exported)(before, ids, targets, exported.arrays(state))
    found = [abs(float(got[0]) / float(wanted[0]) - 1)]
    for name, p in before.items():
        found.append(np.abs(got[1][name] - wanted[1][name]).max() / np.abs(wanted[1][name] - p).max())
    pairs = zip(jax.tree.leaves(got[2]), jax.tree.leaves(wanted[2]), strict=True)
    found += [np.abs(one - other).max() / np.abs(other).max() for one, other in pairs]
    return float(max(found))


def times(config: Config, args: argparse.Namespace) -> dict[str, Record]:
    """Return the record of each peer."""
    env = environment(args.threads, None)
    found: dict[str, Record] = {}
    for name, module in PEERS.items():
        try:
            first = once("first", [module, config], env, args.limit)
            found[name] = {"version": first["version"], "first_s": first["first_s"], "losses": first["losses"]}
        except PeerError as error:
            found[name] = {"missing": str(error)}
    workers: dict[str, Worker] = {}
    for name in [name for name in PEERS if "missing" not in found[name]]:
        workers[name] = Worker(PEERS[name], config, env | {"PEERS_CLOCK": "cpu"}, args.limit)
    steps = max(2, min(50, int(0.3 / min(worker.ready["step_s"] for worker in workers.values()))))
    for _ in range(args.rounds):
        for name, worker in workers.items():
            found[name].setdefault("ms", []).extend(1e3 * second for second in worker.run(steps))
    for worker in workers.values():
        worker.close()
    for name in workers:
        found[name]["ms"] = min(found[name]["ms"])
    return found


def measure(args: argparse.Namespace) -> Record:
    """Return the record of all configurations."""
    env = environment(args.threads, None)
    found: Record = {"machine": describe_machine(env), "commit": commit(Path(__file__).parents[1]), "configs": {}}
    found["rounds"] = args.rounds
    for name, config in (CONFIGS | OWN).items():
        if name in args.configs:
            print(name, flush=True)
            peers = times(config, args)
            found["configs"][name] = {"sizes": config._asdict(), "peers": peers, "difference": difference(config)}
    records = [peer for one in found["configs"].values() for peer in one["peers"].values()]
    found["versions"] = sorted({peer["version"] for peer in records if "version" in peer})
    return found


def tables(found: Record) -> str:
    """Return the report."""
    rows, reasons = [], dict[str, list[str]]()
    for name, record in found["configs"].items():
        peers = record["peers"]
        for who, peer in peers.items():
            if "missing" in peer:
                reasons.setdefault(f"{who}: {peer['missing']}", []).append(name)
        ms = [peers[who].get("ms") for who in PEERS]
        ratios = [f"{other / ms[0]:.2f}" if other and ms[0] else "-" for other in ms[1:]]
        first = [brief(peers[who]["first_s"]) if "first_s" in peers[who] else "-" for who in PEERS]
        cells = [brief(one) if one else "-" for one in ms]
        rows.append([name, *cells, *ratios, " / ".join(first), f"{record['difference']:.0e}"])
    columns = ["", *(f"{who}, ms" for who in PEERS), *(f"{who} / exported" for who in list(PEERS)[1:])]
    return "\n".join(
        [
            "# A training step, exported to JAX\n",
            head(found) + f" {found['rounds']} rounds. On the CPU: no GPU and no TPU was at hand. Written by "
            "`benchmarks/to_jax.py`, which says what is measured and how.\n",
            table([*columns, f"first step, s: {' / '.join(PEERS)}", "equal, float64"], rows),
            *missing(reasons),
        ]
    )


def main(argv: Sequence[str] | None = None) -> Record:
    """Measure, print, write, and return the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="*", choices=[*CONFIGS, *OWN], default=[*CONFIGS, *OWN], help="default: all")
    parser.add_argument("--rounds", type=int, help="turns of each peer (default 5; quick 2)")
    parser.add_argument("--threads", type=int, default=1, help="of every peer (default 1)")
    parser.add_argument("--limit", type=float, default=120, help="seconds that a process may take (default 120)")
    parser.add_argument("--quick", action="store_true", help="a look at it: two rounds, written to runs/")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write the tables from the JSON")
    parser.add_argument("--out", type=Path, help="path without an ending (default benchmarks/results/to_jax)")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.out = args.out or (Path("runs/to_jax") if args.quick else RESULTS)
    found: Record = json.loads(args.out.with_suffix(".json").read_text("utf-8")) if args.draw else measure(args)
    save(found, tables(found), args.out)
    return found


if __name__ == "__main__":
    main()
