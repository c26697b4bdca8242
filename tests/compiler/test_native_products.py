"""Matrix products of the library: all sizes and layouts, what lies around operands and results left alone.

Operands lie within NaNs, so that one number too much is seen in the result; the result lies within other numbers, which
must be there afterwards.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import need_library, replay_call

from tinygrad_rnn.compiler.ir.operators import MATMUL

TOLERANCE = {"float64": 1e-13, "float32": 2e-6}  # of |a| @ |b|
LAYOUTS = ["plain", "transposed", "rows apart", "steps", "transposed steps", "upside down"]

lengths = st.one_of(st.integers(0, 70), st.sampled_from([96, 127, 128, 129, 200, 705, 1100]))
layouts = st.sampled_from(LAYOUTS)
dtypes = st.sampled_from(["float64", "float32"])
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def native():
    need_library()


def laid_out(values, layout):
    """Return these values (two axes) as a view of memory that is full of NaN otherwise."""
    n, m = values.shape
    if layout in ("plain", "transposed"):
        rows, columns = (n, m) if layout == "plain" else (m, n)
        view = np.full(n * m + 50, np.nan, values.dtype)[25 : 25 + n * m].reshape(rows, columns)
        view = view if layout == "plain" else view.T
    elif layout in ("rows apart", "upside down"):
        view = np.full((n + 2, m + 7), np.nan, values.dtype)[1 : n + 1, 3 : m + 3]
        view = view if layout == "rows apart" else view[::-1]
    elif layout == "steps":
        view = np.full((2 * n + 3, 3 * m + 4), np.nan, values.dtype)[2 : 2 * n + 2 : 2, 3 : 3 * m + 3 : 3]
    else:
        view = np.full((2 * m + 3, 3 * n + 4), np.nan, values.dtype)[2 : 2 * m + 2 : 2, 3 : 3 * n + 3 : 3].T
    assert view.shape == values.shape
    view[...] = values
    return view


def assert_product(a, b, out, whole, workers):
    """Compute out = a @ b and compare with NumPy; `out` is a view of `whole`, which is left as it was otherwise."""
    whole[...] = np.arange(whole.size).reshape(whole.shape) % 1000
    before, inside = whole.copy(), out.copy()
    out[...] = np.nan
    replay_call(MATMUL, [a, b], [out], workers)
    left, right = a.astype(np.float64), b.astype(np.float64)
    error = np.abs(out - left @ right)
    assert np.all(error <= TOLERANCE[out.dtype.name] * (np.abs(left) @ np.abs(right)))
    out[...] = inside
    assert np.array_equal(whole, before)


def result(shape, dtype):
    """Return (a place for a result, the memory around it): its rows lie apart."""
    whole = np.empty((*shape[:-2], 2 * shape[-2] + 3, shape[-1] + 9), dtype)
    return whole[..., 2 : 2 * shape[-2] + 2 : 2, 4 : shape[-1] + 4], whole


@given(
    M=lengths, N=lengths, K=lengths, left=layouts, right=layouts, dtype=dtypes, workers=st.integers(1, 3), seed=seeds
)
def test_two_matrices(M, N, K, left, right, dtype, workers, seed):
    rng = np.random.default_rng(seed)
    a = laid_out(rng.standard_normal((M, K)).astype(dtype), left)
    b = laid_out(rng.standard_normal((K, N)).astype(dtype), right)
    assert_product(a, b, *result((M, N), dtype), workers)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("right", ["plain", "transposed", "steps"])
@pytest.mark.parametrize("left", ["plain", "transposed"])
def test_all_small_sizes_around_the_vectors(left, right, dtype):
    """Each height of a tile with each number of columns around one, two, four and eight vectors."""
    rng = np.random.default_rng(0)
    for M in (1, 2, 5, 6, 7, 13, 41):
        for N in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 130):
            for K in (1, 7, 8, 16, 17, 33):
                a = laid_out(rng.standard_normal((M, K)).astype(dtype), left)
                b = laid_out(rng.standard_normal((K, N)).astype(dtype), right)
                out = np.full((M, N), np.nan, dtype)
                replay_call(MATMUL, [a, b], [out])
                expected = a.astype(np.float64) @ b.astype(np.float64)
                scale = np.abs(a).astype(np.float64) @ np.abs(b)
                assert np.all(np.abs(out - expected) <= TOLERANCE[dtype] * scale), (M, N, K)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("right", ["plain", "rows apart", "upside down"])
def test_a_row_times_rows_wider_than_a_page(right, dtype):
    """They are read whole, a few at a time, and one at a time at the end; the last vector overlaps the one before."""
    rng = np.random.default_rng(0)
    for N in (512, 1024, 1027, 2049):
        for K in (1, 7, 8, 9, 16, 23, 705):
            a = rng.standard_normal((1, K)).astype(dtype)
            b = laid_out(rng.standard_normal((K, N)).astype(dtype), right)
            for workers in (1, 3):
                assert_product(a, b, *result((1, N), dtype), workers)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("right", ["plain", "transposed", "steps"])
@pytest.mark.parametrize(
    ("M", "N", "K"), [(1, 600, 500), (3, 1030, 300), (44, 513, 600), (2, 100, 3000), (300, 600, 500), (7, 5, 60000)]
)
def test_large_matrices(M, N, K, right, dtype):
    """Workers share the columns of most of them; K is done in parts."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((M, K)).astype(dtype)
    b = laid_out(rng.standard_normal((K, N)).astype(dtype), right)
    assert_product(a, b, *result((M, N), dtype), 3)


@given(n=lengths, K=lengths, layout=layouts, steps=st.integers(1, 3), dtype=dtypes, seed=seeds)
def test_vectors(n, K, layout, steps, dtype, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, K)).astype(dtype)
    vector = laid_out(rng.standard_normal((K, 1)).astype(dtype), "plain" if steps == 1 else "steps")[:, 0]
    whole = np.empty(steps * n + 6, dtype)
    assert_product(laid_out(values, layout), vector, whole[3 : 3 + steps * n : steps], whole, 2)
    whole = np.empty(n + 6, dtype)
    assert_product(vector, laid_out(values.T, layout), whole[3 : 3 + n], whole, 2)
    whole = np.empty(3, dtype)
    assert_product(vector, vector, whole[1:2].reshape(()), whole, 2)


@given(
    T=st.integers(1, 4),
    M=lengths,
    N=lengths,
    K=lengths,
    turned=st.booleans(),
    one=st.booleans(),
    dtype=dtypes,
    seed=seeds,
)
def test_batches(T, M, N, K, turned, one, dtype, seed):
    """Many matrices by one, with rows that lie behind each other, and matrix by matrix."""
    rng = np.random.default_rng(seed)
    M, N, K = min(M, 99), min(N, 99), min(K, 99)
    a = rng.standard_normal((T, M, K)).astype(dtype)
    b = rng.standard_normal((N, K) if one else (T, N, K)).astype(dtype).swapaxes(-1, -2)
    b = b if turned else np.ascontiguousarray(b)
    if one:
        whole = np.empty((T * M + 2, N), dtype)
        assert_product(a, b, whole[1:-1].reshape(T, M, N), whole, 2)
    else:
        assert_product(a, b, *result((T, M, N), dtype), 2)


GUARDED = """
import ctypes, itertools, mmap
import numpy as np
from replay import replay_call
from tinygrad_rnn.compiler.ir.operators import MATMUL

protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
page = mmap.PAGESIZE


class Guarded:
    # Memory between two pages that nobody can touch.

    def __init__(self, pages):
        self.memory = mmap.mmap(-1, (pages + 2) * page)
        self.stop = (pages + 1) * page
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for at in (start, start + self.stop):
            assert protect(at, page, 0) == 0

    def array(self, rows, columns, turned, dtype, at_end):
        shape = (columns, rows) if turned else (rows, columns)
        nbytes = rows * columns * np.dtype(dtype).itemsize
        start = self.stop - nbytes if at_end else page
        array = np.frombuffer(self.memory, dtype, rows * columns, start).reshape(shape)
        array[...] = 1
        return array.T if turned else array


a, b, c = Guarded(20), Guarded(40), Guarded(20)
sizes = itertools.product([1, 3, 7, 45], [1, 3, 9, 17, 33, 70, 130], [1, 9, 17, 40, 130], [False, True], [False, True])
for M, N, K, left, right in sizes:
    for dtype, at_end in itertools.product(["f4", "f8"], [False, True]):
        out = c.array(M, N, False, dtype, at_end)
        operands = [a.array(M, K, left, dtype, at_end), b.array(K, N, right, dtype, at_end)]
        replay_call(MATMUL, operands, [out])
        assert (out == K).all()
print("done")
"""


def test_nothing_is_touched_before_or_behind_operands():
    """In a process of its own, which the system would end."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", GUARDED],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("right", ["plain", "transposed"])
def test_many_rows_are_multiplied_some_at_a_time(right, dtype):
    """By all of a matrix that is packed first, in several parts of K; the last one with K = 1100 is too large."""
    rng = np.random.default_rng(0)
    for M in (48, 49, 97, 300):
        for N, K in ((7, 40), (8, 40), (9, 1100), (17, 705), (64, 705), (130, 97), (250, 1100)):
            a = laid_out(rng.standard_normal((M, K)).astype(dtype), "rows apart")
            b = laid_out(rng.standard_normal((K, N)).astype(dtype), right)
            for workers in (1, 3):
                assert_product(a, b, *result((M, N), dtype), workers)
