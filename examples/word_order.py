"""What a bag of words loses as a language model: CBOW against a recurrent network, on real text.

CBOW predicts a word from the C words before it. Adding up their vectors loses the order: (or, one) and (one, or) are
one and the same context. Putting the vectors side by side keeps the order, but the output matrix grows with C.
A recurrent network keeps the order at one size, whatever the length of the context.

    python examples/word_order.py

The output under Python 3.11 (20 s with OPENBLAS_NUM_THREADS=1; minutes with more threads on a busy machine):

    27,000 words to train on, V = 591, D = H = 32, 100 words an update, Adam 0.005
    3,000 words held out, 18% of them <unk>; from word frequencies alone: perplexity 75.1

                     output matrix    held-out perplexity after      largest change of a logit
    model                 elements     500 updates   1000 updates    when two words are swapped
    CBOW sum, 2             18,912      42.5-45.4      42.4-43.8                          0
    CBOW sum, 4             18,912      51.4-52.5      50.2-51.5                    9.5e-07
    CBOW sum, 8             18,912      56.2-58.7      59.3-60.5                    9.5e-07
    CBOW concat, 2          37,824      35.3-37.0      36.1-37.4                         10
    CBOW concat, 4          75,648      35.2-36.3      38.2-39.5                        9.8
    CBOW concat, 8         151,296      39.1-40.1      45.0-48.8                        7.7
    RNN                     18,912      41.9-42.5      35.8-37.0                        9.1

    Likeliest next word; the pair stands at the end of the same context in both orders:

    two words                CBOW sum, 2  CBOW concat, 2             RNN
    the return                     value           value           value
    return the                     value           <eos>           <eos>
    is that                        <unk>           <unk>           <eos>
    that is                        <unk>           <unk>           <unk>
    or one                            of              of              of
    one or                            of            more           <unk>
    the for                        <unk>           <unk>               "
    for the                        <unk>           <unk>           <unk>
    the as                         <eos>           <eos>           <unk>
    as the                         <eos>           <eos>               "

    Largest change of a logit by a swap: 9.5e-07 among the sums (rounding), 7.7 or more in every other kind
    Lowest perplexity after 500 updates: CBOW concat, 4: 35.8; CBOW concat, 2: 36.3; CBOW concat, 8: 39.6
    Lowest perplexity after 1000 updates: RNN: 36.5; CBOW concat, 2: 36.7; CBOW concat, 4: 38.9
    CBOW sum, window 2 to 8: perplexity 43.0 to 59.9, output matrix 18,912 to 18,912 elements
    CBOW concat, window 2 to 8: perplexity 36.7 to 47.5, output matrix 37,824 to 151,296 elements
    picture: runs/examples/word_order.png

The first table has the lowest and the highest perplexity of the seeds, and the largest change of a logit.

A sum does not see that two words have changed places, and a longer window makes it worse. Concatenation sees it, and
learns fastest; but the larger its matrix, the sooner more training makes it worse on words it has not seen. The RNN
sees it, too, and learns more slowly: behind every concatenation after 500 updates, level with the best one after 1,000,
with half the output matrix. So on this text and at this length of training, only the sum is beaten clearly.
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

COMBINES: tuple[Literal["sum", "concat"], ...] = ("sum", "concat")
WINDOWS = (2, 4, 8)
LONGEST = max(WINDOWS)
D = H = 32
N, T = 10, 10  # the RNN reads 10 streams in windows of 10 steps, CBOW 100 contexts: 100 words an update for both
LR = 0.005
PAIRS = 5

Ids = NDArray[np.int64]
Model = tr.CBOW | tr.RNNLM


class Result(NamedTuple):
    """What the models of one kind came to; the lists have an entry for each seed."""

    output_size: int  # elements of the output matrix
    halfway: list[float]  # held-out perplexity after half of the updates
    final: list[float]  # held-out perplexity after all of them
    change: list[float]  # largest difference of the logits between two orders of the same words
    guesses: list[tuple[Ids, Ids]]  # likeliest next word, for each pair of words and for each pair swapped


def make_models(vocab_size: int, seed: int) -> dict[str, Model]:
    """Return a new model of each kind."""
    rng = np.random.default_rng(seed)
    models: dict[str, Model] = {}
    for combine, window in itertools.product(COMBINES, WINDOWS):
        models[f"CBOW {combine}, {window}"] = tr.CBOW(vocab_size, D, window, rng, combine=combine)
    return {**models, "RNN": tr.RNNLM(vocab_size, D, H, rng)}


def contexts_of(ids: Ids, window: int) -> Ids:
    """Return the `window` words before each word that has so many, (len(ids) - window, window)."""
    return np.lib.stride_tricks.sliding_window_view(ids[:-1], window)


def losses_of(model: Model, ids: Ids, rng: np.random.Generator) -> Iterator[tr.Tensor]:
    """Yield losses to train on, without end; each is computed when it is asked for."""
    if isinstance(model, tr.CBOW):
        contexts, targets = contexts_of(ids, model.window), ids[model.window :]
        while True:  # random places of the text
            places = rng.integers(0, len(targets), N * T)
            yield model.loss(contexts[places], targets[places])
    while True:  # the text in its order: truncated BPTT
        state = model.initial_state(N)
        for inputs, following in data.OffsetBatches(ids, N, T):
            loss, state = model.loss(inputs, following, tr.cut(state))
            yield loss


def perplexity(model: Model, ids: Ids) -> float:
    """Return the perplexity on the words that have LONGEST words before them: the same words for every model."""
    with tr.no_grad():
        if isinstance(model, tr.CBOW):
            loss = model.loss(contexts_of(ids, LONGEST)[:, -model.window :], ids[LONGEST:])
        else:
            targets = ids[1:].copy()
            targets[: LONGEST - 1] = -1  # read, but not counted
            loss, _ = model.loss(ids[None, :-1], targets[None])
    return math.exp(loss.item())


def next_word_logits(model: Model, contexts: Ids) -> NDArray[np.float32]:
    """Return the logits (n, V) of the word behind each context (n, LONGEST); CBOW reads the end of a context."""
    with tr.no_grad():
        if isinstance(model, tr.CBOW):
            return np.asarray(model(contexts[:, -model.window :]))
        logits, _ = model(contexts)
        return np.asarray(logits)[:, -1]


def contexts_of_reversible_pairs(ids: Ids, vocabulary: data.Vocabulary) -> Ids:
    """Return contexts (PAIRS, LONGEST) of the text whose last two words occur in it in the other order, too.

    The pairs are the most frequent ones, by the rarer of the two orders; each stands where it occurs first.
    """
    is_word = [token.isalpha() for token in vocabulary.tokens]
    pairs = list(itertools.pairwise(ids.tolist()))
    seen = Counter(pairs)
    rarer = {(a, b): min(n, seen[b, a]) for (a, b), n in seen.items() if a < b and is_word[a] and is_word[b]}
    chosen = sorted(rarer, key=lambda pair: (-rarer[pair], pair))[:PAIRS]
    ends = [pairs.index(pair, LONGEST) + 2 for pair in chosen]
    return np.array([ids[end - LONGEST : end] for end in ends])


def draw(path: Path, results: dict[str, Result], updates: int) -> None:
    """Draw held-out perplexity over the window, after half of the updates and after all of them."""
    from matplotlib.figure import Figure  # here, not above: the tables need no matplotlib

    figure = Figure(figsize=(10, 4.5), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, stage, done in ((left, "halfway", updates // 2), (right, "final", updates)):
        for combine, colour, style in zip(COMBINES, ("#D55E00", "#0072B2"), ("o-", "s--"), strict=True):
            means = [np.mean(getattr(results[f"CBOW {combine}, {window}"], stage)) for window in WINDOWS]
            axes.plot(WINDOWS, means, style, color=colour, label=f"CBOW, {combine}")
        axes.axhline(np.mean(getattr(results["RNN"], stage)), color="black", linestyle="-.", label="RNN (no window)")
        axes.set_title(f"after {done:,} updates")
        axes.set_xlabel("window C (words)")
        axes.set_xticks(WINDOWS)
        axes.grid(color="0.9")
    left.set_ylabel("held-out perplexity")
    left.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def print_results(results: dict[str, Result], updates: int) -> None:
    """Print size, perplexity and sensitivity to order of every kind of model."""
    print("                 output matrix    held-out perplexity after      largest change of a logit")
    print(f"model                 elements  {updates // 2:6} updates {updates:6} updates    when two words are swapped")
    for name, result in results.items():
        spans = "".join(f"{f'{min(values):.1f}-{max(values):.1f}':>15}" for values in (result.halfway, result.final))
        print(f"{name:15}{result.output_size:15,}{spans}{max(result.change):27.2g}")


def print_guesses(results: dict[str, Result], contexts: Ids, vocabulary: data.Vocabulary) -> None:
    """Print the likeliest next words for both orders of each pair, by the last seed."""
    shown = ("CBOW sum, 2", "CBOW concat, 2", "RNN")
    print(f"{'two words':20}" + "".join(f"{name:>16}" for name in shown))
    for row, (*_, a, b) in enumerate(contexts):
        for order, pair in enumerate(((a, b), (b, a))):
            guesses = vocabulary.decode([results[name].guesses[-1][order][row] for name in shown])
            print(f"{' '.join(vocabulary.decode(pair)):20}" + "".join(f"{guess:>16}" for guess in guesses))


def print_summary(results: dict[str, Result], updates: int) -> None:
    """Print what the numbers say, whatever that is."""
    blind = max(max(result.change) for name, result in results.items() if "sum" in name)
    seeing = min(max(result.change) for name, result in results.items() if "sum" not in name)
    print(f"Largest change of a logit by a swap: {blind:.2g} among the sums (rounding), ", end="")
    print(f"{seeing:.2g} or more in every other kind")
    for stage, done in (("halfway", updates // 2), ("final", updates)):
        mean = {name: float(np.mean(getattr(result, stage))) for name, result in results.items()}
        best = sorted(mean, key=mean.__getitem__)[:3]
        print(f"Lowest perplexity after {done} updates: " + "; ".join(f"{name}: {mean[name]:.1f}" for name in best))
    for combine in COMBINES:
        near, far = (results[f"CBOW {combine}, {window}"] for window in (min(WINDOWS), LONGEST))
        print(
            f"CBOW {combine}, window {min(WINDOWS)} to {LONGEST}: perplexity {np.mean(near.final):.1f} to "
            f"{np.mean(far.final):.1f}, output matrix {near.output_size:,} to {far.output_size:,} elements"
        )


def main(argv: Sequence[str] | None = None) -> dict[str, Result]:
    """Train all models, print the tables and what they show; return the numbers."""
    parser = argparse.ArgumentParser(description="CBOW with sum and with concatenation, against a recurrent network.")
    parser.add_argument("--tokens", type=int, default=30_000, help="words of the text to use (default 30000)")
    parser.add_argument("--updates", type=int, default=1000, help="updates of each model (default 1000)")
    parser.add_argument("--seeds", type=int, default=3, help="models of each kind (default 3)")
    parser.add_argument("--out", type=Path, default=Path("runs/examples/word_order.png"), help="file of the picture")
    args = parser.parse_args(argv)

    corpus, held_out = data.load_corpus(data.embedded_text(), "word", min_count=5, max_tokens=args.tokens)
    ids, held_out_ids, V = corpus.ids.astype(np.int64), held_out.ids.astype(np.int64), len(corpus.vocabulary)
    contexts = contexts_of_reversible_pairs(ids, corpus.vocabulary)
    swapped = contexts.copy()
    swapped[:, [-2, -1]] = contexts[:, [-1, -2]]
    unigram = math.exp(data.unigram_nats(corpus, held_out))
    print(f"{len(ids):,} words to train on, V = {V}, D = H = {D}, {N * T} words an update, Adam {LR}")
    print(f"{len(held_out_ids):,} words held out, {held_out.unknown_rate:.0%} of them <unk>; ", end="")
    print(f"from word frequencies alone: perplexity {unigram:.1f}\n")

    results: dict[str, Result] = {}
    for seed in range(args.seeds):
        for name, model in make_models(V, seed).items():
            parameters, optimizer, values = model.parameters(), Adam(LR), []
            losses = losses_of(model, ids, np.random.default_rng(seed))
            for updates in (args.updates // 2, args.updates - args.updates // 2):
                for loss in itertools.islice(losses, updates):
                    optimizer.update(parameters, tr.grad(loss, parameters))
                values.append(perplexity(model, held_out_ids))
            logits, other = next_word_logits(model, contexts), next_word_logits(model, swapped)
            result = results.setdefault(name, Result(parameters["output.W"].size, [], [], [], []))
            result.halfway.append(values[0])
            result.final.append(values[1])
            result.change.append(float(np.abs(logits - other).max()))
            result.guesses.append((logits.argmax(axis=1), other.argmax(axis=1)))

    print_results(results, args.updates)
    print("\nLikeliest next word; the pair stands at the end of the same context in both orders:\n")
    print_guesses(results, contexts, corpus.vocabulary)
    print()
    print_summary(results, args.updates)
    if find_spec("matplotlib") is None:
        print('no picture: pip install "tinygrad_rnn[plot]"')
    else:
        draw(args.out, results, args.updates)
        print(f"picture: {args.out}")
    return results


if __name__ == "__main__":
    main()
