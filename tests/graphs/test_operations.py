"""The operations view."""

import numpy as np
import pytest
from geometry import faults

import tinygrad_rnn as tr
from tinygrad_rnn.errors import DrawingError
from tinygrad_rnn.graphs.drawing import VIEWS
from tinygrad_rnn.graphs.model import options
from tinygrad_rnn.graphs.model.flow import Flow, flow_of
from tinygrad_rnn.graphs.model.options import Options
from tinygrad_rnn.graphs.model.record import record
from tinygrad_rnn.graphs.operations.view import operations
from tinygrad_rnn.pictures.scene.text import text_width


def picture(target, *example, gradients=True, steps=None, **cuts):
    graph = record(target, example, **cuts)
    return operations(flow_of(graph) if gradients else Flow(graph), Options(steps=steps))


def model_and_text(cell="rnn", layers=1, T=5):
    rng = np.random.default_rng(0)
    text = rng.integers(0, 9, (2, T + 1))
    return tr.RNNLM(9, 6, 5, rng, cell=cell, layers=layers), text[:, :-1], text[:, 1:]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_nothing_overlaps(cell, layers):
    scene = picture(*model_and_text(cell, layers), cut_every=2, steps=3)
    assert list(faults(scene)) == []


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_each_module_has_a_region_of_its_own(cell):
    scene = picture(*model_and_text(cell, layers=2), cut_every=2, steps=3)
    labels = [label.text for label in scene.labels if not label.warn]
    assert {"embedding", "layers.0", "layers.1", "output"} <= set(labels)
    assert len(scene.regions) == 4
    for region in scene.regions:
        inside = [
            box
            for box in scene.boxes
            if abs(box.x - region.x) < (region.width + box.width) / 2
            and abs(box.y - region.y) < (region.height + box.height) / 2
        ]
        assert inside
        assert all(box.kind in ("operation", "state", "parameter") for box in inside)
        for edge in scene.edges:  # what has no end in a region stays outside
            if not {edge.tail, edge.head} & {box.id for box in inside}:
                points = np.array(edge.points)
                away = np.abs(points - (region.x, region.y)) >= np.array((region.width, region.height)) / 2 - 0.1
                assert away.any(axis=1).all()


def test_lines_meet_their_boxes():
    scene = picture(*model_and_text("gru"))
    for edge in scene.edges:
        tail, head = scene.box(edge.tail), scene.box(edge.head)
        for (x, y), box in ((edge.points[0], tail), (edge.points[-1], head)):
            assert abs(x - box.x) <= box.width / 2 + 1
            assert abs(y - box.y) <= box.height / 2 + 1
        assert tail.y > head.y  # values flow upward


def test_a_step_stands_between_its_neighbours():
    scene = picture(*model_and_text(), steps=3)
    assert "step t = 3 of 5" in scene.subtitle
    titles = [box.title for box in scene.boxes]
    assert sorted(title for title in titles if title.startswith("h_")) == ["h_{2}", "h_{3}"]
    assert "t = 4" in titles
    assert "ℓ_{3}" in titles
    assert titles.count("L") == 1


def test_the_first_step_reads_no_state_and_the_last_hands_none_on():
    first, last = (picture(*model_and_text(), steps=number) for number in (1, 5))
    assert "t = 2" in [box.title for box in first.boxes]
    assert not any(box.title.startswith("t =") for box in last.boxes)


def test_cuts_are_scissors_on_a_dashed_line():
    scene = picture(*model_and_text(), steps=3, cut_every=2)
    (cut,) = (box for box in scene.boxes if box.kind == "cut")
    into, out = (next(e for e in scene.edges if getattr(e, end) == cut.id) for end in ("head", "tail"))
    assert (into.kind, out.kind) == ("cut", "cut")
    lit = next(iter(scene.reach.values()))
    assert out.head in lit
    assert lit.isdisjoint([out.id, cut.id, into.id, into.tail])
    scaled = picture(*model_and_text(), steps=3, truncation=tr.Decay(0.5))
    (cut,) = (box for box in scaled.boxes if box.kind == "cut")
    assert (cut.title, cut.factor) == ("× 0.5", 0.5)
    into, out = (next(e for e in scaled.edges if getattr(e, end) == cut.id) for end in ("head", "tail"))
    assert into.magnitude == pytest.approx(0.5 * out.magnitude, rel=1e-5)


def test_a_graph_without_steps():
    model = tr.CBOW(9, 4, 2, np.random.default_rng(0))
    loss = model.loss(np.zeros((3, 2), int), np.zeros(3, int))
    scene = picture(loss)
    assert list(faults(scene)) == []
    assert [box.title for box in scene.boxes if box.kind == "operation"] == ["lookup", "Σ", "×", "+"]
    assert scene.reach.keys() == {box.id for box in scene.boxes if box.strong}


def test_magnitudes_are_those_of_the_gradient():
    x = tr.tensor([3.0, 4.0], requires_grad=True, name="x")
    y = x * 2.0
    loss = np.sum(y * y)
    scene = picture(loss)
    (edge,) = (edge for edge in scene.edges if scene.box(edge.tail).title == "x")
    assert edge.magnitude == pytest.approx(float(np.linalg.norm(tr.grad(loss, x))))


def test_a_leaf_that_is_read_at_many_places_stands_at_each_of_them():
    x = tr.tensor(np.ones(3), requires_grad=True, name="x")
    y = x
    for _ in range(20):
        y = tr.tanh(y) * x
    scene = picture(np.sum(y))
    assert list(faults(scene)) == []
    boxes = [box for box in scene.boxes if box.title == "x"]
    assert len(boxes) == 21
    assert all(box.rows[-1].text == "read 21 times" for box in boxes)


@pytest.mark.parametrize("steps", [9, 0, (2, 3), ()])
def test_a_step_that_is_not_there(steps):
    with pytest.raises(DrawingError, match=r"one of 1 to 5, got"):
        picture(*model_and_text(), steps=steps)


def test_too_many_boxes_name_the_rolled_view(monkeypatch):
    monkeypatch.setattr(options, "MOST_BOXES", 10)
    with pytest.raises(DrawingError, match=r"more than 10 cannot .*rolled"):
        picture(*model_and_text())


def test_values_that_are_not_finite_are_marked():
    x = tr.tensor([0.0, 1.0], requires_grad=True, name="x")
    with np.errstate(all="ignore"):
        y = tr.log(x)
        scene = picture(np.sum(y * 2.0))
    (box,) = (box for box in scene.boxes if box.title == "log")
    assert [row.text for row in box.rows if row.warn] == ["2, 1 not finite"]


def test_a_number_that_an_operation_takes_stands_in_its_box():
    x = tr.tensor([1.0, 2.0], requires_grad=True, name="x")
    scene = picture(np.sum((1 - x) * 0.5 + 3) / 2)
    titles = [box.title for box in scene.boxes if box.kind == "operation"]
    assert titles == ["1 −", "⊙ 0.5", "+ 3"]


def test_a_state_that_is_read_several_times_elsewhere_gets_the_joint_gradient():
    x = tr.tensor([3.0, 4.0], requires_grad=True, name="x")
    with tr.at_step(0):
        h = x * 2.0
    with tr.at_step(1):
        loss = np.sum(h * 3.0 - h)
    scene = picture(loss, steps=1)
    (edge,) = (edge for edge in scene.edges if scene.box(edge.head).title == "t = 2")
    assert edge.magnitude == pytest.approx(float(np.linalg.norm([2.0, 2.0])))


@pytest.mark.parametrize("view", VIEWS)
def test_a_long_title_fits_into_the_picture(view):
    title = "A headline that is longer than the picture of two small operations is wide"
    cell = tr.RNNCell(1, 1, np.random.default_rng(0))
    scene = tr.draw(cell, np.ones((1, 2, 1), np.float32), view=view, title=title).scene
    assert scene.width >= text_width(title, 19, strong=True) + 30


def test_names_of_parts_that_are_closer_than_they_are_wide_do_not_overlap():
    scene = picture(tr.MinGRUCell(3, 4, np.random.default_rng(0)), np.ones((2, 3, 3), np.float32), steps=[2])
    assert list(faults(scene)) == []
    assert {"gate", "n"} <= {label.text for label in scene.labels}
