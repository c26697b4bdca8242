"""Drawings of graphs."""

import re
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest
from geometry import faults
from replay import record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes import PASSES
from tinygrad_rnn.compiler.picture import prepared


def picture(graph, title="graph"):
    return prepared(graph, title)()


def nodes(drawing):
    """Return id to box."""
    return {box.id: box for box in drawing.scene.boxes}


def edges(drawing):
    """Return (tail, head) to the edges between them."""
    found = {}
    for edge in drawing.scene.edges:
        found.setdefault((edge.tail, edge.head), []).append(edge)
    return found


def leads_back(drawing):
    return [(edge.tail, edge.head) for edge in drawing.scene.edges if edge.kind == "next"]


def regions(drawing):
    """Return (label, ids of the boxes inside) of each region."""
    scene = drawing.scene
    found = []
    for region, label in zip(scene.regions, (label for label in scene.labels if "loop" in label.text), strict=True):
        inside = [
            box.id
            for box in scene.boxes
            if abs(box.x - region.x) < region.width / 2 and abs(box.y - region.y) < region.height / 2
        ]
        found.append((label.text, inside))
    return found


def said(drawing):
    """Return the texts of all boxes."""
    return [text for box in drawing.scene.boxes for text in (box.title, *(row.text for row in box.rows))]


def recurrent(T):
    cell = tr.RNNCell(3, 4, np.random.default_rng(0))

    def f(x):
        y, state = tr.unroll(cell, x)
        return state, tr.grad(np.sum(y * y), cell.parameters())

    return f, np.ones((2, T, 3), np.float32)


def test_every_call_input_parameter_constant_and_result_is_a_node_of_its_own_shape():
    w = tr.tensor(np.ones(3), requires_grad=True, name="w")
    graph = record(lambda x: np.tanh(w * x) + np.arange(3.0), np.ones(3)).graph
    drawing = picture(graph, "a title")
    kinds = {re.sub(r"\d", "", id): box.kind for id, box in nodes(drawing).items()}
    assert kinds == {
        "call": "operation",
        "input": "input",
        "parameter": "parameter",
        "constant": "constant",
        "result": "result",
    }
    assert sum(id.startswith("call") for id in nodes(drawing)) == 3
    assert (drawing.scene.title, drawing.scene.subtitle) == ("a title", "3 calls")
    assert all(box.rows[-1].text == "3" for box in drawing.scene.boxes)
    assert list(faults(drawing.scene)) == []


def by_hand(T):
    cell = tr.RNNCell(3, 4, np.random.default_rng(0))

    def f(xs, state):
        for t in range(T):
            with tr.at_step(t):
                _, state = cell(xs[t], state)
        return state, tr.grad(np.sum(state * state), cell.parameters())

    return f, np.ones((T, 2, 3), np.float32), np.zeros((2, 4), np.float32)


def test_a_small_graph_has_a_node_for_each_call_and_an_edge_for_each_operand():
    f, *args = by_hand(1)
    graph = record(f, *args).graph
    drawing = picture(graph)
    assert sum(name.startswith("call") for name in nodes(drawing)) == len(graph.calls)
    pairs = {(value, call) for call in graph.calls for value in call.values()}
    assert len(edges(drawing)) <= len(pairs) + len(graph.outputs)
    assert leads_back(drawing) == []


def test_a_long_sequence_written_by_hand_is_folded_over_time():
    (f, *short), (g, *long) = by_hand(10), by_hand(60)
    one, other = picture(record(f, *short).graph), picture(record(g, *long).graph)
    assert len(nodes(one)) == len(nodes(other)) < 60
    assert "60 times, steps 0 to 59" in said(other)
    assert leads_back(other)  # the state goes round


def test_a_loop_is_a_box_with_its_body_inside_once():
    (f, short), (g, long) = recurrent(113), recurrent(671)
    graph = record(g, long).graph
    drawn = picture(graph)
    other = picture(record(f, short).graph)
    assert [text.replace("113", "671") for text in said(other)] == said(drawn)
    assert [label for label, _ in regions(drawn)] == ["loop, T = 671 steps", "loop, T = 671 steps, in reverse"]
    bodies = [call.attrs["body"] for call in graph.calls if call.name == "loop"]
    for (_, inside), body in zip(regions(drawn), bodies, strict=True):
        kinds = Counter(name.rstrip("0123456789") for name in inside)
        assert kinds == {"call": len(body.graph.calls), "state": body.carried, "slice": body.sliced}
    assert sum(name.startswith("stack") for name in nodes(drawn)) == sum(
        len(body.graph.outputs) - body.carried for body in bodies
    )
    assert list(faults(drawn.scene)) == []


def test_what_a_loop_carries_goes_round_and_what_it_stacks_leaves_the_box():
    def f(x, h, w):
        return tr.scan(lambda x, h: (h * 2.0, np.tanh(h + x * w)), h, x, axis=0)

    drawing = picture(record(f, np.ones((7, 3)), np.zeros(3), np.ones(3)).graph)
    ((_, inside),) = regions(drawing)
    names = {box.title: id for id, box in nodes(drawing).items()}
    joined = edges(drawing)
    assert [edge.kind for edge in joined[names["tanh"], names["carried"]]] == ["next"]
    assert (names["tanh"], names["result 1"]) in joined
    assert "last" in [label.text for label in drawing.scene.labels]
    assert {(names["arg1"], names["carried"]), (names["arg2"], names["multiply"])} <= joined.keys()
    assert {(names["arg0[t]"], names["multiply"]), (names["multiply 2"], names["multiply, all t"])} <= joined.keys()
    assert {names[name] for name in ("tanh", "carried", "arg0[t]", "multiply", "multiply 2")} <= set(inside)
    assert not {names[name] for name in ("arg1", "arg2", "multiply, all t", "result 1")} & set(inside)


def test_stacks_and_slices_have_the_name_of_what_they_are_made_of():
    def f(x, h):
        def step(x, h):
            a, b = x
            return (a[::-1], h), np.tanh(h + a * b)

        (turned, before), last = tr.scan(step, h, (np.exp(x), x), axis=0)
        return turned, before, last

    drawn = picture(record(f, np.ones((7, 3)), np.zeros(3)).graph)
    labels = [box.title for id, box in nodes(drawn).items() if id[:5] in ("slice", "stack")]
    assert sorted(labels) == ["arg0[t]", "carried, all t", "exp, all t", "exp[t]"]


def test_constants_of_one_number_show_it():
    def f(x):
        return x * np.full(3, 2.5) + np.broadcast_to(0.125, (9000,))[:3] + np.array([1.0, 2.0, 3.0])

    drawing = picture(record(f, np.ones(3)).graph)
    assert [box.title for box in drawing.scene.boxes if box.kind == "constant"] == ["2.5", "0.125", "constant"]


def test_a_loop_in_words():
    f = lambda x, h, w: tr.scan(lambda x, h: (h * 2.0, np.tanh(h + x * w)), h, x, axis=0, reverse=True)  # noqa: E731
    text = str(record(f, np.ones((7, 3)), np.zeros(3), np.ones(3)).graph)
    lines = [re.sub(r"\bv\d+", "v", line) for line in text.splitlines()]
    first = lines.index("v[3], v[7, 3] = loop(arg1[3], v[7, 3], arg2[3]; body=7 steps in reverse)")
    assert lines[first + 1 : first + 9] == [
        "    v[3] carried, at first arg1[3]",
        "    v[3] = v[7, 3][t]",
        "    v[3] = multiply(v[3], 2.0)",
        "    v[3] = multiply(v[3], arg2[3])",
        "    v[3] = add(v[3], v[3])",
        "    v[3] = tanh(v[3])",
        "    next step: v[3] is v[3]",
        "    all t: v[7, 3] of v[3]",
    ]


def test_operands_from_other_places_are_not_folded_together():
    def f(x, w, u):
        outputs = []
        for t in range(30):
            with tr.at_step(t):
                outputs.append((x[t] @ w) * (x[t] @ u))
        return tr.stack(outputs)

    drawing = picture(record(f, np.ones((30, 2, 3)), np.ones((3, 3)), np.ones((3, 3))).graph)
    assert said(drawing).count("matmul") == 2


def test_names_with_quotes_and_backslashes_are_escaped():
    w = tr.tensor(np.ones(3), requires_grad=True, name='the "w" \\ of <b>')
    drawing = picture(record(lambda x: w * x, np.ones(3)).graph)
    assert "of &lt;b&gt;" in drawing.svg()
    if shutil.which("dot"):
        assert (
            "of &lt;b&gt;"
            in subprocess.run(["dot", "-Tsvg"], input=drawing.dot, capture_output=True, text=True, check=True).stdout
        )


def test_every_stage_can_be_drawn_and_draws():
    f, x = recurrent(4)
    step = tr.compile(f)
    step(x)
    drawn = {name: step.draw(x, stage=name) for name in ("recorded", *PASSES)}
    assert isinstance(drawn["recorded"], tr.Drawing)
    assert step.draw(x).dot == drawn[list(PASSES)[-1]].dot
    assert len({drawing.dot.partition("\n")[2] for drawing in drawn.values()}) > 3
    for name, drawing in drawn.items():
        assert drawing.scene.title == name
        assert list(faults(drawing.scene)) == []
    assert len(step.plans) == 1


def test_a_stage_that_is_none_or_switched_off_is_an_error():
    step = tr.compile(lambda x: x * 2.0, without=["fuse_loss"])
    for stage in ("nonsense", "fuse_loss"):
        with pytest.raises(tr.ConfigError, match=f"stage must be one of recorded, roll, simplify, .*, got '{stage}'"):
            step.draw(np.ones(2), stage=stage)


def test_generators_and_arrays_without_a_size_are_drawn():
    drop = tr.Dropout(0.5)
    f = lambda x, rng: (drop(x, rng), np.sum(x), x[:0])  # noqa: E731
    texts = said(picture(record(f, np.ones(3), np.random.default_rng(0)).graph))
    assert {"generator", "scalar"} <= set(texts)
