"""The rolled view: what it shows, and that nothing overlaps."""

import itertools

import numpy as np
import pytest
from geometry import faults
from leaky import LeakyCell

import tinygrad_rnn as tr
from tinygrad_rnn.graphs.model.flow import Flow, flow_of
from tinygrad_rnn.graphs.model.options import Options
from tinygrad_rnn.graphs.model.record import record
from tinygrad_rnn.graphs.rolled.view import rolled, when
from tinygrad_rnn.pictures.scene.curves import bezier


def picture(target, *example, gradients=True, depth=None, **cuts):
    graph = record(target, example, **cuts)
    return rolled(flow_of(graph) if gradients else Flow(graph), Options(notes=graph.notes, depth=depth))


def model_and_text(cell="rnn", layers=1, T=8, **settings):
    rng = np.random.default_rng(0)
    model = tr.RNNLM(9, 6, settings.pop("hidden_size", 5), rng, cell=cell, layers=layers, **settings)
    text = rng.integers(0, 9, (2, T + 1))
    return model, text[:, :-1], text[:, 1:]


CELLS = ["rnn", "lstm", "gru", LeakyCell]


@pytest.mark.sample(8)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("gradients", [False, True])
def test_nothing_overlaps_and_no_line_runs_through_a_box(cell, layers, gradients):
    scene = picture(*model_and_text(cell, layers), gradients=gradients, cut_every=3)
    assert list(faults(scene)) == []
    assert sum(box.kind == "delay" for box in scene.boxes) == layers * (2 if cell == "lstm" else 1)
    assert (scene.scale is not None) == gradients
    assert bool(scene.bars) == gradients


@pytest.mark.parametrize("cell", CELLS)
def test_a_whole_sequence_recorded_by_the_user(cell):
    model, ids, targets = model_and_text(cell, 2)
    scene = picture(model.loss(ids, targets)[0])
    assert list(faults(scene)) == []
    titles = [box.title for box in scene.boxes]
    assert titles.count("stack") == titles.count("steps") == 1  # between the layers they undo each other
    assert [box.title for box in scene.boxes if box.strong] == ["L"]


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: tr.unroll(tr.RNNCell(3, 4, rng), np.ones((2, 35, 3)))[1],
        lambda rng: tr.unroll(tr.Stacked([tr.RNNCell(3, 4, rng), tr.LSTMCell(4, 5, rng)]), np.ones((2, 4, 3)))[0],
        lambda rng: tr.bidirectional(tr.RNNCell(3, 4, rng), tr.RNNCell(3, 4, rng), np.ones((2, 5, 3)))[0],
        lambda rng: tr.unroll(tr.GRUCell(3, 4, rng, reset="before"), np.ones((2, 4, 3)))[0],
    ],
)
def test_other_recurrences(make):
    assert list(faults(picture(np.sum(make(np.random.default_rng(0)))))) == []


def test_tied_weights_are_read_from_two_modules():
    scene = picture(*model_and_text("lstm", 1, hidden_size=6, tied=True))
    assert list(faults(scene)) == []


def test_what_stands_in_the_picture_of_an_rnn():
    scene = picture(*model_and_text(), cut_every=3)
    titles = {box.id: box.title for box in scene.boxes}
    inside = ["id_{t}", "lookup", "z⁻¹", "×", "×", "+", "h_{t}", "×", "+", "target_{t}", "ℓ_{t}"]
    assert sorted(titles.values()) == sorted(["", "L", *inside, "W", "Wx", "Wh", "b", "W", "b"])
    assert [label.text for label in scene.labels if label.warn and "cut" in label.text] == ["cut every 3 steps"]
    assert {label.text for label in scene.labels} >= {
        "layers.0 · × 8 steps",
        "embedding · × 8 steps",
        "output · × 8 steps",
    }
    assert "one step, repeated 8 times" in scene.subtitle
    (delay,) = (box for box in scene.boxes if box.kind == "delay")
    (state,) = (box for box in scene.boxes if box.kind == "state")
    loop = {edge.id: edge for edge in scene.edges if edge.id.startswith("loop")}
    assert [(edge.tail, edge.head) for edge in loop.values()] == [(state.id, "cut delay0"), ("cut delay0", delay.id)]


def test_bars_are_the_norms_of_the_state_gradient_with_scissors_between():
    model, ids, targets = model_and_text(T=8)
    scene = picture(model, ids, targets, cut_every=3)
    norms = []
    for t in range(1, 8):
        state, total = model.initial_state(2), 0.0
        for step in range(8):
            state = tr.cut(state) if step and step % 3 == 0 else state
            if step == t:
                before = state = (state[0] * 1.0,)  # its cotangent is what step t sends back
            loss, state = model.loss(ids[:, step : step + 1], targets[:, step : step + 1], state)
            total = total + loss / 8
        norms.append(0.0 if t % 3 == 0 else float(np.linalg.norm(tr.grad(total, before[0]))))
    assert [bar.magnitude for bar in scene.bars] == pytest.approx([norm for norm in norms if norm], rel=1e-5)
    assert sum(label.text == "✂" for label in scene.labels) == 2


def test_parameters_show_the_norm_of_their_whole_gradient():
    model, ids, targets = model_and_text()
    scene = picture(model, ids, targets)
    gradients = tr.grad(model.loss(ids, targets)[0], model.parameters())
    shown = sorted(box.rows[-1].magnitude for box in scene.boxes if box.kind == "parameter")
    assert shown == pytest.approx(sorted(float(np.linalg.norm(g)) for g in gradients.values()), rel=1e-5)


@pytest.mark.parametrize(
    ("policy", "badge", "words"),
    [
        (tr.Chunked(3), "", "cut every 3 steps"),
        (tr.Chunked(1), "", "cut every step"),
        (tr.Decay(0.5), "× 0.5", "each step"),
        (tr.Randomized(c=0.3, rng=1), "", "else × 1.4"),
        (tr.Windowed(3), "✂", "in some passes"),
    ],
)
def test_truncation_is_marked_on_the_loop(policy, badge, words):
    scene = picture(*model_and_text(T=9), truncation=policy)
    assert list(faults(scene)) == []
    (box,) = (box for box in scene.boxes if box.kind == "cut")
    assert box.title == badge
    assert any(words in label.text for label in scene.labels if label.warn)


def test_a_loop_that_is_cut_at_every_step_carries_no_gradient():
    scene = picture(*model_and_text(T=5), truncation=tr.Chunked(1))
    assert {edge.kind for edge in scene.edges if edge.id.startswith("loop")} == {"cut"}
    assert not scene.bars


def test_the_loss_reaches_everything_but_data():
    scene = picture(*model_and_text("lstm", 2))
    lit = next(iter(scene.reach.values()))
    assert {box.kind for box in scene.boxes if box.id not in lit} == {"input"}
    assert all(edge.id in lit for edge in scene.edges if edge.kind == "gradient")


def test_steps_that_do_not_match_are_drawn_unrolled_with_the_reason():
    cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    outputs, _ = tr.unroll(cell, np.ones((2, 5, 3), np.float32), lengths=[3, 5])
    scene = picture(np.sum(outputs), gradients=False)
    assert "not rolled: step t = " in scene.subtitle
    assert "where" in scene.subtitle
    assert not any(box.kind == "delay" for box in scene.boxes)


@pytest.mark.parametrize(
    ("cuts", "passes", "words"),
    [
        ([9, 19, 29], 34, "every 10 steps"),
        ([0, 1, 2], 3, "every step"),
        ([4], 7, "before t = 6"),
        ([1, 2], 7, "before t = 3, 4"),
        ([0, 3, 4, 6, 20], 34, "5 of 34 times"),
        ([2, 6], 8, "every 4 steps"),
        ([3, 5], 8, "before t = 5, 7"),
    ],
)
def test_when_cuts_stand_in_words(cuts, passes, words):
    assert when(cuts, passes) == words


def test_many_passes_share_bars():
    cell = tr.RNNCell(3, 4, np.random.default_rng(0), dtype=np.float64)
    outputs, _ = tr.unroll(cell, np.random.default_rng(1).standard_normal((2, 300, 3)))
    scene = picture(np.sum(outputs))
    assert list(faults(scene)) == []
    assert 20 < len(scene.bars) < 300


def test_the_same_program_gives_the_same_picture():
    first, second = (picture(*model_and_text("gru", 2), cut_every=3) for _ in range(2))
    assert first == second


def lines_of(edge):
    """Return the pieces of an edge's path, as pairs of points."""
    points = bezier(edge)
    return list(itertools.pairwise([points[0], *points[3::3]]))


def test_a_line_to_another_row_crosses_no_cell():
    cells = [tr.GRUCell(3, 4, np.random.default_rng(0)), tr.RNNCell(3, 4, np.random.default_rng(1))]
    scene = picture(np.sum(tr.bidirectional(*cells, np.ones((2, 5, 3)))[0]))
    boxes = {box.id: box for box in scene.boxes}
    for region in scene.regions:
        left, right = region.x - region.width / 2, region.x + region.width / 2
        top, bottom = region.y - region.height / 2, region.y + region.height / 2
        for edge in scene.edges:
            ends = [boxes[id] for id in (edge.tail, edge.head)]
            if not any(left < box.x < right and top < box.y < bottom for box in ends):
                for (ax, ay), (bx, by) in lines_of(edge):
                    apart = max(ax, bx) <= left or min(ax, bx) >= right or max(ay, by) <= top or min(ay, by) >= bottom
                    assert apart, f"{edge.id} crosses {region.id}"


@pytest.mark.sample(6)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("gradients", [False, True])
def test_depth_one_draws_a_cell_as_one_box(cell, layers, gradients):
    scene = picture(*model_and_text(cell, layers), gradients=gradients, depth=1, cut_every=3)
    assert list(faults(scene)) == []
    states = [box for box in scene.boxes if box.kind == "state"]
    assert [box.title for box in states] == ["h_{t}, c_{t}" if cell == "lstm" else "h_{t}"] * layers
    titles = {box.title for box in scene.boxes}
    assert {"e_{t}", "y_{t}", "ℓ_{t}", "L"} <= titles
    assert not titles & {"×", "+", "tanh"}
    open_loops = [
        bar.magnitude for bar in picture(*model_and_text(cell, layers), gradients=gradients, cut_every=3).bars
    ]
    assert sorted(bar.magnitude for bar in scene.bars) == sorted(open_loops)


def test_the_gradient_of_several_readings_in_a_closed_cell_is_added_up_first():
    w = tr.tensor(np.eye(3) / 2, requires_grad=True, name="w")
    xs = [tr.tensor(np.full((1, 3), t + 1.0), requires_grad=True) for t in range(4)]
    h = np.zeros((1, 3))
    for t, x in enumerate(xs):
        with tr.at_step(t):
            h = tr.tanh(h @ w + x * x)  # two readings, that add up to 2 x g
    loss = np.sum(h)
    scene = picture(loss, depth=1)
    (line,) = (edge for edge in scene.edges if edge.tail.startswith("leaf"))
    norms = [np.linalg.norm(g) for g in tr.grad(loss, xs)]
    assert line.magnitude == pytest.approx(np.sqrt(np.mean(np.square(norms))))


def test_weights_that_two_rows_read_have_a_box_in_each():
    model, ids, targets = model_and_text("lstm", 2, hidden_size=6, tied=True)
    scene = picture(model.loss(ids, targets)[0])
    assert list(faults(scene)) == []
    assert [box.title for box in scene.boxes if box.kind == "parameter"].count("W") == 2
    assert len({box.id for box in scene.boxes}) == len(scene.boxes)


def test_layers_that_read_both_ways_come_after_what_they_read():
    rng = np.random.default_rng(0)
    embedding = tr.Embedding(9, 6, rng)
    layers = tr.SequenceModel("rnn", 6, 5, 2, rng, layers=2, bidirectional=True)
    scene = picture(tr.mse(layers(embedding(np.arange(8).reshape(2, 4))), np.ones((2, 4, 2))))
    assert list(faults(scene)) == []
    lowest = max(box.y for box in scene.boxes if box.kind == "delay")
    (delay,) = [box for box in scene.boxes if box.kind == "delay" and box.y == lowest]
    (lookup,) = [box for box in scene.boxes if box.title == "lookup"]
    assert lookup.right < delay.left


class Slow(tr.Module):
    """A cell with a state that follows another one, from which its output is made."""

    def initial_state(self, batch_size):
        return np.zeros((batch_size, 3)), np.zeros((batch_size, 3))

    def __init__(self):
        self.W = tr.parameter(np.eye(3) / 2)

    def __call__(self, x, state):
        fast, slow = state
        fast = np.tanh(fast @ self.W + x)
        slow = 0.9 * slow + fast * self.W[0]
        return fast * tr.sigmoid(slow), (fast, slow)


def test_lines_from_the_top_row_down_stay_below_the_headline():
    scene = picture(np.mean(tr.unroll(Slow(), np.ones((2, 4, 3)))[0]))
    highest = min(y for edge in scene.edges for _, y in edge.points)
    assert highest > 84.0, "the headline ends there"
