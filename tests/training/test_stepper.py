"""Stepper: a model or a cell one step at a time is the model over the whole sequence, compiled or not."""

import copy
import gc
import warnings
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.errors import ConfigError, DTypeError, ShapeError

V, D, H, N, T = 7, 3, 4, 2, 6
WAYS = [{}, {"executor": "numpy"}, {"compiled": False}]


def rng():
    return np.random.default_rng(3)


class Leaky(tr.Module):
    """A user's cell: its state is a dict, and one of its gates is read from an array outside."""

    def __init__(self, input_size, hidden_size, rng):
        self.Wx = tr.parameter(rng.standard_normal((input_size, hidden_size)), np.float64)
        self.Wh = tr.parameter(rng.standard_normal((hidden_size, hidden_size)), np.float64)
        self.leak = tr.parameter(np.zeros(hidden_size), np.float64)

    def initial_state(self, batch_size):
        return {"h": np.zeros((batch_size, len(self.leak)))}

    def __call__(self, x, state):
        a = tr.sigmoid(self.leak)
        h = (1 - a) * state["h"] + a * np.tanh(x @ self.Wx + state["h"] @ self.Wh)
        return h, {"h": h}


def stacked(input_size, hidden_size, rng):
    cells = [
        tr.GRUCell(input_size, hidden_size, rng, np.float64, reset="before"),
        tr.LSTMCell(hidden_size, hidden_size, rng, np.float64),
    ]
    return tr.Stacked(cells)


CELLS = {
    "rnn": lambda: tr.RNNCell(D, H, rng(), np.float64),
    "lstm": lambda: tr.LSTMCell(D, H, rng(), np.float64),
    "gru": lambda: tr.GRUCell(D, H, rng(), np.float64),
    "stacked": lambda: stacked(D, H, rng()),
    "of a user": lambda: Leaky(D, H, rng()),
}
MODELS = {
    "rnn": {"cell": "rnn"},
    "lstm": {"cell": "lstm", "layers": 2, "dropout": 0.5},
    "gru, tied": {"cell": "gru", "tied": True},
    "stacked": {"cell": stacked},
    "of a user": {"cell": Leaky},
}


def model_of(name):
    settings = MODELS[name]
    return tr.RNNLM(V, H if settings.get("tied") else D, H, rng(), dtype=np.float64, **settings)


def same(found, wanted):
    wanted = [part.data if isinstance(part, tr.Tensor) else part for part in leaves(wanted)]
    for one, other in zip(leaves(found), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


def leaves(nest):
    if isinstance(nest, tuple | list | dict):
        return [leaf for part in (nest.values() if isinstance(nest, dict) else nest) for leaf in leaves(part)]
    return [nest]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_step_by_step_is_the_model_over_the_sequence(name, way):
    model, ids = model_of(name), rng().integers(V, size=(N, T))
    logits, last = model(ids)
    step, state = tr.Stepper(model, **way), None
    for t in range(T):
        found, state = step(ids[:, t], state)
        same(found, logits.data[:, t])
    same(state, last)
    assert step.reason is None
    assert step.compiled is None if way == WAYS[2] else len(step.compiled.plans) == 1


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_step_by_step_is_the_cell_unrolled(name, way):
    cell, xs = CELLS[name](), rng().standard_normal((N, T, D))
    outputs, last = tr.unroll(cell, xs)
    step, state = tr.Stepper(cell, **way), cell.initial_state(N)
    for t in range(T):
        found, state = step(xs[:, t], state)
        same(found, outputs.data[:, t])
    same(state, last)


def test_a_model_of_vectors_and_a_cell_of_ids_are_said():
    cell = tr.RNNCell(D, H, rng(), np.float64)
    xs = rng().standard_normal((N, 1, D))
    outputs, _ = tr.unroll(cell, xs)
    found, _ = tr.Stepper(lambda xs, h: tr.unroll(cell, xs, h), time_axis=True)(xs[:, 0], cell.initial_state(N))
    same(found, outputs.data[:, 0])
    table = tr.Embedding(V, D, rng(), np.float64)
    found, _ = tr.Stepper(lambda ids, h: cell(table(ids), h), time_axis=False)([1, 2], cell.initial_state(N))
    same(found, cell(table([1, 2]), cell.initial_state(N))[0])


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_parameters_that_change_between_two_steps_are_seen(way):
    model, step = model_of("lstm"), tr.Stepper(model_of("lstm"), **way)
    _, state = step([1, 2])
    for p, other in zip(step.model.parameters().values(), model.parameters().values(), strict=True):
        p.data = other.data = p.data * 2
    found, _ = step([3, 4], state)
    same(found, model(np.array([[3], [4]]), state)[0].data[:, 0])


def test_what_was_returned_stays_and_nothing_is_recorded():
    model = model_of("gru, tied")
    step = tr.Stepper(model)
    logits, state = step([1])
    kept = logits.copy(), leaves(state)[0].copy()
    for _ in range(5):
        _, state = step([2], state)
    assert np.array_equal(logits, kept[0])
    assert isinstance(logits, np.ndarray)
    with tr.no_grad():
        step([1])
    assert (model.embedding.W * 2).requires_grad


def test_nothing_is_recorded_where_nothing_is_compiled():
    w, seen = tr.parameter(np.ones(D)), []

    def cell(x, state):
        seen.append((x.shape, (x @ w).requires_grad))
        return x, state

    step = tr.Stepper(cell, compiled=False, time_axis=True)
    step(np.ones((N, D)))
    step.read(np.ones((N, T, D)))  # all at once
    assert seen == [((N, 1, D), False), ((N, T, D), False)]
    assert (w * 2).requires_grad


def test_a_number_of_streams_has_a_plan_of_its_own():
    step = tr.Stepper(model_of("rnn"))
    for count in (1, 3, 1, 3, 2, 5, 6, 7, 8):  # five new ones in a row are no reason to give up
        assert step([1] * count)[0].shape == (count, V)
    assert len(step.compiled.plans) == 7


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_read_is_the_steps_one_after_another(way):
    model, ids = model_of("lstm"), rng().integers(V, size=(N, T))
    step = tr.Stepper(model, **way)
    logits, state = step.read(ids[:, :4])
    logits, state = step.read(ids[:, 4:], state)
    wanted, last = model(ids)
    same(logits, wanted.data[:, -1])
    same(state, last)
    assert isinstance(logits, np.ndarray)
    cell, xs = CELLS["lstm"](), rng().standard_normal((N, T, D))
    output, _ = tr.Stepper(cell, **way).read(xs)
    same(output, tr.unroll(cell, xs)[0].data[:, -1])


def test_a_stepper_in_a_compiled_function_is_part_of_its_plan():
    step = tr.Stepper(model_of("rnn"))
    twice = tr.compile(lambda ids, state: step(ids, step(ids, state)[1])[0] * 2)
    state = step.model.initial_state(1)
    same(twice(np.array([1]), state), 2 * step([1], step([1], state)[1])[0])
    assert len(step.compiled.plans) == 1


def test_a_copy_has_a_model_and_plans_of_its_own():
    step = tr.Stepper(model_of("rnn"))
    wanted, _ = step([1])
    other = copy.deepcopy(step)
    other.model.output.b.data = np.arange(V) * 10.0
    assert np.argmax(other([1])[0]) == V - 1
    same(step([1])[0], wanted)


def test_another_array_outside_is_seen():
    scale = np.ones(D)

    def cell(x, state):
        return x * scale, state

    step = tr.Stepper(cell)
    assert np.array_equal(step(np.ones((N, D)))[0], np.ones((N, D)))
    scale = scale * 3
    assert np.array_equal(step(np.ones((N, D)))[0], np.full((N, D), 3.0))
    assert step.reason is None


def test_plans_go_with_the_stepper_at_once():
    step = tr.Stepper(model_of("lstm"))
    step([1])
    gc.disable()
    try:
        gone = weakref.ref(step.compiled)
        del step
        assert gone() is None
    finally:
        gc.enable()


# -- what cannot be compiled ------------------------------------------------------------------------------------------


class Deciding(Leaky):
    def __call__(self, x, state):
        h, state = super().__call__(x, state)
        return (h, state) if float(np.sum(np.asarray(h.data))) > 0 else (-h, state)


class Counting(Leaky):
    def initial_state(self, batch_size):
        return super().initial_state(batch_size), 0

    def __call__(self, x, state):
        h, inner = super().__call__(x, state[0])
        return h * (state[1] + 1), (inner, state[1] + 1)


class Remembering(Leaky):
    """Its state grows: it looks at all outputs before."""

    def initial_state(self, batch_size):
        return super().initial_state(batch_size), np.zeros((batch_size, 1, len(self.leak)))

    def __call__(self, x, state):
        h, inner = super().__call__(x, state[0])
        past = tr.concatenate([state[1], h[:, None]], axis=1)
        return np.mean(past, axis=1), (inner, past)


@pytest.mark.parametrize(
    ("kind", "calls", "reason"),
    [
        (Deciding, 1, "the value of a Tensor of shape"),
        (Counting, 4, "calls in a row each needed a plan of their own"),
        (Remembering, 4, "calls in a row each needed a plan of their own"),
    ],
)
def test_what_cannot_be_compiled_runs_as_it_is_and_says_why_once(kind, calls, reason):
    cell, xs = kind(D, H, rng()), rng().standard_normal((N, 8, D))
    step, state, plain = tr.Stepper(cell), None, cell.initial_state(N)
    for t in range(8):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found, state = step(xs[:, t], state)
        wanted, plain = cell(xs[:, t], plain)
        same((found, state), (wanted, plain))
        assert [str(one.message).partition(":")[0] for one in caught] == ["Stepper"] * (t + 1 == calls)
    assert reason in step.reason
    assert step.compiled is None
    assert all(isinstance(leaf, np.ndarray | int) for leaf in leaves(state))


def test_the_error_is_the_one_of_the_model_itself():
    model = model_of("rnn")
    step = tr.Stepper(model)
    for wrong in ([V], [-1]):
        with pytest.raises(IndexError) as plain:
            model(np.array([wrong]))
        for _ in range(2):
            with pytest.raises(IndexError) as found:
                step(wrong)
            assert str(found.value) == str(plain.value)
        step([1])
    assert step.reason is None
    assert step.compiled is not None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tr.Stepper(tr.RNNCell), ConfigError, "make one of the class first"),
        (lambda: tr.Stepper(3), ConfigError, "Stepper: expected a cell"),
        (
            lambda: tr.Stepper(tr.SequenceModel("gru", 2, 3, 1, np.random.default_rng(0))),
            ConfigError,
            "the attribute `layers`",
        ),
        (lambda: tr.Stepper(model_of("rnn"), executor="gpu"), ConfigError, "executor"),
        (lambda: tr.Stepper(model_of("rnn"), compiled=1), ConfigError, "compiled"),
        (lambda: tr.Stepper(model_of("rnn"), time_axis="no"), ConfigError, "time_axis"),
        (lambda: tr.Stepper(model_of("rnn"))(3), ShapeError, r"expected x of shape \(N,\) or \(N, D\).*got \(\)"),
        (lambda: tr.Stepper(model_of("rnn"))(["a"]), DTypeError, "Stepper: x"),
        (lambda: tr.Stepper(model_of("rnn")).read([1]), ShapeError, r"Stepper.read: expected xs of shape"),
        (lambda: tr.Stepper(lambda x, s: (x[:, 0], s))([1]), ShapeError, r"\(N, T, ...\) = \(1, 1, ...\)"),
        (lambda: tr.Stepper(lambda x, s: x)([1]), ConfigError, "return \\(output, state\\)"),
    ],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_model_that_reads_in_both_directions_is_refused():
    """The layers when the stepper is made, and a model that has them somewhere at the first step."""
    rng = np.random.default_rng(0)
    layers = tr.RecurrentLayers("rnn", 3, 4, rng, bidirectional=True)
    with pytest.raises(tr.ConfigError, match="Stepper: RecurrentLayers reads in both directions"):
        tr.Stepper(layers)

    class Tagger(tr.Module):
        time_axis = True

        def __init__(self):
            self.layers = layers

        def __call__(self, xs, state):
            return self.layers(xs, state)

    for compiled in (True, False):
        with pytest.raises(tr.ConfigError, match="bidirectional: the sequence comes in slices"):
            tr.Stepper(Tagger(), compiled=compiled)(np.zeros((2, 3), np.float32))
        with pytest.raises(tr.ConfigError, match="bidirectional: the sequence comes in slices"):
            tr.Stepper(Tagger(), compiled=compiled).read(np.zeros((2, 5, 3), np.float32))
