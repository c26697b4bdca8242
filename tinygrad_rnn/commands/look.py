"""The commands that look into a model: check, graph."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from ..errors import ConfigError
from ..nn.cells import CELLS
from ..training.language.modelfile import load_model
from ..truncation import parse_policy
from .printing import describe, row
from .texts import first_window, text_for


def check(arguments: argparse.Namespace) -> int:
    """Check gradients on drawn examples; return 1 if one is wrong, else 0."""
    if importlib.util.find_spec("hypothesis") is None:
        raise ConfigError('check: needs Hypothesis: pip install "tinygrad_rnn[testing]"')
    # Imported here: it needs Hypothesis, which no other command does.
    from ..testing.command import check as check_gradients

    return check_gradients(arguments.target, arguments.examples, arguments.seed, arguments.order)


def graph(arguments: argparse.Namespace) -> int:
    """Draw the graph of a saved model on text, or of a small model with a named cell; return 0."""
    # Imported here: no other command draws.
    from ..graphs.command import shown_steps, small_model
    from ..graphs.drawing import draw

    shown, T = shown_steps(arguments.show), arguments.steps
    policy = parse_policy(arguments.truncation, argument="graph: --truncation") if arguments.truncation else None
    saved = Path(arguments.model).exists()
    if saved or not (arguments.model in CELLS or ":" in arguments.model):
        model, config, vocabulary = load_model(arguments.model)
        corpus, described = text_for(arguments, config, vocabulary)
        ids, targets = first_window("graph", corpus, described, arguments.batch_size, T)
        title, note = describe(config), f"{arguments.batch_size} x {T} tokens of {described}"
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
