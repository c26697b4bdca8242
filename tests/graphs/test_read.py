import gc
import time

import numpy as np
import pytest
from graph_cases import model, rnn

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tape import Node
from tinygrad_rnn.engine.tensor import wrap
from tinygrad_rnn.errors import GradientError
from tinygrad_rnn.graphs.model.graph import Summary, read, shape_text, summarise


def test_nodes_are_numbered_by_creation_and_read_once():
    x = tr.tensor(2.0, requires_grad=True)
    a = x * 3.0
    b = a + a
    loss = b * a
    graph = read([loss])
    assert [node.name for node in graph.nodes] == ["leaf", "multiply", "add", "multiply"]
    assert [graph.number[node] for node in graph.nodes] == [0, 1, 2, 3]
    assert graph.uses[a.node, 0] == ((b.node, 0), (b.node, 1), (loss.node, 1))


def test_parameters_have_the_names_of_the_model_then_their_own_then_a_number():
    first, second, third = (tr.tensor(1.0, requires_grad=True, name=name) for name in ("a", "b", None))
    graph = read([first * second * third], names={"layer.W": first})
    assert [parameter.name for parameter in graph.parameters] == ["layer.W", "b", "leaf 3"]
    case = model()
    names = [p.name for p in read(case.losses, names=case.alive[0].parameters()).parameters]
    assert names == ["embedding.W", "layers.0.Wx", "layers.0.Wh", "layers.0.b", "output.W", "output.b"]


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_a_source_is_found_through_cuts(scale):
    w = tr.tensor(2.0, requires_grad=True)
    h = w * 3.0
    loss = tr.cut(h, scale) * w
    graph = read([loss])
    edge = graph.edge(loss.node, 0)
    assert edge.place == (h.node, 0)
    assert [(graph.cuts[cut].scale, graph.cuts[cut].closed) for cut in edge.cuts] == [(scale, scale == 0)]


def test_what_a_closed_cut_has_freed_is_gone_and_the_cut_remains():
    w = tr.tensor(2.0, requires_grad=True)
    h = tr.cut(w * 3.0)
    gc.collect()
    loss = h * w
    graph = read([loss])
    edge = graph.edge(loss.node, 0)
    assert edge.place is None
    assert edge.closed
    assert [node.name for node in graph.nodes] == ["leaf", "cut", "multiply"]


def test_a_gradient_reaches_no_further_than_a_closed_cut():
    case = rnn(4, cut_every=2)
    graph = read(case.losses)
    last = max((node for node in graph.nodes if node.name == "cross_entropy"), key=lambda node: node.id)
    reached = graph.reach([(last, 0)])
    assert {node.step for node in reached} == {None, 2, 3}
    assert "cut" not in {node.name for node in reached}


def test_values_come_from_whoever_has_them():
    x = tr.tensor([1.0, 2.0], requires_grad=True)
    y = np.tanh(x)  # its rule keeps the output
    z = y * 2.0  # kept as an input of exp
    e = np.exp(z)
    loss = np.sum(e)
    graph = read([loss])
    np.testing.assert_array_equal(graph.value((x.node, 0)), x.data)
    np.testing.assert_array_equal(graph.value((y.node, 0)), y.data)
    np.testing.assert_array_equal(graph.value((e.node, 0)), e.data)
    np.testing.assert_array_equal(graph.value((z.node, 0)), z.data)  # computed again: its rule keeps what it reads
    assert graph.value((loss.node, 0)) == loss.data
    shifted = np.sum((x + 1.0) + 1.0)
    hidden = shifted.node.edges[0][0]
    assert read([shifted]).value((hidden, 0)) is None


def test_a_summary_counts_what_is_not_finite():
    assert summarise(np.array([1.0, np.inf, 3.0, np.nan])) == Summary(4, 2, 2.0, 1.0, 1.0, 3.0)
    assert summarise(np.array([np.nan])).lines == ["not finite: all 1 elements"]
    assert summarise(np.array(2.5)).lines == ["value: 2.5"]
    assert summarise(np.array([3 + 4j])).mean == 5.0
    assert summarise(np.array([1.0, 2.0, 3.0])).lines == ["mean: 2", "std: 0.816", "min: 1", "max: 3"]


def test_facts_are_keys_and_values():
    x = tr.tensor(np.ones((2, 3)), np.float64, True)
    loss = np.sum(x)
    facts = dict(line.split(": ", 1) for line in read([loss]).facts((x.node, 0)))
    assert facts["shape"] == "2×3"
    assert facts["dtype"] == "float64"
    assert facts["mean"] == "1"
    assert facts["recorded"].startswith("test_read.py:")
    assert shape_text(()) == "scalar"


@pytest.mark.parametrize("target", [tr.tensor(1.0), 3.0])
def test_what_was_not_recorded_is_refused(target):
    with pytest.raises(GradientError, match="target 0 is a"):
        read([target])


@pytest.mark.nightly
def test_a_hundred_thousand_nodes_are_read_in_a_few_seconds():
    x = tr.tensor(1.0, requires_grad=True)
    spec = x.node.specs[0]
    last = x.node
    for _ in range(100_000):  # what `y = y + 1.0` records, without the arithmetic
        last = Node(tr.add, ((last, 0), None), (spec, spec), None, (spec,), {})
    start = time.process_time()
    graph = read([wrap(np.ones(()), last)])
    assert len(graph.uses) == 100_000
    assert time.process_time() - start < 10  # one second here; minutes where the work grows with the square
    assert len(graph.nodes) == 100_001
