"""`to_jax`: keys, devices, drawn programs, weights and errors."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax_runs import M, assert_same, check, jax, rng, values, x
from jax_runs import settings_of_jax as settings_of_jax
from programs import lines, write
from verdict import difference, rounding

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import map_leaves

# -- draws ------------------------------------------------------------------------------------------------------------


def test_a_key_takes_the_place_of_a_generator():
    cell = tr.Zoneout(tr.RNNCell(3, 4, rng(), np.float64), 0.5)
    drop = tr.Dropout(0.25)

    def f(xs, draws):
        outputs, _ = tr.unroll(cell.with_rng(draws, 40), xs)
        return outputs, drop(np.ones(4000), draws), draws

    step, xs = jax.jit(tr.to_jax(f)), np.ones((40, 5, 3))
    one, same = step(xs, jax.random.key(1)), step(xs, jax.random.key(1))
    other = step(xs, one[2])
    assert_same(one[:2], same[:2], 0)
    assert not np.array_equal(one[1], other[1])
    assert np.unique(one[1]).round(6).tolist() == [0, 1.333333]
    assert 0.2 < np.mean(np.asarray(one[1]) == 0) < 0.3
    stays = np.asarray(one[0])[:, 1:] == np.asarray(one[0])[:, :-1]  # another draw at each step
    assert 0.4 < stays.mean() < 0.6
    assert not np.array_equal(stays[:, 0], stays[:, 1])


# -- devices ----------------------------------------------------------------------------------------------------------

DEVICES = """
import json, jax, numpy as np, tinygrad_rnn as tr
jax.config.update("jax_enable_x64", True)
from jax.sharding import Mesh, NamedSharding, PartitionSpec
model = tr.RNNLM(7, 3, 4, np.random.default_rng(0), dtype=np.float64)

def update(params, ids, targets, state):
    loss, state = model.loss(ids, targets, state)
    grads = tr.grad(loss, params)
    return loss, {name: p - 0.5 * grads[name] for name, p in params.items()}, state

exported = tr.to_jax(update, weights={"params": model.parameters()})
step = jax.jit(exported)
params, state = exported.arrays((model.parameters(), model.initial_state(8)))
ids, targets = np.random.default_rng(1).integers(0, 7, (2, 8, 5))
alone = step(params, ids, targets, state)
mesh = Mesh(jax.devices(), ("data",))
everywhere, parts = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
placed = jax.device_put((params, ids, targets, state), (everywhere, parts, parts, parts))
spread = step(*placed)
again = step(spread[1], *placed[1:3], spread[2])
error = max(np.abs(a - b).max() for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(jax.device_get(spread))))
text = step.lower(*placed).compile().as_text()
print(json.dumps([len(jax.devices()), error, len(spread[2][0].sharding.device_set), "all-reduce" in text,
                  "all-gather" in text, float(again[0]) < float(alone[0])]))
"""


@pytest.mark.nightly
def test_data_parallel_on_four_devices():
    """The batch is spread; gradients are summed over devices, and nothing else is sent."""
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", DEVICES], env=env, capture_output=True, text=True, check=True)
    devices, error, spread, reduces, gathers, better = json.loads(run.stdout)
    assert (devices, spread, reduces, gathers, better) == (4, 4, True, False, True)
    assert error < 1e-14


# -- drawn programs ---------------------------------------------------------------------------------------------------


def assert_program(program, order):
    """Compare a drawn program with eager execution, as those that are compiled are compared."""
    program.zeros = True
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of means of nothing
        expected = program.function(order)(*program.arguments())
        with jax.disable_jit():
            got = map_leaves(
                lambda part: np.asarray(part) if isinstance(part, jax.Array) else part,
                tr.to_jax(program.function(order))(*program.arguments()),
            )
        if difference(got, expected):
            slack = rounding(program, order, expected)
            assert slack is None or difference(got, expected, slack) is None, program


drawn = given(
    program=st.builds(
        write,
        before=lines,
        body=lines,
        after=lines,
        steps=st.sampled_from([0, 0, 2, 5]),
        dtype=st.sampled_from(["float64", "float32"]),
        seed=st.integers(0, 2**32 - 1),
    ),
    order=st.integers(0, 2),
)


@pytest.mark.nightly
@settings(max_examples=300, derandomize=False, suppress_health_check=list(HealthCheck), deadline=None)
@drawn
def test_many_programs(program, order):
    assert_program(program, order)


# -- weights and errors -----------------------------------------------------------------------------------------------


def test_weights_that_no_argument_stands_for_are_constants():
    layer = tr.Linear(3, 2, rng(), dtype=np.float64)
    step = tr.to_jax(layer)
    before = step(x)
    layer.W.data = layer.W.data * 2
    assert not np.allclose(before, step(x))  # read when it is recorded
    assert_same(step(x), layer(x))


def test_tensors_are_taken_for_their_arrays():
    W = tr.tensor(M, requires_grad=True)
    assert_same(tr.to_jax(lambda W: tr.grad(np.sum(np.tanh(x @ W)), W))(W), tr.grad(np.sum(np.tanh(x @ W)), W))


def test_ids_out_of_range_give_nan():
    assert np.isnan(tr.to_jax(lambda table, i: tr.take(table, i, axis=0))(x, np.array([2]))).all()


@tr.primitive()
def cubed(x, /, scale=1.0):
    return x**3 * scale


@cubed.rule(keep="x")
def _(g, y, x, *, scale):
    return (3 * g * x * x * scale,)


def test_a_primitive_of_the_user():
    with pytest.raises(
        tr.UnsupportedError, match=r"test_jax_use\.cubed is not known in JAX; pass rules=\{cubed: function\}"
    ):
        tr.to_jax(lambda x: cubed(x, scale=2.0))(x)
    rules = {cubed: lambda x, scale: x * x * x * scale}
    assert_same(tr.to_jax(lambda x: cubed(x, scale=2.0), rules=rules)(x), 2 * x**3)


W = tr.tensor(M, requires_grad=True, name="W")
REFUSED = {
    "a generator": (lambda x, r: x, (x, rng()), {}, tr.ConfigError, r"pass jax\.random\.key\(seed\) in its place"),
    "a generator of its own": (lambda x: tr.Dropout(0.5)(x, HIDDEN), (x,), {}, tr.ConfigError, "make it an argument"),
    "a shape": (lambda W: W, (M.T,), {"W": W}, tr.ShapeError, r"expected W of shape \(3, 4\), got \(4, 3\)"),
    "a dtype": (lambda W: W, (M.astype(np.float32),), {"W": W}, tr.DTypeError, "expected W of dtype float64"),
    "a nesting": (lambda W: W, ({"a": M},), {0: {"b": W}}, tr.ShapeError, r"nested as its weights, \{b: \*\}"),
    "no argument": (lambda x: x, (x,), {"V": W}, tr.ConfigError, "V"),
    "no Tensor": (lambda W: W, (M,), {"W": M}, tr.ConfigError, "weights must hold Tensors"),
    "half precision": (lambda x: x, (jax.numpy.ones(3, "bfloat16"),), {}, tr.DTypeError, "bfloat16"),
    "a value": (lambda x: np.sum(x).item(), (x,), {}, tr.TraceError, "was read"),
}
HIDDEN = rng()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    f, args, weights, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        tr.to_jax(f, weights=weights)(*args)


def test_a_gradient_that_no_weights_are_named_for():
    layer = tr.Linear(3, 2, rng(), dtype=np.float64)
    with pytest.raises(tr.GradientError) as caught:
        tr.to_jax(lambda params, x: tr.grad(np.sum(layer(x)), params))(values(layer.parameters()), x)
    assert "unless `weights` says which Tensors" in caught.value.__notes__[0]


def test_float64_where_jax_computes_in_float32():
    with jax.enable_x64(False):
        with pytest.raises(tr.ConfigError, match=r'jax\.config\.update\("jax_enable_x64", True\)'):
            tr.to_jax(lambda x: x)(x)
        with pytest.raises(tr.ConfigError, match="would become float32"):
            tr.to_jax(lambda x: x).arrays({"W": W})
        single = tr.to_jax(lambda x, i: (x * i, np.sum(i)))(x.astype(np.float32), np.arange(3))
        assert [part.dtype for part in single] == ["float32", "int32"]


def test_importing_the_package_does_not_import_jax():
    code = "import sys, tinygrad_rnn as tr; tr.RNNLM, tr.to_jax; print('jax' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(Path(tr.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout == "False\n"


def test_without_jax(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setitem(sys.modules, "jax.numpy", None)
    with pytest.raises(tr.ConfigError, match=r"tinygrad_rnn\[jax\]"):
        tr.to_jax(np.tanh)


def of_whole_numbers(i, f, u, m):
    """Functions that JAX computes in another dtype than NumPy, unless their operands have that of the result."""
    sums = np.mean(i), np.cumsum(u), np.cumprod(u), np.sum(u), np.prod(u), np.mean(u, axis=0), np.average(u, weights=u)
    return *sums, np.where(m, i, f), np.isin(i, f), np.isclose(i, f, rtol=0, atol=0), np.round(i, -2), i == f


def test_whole_numbers_keep_their_digits():
    i, f = np.array([2**24 + 1, 3, -(2**30) - 1, 155], np.int32), np.array([2.0**24, 3.5, -(2**30), 0.1], np.float32)
    given = i, f, np.array([255, 254, 3, 1], np.uint8), np.array([1, 0, 1, 1], bool)
    check(of_whole_numbers, *given)


def test_arrays_in_another_order_of_bytes_and_masked_ones():
    swapped = np.arange(3.0).astype(">f8")
    np.testing.assert_array_equal(tr.to_jax(lambda x: 2 * x)(swapped), [0, 2, 4])
    with pytest.raises(tr.DTypeError, match="to_jax: expected a plain array, got MaskedArray"):
        tr.to_jax(lambda x: 2 * x)(np.ma.array([1.0, 2.0], mask=[True, False]))
