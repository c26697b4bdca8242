"""The add task: how much of a dependency a rule for credit finds, read off a cross-entropy.

The inputs are coin flips x_t. The target is a probability that depends on two of them, 6 and 10 steps back:

    p_t = 0.5 + 0.5 x_{t-6} - 0.25 x_{t-10}

The best cross-entropy is 0.6616 nats for a network that has found neither dependency, 0.5192 with the first, and 0.4545
with both: the entropies of p_t given what is known. Source: Marschall, Cho and Savin 2020, A unified framework of
online learning algorithms for training recurrent neural networks. An RNN learns online, with an update of Adam after
every step; the columns are means of the loss over tenths of the run.

    python examples/add_task.py                  # 10 s

best with no dependency, the first, both: 0.6616, 0.5192, 0.4545
windowed:1    0.623  0.581  0.571  0.605  0.588  0.581  0.580  0.627  0.640  0.619
snap:1        0.583  0.541  0.575  0.567  0.599  0.632  0.605  0.636  0.614  0.612
rtrl          0.532  0.491  0.481  0.484  0.479  0.473  0.476  0.471  0.468  0.466

RTRL finds both dependencies. Without credit through time the linear layer still reads what the random weights keep of
earlier flips, so the loss is below the first level, and it never gets below the second; no more does SnAp of one step,
which keeps the influence of a weight on its own unit alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tinygrad_rnn as tr

LAGS = (6, 10)  # steps back
WEIGHTS = (0.5, -0.25)
N, H, WINDOW = 8, 16, 20  # streams, hidden size, steps that are made at a time
LR = 0.003
POLICIES = (tr.Windowed(1), tr.SnAp(1), tr.RTRL())


def probability(flips: Sequence[Any]) -> Any:
    """Return p, given the flips that it depends on."""
    return 0.5 + sum(weight * flip for weight, flip in zip(WEIGHTS, flips, strict=True))


def entropies() -> list[float]:
    """Return the best cross-entropy, in nats, of who knows neither of the flips, the first, and both."""
    found = []
    for known in range(len(LAGS) + 1):
        p = np.array([probability(flips) for flips in product((0, 1), repeat=len(LAGS))])
        mean = p.reshape(2**known, -1).mean(axis=1)  # over the flips that are not known
        q = 1 - mean
        terms = [side * np.log(np.where(side > 0, side, 1)) for side in (mean, q)]
        found.append(float(-np.mean(terms[0] + terms[1])))
    return found


def coins(rng: np.random.Generator) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield flips and probabilities, each with its complement, (N, WINDOW, 2), without end."""
    longest = max(LAGS)
    flips = rng.integers(0, 2, (N, longest + WINDOW)).astype(float)
    while True:
        p = probability([flips[:, longest - lag :][:, :WINDOW] for lag in LAGS])
        x = flips[:, longest:]
        yield np.stack([x, 1 - x], axis=-1), np.stack([p, 1 - p], axis=-1)
        flips = np.concatenate([flips[:, WINDOW:], rng.integers(0, 2, (N, WINDOW))], axis=1)


class Network(tr.Module):
    """An RNN, and a linear layer on its state."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.cell, self.head = tr.RNNCell(2, H, rng, np.float64), tr.Linear(H, 2, rng, dtype=np.float64)


def loss(network: Network, batch: tuple[Any, Any], state: Any) -> tuple[Any, Any]:
    """Return the mean cross-entropy of some steps, and the state after them."""
    xs, targets = batch
    hs, state = tr.unroll(network.cell, xs, state)
    return tr.cross_entropy(network.head(hs), targets), state


def losses(policy: tr.Policy, steps: int, seed: int) -> NDArray[np.float64]:
    """Return the loss of each step of a run, online."""
    rng = np.random.default_rng(seed)
    network = Network(rng)
    step, state, found = tr.TrainStep(network, loss, tr.Adam(LR), policy=policy), network.cell.initial_state(N), []
    for batch in step.pieces(islice(coins(rng), steps // WINDOW)):  # of a step each: there is an update after each
        result = step(batch, state)
        state = result.state
        found.append(result.loss)
    return np.array(found)


def tenths(run: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of the tenths of a run."""
    return np.array([part.mean() for part in np.array_split(run, 10)])


def main(arguments: Sequence[str] | None = None) -> dict[str, NDArray[np.float64]]:
    """Print the loss as learning goes on, under each policy, and return its means over tenths of the run."""
    parser = argparse.ArgumentParser(description="How much of a dependency a rule for credit finds.")
    parser.add_argument("--steps", type=int, default=6000, help="steps of each run (default 6000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    print("best with no dependency, the first, both: " + ", ".join(f"{level:.4f}" for level in entropies()))
    found = {}
    for policy in POLICIES:
        name = tr.policy_text(policy)
        means = found[name] = tenths(losses(policy, options.steps, options.seed))
        print(f"{name:12}" + "".join(f"{mean:7.3f}" for mean in means))
    return found


if __name__ == "__main__":
    main()
