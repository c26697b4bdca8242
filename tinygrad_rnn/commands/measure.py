"""The commands that measure a model on a text: evaluate, score, truncation."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np

from ..data.mapped import BLOCK, blocks
from ..data.text import Level
from ..data.vocabulary import IdArray
from ..engine.tape import Array
from ..errors import ConfigError, NonFiniteError
from ..training.inference.evaluation import evaluate as evaluate_model
from ..training.inference.evaluation import nats_in_windows, perplexity
from ..training.language.build import make_model
from ..training.language.modelfile import load_model
from ..training.loop.guards import cause
from ..truncation import parse_policy, truncation_report
from .printing import describe, how_to_replay, note, readable, row, score_text
from .texts import baselines, corpus_at, first_window, line_start, text_for


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a model; return 0."""
    model, config, vocabulary = load_model(arguments.model)
    corpus, described = text_for(arguments, config, vocabulary)
    N = arguments.batch_size or config.batch_size
    with np.errstate(all="ignore"):
        found = evaluate_model(model, corpus.ids, N, config.bptt, **how_to_replay(arguments))
    if not math.isfinite(found.nats):
        raise NonFiniteError(f"evaluate: the loss is {found.nats}: {cause(model.parameters(), (), None)}")

    others = baselines(arguments, config, vocabulary, corpus)
    means = {name: baseline.mean(corpus.ids) for name, baseline in others.items()}
    if arguments.json:
        values = {"nats": found.nats, "bits": found.bits, "perplexity": found.perplexity, "tokens": found.tokens}
        about = {"unknown_rate": corpus.unknown_rate, "batch_size": found.batch_size, "baselines": means}
        print(json.dumps({**values, **about}))
        return 0
    row("model", f"{describe(config, model)}, {model.parameter_count():,} parameters")
    row("text", described)
    row("", f"{len(corpus):,} tokens, {corpus.unknown_rate:.1%} of them unknown")
    if found.batch_size < N:
        streams = "1 stream" if found.batch_size == 1 else f"{found.batch_size} streams"
        row("", f"read as {streams} instead of {N}: it is short")
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
    corpus = corpus_at(arguments.corpus, level, vocabulary)
    end = int(vocabulary.encode([line_start(vocabulary, level)])[0])
    columns = {"nats": _Column(nats_in_windows(model, corpus.ids, config.bptt, **how_to_replay(arguments)))}
    for name, baseline in baselines(arguments, config, vocabulary, corpus).items():
        columns[name] = _Column(baseline.in_parts(corpus.ids))
    rows, lines = 0, []
    if not arguments.json:
        print(f"{'nats':>10}  tokens" + "".join(f"  {name:>10}" for name in [*columns][1:]))
    for start, stop in _lines(corpus.ids, end):
        count = stop - max(start, 1)
        with np.errstate(all="ignore"):
            sums = {name: column.sum(count) for name, column in columns.items()}
        rows += 1
        text = readable(vocabulary.decode(corpus.ids[start:stop]), level)
        if arguments.json:
            lines.append({**sums, "tokens": count, "text": text})
            continue
        first, *others = (f"{value:>10.3f}" for value in sums.values())
        print("  ".join([first, f"{count:>6}", *others, text]))
    tokens = len(corpus) - 1
    means = {name: column.total / tokens for name, column in columns.items()}
    mean = means.pop("nats")
    if arguments.json:
        total = {"nats": mean, "perplexity": perplexity(mean), "tokens": tokens, "baselines": means}
        print(json.dumps({**total, "unknown_rate": corpus.unknown_rate, "lines": lines}))
        return 0
    row("result", score_text(mean, level) + f", tokens: {tokens:,}, lines: {rows:,}")
    for name, other in means.items():
        row(name, score_text(other, level))
    return 0


class _Column:
    """Nats that come in parts, and are summed line by line; `total` is the sum so far."""

    def __init__(self, parts: Iterator[Array]) -> None:
        self._parts, self._rest, self.total = parts, np.empty(0), 0.0

    def sum(self, count: int) -> float:
        """Return the sum of the next ones."""
        found = [self._rest]
        while (have := sum(map(len, found))) < count:
            found.append(next(self._parts))
        whole = np.concatenate(found) if have else self._rest
        self._rest = whole[count:]
        value = float(whole[:count].sum())
        self.total += value
        return value


def _lines(ids: IdArray, end: int) -> Iterator[tuple[int, int]]:
    """Yield where each line of a text starts and stops."""
    start = 0
    for first, block in enumerate(blocks(ids)):
        for place in np.flatnonzero(block == end).tolist():
            stop = first * BLOCK + place + 1
            yield start, stop
            start = stop
    if start < len(ids):
        yield start, len(ids)


def truncation(arguments: argparse.Namespace) -> int:
    """Report what truncation does to the gradient of a model; return 0."""
    if arguments.plot and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError('truncation: --plot needs matplotlib: pip install "tinygrad_rnn[plot]"')
    for text in arguments.policies or ():
        if Path(text).exists():
            raise ConfigError(
                f"truncation: --policies takes policies such as chunked:35, got the file {text!r}; a text to measure "
                "on comes before --policies"
            )
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
        row("model", f"{describe(config, model)}, {model.parameter_count():,} parameters{fresh}")
        row("text", f"the first {N} x {T} tokens of {described}")
        print("\n" + report.table())
    if arguments.plot:
        report.plot(arguments.plot)
        note(f"picture: {arguments.plot}")
    return 0
