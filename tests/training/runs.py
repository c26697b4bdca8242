"""Runs for the tests of the Trainer: a linear map, and a reader of sequences with all that a checkpoint holds."""

import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn.data import Sequences
from tinygrad_rnn.optim import Adam, Plateau
from tinygrad_rnn.training.files.archive import digest

W = np.array([[1.0], [-2.0], [0.5]])


def line(rng, batches=6, N=5):
    """Batches of a linear map with noise."""
    for _ in range(batches):
        x = rng.standard_normal((N, 3))
        yield {"x": x, "y": x @ W + 0.01 * rng.standard_normal((N, 1))}


def endless(rng=None):
    rng = np.random.default_rng(7)
    while True:
        yield from line(rng, batches=1)


def squared(model, batch):
    return np.mean((model(batch["x"]) - batch["y"]) ** 2)


def linear():
    return tr.Linear(3, 1, np.random.default_rng(0), dtype=np.float64)


def fitted(**settings):
    settings = {"optimizer": Adam(0.05), "epochs": 4, "progress": False} | settings
    return tr.Trainer(linear(), squared, line, line, **settings).fit()


class Reader(tr.Module):
    """Reads sequences and says a class of each, and how long they were on average."""

    buffers = ("seen",)

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.cell = tr.GRUCell(2, 4, rng)
        self.drop = tr.Dropout(0.3)
        self.out = tr.Linear(4, 3, rng)
        self.seen = np.zeros(1)


def classified(model, batch, rng=None):
    _, h = tr.unroll(model.cell, batch.inputs, model.cell.initial_state(len(batch.inputs)), lengths=batch.lengths)
    logits = model.out(model.drop(h, rng))
    metrics = {"accuracy": tr.metrics.accuracy(logits, batch.targets), "logit": np.mean(logits, dtype=np.float64)}
    return tr.cross_entropy(logits, batch.targets), None, metrics


def sequences(seed=0, count=23):
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal((rng.integers(2, 9), 2)).astype(np.float32) for _ in range(count)]
    return Sequences(inputs, rng.integers(0, 3, count))


def reader(folder=None, model=None, **settings):
    """A run with all that a checkpoint has to hold: dropout, shuffled batches, moments, a schedule that remembers."""
    settings = {"epochs": 3, "checkpoints": folder} | settings
    return tr.Trainer(
        Reader() if model is None else model,
        classified,
        sequences().batches(4, np.random.default_rng(5)),
        sequences(1).batches(7),
        optimizer=Adam(0.02),
        schedule=Plateau(0.02),
        clip=0.5,
        seed=3,
        progress=False,
        **settings,
    )


def results(trainer, history):
    arrays = {name: digest(array) for name, array in trainer.model.state_dict().items()}
    return arrays, [(record.train, record.valid, record.lr, record.gradient_norm) for record in history.records]
