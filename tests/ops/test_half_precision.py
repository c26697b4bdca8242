"""Half precision: what is added up is added up in float32, and rounded once."""

import numpy as np
import pytest
from replay import executors, small_plans_shared

import tinygrad_rnn as tr

COMPILED = pytest.mark.parametrize("setting", [None, *executors()], ids=lambda s: s["executor"] if s else "eager")
EPS = float(np.finfo(np.float16).eps)
LARGE = np.random.default_rng(0).uniform(0.5, 1.5, (70_000, 1)).astype(np.float16)
FAR = np.array([[0, 0, 0, 0, 0, 600], [10, 0, 20, 0, 30, -550]], np.float16)  # squares overflow, their mean does not
WHERE = np.array([True, True, False, True, True, True])
IDS = np.zeros(5000, int)
LOGITS = np.random.default_rng(0).standard_normal((20_000, 5)).astype(np.float16)
TARGETS = np.random.default_rng(1).integers(0, 5, 20_000)

# name: (function, its operand)
CASES = {
    "cross_entropy": (lambda x: tr.cross_entropy(x, TARGETS), LOGITS),
    "cross_entropy, some ignored": (lambda x: tr.cross_entropy(x, np.where(TARGETS == 3, -1, TARGETS)), LOGITS),
    "binary_cross_entropy": (lambda x: tr.binary_cross_entropy(x, np.ones((20_000, 5))), LOGITS),
    "mean": (np.mean, LARGE),
    "mean, first axis": (lambda x: np.mean(x, axis=0), LARGE),
    "mean, large": (lambda x: np.mean(x * 1000, axis=0, keepdims=True), LARGE[:500]),
    "sum": (lambda x: np.sum(x * 2.0**-4), LARGE),
    "sum, first axis": (lambda x: np.sum(x * 2.0**-4, axis=0), LARGE),
    "var": (np.var, FAR),
    "var, last axis": (lambda x: np.var(x * 0.1, axis=-1), FAR),
    "var, some": (lambda x: np.var(x * 0.4, axis=1, ddof=1, where=WHERE), FAR),
    "mean, some": (lambda x: np.mean(x, where=TARGETS[:, None] < 4), np.ones((20_000, 1), np.float16)),
    "norm": (np.linalg.norm, FAR),
    "norm, last axis": (lambda x: np.linalg.norm(x, axis=1), FAR),
    "prod": (np.prod, np.random.default_rng(2).uniform(0.98, 1.02, 2000).astype(np.float16)),
    "cumsum": (lambda x: np.cumsum(x * 2.0**-7, axis=0)[::100], LARGE[:5000]),
    "cumulative_sum": (lambda x: np.cumulative_sum(x * 2.0**-7, axis=0)[::100], LARGE[:5000]),
    "cumprod": (
        lambda x: np.cumprod(x)[::100] * 2.0**-4,
        np.random.default_rng(2).uniform(0.98, 1.02, 2000).astype(np.float16),
    ),
    "logsumexp": (tr.logsumexp, LARGE),
    "log_softmax": (lambda x: tr.log_softmax(x, axis=0) * 2.0**-4, LARGE[:50]),
    "softmax": (lambda x: tr.softmax(x, axis=0) * 1000, LARGE[:5000]),
    "take": (lambda x: np.take(x, IDS, axis=0) * 0.01, LARGE[:3]),
    "getitem": (lambda x: x[IDS] * 0.01, LARGE[:3]),
    "take_along_axis": (lambda x: np.take_along_axis(x, IDS[:, None], axis=0) * 0.01, LARGE[:3]),
    "broadcast": (lambda x: x[0] * 0.01 + np.zeros((5000, 1), np.float16), LARGE[:1]),
    "matmul": (lambda x: x.T @ (x * 2.0**-4), LARGE),
    "max": (np.max, LARGE),
}


def value_and_gradient(f, x):
    y = f(x)
    return y, tr.grad(np.sum(y), x)


@COMPILED
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, setting):
    f, x = CASES[name]
    leaf = tr.tensor(x, requires_grad=True)
    with small_plans_shared():
        made = (value_and_gradient if setting is None else tr.compile(value_and_gradient, **setting))(f, leaf)
    y, d = (part.data if isinstance(part, tr.Tensor) else part for part in made)
    assert (y.dtype, d.dtype) == (np.float16, np.float16)
    wide = tr.tensor(x.astype(np.float64), requires_grad=True)
    value, gradient = value_and_gradient(f, wide)
    np.testing.assert_allclose(y.astype(float), np.asarray(value.data), rtol=4 * EPS, atol=1e-6)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(d.astype(float), gradient, rtol=8 * EPS, atol=2 * EPS * scale + 6e-8)


def test_the_numbers_of_the_reports():
    x = tr.tensor(np.ones(70_000, np.float16), requires_grad=True)
    assert tr.grad(np.mean(x), x)[0] == np.float16(1 / 70_000) > 0
    assert np.mean(x).item() == 1
    logits = tr.tensor(np.zeros((20_000, 81), np.float16), requires_grad=True)
    assert tr.cross_entropy(logits, np.zeros(20_000, int)).item() == pytest.approx(np.log(81), rel=EPS)
    assert np.var(tr.tensor(FAR[0])).item() == np.float16(50_000)
