"""Why a bag of words is not a language model: CBOW against a recurrent network, on real text.

CBOW predicts a word from the C words before it. Adding up their vectors loses the order: (is, that) and (that, is)
are one and the same context. Putting the vectors side by side keeps the order, but the output matrix grows with C.
A recurrent network keeps the order at one size, whatever the length of the context.

    python examples/word_order.py

OUTPUT_HERE
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tinygrad_rnn as tr
from tinygrad_rnn import data
from tinygrad_rnn.optim import Adam

WINDOWS = (2, 4, 8)
LONGEST = max(WINDOWS)
D = H = 32
N, T = 10, 10  # the RNN reads 10 streams in windows of 10 steps, CBOW 100 contexts: 100 words an update for both
LR = 0.005

Ids = NDArray[np.int64]
Model = tr.CBOW | tr.RNNLM


class Result(NamedTuple):
    """What one kind of model came to; lists have an entry for each seed."""

    output_size: int  # elements of the output matrix
    halfway: list[float]  # held-out perplexity after half of the updates
    final: list[float]  # held-out perplexity after all of them
    change: list[float]  # largest difference of logits between two orders of the same words
    words: list[tuple[str, str]]  # for each pair, likeliest next word behind it and behind the pair swapped (last seed)


def contexts_of(ids: Ids, window: int) -> Ids:
    """Return the `window` words before each word that has so many, (len(ids) - window, window)."""
    return np.lib.stride_tricks.sliding_window_view(ids[:-1], window)


def cbow_losses(model: tr.CBOW, ids: Ids, rng: np.random.Generator) -> Iterator[tr.Tensor]:
    """Yield the loss at random places of the text, without end."""
    contexts, targets = contexts_of(ids, model.window), ids[model.window :]
    while True:
        places = rng.integers(0, len(targets), N * T)
        yield model.loss(contexts[places], targets[places])


def rnn_losses(model: tr.RNNLM, ids: Ids) -> Iterator[tr.Tensor]:
    """Yield the loss of each window, in the order of the text and without end; truncated BPTT."""
    while True:
        state = model.initial_state(N)
        for inputs, targets in data.OffsetBatches(ids, N, T):
            loss, state = model.loss(inputs, targets, tr.cut(state))
            yield loss


def train(model: Model, losses: Iterator[tr.Tensor], optimizer: Adam, updates: int) -> None:
    """Update the model; each loss is computed when the update before it is done."""
    parameters = model.parameters()
    for loss in itertools.islice(losses, updates):
        optimizer.update(parameters, tr.grad(loss, parameters))


def perplexity(model: Model, ids: Ids) -> float:
    """Return the perplexity on the words that have LONGEST words before them: the same words for every model."""
    with tr.no_grad():
        if isinstance(model, tr.CBOW):
            contexts = contexts_of(ids, LONGEST)[:, -model.window :]
            return math.exp(model.loss(contexts, ids[LONGEST:]).item())
        targets = ids[1:].copy()
        targets[: LONGEST - 1] = -1  # read, but not counted
        return math.exp(model.loss(ids[None, :-1], targets[None])[0].item())


def next_word_logits(model: Model, contexts: Ids) -> NDArray[np.float32]:
    """Return the logits (pairs, V) of the word behind each context (pairs, LONGEST)."""
    with tr.no_grad():
        if isinstance(model, tr.CBOW):
            return np.asarray(model(contexts[:, -model.window :]))
        return np.asarray(model(contexts)[0])[:, -1]


def reversible_pairs(ids: Ids, vocabulary: data.Vocabulary, count: int) -> list[int]:
    """Return places of the text: the words there and one before make a pair that the text has in both orders.

    One place for each of the `count` most frequent pairs, by the rarer of their two orders.
    """
    plain = np.array([word.isalpha() for word in vocabulary.tokens])
    pairs = [(int(a), int(b)) for a, b in itertools.pairwise(ids)]
    seen = Counter(pairs)
    both = {(a, b): min(n, seen[b, a]) for (a, b), n in seen.items() if a < b and plain[a] and plain[b] and seen[b, a]}
    chosen = sorted(both, key=lambda pair: (-both[pair], pair))[:count]
    return [pairs.index(pair, LONGEST) + 1 for pair in chosen]


def draw(path: Path, results: dict[str, Result], updates: int) -> None:
    """Draw held-out perplexity over the window, halfway and at the end."""
    from matplotlib.figure import Figure  # here, not above: the tables need no matplotlib

    figure = Figure(figsize=(10, 4.5), layout="constrained", facecolor="white")
    for axes, stage, done in zip(figure.subplots(1, 2, sharey=True), ("halfway", "final"), (updates // 2, updates), strict=True):
        for kind, colour, style in (("sum", "#D55E00", "o-"), ("concat", "#0072B2", "s--")):
            points = np.array([getattr(results[f"CBOW {kind}, {window}"], stage) for window in WINDOWS])
            axes.plot(WINDOWS, points.mean(axis=1), style, color=colour, label=f"CBOW, {kind}")
        axes.axhline(np.mean(getattr(results["RNN"], stage)), color="black", linestyle="-.", label="RNN, no window")
        axes.set_title(f"after {done:,} updates")
        axes.set_xlabel("window (words)")
        axes.set_xticks(WINDOWS)
        axes.grid(color="0.9")
    figure.axes[0].set_ylabel("held-out perplexity")
    figure.axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def span(values: Sequence[float]) -> str:
    """Return "lowest-highest" of the seeds."""
    return f"{min(values):.1f}-{max(values):.1f}"
