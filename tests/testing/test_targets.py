"""What check_grads takes, what it calls the leaves, and what it says of inputs that it cannot use."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.testing import Batch, check_grads


def normal(*shape):
    return np.random.default_rng(1).standard_normal(shape)


def cell_of(kind, dtype=np.float64):
    return kind(3, 4, np.random.default_rng(0), dtype)


def model_of(**options):
    return tr.RNNLM(5, 4, 4, np.random.default_rng(0), **{"dtype": np.float64, **options})


OUT = ["output.W", "output.b"]
IDS = np.random.default_rng(2).integers(0, 5, (2, 6))


class Nested(tr.Module):
    """A cell of a user: a dict for a state, in which a counter travels."""

    def __init__(self):
        self.W = tr.tensor(normal(3, 4), requires_grad=True)
        self.a = tr.tensor(normal(4), requires_grad=True)

    def initial_state(self, batch_size):
        return {"h": np.zeros((batch_size, 4)), "more": (0, np.ones((batch_size, 1)))}

    def __call__(self, x, state):
        count, total = state["more"]
        h = np.tanh(x @ self.W + self.a * state["h"])
        return h, {"h": h, "more": (count + 1, total * np.sum(h, axis=1, keepdims=True))}


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: check_grads(lambda x, W: np.tanh(x @ W), normal(2, 3), normal(3, 4)), ["x", "W"]),
        (lambda: check_grads(np.multiply, normal(2, 3), normal(3)), None),
        (lambda: check_grads(tr.tanh, normal(2)), ["x"]),
        (lambda: check_grads(lambda *xs: np.stack(xs), normal(2), normal(2)), ["x0", "x1"]),
        (lambda: check_grads(lambda x, y: x * y, 3.0, np.float64(2)), ["x", "y"]),
        (lambda: check_grads(lambda x: x * 2, [1.0, 2.0]), ["x"]),
        (lambda: check_grads(lambda p, n: p["a"] * p["b"][1] ** n, {"a": normal(2), "b": (1, normal(2))}, 3), None),
        (lambda: check_grads(lambda x: tr.take(x, [0, 2, 0]), normal(3)), ["x"]),
        (lambda: check_grads(cell_of(tr.RNNCell), normal(2, 3)), ["Wx", "Wh", "b", "x", "state"]),
        (lambda: check_grads(cell_of(tr.GRUCell), normal(2, 5, 3)), ["Wx", "Wh", "b", "bh", "xs", "state"]),
        (lambda: check_grads(cell_of(tr.LSTMCell), normal(2, 5, 3)), ["Wx", "Wh", "b", "xs", "state.0", "state.1"]),
        (lambda: check_grads(Nested(), normal(2, 5, 3)), ["W", "a", "xs", "state.h", "state.more.1"]),
        (lambda: check_grads(Nested(), normal(2, 3), Nested().initial_state(2)), None),
        (lambda: check_grads(model_of(), IDS, IDS), None),
        (lambda: check_grads(model_of().loss, IDS, IDS), None),
        (lambda: check_grads(model_of(cell="gru"), Batch(IDS, IDS)), None),
        (lambda: check_grads(model_of(tied=True, layers=2, cell="lstm"), Batch(IDS, IDS)), None),
        (lambda: check_grads(model_of(), IDS), ["embedding.W", "layers.0.Wx", "layers.0.Wh", "layers.0.b", *OUT]),
        (lambda: check_grads(model_of(), IDS, model_of().initial_state(2)), None),
        (lambda: check_grads(tr.CBOW(5, 3, 2, np.random.default_rng(0)), IDS[:, :2]), ["embedding.W", *OUT]),
        (
            lambda: check_grads(tr.CBOW(5, 3, 2, np.random.default_rng(0), combine="concat"), IDS[:, :2], IDS[:, 2]),
            None,
        ),
        (lambda: check_grads(tr.Linear(3, 2, np.random.default_rng(0)), normal(2, 5, 3)), ["W", "b", "x"]),
        (lambda: check_grads(tr.Embedding(5, 2, np.random.default_rng(0)), IDS), ["W"]),
        (lambda: check_grads(tr.Dropout(0.5), normal(4, 5), np.random.default_rng(3)), ["x"]),
        (lambda: check_grads(lambda z: tr.cross_entropy(z, [[0, -1], [2, 1]]), normal(2, 2, 4)), ["z"]),
        (lambda: check_grads(lambda z, ids: tr.cross_entropy(z, ids), normal(2, 4), np.array([3, -1])), ["z"]),
    ],
)
def test_leaves_are_found_and_named(call, names):
    report = call()
    assert report.ok
    if names is not None:
        assert [leaf.name for leaf in report.leaves] == names


def test_a_sequence_with_cuts_in_both_directions_and_lengths():
    ahead, back = cell_of(tr.RNNCell), cell_of(tr.GRUCell)
    leaves = {f"ahead.{k}": p for k, p in ahead.parameters().items()} | {
        f"b.{k}": p for k, p in back.parameters().items()
    }
    report = check_grads(
        lambda xs: tr.bidirectional(ahead, back, xs, cut_every=2, lengths=[5, 3]), normal(2, 5, 3), parameters=leaves
    )
    assert len(report.leaves) == 8


def test_a_tensor_that_is_a_leaf_is_used_as_it_is_and_one_that_is_not_is_copied():
    w = tr.tensor(normal(3), requires_grad=True, name="weight")
    report = check_grads(lambda a, b, c: a * w * b + c, w, w * 2, tr.tensor(normal(3)))
    assert [leaf.name for leaf in report.leaves] == ["weight", "b", "c"]
    assert not report.notes
    again = check_grads(lambda a: a * w, w, parameters={"w": w})
    assert [leaf.name for leaf in again.leaves] == ["w"]


def test_a_first_state_of_zeros_gets_noise_so_that_the_gradient_of_wh_is_not_0():
    report = check_grads(cell_of(tr.RNNCell), normal(2, 3))
    assert report.notes == ("first state: initial_state and normal noise of standard deviation 0.5",)


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_are_given_back_as_they_were(fails):
    cell = cell_of(tr.LSTMCell, np.float32)
    before = {name: (p.data, p.node) for name, p in cell.parameters().items()}
    cell.Wx.grad = np.ones((3, 16))
    report = check_grads(cell, normal(2, 5, 3).astype(np.float32), rtol=0 if fails else 1e-10, atol=0, check=False)
    assert report.ok != fails
    for name, p in cell.parameters().items():
        assert p.data is before[name][0]
        assert p.node is before[name][1]
        assert p.dtype == np.float32
    assert (cell.Wx.grad == 1).all()
    assert any("checked in float64: Wx (float32)" in note for note in report.notes)


def test_leaves_are_given_back_also_when_the_function_raises():
    w = tr.tensor(np.ones(3, np.float32), requires_grad=True)

    def breaks(x):
        if x.dtype.kind == "c":
            raise KeyError("no")
        return x * w

    with pytest.raises(KeyError):
        check_grads(breaks, normal(3), parameters={"w": w})
    assert w.dtype == np.float32


def test_a_generator_is_rewound_for_each_call_and_not_used_up():
    rng = np.random.default_rng(3)
    assert check_grads(tr.Dropout(0.5), normal(4, 5), rng).ok
    assert rng.random() == np.random.default_rng(3).random()


def test_a_policy_is_not_used_up():
    policies = [tr.Randomized(c=0.3, rng=np.random.default_rng(0)), tr.Adaptive(0.1, 5)]
    draws = np.random.default_rng(0).random()
    for policy in policies:
        check_grads(cell_of(tr.RNNCell), normal(2, 5, 3), truncation=policy)
    assert policies[0].rng.random() == draws
    assert policies[1].window == 2


def test_leaves_from_outside_are_named_as_not_checked():
    w = tr.tensor(normal(3), requires_grad=True, name="w")
    assert check_grads(lambda x: x * w, normal(3)).notes == (
        "not checked: w (3,), used from outside; pass parameters={name: Tensor} to check them",
    )
    assert not check_grads(lambda x: x * w, normal(3), parameters={"w": w}).notes


def test_a_gradient_of_zeros_is_said_to_show_little():
    report = check_grads(lambda x, y: x * y, np.zeros(2), normal(2))
    assert report.notes == ("the gradient of y is 0 everywhere, so the check says little about it",)


def step(xs, h):
    return np.sum(h), h


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: check_grads(3.0, normal(2)), TypeError, "f must be a function, a cell or a model, got float"),
        (lambda: check_grads(lambda x: x, np.arange(3)), tr.DTypeError, r"nothing to differentiate: .*\(got x ndarray"),
        (lambda: check_grads(lambda: 1.0), tr.DTypeError, "got no inputs"),
        (lambda: check_grads(lambda x: x, normal(2) * 1j), tr.DTypeError, "x is complex"),
        (
            lambda: check_grads(lambda x: 3, normal(2)),
            tr.GradientError,
            r"no floating point Tensor that depends .* \(x\)",
        ),
        (lambda: check_grads(lambda x: x.data * 2, normal(2)), tr.GradientError, "not with their .data"),
        (lambda: check_grads(lambda x: x, np.array([1, np.nan])), tr.NonFiniteError, r"x \(2,\) has values that"),
        (
            lambda: check_grads(np.log, np.zeros(2)),
            tr.NonFiniteError,
            r"output 0 of log, of shape \(2,\), is not finite",
        ),
        (lambda: check_grads(lambda x: x, normal(2), parameters={"w": normal(2)}), tr.GradientError, "parameter w"),
        (
            lambda: check_grads(lambda x: x, normal(2), parameters={"w": tr.tensor(1.0)}),
            tr.GradientError,
            "requires_grad",
        ),
        (lambda: check_grads(cell_of(tr.RNNCell), normal(3)), tr.ShapeError, r"x \(N, D\) or xs \(N, T, D\)"),
        (lambda: check_grads(cell_of(tr.RNNCell), normal(2, 5, 7)), tr.ShapeError, r"expected x of shape \(N, D\)"),
        (
            lambda: check_grads(np.tanh, normal(2), directions=0),
            tr.ConfigError,
            "directions must be an integer of 1 or more, got 0",
        ),
        (
            lambda: check_grads(np.tanh, normal(2), full="all"),
            tr.ConfigError,
            "full must be one of True, False, 'auto', got 'all'",
        ),
        (lambda: check_grads(np.tanh, normal(2), rtol=-1), tr.ConfigError, "rtol must be a finite number of 0 or more"),
        (
            lambda: check_grads(np.tanh, normal(2), atol=np.nan),
            tr.ConfigError,
            "atol must be a finite number of 0 or more",
        ),
        (
            lambda: check_grads(np.tanh, normal(2), method="fast"),
            tr.ConfigError,
            "method must be one of 'auto', 'complex', 'longdouble', got 'fast'",
        ),
        (
            lambda: check_grads(np.tanh, normal(2), order=3),
            tr.ConfigError,
            "order must be an integer from 1 to 2, got 3",
        ),
        (lambda: check_grads(np.tanh, normal(2), truncation=4), tr.ConfigError, r"such as Chunked\(35\)"),
        (lambda: check_grads(np.tanh, normal(2), truncation=tr.Full()), tr.ConfigError, "needs a cell with xs"),
        (lambda: check_grads(step, normal(2, 3), normal(2), truncation=tr.Full()), tr.ConfigError, "parameters={name:"),
        (lambda: under(tr.Full(), cell=cell_of(tr.RNNCell), order=2), tr.ConfigError, "use unroll with cut_every="),
        (lambda: under(tr.Full(), cell=Plain()), tr.DTypeError, "has no parameters, so nothing is truncated"),
        (lambda: under(Upper()), tr.ConfigError, r"triangular \(T, T\) = \(5, 5\) matrix, got entries above the d"),
        (lambda: under(Misplaced()), tr.ConfigError, "Misplaced: scale.. is not 1 at edge"),
        (lambda: check_grads(model_of(), IDS[0], IDS[0], truncation=tr.Full()), tr.ShapeError, "ids and targets"),
    ],
)
def test_errors_name_the_argument_and_what_to_do(call, error, words):
    with np.errstate(divide="ignore"), pytest.raises(error, match=words):
        call()


def under(policy, cell=None, **options):
    return check_grads(cell or cell_of(tr.RNNCell), normal(2, 5, 3), truncation=policy, **options)


class Plain:
    def initial_state(self, batch_size):
        return np.zeros((batch_size, 3))

    def __call__(self, x, h):
        return h + x, h + x


class Upper(tr.Windowed):
    def __init__(self):
        super().__init__(2)

    def mask(self, T):
        return np.ones((T, T))


class Misplaced(tr.Policy):
    def scale(self, edge, end):
        return 0.5


# -- modules with a loss -----------------------------------------------------------------------------------------------


class Regression(tr.Module):
    """A number for each sequence; `initial_state` does not make it a cell, for it has a loss."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.cell, self.output = tr.GRUCell(3, 2, rng, np.float64), tr.Linear(2, 1, rng, np.float64)

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def __call__(self, xs, state=None):
        outputs, state = tr.unroll(self.cell, xs, state)
        return self.output(outputs)[..., 0], state

    def loss(self, xs, ys, state=None):
        outputs, state = self(xs, state)
        return np.mean((outputs - ys) ** 2), state


class OnlyLoss(tr.Module):
    """A module that cannot be called, and takes its batch as one dict."""

    def __init__(self):
        self.w = tr.parameter(normal(3))

    def loss(self, batch):
        return np.sum((batch["x"] @ self.w - batch["y"]) ** 2)


class WrongLoss(OnlyLoss):
    def loss(self, batch):
        return np.sum((batch["x"] @ self.w.data - batch["y"]) ** 2) + 0 * np.sum(self.w)


def squared(model, xs, ys):
    return np.mean((model(xs)[0] - ys) ** 2), {"sequences": len(ys)}


def squared_batch(model, batch):
    return squared(model, *batch)


PARAMETERS = [*(f"cell.{name}" for name in ("Wx", "Wh", "b", "bh")), *OUT]


@pytest.mark.parametrize(
    ("call", "names", "called"),
    [
        (lambda m: check_grads(m, normal(2, 4, 3), normal(2, 4)), [*PARAMETERS, "xs", "ys"], "Regression.loss, xs, ys"),
        (lambda m: check_grads(m, (normal(2, 4, 3), normal(2, 4))), [*PARAMETERS, "xs", "ys"], "Regression.loss, xs"),
        (lambda m: check_grads(m, normal(2, 4, 3)), [*PARAMETERS, "xs"], "Regression(...), xs"),
        (lambda m: check_grads(m, normal(2, 4, 3), normal(2, 2)), [*PARAMETERS, "xs", "state"], "Regression(...), xs"),
        (
            lambda m: check_grads(m, normal(2, 4, 3), normal(2, 4), loss=squared),
            [*PARAMETERS, "xs", "ys"],
            "Regression(...), xs, ys, loss=squared",
        ),
        (
            lambda m: check_grads(m, (normal(2, 4, 3), normal(2, 4)), loss=squared_batch),
            [*PARAMETERS, "batch.0", "batch.1"],
            "Regression(...), batch, loss=squared_batch",
        ),
        (
            lambda m: check_grads(m, (normal(2, 4, 3), normal(2, 4)), loss=squared, order=2),
            [*PARAMETERS, "xs", "ys"],
            "Regression(...), xs, ys, loss=squared, order=2",
        ),
        (
            lambda m: check_grads(m, normal(2, 4, 3), normal(2, 4), truncation=tr.Windowed(2)),
            [*PARAMETERS, "first state"],
            "Regression(...), xs, ys, truncation=Windowed(h=2, every=1)",
        ),
        (
            lambda m: check_grads(OnlyLoss(), {"x": normal(2, 3), "y": normal(2)}),
            ["w", "batch.x", "batch.y"],
            "OnlyLoss.loss, batch",
        ),
    ],
)
def test_any_module_with_a_loss(call, names, called):
    report = call(Regression())
    assert report.ok
    assert [leaf.name for leaf in report.leaves] == names
    assert report.reproducer.startswith(f"check_grads({called}")


def test_a_wrong_loss_is_found():
    batch = {"x": normal(2, 3), "y": normal(2)}
    assert check_grads(WrongLoss(), batch, check=False).wrong == ("w",)

    def forgets(model, batch):
        return np.sum((batch["x"] @ model.w - tr.cut(batch["x"] @ model.w)) ** 2) + np.sum(batch["x"].data @ model.w)

    assert check_grads(OnlyLoss(), batch, loss=forgets, check=False).wrong == ("batch.x", "batch.y")
    with pytest.raises(tr.ConfigError, match=r"loss= and truncation= do not go together; pass step"):
        check_grads(Regression(), normal(2, 4, 3), normal(2, 4), loss=squared, truncation=tr.Full())
