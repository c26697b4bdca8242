"""Draw the pictures of the course: python docs/make_course_pictures.py [NUMBER] (all lessons without a number)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import tinygrad_rnn as tr

FOLDER = Path(__file__).parent / "pictures" / "course"


def rng() -> np.random.Generator:
    """Return the generator of each picture."""
    return np.random.default_rng(0)


def series(N: int, T: int, D: int) -> np.ndarray:
    """Return inputs (N, T, D)."""
    return rng().standard_normal((N, T, D)).astype(np.float32)


def word_order() -> tr.Drawing:
    """Draw CBOW on one context of two words."""
    model = tr.CBOW(7, 3, 2, rng())
    return tr.draw(tr.cross_entropy(model(np.array([[0, 2]])), np.array([1])), view="ops", title="CBOW")


def recurrent_cell() -> tr.Drawing:
    """Draw the cell with its loop."""
    return tr.draw(tr.RNNCell(3, 4, rng()), series(1, 3, 3), view="rolled", title="The recurrent cell")


def unrolling() -> tr.Drawing:
    """Draw two layers over four steps."""
    layers = tr.Stacked([tr.RNNCell(3, 4, rng()), tr.RNNCell(4, 4, rng())])
    return tr.draw(layers, series(2, 4, 3), title="Two layers, unrolled")


def bptt_by_hand() -> tr.Drawing:
    """Draw four steps of a layer, with the gradient that comes back along each edge."""
    return tr.draw(tr.RNNCell(2, 3, rng()), series(1, 4, 2), gradients=True, depth=1)


def by_the_graph() -> tr.Drawing:
    """Draw the operations of one step beside their backward graph."""
    return tr.draw(
        tr.RNNCell(2, 3, rng()), series(1, 2, 2), view="backward", steps=2, title="One step, forward and backward"
    )


def long_sequences() -> tr.Drawing:
    """Draw six steps with a loss at the last one alone: the gradient fades."""
    cell = tr.RNNCell(2, 8, rng())
    cell.Wh.data = 0.4 * cell.Wh.data
    h, xs = cell.initial_state(1), series(1, 6, 2)
    for t in range(6):
        with tr.at_step(t):
            _, h = cell(xs[:, t], h)
    return tr.draw(np.sum(h), gradients=True, title="A loss at the end")


def scissors() -> tr.Drawing:
    """Draw six steps that are cut every three."""
    return tr.draw(tr.RNNCell(2, 3, rng()), series(1, 6, 2), gradients=True, cut_every=3, title="The scissors")


def order_of_data() -> tr.Drawing:
    """Draw two windows of two streams."""
    model, ids = tr.RNNLM(10, 3, 4, rng()), np.arange(10).reshape(2, 5)
    return tr.draw(model, ids[:, :-1], ids[:, 1:], cut_every=2, title="Two windows of two streams")


def language_model() -> tr.Drawing:
    """Draw a language model over three steps."""
    model, ids = tr.RNNLM(6, 3, 4, rng()), rng().integers(0, 6, (2, 4))
    return tr.draw(model, ids[:, :-1], ids[:, 1:], title="A language model")


def gates_and_credit() -> tr.Drawing:
    """Draw the LSTM with its loop."""
    return tr.draw(tr.LSTMCell(3, 4, rng()), series(1, 3, 3), view="rolled", title="The LSTM cell")


PICTURES = {
    1: word_order,
    2: recurrent_cell,
    3: unrolling,
    4: bptt_by_hand,
    5: by_the_graph,
    6: long_sequences,
    7: scissors,
    8: order_of_data,
    9: language_model,
    10: gates_and_credit,
}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number in map(int, sys.argv[1:] or map(str, PICTURES)):
        PICTURES[number]().save(FOLDER / f"{PICTURES[number].__name__}.svg")
