"""One training step of language models against other libraries: forward, backward and SGD update, float32.

    python benchmarks/train_step.py                       # everything, about a quarter of an hour
    python benchmarks/train_step.py --quick --configs book char --peers pytorch jax
    python benchmarks/train_step.py --draw                # tables and picture again, from the kept JSON

Every peer lives in a process of its own, so that thread pools and memory do not mix, and starts from the same weights;
before anything is timed its first losses must be ours. Then ours and each peer take turns in short bursts of the same
number of steps, only one at a time, and what is compared is what lies side by side: the minimum of all steps of
the one against the minimum of the other, and the median over the pairs of bursts of the ratio of their medians. A
ratio above 1 says that the peer takes longer than ours.

"ours" is the compiled step on the native executor, "ours-numpy" the same plan on NumPy, "ours-eager" no plan at all.
"Cold start" is the time from the first import to the end of the first step, compilation included, best of some new
processes (files are in the system's cache, our C library was built before, as a package brings its libraries, and
torch.compile finds no code of an earlier run). "Memory" is the peak of a
step, resident, over the same process when it had only imported its library: parameters, what the step needs, and what
a library holds on to. MyGrad and HIPS autograd are measured on "book" only: they record every step's operations
one by one in Python, and take too long on the others. Needs the extra [bench]; a peer that is not there is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peers.process import PeerError, Worker, describe_machine, environment
from peers.task import CONFIGS, Config
from train_step_report import tables

# name -> module, configurations (None: all)
PEERS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "ours": ("ours_compiled", None),
    "ours-numpy": ("ours_numpy", None),
    "ours-eager": ("ours_eager", None),
    "handwritten": ("handwritten", None),
    "pytorch": ("pytorch", None),
    "pytorch-compiled": ("pytorch_compiled", None),
    "jax": ("jax_jit", None),
    "mygrad": ("mygrad_graph", ("book",)),
    "autograd": ("hips_autograd", ("book",)),
}
RESULTS = Path(__file__).parent / "results" / "train_step"


def start(name: str, config: Config, env: dict[str, str], starts: int, limit: float) -> tuple[Worker, dict[str, Any]]:
    """Return a worker that is ready, and its report with the cold starts of it and of some before it.

    Raises:
        PeerError: if the peer cannot take part.
    """
    colds: list[float] = []
    while True:
        worker = Worker(PEERS[name][0], config, env, limit)
        colds.append(worker.ready["cold_s"])
        if len(colds) == starts or sum(colds) > 30:
            return worker, worker.ready | {"cold_s": colds}
        worker.close()


def check(losses: Sequence[float], ours: Sequence[float]) -> None:
    """Compare a peer's first losses with ours.

    Raises:
        PeerError: if the first differs by more than 1e-4, or a later one by more than 1e-3 of itself.
    """
    pairs = zip(losses, ours, strict=False)  # a slow one has done fewer steps
    if abs(losses[0] - ours[0]) > 1e-4 or any(not math.isclose(*pair, rel_tol=1e-3) for pair in pairs):
        raise PeerError(f"other losses: {[round(x, 4) for x in losses]} instead of {[round(x, 4) for x in ours]}")


def take_turns(ours: Worker, peer: Worker, rounds: int, burst: float) -> dict[str, Any]:
    """Return the times of alternating bursts in ms: minima, medians and ratios; see the module's text."""
    steps = max(1, min(1000, round(burst / max(ours.ready["step_s"], peer.ready["step_s"]))))
    pairs: list[tuple[list[float], list[float]]] = []
    for number in range(rounds):
        if number % 2:
            theirs = peer.run(steps)
            pairs.append((ours.run(steps), theirs))
        else:
            mine = ours.run(steps)
            pairs.append((mine, peer.run(steps)))
    medians = [[1e3 * statistics.median(side) for side in pair] for pair in pairs]
    least = [1e3 * min(min(side) for side in sides) for sides in zip(*pairs, strict=True)]
    return {
        "steps": steps * rounds,
        "min_ms": least[1],
        "ours_min_ms": least[0],
        "ratio_of_minima": least[1] / least[0],
        "median_ms": statistics.median(theirs for _, theirs in medians),
        "ours_median_ms": statistics.median(mine for mine, _ in medians),
        "median_of_ratios": statistics.median(theirs / mine for mine, theirs in medians),
        "bursts_ms": [[round(side, 5) for side in pair] for pair in medians],
    }


def side_by_side(
    names: Sequence[str], ready: Callable[[str], tuple[Worker, dict[str, Any]]], rounds: int, burst: float
) -> dict[str, dict[str, Any]]:
    """Return the record of each peer, those of others with the times of bursts that alternate with ours.

    Args:
        names: of the peers, "ours" first.
        ready: starts a peer, and returns it with its report, or raises `PeerError` where it cannot take part.
        rounds, burst: see `take_turns`.

    Raises:
        PeerError: if ours cannot take part.
    """
    workers: dict[str, Worker] = {}
    records: dict[str, dict[str, Any]] = {}
    try:
        for name in names:
            try:
                workers[name], records[name] = ready(name)
                if "losses" in records[name]:
                    check(records[name]["losses"], records["ours"]["losses"])
            except PeerError as error:
                if name == "ours":
                    raise
                records[name] = {"missing": str(error)}
                if name in workers:
                    workers.pop(name).close()
            print(f"  {name}: " + (records[name].get("missing") or "ready"), flush=True)
        for name, worker in workers.items():
            if name != "ours":
                records[name] |= take_turns(workers["ours"], worker, rounds, burst)
                print("  {}: {min_ms:.3g} ms, ratio {ratio_of_minima:.2f}".format(name, **records[name]), flush=True)
        others = [record for record in records.values() if "min_ms" in record]
        if others:
            records["ours"]["min_ms"] = min(record["ours_min_ms"] for record in others)
            records["ours"]["median_ms"] = statistics.median(record["ours_median_ms"] for record in others)
    finally:
        for worker in workers.values():
            worker.close()
    return records


def measure(config_name: str, peers: Sequence[str], env: dict[str, str], args: argparse.Namespace) -> dict[str, Any]:
    """Return the record of every peer on one configuration."""

    def ready(name: str) -> tuple[Worker, dict[str, Any]]:
        only = PEERS[name][1]
        if only is not None and config_name not in only:
            raise PeerError("takes too long")
        return start(name, CONFIGS[config_name], env, args.starts, args.limit)

    return side_by_side(peers, ready, args.rounds, args.burst)


def write(found: dict[str, Any], out: Path) -> None:
    """Write JSON and tables, print the tables, and draw the picture if matplotlib is there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = tables(found)
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    print("\n" + text)
    try:
        from train_step_plot import draw_bars  # imported here: matplotlib is an optional extra
    except ImportError:
        print("no picture: matplotlib is not installed")
    else:
        draw_bars(found, out.with_suffix(".svg"))


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write, and return the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=list(CONFIGS), help="default: all")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="default: all; ours always")
    parser.add_argument("--rounds", type=int, help="pairs of bursts for each peer (default 12; quick 3)")
    parser.add_argument("--burst", type=float, help="seconds of a burst of the slower one (default 0.4; quick 0.1)")
    parser.add_argument("--starts", type=int, help="new processes for the cold start (default 3; quick 1)")
    parser.add_argument("--threads", type=int, default=2, help="of every peer (default 2)")
    parser.add_argument("--kernels", help="kernels that OpenBLAS must take, such as Haswell (default: it looks itself)")
    parser.add_argument("--limit", type=float, default=300, help="seconds that a peer may take to start (default 300)")
    parser.add_argument("--quick", action="store_true", help="a look at it: few rounds, written to runs/")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write tables and picture from the JSON")
    parser.add_argument("--out", type=Path, help="path without an ending (default benchmarks/results/train_step)")
    args = parser.parse_args(argv)
    usual = (3, 0.1, 1) if args.quick else (12, 0.4, 3)
    for name, value in zip(("rounds", "burst", "starts"), usual, strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    out = args.out or (Path("runs/train_step") if args.quick else RESULTS)
    if args.draw:
        found: dict[str, Any] = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    else:
        env = environment(args.threads, args.kernels)
        found = {"machine": describe_machine(env), "rounds": args.rounds, "burst_s": args.burst, "configs": {}}
        peers = [name for name in PEERS if name in args.peers or name == "ours"]
        for name in args.configs:
            print(name, flush=True)
            config = CONFIGS[name]
            record = {"sizes": config._asdict(), "gflop": config.flop / 1e9, "peers": measure(name, peers, env, args)}
            found["configs"][name] = record
    write(found, out)
    return found


if __name__ == "__main__":
    main()
