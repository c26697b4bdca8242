"""The layered layout: layers, distances, and lines that run around boxes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.pictures.layout import proper
from tinygrad_rnn.pictures.layout.layered import Arc, Item, layered
from tinygrad_rnn.pictures.layout.order import ordered
from tinygrad_rnn.pictures.layout.ranks import pulled_right, ranks_of
from tinygrad_rnn.pictures.layout.spacing import separated


def drawn(seed, count, density):
    """Return items and arcs of a random graph without cycles."""
    rng = np.random.default_rng(seed)
    items = [Item(*sizes) for sizes in rng.uniform(20, 90, (count, 2))]
    arcs = [Arc(a, b) for a in range(count) for b in range(a + 1, count) if rng.random() < density]
    return items, arcs


def on_curve(route, steps=12):
    """Return points of a route of cubic Bezier pieces."""
    points = np.array(route)
    t = np.linspace(0, 1, steps)[:, None]
    pieces = []
    for at in range(0, len(points) - 1, 3):
        a, b, c, d = points[at : at + 4]
        pieces.append((1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d)
    return np.concatenate(pieces)


@pytest.mark.parametrize("downward", [False, True])
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 14), density=st.sampled_from([0.1, 0.3, 0.6]))
def test_no_boxes_overlap_and_no_line_runs_through_a_box(downward, seed, count, density):
    items, arcs = drawn(seed, count, density)
    layout = layered(items, arcs, downward=downward)
    boxes = np.array([(*centre, *item) for centre, item in zip(layout.centres, items, strict=True)])
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    for a in range(count):
        for b in range(a):
            assert (low[a] >= high[b] - 1e-6).any() or (low[b] >= high[a] - 1e-6).any(), (a, b)
    assert low.min() > -0.01
    assert (high.max(axis=0) <= (layout.width + 0.01, layout.height + 0.01)).all()
    for arc, route in zip(arcs, layout.routes, strict=True):
        assert len(route) % 3 == 1
        points = on_curve(route)
        for item in range(count):
            if item not in arc[:2]:
                inside = ((points > low[item] + 0.1) & (points < high[item] - 0.1)).all(axis=1)
                assert not inside.any(), (arc, item)


def test_lines_start_and_end_at_the_sides_of_their_boxes():
    layout = layered([Item(40, 20), Item(60, 30), Item(40, 20)], [Arc(0, 1), Arc(1, 2), Arc(0, 2)])
    (x0, y0), (x1, _), (x2, y2) = layout.centres
    assert layout.routes[0][0][0] == x0 + 20
    assert layout.routes[0][-1][0] == x1 - 30
    assert layout.routes[2][-1][0] == x2 - 20
    assert abs(layout.routes[2][0][1] - y0) <= 10
    assert abs(layout.routes[2][-1][1] - y2) <= 10


def test_every_line_leads_to_a_later_layer():
    items, arcs = drawn(3, 20, 0.2)
    ranks = ranks_of(len(items), [arc[:2] for arc in arcs])
    assert all(ranks[arc.tail] < ranks[arc.head] for arc in arcs)
    assert all(
        rank == 0 or any(arc.head == item and ranks[arc.tail] == rank - 1 for arc in arcs)
        for item, rank in enumerate(ranks)
    )


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        ranks_of(2, [(0, 1), (1, 0)])


def test_what_nothing_leads_to_moves_next_to_its_first_reader():
    assert pulled_right([0, 1, 2, 3, 0, 0], [(0, 1), (1, 2), (2, 3), (4, 3), (5, 1), (5, 3)]) == [0, 1, 2, 3, 2, 0]


def test_spine_stands_on_one_line():
    arcs = [Arc(0, 2), Arc(1, 2), Arc(2, 3), Arc(2, 4), Arc(4, 5), Arc(3, 5)]
    layout = layered([Item(40, 20)] * 6, arcs, spine={0, 2, 3, 5})
    assert len({round(layout.centres[item][1], 1) for item in (0, 2, 3, 5)}) == 1


def test_first_and_last_in_a_layer():
    items, arcs = [Item(30, 20)] * 5, [Arc(0, 4), Arc(1, 4), Arc(2, 4), Arc(3, 4)]
    layout = layered(items, arcs, first=[2], last=[0])
    heights = [y for _, y in layout.centres[:4]]
    assert heights[2] == min(heights)
    assert heights[0] == max(heights)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 12))
def test_no_two_neighbours_would_cross_less_the_other_way_round(seed, count):
    items, arcs = drawn(seed, count, 0.4)
    graph = proper.ProperGraph(items, arcs, ranks_of(count, [arc[:2] for arc in arcs]), 10.0)
    layers = ordered(graph)
    place = {node: number for layer in layers for number, node in enumerate(layer)}

    def crossings(a, b):
        return sum(place[x] > place[y] for side in (graph.tails, graph.heads) for x, *_ in side[a] for y, *_ in side[b])

    for layer in layers:
        for a, b in itertools.pairwise(layer):
            assert crossings(a, b) <= crossings(b, a)


def test_crossings_that_can_be_avoided_are():
    # Two ladders, given crosswise.
    arcs = [Arc(0, 3), Arc(1, 2), Arc(2, 5), Arc(3, 4)]
    layout = layered([Item(30, 20)] * 6, arcs)
    for upper, lower in ((0, 1), (3, 2), (4, 5)):
        assert (layout.centres[0][1] < layout.centres[1][1]) == (layout.centres[upper][1] < layout.centres[lower][1])


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 8))
def test_separation_keeps_distances_and_is_nearest(seed, count):
    rng = np.random.default_rng(seed)
    wanted, weights, gaps = rng.uniform(0, 50, count), rng.uniform(0.1, 3, count), rng.uniform(1, 20, count - 1)
    found = np.array(separated(wanted, weights, gaps))
    assert (np.diff(found) >= gaps - 1e-9).all()

    def cost(x):
        return float((weights * (x - wanted) ** 2).sum())

    for _ in range(20):  # no move that keeps the distances is better
        other = found + rng.normal(0, 1, count)
        other = np.array(separated(other, np.ones(count), gaps))
        assert cost(found) <= cost(other) + 1e-9


def test_the_longest_of_too_many_long_lines_run_straight(monkeypatch):
    arcs = [Arc(n, n + 1) for n in range(9)] + [Arc(0, 9), Arc(0, 3)]
    assert [len(route) for route in layered([Item(30, 20)] * 10, arcs).routes[-2:]] == [52, 16]
    monkeypatch.setattr(proper, "_PLACES", 5)
    assert [len(route) for route in layered([Item(30, 20)] * 10, arcs).routes[-2:]] == [4, 16]


def test_levels_that_two_layouts_share():
    extents = [30.0, 50.0, 30.0]
    a = layered([Item(20, 20)] * 2, [Arc(0, 1)], ranks=[0, 2], downward=True, extents=extents, across=10)
    b = layered([Item(20, 50)], [], ranks=[1], downward=True, extents=extents, across=10)
    assert [y for _, y in a.centres] == [15.0, 115.0]
    assert [y for _, y in b.centres] == [65.0]
