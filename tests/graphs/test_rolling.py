"""Do the steps match? Operations, names, rolling, and why a graph cannot be rolled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.graphs.model.graph import read
from tinygrad_rnn.graphs.model.names import names_of
from tinygrad_rnn.graphs.model.operations import operations_of
from tinygrad_rnn.graphs.model.rolling import Rolling, Unlike, roll


def rolled_of(*losses):
    graph = read(losses)
    return roll(graph, operations_of(graph))


def language_model(cell="rnn", layers=1, seed=0):
    rng = np.random.default_rng(seed)
    return tr.RNNLM(7, 4, 5, rng, cell=cell, layers=layers, dtype=np.float64), rng.integers(0, 7, (2, 7))


def one_by_one(model, ids, cut_every=None, scale=0.0):
    """Return the losses of a model that is fed one position at a time, each step marked."""
    state, losses = None, []
    for t in range(ids.shape[1] - 1):
        with tr.at_step(t):
            if cut_every and t and t % cut_every == 0:
                state = tr.cut(state, scale)
            loss, state = model.loss(ids[:, t : t + 1], ids[:, t + 1 : t + 2], state)
            losses.append(loss)
    return losses


SIZES = {"rnn": 4, "lstm": 12, "gru": 15}
STATES = {"rnn": 1, "lstm": 2, "gru": 1}


@pytest.mark.parametrize("cell", SIZES)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cut_every", [None, 2])
def test_built_in_models_roll_both_ways_of_recording(cell, layers, cut_every):
    model, ids = language_model(cell, layers)
    steps = rolled_of(*one_by_one(model, ids, cut_every))
    whole = rolled_of(model.loss(ids[:, :-1], ids[:, 1:], cut_every=cut_every)[0])
    for rolling, rest in ((steps, 4), (whole, 0)):  # lookup, product, sum and loss are in the step, or outside
        assert isinstance(rolling, Rolling)
        assert len(rolling.steps) == 6
        assert len(rolling.template) == layers * SIZES[cell] + rest
        assert len(rolling.states()) == layers * STATES[cell]
        for links in rolling.states().values():
            scales = [edge and edge.scale for edge in links[0].edges[1:]]
            assert scales == ([None, 0.0, None, 0.0, None] if cut_every else [None] * 5)
    assert [op.name for op in whole.outside] == ["take", "unstack", "stack", "matmul", "add", "cross_entropy"]


def test_scaled_cuts_are_marks_on_the_state_edge():
    model, ids = language_model()
    rolling = rolled_of(*one_by_one(model, ids, cut_every=1, scale=0.5))
    ((link,),) = rolling.states().values()
    assert [edge and edge.scale for edge in link.edges] == [None, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert not any(edge.closed for edge in link.edges)


@given(T=st.integers(2, 6), cut_every=st.integers(1, 6))
def test_every_operation_of_every_step_is_a_copy(T, cut_every):
    cell = tr.GRUCell(3, 4, np.random.default_rng(0))
    outputs, _ = tr.unroll(cell, np.ones((2, T, 3), np.float32), cut_every=cut_every)
    loss = np.sum(outputs)
    rolling, ops = rolled_of(loss), operations_of(read([loss]))
    assert set(rolling.home) == {op.node for op in ops if op.step is not None}
    assert all(sum(copy is not None for copy in copies) == T for copies in rolling.copies.values())


def test_the_first_step_may_start_from_a_constant_and_lack_what_only_the_state_gives():
    w = tr.tensor(2.0, requires_grad=True, name="w")
    h = 1.0
    for t in range(4):
        with tr.at_step(t):
            slow = h * 0.5  # of a constant in the first step: nothing is recorded
            h = slow + w
    rolling = rolled_of(h)
    assert [op.name for op in rolling.template] == ["multiply", "add"]
    multiply = rolling.copies[rolling.template[0].node]
    assert multiply[0] is None
    assert None not in multiply[1:]


def test_a_last_step_need_not_carry_its_state_on():
    w = tr.tensor(2.0, requires_grad=True, name="w")
    h, slow, total = w * 1.0, w * 0.0, 0.0
    for t in range(5):
        with tr.at_step(t):
            h = h * w + slow
            slow = slow * 0.9 + h * 0.1
            total = total + h
    rolling = rolled_of(total)
    assert isinstance(rolling, Rolling)
    assert len(rolling.states()) == 2
    assert [op.name for op in rolling.outside] == ["multiply", "multiply", "add"]


def test_a_head_after_the_last_step_stands_outside():
    cell, W = tr.RNNCell(3, 4, np.random.default_rng(0)), tr.tensor(np.ones((4, 2)), requires_grad=True, name="W")
    state = cell.initial_state(2)
    for t in range(4):
        with tr.at_step(t):
            _, state = cell(np.ones((2, 3), np.float32), state)
            if t == 3:
                loss = np.sum(state @ W)
    rolling = rolled_of(loss)
    assert [op.name for op in rolling.outside] == ["matmul", "sum"]


@pytest.mark.parametrize("inside", [True, False])
def test_adding_up_losses_is_a_sum_and_no_second_recurrence(inside):
    w = tr.tensor(0.5, requires_grad=True, name="w")
    h, total = np.ones(3), 0.0
    for t in range(5):
        with tr.at_step(t):
            h = h * w + 1.0
            loss = np.sum(h)
            if inside:
                total = total + loss
        if not inside:
            total = total + loss
    rolling = rolled_of(total / 5)
    assert [op.name for op in rolling.outside] == ["add", "divide"]
    assert len(rolling.outside[0].inputs) == (6 if not total.node.operation else 5 + 1)
    assert len(rolling.states()) == 1


def test_a_state_of_two_steps_before():
    w = tr.tensor(0.5, requires_grad=True, name="w")
    past = [np.ones(2), np.ones(2)]
    for t in range(6):
        with tr.at_step(t):
            past.append(past[-1] * w + past[-2])
    rolling = rolled_of(np.sum(past[-1]))
    assert sorted(lag for _, _, lag in rolling.states()) == [1, 2]


def test_inputs_picked_by_the_number_of_the_step():
    w, xs = tr.tensor(0.5, requires_grad=True, name="w"), tr.tensor(np.ones((2, 5)), requires_grad=True, name="xs")
    h = np.ones(2)
    for t in range(5):
        with tr.at_step(t):
            h = h * w + xs[:, t]
    assert isinstance(rolled_of(np.sum(h)), Rolling)


def steps_of(step, T=5):
    """Return the loss of a recurrence that `step(t, h)` writes."""
    h = tr.tensor(np.ones((2, 3)), requires_grad=True, name="h0") * 1.0
    for t in range(T):
        with tr.at_step(t):
            h = step(t, h)
    return np.sum(h)


@pytest.mark.parametrize(
    ("step", "number", "said"),
    [
        (lambda t, h: tr.relu(h) if t == 2 else tr.tanh(h), 2, "records relu"),
        (lambda t, h: tr.tanh(h) * h if t == 1 else tr.tanh(h), 1, "records multiply"),
        (lambda t, h: h.sum(axis=0, keepdims=True) * h if t != 2 else h.sum(axis=1, keepdims=True) * h, 2, "sum"),
        (lambda t, h: tr.tanh(h) + h if t != 2 else (y := tr.tanh(h)) + y, 2, "reads other results"),
        (lambda t, h: h.reshape(6) if t == 4 else tr.tanh(h), 4, "records reshape"),
    ],
)
def test_steps_that_differ_are_named(step, number, said):
    found = rolled_of(steps_of(step))
    assert isinstance(found, Unlike)
    assert found.step == number
    assert f"t = {number + 1}" in found.reason
    assert said in found.reason
    assert "test_rolling.py:" in found.reason


def test_different_modules_are_different_steps():
    def step(t, h):
        with tr.scope("a" if t < 3 else "b"):
            return tr.tanh(h)

    assert rolled_of(steps_of(step)).step in (0, 1, 2)


def test_without_steps_there_is_nothing_to_roll():
    w = tr.tensor(2.0, requires_grad=True)
    assert "no operation has a time step" in rolled_of(w * w).reason
    with tr.at_step(0):
        y = w * w
    assert "one step only, t = 1" in rolled_of(y).reason


def test_masked_steps_do_not_roll_and_say_so():
    cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    outputs, _ = tr.unroll(cell, np.ones((2, 5, 3), np.float32), lengths=[3, 5])
    assert "where" in rolled_of(np.sum(outputs)).reason


def test_operations_leave_out_cuts_and_stacks_that_are_undone():
    model, ids = language_model(layers=2)
    ops = operations_of(read([model.loss(ids[:, :-1], ids[:, 1:], cut_every=2)[0]]))
    names = [op.name for op in ops]
    assert names.count("stack") == names.count("unstack") == 1
    assert "cut" not in names
    assert max(len(op.inputs) for op in ops if op.name == "add") == 3


def test_the_walk_over_operations_does_not_recurse():
    h = tr.tensor(1.0, requires_grad=True)
    for t in range(3_000):
        with tr.at_step(t):
            h = h * 0.5 + 1.0
    rolling = rolled_of(h)
    assert len(rolling.steps) == 3_000
    assert [op.name for op in rolling.template] == ["multiply", "add"]


def test_names_come_from_the_lines_that_assign():
    x = tr.tensor(np.ones((2, 6)), requires_grad=True)
    first, second, third = tr.split(x, 3, axis=1)
    total = first + second + third
    nameless = np.sum(tr.tanh(total) * total)
    renamed = total.sum(axis=1).max()
    names = names_of(read([nameless, renamed]).nodes)
    assert names[first.node] == ("first", "second", "third")
    assert names[total.node] == ("total",)
    assert set(names.values()) == {("first", "second", "third"), ("total",), ("nameless",), ("renamed",)}


def test_a_name_is_of_the_expression_that_is_assigned_and_of_no_other_on_its_line():
    x = tr.tensor([1.0, 2.0], requires_grad=True)
    slow = x + 0.5 * (np.abs(x) - x)  # abs adds too
    one, two = x * 2.0, (x * 3.0) * 4.0
    both = one * two
    both *= slow  # its own name
    made: tr.Tensor = both + (rest := x - 1.0)
    names = names_of(read([made]).nodes)
    assert names[slow.node] == ("slow",)
    assert names[rest.node] == ("rest",)
    found = sorted(name for named in names.values() for name in named)
    assert found == ["both", "both", "made", "one", "rest", "slow", "two"]


def test_inner_operations_and_repeated_statements():
    x = tr.tensor([1.0, 2.0], requires_grad=True)
    results = []
    for _ in range(2):
        y = tr.tanh(x + 1.0) + tr.tanh(x + 2.0)
        results.append(y)
    names = names_of(read(results).nodes)
    assert names == {results[0].node: ("y",), results[1].node: ("y",)}


@pytest.mark.parametrize(("cell", "expected"), [("lstm", {"h", "c"}), ("gru", {"h"}), ("rnn", {"h"})])
def test_states_of_cells_have_their_names(cell, expected):
    model, ids = language_model(cell, layers=2)
    losses = one_by_one(model, ids)
    names = names_of(read(losses).nodes)
    assert {names[source][output] for source, output, _ in rolled_of(*losses).states()} == expected
