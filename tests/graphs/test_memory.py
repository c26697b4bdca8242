"""A cell that attends to a memory in its own state."""

import itertools

import numpy as np
import pytest
from geometry import faults

import tinygrad_rnn as tr

XS = np.random.default_rng(1).standard_normal((2, 6, 3))


class Memory(tr.Module):
    """A cell that reads its memory by attention, and writes its state into it; `masked`: what it has written."""

    def __init__(self, masked=False):
        rng = np.random.default_rng(0)
        self.Wx = tr.tensor(rng.standard_normal((3, 4)), requires_grad=True, name="Wx")
        self.Wc = tr.tensor(rng.standard_normal((4, 4)), requires_grad=True, name="Wc")
        self.masked = masked

    def initial_state(self, batch_size):
        return np.zeros((batch_size, 4)), np.zeros((batch_size, 3, 4)), np.arange(3) * np.ones((batch_size, 1)) < 1

    def __call__(self, x, state):
        h, M, used = state
        scores = (M @ h[:, :, None])[:, :, 0]
        a = tr.softmax(np.where(used, scores, -9.0) if self.masked else scores, axis=-1)
        c = (a[:, None] @ M)[:, 0]
        h = np.tanh(x @ self.Wx + c @ self.Wc + h)
        used = np.concatenate([np.ones((len(used), 1), bool), used[:, :-1]], axis=1)
        return h + c, (h, np.concatenate([h[:, None], M[:, :-1]], axis=1), used)


@pytest.fixture(params=[False, True], ids=["plain", "masked"])
def cell(request):
    return Memory(request.param)


def scene_of(cell, **options):
    return tr.draw(cell, XS[:, :4], gradients=True, cut_every=2, **options).scene


def boxes_of(scene, letter):
    return {box.title: box.rows[0].text for box in scene.boxes if box.title.startswith(letter)}


def test_each_step_shows_its_input(cell):
    scene = scene_of(cell)
    assert boxes_of(scene, "x") == {f"x_{{{t}}}": "2×3 float64" for t in range(1, 5)}


def test_states_have_the_names_of_the_program(cell):
    scene = scene_of(cell)
    titles = [box.title for box in scene.boxes if box.kind == "state"]
    assert titles == ["M_{1}, h_{1}", "M_{2}, h_{2}", "M_{3}, h_{3}", "h_{4}"]
    if not cell.masked:
        assert boxes_of(scene, "a_").items() >= {"a_{3}": "softmax(M·h)·M"}.items()


def test_all_initial_states_are_drawn_and_said_to_be_zeros(cell):
    (start,) = (box for box in scene_of(cell).boxes if box.kind == "constant")
    assert (start.title, start.rows[0].text) == ("M_{0}, h_{0}", "zeros")
    given = np.ones((2, 4)), np.zeros((2, 3, 4)), np.ones((2, 3), bool)
    scene = tr.draw(cell, XS[:, :4], given).scene
    (start,) = (box for box in scene.boxes if box.kind == "constant")
    assert start.rows[0].text == "zeros, given"


def test_the_loss_says_what_it_sums(cell):
    assert set(boxes_of(scene_of(cell), "ℓ").values()) == {"Σ(h + a)"}


@pytest.mark.parametrize("every", [1, 2, 3])
def test_scissors_do_not_overlap_each_other_nor_their_text(cell, every):
    scene = tr.draw(cell, XS, gradients=True, cut_every=every).scene
    marks = [box for box in scene.boxes if box.kind == "cut"]
    assert len({box.id for box in scene.boxes}) == len(scene.boxes)
    assert marks
    for a, b in itertools.combinations(marks, 2):
        # The text of a mark takes 36 points below it.
        room = (a.height + b.height) / 2 + (36 if (a if a.y < b.y else b).rows else 0)
        assert abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= room
    for mark in marks:
        if mark.rows:
            upright = [edge.points for edge in scene.edges if edge.kind == "cut"]
            below = [p for points in upright for p in points if abs(p[0] - mark.x) < 30 and p[1] > mark.y + 18]
            assert not below


def test_the_rolled_view_has_one_region_for_the_cell(cell):
    scene = scene_of(cell, view="rolled")
    labels = [label.text for label in scene.labels if label.text.endswith("steps")]
    assert labels.count("Memory · × 4 steps") == 1
    regions = [region for region in scene.regions if region.kind == "module"]
    (home,) = (r for r in regions for box in scene.boxes if box.title == "M_{t}" and abs(r.x - box.x) < r.width / 2)
    assert all(abs(home.x - box.x) < home.width / 2 for box in scene.boxes if box.kind == "delay")
    assert "state M 2×3×4" in scene.subtitle
    assert list(faults(scene)) == []


class Written(Memory):
    """A cell whose weights of reading say where it writes, too."""

    def __call__(self, x, state):
        h, M, used = state
        a = tr.softmax((M @ h[:, :, None])[:, :, 0], axis=-1)
        h = np.tanh(x @ self.Wx + (a[:, None] @ M)[:, 0] @ self.Wc)
        return h, (h, 0.9 * M + a[:, :, None] * h[:, None], used)


@pytest.mark.parametrize(("view", "depth"), [("unrolled", 1), ("rolled", 1), ("rolled", 2)])
def test_what_is_written_with_the_weights_belongs_to_the_cell(view, depth):
    scene = tr.draw(Written(), XS[:, :4], view=view, depth=depth).scene
    assert list(faults(scene)) == []
    if depth == 1:
        reads = {box.title: box.rows[0].text for box in scene.boxes if box.title.startswith("a_")}
        assert set(reads.values()) == {"softmax(M·h)·M"}
