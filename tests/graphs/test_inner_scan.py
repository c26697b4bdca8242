"""A scan inside a cell is a part of the cell's step: it adds no steps of its own to a picture."""

import numpy as np
import pytest

import tinygrad_rnn as tr


class Refined(tr.Module):
    """A cell that refines its state by inner steps: those of a scan, of an unroll, or of a Python loop."""

    def __init__(self, how, inner=3):
        rng = np.random.default_rng(0)
        self.Wx, self.W = tr.parameter(rng.standard_normal((3, 4))), tr.parameter(rng.standard_normal((4, 4)) / 2)
        self.how, self.inner = how, inner

    def initial_state(self, batch_size):
        return np.zeros((batch_size, 4))

    def __call__(self, x, h):
        d = x @ self.Wx
        if self.how == "scan":
            _, h = tr.scan(lambda _, h: (None, h + 0.2 * np.tanh(h @ self.W + d)), h, steps=self.inner)
        elif self.how == "unroll":
            cell = lambda d, h: (h, h + 0.2 * np.tanh(h @ self.W + d))  # noqa: E731
            _, h = tr.unroll(cell, np.stack([d] * self.inner, axis=1), h)
        else:
            for _ in range(self.inner):
                h = h + 0.2 * np.tanh(h @ self.W + d)
        return h, h


XS = np.random.default_rng(1).standard_normal((2, 4, 3))


def by_draw(cell):
    return tr.draw(cell, XS, gradients=True, cut_every=2).scene


def by_unroll(cell):
    return tr.draw(np.sum(tr.unroll(cell, XS, cut_every=2)[0]), gradients=True, view="unrolled").scene


def by_hand(cell):
    h, total = cell.initial_state(2), 0.0
    for t in range(4):
        with tr.at_step(t):
            y, h = cell(XS[:, t], tr.cut(h) if t == 2 else h)
            total = total + np.sum(y)
    return tr.draw(total, gradients=True, view="unrolled").scene


@pytest.mark.parametrize("inner", [3, 5])
@pytest.mark.parametrize(
    ("how", "record"),
    [("scan", by_draw), ("unroll", by_draw), ("scan", by_unroll), ("unroll", by_unroll), ("scan", by_hand)],
)
def test_inner_steps_add_no_columns(how, inner, record):
    scene, plain = record(Refined(how, inner)), record(Refined("loop", inner))
    assert scene.subtitle == plain.subtitle
    assert "4 steps" in scene.subtitle
    assert [(region.kind, region.label, region.x) for region in scene.regions] == [
        (region.kind, region.label, region.x) for region in plain.regions
    ]
    assert sorted(box.title for box in scene.boxes) == sorted(box.title for box in plain.boxes)
    states = {box.id: box.x for box in scene.boxes if box.kind == "state"}
    belts = [edge for edge in scene.edges if edge.tail in states and edge.head in states]
    assert len(belts) == 2  # the third is cut
    assert all(states[edge.tail] < states[edge.head] for edge in belts)


def test_the_rolled_view_takes_inner_steps_as_one_step():
    scene = tr.draw(Refined("scan"), XS, view="rolled", cut_every=2).scene
    assert "one step, repeated 4 times" in scene.subtitle
    assert "not rolled" not in scene.subtitle
