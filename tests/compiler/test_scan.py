"""Loops while they are recorded: one body for all steps, or step by step where one cannot stand for all."""

import gc
import weakref

import numpy as np
import pytest
from replay import assert_replays, executors, record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.graph import LOOP, LOOP_WITH_DRAWS
from tinygrad_rnn.compiler.recording.tracer import Tracer
from tinygrad_rnn.engine.tape import Node

W = tr.tensor(np.random.default_rng(0).standard_normal((3, 3)), requires_grad=True, name="W")
XS = np.random.default_rng(1).standard_normal((2, 6, 3))


def loops(function, *args):
    """Return how many loops are recorded, and how many calls in all."""
    calls = record(function, *args).graph.calls
    found = [call for call in calls if call.operator in (LOOP, LOOP_WITH_DRAWS)]
    return len(found), len(calls) + sum(len(call.attrs["body"].graph.calls) for call in found)


def trained(cell, state=None, **options):
    def function(xs):
        outputs, last = tr.unroll(cell, xs, state, **options)
        return outputs, last, tr.grad(np.sum(outputs * outputs), W)

    return function


def plain(x, h):
    new = np.tanh(h @ W + x)
    return new, new


@pytest.mark.parametrize("options", [{}, {"cut_every": 2}, {"lengths": [6, 2]}], ids=str)
def test_a_loop_and_its_backward_pass_are_recorded_once(options):
    function = trained(plain, np.zeros((2, 3)), **options)
    counts = {T: loops(function, XS[:, :T]) for T in (4, 6)} if "lengths" not in options else {6: loops(function, XS)}
    assert {count for count, _ in counts.values()} == {2}
    assert len(set(counts.values())) == 1
    assert_replays(function, (XS,))


class Counting:
    """A cell that does something else at every other call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, h):
        self.calls += 1
        new = np.tanh(h @ W + x) if self.calls % 2 else h * 0.5
        return new, new


class Growing(Counting):
    """A cell with a number that changes from call to call."""

    def __call__(self, x, h):
        self.calls += 1
        new = np.tanh(h @ W + x * float(self.calls))
        return new, new


@pytest.mark.parametrize("kind", [Counting, Growing])
def test_a_step_that_changes_from_call_to_call_is_refused(kind):
    with pytest.raises(tr.TraceError, match="something else each time that it is called"):
        record(lambda xs: tr.unroll(kind(), xs, np.zeros((2, 3))), XS)

    def by_hand(xs):
        cell, h, outputs = kind(), np.zeros((2, 3)), []
        for t in range(6):
            output, h = cell(xs[:, t], h)
            outputs.append(output)
        return np.stack(outputs), tr.grad(np.sum(h), W)

    assert_replays(by_hand, (XS,))


def test_a_state_that_changes_its_dtype_is_taken_one_step_further_first():
    function = trained(plain, np.zeros((2, 3), np.float32))
    assert loops(function, XS)[0] == 2
    assert_replays(function, (XS,))


def test_a_state_with_a_part_that_is_no_array_is_recorded_step_by_step():
    def counted(x, state):
        h, t = state
        new = np.tanh(h @ W + x / (1 + t))
        return new, (new, t + 1)

    def function(xs):
        outputs, (h, _) = tr.scan(counted, (np.zeros((2, 3)), 0), xs)
        return outputs, h, tr.grad(np.sum(outputs), W)

    assert loops(function, XS)[0] == 0
    assert_replays(function, (XS,))


def test_what_a_step_computes_does_not_leave_it_by_the_back_door():
    kept = []

    def step(x, h):
        kept.append(np.tanh(x))
        return h, h @ W

    def function(xs):
        tr.scan(step, np.zeros((2, 3)), xs)
        return kept[-1] * 2

    with pytest.raises(tr.TraceError, match="return it as an output of the step"):
        record(function, XS)


@pytest.mark.parametrize("setting", executors(), ids=str)
def test_draws_in_a_step_are_those_of_eager_bit_by_bit(setting):
    def function(xs, rng):
        drop = tr.Dropout(0.4)

        def step(x, h):
            new = np.tanh(drop(h, rng) @ W + x)
            return new, new

        outputs, last = tr.scan(step, np.ones((2, 3)), xs)
        return outputs, last, tr.grad(np.sum(outputs), W)

    compiled = tr.compile(function, **setting)
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(3):
        for got, want in zip(compiled(XS, one), function(XS, other), strict=True):
            want = want.data if isinstance(want, tr.Tensor) else want
            assert np.allclose(got, want, rtol=1e-12, atol=1e-13)
        assert one.bit_generator.state == other.bit_generator.state


def test_a_scan_within_a_scan_and_one_after_another():
    def inner(x, h):
        outputs, _ = tr.scan(lambda y, c: (c * y, np.tanh(c + y)), h, np.stack([x, x * 2], axis=1))
        return outputs, np.tanh(h @ W + np.sum(outputs, axis=1))

    def function(xs):
        outputs, last = tr.scan(inner, np.ones((2, 3)), xs)
        again, end = tr.scan(plain, last, np.sum(outputs, axis=2), reverse=True)
        return outputs, again, end, tr.grad(np.sum(again * again) + np.sum(outputs), W)

    assert loops(function, XS)[0] == 4
    assert_replays(function, (XS,))


def test_nothing_of_a_recording_is_kept_alive_by_a_loop(monkeypatch):
    found = []
    start = Tracer.__init__
    monkeypatch.setattr(Tracer, "__init__", lambda self, *named: found.append(weakref.ref(self)) or start(self, *named))
    collecting = gc.isenabled()
    gc.disable()
    try:
        record(trained(plain, np.zeros((2, 3))), XS)
        assert [tracer() for tracer in found] == [None]
    finally:
        if collecting:
            gc.enable()


def test_a_gradient_through_a_loop_after_its_recording_is_refused():
    kept = []

    def function(xs):
        kept.append(tr.scan(plain, np.zeros((2, 3)), xs)[1])
        return kept[-1]

    record(function, XS)
    with pytest.raises(tr.TraceError, match="after the function that recorded it"):
        tr.grad(kept[-1], W, cotangent=np.ones((2, 3)))


def test_no_node_of_a_recording_outlives_it(no_collector):
    def loss(w, xs):
        _, h = tr.scan(lambda h, x: (h, np.tanh(h * w + x)), np.zeros((2, 3)), xs)
        return tr.grad(np.sum(h), w)

    def nodes():
        return sum(type(one) is Node for one in gc.get_objects())

    w, before = tr.tensor([1.0, 2.0, 3.0], requires_grad=True), nodes()
    compiled = tr.compile(loss)
    for T in (2, 3, 4):
        compiled(w, np.ones((2, T, 3)))
    assert nodes() <= before + 1  # the parameter's
