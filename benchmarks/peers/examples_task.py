"""The examples as tasks for peers: for each its batches, our model of it, its loss and its optimizer.

A "window" of a task is a part of an epoch: a list of batches, which one step of a peer goes through with an update for
each. Where an epoch is long, the part has `LONGEST` of its batches.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tr

EXAMPLES = Path(__file__).parents[2] / "examples"
LONGEST = 20
NOTES = 88
Batch = tuple[Any, ...]


class Config(NamedTuple):
    """Which task, and how many batches of its epoch make a window."""

    task: str
    longest: int = LONGEST


class Task(NamedTuple):
    """An example.

    Attributes:
        title: the model and its sizes.
        batches: makes all batches of an epoch, tuples of arrays.
        model: makes our model, with its first weights.
        loss: loss(model, batch, state) of our model, and the new state.
        lr, decay: of AdamW (Adam where there is no decay), which leaves biases out.
        clip: largest global norm of the gradient.
        state: makes the state before an epoch; None: there is none.
    """

    title: str
    batches: Callable[[], list[Batch]]
    model: Callable[[], tr.Module]
    loss: Callable[[Any, Batch, Any], tuple[Any, Any]]
    lr: float
    decay: float = 0.0
    clip: float = 1.0
    state: Callable[[Any], Any] | None = None


@cache
def example(name: str) -> Any:
    """Return the program examples/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rng() -> np.random.Generator:
    """Return the generator of everything that is drawn."""
    return np.random.default_rng(0)


# -- sunspots ----------------------------------------------------------------------------------------------------------


def sunspots() -> list[Batch]:
    """Return windows of 22 values and the next one, standardized."""
    series = example("forecast").cycles(rng())
    train, _, _ = tr.sliding_windows((series - series.mean()) / series.std(), 22).split(0.1, 0.2)
    return [(batch.inputs, batch.targets) for batch in train.batches(32, rng(), drop_last=True)]


def sunspots_loss(model: Any, batch: Batch, state: None) -> tuple[Any, None]:
    """Return the Huber loss of the next value, as a difference to the last."""
    xs, targets = batch
    return tr.huber(xs[:, -1] + model(xs), targets), state


# -- digits, pixels, adding problem ------------------------------------------------------------------------------------


def digits() -> list[Batch]:
    """Return pictures of different heights, their lengths and digits."""
    train, _, _ = example("digits").pictures(6000, rng()).split(0.1, 0.1)
    batches = train.batches(50, rng(), pool=8, multiple=4, drop_last=True)
    return [(batch.inputs, batch.lengths, batch.targets) for batch in batches]


def digits_loss(model: Any, batch: Batch, state: None) -> tuple[Any, None]:
    """Return the cross-entropy with smoothed labels."""
    xs, lengths, targets = batch
    return tr.cross_entropy(model(xs, lengths=lengths), targets, smoothing=0.05), state


def pixels() -> list[Batch]:
    """Return pictures pixel by pixel, and their digits."""
    inks, labels = example("pixels").pictures(1000, rng())
    return [(inks[part].reshape(-1, 784, 1), labels[part]) for part in np.split(np.arange(1000), 20)]


def pixels_loss(model: Any, batch: Batch, state: None) -> tuple[Any, None]:
    """Return the cross-entropy."""
    return tr.cross_entropy(model(batch[0]), batch[1]), state


def adding() -> list[Batch]:
    """Return sequences of 200 numbers with two marks, and their sums."""
    return list(example("adding").problems(rng(), 100, 50, 200))


def adding_loss(model: Any, batch: Batch, state: None) -> tuple[Any, None]:
    """Return the squared error."""
    return tr.mse(model(batch[0]), batch[1]), state


# -- sums and dates ----------------------------------------------------------------------------------------------------


def translations(name: str) -> list[Batch]:
    """Return sources, their lengths, and targets."""
    program, drawn = example("seq2seq"), rng()
    data = program.encoded(getattr(program, name)(45_000, drawn))
    return list(program.batches(data)(drawn))


def translations_loss(model: Any, batch: Batch, state: None) -> tuple[Any, None]:
    """Return the mean nats of a character."""
    sources, lengths, targets = batch
    return model.loss(sources, targets, lengths=lengths), state


def translator(**options: Any) -> tr.Seq2Seq:
    """Return an encoder and a decoder over characters."""
    V = example("seq2seq").V
    return tr.Seq2Seq(V, V, 16, 128, rng(), cell="lstm", **options)


# -- language model, chorales ------------------------------------------------------------------------------------------


@cache
def text() -> Any:
    """Return the embedded text, in characters."""
    return tr.load_corpus(tr.embedded_text(), "char")[0]


def language_model() -> list[Batch]:
    """Return windows of 50 characters in 50 streams, and the characters that follow."""
    return [(ids.astype(np.int64), targets.astype(np.int64)) for ids, targets in tr.OffsetBatches(text().ids, 50, 50)]


def language_model_loss(model: Any, batch: Batch, state: Any) -> tuple[Any, Any]:
    """Return the mean nats of a character, and the state for the next window."""
    return model.loss(*batch, state)


def chorales() -> list[Batch]:
    """Return 229 pieces of 88 notes, of the lengths that chorales have; each note at random."""
    drawn = rng()
    pieces = [(drawn.random((int(T), NOTES)) < 0.04).astype(np.float32) for T in drawn.integers(30, 110, 229)]
    data = tr.Sequences([np.vstack([np.zeros_like(roll[:1]), roll[:-1]]) for roll in pieces], pieces, steps=True)
    batches = data.batches(8, drawn, pool=4, multiple=16, drop_last=True)
    return [(batch.inputs, batch.lengths, batch.targets, batch.target_mask) for batch in batches]


def chorales_loss(model: Any, batch: Batch, state: None) -> tuple[Any, None]:
    """Return the mean nats of a step."""
    xs, lengths, targets, mask = batch
    return NOTES * tr.binary_cross_entropy(model(xs, lengths=lengths), targets, mask=mask), state


def reader(cell: str, D: int, H: int, outputs: int, last: bool = True) -> Callable[[], tr.Module]:
    """Return what makes a recurrent layer with a linear layer."""
    return lambda: tr.SequenceModel(cell, D, H, outputs, rng(), last=last)


TASKS = {
    "sunspots": Task("GRU, H=24, T=22, N=32", sunspots, reader("gru", 1, 24, 1), sunspots_loss, 0.005, 0.01),
    "digits": Task("GRU, H=64, T=12 to 24, N=50", digits, reader("gru", 12, 64, 10), digits_loss, 0.004, 0.01),
    "addition": Task(
        "LSTM to LSTM, H=128, reversed, peek, N=128",
        lambda: translations("sums"),
        lambda: translator(reverse=True, peek=True),
        translations_loss,
        0.003,
        clip=5.0,
    ),
    "dates": Task(
        "LSTM to LSTM, H=128, dot attention, N=128",
        lambda: translations("dates"),
        lambda: translator(attention="dot"),
        translations_loss,
        0.003,
        clip=5.0,
    ),
    "language model": Task(
        "LSTM, D=64, H=128, T=50, N=50",
        language_model,
        lambda: tr.RNNLM(len(text().vocabulary), 64, 128, rng(), cell="lstm"),
        language_model_loss,
        0.002,
        clip=5.0,
        state=lambda model: model.initial_state(50),
    ),
    "adding": Task("GRU, H=48, T=200, N=50", adding, reader("gru", 2, 48, 1), adding_loss, 0.005),
    "chorales": Task(
        "LSTM, H=200, T to 112, N=8", chorales, reader("lstm", NOTES, 200, NOTES, False), chorales_loss, 0.01, clip=5.0
    ),
    "pixels": Task("GRU, H=64, T=784, N=50, 1,000 pictures", pixels, reader("gru", 1, 64, 10), pixels_loss, 0.005),
}


def make_weights(config: Config) -> dict[str, Any]:
    """Return the first weights, by our names."""
    return dict(TASKS[config.task].model().state_dict())


def make_windows(config: Config) -> list[tuple[list[Batch]]]:
    """Return one window: the first batches of an epoch."""
    return [(list(islice(TASKS[config.task].batches(), config.longest)),)]
