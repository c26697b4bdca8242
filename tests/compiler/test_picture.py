"""Drawings of graphs."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from replay import record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes import PASSES
from tinygrad_rnn.compiler.picture import picture


def nodes(source):
    """Return for each node its attributes' text."""
    return dict(re.findall(r"^\t(\w+) \[(.*?)\]$", source.source, re.MULTILINE | re.DOTALL))


def edges(source):
    return re.findall(r"^\t(\w+) -> (\w+) \[(.*?)\]$", source.source, re.MULTILINE | re.DOTALL)


def unrolled(T):
    cell = tr.RNNCell(3, 4, np.random.default_rng(0))

    def f(x):
        y, state = tr.unroll(cell, x)
        return state, tr.grad(np.sum(y * y), cell.parameters())

    return f, np.ones((2, T, 3), np.float32)


def test_every_call_input_parameter_constant_and_result_is_a_node_of_its_own_shape():
    w = tr.tensor(np.ones(3), requires_grad=True, name="w")
    graph = record(lambda x: np.tanh(w * x) + np.arange(3.0), np.ones(3)).graph
    drawn = nodes(picture(graph, "a title"))
    shapes = {name: re.search(r"shape=(\w+)", text)[1] for name, text in drawn.items() if "shape=" in text}
    kinds = {re.sub(r"\d", "", name): shape for name, shape in shapes.items()}
    assert kinds == {
        "call": "ellipse",
        "input": "invhouse",
        "parameter": "cylinder",
        "constant": "note",
        "result": "doubleoctagon",
    }
    assert sum(name.startswith("call") for name in drawn) == 3
    assert "a title (3 calls)" in picture(graph, "a title").source


@pytest.mark.parametrize("T", [2, 9])
def test_a_small_graph_has_a_node_for_each_call_and_an_edge_for_each_operand(T):
    f, x = unrolled(T)
    graph = record(f, x).graph
    drawing = picture(graph, fold=False)
    assert sum(name.startswith("call") for name in nodes(drawing)) == len(graph.calls)
    pairs = {(value, call) for call in graph.calls for value in call.values()}
    assert len(edges(drawing)) <= len(pairs) + len(graph.outputs)
    assert not any("cb181d" in text for _, _, text in edges(drawing))  # nothing leads back


def test_a_long_sequence_is_folded_over_time():
    (f, short), (g, long) = unrolled(10), unrolled(60)
    one, other = picture(record(f, short).graph), picture(record(g, long).graph)
    assert len(nodes(one)) == len(nodes(other)) < 60
    assert "60 times, steps 0 to 59" in other.source
    loops = [pair for *pair, text in edges(other) if "cb181d" in text]
    assert loops  # the state goes round


def test_operands_from_other_places_are_not_folded_together():
    def f(x, w, u):
        outputs = []
        for t in range(30):
            with tr.at_step(t):
                outputs.append((x[t] @ w) * (x[t] @ u))
        return tr.stack(outputs)

    drawing = picture(record(f, np.ones((30, 2, 3)), np.ones((3, 3)), np.ones((3, 3))).graph)
    assert drawing.source.count('label="matmul') == 2


def test_names_with_quotes_and_backslashes_are_escaped():
    w = tr.tensor(np.ones(3), requires_grad=True, name='the "w" \\ of <b>')
    source = picture(record(lambda x: w * x, np.ones(3)).graph)
    if shutil.which("dot"):
        assert 'the "w"' in dot(source, "plain").replace('\\"', '"')


def dot(source, kind):
    return subprocess.run(["dot", f"-T{kind}"], input=source.source, capture_output=True, text=True, check=True).stdout


def test_every_stage_can_be_drawn_and_draws():
    f, x = unrolled(4)
    step = tr.compile(f, fast_math=True)
    step(x)
    drawn = {name: step.draw(x, stage=name).source for name in ("recorded", *PASSES)}
    assert step.draw(x).source == drawn[list(PASSES)[-1]]
    assert len(set(drawn.values())) > 3
    if shutil.which("dot"):
        for source in (drawn["recorded"], drawn["simplify"]):
            assert dot(step.draw(x), "svg").count("<svg") == 1, source
    assert len(step.plans) == 1


def test_a_stage_that_is_none_or_switched_off_is_an_error():
    step = tr.compile(lambda x: x * 2.0, without=["fuse_loss"])
    for stage in ("nonsense", "fuse_loss"):
        with pytest.raises(tr.ConfigError, match=f"stage must be one of recorded, simplify, .*, got '{stage}'"):
            step.draw(np.ones(2), stage=stage)


def test_generators_and_arrays_without_a_size_are_drawn():
    drop = tr.Dropout(0.5)
    f = lambda x, rng: (drop(x, rng), np.sum(x), x[:0])  # noqa: E731
    source = picture(record(f, np.ones(3), np.random.default_rng(0)).graph).source
    assert "generator" in source
    assert "scalar" in source
