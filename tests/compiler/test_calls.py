"""Calls of a compiled function: which plan serves them, what may be passed, where they may stand."""

import collections
import os
import threading

import numpy as np
import pytest
from replay import assert_equal, assert_replays, leaf, normal

import tinygrad_rnn as tr

WIDE = (70, 60)  # an array above the size from which results are handed out without a copy


# -- plans -------------------------------------------------------------------------------------------------------------


def test_a_short_last_window_makes_a_second_plan():
    model = tr.RNNLM(7, 3, 4, np.random.default_rng(0), cell="gru", dtype=np.float64)

    def f(ids):
        loss, state = model.loss(ids, ids)
        return loss, state, tr.grad(loss, model.parameters())

    rng = np.random.default_rng(3)
    step = assert_replays(f, *[(rng.integers(0, 7, shape),) for shape in ((2, 5), (2, 5), (2, 3), (2, 5), (1, 5))])
    assert len(step.plans) == 3


def test_plans_do_not_disturb_each_other():
    step = tr.compile(lambda x: (x * 2.0, np.sum(x, axis=0)))
    kept = []
    for n in range(12):
        x = normal(60 + n % 3, 60, seed=n)
        kept.append((x, *step(x)))
    for x, doubled, total in kept:
        assert np.array_equal(doubled, x * 2)
        np.testing.assert_allclose(total, np.sum(x, axis=0), rtol=1e-12, atol=1e-12)
    assert len(step.plans) == 3


def test_results_of_one_plan_are_inputs_of_another():
    up, down = tr.compile(lambda x: x * 2.0), tr.compile(lambda x: x * 0.5)
    x = y = normal(*WIDE)
    for _ in range(6):
        y = down(up(y))
    assert np.array_equal(x, y)


@pytest.mark.filterwarnings("ignore:compile. .* has been recorded:RuntimeWarning")
def test_plans_are_bounded_and_the_one_used_longest_ago_goes():
    step = tr.compile(lambda x: x * 2.0, max_plans=2)
    first, second, third = normal(2), normal(2, 3), normal(2, 3, 4)  # no two differ in their lengths alone
    step(first), step(second), step(first), step(third)
    assert [plan.inputs[0].shape for plan in step.plans] == [(2,), (2, 3, 4)]
    for x in (second, first, third):
        assert np.array_equal(step(x), x * 2)
    assert len(step.plans) == 2
    with pytest.raises(tr.ConfigError, match="compile: function must be a callable, such as a lambda, got an int"):
        tr.compile(3)
    with pytest.raises(tr.ConfigError, match="max_plans must be an integer of 1 or more, got 0"):
        tr.compile(lambda x: x, max_plans=0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((np.ones(2), 0.0), (np.ones(2), -0.0)),
        ((np.ones(2), 1), (np.ones(2), 1.0)),
        ((np.ones(2), True), (np.ones(2), 1)),
        ((np.ones(2), 2), (np.ones(2), 3)),
        ((np.ones(2), np.float32(1)), (np.ones(2), np.float64(1))),
        ((np.ones(2, np.float32), 1.0), (np.ones(2), 1.0)),
        ((np.ones(2), None), (np.ones(2), ())),
        (([np.ones(2), 1], 1), ((np.ones(2), 1), 1)),
        (({"a": np.ones(2)}, 1), ({"b": np.ones(2)}, 1)),
    ],
)
def test_what_a_plan_is_made_for(one, other):
    step = tr.compile(lambda x, k: tr.engine.tree.map_leaves(lambda part: part * 1, x))
    step(*one), step(*other), step(*one), step(*other)
    assert len(step.plans) == 2


def test_the_sign_of_zero_and_nan_are_told_apart_and_known_again():
    step = tr.compile(lambda x, k: np.where(x > 0, x * k, k))
    for value in (0.0, -0.0, float("nan"), float("nan"), 0.0):
        assert np.array_equal(np.signbit(step(np.ones(1), value)), np.signbit([value]))
    assert len(step.plans) == 3


def test_named_tuples_of_different_types_are_told_apart():
    A, B = collections.namedtuple("A", "x y"), collections.namedtuple("B", "y x")
    f = tr.compile(lambda pair: pair.x - 2 * pair.y)
    for kind in (A, B, A):
        pair = kind(x=normal(2), y=normal(2, seed=1))
        np.testing.assert_allclose(f(pair), pair.x - 2 * pair.y, rtol=1e-15)


def test_an_argument_that_cannot_be_compared_is_an_error():
    with pytest.raises(tr.TraceError, match="an argument of type set cannot be part of a signature"):
        tr.compile(lambda x, names: x)(normal(2), {"a"})


def test_keyword_arguments():
    step = tr.compile(lambda x, *, factor=2.0, shift: x * factor + shift)
    assert step(np.ones(1), shift=np.ones(1)) == 3
    assert step(np.ones(1), factor=3.0, shift=np.full(1, 5.0)) == 8
    assert step(np.ones(1), shift=np.zeros(1), factor=3.0) == 3


def test_recording_or_not_is_part_of_the_signature():
    w = leaf(3)
    step = tr.compile(lambda x: tr.grad(np.sum(w * x), w))
    assert np.array_equal(step(np.ones(3)), np.ones(3))
    with tr.no_grad(), pytest.raises(tr.GradientError, match="no graph was recorded"):
        step(np.ones(3))
    values = tr.compile(lambda x: w * x)
    with tr.no_grad():
        assert np.array_equal(values(np.ones(3)), w.data)
    assert np.array_equal(values(np.ones(3)), w.data)


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 6), WIDE], ids=["small", "wide"])
def test_arguments_of_any_layout(shape):
    f = lambda x: (x * 2.0, np.sum(x, axis=0), x)  # noqa: E731
    base = normal(2 * shape[0], 3 * shape[1])
    read_only = normal(*shape, seed=1)
    read_only.flags.writeable = False
    arguments = [
        base[::2, ::3],
        base[: shape[0], : shape[1]],
        np.asfortranarray(normal(*shape)),
        np.broadcast_to(normal(shape[1]), shape),
        base[::-2, ::-3],
        read_only,
        tr.tensor(normal(*shape)),
    ]
    step = assert_replays(f, *[(x,) for x in arguments])
    assert len(step.plans) == 1


@pytest.mark.parametrize("through_a_view", [False, True])
def test_arrays_that_change_in_place_are_read_anew(through_a_view):
    step = tr.compile(lambda x: x * 2.0)
    x = np.ones(3)
    argument = x.view()
    argument.flags.writeable = not through_a_view
    for n in range(3):
        x[:] = n
        assert np.array_equal(step(argument), [2 * n] * 3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex128", "int32", "int64", "uint8", "bool"])
def test_arguments_of_any_type(dtype):
    x = tr.tensor((normal(4) * 3).astype(dtype))
    assert_replays(lambda x: (x * 2, x + x, x, np.sum(x)), (x,), (x,), tolerance=1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("ids", [np.int32, np.int64, np.uint8])
def test_ids_of_any_integer_type(ids):
    table = tr.Embedding(5, 2, np.random.default_rng(0), float)
    assert_replays(
        lambda i: (table(i), tr.take(table.W, i, axis=0), i), *[(np.array(i, ids),) for i in ([0, 4], [1, 1])]
    )


def test_tensors_and_arrays_have_one_plan_if_no_gradient_is_wanted():
    step = tr.compile(lambda x: x * 2.0)
    assert np.array_equal(step(np.ones(2)), step(tr.tensor([1.0, 1.0])))
    assert len(step.plans) == 1
    step(leaf(2))
    assert len(step.plans) == 2


def test_no_arguments_no_results_and_zero_sizes():
    w = leaf(3)
    assert np.array_equal(tr.compile(lambda: w * 2.0)(), w.data * 2)
    assert tr.compile(lambda x: None)(normal(2)) is None
    assert_replays(lambda x: (x * 2, np.sum(x), x.T, tr.stack([x, x])), (np.zeros((0, 3)),), (np.zeros((0, 3)),))


# -- where a compiled function is called -------------------------------------------------------------------------------


def test_compiled_inside_compiled_is_one_plan():
    w = leaf(3)
    inner = tr.compile(lambda x: np.tanh(w * x))
    outer = tr.compile(lambda x: tr.grad(np.sum(inner(x) * inner(x + 1)), w))
    eager = tr.grad(np.sum(np.tanh(w * normal(3)) * np.tanh(w * (normal(3) + 1))), w)
    for _ in range(2):
        np.testing.assert_allclose(outer(normal(3)), eager, rtol=1e-13)
    assert inner.plans == []
    np.testing.assert_allclose(inner(normal(3)), np.tanh(w.data * normal(3)), rtol=1e-14)


def test_anomaly_mode_looks_at_every_operation():
    w = leaf(3)
    step = tr.compile(lambda x: (tr.log(w * w * x), x, None, 5))
    expected = step(np.ones(3))
    with tr.anomaly_mode():
        results = step(np.ones(3))
        assert_equal(results, expected, 1e-15)
        assert all(part.flags.writeable for part in results[:2])
        with np.errstate(divide="ignore"), pytest.raises(tr.NonFiniteError, match="log: output has 3"):
            step(np.zeros(3))
    with np.errstate(divide="ignore"):
        assert np.isinf(step(np.zeros(3))[0]).all()


def test_threads_take_turns():
    step, wrong = tr.compile(lambda x: np.sum(np.tanh(x @ x))), []
    arrays = [normal(40, 40, seed=n) for n in range(3)]
    expected = [step(x) for x in arrays]

    def work(number):
        for _ in range(30):
            if step(arrays[number]) != expected[number]:
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("setting", "quota", "threads"),
    [
        ("3", "max 100000", 3),
        ("", "150000 100000", 1),
        ("0", "50000 100000", 1),
        ("", "max 100000", None),
        ("", "", None),
    ],
)
def test_threads_are_those_of_the_environment_or_the_cores_granted(monkeypatch, tmp_path, setting, quota, threads):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr("tinygrad_rnn.compiler.settings._QUOTA", tmp_path / "cpu.max")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", setting)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    expected = min(cores, 4) if threads is None else threads
    assert tr.compile(lambda x: x).threads == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_results_are_the_same_for_a_number_of_threads(threads):
    model = tr.RNNLM(3000, 8, 8, np.random.default_rng(0), cell="lstm")

    def f(ids):
        loss, _ = model.loss(ids, ids)
        return loss, tr.grad(loss, model.parameters())

    ids = np.random.default_rng(1).integers(0, 3000, (4, 30))
    step = tr.compile(f, threads=threads)
    first, second = step(ids), step(ids)
    assert_equal(second, first, 0)
    assert_equal(first, f(ids), 1e-5)
