"""`scan` in compiled functions, drawn: values, gradients, their gradients and draws are what eager execution gives."""

import warnings

import numpy as np
import pytest
from drawn import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replay import assert_replays, need_library, normal
from scans import scans
from verdict import SETTINGS, check

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes import PASSES
from tinygrad_rnn.engine.tree import flatten

drawn = given(
    program=scans,
    order=st.integers(0, 2),
    without=st.lists(st.sampled_from(list(PASSES)), max_size=1),
    setting=st.sampled_from(SETTINGS),
)


@settings(max_examples=examples(70), suppress_health_check=[HealthCheck.too_slow])
@drawn
def test_scans(program, order, without, setting):
    need_library()
    check(program, order, without, *setting)


@pytest.mark.nightly
@settings(max_examples=5000, derandomize=False, suppress_health_check=list(HealthCheck))
@drawn
def test_many_scans(program, order, without, setting):
    need_library()
    check(program, order, without, *setting)


def test_slices_that_are_scalars():
    def f(xs):
        sums, last = tr.scan(lambda x, s: (s, s * 0.5 + x), np.zeros(()), xs, axis=0)
        return sums, last, tr.grad(np.sum(sums * sums), xs)

    assert_replays(f, (tr.tensor(normal(4), requires_grad=True),))


def test_a_state_that_becomes_a_number_of_numpy():
    def f(xs):
        means, last = tr.scan(lambda x, s: (s, np.float64(0.5)), np.zeros(()), xs, axis=0)
        return means, last

    assert_replays(f, (normal(2, 3),))


@pytest.mark.parametrize("T", [1, 3])
def test_a_state_that_becomes_a_python_number(T):
    assert_replays(lambda xs: tr.scan(lambda x, s: (s + x, 0.5), np.zeros(2, np.float32), xs), (normal(2, T),))


def test_a_step_may_make_constants_anew():
    def f(xs):
        def step(x, h):
            zeros = tr.tensor(np.zeros((2, 3)))
            outputs, last = tr.scan(lambda part, c: (c, np.tanh(c + part)), zeros, tr.stack([x, h], axis=1))
            return outputs, h * 0.5 + last + np.ones(3)

        return tr.scan(step, np.zeros((2, 3)), xs)

    assert_replays(f, (normal(2, 4, 3),))


def test_a_state_that_is_read_through_a_stack_of_one_after_it_is_made_anew():
    def f(xs):
        def step(x, state):
            h, total = state
            whole = np.stack([h], axis=1)
            new = h * 0.5 + np.sum(np.absolute(x))
            return None, (new, np.tanh(total + np.sum(whole) * x))

        return tr.scan(step, (np.ones(3), np.ones((2, 3))), xs)[1]

    assert_replays(f, (normal(2, 4, 3),))


def test_a_cotangent_that_a_stack_copies_after_it_is_made_anew():
    """That of the number that is carried is a row of the gradient of x."""
    w = tr.tensor(normal(3, 3), requires_grad=True)

    def f(x):
        def step(part, state):
            number, h = state
            return None, (tr.unstack(part)[2], np.tanh(h + number * 0.1))

        _, (_, h) = tr.scan(step, (np.zeros(()), x), w)
        return tr.grad(np.sum(h), w)

    assert_replays(f, (normal(3, seed=1),))


def swapped(dtype):
    """Return a step whose state changes its dtype after the first step, and that draws."""
    drop = tr.Dropout(0.5)

    def f(xs, rng):
        def step(x, h):
            return drop(x, rng), np.astype(h * 0.5 + drop(x, rng), np.float64)

        return tr.scan(step, np.zeros(3, dtype), xs)

    return f


def inside(xs, rng):
    drop = tr.Dropout(0.5)

    def step(x, h):
        outputs, inner = tr.scan(lambda part, c: (c, c + drop(part, rng)), h, x, axis=0)
        return outputs, np.tanh(inner + drop(h, rng))

    return tr.scan(step, np.ones(3), xs)


@pytest.mark.parametrize("f", [swapped(np.float32), swapped(np.float64), inside], ids=["promoted", "same", "in a scan"])
@pytest.mark.parametrize("T", [1, 2, 4])
def test_each_step_draws_once(f, T):
    """Steps that are recorded one by one, too."""
    shape = (2, T, 3) if f is inside else (3, T)
    assert_replays(f, *[(normal(*shape, seed=seed), np.random.default_rng(seed)) for seed in range(2)])


@pytest.mark.parametrize("reverse", [False, True])
def test_a_first_step_of_another_dtype_does_not_need_a_plan_for_each_length(reverse):
    """float64 data and a float32 state, say: the first step is recorded by itself."""
    leak = tr.tensor(normal(3), requires_grad=True)

    def f(xs):
        outputs, h = tr.scan(lambda x, h: (h * leak + x,) * 2, np.zeros((2, 3), np.float32), xs, reverse=reverse)
        return outputs, tr.grad(np.sum(outputs * outputs) + np.sum(h), leak)

    compiled = tr.compile(f, max_plans=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that it has been recorded more than twice
        for T in (5, 6, 7, 8, 12):
            xs = normal(2, T, 3, seed=T)
            for found, expected in zip(flatten(compiled(xs)), flatten(f(xs)), strict=True):
                np.testing.assert_allclose(found, getattr(expected, "data", expected), rtol=1e-12)


def test_steps_whose_outputs_differ_in_shape_are_refused_where_the_first_is_recorded_by_itself():
    def f(xs):
        def step(x, h):
            return (h if h.dtype == np.float32 else h[:1]), np.astype(h + x, np.float64)

        return tr.scan(step, np.zeros(2, np.float32), xs)

    with pytest.raises(tr.ShapeError, match="at step 1"):
        tr.compile(f)(normal(2, 3))


# -- what depends on what: a gradient is None, or refused, where it is eagerly ------------------------------------


def grads_of(f, *leaves):
    def with_gradients(*args):
        total = f(*args)
        first = tr.grad(total, list(leaves), create_graph=True, allow_unused=True)
        parts = [part for part in first if part is not None and part.requires_grad]
        second = tr.grad(np.sum(parts[0]), list(leaves), allow_unused=True) if parts else None
        return first, second

    return with_gradients


W, B = (tr.tensor(normal(2, 2, seed=seed), requires_grad=True) for seed in (1, 2))


def state_without_gradient(xs):
    outputs, (h, _) = tr.scan(lambda x, s: (s[1], (s[0] @ W, s[1] + x)), (xs[:, 0], xs[:, 0] * 0), xs)
    return np.sum(h), outputs


def reached_after_two_steps(xs):
    _, (a, b, c) = tr.scan(lambda x, s: (None, (s[1] + x, s[2] * x, s[2] + x @ B)), (xs[:, 0],) * 3, xs)
    return np.sum(a) + np.sum(b), c


def linear(xs):
    _, (h, g) = tr.scan(lambda x, s: (None, (s[0] * 2 + x @ W, np.tanh(s[1] + s[0] @ B))), (xs[:, 0],) * 2, xs)
    return np.sum(h), g


@pytest.mark.parametrize("f", [state_without_gradient, reached_after_two_steps, linear])
@pytest.mark.parametrize("T", [3, 4])
def test_gradients_are_none_where_nothing_depends_on_a_leaf(f, T):
    def both(xs):
        total, other = f(xs)
        requires = [part.requires_grad if isinstance(part, tr.Tensor) else False for part in (total, other)]
        return requires, grads_of(lambda xs: f(xs)[0], W, B)(xs)

    assert_replays(both, (normal(2, T, 2),))


def test_a_gradient_of_what_a_state_does_not_depend_on_is_refused():
    def f(xs):
        outputs, _ = tr.scan(lambda x, s: (s[1], (np.tanh(s[0] @ W + x), s[1] + x)), (xs[:, 0], xs[:, 0]), xs)
        return tr.grad(np.sum(outputs), W)

    for call in (f, tr.compile(f)):
        with pytest.raises(tr.GradientError):
            call(normal(2, 3, 2))
