"""Which sizes a compiled function needs passes for: two on each line, and no more."""

import numpy as np
import pytest
from liveness import assert_no_live_value_is_written_over
from replay import assert_equal

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.api import Compiled


@pytest.fixture
def planned(monkeypatch):
    """Return a list that grows by one each time that passes make a plan."""
    found = []
    make = Compiled._planned
    monkeypatch.setattr(
        Compiled, "_planned", lambda self, graph, given: found.append(graph) or make(self, graph, given)
    )
    return found


def model_step(V=100):
    model = tr.RNNLM(V, 5, 6, np.random.default_rng(0), cell="gru", dtype=np.float64)
    parameters = model.parameters()

    def step(ids, targets):
        loss, state = model.loss(ids, targets)
        return loss / ids.shape[1], tr.grad(loss, parameters), state

    return step


@pytest.mark.parametrize(
    ("sizes", "known"),
    [
        ("4x5 4x7 4x9 4x30 4x6", "4x9 4x30 4x6"),
        ("2x7 3x7 9x7 5x7", "9x7 5x7"),
        # The last batch of an epoch is smaller, and a sequence of one step is laid out in another way.
        ("4x5 4x7 3x6 4x8 4x1 4x11 3x8 4x13 3x12 4x14", "4x8 4x11 4x13 3x12 4x14"),
        # Lengths that are those of other axes
        ("4x4 4x5 4x6 4x11 4x3", "4x6 4x11 4x3"),
    ],
)
def test_passes_run_for_two_sizes_of_a_line(sizes, known, planned):
    step, rng, found = model_step(), np.random.default_rng(1), []
    compiled = tr.compile(step)
    for size in sizes.split():
        N, T = map(int, size.split("x"))
        ids, targets = rng.integers(0, 11, (2, N, T))
        before = len(planned)
        assert_equal(compiled(ids, targets), step(ids, targets), 1e-12)
        if len(planned) == before:
            found.append(size)
    assert found == known.split()


def test_passes_run_for_two_sizes_on_each_side_of_what_a_pass_decides_by(planned):
    step, rng = model_step(V=11), np.random.default_rng(1)
    compiled = tr.compile(step)
    for T, made in ((5, 1), (7, 2), (9, 3), (30, 3), (6, 3), (7, 3), (5, 3)):  # from T = 6 on, tables are multiplied
        ids, targets = rng.integers(0, 11, (2, 4, T))
        assert_equal(compiled(ids, targets), step(ids, targets), 1e-12)
        assert len(planned) == made


def test_no_live_value_is_written_over_in_a_plan_for_another_size(planned):
    step, rng = model_step(), np.random.default_rng(1)
    compiled = tr.compile(step)
    for T in (4, 5, 7, 3):
        compiled(*rng.integers(0, 11, (2, 2, T)))
        assert_no_live_value_is_written_over(compiled.plan)
    assert len(planned) == 2
