"""A product and a sum that overwrites it are one record, with the same bits."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import need_library, normal, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.native import encode
from tinygrad_rnn.compiler.native.numbers import NAMES
from tinygrad_rnn.compiler.native.program import Records


def names(f, *args):
    """Return the names of the records of a plan."""
    compiled = tr.compile(f, executor="numpy")
    compiled(*args)
    pieces = encode.encode(compiled.plan, 1).pieces
    return [NAMES[op] for piece in pieces if isinstance(piece, Records) for op in piece.array["op"]]


def affine(x, w, b):
    return np.tanh(x @ w + b)


def affine_turned(x, w, b):
    return np.tanh(b + x @ w.T)


ARGS = normal(6, 5), normal(5, 7), normal(7)


@given(
    M=st.sampled_from([1, 2, 6, 7, 45]),
    N=st.sampled_from([1, 3, 16, 17, 40, 100]),
    K=st.sampled_from([1, 5, 17, 720]),
    rows=st.booleans(),
    turned=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    threads=st.integers(1, 3),
)
def test_results_are_those_of_two_records_bit_by_bit(M, N, K, rows, turned, dtype, threads):
    need_library()
    f = affine_turned if turned else affine
    shapes = (M, K), (N, K) if turned else (K, N), (M, N) if rows else (N,)
    args = [normal(*shape, seed=seed).astype(dtype) for seed, shape in enumerate(shapes)]
    results = []
    with small_plans_shared():
        results.append(tr.compile(f, executor="native", threads=threads)(*args))
        with mock.patch.object(encode, "added", iter):
            results.append(tr.compile(f, executor="native", threads=threads)(*args))
    assert results[0].tobytes() == results[1].tobytes()


def test_a_sum_is_part_of_the_product_that_it_overwrites():
    assert names(affine, *ARGS) == ["matmul", "tanh"]
    assert names(affine, *ARGS[:2], normal(6, 7)) == ["matmul", "tanh"]


@pytest.mark.parametrize(
    "f",
    [
        lambda x, w, b: (x @ w) * b,
        lambda x, w, b: (x @ w) + (x @ w),
        lambda x, w, b: (lambda y: (y + b) * y)(x @ w),  # the product is read again
        lambda x, w, b: np.tanh((x @ w) + normal(6, 1)),
        lambda x, w, b: np.tanh((x @ w) + 1.0),
    ],
)
def test_what_stays_a_record_of_its_own(f):
    found = names(f, *ARGS)
    assert found[found.index("matmul") + 1] in ("add", "multiply")
