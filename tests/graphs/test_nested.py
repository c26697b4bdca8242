"""Diagrams with groups: every group in a region of its own, every line around what it has nothing to do with."""

import itertools

import numpy as np
import pytest
from geometry import faults
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.pictures.layout.compose import compose, finish
from tinygrad_rnn.pictures.layout.content import Content
from tinygrad_rnn.pictures.layout.diagram import Diagram, DiagramEdge, Group
from tinygrad_rnn.pictures.layout.nested import nested
from tinygrad_rnn.pictures.layout.ranks import gathered
from tinygrad_rnn.pictures.scene.scene import Scene


@st.composite
def diagrams(draw):
    """Random diagrams without cycles, some of their boxes in groups, one group in another."""
    count = draw(st.integers(1, 12))
    boxes = {f"b{n}": Content("operation", "x" * draw(st.integers(1, 6))) for n in range(count)}
    pairs = [pair for pair in itertools.combinations(range(count), 2) if draw(st.booleans())]
    edges = [DiagramEdge(f"b{a}", f"b{b}") for a, b in pairs[: 2 * count]]
    home = [draw(st.sampled_from([None, None, "g", "h", "i"])) for _ in range(count)]
    groups = {name: Group(name, [f"b{n}" for n in range(count) if home[n] == name]) for name in "ghi"}
    groups = {name: group for name, group in groups.items() if group.members}
    if {"g", "h"} <= groups.keys():
        groups["g"].members.append("h")
    return Diagram(boxes, edges, groups)


def boxes_of(diagram, group, kept):
    """Return the boxes in a group, and in the groups in it; of a group that is not kept, none."""
    found = set()
    for member in diagram.groups[group].members:
        if member in diagram.boxes:
            found.add(member)
        else:
            found |= boxes_of(diagram, member, kept)
    return found


def scene_of(diagram, upward):
    places = nested(diagram, upward=upward)
    scene = Scene("", "")
    compose(scene, diagram, places)
    finish(scene, places.width + 60, places.height + 114)
    return scene, places


@pytest.mark.parametrize("upward", [False, True])
@given(diagram=diagrams())
def test_no_line_runs_through_a_box_and_no_region_holds_a_stranger(upward, diagram):
    scene, places = scene_of(diagram, upward)
    assert [fault for fault in faults(scene) if "text" not in fault] == []
    for id, (left, top, right, bottom) in places.regions.items():
        inside = {box for box, (x, y) in places.centres.items() if left < x < right and top < y < bottom}
        assert inside == boxes_of(diagram, id, places.regions)
    for edge, route in zip(diagram.edges, places.routes, strict=True):
        assert len(route) % 3 == 1
        start, end = places.centres[edge.tail], places.centres[edge.head]
        assert (start[1] > end[1]) == upward
        for (x, y), (cx, cy), box in ((route[0], start, edge.tail), (route[-1], end, edge.head)):
            width, height = diagram.boxes[box].size()
            assert abs(abs(y - cy) - height / 2) < 0.1
            assert abs(x - cx) <= width / 2


def test_a_group_in_a_cycle_is_not_kept_together():
    boxes = {name: Content("operation", name) for name in "abc"}
    edges = [DiagramEdge("a", "b"), DiagramEdge("b", "c")]
    places = nested(Diagram(boxes, edges, {"g": Group("g", ["a", "c"]), "h": Group("h", ["b"])}))
    assert set(places.regions) == {"h"}
    assert places.centres["a"][1] < places.centres["b"][1] < places.centres["c"][1]


def test_boxes_in_a_cycle_stand_in_their_order():
    boxes = {name: Content("operation", name) for name in "abc"}
    edges = [DiagramEdge("a", "b"), DiagramEdge("b", "c"), DiagramEdge("c", "a")]
    places = nested(Diagram(boxes, edges))
    assert places.centres["a"][1] < places.centres["b"][1] < places.centres["c"][1]
    assert places.routes[2][0][1] > places.routes[2][-1][1]


def test_what_leads_back_is_drawn_against_the_stream():
    boxes = {name: Content("operation", name) for name in "ab"}
    edges = [DiagramEdge("a", "b"), DiagramEdge("b", "a", back=True)]
    places = nested(Diagram(boxes, edges))
    assert places.centres["a"][1] < places.centres["b"][1]
    assert places.routes[1][0][1] > places.routes[1][-1][1]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 14))
def test_gathered_layers_keep_the_order_and_no_line_could_be_shorter_at_its_start(seed, count):
    rng = np.random.default_rng(seed)
    arcs = [(a, b) for a in range(count) for b in range(a + 1, count) if rng.random() < 0.25]
    ranks = gathered(count, arcs)
    assert min(ranks) == 0
    assert all(ranks[a] < ranks[b] for a, b in arcs)
    for item in range(count):
        heads = [ranks[b] for a, b in arcs if a == item]
        tails = [ranks[a] for a, b in arcs if b == item]
        assert not heads or tails or ranks[item] == min(heads) - 1
