import math

import numpy as np
import pytest
from drawn import examples
from graph_cases import CASES, rnn
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.errors import GradientError
from tinygrad_rnn.graphs import draw
from tinygrad_rnn.graphs.model.flow import flow_of, norm
from tinygrad_rnn.graphs.model.graph import read


@pytest.mark.parametrize("name", CASES)
def test_the_total_of_a_parameter_is_the_norm_of_its_gradient(name):
    case = CASES[name]()
    graph = read(case.losses)
    flow = flow_of(graph)
    for parameter in graph.parameters:
        tensor = parameter.node.owner()
        expected = norm(tr.grad(case.losses, tensor))
        assert flow.totals.get((parameter.node, 0)) == pytest.approx(expected)


@settings(max_examples=examples(20))
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_joint_norm_of_all_uses_is_the_total_and_never_more_than_the_sum_of_the_terms(T, H, seed):
    rng = np.random.default_rng(seed)
    cell = tr.GRUCell(2, H, rng, np.float64)
    outputs, _ = tr.unroll(cell, rng.standard_normal((2, T, 2)))
    graph = read([np.sum(outputs * rng.standard_normal(outputs.shape))])
    flow = flow_of(graph)
    joint = flow.joint(graph.uses)
    for place, uses in graph.uses.items():
        terms = [flow.terms.get(use) for use in uses]
        assert joint[place] == pytest.approx(flow.totals.get(place), abs=1e-12)
        assert joint[place] <= sum(terms) * (1 + 1e-9) + 1e-12


def test_a_bundle_adds_up_before_the_norm_is_taken():
    x = tr.tensor([3.0, 4.0], requires_grad=True)
    a, b = x * 2.0, x * -2.0
    flow = flow_of(read([np.sum(a) + np.sum(b)]))
    assert flow.terms.get((a.node, 0)) == pytest.approx(math.sqrt(8))
    assert flow.joint({"both": [(a.node, 0), (b.node, 0)]}) == {"both": 0.0}


def test_several_losses_add_up_and_one_can_be_chosen():
    x = tr.tensor(1.0, requires_grad=True)
    first, second = x * 2.0, x * 3.0
    graph = read([first, second])
    assert flow_of(graph).totals.get((x.node, 0)) == 5.0
    assert flow_of(graph, [(second.node, 0)]).totals.get((x.node, 0)) == 3.0


def test_nothing_flows_into_a_closed_cut_and_a_scaled_one_scales():
    w = tr.tensor(2.0, requires_grad=True)
    h = w * 3.0
    closed, scaled = tr.cut(h), tr.cut(h, 0.5)
    graph = read([closed * w + scaled * 4.0])
    flow = flow_of(graph)
    assert flow.totals.get((h.node, 0)) == 2.0  # 0.5 * 4
    assert flow.totals.get((closed.node, 0)) is None
    assert flow.terms.get((scaled.node, 0)) == 2.0
    assert flow.totals.get((scaled.node, 0)) == 4.0


def test_warnings():
    graph = read(rnn(35, only_last=True).losses)
    flow = flow_of(graph)
    assert flow.warning(flow.largest) == ""
    assert flow.warning(flow.largest * 1e-8) == "vanished"
    assert flow.warning(math.inf) == flow.warning(math.nan) == "not finite"
    assert flow.warning(None) == ""


def test_a_gradient_that_is_not_finite_is_measured_not_raised():
    x = tr.tensor([0.0, 1.0], requires_grad=True)
    flow = flow_of(read([np.sum(np.sqrt(x))]))
    assert flow.totals.get((x.node, 0)) == math.inf


def test_a_consumed_graph_is_refused():
    x = tr.tensor(1.0, requires_grad=True)
    loss = np.exp(x) * 2.0
    loss.backward()
    with pytest.raises(GradientError, match="consumed"):
        flow_of(read([loss]))


@pytest.mark.parametrize("view", ["unrolled", "rolled"])
def test_a_windowed_gradient_is_the_sum_over_all_passes(view):
    cell, xs = tr.RNNCell(3, 4, np.random.default_rng(0), np.float64), np.random.default_rng(1).normal(size=(2, 6, 3))
    scene = draw(cell, xs, view=view, gradients=True, truncation="windowed:3").scene
    wanted = dict.fromkeys(cell.parameters(), 0.0)
    for last in range(6):  # each loss by itself, cut where its window begins
        state = cell.initial_state(2)
        for t in range(last + 1):
            output, state = cell(xs[:, t], tr.cut(state) if t == last - 2 else state)
        for name, gradient in tr.grad(np.sum(output), cell.parameters()).items():
            wanted[name] = wanted[name] + gradient
    shown = {row.text.split("\t")[0]: row.magnitude for box in scene.boxes for row in box.rows if row.magnitude}
    if view == "rolled":
        shown = {box.title: box.rows[-1].magnitude for box in scene.boxes if box.kind == "parameter"}
    assert shown == pytest.approx({name: np.linalg.norm(value) for name, value in wanted.items()})
    titles = [box.title for box in scene.boxes if box.kind == "cut"]
    assert titles == (["✂ 3 of 5", "✂ 2 of 4", "✂ 1 of 3"] if view == "unrolled" else ["✂"])
