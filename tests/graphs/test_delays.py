"""States that are read several steps later: they pass a cut once, and have names of their own in formulas."""

import numpy as np
import pytest
from geometry import faults

import tinygrad_rnn as tr

XS = np.random.default_rng(1).standard_normal((2, 8, 3))


class Delayed(tr.Module):
    """A cell that keeps its last states, and reads the newest and the oldest of them."""

    def __init__(self, delay=2, stacked=False):
        rng = np.random.default_rng(0)
        self.Wx = tr.tensor(rng.standard_normal((3, 4)), requires_grad=True, name="Wx")
        self.W = tr.tensor(rng.standard_normal((4, 4)) / 2, requires_grad=True, name="W")
        self.delay, self.stacked = delay, stacked

    def initial_state(self, batch_size):
        return [np.zeros((batch_size, 4)) for _ in range(self.delay)]

    def __call__(self, x, q):
        if self.stacked:
            h = np.tanh(x @ self.Wx + np.sum(np.stack([q[0], q[-1]]) @ self.W, axis=0))
        else:
            h = np.tanh(x @ self.Wx + q[0] @ self.W + q[-1] @ self.W)
        return h, [h, *q[:-1]]


def by_draw(cell, T, **options):
    return tr.draw(cell, XS[:, :T], gradients=True, cut_every=2, **options).scene


def by_unroll(cell, T, **options):
    options.setdefault("view", "unrolled")
    return tr.draw(np.sum(tr.unroll(cell, XS[:, :T], cut_every=2)[0]), gradients=True, **options).scene


def windows(scene):
    """Return the steps that each window encloses."""
    steps = [region for region in scene.regions if region.kind == "step"]
    return [
        [step.label for step in steps if abs(step.x - region.x) < region.width / 2]
        for region in scene.regions
        if region.kind == "window"
    ]


@pytest.mark.parametrize("record", [by_draw, by_unroll])
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("delay", [1, 2, 3])
def test_windows_begin_where_the_state_is_cut(delay, stacked, record):
    scene = record(Delayed(delay, stacked), 6)
    assert windows(scene) == [["t = 1", "t = 2"], ["t = 3", "t = 4"], ["t = 5", "t = 6"]]
    borders = {edge.points[0][0] for edge in scene.edges if edge.kind == "border"}
    assert len(borders) == 2
    assert {round(box.x) for box in scene.boxes if box.kind == "cut"} == {round(x) for x in borders}


def test_scissors_lie_on_the_line_that_they_cut():
    scene = by_draw(Delayed(), 4)
    marks = {box.id: box for box in scene.boxes if box.kind == "cut"}
    for edge in scene.edges:
        for mark, point in ((edge.head, edge.points[-1]), (edge.tail, edge.points[0])):
            if mark in marks:
                assert abs(point[1] - marks[mark].y) < marks[mark].height / 2
    assert len(marks) == 2
    apart = abs(np.subtract(*(mark.y for mark in marks.values())))
    assert apart >= max(mark.height for mark in marks.values())


@pytest.mark.parametrize("delay", [2, 3])
def test_the_formula_says_how_old_a_delayed_state_is(delay):
    scene = by_draw(Delayed(delay), 4)
    formulas = {box.rows[0].text for box in scene.boxes if box.kind == "state"}
    assert formulas == {f"tanh(x·Wx + h·W + h[t−{delay}]·W)"}


@pytest.mark.parametrize("stacked", [False, True])
def test_the_first_state_is_drawn(stacked):
    scene = by_draw(Delayed(stacked=stacked), 4)
    (start,) = (box for box in scene.boxes if box.kind == "constant")
    assert (start.title, start.rows[0].text) == ("h_{0}", "zeros")
    given = tr.draw(Delayed(stacked=stacked), XS[:, :4], [np.ones((2, 4)), np.zeros((2, 4))]).scene
    assert [box.rows[0].text for box in given.boxes if box.kind == "constant"] == ["given"]


def test_an_elision_counts_a_cut_once():
    scene = by_draw(Delayed(), 8, steps=[1, 2, 7, 8])
    (elision,) = (box for box in scene.boxes if box.kind == "elision")
    assert [row.text for row in elision.rows] == ["4 steps", "3 cuts"]


def test_the_rolled_view_says_the_same_of_both_loops():
    scene = by_draw(Delayed(), 8, view="rolled")
    assert list(faults(scene)) == []
    assert [label.text for label in scene.labels if label.text.startswith("cut ")] == ["cut every 2 steps"] * 2


class Change(tr.Module):
    """A cell that reads how its input changes: it passes the input on as a state."""

    def __init__(self, input_size, hidden_size, rng):
        self.W, self.U = (tr.parameter(rng.standard_normal((n, hidden_size))) for n in (input_size, hidden_size))

    def initial_state(self, batch_size):
        return np.zeros((batch_size, len(self.U))), np.zeros((batch_size, len(self.W)))

    def __call__(self, x, state):
        h, before = state
        h = np.tanh((x - before) @ self.W + h @ self.U)
        return h, (h, x)


def test_a_layer_whose_output_a_later_step_reads_has_no_initial_state_of_its_own():
    model = tr.RNNLM(5, 4, 3, np.random.default_rng(0), cell=Change, dtype=np.float64)
    scene = tr.draw(model, np.arange(4)[None], np.arange(4)[None], view="unrolled").scene
    titles = [box.title for box in scene.boxes]
    assert titles.count("h_{0}") == 1
    assert {"h_{1}", "e_{1}"} <= {*titles}
