"""Whether compiled training steps are as fast as at another commit; the exit status is 1 if one got slower.

    make bench-check                                   # against the commit before
    python benchmarks/speed_gate.py --base v0.2.0 --configs char long

Both packages run in processes of their own that take turns in short bursts, and what is compared is the fastest step of
each: what else the machine does makes steps slower, never faster. A configuration below the limit is measured again, up
to three times, and counts as slower only if it was below each time. The base is a worktree in a temporary folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from peers.process import Worker, before, environment
from peers.task import CONFIGS
from train_step import take_turns

ROOT = Path(__file__).parents[1]
TRIES = 3


def ratio(name: str, envs: Sequence[dict[str, str]], rounds: int, burst: float) -> float:
    """Return how many times longer the fastest step takes at the base than here."""
    here, base = workers = [Worker("ours_compiled", CONFIGS[name], env, limit=300) for env in envs]
    try:
        return float(take_turns(here, base, rounds, burst)["ratio_of_minima"])
    finally:
        for worker in workers:
            worker.close()


def compare(name: str, envs: Sequence[dict[str, str]], args: argparse.Namespace) -> bool:
    """Print the ratios of one configuration; return whether one of them reaches the limit."""
    found: list[float] = []
    while len(found) < TRIES and (not found or found[-1] < args.limit):
        found.append(ratio(name, envs, args.rounds, args.burst))
    fine = found[-1] >= args.limit
    print(f"{name:12} {'ok    ' if fine else 'SLOWER'} {', '.join(f'{one:.3f}' for one in found)}", flush=True)
    return fine


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="HEAD^", help="commit to compare with (default HEAD^)")
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=list(CONFIGS), help="default: all")
    parser.add_argument("--limit", type=float, default=0.97, help="least ratio of base to here (default 0.97)")
    parser.add_argument("--threads", type=int, default=1, help="of either side (default 1)")
    parser.add_argument("--rounds", type=int, default=10, help="pairs of bursts in a try (default 10)")
    parser.add_argument("--burst", type=float, default=0.2, help="seconds of a burst (default 0.2)")
    args = parser.parse_args(argv)
    git = ["git", "-C", str(ROOT)]
    with tempfile.TemporaryDirectory() as scratch:
        checkout = Path(scratch) / "base"
        subprocess.run([*git, "worktree", "add", "--quiet", "--detach", str(checkout), args.base], check=True)
        try:
            env = environment(args.threads, None)
            envs = [before(env, ROOT), before(env, checkout)]
            print(f"step time at {args.base} / here (minima of alternating bursts, {args.threads} threads)", flush=True)
            fine = [compare(name, envs, args) for name in args.configs]
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(checkout)], check=True)
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
