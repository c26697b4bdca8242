"""The commands that look into a model: check, graph."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np

from ..engine.tape import Array
from ..errors import ConfigError
from ..imports import import_object
from ..nn.cells import CELLS
from ..nn.models import RNNLM
from ..training.language.modelfile import load_model
from ..truncation import parse_policy
from .printing import describe, row
from .texts import first_window, text_for

VOCABULARY, EMBEDDING, HIDDEN, BATCH = 16, 8, 12, 4


def check(arguments: argparse.Namespace) -> int:
    """Check gradients on drawn examples; return 1 if one is wrong, else 0."""
    if importlib.util.find_spec("hypothesis") is None:
        raise ConfigError('check: needs Hypothesis: pip install "tinygrad_rnn[testing]"')
    # Imported here: it needs Hypothesis, which no other command does.
    from .gradient_check import check as check_gradients

    return check_gradients(arguments.target, arguments.examples, arguments.seed, arguments.order)


def graph(arguments: argparse.Namespace) -> int:
    """Draw the graph of a saved model on text, or of a small model with a named cell; return 0."""
    # Imported here: no other command draws.
    from ..graphs.drawing import draw

    shown, T = shown_steps(arguments.show), arguments.steps
    policy = parse_policy(arguments.truncation, argument="graph: --truncation") if arguments.truncation else None
    saved = Path(arguments.model).exists()
    if saved or not (arguments.model in CELLS or ":" in arguments.model):
        model, config, vocabulary = load_model(arguments.model)
        corpus, described = text_for(arguments, config, vocabulary)
        ids, targets = first_window("graph", corpus, described, arguments.batch_size, T)
        title, note = describe(config, model), f"{arguments.batch_size} x {T} tokens of {described}"
    else:
        model, ids, targets = small_model(arguments.model, T, arguments.layers)
        title, note = arguments.model.rpartition(":")[2], f"a small model, {T} random tokens"
    drawing = draw(
        model,
        ids,
        targets,
        view=arguments.view,
        steps=shown,
        gradients=arguments.gradients,
        depth=arguments.depth,
        truncation=policy,
        title=title,
    )
    drawing.save(arguments.out)
    row("model", f"{title}, {model.parameter_count():,} parameters")
    row("graph", note + (f", truncation {arguments.truncation}" if policy else ""))
    row("saved", arguments.out)
    return 0


def small_model(name: str, steps: int, layers: int = 1) -> tuple[RNNLM, Array, Array]:
    """Return a small language model with the named cell, and random ids and targets (N, T).

    Args:
        name: of a built-in cell, such as gru; or "mymodule:MyCell", a class or function f(input_size, hidden_size,
            rng) that makes a cell, in a module of the working folder or on Python's path.
        steps: T.
        layers: of the model.

    Raises:
        ConfigError: if there is no such cell, or it does not behave as a cell.

    >>> model, ids, targets = small_model("gru", steps=5)
    >>> ids.shape, targets.shape
    ((4, 5), (4, 5))
    """
    cell = name if name in CELLS else import_object("graph", name)
    rng = np.random.default_rng(0)
    text = rng.integers(0, VOCABULARY, (BATCH, steps + 1))
    try:
        model = RNNLM(VOCABULARY, EMBEDDING, HIDDEN, rng, cell=cell, layers=layers)
        model.loss(text[:, :1], text[:, :1])
    except Exception as error:  # a user's cell may raise anything
        raise ConfigError(
            f"graph: {name} raised {type(error).__name__}: {error}; expected a class or function "
            "f(input_size, hidden_size, rng) that makes a cell"
        ) from error
    return model, text[:, :-1], text[:, 1:]


def shown_steps(text: str | None) -> int | tuple[int, ...] | None:
    """Return the steps that `--show` asks for: a number of steps, or a list such as "1,2,10".

    Raises:
        ConfigError: if it is neither.

    >>> shown_steps("4"), shown_steps("1,2,10"), shown_steps(None)
    (4, (1, 2, 10), None)
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"graph: --show must be a number of steps, or steps such as 1,2,10, got {text!r}")
    return int(text) if len(parts) == 1 else tuple(int(part) for part in parts)
