"""Draw the pictures of docs/compile.md: python docs/make_compile_pictures.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinygrad_rnn as tr

STAGES = ("recorded", "defer_sums", "hoist_elementwise")


def main() -> None:
    """Record the step of the page, and draw its graph after some of the passes."""
    model = tr.RNNLM(10, 3, 4, np.random.default_rng(0))

    def step(ids, targets, state):
        loss, state = model.loss(ids, targets, state)
        return loss, tr.grad(loss, model.parameters()), state

    ids = np.random.default_rng(1).integers(0, 10, (2, 6))
    folder = Path(__file__).parent / "pictures" / "compile"
    for name in STAGES:
        drawing = tr.compile(step).draw(ids[:, :-1], ids[:, 1:], model.initial_state(2), stage=name)
        drawing.save(folder / f"{name}.svg")
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    main()
