"""How the time of a training step grows with T, N, H and V: ours compiled, PyTorch and JAX, beside the GEMM limit.

    python benchmarks/train_step_growth.py                  # some minutes
    python benchmarks/train_step_growth.py --letters T N --rounds 2

An LSTM language model in the middle, and one size at a time varied around it. The peers, each in a process of its own,
take turns in short bursts; the time is the minimum over all steps. The limit is the time of the step's matrix
products at the speed that NumPy's product of large square matrices reaches on this machine. Needs the extras [bench]
and, for the picture, [plot].
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.process import PeerError, Worker, describe_machine, environment
from peers.task import Config
from train_step import PEERS

MIDDLE = Config("lstm", V=1000, D=128, H=128, N=16, T=35)
SIZES = {
    "T": (10, 35, 100, 300, 1000),
    "N": (1, 4, 16, 64, 256),
    "H": (32, 64, 128, 256, 512, 1024),
    "V": (100, 1000, 10_000, 50_000),
}
LETTERS = {"T": "time steps", "N": "batch", "H": "hidden size", "V": "vocabulary"}
RESULTS = Path(__file__).parent / "results" / "train_step_growth"


def measure(config: Config, peers: Sequence[str], env: dict[str, str], args: argparse.Namespace) -> dict[str, float]:
    """Return the minimum of each peer in ms; a peer that fails is left out."""
    workers: dict[str, Worker] = {}
    try:
        for name in peers:
            try:
                workers[name] = Worker(PEERS[name][0], config, env, args.limit)
            except PeerError as error:
                print(f"  {name}: {error}", flush=True)
        times: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(args.rounds):
            for name, worker in workers.items():
                steps = max(1, min(500, round(args.burst / worker.ready["step_s"])))
                times[name] += worker.run(steps)
    finally:
        for worker in workers.values():
            worker.close()
    return {name: 1e3 * min(found) for name, found in times.items()}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write, and return the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--letters", nargs="+", choices=SIZES, default=list(SIZES), help="sizes to vary (default: all)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["ours", "pytorch", "jax"])
    parser.add_argument("--rounds", type=int, default=4, help="bursts of each peer at each point (default 4)")
    parser.add_argument("--burst", type=float, default=0.15, help="seconds of a burst (default 0.15)")
    parser.add_argument("--threads", type=int, default=2, help="of every peer (default 2)")
    parser.add_argument("--kernels", help="kernels that OpenBLAS must take, such as Haswell (default: it looks itself)")
    parser.add_argument("--limit", type=float, default=120, help="seconds that a peer may take to start (default 120)")
    parser.add_argument("--draw", action="store_true", help="measure nothing: draw the picture from the kept JSON")
    parser.add_argument("--out", type=Path, default=RESULTS, help="path without an ending (default: the kept results)")
    args = parser.parse_args(argv)
    if args.draw:
        found: dict[str, Any] = json.loads(args.out.with_suffix(".json").read_text(encoding="utf-8"))
    else:
        found = sweep(args)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    try:
        from train_step_plot import draw_growth  # imported here: matplotlib is an optional extra
    except ImportError:
        print("no picture: matplotlib is not installed")
    else:
        draw_growth(found, args.out.with_suffix(".svg"))
    return found


def sweep(args: argparse.Namespace) -> dict[str, Any]:
    """Return the record of all points; the middle is measured once."""
    env = environment(args.threads, args.kernels)
    machine = describe_machine(env)
    print("{processor}, {cpu}, {threads} threads, {gflops} GFLOP/s".format(**machine))
    print(f"{'':30}" + "".join(f"{name:>18}" for name in [*args.peers, "GEMM limit"]) + "  ms")
    known: dict[Config, dict[str, float]] = {}
    sweeps: dict[str, list[dict[str, Any]]] = {letter: [] for letter in args.letters}
    for letter in args.letters:
        for size in SIZES[letter]:
            config = MIDDLE._replace(**{letter: size})
            if config not in known:
                known[config] = measure(config, args.peers, env, args)
            limit = config.flop / 1e6 / machine["gflops"]
            sweeps[letter].append({"sizes": config._asdict(), "ms": known[config], "gemm_ms": limit})
            row = [known[config].get(name, float("nan")) for name in args.peers] + [limit]
            print(f"{letter}={size:<28}" + "".join(f"{ms:18.3g}" for ms in row), flush=True)
    return {"machine": machine, "peers": args.peers, "letters": LETTERS, "sweeps": sweeps}


if __name__ == "__main__":
    main()
