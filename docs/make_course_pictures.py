"""Draw the pictures of the course: python docs/make_course_pictures.py [NUMBER] (all lessons without a number)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import tinygrad_rnn as tr

FOLDER = Path(__file__).parent / "pictures" / "course"


def bptt_by_hand() -> None:
    """Draw four steps of a layer, with the gradient that comes back along each edge."""
    rng = np.random.default_rng(0)
    cell = tr.RNNCell(2, 3, rng)
    picture = tr.draw(cell, rng.standard_normal((1, 4, 2)).astype(np.float32), gradients=True, depth=1)
    picture.save(FOLDER / "bptt_by_hand.svg")


PICTURES = {4: bptt_by_hand}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for number in map(int, sys.argv[1:] or map(str, PICTURES)):
        PICTURES[number]()
