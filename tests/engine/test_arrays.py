"""What may become the array of a Tensor, and what would lose more than digits on the way."""

import numpy as np
import pytest

import tinygrad_rnn as tr


def leaf(values, dtype=None):
    return tr.tensor(values, dtype=dtype, requires_grad=dtype is None or np.dtype(dtype).kind in "fc", name="w")


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.float32, np.array([1 + 2j])),
        (np.float64, [1j]),
        (np.float32, ["1.5"]),
        (np.int64, [1.5]),
        (np.int64, np.array([2**64 - 1], np.uint64)),
        (np.int32, [2**40]),
        (np.uint8, [-1]),
        (bool, [2]),
        (np.float64, [None]),
    ],
)
def test_nothing_is_lost_without_a_word_when_a_leaf_gets_an_array(dtype, value):
    w = leaf(np.zeros(1), dtype)
    with pytest.raises(tr.DTypeError, match=r"Tensor\.data \(w\): .*(fit dtype|numbers)"):
        w.data = value
    assert not w.data.any()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.float32, np.array([1.5])),
        (np.float32, [3]),
        (np.float16, [True]),
        (np.complex64, [1.5]),
        (np.complex64, np.array([1 + 2j])),
        (np.uint8, [255]),
        (np.int32, np.array([7], np.uint64)),
        (np.float64, np.array([2**62])),
    ],
)
def test_what_fits_is_taken(dtype, value):
    w = leaf(np.zeros(1), dtype)
    w.data = value
    assert w.dtype == dtype
    assert w.data[0] == np.asarray(value)[0]


def test_a_gradient_is_cast_by_the_same_rule():
    w = leaf(np.zeros(1), np.float32)
    w.grad = [1]
    assert w.grad.dtype == np.float32
    with pytest.raises(tr.DTypeError, match=r"Tensor.grad \(w\): .* fit dtype float32, got complex128"):
        w.grad = [1j]


def test_parameters_are_loaded_by_the_same_rule_all_or_nothing():
    cell = tr.RNNCell(2, 3, np.random.default_rng(0))
    before = {name: p.data.copy() for name, p in cell.parameters().items()}
    for bad in (before["b"] + 1j, before["b"].astype(str)):
        with pytest.raises(tr.DTypeError, match=r"RNNCell\.load: b: expected .*(fit dtype float32|numbers)"):
            cell.load({name: value * 2 for name, value in before.items()} | {"b": bad})
        for name, parameter in cell.parameters().items():
            np.testing.assert_array_equal(parameter.data, before[name])
    cell.load({name: value.astype(np.float64) for name, value in before.items()})
    assert cell.b.dtype == np.float32


def test_a_dtype_that_is_asked_for_is_given_but_not_a_real_one_for_complex_numbers():
    assert tr.tensor([1.5], dtype=int).item() == 1
    assert tr.tensor([1, 2**70], dtype=float).data[1] == 2.0**70
    for value in ([1j], np.array([1 + 2j]), np.complex64(1j)):
        with pytest.raises(tr.DTypeError, match=r"tensor: expected real numbers for dtype float32, got complex"):
            tr.tensor(value, dtype=np.float32)
    with pytest.raises(tr.DTypeError, match="expected numbers"):
        tr.tensor(["1.5"], dtype=float)


@pytest.mark.parametrize("dtype", [object, str, "float33", "M8[s]", [("a", float)]])
def test_a_dtype_is_one_of_numbers(dtype):
    with pytest.raises(tr.DTypeError, match="tensor: expected a dtype (of numbers|such as)"):
        tr.tensor([1.0], dtype=dtype)


def test_the_parameters_of_another_model_are_loaded_as_they_are():
    one, other = (tr.GRUCell(2, 3, np.random.default_rng(seed)) for seed in (0, 1))
    one.load(other.parameters())
    for name, parameter in one.parameters().items():
        assert parameter.data.tobytes() == other.parameters()[name].data.tobytes()
    with pytest.raises(tr.ShapeError, match=r"GRUCell\.load: expected a dict of arrays by name, got a list"):
        one.load([1.0])
