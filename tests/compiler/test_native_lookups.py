"""Lookups by ids, their gradient, and the loss over a vocabulary, by the library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay import array_of, assert_equal, need_library, replay_call, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.graph import Operator
from tinygrad_rnn.compiler.plans.layout import make_plan
from tinygrad_rnn.compiler.replay.executor import Executor
from tinygrad_rnn.compiler.replay.kernels import LOSS_AND_GRADIENT
from tinygrad_rnn.engine.tree import map_leaves

TAKE, TAKE_BACK = Operator("take", np.take), Operator("take_back", np.add.at)  # the library computes them
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}

dtypes = st.sampled_from(["float64", "float32"])
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def native():
    need_library()
    with small_plans_shared():
        yield


def ids_laid_out(ids, layout):
    """Return ids as a view with other strides; what lies between them is out of range."""
    if layout == "turned":
        return np.ascontiguousarray(ids.T).T
    if layout == "plain":
        return ids
    whole = np.full([2 * n + 1 for n in ids.shape], 10**9)
    view = whole[tuple(slice(1, None, 2) for _ in ids.shape)]
    view = view[::-1] if layout == "reversed" else view
    view[...] = ids
    return view


layouts = st.sampled_from(["plain", "turned", "steps", "reversed"])


# -- rows of a table -----------------------------------------------------------------------------------------------


@given(
    V=st.integers(1, 9),
    D=st.sampled_from([1, 3, 16, 33, 130]),
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=2).map(tuple),
    layout=layouts,
    rows_apart=st.booleans(),
    dtype=dtypes,
    workers=st.integers(1, 3),
    seed=seeds,
)
def test_rows_and_their_gradient(V, D, shape, layout, rows_apart, dtype, workers, seed):
    rng = np.random.default_rng(seed)
    ids = ids_laid_out(rng.integers(-V, V, shape), layout)
    whole = rng.standard_normal((V, D + 5)).astype(dtype)
    table = whole[:, 2 : D + 2] if rows_apart else np.ascontiguousarray(whole[:, 2 : D + 2])
    made = np.full((*shape, D), np.nan, dtype)
    replay_call(TAKE, [table], [made], workers, indices=ids, axis=0)
    assert np.array_equal(made, table[ids])
    gradient = np.full(V * D + 8, np.nan, dtype)
    expected = np.zeros((V, D))
    np.add.at(expected, np.array(ids), made.astype(np.float64))
    replay_call(TAKE_BACK, [made], [gradient[4:-4].reshape(V, D)], workers, indices=ids, axis=0, shape=(V, D))
    assert np.allclose(gradient[4:-4].reshape(V, D), expected, rtol=0, atol=TOLERANCE[dtype] * 50)
    assert np.isnan(gradient[[*range(4), *range(-4, 0)]]).all()


@pytest.mark.parametrize("wrong", [5, -6, 10**12, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("place", [(0, 0), (3, 1), (1, 2)])
def test_ids_out_of_range(threads, wrong, place):
    """An error, and nothing of the replay is left behind: not in parameters, not in results, not in the next replay."""
    rng = np.random.default_rng(0)
    table, w = rng.standard_normal((5, 3)), rng.standard_normal((3, 3))

    def f(table, w, ids):
        rows = np.tanh(tr.take(table, ids, axis=0) @ w)
        grads = tr.grad(np.sum(rows * rows), [table, w])
        return rows, table - 0.1 * grads[0], w - 0.1 * grads[1]

    def leaves():
        return tr.tensor(table, requires_grad=True), tr.tensor(w, requires_grad=True)

    compiled = tr.compile(f, executor="native", threads=threads)
    params = leaves()
    good = rng.integers(-5, 5, (4, 3))
    expected = map_leaves(array_of, f(*leaves(), good))
    first = compiled(*params, good)
    bad = good.copy()
    bad[place] = wrong
    for _ in range(2):
        with pytest.raises(
            IndexError, match="out of range for axis 0 with size 5|out of bounds for axis 0 with size 5"
        ):
            compiled(*params, bad)
    second = compiled(*params, good)
    for made in (first, second):
        assert_equal(made, expected, 1e-12)
    assert np.array_equal(params[0].data, table)
    assert np.array_equal(params[1].data, w)


# -- the loss ------------------------------------------------------------------------------------------------------


def compare_losses(logits, targets, threads=2, tolerance=None):
    """Compare loss and gradient with what is computed eagerly; what is no number must be at the same places."""

    def f(logits, targets):
        value = tr.cross_entropy(logits, targets, ignore_label=-1)
        return value, tr.grad(value, logits)

    def leaf():
        return tr.tensor(logits, requires_grad=True)

    compiled = tr.compile(f, executor="native", threads=threads)
    with np.errstate(all="ignore"):
        expected, made = map_leaves(array_of, f(leaf(), targets)), compiled(leaf(), targets)
    assert "loss_and_gradient" in [instruction.operator.name for instruction in compiled.plan.instructions]
    for got, want in zip(made, expected, strict=True):
        assert np.array_equal(np.isnan(got), np.isnan(want))
        assert np.array_equal(np.isposinf(got), np.isposinf(want))
        assert_equal(got, want, tolerance or TOLERANCE[logits.dtype.name])


@given(
    rows=st.lists(st.integers(1, 7), min_size=1, max_size=2).map(tuple),
    V=st.sampled_from([1, 2, 7, 15, 16, 17, 33, 130]),
    ignored=st.booleans(),
    scale=st.sampled_from([1e-3, 1.0, 80.0, 1e4]),
    dtype=dtypes,
    threads=st.integers(1, 3),
    seed=seeds,
)
def test_losses(rows, V, ignored, scale, dtype, threads, seed):
    rng = np.random.default_rng(seed)
    logits = (scale * rng.standard_normal((*rows, V))).astype(dtype)
    targets = rng.integers(0, V, rows)
    if ignored:
        targets[..., 1:] = np.where(rng.random(targets[..., 1:].shape) < 0.5, -1, targets[..., 1:])
    compare_losses(logits, targets, threads)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "values",
    [
        [1e4, -1e4, 0.0, 5.0],
        [-1e4, -1e4, -1e4, -1e4],
        [1e4, 1e4, 1e4, 1e4 - 1],
        [-np.inf, 0.0, 1.0, -np.inf],
        [0.0, -np.inf, 1.0, 2.0],
        [-np.inf, -np.inf, -np.inf, -np.inf],
        [np.inf, 0.0, 1.0, 2.0],
        [0.0, np.nan, 1.0, 2.0],
        [np.nan, 0.0, 1.0, 2.0],
        [-87.0, -88.0, -100.0, -104.0],
        [3e38, -3e38, 0.0, 1.0],
    ],
)
def test_logits_at_the_ends_of_the_range(values, dtype):
    for target in (0, 1, 3):
        logits = np.array([values, [1.0, 2.0, 3.0, 4.0], values[::-1]], dtype)
        compare_losses(logits, np.array([target, 2, target]))
        compare_losses(np.tile(logits, (1, 5)), np.array([target, -1, 19]))


@pytest.mark.parametrize("layout", ["plain", "turned", "steps", "reversed"])
def test_rows_and_targets_that_lie_apart(layout):
    rng = np.random.default_rng(0)
    targets = ids_laid_out(rng.integers(-1, 5, (4, 3)), layout)
    whole = rng.standard_normal((12, 9))
    logits, room, value = whole[:, 2:7], np.full((14, 9), np.nan), np.empty(())
    for workers in (1, 2, 3):
        gradient = room[1:-1, 3:8]
        replay_call(LOSS_AND_GRADIENT, [logits, 0.5], [value, gradient], workers, targets=targets, ignore_label=-1)
        leaf = tr.tensor(logits, requires_grad=True)
        expected = tr.cross_entropy(leaf, np.array(targets).reshape(-1), ignore_label=-1)
        assert_equal(value, np.array(expected.data), 1e-12)
        assert_equal(gradient.copy(), 0.5 * np.array(tr.grad(expected, leaf).data), 1e-12)
        gradient[...] = np.nan
        assert np.isnan(room).all()


def test_the_loss_does_not_depend_on_the_number_of_workers():
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((37, 50)).astype(np.float32), rng.integers(0, 50, 37)
    found = []
    for workers in (1, 2, 3):
        value, gradient = np.empty((), np.float32), np.empty_like(logits)
        replay_call(LOSS_AND_GRADIENT, [logits, 1.0], [value, gradient], workers, targets=targets, ignore_label=-1)
        found.append((value, gradient))
    for value, gradient in found[1:]:
        assert value == found[0][0]
        assert np.array_equal(gradient, found[0][1])


@pytest.mark.parametrize("wrong", [5, -2, 10**12])
@pytest.mark.parametrize("threads", [1, 2])
def test_targets_out_of_range(threads, wrong):
    def f(logits, targets):
        value = tr.cross_entropy(logits, targets, ignore_label=-1)
        return value, tr.grad(value, logits)

    logits = tr.tensor(np.random.default_rng(0).standard_normal((4, 5)), requires_grad=True)
    targets = np.array([0, -1, 4, 2])
    compiled = tr.compile(f, executor="native", threads=threads)
    before = compiled(logits, targets)
    bad = targets.copy()
    bad[3] = wrong
    with pytest.raises(Exception, match=".") as eager:
        f(logits, bad)
    with pytest.raises(type(eager.value), match=".") as replayed:
        compiled(logits, bad)
    assert str(replayed.value).partition(":")[2] != ""
    assert "size 1" not in str(replayed.value)
    assert_equal(compiled(logits, targets), before, 0)


@pytest.mark.parametrize("wrong", [5, -2, 10**12, -(2**63)])
def test_the_loss_touches_nothing_at_targets_out_of_range(wrong):
    """In a plan another call looks at targets before; were it not there, nothing would be overwritten."""
    room = np.zeros((6, 5))
    with pytest.raises(IndexError):
        replay_call(
            *(LOSS_AND_GRADIENT, [np.ones((4, 5)), 1.0], [np.empty(()), room[1:-1]], 2),
            targets=np.array([0, wrong, 4, wrong]),
            ignore_label=-1,
        )
    assert not room[[0, -1]].any()


def test_a_timed_replay_raises_errors_too():
    """A replay that stops at an id has no times of the calls after it."""
    table = np.ones((5, 3))
    *_, (_, graph) = tr.compile(lambda table, ids: 2.0 * np.take(table, ids, axis=0)).stages(table, np.array([1, 4]))
    executor = Executor(make_plan(graph), native=True)
    assert len(executor.seconds([table, np.array([-5, 4])])) == 2
    (replay, operands), *_ = executor._prepared([table, np.array([1, 5])])[0]
    with pytest.raises(IndexError, match="out of range for axis 0 with size 5"):
        list(replay.seconds(*operands))
