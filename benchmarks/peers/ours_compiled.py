"""tinygrad_rnn, the whole step compiled to a plan; the parameters take its results as the trainer does it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tensor import adopt

from .ours_eager import VERSION as VERSION
from .ours_eager import make_model
from .task import LR, Config, Weights


def make_train(model: tr.RNNLM) -> Callable[..., Any]:
    """Return what is compiled: parameters, ids, targets, state to loss, new parameters, new state."""

    def train(parameters: Any, ids: Any, targets: Any, state: Any) -> Any:
        loss, state = model.loss(ids, targets, state)
        grads = tr.grad(loss, parameters)
        return loss, {name: p - LR * grads[name] for name, p in parameters.items()}, state

    return train


def warm_up() -> None:
    """Load the compiler and its C library; see `peers`."""
    tr.compile(lambda x: x @ x, executor="native")(np.ones((2, 2), np.float32))


def start(
    config: Config, weights: Weights, executor: str = "native", carry: bool = True
) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    model = make_model(config, weights)
    parameters, state = model.parameters(), model.initial_state(config.N)
    # In place, as PyTorch's SGD and JAX's donated parameters; --before may be older than that.
    options: dict[str, Any] = {"donate": ["parameters"]} if "donate" in signature(tr.compile).parameters else {}
    compiled = tr.compile(make_train(model), executor=executor, **options)

    def step(ids: Any, targets: Any) -> float:
        nonlocal state
        loss, new, after = compiled(parameters, ids, targets, state)
        state = after if carry else state
        for name, array in new.items():
            adopt(parameters[name], array)
        return float(loss)

    return step
