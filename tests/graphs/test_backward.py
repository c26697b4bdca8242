"""The backward view: what the rules made, at the level of their operations."""

import numpy as np
import pytest
from geometry import faults

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tensor import wrap
from tinygrad_rnn.errors import DrawingError
from tinygrad_rnn.graphs.model.flow import Flow, flow_of
from tinygrad_rnn.graphs.model.graph import read
from tinygrad_rnn.graphs.model.options import Options
from tinygrad_rnn.graphs.model.record import record
from tinygrad_rnn.graphs.operations.backward_diagram import RecordedBackward
from tinygrad_rnn.graphs.operations.view import backward


def picture(target, *example, gradients=True, steps=None, **cuts):
    graph = record(target, example, **cuts)
    return backward(flow_of(graph) if gradients else Flow(graph), Options(steps=steps))


def model_and_text(cell="rnn", T=4):
    rng = np.random.default_rng(0)
    text = rng.integers(0, 9, (2, T + 1))
    return tr.RNNLM(9, 6, 5, rng, cell=cell, dtype=np.float64), text[:, :-1], text[:, 1:]


def test_every_node_belongs_to_the_rule_that_made_it():
    model, ids, targets = model_and_text("gru")
    graph = record(model, (ids, targets))
    made = RecordedBackward(graph)
    forward = set(graph.nodes)
    new = [node for nodes in (*made.by.values(), *made.arrives.values()) for node in nodes]
    assert len(set(new)) == len(new)
    assert set(new) == set(made.values) - set(made.seeds)
    assert forward.isdisjoint(new)
    assert set(made.by) | set(made.arrives) <= forward


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_what_is_sent_adds_up_to_the_gradient(cell):
    model, ids, targets = model_and_text(cell)
    graph = record(model, (ids, targets))
    made = RecordedBackward(graph)
    (loss,) = (wrap(graph.value(place), *place) for place in graph.losses)
    gradients = tr.grad(loss, model.parameters())
    for parameter in graph.parameters:
        terms = [
            made.values[node] for (user, number), node in made.sent.items() if user.edges[number][0] is parameter.node
        ]
        assert np.allclose(sum(terms), gradients[parameter.name], rtol=1e-12, atol=1e-15)


def test_sums_stand_where_a_value_was_read_several_times():
    x = tr.tensor([1.0, 2.0], requires_grad=True)
    h = tr.tanh(x)
    graph = read([np.sum(h * h * h)])
    made = RecordedBackward(graph)
    assert [node.name for node in made.arrives[h.node]] == ["add", "add"]
    assert list(made.arrives) == [h.node]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("cuts", [{}, {"cut_every": 2}, {"truncation": "decay:0.5"}])
def test_nothing_overlaps_and_no_line_runs_through_a_box(cell, cuts):
    assert list(faults(picture(*model_and_text(cell), steps=3, **cuts))) == []


def test_levels_are_shared_and_lines_go_down_and_up():
    x = tr.tensor(np.ones((4, 3)), requires_grad=True, name="x")
    W = tr.tensor(np.ones((3, 5)), requires_grad=True, name="W")
    h = tr.tanh(x @ W)
    scene = picture(np.sum(h * h))
    assert list(faults(scene)) == []
    levels = {region.id: region for region in scene.regions}
    assert [label.text for label in scene.labels if label.text.startswith("rule of")] == [
        "rule of matmul",
        "rule of tanh",
        "rule of multiply",
        "rule of sum",
    ]

    def inside(level):
        region = levels[level]
        return [box for box in scene.boxes if abs(box.y - region.y) < region.height / 2]

    assert sorted((box.title, box.rows[0].text) for box in inside("level1")) == [
        ("+", "g + g"),
        ("tanh", "h"),
        ("−", "1 − (h ⊙ h)"),
        ("⊙", "g ⊙ (1 − (h ⊙ h))"),
        ("⊙", "h ⊙ h"),
    ]
    assert {box.rows[0].text for box in inside("level0")} == {"x·W", "g·Wᵀ", "xᵀ·g"}
    for edge in scene.edges:
        tail, head = scene.box(edge.tail), scene.box(edge.head)
        if edge.id.startswith("line"):
            assert tail.y < head.y
        elif edge.id.startswith("back"):
            assert tail.y > head.y
        else:
            assert edge.id.startswith("kept")
            assert tail.x < head.x
    assert {
        (scene.box(e.tail).title, scene.box(e.head).rows[0].text) for e in scene.edges if e.id.startswith("kept")
    } == {
        ("x", "xᵀ·g"),
        ("W", "g·Wᵀ"),
        ("tanh", "h ⊙ h"),
        ("tanh", "g ⊙ h"),
    }


def test_the_gradients_stand_beside_what_they_are_gradients_of():
    scene = picture(*model_and_text(), steps=2)
    titles = {box.title: box for box in scene.boxes}
    for name in ("Wx", "Wh", "h_{1}"):
        assert titles[name].kind == titles[f"∂{name}"].kind
        assert titles[name].y == pytest.approx(titles[f"∂{name}"].y, abs=0.1)
    # Where the state is read next, and where its cotangent comes from; where the loss goes, and the seed.
    assert sorted(box.title for box in scene.boxes if box.kind == "constant") == ["L", "L", "t = 3", "t = 3"]
    assert "step t = 2" in scene.subtitle


def test_what_is_no_cotangent_has_no_magnitude():
    x = tr.tensor(np.full(3, 5.0), requires_grad=True, name="x")
    scene = picture(np.sum(tr.tanh(x)))
    lines = [(scene.box(edge.tail), edge) for edge in scene.edges if edge.id.startswith("back")]
    by_tail = {box.rows[0].text: edge for box, edge in lines if box.kind == "operation"}
    assert by_tail["y ⊙ y"].magnitude is None
    assert by_tail["1 − (y ⊙ y)"].magnitude is None
    assert by_tail["g ⊙ (1 − (y ⊙ y))"].magnitude == pytest.approx(3**0.5 / np.cosh(5.0) ** 2, rel=1e-6)


def test_a_closed_cut_sends_nothing_and_a_scaled_one_multiplies():
    cut = picture(*model_and_text(), steps=3, cut_every=2)
    assert not any(box.title == "∂h_{2}" for box in cut.boxes)
    scaled = picture(*model_and_text(), steps=3, truncation="decay:0.5")
    assert any(box.title == "∂h_{2}" for box in scaled.boxes)
    assert any(row.text == "g ⊙ 0.5" for box in scaled.boxes for row in box.rows)


def test_the_graph_itself_stays_as_it_was():
    model, ids, targets = model_and_text()
    loss, _ = model.loss(ids, targets)
    before = tr.grad(loss, model.parameters())
    picture(loss)
    after = tr.grad(loss, model.parameters())
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters().values())


def test_a_step_that_is_not_there():
    with pytest.raises(DrawingError, match="backward.*one of 1 to 4"):
        picture(*model_and_text(), steps=7)
