"""Printing of the commands: rows of a name and a text, notes, scores."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TypedDict

from ..config import TrainConfig
from ..data.text import Level, detokenize
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


def describe(config: TrainConfig) -> str:
    """Return a description of a configuration's model."""
    layers = "1 layer" if config.layers == 1 else f"{config.layers} layers"
    sizes = f"{config.hidden_size} units, embedding {config.embedding_width}{' (tied)' if config.tied else ''}"
    return f"{config.cell}, {layers} of {sizes}, {config.dtype}"


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
