"""Offsets in the arena: no two buffers that live at one time share bytes, and few bytes are left unused."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.compiler.plans.arena import offsets


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 12), st.integers(0, 12)), max_size=25))
def test_buffers_that_live_at_one_time_do_not_overlap(drawn):
    sizes = [64 * size for size, _, _ in drawn]
    born, dies = [min(pair) for _, *pair in drawn], [max(pair) for _, *pair in drawn]
    places, size = offsets(sizes, born, dies)
    most = 0
    for now in range(13):
        alive = [k for k in range(len(drawn)) if born[k] <= now <= dies[k]]
        taken = sorted((places[k], places[k] + sizes[k]) for k in alive)
        assert all(end <= start for (_, end), (start, _) in pairwise(taken))
        most = max(most, sum(sizes[k] for k in alive))
    assert most <= size == max((place + size for place, size in zip(places, sizes, strict=True)), default=0)
    assert size <= sum(sizes)
    assert all(place % 64 == 0 for place in places)


@pytest.mark.parametrize(
    ("lives", "places", "size"),
    [
        ([], [], 0),
        ([(64, 0, 1), (64, 1, 2), (64, 2, 3)], [0, 64, 0], 128),  # one that dies is read by the same call still
        ([(64, 0, 3), (128, 0, 1), (64, 2, 3)], [128, 0, 0], 192),  # the largest is placed first
        ([(192, 0, 9), (64, 0, 9), (64, 0, 4), (128, 5, 9)], [0, 320, 192, 192], 384),  # no room in the gap
        ([(192, 0, 0), (64, 1, 2), (64, 1, 1)], [0, 0, 64], 192),  # the first reaches farthest
        ([(256, 0, 9), (192, 0, 3), (128, 4, 4), (64, 3, 4)], [0, 256, 256, 448], 512),
        ([(256, 0, 1), (192, 0, 9), (128, 2, 9), (128, 1, 9)], [0, 256, 0, 448], 576),
        ([(256, 0, 1), (192, 0, 9), (128, 2, 9), (128, 2, 9)], [0, 256, 0, 128], 448),  # a gap is filled to its end
    ],
)
def test_buffers_are_placed_at_the_lowest_place_that_is_free(lives, places, size):
    assert offsets(*(zip(*lives, strict=True) if lives else ([], [], []))) == (places, size)
