"""The copy task at a lag of 20 steps: a linear recurrent unit that learns online what to remember, and how.

A sequence of 20 bits is read, and then said again: at each of the next 20 steps the bit of 20 steps before is wanted,
while the input says only that it is recall now. The network is a layer of 12 complex units (24 numbers to hold 20
bits), between a linear encoder and a small decoder. `RTRL` goes back to no earlier step: the influence of the
parameters on the state is carried forward, which is exact, and costs little here, since each unit of a diagonal
recurrence is reached by its own parameters alone. There is an update of Adam after each sequence. Source: Zucchet et
al. 2023, Online learning of long-range dependencies; they use 64 units.

    python examples/copy_task.py                 # 30 s

nats a bit, as learning goes on (0.693 by chance), and the share of bits and of sequences said right
updates              200     400     600     800   1,000    bits  sequences
decay:0            0.665   0.466   0.339   0.219   0.214   91.2%      23.9%
rtrl               0.608   0.116   0.022   0.007   0.009   99.9%      98.3%

`decay:0` is a window of one step, with an update after each sequence too: it gives credit to the encoder and the
recurrence for what they did in the step of the loss alone. At recall the input holds no bit, so how the bits are taken
in is never learned, and the decoder reads what random units keep. Those start with |lambda| between 0.5 and 0.8, and
0.8^20 is 0.01: little is left of a bit when it is wanted. With |lambda| near 1 from the start, or with many units, the
random state would be enough, and both policies would say all bits right.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tinygrad_rnn as tr

LAG = 20  # bits, and steps from each to its recall
N, H, WIDTH = 32, 12, 8  # streams, complex units, width of the layer
RADIUS = (0.5, 0.8)  # |lambda| at the start
LR = 0.01
POLICIES = (tr.Decay(0.0, every=2 * LAG), tr.RTRL(every=2 * LAG))


def sequences(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return inputs (N, 2 LAG, 2), the bit as -1 or 1 and whether it is recall, and targets (N, 2 LAG), -1: none."""
    bits = rng.integers(0, 2, (count, LAG))
    inputs = np.zeros((count, 2 * LAG, 2), np.float32)
    inputs[:, :LAG, 0], inputs[:, LAG:, 1] = 2 * bits - 1, 1
    return inputs, np.concatenate([np.full_like(bits, -1), bits], axis=1).astype(np.float32)


class Network(tr.Module):
    """A linear layer, an LRU, and a decoder with one hidden layer; a logit for each step."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.encoder, self.cell = tr.Linear(2, WIDTH, rng), tr.LRUCell(WIDTH, H, rng, radius=RADIUS)
        self.hidden, self.output = tr.Linear(WIDTH, 2 * WIDTH, rng), tr.Linear(2 * WIDTH, 1, rng)

    def initial_state(self, batch_size: int) -> Any:
        return self.cell.initial_state(batch_size)

    def __call__(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        ys, state = tr.unroll(self.cell, self.encoder(inputs), state)
        return self.output(tr.relu(self.hidden(ys)))[:, :, 0], state


def loss(network: Network, batch: tuple[Any, Any], state: Any) -> tuple[Any, Any]:
    """Return the cross-entropy of the bits that are wanted, over all steps, and the state."""
    inputs, targets = batch
    logits, state = network(inputs, state)
    return tr.binary_cross_entropy(logits, targets, reduction="sum") / targets.size, state


def right(network: Network, rng: np.random.Generator, count: int = 1600) -> tuple[float, float]:
    """Return the shares of bits and of whole sequences that are said right, of new sequences."""
    inputs, targets = sequences(rng, count)
    with tr.no_grad():
        logits, _ = network(inputs, network.initial_state(count))
    said = (logits.data[:, LAG:] > 0) == (targets[:, LAG:] > 0.5)
    return float(said.mean()), float(said.all(axis=1).mean())


def trained(policy: tr.Policy, updates: int, seed: int) -> tuple[Network, NDArray[np.float64]]:
    """Return a network after so many sequences, and the loss of each, in nats a bit."""
    rng = np.random.default_rng(seed)
    network = Network(rng)
    step, found = tr.TrainStep(network, loss, tr.Adam(LR), clip=1.0, policy=policy), []
    for _ in range(updates):
        found.append(2 * step(sequences(rng, N), network.initial_state(N)).loss)  # half of the steps want no bit
    return network, np.array(found)


def main(arguments: Sequence[str] | None = None) -> dict[str, tuple[float, float]]:
    """Print the loss as learning goes on, and what is said right at the end, under each policy; return the latter."""
    parser = argparse.ArgumentParser(description="The copy task at a lag of 20 steps, learned online.")
    parser.add_argument("--updates", type=int, default=1000, help="sequences of each stream (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    ends = [options.updates * part // 5 for part in range(1, 6)]
    print("nats a bit, as learning goes on (0.693 by chance), and the share of bits and of sequences said right")
    print(f"{'updates':16}" + "".join(f"{end:8,}" for end in ends) + "    bits  sequences")
    shares = {}
    for policy in POLICIES:
        network, found = trained(policy, options.updates, options.seed)
        bits, whole = shares[tr.policy_text(policy)] = right(network, np.random.default_rng(options.seed + 1000))
        means = "".join(f"{found[max(0, end - 100) : end].mean():8.3f}" for end in ends)
        print(f"{tr.policy_text(policy):16}{means}{bits:8.1%}{whole:11.1%}")
    return shares


if __name__ == "__main__":
    main()
