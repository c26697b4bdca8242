"""Standardizing: mean 0, deviation 1, there and back, as a part of a model."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr


@given(seed=st.integers(0, 99), D=st.integers(1, 4), missing=st.floats(0, 0.5))
def test_there_and_back(seed, D, missing):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((40, 5, D)) * 10.0 ** rng.integers(-3, 4, D) + rng.standard_normal(D)
    seen = np.where(rng.random(values.shape) < missing, np.nan, values)
    scale = tr.Standardize(D, np.float64).fit(seen)
    scaled = scale(seen)
    np.testing.assert_allclose(np.nanmean(scaled, axis=(0, 1)), 0, atol=1e-9)
    np.testing.assert_allclose(np.nanstd(scaled, axis=(0, 1)), 1, rtol=1e-9)
    np.testing.assert_allclose(scale.inverse(scale(values)), values, rtol=1e-9, atol=1e-9)


def test_in_a_model_it_is_no_parameter_and_gradients_go_through():
    scale = tr.Standardize(2).fit([[0.0, 5.0], [2.0, 5.0]])
    assert scale.parameters() == {}
    assert scale.deviation.tolist() == [1.0, 1.0]  # a constant is divided by 1
    x = tr.tensor(np.ones((3, 2)), np.float32, True)
    y = scale(x)
    assert y.dtype == np.float32
    assert tr.grad(y.sum(), x).tolist() == [[1.0, 1.0]] * 3


def test_each_column_of_a_table_has_its_own_mean():
    table = np.random.default_rng(0).normal([0.0, 5.0, -300.0], [1.0, 0.1, 90.0], (200, 3))
    scaled = tr.Standardize(3, np.float64).fit(table)(table)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(scaled.std(axis=0), 1)
    counts = tr.Standardize(2).fit([[1, 20], [3, 60]])
    assert counts(np.array([[2, 80]])).dtype == np.float32  # whole numbers get the dtype of the model
    np.testing.assert_allclose(counts([[2, 80]]), [[0.0, 2.0]])
    windows = np.arange(12.0).reshape(3, 4)  # of one feature
    assert tr.Standardize(1, np.float64).fit(windows[..., None]).mean == 5.5


def test_sequences_of_different_lengths_count_step_by_step():
    sequences = [np.random.default_rng(T).standard_normal((T, 3)) for T in (4, 9, 2)]
    one, all_steps = (tr.Standardize(3).fit(values) for values in (sequences, np.concatenate(sequences)))
    assert one.mean.tolist() == all_steps.mean.tolist()
    assert one.deviation.tolist() == all_steps.deviation.tolist()
    with pytest.raises(tr.ShapeError, match=r"Standardize.fit: expected \(..., D\) with D = 3, got \(2, 2\)"):
        tr.Standardize(3).fit([*sequences, np.ones((2, 2))])


def test_it_is_saved_with_a_model():
    class Model(tr.Module):
        def __init__(self):
            self.scale, self.head = tr.Standardize(2), tr.Linear(2, 1, np.random.default_rng(0))

    fitted, other = Model(), Model()
    fitted.scale.fit([[0.0, 5.0], [2.0, 9.0]])
    other.load(fitted.state_dict())
    assert other.scale.mean.tolist() == [1.0, 7.0]
    assert other.scale.deviation.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tr.Standardize(0), tr.ConfigError, "features must be"),
        (
            lambda: tr.Standardize(2).fit(np.ones((3, 3))),
            tr.ShapeError,
            r"Standardize.fit: expected \(..., D\) with D = 2",
        ),
        (
            lambda: tr.Standardize().fit(np.ones((9, 3))),  # one mean for all columns is hardly wanted
            tr.ShapeError,
            r"D = 1, got \(9, 3\); Standardize\(3\) is for as many columns, values\[..., None\] are of one",
        ),
        (lambda: tr.Standardize(2)(np.ones(3)), tr.ShapeError, "D = 2"),
        (lambda: tr.Standardize(2).inverse(np.ones(3)), tr.ShapeError, "Standardize.inverse"),
        (lambda: tr.Standardize(2).fit([[1.0, np.nan]]), tr.ShapeError, "feature 1 of 2 has no finite values"),
        (lambda: tr.Standardize(1).fit([]), tr.ShapeError, "feature 0 of 1 has no finite values"),
        (lambda: tr.Standardize(1).fit([1j]), tr.DTypeError, "expected real values"),
    ],
)
def test_what_does_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("value", [0.0, 0.1, 7.7, 1e9 + 0.1])
@pytest.mark.parametrize("count", [1, 3, 1001])
def test_a_feature_that_does_not_vary_is_divided_by_1(value, count):
    """The mean of equal numbers is off by a rounding, and so is their deviation from it."""
    assert tr.Standardize(1).fit(np.full((count, 1), value)).deviation.tolist() == [1.0]


def test_a_mean_that_is_too_large_for_the_dtype_is_said():
    times = 1.7e9 + 60.0 * np.arange(100)[:, None]
    with pytest.warns(RuntimeWarning, match="the mean of feature 1, 1.7e.09, is too large for float32"):
        tr.Standardize(2).fit(np.hstack([times - times[0], times]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tr.Standardize(1, dtype=np.float64).fit(times)
        tr.Standardize(2).fit(np.hstack([times - times[0], np.full_like(times, 1.7e9)]))
