"""C99: functions of whole numbers, compiled without a warning."""

import c_programs as c
import numpy as np
import pytest

import tinygrad_rnn as tr


def of_exponentials(i):
    """Functions of whole numbers whose results are real."""
    return tr.logsumexp(i), tr.logsumexp(i, axis=1), tr.softmax(i), tr.log_softmax(i, axis=0), np.mean(i, axis=0)


def of_quotients(i):
    return i // 3, i % 3, i // i[::-1], i % i[::-1]


@pytest.mark.parametrize(
    ("f", "dtype"),
    [(of_exponentials, "int64"), (of_exponentials, "int32"), (of_quotients, "uint8"), (of_quotients, "int32")],
)
def test_functions_of_whole_numbers(tmp_path, f, dtype):
    i = np.array([[0, 3, 1], [7, 0, 2]], dtype)
    source = c.function_source(f, i)
    code, found = c.CModel(c.compiled(tmp_path, {"f": source}), "f", source).step(i)
    assert code == 0
    with np.errstate(divide="ignore"):
        for got, wanted in zip(found, f(i), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-12, strict=True)


def test_exponentials_of_bytes_are_refused(tmp_path):
    """They are of half precision, which C does not have."""
    with pytest.raises(tr.UnsupportedError, match="C has no type for the dtype float16"):
        tr.export(lambda i: np.sum(np.exp(i)), tmp_path / "f.c", np.array([1, 2], np.uint8))
