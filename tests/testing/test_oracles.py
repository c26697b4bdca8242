"""Slopes without a derivative rule, and the rule of acceptance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.testing.judge import Tolerance
from tinygrad_rnn.testing.oracles import ComplexStep, Differences, OracleError, Slope, four_point_slope, one_sided_slope

EPS = float(np.finfo(np.longdouble).eps)
points = st.floats(-2, 2, allow_nan=False)
wide = pytest.mark.skipif(EPS > 1e-18, reason="longdouble is float64 on this platform")


@wide
@given(x=points)
def test_four_points_in_longdouble_are_good_to_fourteen_digits(x):
    slope = four_point_slope(lambda t: np.exp(np.sin(np.longdouble(x) + t)), np.longdouble(1e-4))
    assert slope == pytest.approx(np.exp(np.sin(x)) * np.cos(x), rel=1e-14, abs=1e-14)


@wide
@given(x=points)
def test_five_points_on_one_side_are_good_to_twelve_digits(x):
    for h in (1e-4, -1e-4):
        slope = one_sided_slope(lambda t: np.exp(np.sin(np.longdouble(x) + t)), np.longdouble(h))
        assert slope == pytest.approx(np.exp(np.sin(x)) * np.cos(x), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("value", "distance", "nearest"), [(0.0, 1.0, 1.0), (1.5, 0.0, 1.5), (4.0, 2.0, 2.0)])
def test_between_the_one_sided_slopes_everything_is_right(value, distance, nearest):
    assert Slope(1.0, 2.0).distance(value) == distance
    assert Slope(1.0, 2.0).nearest(value) == nearest


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_infinitely_far(value):
    assert Slope(1.0, 2.0).distance(value) == np.inf
    assert Slope(value, value).distance(1.0) == np.inf


@pytest.mark.parametrize("claimed", [0.0, 0.25, 1.0])
def test_at_a_kink_every_slope_between_the_sides_is_accepted(claimed):
    oracle = Differences(np.longdouble, EPS, size=1.0)
    slope = oracle.slope(lambda t: max(t, 0 * t), claimed, allowed=1e-13, length=1.0)
    assert slope.distance(claimed) <= 1e-13 + slope.slack
    sides = ComplexStep(value=0.0, size=1.0, sides=True).slope(lambda t: np.maximum(t, 0), claimed, 1e-13, 1.0)
    assert sides == (0, 1, 0)


@pytest.mark.parametrize("claimed", [-0.001, 1.001, 3.0])
def test_at_a_kink_slopes_beyond_the_sides_are_not(claimed):
    oracle = Differences(np.longdouble, EPS, size=1.0)
    slope = oracle.slope(lambda t: max(t, 0 * t), claimed, allowed=1e-13, length=1.0)
    assert slope.distance(claimed) == pytest.approx(min(abs(claimed), abs(claimed - 1)), abs=1e-9)
    assert slope.distance(claimed) > 1e-13 + slope.slack


@pytest.mark.parametrize("kink", [1e-4, -2e-5, 1e-6, 3e-4])
@pytest.mark.parametrize(("claimed", "right"), [(0.0, True), (1e-6, False), (0.5, False)])
def test_a_kink_close_by_does_not_count(kink, claimed, right):
    oracle = Differences(np.longdouble, EPS, size=1.0)
    slope = oracle.slope(lambda t: max(np.sign(kink) * (t - kink), 0 * t), claimed, allowed=1e-13, length=1.0)
    assert (slope.distance(claimed) <= 1e-13 + slope.slack) == right


@wide
def test_a_wrong_slope_of_a_smooth_function_gets_no_slack():
    oracle = Differences(np.longdouble, EPS, size=1.0)
    slope = oracle.slope(np.sin, 1 + 1e-11, allowed=1e-13, length=1.0)
    assert slope.distance(1 + 1e-11) > 1e-13 + slope.slack


def test_another_real_part_under_complex_inputs_is_an_error():
    oracle = ComplexStep(value=1.0, size=1.0)
    assert oracle.slope(lambda t: 1.0 + 2 * t, 2.0, 1e-13, 1.0) == (2, 2, 0)
    with pytest.raises(OracleError, match="its value is 3.0 for complex inputs, and 1.0 for real ones"):
        oracle.slope(lambda t: 3.0 + t, 1.0, 1e-13, 1.0)


def test_the_rule_of_acceptance():
    tolerance = Tolerance(rtol=1e-2, atol=1e-3, largest=10.0)
    assert tolerance.allowed(terms=4.0, slope=2.0, spread=3.0) == pytest.approx(0.06 + 0.03)
    assert Tolerance(1e-2, 1e-3, largest=0.5).allowed(0.0, 0.0, 3.0) == pytest.approx(0.003)
