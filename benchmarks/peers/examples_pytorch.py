"""PyTorch on the examples: its own recurrent layers on packed sequences, as its documentation recommends."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from . import examples_task
from .examples_task import NOTES, TASKS, Config

VERSION = f"PyTorch {torch.__version__}"
TASK = examples_task
F = nn.functional


def layer_of(kind: str, weights: dict[str, Any], prefix: str) -> Any:
    """Return a recurrent layer with our weights under a prefix; its columns are i, f, g, o."""
    Wx, Wh, b = (weights[f"{prefix}.{name}"] for name in ("Wx", "Wh", "b"))
    H = Wh.shape[0]
    made = {"gru": nn.GRU, "lstm": nn.LSTM}[kind](Wx.shape[0], H, batch_first=True)
    order = np.arange(3 * H) if kind == "gru" else np.r_[0 : 2 * H, 3 * H : 4 * H, 2 * H : 3 * H]
    second = np.zeros_like(b)
    if kind == "gru":
        second[2 * H :] = weights[f"{prefix}.bh"]
    found = (Wx[:, order].T, Wh[:, order].T, b[order], second)
    with torch.no_grad():
        for parameter, array in zip(made.parameters(), found, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))
    return made


def linear_of(weights: dict[str, Any], prefix: str) -> nn.Linear:
    """Return a linear layer with our weights."""
    W = weights[f"{prefix}.W"]
    made = nn.Linear(*W.shape)
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(W.T.copy()))
        made.bias.copy_(torch.from_numpy(weights[f"{prefix}.b"]))
    return made


class Reader(nn.Module):
    """A recurrent layer and a linear layer, on each step or on the last state."""

    def __init__(self, kind: str, weights: dict[str, Any], last: bool) -> None:
        super().__init__()
        self.layer, self.output = layer_of(kind, weights, "layers.layers.0.0"), linear_of(weights, "output")
        self.last = last

    def forward(self, xs: Any, lengths: Any = None) -> Any:
        packed = xs if lengths is None else pack_padded_sequence(xs, lengths, True, enforce_sorted=False)
        hs, state = self.layer(packed)
        if self.last:
            return self.output(state[0])
        if lengths is not None:
            hs, _ = pad_packed_sequence(hs, batch_first=True, total_length=xs.shape[1])
        return self.output(hs)


class LanguageModel(nn.Module):
    """An embedding, a recurrent layer and a linear layer."""

    def __init__(self, weights: dict[str, Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.from_numpy(weights["embedding.W"].copy()), freeze=False)
        self.layer, self.output = layer_of("lstm", weights, "layers.0"), linear_of(weights, "output")

    def forward(self, ids: Any, state: Any) -> tuple[Any, Any]:
        hs, state = self.layer(self.embedding(ids), state)
        return self.output(hs), state


class Translator(nn.Module):
    """An encoder and a decoder, with `peek` and a source that is read backward, or with dot attention."""

    def __init__(self, weights: dict[str, Any], attention: bool) -> None:
        super().__init__()
        self.attention = attention
        for side in ("source", "target"):
            table = torch.from_numpy(weights[f"{side}_embedding.W"].copy())
            setattr(self, side, nn.Embedding.from_pretrained(table, freeze=False))
        self.encoder, self.decoder = (layer_of("lstm", weights, name) for name in ("encoder", "decoder"))
        self.output = linear_of(weights, "output")

    def forward(self, sources: Any, lengths: Any, inputs: Any) -> Any:
        S = sources.shape[1]
        t = torch.arange(S)
        if not self.attention:
            sources = sources.gather(1, torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t))
        packed = pack_padded_sequence(self.source(sources), lengths, True, enforce_sorted=False)
        keys, state = self.encoder(packed)
        xs = self.target(inputs)
        if not self.attention:
            last = state[0][0][:, None].expand(-1, xs.shape[1], -1)
            hs, _ = self.decoder(torch.cat([xs, last], dim=-1), state)
            return self.output(torch.cat([hs, last], dim=-1))
        keys, _ = pad_packed_sequence(keys, batch_first=True, total_length=S)
        hs, _ = self.decoder(xs, state)
        scores = (hs @ keys.transpose(1, 2)).masked_fill((t >= lengths[:, None])[:, None], -torch.inf)
        return self.output(torch.cat([hs, torch.softmax(scores, dim=-1) @ keys], dim=-1))


def sunspots(model: Any, batch: Any, state: None) -> tuple[Any, None]:
    """Return the loss of a batch, and the state; so do the functions below."""
    xs, targets = batch
    return F.huber_loss(xs[:, -1] + model(xs), targets), state


def digits(model: Any, batch: Any, state: None) -> tuple[Any, None]:
    xs, lengths, targets = batch
    return F.cross_entropy(model(xs, lengths), targets, label_smoothing=0.05), state


def pixels(model: Any, batch: Any, state: None) -> tuple[Any, None]:
    return F.cross_entropy(model(batch[0]), batch[1]), state


def adding(model: Any, batch: Any, state: None) -> tuple[Any, None]:
    return F.mse_loss(model(batch[0]), batch[1]), state


def translations(model: Any, batch: Any, state: None) -> tuple[Any, None]:
    sources, lengths, targets = batch
    logits = model(sources, lengths, targets[:, :-1].clamp(min=0))
    return F.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=-1), state


def language_model(model: Any, batch: Any, state: Any) -> tuple[Any, Any]:
    logits, (h, c) = model(batch[0], state)
    return F.cross_entropy(logits.flatten(0, 1), batch[1].flatten()), (h.detach(), c.detach())


def chorales(model: Any, batch: Any, state: None) -> tuple[Any, None]:
    xs, lengths, targets, mask = batch
    losses = F.binary_cross_entropy_with_logits(model(xs, lengths), targets, reduction="none")
    return NOTES * losses[mask].mean(), state


PEERS: dict[str, tuple[Callable[[dict[str, Any]], nn.Module], Callable[..., Any]]] = {
    "sunspots": (lambda weights: Reader("gru", weights, True), sunspots),
    "digits": (lambda weights: Reader("gru", weights, True), digits),
    "addition": (lambda weights: Translator(weights, False), translations),
    "dates": (lambda weights: Translator(weights, True), translations),
    "language model": (LanguageModel, language_model),
    "adding": (lambda weights: Reader("gru", weights, True), adding),
    "chorales": (lambda weights: Reader("lstm", weights, False), chorales),
    "pixels": (lambda weights: Reader("gru", weights, True), pixels),
}


def start(config: Config, weights: dict[str, Any]) -> Callable[[Any], float]:
    """Return what goes through a window, an update for each batch, and returns the mean loss."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    task, (make, loss_of) = TASKS[config.task], PEERS[config.task]
    model = make(weights)
    # As ours have one bias: the second one stays, except that of the GRU's candidate, which its reset gate multiplies.
    trained = [p for name, p in model.named_parameters() if "bias_hh" not in name or p.shape[0] % 3 == 0]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": task.decay},
        {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = (torch.optim.AdamW if task.decay else torch.optim.Adam)(groups, lr=task.lr)

    def window(batches: Any) -> float:
        state, total = None, 0.0
        for arrays in batches:
            batch = [torch.from_numpy(np.asarray(array)) for array in arrays]
            loss, state = loss_of(model, batch, state)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, task.clip)
            optimizer.step()
            total += loss.item()
        return total / len(batches)

    return window
