"""Arrays without elements: every operation, each of its lengths 0 in turn, compiled and not.

What eager execution computes the compiled function computes, and what it refuses the compiled function refuses alike.
"""

import numpy as np
import pytest
from numpy_cases import draw
from ops.test_gradients import CASES
from replay import assert_equal, executors, small_plans_shared

import tinygrad_rnn as tr


def without_elements():
    """Yield (name, length) for every operation and every length of its operands: that length becomes 0."""
    for name, (_, shapes, *_) in CASES.items():
        for length in sorted({length for shape in shapes for length in shape if length > 0}):
            yield name, length


def outcome(call):
    """Return what a call gives, or the class of its error."""
    try:
        with np.errstate(all="ignore"):
            return call(), None
    except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
        return None, type(error)


@pytest.mark.sample(80)
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
@pytest.mark.parametrize(("name", "length"), list(without_elements()))
def test_operations(name, length):
    f, shapes, *domain = CASES[name]
    arrays = draw((f, [tuple(0 if n == length else n for n in shape) for shape in shapes], *domain), 0)

    def step(*xs):
        y = f(*xs)
        return y, tr.grad(np.sum(y * y), xs, allow_unused=True)

    xs = [tr.tensor(array, requires_grad=True) for array in arrays]
    expected, refused = outcome(lambda: step(*xs))
    for setting in executors():
        with small_plans_shared():
            compiled = tr.compile(step, **setting)
            for _ in range(2):
                result, error = outcome(lambda compiled=compiled: compiled(*xs))
                assert error is refused, setting
                if error is None:
                    assert_equal(result, expected, 1e-12)


@pytest.mark.parametrize("cell", [tr.RNNCell, tr.LSTMCell, tr.GRUCell])
@pytest.mark.parametrize(("N", "T"), [(0, 1), (0, 3)])
@pytest.mark.parametrize("lengths", [None, np.zeros(0, int)])
def test_cells_over_a_batch_of_none(cell, N, T, lengths):
    cell = cell(2, 4, np.random.default_rng(0), np.float64)

    def step(xs):
        outputs, state = tr.unroll(cell, xs, lengths=lengths)
        return outputs, state, tr.grad(np.sum(outputs * outputs), cell.parameters(), allow_unused=True)

    xs = np.random.default_rng(1).standard_normal((N, T, 2))
    expected, refused = outcome(lambda: step(xs))
    for setting in executors():
        result, error = outcome(lambda setting=setting: tr.compile(step, **setting)(xs))
        assert error is refused
        if error is None:
            assert_equal(result, expected, 1e-12)
