"""Recording: what becomes a call, and what is refused."""

import numpy as np
import pytest
from interpret import interpret
from replay import leaf, normal, record

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.recording.trace import ARRAY
from tinygrad_rnn.engine.tape import context


def names(graph):
    return [call.name for call in graph.calls]


# -- what is recorded ----------------------------------------------------------------------------------------------


def test_each_operation_is_a_call_in_the_order_of_the_program():
    graph = record(lambda x: tr.sum(np.tanh(x * 2.0) - 1), normal(3)).graph
    assert names(graph) == ["multiply", "tanh", "subtract", "sum"]
    assert [value.shape for value in graph.inputs] == [(3,)]
    assert graph.outputs == [graph.calls[-1].output]


def test_a_graph_computes_what_the_function_does():
    w = leaf(3)
    graph = record(lambda w, x: np.sum(np.tanh(w * x) ** 2), w, normal(3, seed=1)).graph
    (result,) = interpret(graph, [w.data, normal(3, seed=1)])
    assert result == np.sum(np.tanh(w.data * normal(3, seed=1)) ** 2)


def test_a_backward_pass_is_recorded_and_belongs_to_the_steps_of_its_forward_pass():
    w = leaf(2, 2)

    def f(x):
        h = x
        for t in range(3):
            with tr.at_step(t):
                h = np.tanh(h @ w)
        return tr.grad(np.sum(h), w)

    graph = record(f, normal(1, 2)).graph
    products = [call for call in graph.calls if call.name == "matmul"]
    assert [call.step for call in products] == [0, 1, 2, 2, 2, 1, 1, 0]
    (result,) = interpret(graph, [normal(1, 2), w.data])
    np.testing.assert_allclose(result, f(normal(1, 2)), rtol=1e-13)


def test_names_of_modules_are_kept():
    def f(x):
        with tr.scope("layers.0"), tr.at_step(4):
            return x + 1

    (call,) = record(f, normal(2)).graph.calls
    assert call.place == (4, ("layers.0",))


def test_what_is_not_differentiated_is_recorded_too():
    graph = record(lambda x: np.where(x > 0, x, 0), normal(3)).graph
    assert names(graph) == ["greater", "where"]
    assert graph.calls[0].output.dtype == bool
    with tr.no_grad():
        assert names(record(lambda x: leaf(3) * x, normal(3)).graph) == ["multiply"]


def test_keyword_arguments_do_not_hide_a_function_without_a_gradient():
    graph = record(lambda x: np.argmax(x, axis=-1), normal(3, 4)).graph
    (result,) = interpret(graph, [normal(3, 4, seed=1)])
    assert np.array_equal(result, np.argmax(normal(3, 4, seed=1), axis=-1))


def test_parameters_from_outside_are_captured_once_and_arrays_are_constants():
    w, scale = leaf(3), np.full(3, 2.0)
    recorded = record(lambda x: (x * w + w) * scale, normal(3))
    assert recorded.captured == [w]
    assert [value.name for value in recorded.graph.captured] == ["w"]
    constants = {part for call in recorded.graph.calls for part in call.values() if part.constant is not None}
    assert [np.array_equal(value.constant, scale) for value in constants] == [True]
    scale[:] = 0  # what was recorded does not change with it
    (result,) = interpret(recorded.graph, [normal(3), w.data])
    np.testing.assert_allclose(result, (normal(3) * w.data + w.data) * 2)


def test_a_generator_is_an_input_and_a_draw_is_no_pure_call():
    drop = tr.Dropout(0.5)
    recorded = record(lambda x, rng: drop(x, rng), normal(8), np.random.default_rng(0))
    draw = next(call for call in recorded.graph.calls if call.name == "dropout")
    assert not draw.operator.pure
    assert draw.inputs[0] is recorded.graph.inputs[1]
    rng, again = np.random.default_rng(5), np.random.default_rng(5)
    (result,) = interpret(recorded.graph, [normal(8), rng])
    assert np.array_equal(result, drop(normal(8), again))


def test_ids_are_operands_and_their_check_is_a_call():
    table = tr.Embedding(5, 2, np.random.default_rng(0), float)
    recorded = record(table, np.array([1, 2]))
    (result,) = interpret(recorded.graph, [np.array([4, 4]), table.W.data])
    assert np.array_equal(result, table.W.data[[4, 4]])
    with pytest.raises(IndexError, match="got 1 to 5"):
        interpret(recorded.graph, [np.array([1, 5]), table.W.data])


def test_an_index_array_is_an_operand():
    x = normal(4, 3)
    graph = record(lambda x, i: x[i], x, np.array([0, 2])).graph
    (result,) = interpret(graph, [x, np.array([3, 3])])
    assert np.array_equal(result, x[[3, 3]])


def test_a_boolean_index_is_refused_unless_it_is_a_constant():
    x, mask = normal(4, 3), np.array([True, False, True, False])
    with pytest.raises(tr.TraceError, match="the shape of the result depends on values; use where"):
        record(lambda x, mask: x[mask], x, mask)
    (result,) = interpret(record(lambda x: x[mask], x).graph, [x])
    assert np.array_equal(result, x[mask])


def test_index_arrays_inside_a_tuple_are_operands():
    x = normal(4, 3)
    graph = record(lambda x, i, j: x[i, j], x, np.array([0, 2]), np.array([1, 1])).graph
    (result,) = interpret(graph, [x, np.array([3, 0]), np.array([2, 2])])
    assert np.array_equal(result, x[[3, 0], [2, 2]])


def test_the_result_keeps_its_nesting_and_what_is_no_array():
    recorded = record(lambda x: {"a": (x, None, 5), "b": ["text", np.ones(2)]}, normal(2))
    assert recorded.result == {"a": (ARRAY, None, 5), "b": ["text", ARRAY]}
    assert recorded.graph.outputs[0] is recorded.graph.inputs[0]
    assert np.array_equal(recorded.graph.outputs[1].constant, np.ones(2))


def test_a_second_derivative_is_recorded():
    w = leaf(3)

    def f(x):
        slope = tr.grad(np.sum(w**3 * x), w, create_graph=True)
        return tr.grad(np.sum(slope), w)

    (result,) = interpret(record(f, normal(3)).graph, [normal(3), w.data])
    np.testing.assert_allclose(result, 6 * w.data * normal(3), rtol=1e-13)


def test_a_second_derivative_through_the_loss_is_recorded():
    w = leaf(4, 5)

    def f(ids):
        slope = tr.grad(tr.cross_entropy(w, ids), w, create_graph=True)
        return tr.grad(np.sum(slope * slope), w)

    ids = np.array([0, 1, -1, 4])
    (result,) = interpret(record(f, ids).graph, [ids, w.data])
    np.testing.assert_allclose(result, f(ids), rtol=1e-12, atol=1e-15)


def test_nested_lists_of_numbers_are_constants():
    w = leaf(2)
    graph = record(lambda x: tr.concatenate([w * x, [1.0, 2.0]]), normal(2)).graph
    assert all(hasattr(part, "shape") for call in graph.calls for part in call.inputs)


# -- what is refused -----------------------------------------------------------------------------------------------

READS = {
    "float": lambda x: float(x[0]),
    "int": lambda x: int(x[0]),
    "bool": lambda x: x * 2 if x[0] > 0 else x,
    "while": lambda x: next(x for _ in iter(lambda: bool(x[0] < 0), False)),
    "data": lambda x: x.data,
    "item": lambda x: x[0].item(),
    "asarray": lambda x: np.asarray(x),
    "allclose": lambda x: x if np.allclose(x, 0) else -x,
    "min": lambda x: min(x[0], x[1]),
    "in": lambda x: 0.5 in x,
    "range": lambda x: list(range(np.argmax(x))),
    "format": lambda x: f"{float(np.sum(x)):.3f}",
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reading_a_value_is_an_error_that_says_why(read):
    with pytest.raises(tr.TraceError, match=r"read while compile\(\) records the function; it would be frozen"):
        record(read, normal(2))
    assert context().tracer is None


def test_a_decomposition_of_the_users_has_no_result_for_matrices_of_ones():
    @tr.primitive()
    def cholesky(a, /):
        return np.linalg.cholesky(a)

    @cholesky.rule(keep="y")
    def _(g, y, a):
        lower = np.tril(np.swapaxes(y, -1, -2) @ g)
        inner = lower - 0.5 * lower * np.eye(y.shape[-1])
        turned = np.linalg.solve(np.swapaxes(y, -1, -2), inner)
        found = np.linalg.solve(np.swapaxes(y, -1, -2), np.swapaxes(turned, -1, -2))
        return ((found + np.swapaxes(found, -1, -2)) / 2,)

    def f(x, sign):
        root = cholesky(sign * (x @ np.swapaxes(x, -1, -2) + np.eye(3)))
        return np.sum(root), tr.grad(np.sum(np.tanh(root)), x)

    x = tr.tensor(np.random.default_rng(0).standard_normal((2, 3, 3)), requires_grad=True)
    loss, gradient = tr.compile(f)(x, 1.0)
    np.testing.assert_allclose(loss, f(x, 1.0)[0].item(), rtol=1e-13)
    np.testing.assert_allclose(gradient, f(x, 1.0)[1], rtol=1e-10)
    with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
        tr.compile(f)(x, -1.0)
    with pytest.raises(tr.ShapeError, match=r"cholesky: .*\(2, 3, 4\)"):
        tr.compile(lambda x: cholesky(x * np.ones((3, 4))))(x[..., :1])


def test_the_value_of_a_parameter_cannot_be_read_either():
    w = leaf(2)
    with pytest.raises(tr.TraceError, match=r"Tensor.data \(w\): the value of a Tensor of shape \(2,\)"):
        record(lambda x: x * w.data, normal(2))


def test_a_copy_of_a_value_is_an_error():
    with pytest.raises(tr.TraceError):
        record(lambda x: tr.tensor(x, requires_grad=True) * 2, normal(2))


def test_writing_to_a_tensor_is_an_error():
    w = leaf(2)

    def f(x):
        w.data = np.zeros(2)
        return w * x

    with pytest.raises(tr.TraceError):
        record(f, normal(2))


def test_backward_writes_into_leaves_and_is_an_error():
    w = leaf(2)
    with pytest.raises(tr.TraceError):
        record(lambda x: np.sum(w * x).backward(), normal(2))


def test_a_draw_that_is_not_recorded_is_an_error():
    with pytest.raises(tr.TraceError):
        record(lambda x, rng: x + rng.standard_normal(x.shape), normal(2), np.random.default_rng(0))


def test_a_tensor_that_would_leave_inside_an_object_is_an_error():
    class Box:
        def __init__(self, content):
            self.content = content

    with pytest.raises(tr.TraceError):
        record(lambda x: Box(x * 2), normal(2))


@pytest.mark.parametrize(
    "past",
    [lambda w, k: np.tanh(w) * k, lambda w, k: w * k],
    ids=["kept_tensor", "kept_constant"],
)
def test_a_gradient_through_what_was_recorded_before_is_an_error(past):
    w = leaf(2)
    y = past(w, np.full(2, 2.0))
    with pytest.raises(tr.TraceError, match="was computed from it before the call"):
        record(lambda y: tr.grad(np.sum(y * y), w), y)


def test_a_result_from_before_is_an_error_unless_it_is_an_argument():
    y = leaf(2) * 2.0
    with pytest.raises(tr.TraceError, match="computed before the function was called; pass it as an argument"):
        record(lambda x: x * y, normal(2))
    graph = record(lambda x, y: x * y, normal(2), y).graph
    (result,) = interpret(graph, [normal(2), np.ones(2)])
    assert np.array_equal(result, normal(2))


def test_a_gradient_at_an_argument_from_before_ends_there():
    y = leaf(2) * 2.0
    graph = record(lambda y: tr.grad(np.sum(y**3), y), y).graph
    (result,) = interpret(graph, [np.array([1.0, 2.0])])
    assert np.array_equal(result, [3.0, 12.0])


def test_an_error_of_the_function_comes_through_and_recording_ends():
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        record(f, normal(2))
    assert context().tracer is None


def test_arrays_of_objects_are_refused_where_they_are_read():
    objects = np.array([2, 1], object)
    np.testing.assert_array_equal(tr.compile(lambda x, names: 2 * x)(np.ones(2), objects), [2, 2])
    for f in (lambda x, names: (2 * x, names), lambda x, names: x * names, lambda x, names: np.sum(names == 1)):
        with pytest.raises(tr.DTypeError, match=r"compile: arg1: expected an array of numbers, got dtype object of"):
            tr.compile(f)(np.ones(2), objects)
