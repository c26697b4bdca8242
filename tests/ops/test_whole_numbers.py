"""Functions of arrays of whole numbers, eager and compiled: what they give for the same numbers as floats."""

import numpy as np
import pytest

import tinygrad_rnn as tr

FUNCTIONS = {
    "sigmoid": tr.sigmoid,
    "softplus": tr.softplus,
    "softmax": tr.softmax,
    "log_softmax": tr.log_softmax,
    "log_softmax, axis": lambda x: tr.log_softmax(x, axis=0),
    "logsumexp": tr.logsumexp,
    "logsumexp, axis": lambda x: tr.logsumexp(x, axis=1, keepdims=True),
    "mean": lambda x: np.mean(x, axis=1),
    "tanh": tr.tanh,
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_whole_numbers_give_what_the_same_floats_give(name, dtype, compiled):
    function = tr.compile(FUNCTIONS[name], executor="numpy") if compiled else FUNCTIONS[name]
    x = np.array([[1, 0, 2], [3, 1, 1]]).astype(dtype)
    found = np.asarray(function(x))
    assert found.dtype.kind == "f"
    half = found.dtype == np.float16  # NumPy's tanh of bytes
    np.testing.assert_allclose(found, np.asarray(function(x.astype(float))), rtol=1e-3 if half else 1e-6)
