"""What `unroll` and `bidirectional` are given: sequences, intervals, states, cells; and what is refused."""

import warnings

import numpy as np
import pytest
from replay import executors

import tinygrad_rnn as tr


def make(kind="rnn", D=3, H=4):
    return {"rnn": tr.RNNCell, "lstm": tr.LSTMCell, "gru": tr.GRUCell}[kind](D, H, np.random.default_rng(0), np.float64)


def both(xs, **options):
    return tr.bidirectional(make(), make(), xs, **options)


class Table:
    """What a table of another library is to this one: not an array, but NumPy can make one of it."""

    def __init__(self, values):
        self.values = np.asarray(values)
        self.shape = self.values.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)

    def __matmul__(self, other):
        raise TypeError("a table knows nothing of Tensors")

    __getitem__ = __mul__ = __add__ = __matmul__


class Foreign:
    """An array of another library that only has the exchange protocol."""

    def __init__(self, values):
        self._values = np.asarray(values)

    def __dlpack__(self, **options):
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._values.__dlpack_device__()


class Elsewhere:
    """An array whose values NumPy cannot get at."""

    shape, ndim = (2, 4, 3), 3

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it lives on another device")


# intervals


@pytest.mark.parametrize("setting", [{}, *executors()], ids=str)
@pytest.mark.parametrize("wrong", [2.5, 2.0, True, False, 0, -1, np.float64(2), np.array(2), "2", np.nan])
def test_an_interval_is_an_integer_of_one_or_more(wrong, setting):
    def run(function):
        return tr.compile(function, **setting)() if setting else function()

    xs, model = np.ones((2, 4, 3)), tr.RNNLM(5, 3, 4, np.random.default_rng(0))
    ids = np.zeros((2, 4), int)
    for name, function in {
        "unroll": lambda: tr.unroll(make(), xs, cut_every=wrong)[0],
        "bidirectional": lambda: both(xs, cut_every=wrong)[0],
        "(unroll|RNNLM)": lambda: model.loss(ids, ids, cut_every=wrong)[0],
    }.items():
        with pytest.raises(tr.ConfigError, match=f"^{name}: cut_every must be an integer of 1 or more, got"):
            run(function)


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.int16])
def test_integers_of_numpy_are_intervals(kind):
    xs = tr.tensor(np.ones((1, 5, 3)), requires_grad=True)
    outputs, _ = tr.unroll(make(), xs, cut_every=kind(2))
    reached = np.abs(tr.grad(outputs[:, -2].sum(), xs)).sum(axis=(0, 2)) > 0
    assert reached.tolist() == [False, False, True, True, False]


# sequences


@pytest.mark.parametrize("wrap", [np.ndarray.tolist, Table, Foreign, lambda a: [list(row) for row in a], tr.tensor])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_what_numpy_makes_an_array_of_is_a_sequence(wrap, kind):
    xs = np.random.default_rng(1).standard_normal((2, 4, 3))
    cell, expected = make(kind), tr.unroll(make(kind), xs)[0].data
    np.testing.assert_array_equal(tr.unroll(cell, wrap(xs))[0].data, expected)
    np.testing.assert_array_equal(both(wrap(xs))[0].data, both(xs)[0].data)
    output, _ = cell(wrap(xs[:, 0]), cell.initial_state(2))
    np.testing.assert_array_equal(output.data, expected[:, 0])
    linear = tr.Linear(3, 2, np.random.default_rng(0), np.float64)
    np.testing.assert_array_equal(linear(wrap(xs)).data, linear(xs).data)
    embedding = tr.Embedding(5, 2, np.random.default_rng(0))
    np.testing.assert_array_equal(embedding(wrap(np.array([[1, 4]]))).data, embedding([[1, 4]]).data)


@pytest.mark.parametrize("setting", executors(), ids=str)
def test_nested_lists_in_a_compiled_function(setting):
    xs = np.random.default_rng(1).standard_normal((2, 4, 3))
    cell = make("lstm")
    step = tr.compile(lambda: tr.unroll(cell, xs.tolist())[0], **setting)
    np.testing.assert_allclose(step(), tr.unroll(cell, xs)[0].data, rtol=1e-12)


def test_dropout_of_integers_keeps_the_mean():
    dropped = tr.Dropout(0.3)([3] * 1000, np.random.default_rng(0))
    assert set(np.round(dropped, 6)) == {0.0, round(3 / 0.7, 6)}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: tr.unroll(make(), Elsewhere()),
            tr.DTypeError,
            "unroll: xs: cannot make an array .* from Elsewhere: it",
        ),
        (lambda: both([["a"]]), tr.DTypeError, "bidirectional: xs: expected numbers, got list of dtype <U1"),
        (lambda: tr.unroll(make(), [[[1.0], [1.0, 2.0]]]), tr.DTypeError, "unroll: xs: cannot make an array .* list"),
        (lambda: tr.unroll(make(), None), tr.DTypeError, "unroll: xs: expected numbers, got NoneType of dtype object"),
        (lambda: tr.unroll(make(), [1.0]), tr.ShapeError, r"\(N, T, D\) with T >= 1, got \(1,\)"),
        (lambda: tr.unroll(make(), [[1.0]]), tr.ShapeError, r"\(T, D\) = \(T, 3\) .*, got \(1, 1\); add the axis D"),
        (
            lambda: tr.Linear(3, 2, np.random.default_rng(0))("text"),
            tr.DTypeError,
            "Linear: x: expected numbers, got str",
        ),
        (
            lambda: tr.unroll(make(), [tr.tensor(np.ones((4, 3)), requires_grad=True)] * 2),
            tr.UnsupportedError,
            r"join Tensors with stack",
        ),
        (
            lambda: tr.unroll(make(), np.ones((2, 4, 3)), lengths=[[1], [2, 3]]),
            tr.DTypeError,
            "unroll: lengths: cannot",
        ),
        (
            lambda: both(np.ones((2, 4, 3)), lengths=[1.0, 2.0]),
            tr.DTypeError,
            "bidirectional: expected integer lengths",
        ),
    ],
)
def test_what_is_no_sequence(call, error, words):
    with pytest.raises(error, match=words):
        call()


# states and cells


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [
        ("lstm", (np.ones((2, 4)),) * 3, r"LSTMCell: expected a state \(h, c\), two parts .*\(N, 4\), got 3 parts"),
        ("lstm", (np.ones((2, 4)),), "got 1 part;"),
        ("lstm", np.ones((2, 4)), r"got one of shape \(2, 4\); start from cell.initial_state"),
        ("lstm", {"h": np.ones((2, 4)), "c": np.ones((2, 4))}, "got 2 parts"),
        ("lstm", (np.ones((2, 4)), np.ones((2, 5))), r"\(N, H\) = \(2, 4\), got \(2, 5\)"),
        ("rnn", (np.ones((2, 4)), np.ones((2, 4))), r"RNNCell: expected a state of shape .* = \(2, 4\), got a nesting"),
        ("gru", (tr.tensor(np.ones((2, 4))),), r"GRUCell: expected a state of shape .* = \(2, 4\), got a nesting"),
        ("gru", 3.0, r"= \(2, 4\), got \(\)"),
    ],
)
def test_states_of_other_parts(kind, state, words):
    with pytest.raises(tr.ShapeError, match=words):
        tr.unroll(make(kind), np.ones((2, 4, 3)), state)


def test_a_stack_wants_a_state_for_each_cell():
    cell = tr.Stacked([make(), make("lstm", 4)])
    for state in (np.ones((2, 4)), (np.ones((2, 4)),), cell.initial_state(2) * 2):
        with pytest.raises(tr.ShapeError, match="Stacked: expected a state of 2 parts, one for each layer, got"):
            tr.unroll(cell, np.ones((2, 4, 3)), state)


def one_value(x, h):
    return x + h


@pytest.mark.parametrize(
    "run", [lambda cell, xs, h: tr.unroll(cell, xs, h), lambda cell, xs, h: cell_in_stack(cell)(xs[:, 0], (h,))]
)
@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (one_value, r"one_value: expected a cell to return \(output, state\), got one of shape \(2, 3\)"),
        (lambda x, h: (x, h, h), "got 3 parts"),
        (lambda x, h: None, "got NoneType"),
    ],
)
def test_a_cell_returns_a_pair(cell, words, run):
    """A batch of two would unpack in silence."""
    with pytest.raises(tr.ConfigError, match=words):
        run(cell, tr.tensor(np.ones((2, 4, 3))), tr.tensor(np.ones((2, 3))))


def cell_in_stack(cell):
    return tr.Stacked([cell])


@pytest.mark.parametrize("setting", [{}, *executors()], ids=str)
@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda x, h: "text", r"an output of shape \(N, H\), got a str from cell at step 0"),
        (lambda x, h: None, r"an output of shape \(N, H\), got a NoneType"),
        (lambda x, h: 1.0, r"an output of shape \(N, H\), got a float"),
        (lambda x, h: np.sum(x), r"an output of shape \(N, H\), got a"),
        (
            lambda x, h: h,
            r"shape \(2, 4\) at each step, as at the first, got a.* of shape \(2, 3\) from cell at",
        ),
    ],
)
def test_a_cell_has_one_output_of_one_shape(output, words, setting):
    def cell(x, h):
        return output(x, h), x

    def run(xs):
        return tr.unroll(cell, xs, np.ones((2, 4)))[0]

    with pytest.raises(tr.ShapeError, match=f"unroll: expected .*{words}"):
        (tr.compile(run, **setting) if setting else run)(np.ones((2, 4, 3)))


def test_two_directions_want_two_states():
    for states in ((None,) * 3, (None,), np.ones((2, 4)), {"ahead": None, "back": None}):
        with pytest.raises(tr.ShapeError, match=r"bidirectional: expected states \(state before the first step"):
            both(np.ones((2, 4, 3)), states=states)


def test_a_language_model_wants_ids_and_a_state_for_each_layer():
    model, ids = tr.RNNLM(5, 3, 4, np.random.default_rng(0), layers=2), [[1, 2], [3, 4]]
    assert model(ids)[0].shape == (2, 2, 5)
    for state in (np.zeros((2, 4)), (np.zeros((2, 4)),), (1, 2, 3)):
        with pytest.raises(tr.ShapeError, match="RNNLM: expected a state of 2 parts, one for each layer, got"):
            model(ids, state)
    with pytest.raises(tr.DTypeError, match="RNNLM: ids: cannot make an array of numbers from list"):
        model([[1, 2], [3]])
    with pytest.raises(tr.DTypeError, match="CBOW: contexts: expected numbers, got str"):
        tr.CBOW(5, 3, 2, np.random.default_rng(0))("text")


@pytest.mark.parametrize("size", [-1, 2.0, True, None])
def test_a_batch_size_is_an_integer(size):
    with pytest.raises(tr.ConfigError, match=r"initial_state: batch_size must be an integer of 0 or more, got"):
        make("lstm").initial_state(size)


@pytest.mark.parametrize(
    ("cells", "words"),
    [([], r"got \[\]"), ("ab", "got 'ab'"), (make(), "got RNNCell"), ([tr.RNNCell], "make one of the class first")],
)
def test_a_stack_is_made_of_cells(cells, words):
    with pytest.raises(tr.ConfigError, match=f"Stacked: expected .*{words}"):
        tr.Stacked(cells)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (tr.RNNCell, "got <class 'tinygrad_rnn.nn.cells.RNNCell'>; make one"),
        *[("lstm", "got 'lstm'"), (None, "got None")],
        (tr.RecurrentLayers("rnn", 3, 4, np.random.default_rng(0)), "got RecurrentLayers, which reads whole sequences"),
    ],
)
def test_what_is_no_cell(cell, words):
    with pytest.raises(tr.ConfigError, match=f"unroll: expected a cell, .*{words}"):
        tr.unroll(cell, np.ones((2, 4, 3)))


# a state that is carried without a cut


def windows(carry, n=12, kind="lstm"):
    cell, rng = make(kind), np.random.default_rng(0)
    state, seen = cell.initial_state(2), []
    for _ in range(n):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            outputs, state = tr.unroll(cell, rng.standard_normal((2, 3, 3)), carry(state))
            tr.grad(np.sum(outputs * outputs), cell.parameters())
        seen += [one.category for one in found]
    return seen


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_state_that_is_never_cut_is_named(kind):
    assert windows(lambda state: state, kind=kind) == [tr.GradientWarning] * 2  # from the eleventh window on
    assert windows(tr.cut, kind=kind) == []
    with pytest.warns(tr.GradientWarning, match=r"carried through 10 windows.* Pass cut\(state\)"):
        run_uncut(kind)


def run_uncut(kind):
    cell = make(kind)
    state = cell.initial_state(2)
    for _ in range(11):
        outputs, state = tr.unroll(cell, np.ones((2, 3, 3)), state)
        tr.grad(np.sum(outputs), cell.parameters())


def test_correct_programs_hear_nothing():
    """One loss over many windows; many losses over one; states that are evaluated; a cut now and then."""
    cell = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state, total = cell.initial_state(2), 0.0
        for _ in range(30):
            outputs, state = tr.unroll(cell, np.ones((2, 1, 3)), state)
            total = total + np.sum(outputs)
        for _ in range(20):
            tr.grad(total, cell.parameters())
        with tr.no_grad():
            for _ in range(30):
                _, state = tr.unroll(cell, np.ones((2, 1, 3)), state)
        for n in range(30):
            outputs, state = tr.unroll(cell, np.ones((2, 1, 3)), tr.cut(state) if n % 5 == 0 else state)
            tr.grad(np.sum(outputs), cell.parameters())
