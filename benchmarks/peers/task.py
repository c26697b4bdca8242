"""What is trained: sizes, first weights and windows of ids, the same for every peer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

LR = 0.1
GATES = {"rnn": 1, "lstm": 4, "gru": 3, "leaky": 2}
Weights = dict[str, Any]


class Config(NamedTuple):
    """Sizes of a recurrent language model and of its windows."""

    cell: str
    V: int
    D: int
    H: int
    N: int
    T: int
    layers: int = 1
    dtype: str = "float32"

    @property
    def flop(self) -> float:
        """Arithmetic of a step's matrix products: one forward, two backward, 2 for each multiply and add."""
        G, D, H = GATES[self.cell], self.D, self.H
        recurrent = sum((size + H) * G * H for size in [D] + [H] * (self.layers - 1))
        return 3 * 2.0 * self.N * self.T * (recurrent + H * self.V)


CONFIGS = {
    "book": Config("rnn", V=418, D=100, H=100, N=10, T=5),
    "words-rnn": Config("rnn", V=10_000, D=100, H=100, N=20, T=35),
    "words-lstm": Config("lstm", V=10_000, D=100, H=100, N=20, T=35),
    "words-gru": Config("gru", V=10_000, D=100, H=100, N=20, T=35),
    "medium": Config("lstm", V=10_000, D=650, H=650, N=20, T=35, layers=2),
    "char": Config("lstm", V=65, D=128, H=128, N=50, T=50, layers=2),
    "long": Config("rnn", V=65, D=64, H=128, N=1, T=1000),
}


def make_weights(config: Config, seed: int = 0) -> Weights:
    """Return weights by the names that `tinygrad_rnn.RNNLM` gives them.

    Uniform within 1/sqrt(H), as PyTorch starts; the embedding normal, biases 0. Weights multiply from the right;
    columns of the gates: i, f, o, g of the LSTM; r, z, n of the GRU, which resets after its product (bias bh). "leaky"
    is the cell of `own_cell.py`: f, n, and as its product waits for the gate, Wf and Wn instead of Wh.
    """
    rng, H, G = np.random.default_rng(seed), config.H, GATES[config.cell]

    def uniform(*shape: int) -> Any:
        return ((2 * rng.random(shape, dtype=np.float32) - 1) / np.sqrt(H)).astype(np.float32)

    weights = {"embedding.W": rng.standard_normal((config.V, config.D), dtype=np.float32)}
    for layer, size in enumerate([config.D] + [H] * (config.layers - 1)):
        weights[f"layers.{layer}.Wx"] = uniform(size, G * H)
        for name in ["Wf", "Wn"] if config.cell == "leaky" else ["Wh"]:
            weights[f"layers.{layer}.{name}"] = uniform(H, H if config.cell == "leaky" else G * H)
        weights[f"layers.{layer}.b"] = np.zeros(G * H, np.float32)
        if config.cell == "gru":
            weights[f"layers.{layer}.bh"] = np.zeros(H, np.float32)
        if config.cell == "leaky":
            weights[f"layers.{layer}.gain"] = np.ones(H, np.float32)
            weights[f"layers.{layer}.shift"] = np.zeros(H, np.float32)
            weights[f"layers.{layer}.leak"] = np.zeros(H, np.float32)
    weights["output.W"] = uniform(H, config.V)
    weights["output.b"] = np.zeros(config.V, np.float32)
    return {name: array.astype(config.dtype, copy=False) for name, array in weights.items()}


def make_windows(config: Config, count: int = 4, seed: int = 1) -> list[tuple[Any, Any]]:
    """Return (ids, targets), (N, T) each, of streams in which the id of rank r comes with probability about 1/r."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, config.V + 1)
    length = count * config.T + 1
    streams = rng.choice(config.V, size=(config.N, length), p=shares / shares.sum())
    starts = range(0, length - 1, config.T)
    return [(streams[:, s : s + config.T].copy(), streams[:, s + 1 : s + 1 + config.T].copy()) for s in starts]
