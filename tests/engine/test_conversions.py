"""A Tensor as a number, as text, as an array: no gradient is lost unseen, and everyday lines work."""

import copy
import math
import warnings

import numpy as np
import pytest
from replay import executors

import tinygrad_rnn as tr


@pytest.fixture
def w():
    return tr.tensor([3.0], requires_grad=True)


@pytest.fixture
def loss(w):
    return w[0] * w[0]


@pytest.mark.parametrize("dtype", [float, np.float32, np.float16, int, complex, np.longdouble])
def test_an_element_of_an_array_is_not_written(loss, dtype):
    array = np.zeros(2, dtype)
    with pytest.raises((tr.UnsupportedError, ValueError)) as caught:
        array[0] = loss
    error = caught.value if isinstance(caught.value, tr.UnsupportedError) else caught.value.__cause__
    assert isinstance(error, tr.UnsupportedError)
    assert "would lose its gradient" in str(error)
    assert not array.any()


@pytest.mark.parametrize(
    "write",
    [
        lambda array, x: array.__setitem__(slice(None), x),
        lambda array, x: array.__setitem__((), x),
        lambda array, x: array.__setitem__([0, 1], [x, x]),
        lambda array, x: np.copyto(array, x),
        lambda array, x: np.put(array, 0, x),
        lambda array, x: np.place(array, [True, False], x),
    ],
)
def test_an_array_is_not_written_in_other_ways(loss, write):
    array = np.zeros(2)
    with pytest.raises(tr.UnsupportedError, match="gradient would be lost|would lose its gradient"):
        write(array, loss)
    assert not array.any()


@pytest.mark.parametrize(
    "number",
    [
        float,
        int,
        complex,
        round,
        lambda x: round(x, 2),
        math.sqrt,
        lambda x: math.fsum([x, x]),
        np.float64,
        lambda x: np.zeros(2).fill(x),
        lambda x: np.zeros(2).__setitem__(0, x),
        lambda x: np.fromiter([x], float),
        lambda x: list(map(float, [x])),
    ],
)
def test_a_number_that_NumPy_may_have_asked_for_comes_with_a_warning(number, loss, w):
    with pytest.warns(tr.GradientWarning, match=r"without its gradient .*x\.item\(\)") as seen:
        number(loss)
    assert seen[0].filename == __file__
    with tr.no_grad():
        number(loss)  # no gradient is wanted
        number(w)
    number(tr.tensor(9.0))  # a constant
    loss.backward()
    number(loss)  # its gradient was taken, and cannot be taken again


def test_the_numbers_are_right(loss):
    constant = tr.tensor([[2.625]])
    assert [float(constant), int(constant), complex(constant), round(constant), round(constant, 1)] == [
        2.625,
        2,
        2.625,
        3,
        2.6,
    ]
    assert complex(tr.tensor(1 + 2j)) == 1 + 2j
    assert [loss.item(), loss.tolist(), tr.tensor([[1, 2]]).tolist()] == [9, 9, [[1, 2]]]
    assert tr.tensor([[1, 2], [3, 4]]).item(1, 0) == tr.tensor([[1, 2], [3, 4]]).item(2) == 3
    assert ["abc"[tr.tensor(1)], len(range(tr.tensor(4)))] == ["b", 4]


def test_text_needs_no_warning(loss):
    assert f"{loss:.3f} {loss:>8.2e}" == "9.000 9.00e+00"
    assert "{:g}".format(loss) == "9"  # noqa: UP032
    assert "%.2f, %d" % (loss, loss) == "9.00, 9"  # noqa: UP031
    assert f"{loss}" == str(loss) == "tensor(9., dtype=float64, op=multiply)"
    assert f"{tr.tensor(3):d} {tr.tensor([1.5]):.1f}" == "3 1.5"


@pytest.mark.parametrize(
    "collect", [np.array, np.asarray, np.mean, np.sum, np.max, np.float32, np.int64, np.atleast_1d]
)
def test_a_list_of_recorded_tensors_is_no_array_and_the_message_says_what_to_write(collect, loss):
    losses = [loss, loss + 1]
    with pytest.raises(tr.UnsupportedError, match=r"stack\(\[x, \.\.\.\]\).* x\.item\(\)"):
        collect(losses)
    assert np.mean([loss.item() for loss in losses]) == 9.5
    assert np.mean(tr.stack(losses)).requires_grad
    assert np.stack(losses).requires_grad
    with tr.no_grad():
        collect(losses)


def test_losses_are_plotted_after_their_backward_pass():
    """What plotting calls on a list: np.asarray with and without a dtype, np.ma, float of each."""
    w, losses = tr.tensor(2.0, requires_grad=True), []
    for _ in range(3):
        loss = w * w
        loss.backward()
        losses.append(loss)
    assert np.asarray(losses, float).tolist() == [4, 4, 4]
    assert np.ma.asarray(losses).tolist() == [4, 4, 4]
    assert np.mean(losses) == 4
    assert [float(loss) for loss in losses] == [4, 4, 4]


def test_a_new_tensor_does_not_drop_the_gradient_of_an_old_one(loss, w):
    for data in (loss, [loss], [[loss, 1.0]]):
        with pytest.raises(tr.UnsupportedError, match="would lose its gradient"):
            tr.tensor(data)
    with pytest.raises(tr.UnsupportedError, match=r"^Tensor.data: turning a recorded .* would lose its gradient"):
        w.data = loss.reshape(1)
    assert tr.tensor(loss.data).item() == 9
    start = tr.tensor(loss, requires_grad=True)  # a leaf of its own: that is what was asked for
    assert start.is_leaf
    assert tr.grad(start * 2, start) == 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_leaves_are_copied_results_are_not(copied, loss, w):
    w.grad, w.name = [5.0], "w"
    twin = copied(w)
    w.data, w.grad = [7.0], [8.0]
    assert (twin.data, twin.grad, twin.name, twin.requires_grad) == (3, 5, "w", True)
    assert not copied(tr.tensor([1.0])).requires_grad
    with pytest.raises(tr.GradientError, match=rf"copy.{copied.__name__}: only leaves .*multiply"):
        copied(loss)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: f"{x * np.ones(3):.2f}", tr.ShapeError, r"'.2f' is for a Tensor of one element, got shape \(3,\)"),
        (lambda x: range(x), tr.DTypeError, r"expected an integer .*got dtype float64 of shape \(\)"),
        (lambda x: [1, 2][x], tr.DTypeError, "expected an integer"),
        (lambda x: float(x * np.ones(3)), tr.ShapeError, r"one element, got shape \(3,\)"),
    ],
)
def test_errors(call, error, words, loss):
    with pytest.raises(error, match=words):
        call(loss)


@pytest.mark.parametrize("setting", executors(), ids=str)
@pytest.mark.parametrize(
    "read",
    [
        *(float, int, complex, round, bool, np.asarray, np.float64, math.sqrt, list),
        lambda x: f"{x:.3f}",
        lambda x: "%.3f" % x,  # noqa: UP031
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x.data,
        lambda x: np.mean([x, x]),
        lambda x: tr.tensor(x),
    ],
)
def test_a_compiled_function_does_not_read_values(read, setting):
    step = tr.compile(lambda w: (read(np.sum(w * w)), w)[1], **setting)
    for leaf in (tr.tensor([3.0], requires_grad=True), tr.tensor([3.0])):
        with pytest.raises((tr.TraceError, tr.ShapeError), match="while compile|0-d"):
            step(leaf)


@pytest.mark.parametrize("setting", executors(), ids=str)
def test_a_compiled_function_does_not_write_into_arrays(setting):
    """NumPy puts an error of its own around the one that explains."""
    for write in (lambda x: np.zeros(1).fill(x), lambda x: np.zeros(1).__setitem__(0, x)):
        with pytest.raises(ValueError, match="setting an array element") as caught:
            tr.compile(lambda w, write=write: (write(np.sum(w * w)), w)[1], **setting)(tr.tensor([3.0]))
        assert isinstance(caught.value.__cause__, tr.TraceError)


def test_printing_inside_a_compiled_function_shows_no_values():
    texts = []
    step = tr.compile(lambda w: (texts.append(f"{w * 2}"), w * 2)[1])
    assert step(tr.tensor([3.0])) == 6
    assert texts == ["tensor(shape=(1,), dtype=float64, not yet computed)"]


def test_everyday_lines_are_silent(w):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            loss = np.sum(w * w)
            gradient = tr.grad(loss, w)
            w.data = w.data - 0.1 * gradient
            assert f"{loss:.3f}".endswith(f"{loss.item():.3f}")
            assert bool(loss > 0)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda x, array: x * array, "multiply: expected a plain array, got"),
        (lambda x, array: x @ array.T, "expected a plain array, got"),
        (lambda x, array: np.tanh(x) + array, "add: expected a plain array, got"),
        (lambda x, array: tr.tensor(array), "tensor: expected a plain array, got"),
        (lambda x, array: tr.unroll(lambda x, h: (x, h), array[None], x), "unroll: xs: expected a plain array, got"),
        (lambda x, array: tr.Linear(3, 2, np.random.default_rng(0))(array), "Linear: x: expected a plain array, got"),
        (lambda x, array: tr.grad(x * 2, x, cotangent=array), "grad: cotangent: expected a plain array, got"),
        (lambda x, array: tr.jvp(np.tanh, (array,), (x,)), "jvp: primals: expected a plain array, got"),
        (lambda x, array: tr.jvp(np.tanh, (x,), (array,)), "jvp: tangents: expected a plain array, got"),
        (lambda x, array: tr.jacobian(np.tanh, array), "jacobian: primals: expected a plain array, got"),
        (lambda x, array: tr.mse(x, array), "mse: targets: expected a plain array, got"),
        (lambda x, array: tr.mae(array, x.data), "mae: predictions: expected a plain array, got"),
        (lambda x, array: tr.huber(x, x.data, mask=array > 1), "huber: mask: expected a plain array, got"),
        (lambda x, array: tr.gaussian_nll(x, x, array), "gaussian_nll: targets: expected a plain array, got"),
        (lambda x, array: tr.binary_cross_entropy(x, array > 1), "entropy: targets: expected a plain array, got"),
        (lambda x, array: tr.cross_entropy(array, [1]), "cross_entropy: logits: expected a plain array, got"),
        (lambda x, array: tr.cross_entropy(x.T, (array > 9)[0] * 1), "entropy: targets: expected a plain array, got"),
        (lambda x, array: tr.cross_entropy(x, [1], class_weights=array[0]), "weights: expected a plain array, got"),
        (lambda x, array: tr.ctc(np.ones((1, 9, 2)), (array < 9) * 1), "ctc: targets: expected a plain array, got"),
        (lambda x, array: tr.metrics.rmse(array, x), "rmse: predictions: expected a plain array, got"),
        (
            lambda x, array: tr.metrics.accuracy(x.T, (array < 1)[0] * 1),
            "accuracy: targets: expected a plain array, got",
        ),
        (lambda x, array: tr.metrics.nats(x.T, (array < 1)[0] * 1), "nats: targets: expected a plain array, got"),
        (lambda x, array: tr.Sequences(array), "Sequences: inputs: expected a plain array, got"),
        (lambda x, array: tr.Sequences([[1.0]], targets=list(array)), r"targets\[0\]: expected a plain array, got"),
        (lambda x, array: tr.sliding_windows(array[0], 1), "sliding_windows: series: expected a plain array, got"),
        (lambda x, array: tr.group_rows(array[0], np.ones((3, 1))), "group_rows: keys: expected a plain array, got"),
        (lambda x, array: tr.OffsetBatches(array[0], 1, 1), "OffsetBatches: .* expected a plain array, got"),
        (lambda x, array: tr.Vocabulary([*"ab"]).decode((array[0] < 1) * 1), "ids: expected a plain array, got"),
    ],
)
def test_arrays_that_are_more_than_arrays_are_refused(use, words):
    """A mask would be dropped in silence, and a matrix multiplied element by element."""
    x = tr.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    masked = np.ma.array([[1.0, 2.0, 3.0]], mask=[[True, False, False]])
    with pytest.raises(tr.DTypeError, match=words + " MaskedArray .* its mask would be lost"):
        use(x, masked)
    use(x, np.asarray(masked)[None][0])


@pytest.mark.parametrize("setting", executors(), ids=str)
def test_a_compiled_function_takes_plain_arrays_at_every_call(setting):
    step = tr.compile(lambda x: x * 2, **setting)
    assert step(np.ones(2)).tolist() == [2, 2]
    with pytest.raises(tr.DTypeError, match="arg0: expected a plain array, got MaskedArray"):
        step(np.ma.array([1.0, 2.0], mask=[True, False]))
    assert step(np.array([3.0, 4.0]).view(type("Labelled", (np.ndarray,), {}))).tolist() == [6, 8]


def test_a_masked_array_does_not_take_the_values_of_a_tensor(w):
    masked = np.ma.array([1.0], mask=[True])
    for use in (lambda: masked * w, lambda: masked + w, lambda: np.ma.multiply(w, w), lambda: np.ma.exp(w)):
        with pytest.raises((tr.UnsupportedError, tr.DTypeError)):
            use()


@pytest.mark.parametrize("setting", [{}, *executors()], ids=str)
@pytest.mark.parametrize(
    "use",
    [
        lambda x: np.full_like(x, x[0]),
        lambda x: np.full_like(x, fill_value=x[0]),
        lambda x: np.bincount(np.array([0, 1, 1]), x),
        lambda x: np.bincount(np.array([0, 1, 1]), weights=x),
    ],
)
def test_answers_that_would_need_a_gradient(use, setting):
    f = tr.compile(use, **setting) if setting else use
    with pytest.raises(tr.UnsupportedError, match="(fill_value|weights), a recorded Tensor of .* would be lost"):
        f(tr.tensor([1.0, 2.0, 3.0], requires_grad=True))
    assert np.full_like(tr.tensor([1.0, 2.0]), 3.0).tolist() == [3, 3]
    assert np.bincount(np.array([0, 1, 1]), tr.tensor([1.0, 2.0, 3.0])).tolist() == [1, 5]
