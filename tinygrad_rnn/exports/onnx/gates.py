"""Weights of RNN, LSTM and GRU nodes: our columns in the order of the standard's gates, and back.

The standard multiplies from the left and orders the gates of an LSTM (i, o, f, c) and of a GRU (z, r, h); it has biases
for the input and for the state. Source: the operators RNN, LSTM and GRU of ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...engine.tape import Array

ORDER = {"RNN": (0,), "LSTM": (0, 2, 1, 3), "GRU": (1, 0, 2)}
"""By node: which of our gates is the first of the standard, the second, and so on. Each is its own inverse."""


def columns(kind: str, hidden_size: int) -> Array:
    """Return the numbers of our columns in the order of the standard.

    >>> columns("GRU", 2)
    array([2, 3, 0, 1, 4, 5])
    """
    return np.concatenate([np.arange(gate * hidden_size, (gate + 1) * hidden_size) for gate in ORDER[kind]])


def biases(kind: str, weights: Mapping[str, Array], hidden_size: int) -> Array | None:
    """Return the biases (2GH,) of a node from the biases of a cell; None if it has none.

    Those of the state are 0, but for bh of a GRU with reset="after".
    """
    order = columns(kind, hidden_size)
    if "b" not in weights:
        return None
    of_state = np.zeros_like(weights["b"])
    if "bh" in weights:
        of_state[-hidden_size:] = weights["bh"]
    return np.concatenate([weights["b"][order], of_state])


def cell_weights(kind: str, W: Array, R: Array, B: Array | None, after: bool) -> dict[str, Array]:
    """Return the weights of a cell from those of one direction of a node.

    Args:
        kind: of the node.
        W: (GH, D), of the input.
        R: (GH, H), of the state.
        B: (2GH,), both biases; None: there are none.
        after: of a GRU, whether the reset gate comes after the product.

    Returns:
        Wx (D, GH), Wh (H, GH), b (GH,) or none, and bh (H,) of such a GRU.
    """
    H = R.shape[1]
    order = columns(kind, H)
    found = {"Wx": W.T[:, order], "Wh": R.T[:, order]}
    if B is None:
        return found
    of_input, of_state = (half[order] for half in np.split(B, 2))
    if kind == "GRU" and after:
        found["bh"] = of_state[-H:]
        of_state = np.concatenate([of_state[:-H], np.zeros_like(of_state[-H:])])
    return {**found, "b": of_input + of_state}
