"""Which truncation policies can learn to remember: an answer that lies k steps back.

A sequence holds T = 2k random symbols, and the k-th is marked. At the last step, k steps later, the network must name
the marked symbol; all the others are distractors. The loss stands at the last step only, and every sequence starts
from a fresh state. A GRU is trained under one policy after another, from the same first weights and on the same
sequences. "uses" is how many uses of the parameters the answer's loss reaches; "credit" is the mean weight,
M[2k-1, k-1], of the one that reads the marked symbol; "alive" is for how many steps a graph is held at most.

    python examples/long_memory.py               # one seed: 17 s on two cores
    python examples/long_memory.py --seeds 5     # the table below: 93 s

gap k = 20, T = 40 steps, GRU, H = 32, 64 sequences an update, at most 300 updates,
Adam 0.02, bias of the update gate 0.5; guessing is right in 25%

policy                      uses   credit  passes  alive   accuracy %  updates   seconds  verdict
Full()                        40        1       1     40          100  100-150   1.1-1.6  learned (5 of 5)
Chunked(10)                   10        0       4     10        25-33      300   2.2-2.3  did not learn (0 of 5)
Windowed(30, every=5)         30        1       8     30          100  100-175   1.1-1.8  learned (5 of 5)
Checkpointed(6)               40        1       1      6          100  100-175   1.7-2.9  learned (5 of 5)
Randomized(c=0.05)            40        1       1     40       99-100  150-225   1.7-2.6  learned (5 of 5)
Decay(0.9)                    40      0.1       1     40       99-100  150-225   2.1-3.3  learned (5 of 5)
Decay(0.5)                    40    1e-06       1     40        23-26      300   4.0-4.5  did not learn (0 of 5)
Adaptive(0.01, 30, every=5)   30        1       8     30       99-100  100-175   1.2-2.2  learned (5 of 5)

Chunked cannot learn it: a cut stands between the answer and the mark. The weights that read the mark are used at that
step only, and their gradient is exactly 0. After 2,000 updates it named 24-32 % of the symbols right, still. That it
is a little more than guessing at times is no gradient: the state itself carries a trace of the symbol forward, which
the last weights can learn to read. With --gap 5 that trace is good for 45-65 %, and still no seed learned the task.

Windowed and Checkpointed give the mark the credit that full BPTT gives it. Windowed holds 30 steps instead of 40, for
8 passes instead of one, of which only the last has a loss to start from; Checkpointed holds 6, and computes all steps
twice. Decay shows that a path is not enough: 0.9 ** 20 = 0.1 slows learning down, 0.5 ** 20 = 1e-6 prevents it.

Randomized has the right mean, and noise: 36 % of its draws reach the mark, with a weight of 2.8, the others with 0.
It took half as many updates again as full BPTT. With --update-bias 0 --steps 500, where the gradient fades faster, it
learned with 4 of 5 seeds, and full BPTT with 5.

Adaptive starts with 10 uses, too few to see the mark. It widened its window to the 30 that it may use, from the fading
of the cotangents alone ("uses", "credit" and "alive" are those at the end of training).
"""

from __future__ import annotations

import argparse
import time
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tinygrad_rnn as tr

SYMBOLS, H, N = 4, 32, 64  # kinds of symbols, hidden size, sequences in an update
LR, CLIP = 0.02, 1.0  # Adam's learning rate, largest global norm of the gradient
EVERY = 5  # steps between the backward passes of Windowed and Adaptive
FRESH, CHECK_EVERY = 1000, 25  # sequences that accuracy is measured on, updates between two measurements
LEARNED = 0.99  # accuracy at which training ends


class Result(NamedTuple):
    """What one policy came to; the lists have an entry for each seed."""

    uses: int  # uses of the parameters that the last loss reaches
    credit: float  # mean weight of the marked step in the gradient of the last loss
    passes: int  # backward passes over a sequence
    alive: int  # most steps of one sequence whose graph is held at a time
    accuracy: list[float]
    updates: list[int]
    seconds: list[float]  # of training


class Recaller(tr.Module):
    """A GRU, and a linear layer that names the marked symbol from the last output."""

    def __init__(self, rng: np.random.Generator, update_bias: float) -> None:
        self.cell = tr.GRUCell(SYMBOLS + 1, H, rng)
        self.cell.b.data = np.repeat([0.0, update_bias, 0.0], H)  # columns r, z, n
        self.output = tr.Linear(H, SYMBOLS, rng)

    def step(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        """Return (loss, state) of some steps; the loss is None where no answer is asked for."""
        xs, answers = inputs
        hs, state = tr.unroll(self.cell, xs, state)
        if (answers < 0).all():
            return None, state
        return tr.cross_entropy(self.output(hs[:, -1]), answers[:, -1]), state


def sequences(rng: np.random.Generator, n: int, gap: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return one-hot symbols and the mark, (n, T, SYMBOLS + 1), and the answers (n, T), -1 where there is none."""
    ids = rng.integers(0, SYMBOLS, (n, 2 * gap))
    mark = np.zeros((*ids.shape, 1))
    mark[:, gap - 1] = 1
    answers = np.full_like(ids, -1)
    answers[:, -1] = ids[:, gap - 1]
    return np.concatenate([np.eye(SYMBOLS)[ids], mark], axis=2, dtype=np.float32), answers


def policies(gap: int, seed: int) -> dict[str, tr.Policy]:
    """Return the policies to compare, by name."""
    n, segment = gap // 2, round((2 * gap) ** 0.5)
    window = (gap // EVERY + 2) * EVERY  # passes count from multiples of EVERY: the last may reach back EVERY - 1 less
    return {
        "Full()": tr.Full(),
        f"Chunked({n})": tr.Chunked(n),
        f"Windowed({window}, every={EVERY})": tr.Windowed(window, every=EVERY),
        f"Checkpointed({segment})": tr.Checkpointed(segment),
        f"Randomized(c={1 / gap:.2g})": tr.Randomized(c=1 / gap, rng=seed),
        "Decay(0.9)": tr.Decay(0.9),
        "Decay(0.5)": tr.Decay(0.5),
        f"Adaptive(0.01, {window}, every={EVERY})": tr.Adaptive(0.01, window, every=EVERY),
    }


def accuracy(model: Recaller, xs: NDArray[np.float32], answers: NDArray[np.int64]) -> float:
    """Return the share of sequences whose marked symbol the model names."""
    with tr.no_grad():
        hs, _ = tr.unroll(model.cell, xs)
        guesses = np.asarray(model.output(hs[:, -1])).argmax(axis=1)
    return float(np.mean(guesses == answers[:, -1]))


def train(model: Recaller, policy: tr.Policy, gap: int, steps: int, seed: int) -> tuple[float, int, float]:
    """Train until the task is learned, `steps` updates at most; return accuracy, updates and seconds."""
    rng, optimizer, parameters = np.random.default_rng((seed, 1)), tr.Adam(LR), model.parameters()
    fresh = sequences(np.random.default_rng((seed, 2)), FRESH, gap)
    seconds, score = 0.0, accuracy(model, *fresh)
    for update in range(1, steps + 1):
        batch = sequences(rng, N, gap)
        start = time.perf_counter()
        found = tr.bptt(model.step, parameters, batch, model.cell.initial_state(N), policy)
        optimizer.update(parameters, tr.clip_by_norm(found.gradients, CLIP)[0])
        seconds += time.perf_counter() - start
        if update % CHECK_EVERY == 0 or update == steps:
            score = accuracy(model, *fresh)
            if score >= LEARNED:
                return score, update, seconds
    return score, steps, seconds


def steps_alive(model: Recaller, policy: tr.Policy, gap: int) -> int:
    """Return the most steps of one sequence whose graph is held at a time, seen through weak references."""
    held: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
    most = 0

    def step(inputs: Any, state: Any) -> tuple[Any, Any]:
        nonlocal most
        loss, after = model.step(inputs, state)
        held[after.node] = inputs[0].shape[1]
        most = max(most, sum(held.values()))
        return loss, after

    tr.bptt(step, model.parameters(), sequences(np.random.default_rng(0), 1, gap), np.zeros((1, H), np.float32), policy)
    return most


def span(values: Sequence[float], form: str) -> str:
    """Return the smallest and the largest value as text, or one if they print alike."""
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low}-{high}"


def verdict(accuracies: Sequence[float]) -> str:
    """Return whether the task was learned, and by how many of the seeds."""
    learned = sum(score >= LEARNED for score in accuracies)
    words = "learned" if learned == len(accuracies) else "learned at times" if learned else "did not learn"
    return f"{words} ({learned} of {len(accuracies)})"


def main(argv: Sequence[str] | None = None) -> dict[str, Result]:
    """Train under every policy, print the table; return the numbers."""
    parser = argparse.ArgumentParser(description="Truncation policies on a task whose answer lies k steps back.")
    parser.add_argument("--gap", type=int, default=20, help="k, steps from the symbol to the answer (default 20)")
    parser.add_argument("--steps", type=int, default=300, help="updates at most (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="first seed (default 0)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds (default 1)")
    parser.add_argument("--update-bias", type=float, default=0.5, help="first bias of the update gate z (default 0.5)")
    args = parser.parse_args(argv)
    if args.gap < EVERY:
        parser.error(f"--gap must be at least {EVERY}")

    T = 2 * args.gap
    print(f"gap k = {args.gap}, T = {T} steps, GRU, H = {H}, {N} sequences an update, at most {args.steps} updates,")
    print(f"Adam {LR}, bias of the update gate {args.update_bias:g}; guessing is right in {1 / SYMBOLS:.0%}\n")
    results: dict[str, Result] = {}
    for seed in range(args.seed, args.seed + args.seeds):
        for name, policy in policies(args.gap, seed).items():
            model = Recaller(np.random.default_rng((seed, 0)), args.update_bias)
            score, updates, seconds = train(model, policy, args.gap, args.steps, seed)
            if name not in results:
                weights = policy.expected_mask(T)[-1]
                alive = steps_alive(model, policy, args.gap)
                uses = int(np.count_nonzero(weights))
                results[name] = Result(uses, float(weights[args.gap - 1]), len(policy.passes(T)), alive, [], [], [])
            results[name].accuracy.append(score)
            results[name].updates.append(updates)
            results[name].seconds.append(seconds)

    print(f"{'policy':28}uses   credit  passes  alive   accuracy %  updates   seconds  verdict")
    for name, result in results.items():
        scores = span([100 * score for score in result.accuracy], ".0f")
        times = f"{span(result.updates, 'd'):>9}{span(result.seconds, '.1f'):>10}"
        counts = f"{result.uses:4}{result.credit:9.1g}{result.passes:8}{result.alive:7}"
        print(f"{name:28}{counts}{scores:>13}{times}  {verdict(result.accuracy)}")
    return results


if __name__ == "__main__":
    main()
