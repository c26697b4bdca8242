"""tinygrad_rnn, the step as a function of JAX (`to_jax`), under jit; parameters and state are donated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

import tinygrad_rnn as tr

from .jax_jit import VERSION as VERSION
from .jax_jit import warm_up as warm_up
from .ours_compiled import make_train
from .ours_eager import make_model
from .task import Config, Weights


def start(config: Config, weights: Weights, carry: bool = True) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    jax.config.update("jax_enable_x64", config.dtype == "float64")
    model = make_model(config, weights)
    train = tr.to_jax(make_train(model), weights={"parameters": model.parameters()})
    step = jax.jit(train, donate_argnums=(0, 3) if carry else 0)
    parameters, state = train.arrays((model.parameters(), model.initial_state(config.N)))

    def update(ids: Any, targets: Any) -> float:
        nonlocal parameters, state
        loss, parameters, after = step(parameters, ids, targets, state)
        state = after if carry else state
        jax.block_until_ready((parameters, state))
        return float(loss)

    return update
