"""The commands that measure a model on a text: evaluate, score, truncation."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
from typing import cast

import numpy as np

from ..data.corpus import Corpus
from ..data.text import Level
from ..errors import ConfigError, NonFiniteError
from ..training.inference.evaluation import evaluate as evaluate_model
from ..training.inference.evaluation import perplexity, token_nats
from ..training.language.build import make_model
from ..training.language.modelfile import load_model
from ..training.loop.guards import cause
from ..truncation import parse_policy, truncation_report
from .printing import describe, how_to_replay, note, readable, row, score_text
from .texts import baselines, first_window, line_start, text_at, text_for


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a model; return 0."""
    model, config, vocabulary = load_model(arguments.model)
    corpus, described = text_for(arguments, config, vocabulary)
    with np.errstate(all="ignore"):
        found = evaluate_model(model, corpus.ids, config.batch_size, config.bptt, **how_to_replay(arguments))
    if not math.isfinite(found.nats):
        raise NonFiniteError(f"evaluate: the loss is {found.nats}: {cause(model.parameters(), (), None)}")

    means = {name: float(nats.mean()) for name, nats in baselines(arguments, config, vocabulary, corpus).items()}
    if arguments.json:
        values = {"nats": found.nats, "bits": found.bits, "perplexity": found.perplexity, "tokens": found.tokens}
        others = {"unknown_rate": corpus.unknown_rate, "batch_size": found.batch_size, "baselines": means}
        print(json.dumps({**values, **others}))
        return 0
    row("model", f"{describe(config)}, {model.parameter_count():,} parameters")
    row("text", described)
    row("", f"{len(corpus):,} tokens, {corpus.unknown_rate:.1%} of them unknown")
    if found.batch_size < config.batch_size:
        streams = "1 stream" if found.batch_size == 1 else f"{found.batch_size} streams"
        row("", f"read as {streams} instead of {config.batch_size}: it is short")
    row("result", score_text(found.nats, cast(Level, config.level)) + f", {found.tokens:,} tokens predicted")
    for name, mean in means.items():
        row(name, score_text(mean, cast(Level, config.level)))
    return 0


def score(arguments: argparse.Namespace) -> int:
    """Print the nats of each line of a text, and of all of it; return 0.

    The text is read as one stream, each token after all those before it; the first has none before it and no score.
    Beside the model's nats are those of n-gram models; see `baselines`.
    """
    model, config, vocabulary = load_model(arguments.model)
    level = cast(Level, config.level)
    corpus = Corpus.from_text(text_at(arguments.corpus), level, vocabulary=vocabulary)
    with np.errstate(all="ignore"):
        nats = token_nats(model, corpus.ids, config.bptt, **how_to_replay(arguments))
    ends = np.flatnonzero(corpus.ids == vocabulary.encode([line_start(vocabulary, level)])[0])
    starts = [0, *(int(end) + 1 for end in ends if end + 1 < len(corpus))]
    columns = {"nats": nats, **baselines(arguments, config, vocabulary, corpus)}
    lines = []
    if not arguments.json:
        print(f"{'nats':>10}  tokens" + "".join(f"  {name:>10}" for name in [*columns][1:]))
    for start, stop in zip(starts, [*starts[1:], len(corpus)], strict=True):
        scored = slice(max(start - 1, 0), stop - 1)  # that of token t stands at t - 1
        sums = {name: float(column[scored].sum()) for name, column in columns.items()}
        count = stop - 1 - scored.start
        lines.append({**sums, "tokens": count})
        if not arguments.json:
            text = readable(vocabulary.decode(corpus.ids[start:stop]), level)
            first, *others = (f"{value:>10.3f}" for value in sums.values())
            print("  ".join([first, f"{count:>6}", *others, text]))
    means = {name: float(column.mean()) for name, column in columns.items()}
    mean = means.pop("nats")
    if arguments.json:
        total = {"nats": mean, "perplexity": perplexity(mean), "tokens": len(nats), "baselines": means}
        print(json.dumps({**total, "unknown_rate": corpus.unknown_rate, "lines": lines}))
        return 0
    row("result", score_text(mean, level) + f", {len(nats):,} tokens in {len(lines):,} lines")
    for name, other in means.items():
        row(name, score_text(other, level))
    return 0


def truncation(arguments: argparse.Namespace) -> int:
    """Report what truncation does to the gradient of a model; return 0."""
    if arguments.plot and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError('truncation: --plot needs matplotlib: pip install "tinygrad_rnn[plot]"')
    policies = (
        [parse_policy(text, argument="truncation: --policies") for text in arguments.policies]
        if arguments.policies
        else None
    )
    model, config, vocabulary = load_model(arguments.model)
    if arguments.fresh:
        model = make_model(config, len(vocabulary))
    corpus, described = text_for(arguments, config, vocabulary)
    N, T = arguments.batch_size, arguments.steps
    ids, targets = first_window("truncation", corpus, described, N, T)
    report = truncation_report(model, ids, targets, policies, wanted_cosine=arguments.wanted_cosine)
    if arguments.json:
        print(report.to_json())
    else:
        fresh = ", fresh weights" if arguments.fresh else ""
        row("model", f"{describe(config)}, {model.parameter_count():,} parameters{fresh}")
        row("text", f"the first {N} x {T} tokens of {described}")
        print("\n" + report.table())
    if arguments.plot:
        report.plot(arguments.plot)
        note(f"picture: {arguments.plot}")
    return 0
