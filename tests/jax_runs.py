"""Steps as functions of JAX: what the tests of `to_jax` share."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import map_leaves

jax = pytest.importorskip("jax", reason="the extra [jax] is not installed")


@pytest.fixture(autouse=True, scope="module")
def settings_of_jax():
    """Float64, and a compiler that takes half of its time."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, True)
    with jax.enable_x64(True):
        yield
    jax.config.update(name, before)


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(*shape, seed=0):
    return rng(seed).standard_normal(shape)


def arrays(nest):
    """Return a nest with the arrays of JAX, and the values of Tensors, as NumPy's; keys in order, as JAX sorts them."""
    if isinstance(nest, dict):
        return {name: arrays(nest[name]) for name in sorted(nest)}
    if isinstance(nest, list | tuple):
        return [*map(arrays, nest)]
    return nest if nest is None else np.asarray(nest.data if isinstance(nest, tr.Tensor) else nest)


def values(nest):
    """Return a nest of Tensors as what a function of JAX takes."""
    return map_leaves(lambda part: part.data, nest)


def assert_same(got, wanted, tolerance=1e-12):
    def compare(one, other):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        scale = np.abs(other[np.isfinite(other)]).max(initial=1e-30) if other.dtype.kind == "f" else 1
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)

    map_leaves(compare, arrays(got), arrays(wanted))


def check(f, *args, weights=None):
    """Compare a step in JAX, under jit, with the step itself."""
    arguments = map_leaves(lambda part: part.data if isinstance(part, tr.Tensor) else part, args)
    assert_same(jax.jit(tr.to_jax(f, weights=weights))(*arguments), f(*args))


x, y, M = normal(2, 3), normal(2, 3, seed=1), normal(3, 4, seed=2)
