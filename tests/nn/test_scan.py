"""A step repeated over time: `scan` is the plain loop, whatever the nesting, forward and in reverse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import relative_error

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten, structure
from tinygrad_rnn.testing import check_grads

W = tr.tensor(np.random.default_rng(0).standard_normal((3, 3)), requires_grad=True, name="W")


def nested(x, state):
    """A step with everything: states in a dict, inputs in a tuple, outputs nested, one of them None."""
    (a, b), h, c = x, state["h"], state["c"]
    new = np.tanh(h @ W + a)
    return (new * b, [h, None]), {"h": new, "c": c + new * h}


def plain_loop(step, state, xs, T, reverse):
    outputs = [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        outputs[t], state = step(xs(t), state)
    return outputs, state


@given(seed=st.integers(0, 2**32 - 1), T=st.integers(1, 5), reverse=st.booleans(), axis=st.sampled_from([0, 1]))
def test_it_is_the_plain_loop(seed, T, reverse, axis):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, T, 3)), tr.tensor(rng.standard_normal((2, T, 3)), requires_grad=True)
    state = {"h": rng.standard_normal((2, 3)), "c": np.zeros((2, 3))}
    given_xs = (a, b) if axis else (np.swapaxes(a, 0, 1), np.swapaxes(b, 0, 1))
    outputs, last = tr.scan(nested, state, given_xs, reverse=reverse, axis=axis)
    expected, end = plain_loop(nested, state, lambda t: (a[:, t], b[:, t]), T, reverse)
    assert structure(outputs) == structure(expected[0])
    for number, stacked in enumerate(flatten(outputs)):
        for t in range(T):
            one = stacked[:, t] if axis else stacked[t]
            assert one.data.tobytes() == flatten(expected[t])[number].data.tobytes()
    for got, want in zip(flatten(last), flatten(end), strict=True):
        assert got.data.tobytes() == want.data.tobytes()


@given(seed=st.integers(0, 2**32 - 1), T=st.integers(1, 6), reverse=st.booleans())
def test_gradients_are_those_of_the_plain_loop(seed, T, reverse):
    rng = np.random.default_rng(seed)
    x, h = (tr.tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((2, T, 3), (2, 3)))

    def loss(looped):
        def step(x, h):
            new = np.tanh(h @ W + x)
            return new * h, new

        if looped:
            outputs, last = tr.scan(step, h, x, reverse=reverse)
        else:
            parts, last = plain_loop(step, h, lambda t: x[:, t], T, reverse)
            outputs = np.stack(parts, axis=1)
        return np.sum(outputs * outputs) + np.sum(last)

    pairs = zip(tr.grad(loss(True), [W, x, h]), tr.grad(loss(False), [W, x, h]), strict=True)
    assert all(relative_error(one, other) <= 1e-14 for one, other in pairs)


def test_gradient_of_a_gradient():
    def slopes(step_twice):
        h = tr.tensor(np.ones((1, 3)), requires_grad=True)
        if step_twice:
            _, last = tr.scan(lambda x, h: (None, np.tanh(h @ W)), h, steps=2)
        else:
            last = np.tanh(np.tanh(h @ W) @ W)
        first = tr.grad(np.sum(last), W, create_graph=True)
        return tr.grad(np.sum(first * first), W)

    assert relative_error(slopes(True), slopes(False)) <= 1e-14


def test_check_grads_takes_a_scan():
    def function(h, x):
        outputs, last = tr.scan(lambda x, h: (np.sin(h), np.tanh(h * x)), h, x)
        return np.sum(outputs) + np.sum(last)

    rng = np.random.default_rng(0)
    check_grads(function, rng.standard_normal((2, 3)), rng.standard_normal((2, 4, 3)))


def test_unroll_is_a_scan():
    cell, xs = (
        tr.GRUCell(3, 4, np.random.default_rng(0), np.float64),
        np.random.default_rng(1).standard_normal((2, 5, 3)),
    )
    outputs, last = tr.scan(cell, cell.initial_state(2), xs)
    expected, end = tr.unroll(cell, xs)
    assert outputs.data.tobytes() == expected.data.tobytes()
    assert last.data.tobytes() == end.data.tobytes()


def test_without_inputs_the_number_of_steps_says_how_often():
    outputs, state = tr.scan(lambda x, n: (n, n * 2), np.ones(2), steps=4)
    assert outputs.tolist() == [[1, 2, 4, 8]] * 2
    assert state.tolist() == [16, 16]


def test_steps_are_marked_with_their_time():
    outputs, _ = tr.scan(lambda x, h: (h * W[0], h), np.ones((1, 3)), np.ones((1, 3, 3)), reverse=True)
    assert [edge[0].step for edge in outputs.node.edges] == [0, 1, 2]


STEP = lambda x, h: (h, h)  # noqa: E731


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: tr.scan(tr.RNNCell, np.ones(2), np.ones((2, 3))), tr.ConfigError, "step must be a callable"),
        (lambda: tr.scan(STEP, np.ones(2)), tr.ConfigError, "steps is needed"),
        (lambda: tr.scan(STEP, np.ones(2), steps=0), tr.ConfigError, "steps must be"),
        (lambda: tr.scan(STEP, np.ones(2), np.ones((2, 3)), steps=4), tr.ShapeError, "steps is 4, but xs have 3"),
        (lambda: tr.scan(STEP, np.ones(2), np.ones((2, 0))), tr.ShapeError, "at least 1, got (2, 0)"),
        (lambda: tr.scan(STEP, np.ones(2), np.ones(2)), tr.ShapeError, "(N, T, ...)"),
        (lambda: tr.scan(STEP, np.ones(2), (np.ones((2, 3)), np.ones((2, 4)))), tr.ShapeError, "(2, 3), (2, 4)"),
        (lambda: tr.scan(STEP, np.ones(2), np.ones((2, 3)), axis=2), tr.ConfigError, "axis must be 0 or 1"),
        (lambda: tr.scan(lambda x, h: h, np.ones(2), np.ones((2, 3))), tr.ConfigError, "(output, state)"),
        (lambda: tr.scan(STEP, np.ones(2), np.array([["a", "b"]])), tr.DTypeError, "xs"),
    ],
)
def test_what_cannot_be_is_refused(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)


def test_outputs_of_two_steps_that_differ_are_refused():
    with pytest.raises(tr.ShapeError, match=r"outputs like those of the other steps.*at step 1"):
        tr.scan(lambda n, h: (np.ones(int(n[0]) + 1), h), np.ones(1), np.array([[0, 1]]))


def refined(x, h):
    """A step that refines its state by three steps of a scan, as an ODE solver does."""
    _, h = tr.scan(lambda _, h: (None, h * W[0]), h + x, steps=3)
    return h, h


def refined_by_slices(x, h):
    """The same with a scan over a sequence."""
    _, h = tr.scan(lambda x, h: (None, h * W[0] + x), h, np.stack([x, x, x], axis=1))
    return h, h


def steps_of(*ends):
    """Return the steps of the products from which some Tensors were computed."""
    nodes, waiting = {}, [end.node for end in ends]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes[node] = node.step
            waiting += [edge[0] for edge in node.edges if edge is not None]
    return sorted(step for node, step in nodes.items() if node.name == "multiply")


@pytest.mark.parametrize("step", [refined, refined_by_slices])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_within_a_step_belongs_to_that_step(step, reverse):
    _, last = tr.scan(step, np.ones((1, 3)), np.ones((1, 4, 3)), reverse=reverse)
    assert steps_of(last) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_without_inputs_a_scan_in_a_marked_step_belongs_to_it():
    with tr.at_step(5):
        _, last = refined(0, np.ones((1, 3)))
    assert steps_of(last) == [5, 5, 5]


def test_a_slice_of_a_sequence_continues_the_count_of_the_marked_step():
    state = np.ones((1, 3))
    for begin in (0, 2):
        with tr.at_step(begin):
            _, state = tr.unroll(refined, np.ones((1, 2, 3)), state)
    assert steps_of(state) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_message_names_the_time_step_of_the_outer_scan():
    x = np.ones((1, 3, 3, 3))
    x[0, 1, 2] = np.inf
    with tr.anomaly_mode(), pytest.raises(tr.NonFiniteError, match=r"multiply.*test_scan\.py:\d+, step 1$"):
        tr.scan(lambda x, h: tr.scan(lambda x, h: (None, h * W[0] * x), h, x), np.ones((1, 3)), x)
