"""Passes on loops: what moves out of a body, what is dropped, and that the rest computes the same."""

from collections import Counter

import numpy as np
import pytest
from interpret import interpret
from oracle import relative_error
from replay import normal, record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.editing import in_bodies
from tinygrad_rnn.compiler.passes import motion
from tinygrad_rnn.compiler.passes.motion import hoist_invariants, move_elementwise, move_products
from tinygrad_rnn.compiler.passes.prune import prune_loops
from tinygrad_rnn.compiler.passes.simplify import remove_dead_code, simplify_calls
from tinygrad_rnn.compiler.passes.slopes import slopes_early
from tinygrad_rnn.compiler.passes.sums import defer_sums

N, T, D, H = 2, 4, 3, 5
W_IN, W = (tr.tensor(normal(*shape, seed=n) / 2, requires_grad=True) for n, shape in enumerate([(D, H), (H, H)]))
B = tr.tensor(normal(H, seed=2), requires_grad=True)


def cell(x, h):
    new = np.tanh(x @ W_IN + B + h @ W)
    return new, new


def trained(xs):
    outputs, _ = tr.scan(cell, np.zeros((N, H)), xs)
    loss = np.sum(outputs * outputs)
    return loss, tr.grad(loss, [W_IN, W, B])


def rewritten(function, args, *passes):
    """Return what passes make of a recorded function: it must compute the same."""
    recorded = record(function, *args)
    arrays = [*args, *(leaf.data for leaf in recorded.captured)]
    graph = recorded.graph
    before = interpret(graph, arrays)
    for one in passes:
        graph = one(graph)
        for got, want in zip(interpret(graph, arrays), before, strict=True):
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            assert relative_error(got, want) <= 1e-12
    return graph


def bodies(graph):
    """Return how often each operation is in the body of each loop."""
    return [Counter(c.name for c in call.attrs["body"].graph.calls) for call in graph.calls if call.name == "loop"]


def outside(graph):
    return Counter(call.name for call in graph.calls)


TIDY = [lambda graph: in_bodies(simplify_calls, graph), lambda graph: in_bodies(remove_dead_code, graph), prune_loops]


def test_the_product_of_an_input_comes_before_the_loop_and_that_of_its_cotangent_after_it():
    xs = tr.tensor(normal(N, T, D), requires_grad=True)

    def f(given):
        outputs, _ = tr.scan(cell, np.zeros((N, H)), xs * given)
        return tr.grad(np.sum(outputs * outputs), xs)

    graph = rewritten(f, (normal(N, T, D, seed=3),), hoist_invariants, move_products, *TIDY)
    forward, backward = bodies(graph)
    assert (forward["matmul"], backward["matmul"]) == (1, 1)
    shapes = [call.inputs[0].shape for call in graph.calls if call.name == "matmul"]
    assert shapes == [(T * N, D), (T * N, H)]


def test_gradients_of_weights_are_one_product_and_those_of_biases_one_sum():
    graph = rewritten(trained, (normal(N, T, D),), hoist_invariants, move_products, defer_sums, *TIDY)
    backward = bodies(graph)[1]
    assert backward["matmul"] == 1  # d @ W.T, which the step before waits for
    assert backward["sum"] == 0
    products = [call.output.shape for call in graph.calls if call.name == "matmul"]
    assert sorted(products) == sorted([(T * N, H), (D, H), (H, H)])
    (loop,) = [call for call in graph.calls if call.name == "loop"][1:]
    assert loop.attrs["body"].carried == 1


def test_sums_that_the_user_wrote_stay_in_their_order():
    def f(xs):
        _, (_, total) = tr.scan(
            lambda x, s: (None, (s[0] @ W, s[1] + x.T @ s[0])), (np.ones((N, H)), np.zeros((D, H))), xs
        )
        return total

    graph = rewritten(f, (normal(N, T, D),), defer_sums, *TIDY)
    assert bodies(graph)[0]["matmul"] == 2


def test_local_derivatives_are_computed_for_all_steps_at_once():
    def f(xs):
        return tr.scan(lambda x, g: (g, g * (1 - np.tanh(x) ** 2)), np.ones((N, D)), xs)[1]

    graph = rewritten(f, (normal(N, T, D),), move_elementwise, *TIDY)
    assert bodies(graph) == [Counter(multiply=1)]


def test_large_steps_are_left_where_their_operands_are_in_cache(monkeypatch):
    def f(xs):
        return tr.scan(lambda x, g: (None, g * np.exp(x)), np.ones((N, D)), xs)[1]

    for large, count in ((N * D - 1, 1), (N * D, 0)):
        monkeypatch.setattr(motion, "_LARGE", large)
        assert bodies(rewritten(f, (normal(N, T, D),), move_elementwise, *TIDY))[0]["exp"] == count


def test_what_is_the_same_at_each_step_is_computed_once():
    def f(xs):
        return tr.scan(lambda x, h: (h, np.tanh(h @ (W * 2.0 + 1.0)) + np.sum(B)), np.ones((N, H)), xs)

    graph = rewritten(f, (normal(N, T, D),), hoist_invariants, *TIDY)
    assert bodies(graph) == [Counter(matmul=1, tanh=1, add=1)]


@pytest.mark.parametrize(
    "step",
    [
        lambda x, h: (np.sum(x, axis=1, keepdims=True) * x, h * np.mean(x)),
        lambda x, h: (np.concatenate([x[:, :1], x], axis=1), h + x.T[0][:, None]),
        lambda x, h: (np.reshape(x, (-1,)) * 2.0, h + np.broadcast_to(x[:, :1], (N, D))),
        lambda x, h: (np.where(x > 0, x, B[0]), h * np.split(x, 3, axis=1)[1]),
        lambda x, h: (x[0] * x, np.transpose(x)[1:].T.sum() * h),
        lambda x, h: (np.max(x, axis=0), h + np.exp(x) @ W_IN[:, :D]),
    ],
)
def test_operations_for_all_steps_at_once(step):
    def f(xs):
        return tr.scan(step, np.ones((N, D)), xs)

    rewritten(f, (normal(N, T, D),), hoist_invariants, move_products, move_elementwise, *TIDY)
    rewritten(lambda xs: tr.scan(step, np.ones((N, D)), xs, reverse=True), (normal(N, T, D),), move_elementwise, *TIDY)


def test_what_nobody_needs_is_dropped_from_a_loop():
    def f(xs):
        def step(x, state):
            a, b, c, d = state
            return (a, np.exp(b), x), (a + x, np.sin(b), c, d + np.cos(b))

        outputs, last = tr.scan(step, tuple(np.full((N, D), float(k)) for k in range(4)), xs)
        return outputs[0], outputs[2], last[2]

    graph = rewritten(f, (normal(N, T, D),), *TIDY)
    (loop,) = (call for call in graph.calls if call.name == "loop")
    assert loop.attrs["body"].carried == 1
    assert bodies(graph) == [Counter(add=1)]


def test_a_cut_at_some_steps_costs_one_choice_going_back():
    def f(xs):
        outputs, _ = tr.unroll(cell, xs, np.zeros((N, H)), cut_every=2)
        return tr.grad(np.sum(outputs * outputs), W)

    graph = rewritten(f, (normal(N, T, D),), *TIDY)
    assert [body["where"] for body in bodies(graph)] == [0, 1]


def test_slopes_of_sigmoids_need_no_stack_of_their_own():
    def f(xs):
        outputs, _ = tr.scan(lambda x, h: (h, tr.sigmoid(h @ W + x[:, :1])), np.zeros((N, H)), xs)
        return tr.grad(np.sum(outputs * outputs), W)

    graph = rewritten(f, (normal(N, T, D),), *TIDY, slopes_early, *TIDY)
    forward, backward = bodies(graph)
    assert (forward["sigmoid_tail"], forward["tail_sigmoid"]) == (1, 1)
    assert (backward["tail_slope"], backward["sigmoid_slope"], backward["sigmoid"]) == (1, 0, 0)


def test_stacks_of_what_never_changes_are_no_stacks():
    def f(xs):
        outputs, _ = tr.scan(lambda x, h: ((h, B), h * tr.sigmoid(B)), np.ones((N, H)), xs)
        return outputs[1], tr.grad(np.sum(outputs[0]), B)

    graph = rewritten(f, (normal(N, T, D),), hoist_invariants, *TIDY, hoist_invariants, *TIDY)
    assert all(body["sigmoid"] == 0 for body in bodies(graph))
    assert outside(graph)["sigmoid"] == 1
