"""What the C library leaves to NumPy, in WebAssembly: made of what it knows. Numbers in Node against eager Python."""

import shutil

import numpy as np
import pytest
from node_runs import ran_in_node

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten

X = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((5, 2, 3))
ODD = np.array([[1, np.nan, 5, np.nan], [np.inf, 2, np.inf, 0], [-np.inf, -1, -np.inf, -2]], np.float32)
IDS, LENGTHS = np.array([[0, 4, 2], [3, 3, -1]]), np.array([2, 5])
CELL = tr.GRUCell(3, 4, np.random.default_rng(2))
KEYS = tr.parameter(np.random.default_rng(3).standard_normal((2, 5, 3)), np.float32)
TIES = np.array([[2.0, 1, 2, 0], [1, 1, 1, 1]])


def gradient(function, x):
    """Return the gradient of the sum of squares of what a function makes of x times a parameter."""
    return tr.grad(np.sum(function(x * KEYS) ** 2), KEYS)


def attended(x, q):
    """Attention over time: scores, a softmax over the axis in the middle, and a sum over it; with its gradient."""
    shares = tr.softmax(np.sum(x * KEYS * q, axis=2, keepdims=True), axis=1)
    context = np.sum(shares * x, axis=1)
    return context, tr.grad(np.sum(context**2), KEYS)


FUNCTIONS = {
    "sums over axes in the middle": (lambda x: (np.sum(x, axis=1), np.mean(x, axis=(0, 2), keepdims=True)), X),
    "moments over an axis in the middle": (lambda w: (np.var(w, axis=1), np.std(w, axis=1, keepdims=True)), W),
    "attention": (attended, X, X[:, :1]),
    "a diagonal": (lambda w: (np.trace(w[0, :, :2]), np.diagonal(w[:3, 0]), np.sum(np.diagonal(w[:2, 0]))), W),
    "softmax over any axes": (
        lambda x, w: (
            *(tr.softmax(x, axis=axis) for axis in (0, 1, 2, None, (0, 2))),
            *(tr.logsumexp(w, axis=axis) for axis in (0, 1, 2, None, (0, 2))),
            tr.log_softmax(np.swapaxes(w, 1, 2)),
        ),
        X,
        W,
    ),
    "extreme entries of several axes": (lambda x: (np.max(x, axis=(0, 2)), np.min(x, axis=(1, 2)), np.max(x)), X),
    "gradients of extreme entries": (
        lambda x: (gradient(lambda y: np.max(y, axis=1), x), gradient(lambda y: np.min(np.trunc(y)), x)),
        X,
    ),
    "positions": (
        lambda x: (np.argmax(x, axis=1), np.argmin(x), np.argmax(x, axis=-1, keepdims=True), np.argmin(x, 0)),
        X,
    ),
    "positions of what is odd": (lambda x: (np.argmax(x, axis=1), np.argmin(x, axis=1), np.argmax(x)), ODD),
    "positions of equal entries": (lambda x: (np.argmax(x, axis=1), np.argmin(x, axis=1)), TIES),
    "positions of whole numbers": (lambda ids: (np.argmax(ids, axis=1), np.argmax(ids > 2, axis=0)), IDS),
    "the likeliest id, looked up": (lambda x: (KEYS[0][np.argmax(x, axis=2)], np.argmax(x[0], axis=0) + 1), X),
    "running sums and products": (lambda x: (np.cumsum(x, axis=1), np.cumprod(x, axis=2), np.cumsum(x)), X),
    "running sums with infinities": (lambda x: np.cumsum(np.maximum(x[1:], -3), axis=0), ODD),
    "gradients of running sums and products": (
        lambda x: (gradient(lambda y: np.cumsum(y, axis=1), x), gradient(lambda y: np.cumprod(y, axis=2), x)),
        X,
    ),
    "products": (lambda x: (np.prod(x, axis=1), np.prod(x, axis=(0, 2)), np.prod(x)), X),
    "gradients of products": (lambda x: gradient(lambda y: np.prod(y, axis=1), x), X),
    "arithmetic of whole numbers": (
        lambda ids: (ids * 2 + 1, ids // 2, ids % 3, ids // (ids - 3), -ids, np.maximum(ids, 1), np.abs(ids), ids / 2),
        IDS,
    ),
    "softmax of whole numbers": (lambda ids: (tr.softmax(ids), tr.logsumexp(ids, axis=0), np.mean(ids, axis=1)), IDS),
    "large whole numbers": (lambda ids: (ids * 2**50, ids + 2**52), IDS),
    "comparisons of whole numbers": (
        lambda ids, x: ((ids == 3) * x[:, 0], ids >= 1, tr.where(ids != 4, ids, 7), ids < x[:, 0], np.sum(ids == 3)),
        IDS,
        X,
    ),
    "truth values as numbers": (lambda x: (np.mean(x > 0), np.sum(x > 0, axis=1), (x > 0) * x, (x > 0) + (x < 1)), X),
    "conversions": (
        lambda ids, x: (ids.astype(np.float32) * x[:, 0], (x * 5).astype(np.int64), (x > 0).astype(np.int64), x != 0),
        IDS,
        X,
    ),
    "whole numbers put together": (
        lambda ids: (
            np.stack([ids, ids + 1], axis=-1),
            np.concatenate([ids, ids * 2], axis=1),
            np.stack([ids > 1, ids < 0]),
        ),
        IDS,
    ),
    "lookups along any axis": (lambda x: (x[:, np.array([2, 0, -1])], x[:, :, np.array([[1], [2]])]), X),
    "lookups with ids as an input": (lambda ids, x: (x[:, ids], KEYS[0][ids], np.take(KEYS, ids, axis=1)), IDS, X),
    "gradients of lookups": (
        lambda ids, x: (gradient(lambda y: y[:, ids], x), gradient(lambda y: y[:, :, ids % 3], x)),
        IDS,
        X,
    ),
    "entries along an axis": (
        lambda ids, x: (
            np.take_along_axis(x, ids[:, :, None], axis=1),
            np.take_along_axis(x, np.stack([ids] * 5, axis=1) % 3, axis=2),
            np.take_along_axis(x, ids[:, None], axis=1),
        ),
        IDS,
        X,
    ),
    "gradients of entries along an axis": (
        lambda ids, x: (
            gradient(lambda y: np.take_along_axis(y, ids[:, :, None], axis=1), x),
            gradient(lambda y: np.take_along_axis(y, ids[:, None], axis=1), x),
        ),
        IDS,
        X,
    ),
    "lengths as an input": (
        lambda x, lengths: (
            tr.unroll(CELL, x, lengths=lengths),
            tr.bidirectional(CELL, CELL, x, lengths=lengths),
            tr.grad(np.sum(tr.bidirectional(CELL, CELL, x * KEYS, lengths=lengths)[0] ** 2), KEYS),
        ),
        X,
        LENGTHS,
    ),
    "a loss without its gradient": (
        lambda x, ids: (
            tr.cross_entropy(x[:, :3], ids, ignore_label=-1),
            gradient(lambda y: tr.cross_entropy(y[:, :3], ids), x),
        ),
        X,
        IDS % 3,
    ),
    "repeated and padded": (lambda x: (np.repeat(x, 2, axis=1), np.tile(x, (1, 2, 1)), np.pad(x, 1)), X),
    "how many are right": (lambda x, ids: np.mean(np.argmax(x[:, :3], axis=-1) == ids), X, IDS),
}


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on the path")
def test_numbers_in_node(tmp_path):
    pytest.importorskip("ziglang")
    for (name, (function, *args)), made in zip(
        FUNCTIONS.items(), ran_in_node(tmp_path, FUNCTIONS.values()), strict=True
    ):
        with np.errstate(all="ignore"):
            results = [part.data if isinstance(part, tr.Tensor) else part for part in flatten(function(*args))]
        expected = np.concatenate([np.ravel(part) for part in results])
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on the path")
@pytest.mark.parametrize("wrong", [5, -6])
def test_an_entry_out_of_range_is_an_error(tmp_path, wrong):
    """And not that of the next row, which lies after it in the table."""
    pytest.importorskip("ziglang")
    ids = np.array([[[0]], [[4]]])
    taken = (lambda x, ids: np.take_along_axis(x, ids, axis=1), X, ids)
    assert len(ran_in_node(tmp_path, [taken])[0]) == 6
    with pytest.raises(AssertionError, match=r"out of range|range"):
        ran_in_node(tmp_path, [taken], [[X, np.array([[[wrong]], [[0]]])]])
