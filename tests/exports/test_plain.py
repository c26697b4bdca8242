"""Functions that the package computes in NumPy alone, in exported programs: numbers in C, ONNX Runtime and Node."""

import shutil

import numpy as np
import pytest
from c_programs import CModel, compiled
from node_runs import ran_in_node

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten
from tinygrad_rnn.exports.source import source_of_function

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((2, 3, 4)).astype(np.float32)
ODD = np.array([[np.nan, np.inf, -np.inf, 1], [2, np.nan, -0.0, 3], [0, 1e30, -1e30, 5]], np.float32)
SHARES = RNG.dirichlet(np.ones(4), 3).astype(np.float32)
IDS = np.array([3, -1, 0])
MASK, ROWS = RNG.random((3, 4)) > 0.4, np.array([True, False, True])


def learned(p, y, mask):
    """One update under a loss with a mask, clipped."""
    loss = tr.huber(np.tanh(p), y, mask=mask)
    clipped, norm = tr.clip_by_norm({"p": tr.grad(loss, p)}, 0.01)
    return loss, p - clipped["p"], norm


FUNCTIONS = {
    "a loss of numbers, with a mask": (lambda x, y, mask: tr.mse(x, y, mask=mask), X, Y, MASK),
    "a mask of rows": (lambda x, y, mask: tr.mae(x, y, mask=mask), X, Y, ROWS),
    "an update": (learned, tr.parameter(X), Y, ROWS),
    "probabilities of yes": (lambda x, q: tr.binary_cross_entropy(x, q), X, SHARES),
    "probabilities of yes, with a mask": (lambda x, q, mask: tr.binary_cross_entropy(x, q, mask=mask), X, SHARES, MASK),
    "probabilities of classes": (lambda x, q: tr.cross_entropy(x, q), X, SHARES),
    "probabilities of classes, smoothed": (lambda x, q: tr.cross_entropy(x, q, smoothing=0.2), X, SHARES),
    "norms": (lambda x, y: tr.optim.global_norm({"x": x * np.float32(1e25), "y": y}), X, Y),
    "truth values": (lambda x, y: tr.where((x > 0) & ~(y < 0.5) | (x < -1) ^ (y > 0), x, 0.0), X, Y),
    "numbers of truth values": (
        lambda x: np.astype(x > 0, np.float32) + np.astype(np.logical_not(x < 1), np.float32),
        X,
    ),
    "what is a number": (lambda x: (tr.where(np.isnan(x), 7.0, 8.0), tr.where(np.isfinite(x), x, 9.0)), ODD),
    "whether any are true": (lambda x: (np.any(x > 2), np.any(x > 1, axis=0), np.any(x > 1, 1, keepdims=True)), X),
    "whether all are true": (lambda x: (np.all(x > -9), np.all(x < 1, axis=0), np.all(np.trunc(x), axis=1)), X),
    "rounding": (lambda x: (np.round(x), np.round(x * 30, -1), np.round(x, decimals=1), np.round(x + 0.5)), X),
    "ids as an input, smoothed": (lambda x, ids: tr.cross_entropy(x, ids, smoothing=0.2, ignore_label=-1), X, IDS),
    "arithmetic of whole numbers": (
        lambda ids: (
            ids // 2,
            ids % 3,
            (7 * ids - 5) // (ids - 1),
            (5 - 7 * ids) % (ids + 2),
            np.sign(ids),
            ids * 2 + 1,
        ),
        IDS,
    ),
    "an element": (lambda x, y: (x[1, 2] * y, np.ravel(x)[-1], sum(np.unstack(y[0]))), X, Y),
}


def plain(part):
    return part.data if isinstance(part, tr.Tensor) else part


def expected(name):
    function, *args = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        return np.concatenate([np.ravel(plain(part)) for part in flatten(function(*args))])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_in_c(tmp_path, name):
    function, *args = FUNCTIONS[name]
    source = source_of_function(function, args, ())
    failed, results = CModel(compiled(tmp_path, {"f": source}), "f", source).step(*map(plain, args))
    assert not failed
    np.testing.assert_allclose(
        np.concatenate([np.ravel(part) for part in results]), expected(name), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_in_onnx(tmp_path, name):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx_runs import ran

    function, *args = FUNCTIONS[name]
    tr.export(function, tmp_path / "f.onnx", *args)
    made = np.concatenate([np.ravel(part) for part in ran(tmp_path / "f.onnx", *args)])
    np.testing.assert_allclose(made, expected(name), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on the path")
def test_numbers_in_node(tmp_path):
    pytest.importorskip("ziglang")
    for name, made in zip(FUNCTIONS, ran_in_node(tmp_path, FUNCTIONS.values()), strict=True):
        np.testing.assert_allclose(made, expected(name), rtol=1e-5, atol=1e-6, err_msg=name)
