"""Printing of the commands: rows of a name and a text, notes, scores."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TypedDict

from ..config import TrainConfig
from ..data.text import Level, detokenize
from ..nn.module import Module
from ..training.inference.evaluation import perplexity, written


def row(name: str, text: str) -> None:
    """Print a name and a text."""
    print(f"{name:<11} {text}", flush=True)


def note(text: str) -> None:
    """Print a note on stderr."""
    print(f"tinygrad-rnn: note: {text}", file=sys.stderr)


def score_text(nats: float, level: Level) -> str:
    """Return a mean loss in words."""
    if level in ("char", "byte"):
        bits, unit = written(nats / math.log(2), 3), "character" if level == "char" else "byte"
        return f"{written(nats, 3)} nats/{unit}, {bits} bits/{unit}, perplexity {written(perplexity(nats), 1)}"
    return f"{written(nats, 3)} nats/token, perplexity {written(perplexity(nats), 1)}"


def describe(config: TrainConfig, model: Module) -> str:
    """Return a description of the model of a configuration; of one that the user's own function makes, what is known.

    >>> from tinygrad_rnn.training.language.build import make_model
    >>> config = TrainConfig(cell="gru", hidden_size=4)
    >>> describe(config, make_model(config, vocab_size=10))
    'gru, 1 layer of 4 units, embedding 4, float32'
    """
    dtypes = " and ".join(sorted({str(array.dtype) for array in model.parameters().values()}))
    if config.model:
        return f"{config.model}, {dtypes}"
    layers = "1 layer" if config.layers == 1 else f"{config.layers} layers"
    sizes = f"{config.hidden_size} units, embedding {config.embedding_width}{' (tied)' if config.tied else ''}"
    return f"{config.cell}, {layers} of {sizes}, {dtypes}"


def readable(tokens: list[str], level: Level) -> str:
    """Return tokens as text."""
    return detokenize(tokens, level).strip("\n")


class Replay(TypedDict):
    """How to run a model."""

    compiled: bool
    executor: str | None


def how_to_replay(arguments: argparse.Namespace) -> Replay:
    """Return how `evaluate` and `generate` run the model, from the flags."""
    return {"compiled": arguments.compile, "executor": None if arguments.executor == "auto" else arguments.executor}
