import itertools

import numpy as np
import pytest
from graph_cases import CASES, bidirectional, lstm, rnn, two_losses

import tinygrad_rnn as tr
from tinygrad_rnn.errors import DrawingError
from tinygrad_rnn.graphs.model.flow import Flow, flow_of
from tinygrad_rnn.graphs.model.graph import read
from tinygrad_rnn.graphs.model.options import Options
from tinygrad_rnn.graphs.model.table import shown_times
from tinygrad_rnn.graphs.unrolled.view import unrolled
from tinygrad_rnn.pictures.scene.curves import bezier
from tinygrad_rnn.pictures.scene.text import text_width, title_width
from tinygrad_rnn.pictures.scene.texts import texts_of


def scene_of(case, gradients=True, **options):
    graph = read(case.losses)
    return unrolled(flow_of(graph) if gradients else Flow(graph), Options(**options))


# What stands in the second column (a box on the whole sequence counts everywhere), bottom first.
COLUMNS = {
    "rnn": "x_{2} h_{2} y_{2} ℓ_{2}",
    "rnn cut": "x_{2} h_{2} y_{2} ℓ_{2}",
    "lstm": "x_{2} h_{2}, c_{2} y_{2} ℓ_{2}",
    "model": "e_{1…6} h_{2}, c_{2} h_{2}, c_{2} y_{1…6}",
    "tied, dropout": "e_{1…6} h_{2}, c_{2} h_{2}, c_{2} y_{1…6}",
    "model by step": "x_{2} e_{2} h_{2} h_{2} y_{2} ℓ_{2}",
    "stacked": "x_{2} h_{2} h_{2}, c_{2}",
    "bidirectional": "x_{2} h_{2} h_{2}",
    "two speeds": "x_{2} slow_{2}, fast_{2}",
    "two losses": "x_{2} h_{2} y_{2} y′_{2} ℓ_{2} ℓ′_{2}",
    "encoder and decoder": "x_{2} x′_{2} h_{2} h_{2}",
    "masked": "x_{2} h_{2}, c_{2}",
    "stack of losses": "x_{2} h_{2} y_{2} ℓ_{2}",
}


@pytest.mark.parametrize("name", COLUMNS)
def test_rows_stand_in_the_order_of_the_computation(name):
    scene = scene_of(CASES[name](), gradients=False)
    column = [
        box
        for box in scene.boxes
        if ("_{2}" in box.title or "…" in box.title) and box.kind != "constant" and not box.title.startswith("L")
    ]
    column.sort(key=lambda box: (-box.y, box.x))
    assert " ".join(box.title for box in column) == COLUMNS[name]


def inside(x, y, box, margin):
    return abs(x - box.x) < box.width / 2 - margin and abs(y - box.y) < box.height / 2 - margin


def along(edge):
    """Yield points of an edge, closer to each other than the size of any box."""
    path = bezier(edge)
    for at in range(0, len(path) - 3, 3):
        corners = np.array(path[at : at + 4])
        for u in np.linspace(0, 1, 2 + int(np.abs(np.diff(corners, axis=0)).sum() / 6)):
            weights = np.array([(1 - u) ** 3, 3 * (1 - u) ** 2 * u, 3 * (1 - u) * u**2, u**3])
            yield tuple(weights @ corners)


@pytest.mark.sample(12)
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_nothing_lies_on_anything_else(name, depth):
    scene = scene_of(CASES[name](), depth=depth)
    solid = [box for box in scene.boxes if box.kind != "frame"]
    for a, b in itertools.combinations(solid, 2):
        apart = abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= (a.height + b.height) / 2
        assert apart, (a.title, b.title)
    for edge in scene.edges:
        ends = {edge.tail, edge.head}
        for x, y in along(edge):
            crossed = [box.title for box in solid if box.id not in ends and inside(x, y, box, 1.5)]
            assert not crossed, (edge.id, crossed)
    for box in scene.boxes:
        assert box.x - box.width / 2 >= 0
        assert box.x + box.width / 2 <= scene.width
        assert box.y + box.height / 2 <= scene.height


@pytest.mark.sample(8)
@pytest.mark.parametrize("name", CASES)
def test_text_stays_in_its_box(name):
    scene = scene_of(CASES[name]())
    for box in scene.boxes:
        for text in texts_of(box, scene.scale):
            wide = (title_width if text.symbols else text_width)(text.text, text.size, text.strong)
            if box.kind not in ("cut", "elision"):
                assert wide <= box.width, (box.title, text.text)
                assert abs(text.y - box.y) + text.size / 2 <= box.height / 2, (box.title, text.text)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "model", "bidirectional", "rnn 35 steps"])
def test_the_state_belt_is_straight_and_level(name):
    scene = scene_of(CASES[name]())
    kind = {box.id: box.kind for box in scene.boxes}
    carriers = ("state", "constant", "elision", "cut")
    belts = [e for e in scene.edges if kind.get(e.tail) in carriers and kind.get(e.head) in carriers]
    across = [e for e in belts if e.points[0][0] != e.points[-1][0]]
    assert across
    for edge in across:
        assert len(edge.points) == 2
        assert edge.points[0][1] == edge.points[1][1]


def test_a_line_to_a_step_is_as_thick_as_what_this_step_adds():
    """Give each step parameters of its own: their gradients are the terms of the shared ones."""
    case = rnn(3)
    scene = scene_of(case)
    cell, Wy, by = case.alive
    rng = np.random.default_rng(7)
    rng.standard_normal((4, 5))
    copies, total, h = [], 0.0, np.zeros((2, 4))
    for _ in range(3):
        own = {name: tr.tensor(p.data, requires_grad=True) for name, p in cell.parameters().items()}
        h = np.tanh(rng.standard_normal((2, 3)) @ own["Wx"] + h @ own["Wh"] + own["b"])
        total = total + tr.cross_entropy(h @ Wy + by, rng.integers(0, 5, 2))
        copies.append(own)
    expected = []
    for own in copies:
        gradients = tr.grad(total, own, allow_unused=True)
        expected.append(np.sqrt(sum(np.sum(g * g) for g in gradients.values())))
    box = next(box for box in scene.boxes if box.kind == "parameter" and box.title.startswith("RNNCell"))
    drops = [edge for edge in scene.edges if edge.tail == box.id and edge.head]
    drops.sort(key=lambda edge: edge.points[-1][0])
    np.testing.assert_allclose([edge.magnitude for edge in drops], expected)
    stem = next(edge for edge in scene.edges if edge.id == f"{box.id}-stem")
    whole = tr.grad(case.losses[0], cell.parameters())
    np.testing.assert_allclose(stem.magnitude, np.sqrt(sum(np.sum(g * g) for g in whole.values())))


def test_the_gradient_of_a_belt_is_that_of_the_state():
    cell = tr.GRUCell(2, 3, np.random.default_rng(0), np.float64)  # a GRU reads its state three times
    h, states, losses = cell.initial_state(1), [], []
    for t in range(3):
        with tr.at_step(t):
            _, h = cell(np.full((1, 2), t + 1.0), h)
            states.append(h)
            losses.append(np.mean(h * h))
    graph = read([losses[0] + losses[1] + losses[2]])
    scene = unrolled(flow_of(graph), Options())
    kind = {box.id: box.kind for box in scene.boxes}
    belts = [e for e in scene.edges if kind.get(e.tail) == kind.get(e.head) == "state"]
    belts.sort(key=lambda edge: edge.points[0][0])
    # What passes the line of the state after step t comes from the losses after it.
    expected = [np.linalg.norm(tr.grad(losses[t + 1 :], states[t])) for t in range(2)]
    np.testing.assert_allclose([edge.magnitude for edge in belts], expected)


def test_of_many_steps_the_middle_is_left_out_and_said():
    scene = scene_of(rnn(35))
    titles = [box.title for box in scene.boxes if box.kind == "state"]
    assert titles == ["h_{1}", "h_{2}", "h_{33}", "h_{34}", "h_{35}"]
    elision = next(box for box in scene.boxes if box.kind == "elision")
    assert elision.rows[0].text == "30 steps"
    stubs = [edge for edge in scene.edges if elision.id in (edge.tail, edge.head)]
    assert len(stubs) == 2
    assert all(edge.magnitude for edge in stubs)
    assert "35 steps, 30 not shown" in scene.subtitle


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        (None, [0, 1, 7, 8, 9]),
        (1, [9]),
        (2, [0, 9]),
        (3, [0, 8, 9]),
        (5, [0, 1, 7, 8, 9]),
        (10, list(range(10))),
        (99, list(range(10))),
        ([1, 4, 10], [0, 3, 9]),
    ],
)
def test_which_steps_are_shown(steps, shown):
    assert shown_times(range(10), steps) == shown


@pytest.mark.parametrize("steps", [[11], [], [0]])
def test_steps_that_do_not_exist_are_named(steps):
    with pytest.raises(DrawingError, match="steps"):
        shown_times(range(10), steps)


def test_steps_of_a_graph_without_steps_are_refused():
    with pytest.raises(DrawingError, match=r"\(none, without unroll or at_step\(t\)\), got \[1\]"):
        shown_times([], [1])


def test_a_cut_is_scissors_on_a_dashed_edge_between_two_windows():
    scene = scene_of(lstm(4, cut_every=2))
    cut = next(box for box in scene.boxes if box.kind == "cut")
    assert cut.factor == 0
    edges = [edge for edge in scene.edges if cut.id in (edge.tail, edge.head)]
    assert [edge.kind for edge in edges] == ["cut"] * 4  # h and c, on both sides
    assert [region.label[-1] for region in scene.regions if region.kind == "window"] == ["1", "2"]
    left = next(region for region in scene.regions if region.kind == "window")
    assert left.x + left.width / 2 < cut.x


def test_a_scaled_cut_shows_its_factor_and_both_gradients():
    scene = scene_of(rnn(3, cut_every=1, scale=0.25))
    cut = next(box for box in scene.boxes if box.kind == "cut")
    assert cut.title == "× 0.25"
    before = next(edge for edge in scene.edges if edge.head == cut.id)
    after = next(edge for edge in scene.edges if edge.tail == cut.id)
    assert before.magnitude == pytest.approx(0.25 * after.magnitude)


def test_what_a_loss_reaches_ends_at_a_cut():
    scene = scene_of(rnn(4, cut_every=2))
    title = {box.id: box.title for box in scene.boxes}
    of = {title[id]: {title.get(other, "") for other in lit} for id, lit in scene.reach.items()}
    assert {"h_{1}", "h_{2}", "h_{3}", "h_{4}"} <= of["L"]
    assert {"h_{3}", "h_{4}", "y_{4}"} <= of["ℓ_{4}"]
    assert not of["ℓ_{4}"] & {"h_{1}", "h_{2}", "y_{3}"}
    assert {"h_{1}", "h_{2}"} <= of["ℓ_{2}"]
    assert "h_{3}" not in of["ℓ_{2}"]
    last = next(id for id, name in title.items() if name == "ℓ_{4}")
    cut = next(box for box in scene.boxes if box.kind == "cut")
    assert not any(edge.head == cut.id and edge.id in scene.reach[last] for edge in scene.edges)


def test_several_losses_have_a_reach_each():
    scene = scene_of(two_losses())
    title = {box.id: box.title for box in scene.boxes}
    of = {title[id]: {title.get(other, "") for other in lit} for id, lit in scene.reach.items()}
    assert "y_{3}" in of["L_{1}"]
    assert "y′_{2}" not in of["L_{1}"]
    assert "h_{3}" not in of["L_{2}"]
    assert "h_{2}" in of["L_{2}"]


def test_a_cell_that_reads_from_the_end_runs_left():
    scene = scene_of(bidirectional())
    kind = {box.id: box.kind for box in scene.boxes}
    belts = [e for e in scene.edges if kind.get(e.tail) == kind.get(e.head) == "state"]
    ways = {edge.points[0][1]: np.sign(edge.points[1][0] - edge.points[0][0]) for edge in belts}
    assert sorted(ways.values()) == [-1, 1]


def test_values_that_are_not_finite_and_gradients_that_vanish_are_marked():
    cell = tr.RNNCell(2, 3, np.random.default_rng(0))
    x = np.ones((1, 3, 2), np.float32)
    x[0, 1, 0] = np.nan
    outputs, _ = tr.unroll(cell, x)
    scene = scene_of(type("Case", (), {"losses": [np.sum(outputs)]}))
    warned = {box.title: [row.text for row in box.rows if row.warn] for box in scene.boxes}
    assert "3 of 3 not finite" in warned["h_{2}"]
    assert warned["L"]
    faint = scene_of(rnn(35, only_last=True))
    first = next(box for box in faint.boxes if box.title == "h_{1}")
    shown = [row.text for row in first.rows if row.warn]
    assert not shown or "vanished" in shown[0]


def test_depth_2_opens_a_cell_to_its_operations():
    scene = scene_of(lstm(4), depth=2)
    frames = [box.title for box in scene.boxes if box.kind == "frame"]
    assert frames == ["h_{1}, c_{1}", "h_{4}, c_{4}"]
    inner = [box.title for box in scene.boxes if box.kind == "operation" and box.id.startswith("o")]
    assert inner.count("σ") == 2
    assert inner.count("×") == 4
    assert {label.text for label in scene.labels} >= {"i", "f", "o"}


def test_the_last_steps_of_sequences_are_no_reversal():
    model = tr.SequenceModel("gru", 3, 4, 2, np.random.default_rng(0), last=True)
    xs = np.random.default_rng(1).standard_normal((2, 5, 3))
    scene = tr.draw(tr.cross_entropy(model(xs, lengths=[5, 2]), [0, 1]), gradients=True).scene
    assert not any("backward" in label.text for label in scene.labels)
    edges = {(edge.tail, edge.head) for edge in scene.edges}
    for t in range(1, 5):
        here, after = (next(box for box in scene.boxes if box.title == f"h_{{{step}}}") for step in (t, t + 1))
        assert here.x < after.x
        assert (here.id, after.id) in edges


class Twice(tr.Module):
    """A cell of two linear layers."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.read, self.write = tr.Linear(3, 4, rng), tr.Linear(4, 4, rng)

    def initial_state(self, batch_size):
        return np.zeros((batch_size, 4), np.float32)

    def __call__(self, x, h):
        h = np.tanh(self.read(x) + self.write(h))
        return h, h


@pytest.mark.parametrize("view", ["unrolled", "rolled", "ops", "backward"])
def test_parameters_of_one_name_are_told_apart(view):
    scene = tr.draw(Twice(), np.ones((1, 3, 3), np.float32), view=view).scene
    boxes = [box for box in scene.boxes if box.kind == "parameter" and not box.title.startswith("∂")]
    named = [row.text.split("\t")[0] for row in boxes[0].rows] if view == "unrolled" else [box.title for box in boxes]
    assert sorted(named) == ["read.W", "read.b", "write.W", "write.b"]


def test_stacked_cells_keep_their_formulas_and_the_short_names_of_their_parameters():
    rng = np.random.default_rng(0)
    layers = tr.Stacked([tr.RNNCell(3, 4, rng), tr.RNNCell(4, 4, rng)])
    scene = tr.draw(layers, np.ones((1, 3, 3), np.float32)).scene
    formulas = {row.text for box in scene.boxes if box.kind == "state" for row in box.rows}
    assert formulas == {"tanh(x·Wx + b + h·Wh)", "tanh(h·Wx + b + h·Wh)", "1×4"}
    tables = [box.rows for box in scene.boxes if box.kind == "parameter"]
    assert [[row.text.split("\t")[0] for row in rows] for rows in tables] == [["Wx", "Wh", "b"]] * 2
