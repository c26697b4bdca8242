"""PyTorch: its own recurrent layers, time first as they like it best, and SGD on all parameters in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from .task import GATES, LR, Config, Weights

VERSION = f"PyTorch {torch.__version__}"
LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class LeakyLayer(nn.Module):
    """The cell of `own_cell.py` step by step; the inputs' products are taken before, and the norm is PyTorch's own."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        D, H = input_size, hidden_size
        for name, shape in {"Wx": (D, 2 * H), "Wf": (H, H), "Wn": (H, H), "b": (2 * H,)}.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        for name in ("gain", "shift", "leak"):
            self.register_parameter(name, nn.Parameter(torch.zeros(H)))

    def forward(self, xs: Any, h: Any) -> tuple[Any, Any]:
        h, hs, leak, size = h[0], [], torch.sigmoid(self.leak), self.leak.shape
        for x in (xs @ self.Wx + self.b).unbind(0):
            x_f, x_n = x.chunk(2, 1)
            f = torch.sigmoid(torch.addmm(x_f, h, self.Wf))
            a = torch.addmm(x_n, f * h, self.Wn)
            n = torch.tanh(nn.functional.layer_norm(a, size, self.gain, self.shift, 1e-5))
            h = h + leak * f * (n - h)
            hs.append(h)
        return torch.stack(hs), h[None]


class Model(nn.Module):
    """Recurrent language model: ids and targets (T, N) to mean loss and state."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.V, config.D)
        self.layers: Any = (
            LeakyLayer(config.D, config.H)
            if config.cell == "leaky"
            else LAYERS[config.cell](config.D, config.H, config.layers)
        )
        self.output = nn.Linear(config.H, config.V)

    def forward(self, ids: Any, targets: Any, state: Any) -> tuple[Any, Any]:
        hs, state = self.layers(self.embedding(ids), state)
        logits = self.output(hs).flatten(0, 1)
        return nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=-1), state


def load(model: Model, config: Config, weights: Weights) -> None:
    """Give a model the weights; its second bias stays 0, except that of the GRU, half of which others have too."""
    H, G = config.H, GATES[config.cell]
    i, f, o, g = range(4)
    order = [i, f, g, o] if config.cell == "lstm" else list(range(G))

    def columns(W: Any) -> Any:
        return np.concatenate([W[..., gate * H : (gate + 1) * H] for gate in order], axis=-1)

    found = {"embedding.weight": weights["embedding.W"]}
    if config.cell == "leaky":
        found |= {name.replace("layers.0", "layers"): array for name, array in weights.items() if "layers" in name}
    for n in range(0 if config.cell == "leaky" else config.layers):
        found[f"layers.weight_ih_l{n}"] = columns(weights[f"layers.{n}.Wx"]).T
        found[f"layers.weight_hh_l{n}"] = columns(weights[f"layers.{n}.Wh"]).T
        found[f"layers.bias_ih_l{n}"] = columns(weights[f"layers.{n}.b"])
        found[f"layers.bias_hh_l{n}"] = np.zeros(G * H, config.dtype)
        if config.cell == "gru":
            found[f"layers.bias_hh_l{n}"][2 * H :] = weights[f"layers.{n}.bh"]
    found |= {"output.weight": weights["output.W"].T, "output.bias": weights["output.b"]}
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in found.items()})
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("bias_hh" not in name or config.cell == "gru")


def warm_up() -> None:
    """Load what the first optimizer loads; see `peers`."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR, foreach=True)


def start(config: Config, weights: Weights, compiled: bool = False, carry: bool = True) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    dtype = getattr(torch, config.dtype)
    model = Model(config).to(dtype)
    load(model, config, weights)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=LR, foreach=True)
    forward = torch.compile(model) if compiled else model
    zeros = torch.zeros(config.layers, config.N, config.H, dtype=dtype)
    state: Any = (zeros, zeros) if config.cell == "lstm" else zeros

    def step(ids: Any, targets: Any) -> float:
        nonlocal state
        loss, after = forward(torch.from_numpy(ids.T), torch.from_numpy(targets.T), state)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if carry:
            state = tuple(part.detach() for part in after) if isinstance(after, tuple) else after.detach()
        return loss.item()

    return step
