"""JAX: the whole step under jit, lax.scan over time, the input products of all steps hoisted, parameters donated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .task import LR, Config, Weights

VERSION = f"JAX {jax.__version__}"


def rnn(layer: Any, h: Any, x: Any) -> tuple[Any, Any]:
    h = jnp.tanh(x + h @ layer["Wh"])
    return h, h


def lstm(layer: Any, state: Any, x: Any) -> tuple[Any, Any]:
    h, c = state
    i, f, o, g = jnp.split(x + h @ layer["Wh"], 4, axis=1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru(layer: Any, h: Any, x: Any) -> tuple[Any, Any]:
    x_r, x_z, x_n = jnp.split(x, 3, axis=1)
    h_r, h_z, h_n = jnp.split(h @ layer["Wh"], 3, axis=1)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + r * (h_n + layer["bh"]))
    h = (1 - z) * n + z * h
    return h, h


def leaky(layer: Any, h: Any, x: Any) -> tuple[Any, Any]:
    """The cell of `own_cell.py`; see `ours_eager.LeakyUnit`."""
    x_f, x_n = jnp.split(x, 2, axis=1)
    f = jax.nn.sigmoid(x_f + h @ layer["Wf"])
    n = jnp.tanh(layer["gain"] * jax.nn.standardize(x_n + (f * h) @ layer["Wn"], epsilon=1e-5) + layer["shift"])
    h = h + jax.nn.sigmoid(layer["leak"]) * f * (n - h)
    return h, h


CELLS: dict[str, Callable[..., tuple[Any, Any]]] = {"rnn": rnn, "lstm": lstm, "gru": gru, "leaky": leaky}
NAMES = {
    "rnn": ("Wx", "Wh", "b"),
    "lstm": ("Wx", "Wh", "b"),
    "gru": ("Wx", "Wh", "b", "bh"),
    "leaky": ("Wx", "Wf", "Wn", "b", "gain", "shift", "leak"),
}


def loss(parameters: Any, cell: str, padded: bool, ids: Any, targets: Any, state: Any) -> tuple[Any, Any]:
    """Return the mean loss of ids and targets (T, N), and the new state."""
    xs, new = parameters["embedding"][ids], []
    for layer, part in zip(parameters["layers"], state, strict=True):
        part, xs = jax.lax.scan(partial(CELLS[cell], layer), part, xs @ layer["Wx"] + layer["b"])
        new.append(part)
    logits = xs @ parameters["W"] + parameters["b"]
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    terms = jax.nn.logsumexp(logits, axis=-1) - picked
    return (jnp.sum(terms, where=targets >= 0) / jnp.sum(targets >= 0) if padded else jnp.mean(terms)), new


@partial(jax.jit, static_argnames=("cell", "padded"), donate_argnames=("parameters", "state"))
def train(parameters: Any, cell: str, padded: bool, ids: Any, targets: Any, state: Any) -> tuple[Any, Any, Any]:
    """Return the loss, the new parameters and the new state."""
    (value, state), grads = jax.value_and_grad(loss, has_aux=True)(parameters, cell, padded, ids, targets, state)
    return value, jax.tree.map(lambda p, g: p - LR * g, parameters, grads), state


def warm_up() -> None:
    """Start XLA; see `peers`."""
    jax.block_until_ready(jax.jit(lambda x: x @ x)(jnp.ones((2, 2))))


def start(config: Config, weights: Weights, carry: bool = True) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    jax.config.update("jax_enable_x64", config.dtype == "float64")
    names = NAMES[config.cell]
    arrays = {
        "embedding": weights["embedding.W"],
        "layers": [{name: weights[f"layers.{n}.{name}"] for name in names} for n in range(config.layers)],
        "W": weights["output.W"],
        "b": weights["output.b"],
    }
    parameters = jax.tree.map(lambda array: jnp.array(array, copy=True), arrays)
    parts = 2 if config.cell == "lstm" else 1
    # Each part an array of its own: what is donated must not be given twice.

    def zeros() -> Any:
        state = [[jnp.zeros((config.N, config.H), config.dtype) for _ in range(parts)] for _ in range(config.layers)]
        return [tuple(part) if parts == 2 else part[0] for part in state]

    state = zeros()

    def step(ids: Any, targets: Any) -> float:
        nonlocal parameters, state
        state = state if carry else zeros()
        value, parameters, state = train(parameters, config.cell, not carry, ids.T, targets.T, state)
        jax.block_until_ready((parameters, state))
        return float(value)

    return step
