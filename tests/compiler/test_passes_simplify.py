"""Passes that remove, merge and share: each alone computes the same, and does what it is for."""

import numpy as np
import pytest
from replay import counts, leaf, normal, record, rewritten

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.graph import Call, Graph, Operator, Value
from tinygrad_rnn.compiler.ir.operators import ADD, MULTIPLY, TRANSPOSE
from tinygrad_rnn.compiler.ir.order import sort
from tinygrad_rnn.compiler.passes.simplify import merge_subexpressions, remove_dead_code, simplify_calls
from tinygrad_rnn.compiler.passes.weights import copy_transposed

N, T, D, H, V = 2, 5, 3, 4, 6


# -- simplify ----------------------------------------------------------------------------------------------------------


def test_dead_calls_go_and_draws_stay():
    def f(x, rng):
        _, dropped = np.exp(x) * 3, tr.Dropout(0.5)(x, rng)
        _ = dropped * 2
        return x + 1

    args = (normal(3), np.random.default_rng(0))
    graph = remove_dead_code(record(f, *args).graph)
    assert counts(graph) == {"dropout": 1, "add": 1}


def test_equal_calls_become_one():
    graph = rewritten(lambda x: np.tanh(x) * 2 + np.tanh(x) * 2, (normal(3),), merge_subexpressions)
    assert counts(graph) == {"tanh": 1, "multiply": 1, "add": 1}


def test_calls_that_differ_in_an_attribute_a_number_or_its_type_stay_apart():
    def f(x):
        return x.sum(axis=0), x.sum(axis=1), x.sum(axis=(0,)), x * 2, x * 2.0, x * -2.0

    graph = rewritten(f, (normal(3, 3),), merge_subexpressions)
    assert counts(graph) == {"sum": 3, "multiply": 3}


def test_two_draws_stay_two_draws():
    drop = tr.Dropout(0.5)
    graph = record(lambda x, rng: (drop(x, rng), drop(x, rng)), normal(3), np.random.default_rng(0)).graph
    assert counts(merge_subexpressions(graph))["dropout"] == 2


def test_operators_of_one_name_that_compute_different_things_stay_apart():
    def scaled(factor):
        @tr.primitive()
        def scale(x, /):
            return x * factor

        return scale

    twice, thrice = scaled(2.0), scaled(3.0)
    graph = rewritten(lambda x: (twice(x), thrice(x)), (normal(3),), merge_subexpressions)
    assert len(graph.calls) == 2


UNDONE = {
    "cut": (lambda x: tr.cut(x) + 1, ["add"]),
    "stack_unstack": (lambda x: tr.stack([np.exp(x), x + 1])[0:2], ["exp", "add", "stack", "getitem"]),
    "unstack_of_stack": (lambda x: sum(np.unstack(tr.stack([np.exp(x), x], axis=1), axis=1)), None),
    "stack_of_unstack": (lambda x: tr.stack(np.unstack(x, axis=1), axis=1) + 1, ["add"]),
    "stack_of_unstack_turned": (lambda x: tr.stack(np.unstack(x, axis=1)) + 1, ["unstack", "stack", "add"]),
    "some_slices": (lambda x: tr.stack(np.unstack(x)[1:3]) + 1, ["unstack", "stack", "add"]),
    "slices_in_another_order": (lambda x: tr.stack(np.unstack(x)[::-1]) + 1, ["unstack", "stack", "add"]),
    "slices_with_a_gap": (lambda x: tr.stack(np.unstack(x)[::2]) + 1, ["unstack", "stack", "add"]),
    "reshapes": (lambda x: x.reshape(-1).reshape(3, 4).reshape(4, 3) + 1, ["add"]),
    "transposes": (lambda x: np.transpose(x.T) + 1, ["add"]),
    "transposes_with_axes": (lambda x: np.transpose(np.transpose(x[None], (1, 2, 0)), (2, 0, 1))[0], None),
    "same_shape": (lambda x: np.broadcast_to(x, (4, 3)) * x.reshape(4, 3), ["multiply"]),
    "square_transpose_stays": (lambda x: x[:3].T + 1, ["getitem", "transpose", "add"]),
}


@pytest.mark.parametrize(("function", "left"), UNDONE.values(), ids=UNDONE)
def test_operations_that_undo_each_other_go(function, left):
    graph = rewritten(function, (normal(4, 3),), simplify_calls, simplify_calls, simplify_calls, remove_dead_code)
    if left is not None:
        assert [call.name for call in graph.calls] == left


def test_sorting_keeps_the_order_as_far_as_it_can():
    x = Value((2,), np.dtype(float))
    first = Call(ADD, [x, 1.0], {}, [(x.shape, x.dtype)])
    second = Call(ADD, [x, 2.0], {}, [(x.shape, x.dtype)])
    both = Call(MULTIPLY, [first.output, second.output], {}, [(x.shape, x.dtype)])
    graph = sort(Graph([x], [both, first, second], [both.output]))
    assert graph.calls == [first, second, both]


def test_sorting_keeps_draws_in_their_order():
    # what needs a later draw must not pull it before an earlier one, which would then get other numbers
    draw = Operator("draw", lambda rng: np.asarray(rng.random()), pure=False)
    rng, x = Value((), np.dtype(object)), Value((), np.dtype(float))
    one, two = (Call(draw, [rng], {}, [((), x.dtype)]) for _ in range(2))
    needs_two = Call(ADD, [two.output, x], {}, [((), x.dtype)])
    needs_one = Call(ADD, [one.output, x], {}, [((), x.dtype)])
    graph = sort(Graph([rng, x], [needs_two, one, two, needs_one], [needs_two.output, needs_one.output]))
    drawn = [call for call in graph.calls if call.name == "draw"]
    assert drawn == [one, two]


def test_transposes_by_hand_with_axes_none():
    x = Value((2, 3), np.dtype(float))
    one = Call(TRANSPOSE, [x], {"axes": None}, [((3, 2), x.dtype)])
    two = Call(TRANSPOSE, [one.output], {"axes": (1, 0)}, [((2, 3), x.dtype)])
    graph = remove_dead_code(simplify_calls(simplify_calls(Graph([x], [one, two], [two.output]))))
    assert graph.calls == []
    assert graph.outputs == [x]


# -- memory ------------------------------------------------------------------------------------------------------------


def test_weights_that_many_products_read_transposed_are_copied():
    w = leaf(H, H)

    def f(h):
        for _ in range(T):
            h = h @ w.T
        return h, np.sum(w.T)

    graph = rewritten(f, (normal(N, H),), merge_subexpressions, copy_transposed)
    assert counts(graph)["contiguous"] == 1
    assert all(call.inputs[1].maker.name == "contiguous" for call in graph.calls if call.name == "matmul")
    few = rewritten(lambda h: (h @ w.T) @ w.T, (normal(N, H),), merge_subexpressions, copy_transposed)
    assert counts(few)["contiguous"] == 0
