"""From one sequence to another: sums of two numbers, and dates in many formats, character by character.

    python examples/seq2seq.py                          # dates with attention
    python examples/seq2seq.py --task addition          # sums, with the sources reversed and a decoder that peeks

The two tasks of the textbook's next chapters. A source is read by an encoder; a decoder writes the target. A sum
("57+905" gives "962") is right if each of its digits is; that of a date ("Friday, 4 March 1988") is "1988-03-04". The
test set holds pairs that were never trained on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tinygrad_rnn as tr

PAD, START, STOP = 0, 1, 2
CHARACTERS = " ,-/+.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
IDS = {character: number for number, character in enumerate(CHARACTERS, start=3)}
V = len(CHARACTERS) + 3
N = 128  # pairs of an update
FORMATS = ("%A, %-d %B %Y", "%B %-d, %Y", "%b %-d, %Y", "%-d %b %Y", "%-d %B %Y", "%-m/%-d/%y", "%A, %B %-d, %Y")
Pair = tuple[str, str]
Ids = NDArray[np.int64]


def sums(count: int, rng: np.random.Generator) -> list[Pair]:
    """Return additions of numbers of one to three digits, and what they make; no addition comes twice."""
    found: dict[str, str] = {}
    while len(found) < count:
        a, b = (int(rng.integers(10 ** rng.integers(1, 4))) for _ in range(2))
        found[f"{a}+{b}"] = str(a + b)
    return list(found.items())


def dates(count: int, rng: np.random.Generator) -> list[Pair]:
    """Return dates of the years 1970 to 2068, written in many formats, and in one."""
    first, last = date(1970, 1, 1).toordinal(), date(2069, 1, 1).toordinal()
    found: dict[str, str] = {}
    while len(found) < count:
        day = date.fromordinal(int(rng.integers(first, last)))
        text = day.strftime(FORMATS[rng.integers(len(FORMATS))])
        found[text.lower() if rng.random() < 0.5 else text] = day.isoformat()
    return list(found.items())


TASKS: dict[str, tuple[Callable[[int, np.random.Generator], list[Pair]], dict[str, Any]]] = {
    "dates": (dates, {"attention": "dot"}),
    "addition": (sums, {"reverse": True, "peek": True}),
}


def encoded(pairs: Sequence[Pair]) -> tuple[Ids, Ids, Ids]:
    """Return sources (N, S), their lengths (N,), and targets (N, T), each from START to STOP and then -1."""
    lengths = np.array([len(source) for source, _ in pairs])
    sources = np.full((len(pairs), lengths.max()), PAD)
    targets = np.full((len(pairs), max(len(target) for _, target in pairs) + 2), -1)
    for row, (source, target) in enumerate(pairs):
        sources[row, : len(source)] = [IDS[character] for character in source]
        targets[row, : len(target) + 2] = [START, *(IDS[character] for character in target), STOP]
    return sources, lengths, targets


def batches(data: tuple[Ids, Ids, Ids]) -> Callable[[np.random.Generator], Iterator[tuple[Ids, ...]]]:
    """Return what yields batches of N pairs, shuffled anew in each epoch."""

    def epoch(rng: np.random.Generator) -> Iterator[tuple[Ids, ...]]:
        order = rng.permutation(len(data[0]))
        for begin in range(0, len(order) - N + 1, N):
            yield tuple(part[order[begin : begin + N]] for part in data)

    return epoch


def loss(model: tr.Seq2Seq, batch: tuple[Ids, Ids, Ids]) -> Any:
    """Return the mean nats per character of the targets."""
    sources, lengths, targets = batch
    return model.loss(sources, targets, lengths=lengths)


def translated(model: tr.Seq2Seq, pairs: Sequence[Pair]) -> list[str]:
    """Return what the model makes of the sources."""
    sources, lengths, targets = encoded(pairs)
    made = tr.decode(model, sources, start=START, stop=STOP, length=targets.shape[1], lengths=lengths)
    return ["".join(CHARACTERS[number - 3] if number > 2 else "?" for number in ids) for ids in made]


def main(argv: Sequence[str] | None = None) -> list[float]:
    """Train, print, and return the accuracy on the test set after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="dates", help="what is learned (default dates)")
    parser.add_argument("--pairs", type=int, default=45_000, help="to train on (default 45000)")
    parser.add_argument("--epochs", type=int, help="default 6 for dates, 20 for addition")
    parser.add_argument("--hidden-size", type=int, default=128, help="H (default 128)")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    args = parser.parse_args(argv)
    make, options = TASKS[args.task]
    rng = np.random.default_rng(args.seed)
    pairs = make(args.pairs + 1000, rng)
    train, test = pairs[: args.pairs], pairs[args.pairs :]
    model = tr.Seq2Seq(V, V, 16, args.hidden_size, rng, cell="lstm", **options)
    accuracies: list[float] = []
    begin = time.perf_counter()

    def report(record: Any) -> None:
        made = translated(model, test)
        right = [found == target for found, (_, target) in zip(made, test, strict=True)]
        accuracies.append(float(np.mean(right)))
        seconds = time.perf_counter() - begin
        print(f"epoch {record.epoch:2}: {100 * accuracies[-1]:5.1f} % of the test set right after {seconds:3.0f} s")

    epochs = args.epochs or {"dates": 6, "addition": 20}[args.task]
    trainer = tr.Trainer(
        model,
        loss,
        batches(encoded(train)),
        optimizer=tr.Adam(lr=0.003),
        clip=5.0,
        epochs=epochs,
        callbacks=[report],
        seed=args.seed,
    )
    trainer.fit()
    for (source, target), found in zip(test[:5], translated(model, test[:5]), strict=True):
        print(f"  {source:>28} -> {found:10} {'' if found == target else 'instead of ' + target}")
    return accuracies


if __name__ == "__main__":
    main()
