"""The hand-written NumPy layers of `tinygrad_rnn.handwritten`, put together as the textbook's SimpleRnnlm is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.handwritten import TimeAffine, TimeEmbedding, TimeGRU, TimeLSTM, TimeRNN, TimeSoftmaxWithLoss

from .task import LR, Config, Weights

VERSION = f"NumPy {np.__version__}"
LAYERS = {"rnn": TimeRNN, "lstm": TimeLSTM, "gru": TimeGRU}


def start(config: Config, weights: Weights) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    names = ["Wx", "Wh", "b", "bh"] if config.cell == "gru" else ["Wx", "Wh", "b"]
    layers: list[Any] = [TimeEmbedding(weights["embedding.W"].copy())]
    for number in range(config.layers):
        arrays = [weights[f"layers.{number}.{name}"].copy() for name in names]
        layers.append(LAYERS[config.cell](*arrays, stateful=True))
    layers.append(TimeAffine(weights["output.W"].copy(), weights["output.b"].copy()))
    head = TimeSoftmaxWithLoss()
    parameters = [p for layer in layers for p in layer.params]
    gradients = [g for layer in layers for g in layer.grads]

    def step(ids: Any, targets: Any) -> float:
        xs = ids
        for layer in layers:
            xs = layer.forward(xs)
        loss = head.forward(xs, targets)
        dout = head.backward()
        for layer in reversed(layers):
            dout = layer.backward(dout)
        for p, g in zip(parameters, gradients, strict=True):
            p -= LR * g
        return float(loss)

    return step
