"""The experiment of the chapter on recurrent networks: one small corpus, one model, two backward passes.

The setting is that of Saito, Deep Learning from Scratch 2, chapter 5: the first 1,000 words of a corpus, D = H = 100,
10 streams, windows of 5 steps, plain SGD with a learning rate of 0.1, 100 epochs; perplexity on the training words.
Two models start from the same weights and read the same windows. In one the backward pass is written by hand, layer
by layer; in the other it is derived by the library from the recorded forward pass, with a cut between windows.

    python examples/chapter5.py                  # the text that comes with Python
    python examples/chapter5.py CORPUS           # a utf-8 text file of yours

Without a corpus, under Python 3.11 (5 s with OPENBLAS_NUM_THREADS=1; a minute with more threads on a busy machine):

    1000 words, V = 256; 19 windows an epoch; float64, seed 0

                training perplexity
    epoch    by hand   by the graph
        1   207.7546       207.7546
       10   102.0041       102.0041
       20    90.4739        90.4739
       30    62.7188        62.7188
       40    37.6634        37.6634
       50    21.4063        21.4063
       60    12.7393        12.7393
       70     7.7688         7.7688
       80     5.2432         5.2432
       90     3.4814         3.4814
      100     2.5792         2.5792

    largest relative difference of the curves: 1.4e-11
    picture: runs/examples/chapter5.png

The curves agree but for rounding: the two backward passes add in different orders. From epoch 80 on training itself
makes small differences grow: two runs of the hand-written model whose first weights differ by 1e-15 (relative) also end
about 1e-11 apart. With --dtype float32 it shows: on the first 1,000 words of tinyshakespeare the curves of five
seeds were up to 3 % apart in the last epochs; in float64, up to 4e-9.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tinygrad_rnn as tr
from tinygrad_rnn import data, handwritten

TOKENS, D, H, N, T, LR = 1000, 100, 100, 10, 5, 0.1  # words, sizes, streams, steps in a window, learning rate

Window = tuple[NDArray[np.int64], NDArray[np.int64]]


def wrapping_windows(ids: NDArray[np.int64]) -> Iterator[Window]:
    """Yield the chapter's windows (inputs, targets), each (N, T), without end.

    N readers start at equal distances and go on side by side; at the end of the corpus they wrap around to its start.
    (The library's `data.OffsetBatches` does not wrap: every pass starts at the same places.)
    """
    inputs, targets = ids[:-1], ids[1:]
    offsets = np.arange(N)[:, None] * (len(inputs) // N)
    for time in itertools.count(step=T):
        places = (offsets + time + np.arange(T)) % len(inputs)
        yield inputs[places], targets[places]


def train_by_graph(model: tr.RNNLM, windows: Iterator[Window], epochs: int, steps: int) -> list[float]:
    """Train with the derived backward pass; return the perplexity of each epoch of `steps` windows."""
    parameters, state, curve = model.parameters(), model.initial_state(N), []
    for _ in range(epochs):
        nats = 0.0
        for inputs, targets in itertools.islice(windows, steps):
            loss, state = model.loss(inputs, targets, tr.cut(state))
            for name, gradient in tr.grad(loss, parameters).items():
                parameters[name].data = parameters[name].data - LR * gradient
            nats += loss.item()
        curve.append(math.exp(nats / steps))
    return curve


def train_by_hand(model: handwritten.SimpleRnnlm, windows: Iterator[Window], epochs: int, steps: int) -> list[float]:
    """Train with the backward pass that was written by hand; the model keeps its state and cuts by itself."""
    curve = []
    for _ in range(epochs):
        nats = 0.0
        for inputs, targets in itertools.islice(windows, steps):
            nats += float(model.forward(inputs, targets))
            model.backward()
            for parameter, gradient in zip(model.params, model.grads, strict=True):
                parameter -= LR * gradient
        curve.append(math.exp(nats / steps))
    return curve


def same_weights(model: tr.RNNLM) -> handwritten.SimpleRnnlm:
    """Return the hand-written model with copies of the weights of `model`."""
    p = {name: parameter.data for name, parameter in model.parameters().items()}
    return handwritten.SimpleRnnlm.from_arrays(
        embedding=p["embedding.W"],
        Wx=p["layers.0.Wx"],
        Wh=p["layers.0.Wh"],
        b=p["layers.0.b"],
        W_out=p["output.W"],
        b_out=p["output.b"],
    )


def draw(path: Path, graph: Sequence[float], by_hand: Sequence[float], words: int) -> None:
    """Draw both learning curves, and how far they are apart."""
    from matplotlib.figure import Figure  # here, not above: the table needs no matplotlib

    epochs = np.arange(1, len(graph) + 1)
    figure = Figure(figsize=(8, 6), layout="constrained", facecolor="white")
    curves, distance = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    curves.plot(epochs, graph, color="#0072B2", linewidth=2, label="derived from the graph")
    every = max(1, len(epochs) // 20)
    curves.plot(
        epochs,
        by_hand,
        color="#D55E00",
        linestyle="none",
        marker="o",
        markerfacecolor="none",
        markersize=8,
        markevery=(every - 1, every),
        label="written by hand" + (f" (each {every}th epoch)" if every > 1 else ""),
    )
    curves.set_yscale("log")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if min(graph) / 2 < tick < max(graph) * 2]
    curves.set_yticks(ticks, [str(tick) for tick in ticks])
    curves.minorticks_off()
    curves.set_ylabel("training perplexity (log scale)")
    curves.set_title(f"{words:,} words, D = H = {H}, {N} streams, windows of {T} steps, SGD with rate {LR}")
    curves.legend()
    distance.plot(epochs, relative_differences(graph, by_hand), color="black", marker=".", linestyle="none")
    distance.set_yscale("symlog", linthresh=1e-16)  # a logarithmic scale that has a place for 0
    distance.set_ylim(-5e-17, max(1e-14, 5 * relative_differences(graph, by_hand).max()))
    distance.xaxis.get_major_locator().set_params(integer=True)
    distance.set_ylabel("relative difference")
    distance.set_xlabel("epoch")
    for axes in (curves, distance):
        axes.grid(color="0.9")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def relative_differences(graph: Sequence[float], by_hand: Sequence[float]) -> NDArray[np.float64]:
    """Return |graph - by hand| / by hand, epoch by epoch."""
    return np.asarray(np.abs(np.subtract(graph, by_hand)) / by_hand)


def main(argv: Sequence[str] | None = None) -> tuple[list[float], list[float]]:
    """Run the experiment and return both curves."""
    parser = argparse.ArgumentParser(description="The chapter's experiment, with two backward passes.")
    parser.add_argument("corpus", nargs="?", help="utf-8 text file (default: the text that comes with Python)")
    parser.add_argument("--epochs", type=int, default=100, help="default 100")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first weights, default 0")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64", help="default float64")
    parser.add_argument("--out", type=Path, default=Path("runs/examples/chapter5.png"), help="file of the picture")
    args = parser.parse_args(argv)

    text = data.read_text(args.corpus) if args.corpus else data.embedded_text()
    words = data.tokenize(text, "word")[:TOKENS]
    vocabulary = data.Vocabulary.from_tokens(words, unknown=None)
    ids = vocabulary.encode(words).astype(np.int64)
    steps = (len(ids) - 1) // (N * T)
    print(f"{len(ids)} words, V = {len(vocabulary)}; {steps} windows an epoch; {args.dtype}, seed {args.seed}\n")

    rng = np.random.default_rng(args.seed)
    model = tr.RNNLM(len(vocabulary), D, H, rng, embedding_scale=0.01, dtype=args.dtype)  # the chapter's weights
    hand_model = same_weights(model)
    by_hand = train_by_hand(hand_model, wrapping_windows(ids), args.epochs, steps)
    graph = train_by_graph(model, wrapping_windows(ids), args.epochs, steps)

    print("            training perplexity")
    print("epoch    by hand   by the graph")
    for epoch in sorted({1, *range(10, args.epochs + 1, 10), args.epochs}):
        print(f"{epoch:5} {by_hand[epoch - 1]:10.4f} {graph[epoch - 1]:14.4f}")
    print(f"\nlargest relative difference of the curves: {relative_differences(graph, by_hand).max():.1e}")

    if find_spec("matplotlib") is None:
        print('no picture: pip install "tinygrad_rnn[plot]"')
    else:
        draw(args.out, graph, by_hand, len(ids))
        print(f"picture: {args.out}")
    return by_hand, graph


if __name__ == "__main__":
    main()
