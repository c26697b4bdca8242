"""Which operations are drawn as one box: cells, attentions, layers, losses."""

import numpy as np
import pytest
from graph_cases import CASES, rng, xs

import tinygrad_rnn as tr
from tinygrad_rnn.graphs import draw
from tinygrad_rnn.graphs.model.blocks import Blocks
from tinygrad_rnn.graphs.model.graph import read


def attend(query, keys):
    """Return the mean of keys (N, T, H), weighed by their products with a query (N, H)."""
    N, T, H = keys.shape
    weights = tr.softmax((keys @ query.reshape(N, H, 1)).reshape(N, T))
    return (weights.reshape(N, 1, T) @ keys).reshape(N, H)


def attentive(feeding):
    """Return the loss of a decoder that attends to the states of an encoder, before or after its cell."""
    encoder, decoder = tr.RNNCell(3, 4, rng(), np.float64), tr.GRUCell(4, 4, rng(), np.float64)
    output = tr.Linear(8, 5, rng(), np.float64)
    keys, h = tr.unroll(encoder, xs())
    total = 0.0
    for t in range(3):
        with tr.at_step(t):
            x = attend(h, keys) if feeding else xs()[:, t, :1] * np.ones(4)
            _, h = decoder(x, h)
            y = output(tr.concatenate([x if feeding else attend(h, keys), h], axis=-1))
            total = total + tr.cross_entropy(y, np.array([1, 2]))
    return total, (encoder, decoder, output)


@pytest.mark.parametrize("feeding", [False, True])
def test_attention_is_a_box_of_its_own_with_its_weights(feeding):
    loss, _alive = attentive(feeding)
    found = [block for block in Blocks(read([loss])).blocks if block.kind.role == "attention"]
    assert [block.step for block in found] == [0, 1, 2]
    assert all({"log_softmax", "exp", "matmul"} <= {op.name for op in block.ops} for block in found)
    boxes = draw(loss, view="unrolled").scene.boxes
    assert [box.title for box in boxes if box.title.startswith("a_")] == ["a_{1}", "a_{2}", "a_{3}"]
    assert all("weights 2×4 float64" in [row.text for row in box.rows] for box in boxes if box.title.startswith("a_"))
    linear = [box for box in boxes if box.title.startswith("y′_")]
    assert len(linear) == 3
    assert not any("softmax" in row.text for box in linear for row in box.rows)


def test_attention_over_a_whole_sequence_is_a_box_too():
    cell, W = tr.GRUCell(3, 4, rng(), np.float64), tr.tensor(np.ones((4, 3)), requires_grad=True, name="W")
    keys, h = tr.unroll(cell, xs())
    loss = tr.cross_entropy(attend(h, keys) @ W, np.array([0, 1]))
    (box,) = (box for box in draw(loss, view="unrolled").scene.boxes if box.title.startswith("a_"))
    assert [row.text for row in box.rows] == ["softmax(h·h)·h", "2×1×4 float64", "weights 2×4 float64"]


@pytest.mark.parametrize("case", CASES)
def test_every_operation_is_in_one_block_or_adds_up_a_loss(case):
    graph = read(CASES[case]().losses)
    blocks = Blocks(graph)
    inside = [node for block in blocks.blocks for node in block.nodes]
    assert len(inside) == len(set(inside))
    assert set(inside) == set(blocks.of)
    assert not set(inside) & frozenset().union(*blocks.sums)
    losses = {place[0] for place in graph.losses}
    assert losses <= set(inside) | frozenset().union(*blocks.sums)


def test_stacked_cells_in_one_module_are_told_apart_by_their_states():
    graph = read(CASES["stacked"]().losses)
    cells = {block.kind for block in Blocks(graph).blocks if block.kind.role == "cell"}
    assert sorted(kind.number for kind in cells) == [0, 1]
    labels = {label.text for label in draw(CASES["stacked"]().losses, view="rolled").scene.labels}
    assert {"RNNCell · × 4 steps", "LSTMCell · × 4 steps"} <= labels


def test_two_cells_of_one_module_are_numbered_within_it():
    layers = tr.RecurrentLayers("rnn", 3, 4, np.random.default_rng(0), layers=2, bidirectional=True)
    labels = {label.text for label in draw(layers, np.ones((2, 3, 3)), view="rolled", depth=1).scene.labels}
    assert {f"layers.{n} cell {m} · × 3 steps" for n in (0, 1) for m in (1, 2)} <= labels


class Traces(tr.Module):
    """Two states on one line, and a name that no box has room for; its loss is its only method."""

    def __init__(self):
        self.a_weight_with_a_very_long_name = tr.parameter(np.ones((3, 4)))

    def loss(self, xs):
        short = long = other = np.zeros((2, 4))
        for t in range(3):
            with tr.at_step(t):
                x = xs[:, t] @ self.a_weight_with_a_very_long_name
                short, long = 0.5 * short + x, 0.9 * long + 0.1 * x
                other = np.tanh(other + x)
                total = np.sum(np.concatenate([short, long, other, other], axis=1))
        return total


def test_states_that_one_line_assigns_have_names_of_their_own():
    scene = draw(Traces(), np.ones((2, 3, 3))).scene
    titles = {box.title for box in scene.boxes}
    assert {"short_{1}", "long_{1}", "other_{1}"} <= titles
    assert scene.title == "3 × Traces, unrolled"


def test_a_name_that_is_too_long_is_shortened():
    for view in ("unrolled", "rolled"):
        boxes = [box for box in draw(Traces(), np.ones((2, 3, 3)), view=view).scene.boxes if box.kind == "parameter"]
        texts = [text for box in boxes for text in (box.title, *(row.text for row in box.rows))]
        assert any(text.startswith("a_weight_with_a_ve") and "…" in text for text in texts), texts
        assert "a_weight_with_a_very_long_name" in boxes[0].tooltip


def test_results_that_are_joined_are_all_in_the_formula():
    scene = draw(Traces(), np.ones((2, 3, 3)), steps=[3]).scene
    assert any("join(short, long, other, other)" in row.text for box in scene.boxes for row in box.rows)


def test_states_that_feed_each_other_are_one_cell():
    blocks = Blocks(read(CASES["lstm"]().losses)).blocks
    assert {len(block.states) for block in blocks if block.kind.role == "cell"} == {2}


@pytest.mark.parametrize("view", ["unrolled", "rolled"])
def test_a_lookup_outside_any_module_is_an_embedding(view):
    cell, table = tr.RNNCell(4, 4, rng(), np.float64), tr.tensor(np.ones((9, 4)), requires_grad=True, name="table")
    state, total = cell.initial_state(2), 0.0
    for t in range(4):
        with tr.at_step(t):
            h, state = cell(tr.take(table, np.array([t, t + 1]), axis=0), state)
            total = total + np.sum(h)
    scene = draw(total, view=view).scene
    said = [box.title for box in scene.boxes] + [label.text for label in scene.labels]
    assert any(text.startswith("embedding") for text in said)
    assert not any(text.startswith("output") for text in said)


def test_a_function_in_the_method_of_a_cell_belongs_to_the_cell():
    cell = tr.Zoneout(tr.GRUCell(3, 4, np.random.default_rng(0)), 0.1)
    outputs, _ = tr.unroll(cell, np.ones((2, 3, 3), np.float32))
    assert draw(np.mean(outputs)).scene.title == "Zoneout, unrolled"


class Decaying(tr.Module):
    """A cell that weakens its state, and then is another one."""

    def __init__(self, cell):
        self.cell, self.w = cell, tr.parameter(np.ones(4), np.float32)

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def __call__(self, x, h):
        return self.cell(x, h * np.exp(-self.w))


class Mine(tr.GRUCell):
    """Computes what its class does."""


@pytest.mark.parametrize("view", ["unrolled", "rolled"])
@pytest.mark.parametrize("make", [lambda cell: Decaying(tr.GRUCell(*cell)), lambda cell: Mine(*cell)])
def test_a_cell_that_is_drawn_has_its_own_name(view, make):
    cell = make((3, 4, np.random.default_rng(0)))
    scene = draw(cell, np.ones((2, 3, 3), np.float32), view=view).scene
    assert scene.title == f"{type(cell).__name__}, {view}"
    assert "GRUCell" not in {row.text for box in scene.boxes for row in box.rows}
