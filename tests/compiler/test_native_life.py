"""The native executor over time: kept results, several threads, forked processes, machines without a compiler."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from replay import array_of, assert_equal, need_library, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten, map_leaves


@pytest.fixture(scope="module")
def native():
    need_library()
    with small_plans_shared():
        yield


def training_step(cell="rnn", V=20, H=60, dtype="float64"):
    """Return (step, arguments): a step of training of a model in which products of all kinds occur."""
    rng = np.random.default_rng(0)
    model = tr.RNNLM(V, 10, H, rng, cell=cell, dtype=dtype)
    params = model.parameters()

    def step(ids, targets, state):
        value, state = model.loss(ids, targets, state)
        grads = tr.grad(value, params)
        return value, {name: p - 0.1 * grads[name] for name, p in params.items()}, state

    ids = rng.integers(0, V, (6, 5))
    return step, (ids, np.roll(ids, -1, axis=1), model.initial_state(6))


# -- results -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [5, 1 << 14])
def test_results_that_are_kept_never_change(native, n, threads):
    compiled = tr.compile(lambda x: (np.tanh(x), x * 2.0, np.sum(x * x)), executor="native", threads=threads)
    kept = []
    for number in range(12):
        x = np.random.default_rng(number).standard_normal(n)
        kept.append((compiled(x), (np.tanh(x), x * 2.0, np.asarray(np.sum(x * x)))))
        if number % 5 == 4:
            del kept[::2]
        for made, expected in kept:
            assert_equal(made, expected, 1e-12)


@pytest.mark.parametrize("n", [40, 150, 400])
def test_results_that_come_back_as_arguments(native, n):
    """Parameters that a replay returned are read where they lie, and not written over while somebody holds them."""
    compiled = tr.compile(lambda p, g: p - 0.1 * np.tanh(g), executor="native", threads=2)
    rng = np.random.default_rng(0)
    p = expected = rng.standard_normal((n, n))
    history = []
    for number in range(16):
        g = rng.standard_normal((n, n))
        if number % 5 == 3:
            p = p.copy()  # which lies elsewhere
        p, expected = compiled(p, g), expected - 0.1 * np.tanh(g)
        history.append((p, expected))
        del history[:-4]
    for made, wanted in history:
        assert_equal(made, wanted, 1e-12)


def test_two_functions_in_turn(native):
    """They share workers and their memory for panels and lines."""
    first, second = training_step("lstm"), training_step("gru", V=33, H=41)
    compiled = [(tr.compile(f, executor="native", threads=2), args) for f, args in (first, second)]
    expected = [map_leaves(array_of, f(*args)) for f, args in (first, second)]
    for _ in range(3):
        for (replayed, args), wanted in zip(compiled, expected, strict=True):
            assert_equal(replayed(*args), wanted, 1e-12)


@pytest.mark.filterwarnings("ignore:compile. .* has been recorded 4 times:RuntimeWarning")
def test_many_plans(native):
    def function(x, w, depth):
        for _ in range(depth):
            x = np.tanh(x @ w) @ np.transpose(w, (1, 0))
        return x

    compiled = tr.compile(function, executor="native", threads=3, max_plans=3)
    rng = np.random.default_rng(0)
    for n in [*range(1, 12), *range(1, 12)]:
        x, w = rng.standard_normal((n, 2 * n)), rng.standard_normal((2 * n, n + 3)) / n
        assert_equal(compiled(x, w, n), function(x, w, n), 1e-12)
    assert len(compiled.plans) == 3


def test_plans_that_differ_in_sizes_alone_are_all_kept(native):
    compiled = tr.compile(
        lambda x, w: np.tanh(x @ w) @ np.transpose(w, (1, 0)), executor="native", threads=3, max_plans=3
    )
    rng = np.random.default_rng(0)
    w = rng.standard_normal((6, 5))
    for n in [*range(2, 30), *range(2, 30)]:
        x = rng.standard_normal((n, 6))
        assert_equal(compiled(x, w), np.tanh(x @ w) @ w.T, 1e-12)
    assert len(compiled.plans) == 28


# -- threads and processes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_functions_called_from_two_threads_at_once(native, threads):
    """One of them has the workers, the other goes on alone; neither sees anything of the other."""
    rng = np.random.default_rng(0)
    wrong, start = [], threading.Barrier(2)

    def call(compiled, a, b, expected):
        compiled(a, b)
        start.wait()
        for _ in range(250):
            if not np.allclose(compiled(a, b), expected, rtol=0, atol=1e-9):
                wrong.append(1)

    callers = []
    for _ in range(2):
        a, b = rng.standard_normal((100, 300)), rng.standard_normal((200, 300))
        compiled = tr.compile(lambda a, b: a @ np.transpose(b, (1, 0)), executor="native", threads=threads)
        callers.append(threading.Thread(target=call, args=(compiled, a, b, a @ b.T)))
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(wrong) == 0


def test_chains_called_from_two_threads_at_once(native):
    wrong, start = [], threading.Barrier(2)

    def call(number):
        compiled = tr.compile(lambda x: np.exp(np.tanh(x) * (1.0 + number)) - x, executor="native", threads=2)
        x = np.random.default_rng(number).standard_normal(40000)
        expected = np.exp(np.tanh(x) * (1.0 + number)) - x
        compiled(x)
        start.wait()
        for _ in range(250):
            if not np.allclose(compiled(x), expected, rtol=0, atol=1e-9):
                wrong.append(1)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(wrong) == 0


FORKED = """
import os, sys
import numpy as np
import tinygrad_rnn as tr
from tinygrad_rnn.compiler.replay import executor
executor._SHARED = 0

compiled = tr.compile(lambda a, b: np.tanh(a) @ np.transpose(b, (1, 0)), executor="native", threads=2)
a, b = np.random.default_rng(0).standard_normal((2, 100, 90))
expected = np.tanh(a) @ b.T


def right():
    return bool(np.allclose(compiled(a, b), expected, rtol=0, atol=1e-9))


print(right(), flush=True)
for known in (True, False):  # a plan that the parent has made, and one that the child makes
    child = os.fork()
    if child == 0:
        if not known:
            compiled = tr.compile(lambda a, b: np.tanh(a) @ np.transpose(b, (1, 0)), executor="native", threads=2)
        times = [row.seconds for row in compiled.explain(a, b).rows]
        print(right(), right(), all(0 < time < 10 for time in times), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(right(), flush=True)
"""


def test_forked_processes_replay_without_the_workers_of_their_parent(native):
    done = run(FORKED)
    assert done.stdout.split("\n") == ["True", "True True True", "True", "True True True", "True", ""], done.stderr
    assert done.returncode == 0


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


# -- which executor ------------------------------------------------------------------------------------------------

WHICH = """
import numpy as np
import tinygrad_rnn as tr
from tinygrad_rnn.compiler.native.build import available
f = tr.compile(lambda x: np.tanh(x) * 2.0)
print(f(np.ones(3)).round(3), f.executor, available())
try:
    print(tr.compile(lambda x: np.tanh(x), executor="native")(np.ones(3)))
except tr.NativeError as error:
    print(str(error).splitlines()[0])
"""


def test_without_a_compiler_plans_run_on_numpy(tmp_path):
    done = run(WHICH, CC="/nonexistent/cc", TINYGRAD_RNN_CACHE=str(tmp_path), TINYGRAD_RNN_EXECUTOR="auto")
    assert done.returncode == 0, done.stderr
    first, second, _ = done.stdout.split("\n")
    assert first == "[1.523 1.523 1.523] numpy False"
    assert "CC='/nonexistent/cc' names a compiler that was not found" in second


def test_the_environment_chooses_the_executor(tmp_path):
    where = {"CC": "/nonexistent/cc", "TINYGRAD_RNN_CACHE": str(tmp_path)}
    assert run(WHICH, TINYGRAD_RNN_EXECUTOR="numpy", **where).stdout.startswith("[1.523 1.523 1.523] numpy")
    failed = run(WHICH, TINYGRAD_RNN_EXECUTOR="native", **where)
    assert "NativeError: native: CC='/nonexistent/cc' names a compiler" in failed.stderr
    failed = run(WHICH, TINYGRAD_RNN_EXECUTOR="fast", **where)
    assert 'must be "auto", "native" or "numpy", got \'fast\'' in failed.stderr


def test_the_argument_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_EXECUTOR", "wrong")
    compiled = tr.compile(np.tanh, executor="numpy")
    compiled(np.ones(3))
    assert compiled.executor == "numpy"
    with pytest.raises(tr.ConfigError, match="got 'wrong'"):
        tr.compile(np.tanh)
    with pytest.raises(tr.ConfigError, match="got 'NumPy'"):
        tr.compile(np.tanh, executor="NumPy")


def test_auto_is_native_where_there_is_a_library(native, monkeypatch):
    monkeypatch.delenv("TINYGRAD_RNN_EXECUTOR", raising=False)
    compiled = tr.compile(np.tanh)
    assert compiled.executor == "auto"
    compiled(np.ones(3))
    assert compiled.executor == "native"


# -- times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_every_instruction_has_a_time(native, threads):
    step, args = training_step("lstm")
    compiled = tr.compile(step, executor="native", threads=threads)
    before = compiled(*args)
    costs = compiled.explain(*args)
    assert sum(row.calls for row in costs.rows) == sum(loop.steps if loop else 1 for _, loop in compiled.plan.flat())
    assert all(0 < row.seconds < 10 for row in costs.rows)
    assert [loop.steps for loop in costs.loops] == [5, 5]
    assert all(0 < loop.seconds < costs.seconds for loop in costs.loops)
    assert_equal(compiled(*args), before, 0)


def test_chains_share_their_time(native):
    compiled = tr.compile(lambda x, rng: (np.tanh(x) * 2.0 + x, tr.Dropout(0.5)(x, rng)), executor="native", threads=2)
    costs = compiled.explain(np.ones((4, 1 << 13)), np.random.default_rng(0))
    assert all(0 < row.seconds < 10 for row in costs.rows)
    assert len(flatten([row.seconds for row in costs.rows])) >= 3
