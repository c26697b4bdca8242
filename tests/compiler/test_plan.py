"""Plans: who lies where in memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from liveness import assert_no_live_value_is_written_over, cells
from replay import names, normal, planned

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.replay.executor import Executor

N, T, D, H, V = 2, 5, 3, 4, 6


def model_step(cell, layers, dropout=0.0):
    model = tr.RNNLM(V, D, H, np.random.default_rng(0), cell=cell, layers=layers, dropout=dropout, dtype=np.float64)

    def step(ids, state, rng):
        loss, state = model.loss(ids[:, :-1], ids[:, 1:], state, rng=rng)
        return loss, state, tr.grad(loss, model.parameters())

    ids = np.random.default_rng(1).integers(0, V, (N, T + 1))
    return step, (ids, model.initial_state(N), np.random.default_rng(2))


@pytest.mark.parametrize("without", [None, "all"])
@pytest.mark.parametrize(("cell", "layers", "dropout"), [("rnn", 1, 0), ("lstm", 2, 0.3), ("gru", 1, 0)])
def test_no_live_value_is_written_over_in_a_model(cell, layers, dropout, without):
    step, args = model_step(cell, layers, dropout)
    plan = planned(step, *args, without=without)
    assert_no_live_value_is_written_over(plan)
    rooms = {id(slot.buffer): slot.buffer for i, _ in plan.flat() for slot in i.slots()}
    assert plan.arena_bytes < sum(b.nbytes for b in rooms.values() if b.kind == "arena")  # bytes are used again


def test_a_plan_prints_as_a_line():
    step, args = model_step("rnn", 1)
    plan = planned(step, *args)
    assert repr(plan) == f"<Plan: {len(plan.positions)} instructions, 2 loops, {plan.arena_bytes:,} bytes of arena>"


@given(st.data())
def test_no_live_value_is_written_over_in_drawn_programs(data):
    """Straight-line programs with views, stacks, splits and returned values in any order."""
    length = data.draw(st.integers(1, 14))
    choices = data.draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 50), st.integers(0, 50)), max_size=length))
    returned = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=4))

    def program(x):
        pool = [x]
        for kind, first, second in choices:
            a, b = pool[first % len(pool)], pool[second % len(pool)]
            if kind == 0:
                pool.append(a + b)
            elif kind == 1:
                pool.append(np.tanh(a))
            elif kind == 2:
                pool.append(a.T)
            elif kind == 3:
                pool.append(tr.stack([a, b, np.exp(-a * a)])[second % 3])
            elif kind == 4:
                pool.append(tr.concatenate(tr.split(tr.concatenate([a, b], axis=1), 4, axis=1)[::2], axis=1))
            elif kind == 5:
                pool.append(a @ b)
            elif kind == 6:
                pool.append(tr.concatenate([a[1:], b[:1]]))
            elif kind == 7:
                pool.append(np.broadcast_to(np.sum(a, axis=second % 2, keepdims=True), a.shape) * 1.0)
            else:
                pool.append(a.reshape(-1).reshape(4, 4))
        return [pool[number % len(pool)] for number in returned]

    x = normal(4, 4) / 4
    expected = [np.array(part) for part in program(x)]
    for without in (None, "all"):
        plan = planned(program, x, without=without)
        assert_no_live_value_is_written_over(plan)
        executor = Executor(plan)
        for _ in range(2):
            for got, want in zip(executor.run([x]), expected, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * np.max(np.abs(want)))


# -- views ---------------------------------------------------------------------------------------------------------

VIEWS = {
    "reshape": lambda x: (x * 2.0).reshape(4, 3) + 1,
    "transpose": lambda x: (x * 2.0).T + 1,
    "slice": lambda x: (x * 2.0)[1:, ::2] + 1,
    "backward_slice": lambda x: (x * 2.0)[::-1] + 1,
    "new_axis": lambda x: (x * 2.0)[:, None, 1] + 1,
    "broadcast": lambda x: np.broadcast_to(x * 2.0, (2, 3, 4)) + 1,
    "view_of_view": lambda x: (x * 2.0).T[1:].reshape(3, 3, 1)[::2] + 1,
}


@pytest.mark.parametrize("function", VIEWS.values(), ids=VIEWS)
def test_views_cost_no_instruction_and_share_memory(function):
    plan = planned(function, normal(3, 4), without="all")
    computed = [i for i in plan.instructions if i.operator.name not in ("copy", "reshape")]
    assert [i.operator.name for i in computed] == ["multiply", "add"]
    if "reshape" not in names(plan):
        assert computed[1].inputs[0].buffer is computed[0].outputs[0].buffer
    (result,) = Executor(plan).run([normal(3, 4)])
    assert np.array_equal(result, function(normal(3, 4)))


def test_a_reshape_that_needs_a_copy_is_one():
    plan = planned(lambda x: (x * 2.0).T.reshape(-1) + 1, normal(3, 4), without="all")
    assert "reshape" in names(plan)
    assert_no_live_value_is_written_over(plan)


def test_slices_of_an_unstacked_array_are_views():
    plan = planned(lambda x: sum(np.unstack(np.exp(x), axis=1)) + 0, normal(3, 4), without="all")
    assert "unstack" not in names(plan)


# -- direct placement ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_operands_of_a_stack_are_made_in_their_place(axis):
    plan = planned(lambda x: tr.stack([np.exp(x), np.tanh(x)], axis=axis), normal(2, 3), without="all")
    assert names(plan) == ["exp", "tanh"]
    (first, second), (whole,) = plan.instructions, plan.outputs
    assert first.outputs[0].buffer is second.outputs[0].buffer is whole.buffer
    assert not set(cells(first.outputs[0])) & set(cells(second.outputs[0]))
    (result,) = Executor(plan).run([normal(2, 3)])
    assert np.array_equal(result, np.stack([np.exp(normal(2, 3)), np.tanh(normal(2, 3))], axis=axis))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_operands_of_a_concatenation_are_made_in_their_place(axis):
    plan = planned(lambda x: tr.concatenate([np.exp(x), np.tanh(x)], axis=axis), normal(2, 3), without="all")
    assert names(plan) == ["exp", "tanh"]
    (result,) = Executor(plan).run([normal(2, 3)])
    assert np.array_equal(result, np.concatenate([np.exp(normal(2, 3)), np.tanh(normal(2, 3))], axis=axis))


def first_twice(x):
    y = np.exp(x)
    return tr.stack([y, y, x])


def in_two_stacks(x):
    y, z = np.exp(x), np.tanh(x)
    return tr.stack([y, z]), tr.stack([z, y], axis=1), tr.concatenate([y, x, z])


def stack_of_a_stack(x):
    inner = tr.stack([np.exp(x), np.tanh(x)])
    return tr.stack([inner, inner * 2, tr.stack([x, inner[0]])])


def returned_and_stacked(x):
    y = np.exp(x)
    return y, tr.stack([y, x]), y


def scalars(x):
    return tr.stack([np.sum(x), np.sum(x * x), x[0, 0]])


def views_stacked(x):
    y = np.exp(x)
    return tr.stack([y[0], y[1], y.T[:3, 0] if y.shape[0] >= 3 else y[0]])


def other_types(x):
    y = np.astype(np.exp(x), np.float32)
    return tr.stack([y, x, y]), tr.concatenate([y, x * 2.0])


def numbers(x):
    return tr.stack([np.sum(x), 2.0, 3]), tr.concatenate([np.ravel(x), [1.0, 2.0]])


@pytest.mark.parametrize(
    "function",
    [
        first_twice,
        in_two_stacks,
        stack_of_a_stack,
        returned_and_stacked,
        scalars,
        views_stacked,
        other_types,
        numbers,
    ],
)
@pytest.mark.parametrize("without", [None, "all"])
def test_operands_that_cannot_be_made_in_place_are_copied(function, without):
    plan = planned(function, normal(2, 3), without=without)
    assert_no_live_value_is_written_over(plan)
    results = Executor(plan).run([normal(2, 3)])
    expected = function(normal(2, 3))
    for got, want in zip(results, expected if isinstance(expected, tuple) else [expected], strict=True):
        assert np.array_equal(got, want)


def inner_first(x):
    return tr.stack([tr.concatenate([np.exp(x), np.tanh(x)], axis=1), tr.concatenate([-x, x * x], axis=1)])


def three_deep(x):
    pairs = [tr.stack([np.exp(x * k), np.tanh(x * k)], axis=1) for k in (1.0, 2.0)]
    return tr.concatenate([tr.stack(pairs), tr.stack([pair * pair for pair in pairs])], axis=-1)


def views_in_a_stack_in_a_stack(x):
    return tr.stack([tr.stack(np.unstack(np.exp(x))), np.tanh(x)])


@pytest.mark.parametrize(
    ("function", "copies"),
    [(inner_first, 0), (three_deep, 0), (stack_of_a_stack, 1), (views_in_a_stack_in_a_stack, 1)],
)
def test_stacks_in_stacks_are_made_in_their_place(function, copies):
    plan = planned(function, normal(2, 3), without="all")
    assert sum(name in ("copy", "stack", "concatenate") for name in names(plan)) == copies
    assert_no_live_value_is_written_over(plan)
    assert np.array_equal(Executor(plan).run([normal(2, 3)])[0], function(normal(2, 3)))


EVEN = {
    "all": lambda parts: parts,
    "every_other": lambda parts: parts[1::2],
    "backward": lambda parts: parts[::-1],
    "one": lambda parts: parts[2:3],
    "the_same": lambda parts: [parts[1]] * 3,
}
UNEVEN = {"gap": lambda parts: [parts[0], parts[1], parts[3]], "order": lambda parts: [parts[1], parts[0], parts[2]]}


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("chosen", (EVEN | UNEVEN).values(), ids=EVEN | UNEVEN)
def test_a_stack_of_what_lies_at_even_distances_is_a_view(chosen, axis):
    def function(x):
        return tr.stack(chosen(np.unstack(np.exp(x), axis=1)), axis=axis) * 2.0

    plan = planned(function, normal(3, 5, 4), without="all")
    assert ("stack" in names(plan)) == (chosen in UNEVEN.values())
    assert_no_live_value_is_written_over(plan)
    assert np.array_equal(Executor(plan).run([normal(3, 5, 4)])[0], function(normal(3, 5, 4)))


# -- results -------------------------------------------------------------------------------------------------------


def test_no_two_results_and_no_result_and_input_share_memory():
    def f(x):
        y = x * 2.0
        return x, x.T, y, y, y[0], y.reshape(-1), tr.stack([y, y + 1]), y + 1

    for shape in ((3, 4), (60, 70)):  # small results are copied out, large ones are blocks of their own
        plan = planned(f, normal(*shape))
        buffers = [id(slot.buffer) for slot in plan.outputs]
        assert len(set(buffers)) == len(buffers)
        assert not set(buffers) & {id(slot.buffer) for slot in plan.inputs}
        assert_no_live_value_is_written_over(plan) if shape == (3, 4) else None


def test_constants_and_nothing_at_all_as_results():
    plan = planned(lambda x: (np.arange(3), tr.tensor(2.0), np.zeros((0, 3))), normal(2))
    assert [slot.shape for slot in plan.outputs] == [(3,), (), (0, 3)]
    assert [r.tolist() for r in Executor(plan).run([normal(2), np.asarray(2.0)])] == [[0, 1, 2], 2.0, []]
    assert planned(lambda x: None, normal(2)).outputs == []


@pytest.mark.parametrize(("cell", "layers"), [("rnn", 1), ("lstm", 2), ("gru", 1)])
def test_there_are_few_gaps_in_the_arena(cell, layers):
    step, args = model_step(cell, layers)
    costs = planned(step, *args).explain()
    assert costs.arena_bytes <= 1.25 * costs.alive_bytes  # buffers of a few bytes are rounded up to 64


def test_the_arena_is_aligned_and_its_size_is_known_before_the_first_replay():
    step, args = model_step("lstm", 1)
    plan = planned(step, *args)
    offsets = {slot.buffer.offset for i, _ in plan.flat() for slot in i.slots() if slot.buffer.kind == "arena"}
    assert all(offset % 64 == 0 for offset in offsets)
    assert Executor(plan).nbytes >= plan.arena_bytes > 0


def test_logits_are_held_once():
    model = tr.RNNLM(2000, D, H, np.random.default_rng(0))

    def step(ids):
        loss, _ = model.loss(ids[:, :-1], ids[:, 1:])
        return loss, tr.grad(loss, model.parameters())

    ids = np.random.default_rng(1).integers(0, 2000, (N, 101))
    plan = planned(step, ids)
    logits = N * 100 * 2000 * 4
    assert logits <= plan.arena_bytes < 1.5 * logits


def test_a_plan_is_data():
    step, args = model_step("gru", 2)
    for instruction, _ in planned(step, *args).flat():
        for part in (*instruction.inputs, *instruction.attrs.values()):
            assert not callable(part) or isinstance(part, type)
        assert all(slot.buffer.kind in ("arena", "output") for slot in instruction.outputs)
