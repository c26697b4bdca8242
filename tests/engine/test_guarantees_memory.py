"""What the engine promises of memory, in the order of docs/architecture.md: guarantees 5 and 6."""

import weakref

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.engine.walk import ancestors


def leaf(values):
    return tr.tensor(values, requires_grad=True)


# 5. no reference cycles


def test_a_dropped_graph_is_freed_at_once(no_collector):
    cell = tr.LSTMCell(3, 4, np.random.default_rng(0))
    outputs, _ = tr.unroll(cell, np.ones((2, 6, 3), np.float32))
    loss = outputs.sum()
    nodes = [weakref.ref(node) for node in ancestors([loss.node]) if node.operation is not None]
    assert len(nodes) > 60
    tr.grad(loss, cell.parameters())
    del outputs, loss, _
    assert not any(node() for node in nodes)


def test_backward_drops_arrays_on_the_way(no_collector):
    x = leaf(np.ones(1000))
    y = np.exp(x)
    kept = weakref.ref(y.data)
    loss = np.sum(y * y)
    del y
    assert kept() is not None
    loss.backward()
    assert kept() is None


# 6. arrays, captured


def test_an_update_leaves_graphs_recorded_before_alone():
    w = leaf([3.0])
    y = w * w
    w.data = [100.0]
    assert tr.grad(y, w) == 6
    assert (w * w).item() == 10_000


def test_an_attribute_that_is_written_to_later_leaves_the_graph_alone():
    @tr.primitive()
    def weighted(x, /, weights):
        return x * weights

    @weighted.rule()
    def _(g, y, x, *, weights):
        return (g * weights,)

    x, weights = leaf([1.0, 1.0]), np.ones(2)
    y = np.sum(weighted(x, weights=weights))
    weights[:] = 9
    assert tr.grad(y, x).tolist() == [1, 1]


def test_writing_to_what_a_graph_holds_is_an_error():
    x = leaf([1.0])
    y = np.exp(x)
    for tensor in (x, y):
        with pytest.raises(ValueError, match="read-only"):
            tensor.data[0] = 5
        with pytest.raises(tr.UnsupportedError, match="np.where or np.concatenate"):
            tensor[0] = 5


def test_a_constant_that_the_caller_changes_later_does_no_harm():
    c = np.array([2.0])
    view = c[:]
    view.flags.writeable = False
    x = leaf([1.0])
    y, z = x * c, x * view
    c[:] = 1000
    assert tr.grad(y, x) == 2
    assert tr.grad(z, x) == 2


def test_the_callers_array_is_copied_and_stays_writable():
    array = np.ones(2)
    x = leaf(array)
    array[0] = 7
    assert x.data.tolist() == [1, 1]
