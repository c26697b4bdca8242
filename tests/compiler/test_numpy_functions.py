"""NumPy functions in a compiled function: values, gradients and gradients of gradients are those of eager code."""

import numpy as np
import numpy_cases
import pytest
from numpy_cases import CASES
from replay import assert_replays

import tinygrad_rnn as tr

TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_compiled_equals_eager(name, dtype):
    f, *_ = CASES[name]

    def step(*xs):
        y = f(*xs)
        first = tr.grad(np.sum(np.tanh(y)), xs, create_graph=True)
        return y, first, tr.grad(sum(np.sum(g * g) for g in first), xs, allow_unused=True)

    calls = [[tr.tensor(a, dtype, True) for a in numpy_cases.draw(CASES[name], seed)] for seed in (0, 1)]
    assert_replays(step, *calls, tolerance=TOLERANCE[dtype])
