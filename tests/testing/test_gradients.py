"""check_grads: what is right passes under every method; what a backward pass must not do is found."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from testing.rules import CELLS, cell_of, normal, primitive, tanh

import tinygrad_rnn as tr
from tinygrad_rnn.testing import Batch, GradCheckError, check_grads
from tinygrad_rnn.testing.targets import backward
from tinygrad_rnn.testing.targets.backward import differing, sharing

seeds = st.integers(0, 2**32 - 1)
POLICIES = [
    *(tr.Full(), tr.Full(every=3), tr.Chunked(2), tr.Windowed(3), tr.Windowed(4, every=2), tr.Decay(0.5, every=4)),
    *(tr.Checkpointed(2), tr.Randomized(c=0.3), tr.Randomized(mean_length=3.0, rng=5), tr.Adaptive(0.3, 4)),
    *(tr.RTRL(), tr.RTRL(None)),
]


# -- what is right passes ------------------------------------------------------------------------------


@pytest.mark.no_cover  # long, through lines that others reach
@settings(max_examples=20)
@given(seed=seeds, N=st.integers(1, 3), T=st.integers(1, 5), kind=st.sampled_from(sorted(CELLS)))
def test_cells(seed, N, T, kind):
    report = check_grads(cell_of(kind, seed), normal(N, T, 3, seed=seed), seed=seed)
    assert all(leaf.verdict == "ok" for leaf in report.leaves)


@pytest.mark.sample(5)
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@settings(max_examples=2)
@given(seed=seeds, T=st.integers(2, 6), kind=st.sampled_from(sorted(CELLS)))
def test_every_policy_on_cells(policy, seed, T, kind):
    check_grads(cell_of(kind, seed), normal(2, T, 3, seed=seed), seed=seed, truncation=policy)


@pytest.mark.sample(4)
@pytest.mark.parametrize("policy", [*POLICIES, None], ids=repr)
def test_every_policy_on_language_models(policy):
    rng = np.random.default_rng(0)
    model = tr.RNNLM(5, 3, 3, rng, cell="gru", layers=2, tied=True)
    batch = Batch(rng.integers(0, 5, (2, 5)), rng.integers(-1, 5, (2, 5)))
    batch.targets[:, 3] = -1  # a step without a loss
    assert check_grads(model, batch, truncation=policy).ok


def test_an_adaptive_policy_chooses_its_windows_in_the_precision_of_the_check():
    seen = []

    class Watching(tr.Adaptive):
        def observe(self, end, begin, norms):
            seen.append(cell.Wx.dtype)
            super().observe(end, begin, norms)

    cell = tr.RNNCell(3, 3, np.random.default_rng(0))
    report = check_grads(cell, normal(2, 8, 3), truncation=Watching(0.3, 4))
    assert set(seen) == {np.dtype(np.float64)}
    assert any("the mask is that of the windows it chose" in note for note in report.notes)


def test_a_step_of_ones_own_under_a_policy_of_ones_own():
    w, b = (tr.tensor(normal(3, seed=k), requires_grad=True) for k in (1, 2))

    class Taper(tr.Policy):
        every = grain = 1
        reach = 4

        def scale(self, edge, end):
            return max(0.0, 1 - 0.3 * (end - edge))

    def step(inputs, state):
        xs, total = inputs["xs"], 0.0
        h, count = state
        for t in range(xs.shape[1]):
            h = np.tanh(h * w + xs[:, t] + b)
            total = total + np.sum(h * inputs["es"][:, t])
        return total, (h, count + 1)

    data = {"xs": normal(2, 6, 3), "es": normal(2, 6, 3, seed=5)}
    report = check_grads(step, data, (normal(2, 3), 0), truncation=Taper(), parameters={"w": w, "b": b})
    assert [leaf.name for leaf in report.leaves] == ["w", "b", "first state.0"]


def test_two_directions_under_a_policy_that_keeps_the_sequence_whole():
    ahead, back = cell_of(), cell_of("gru", 1)

    def step(xs, state):
        outputs, state = tr.bidirectional(ahead, back, xs, state)
        return np.sum(outputs * outputs), state

    start = (ahead.initial_state(2), back.initial_state(2))
    parameters = ahead.parameters() | {f"back.{name}": p for name, p in back.parameters().items()}
    assert check_grads(step, normal(2, 5, 3), start, truncation=tr.Full(), parameters=parameters).ok


@pytest.mark.sample(5)
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("scale", [0.0, 0.5, -2.0])
def test_cuts_of_any_scale_are_exact(kind, scale):
    cell = cell_of(kind)

    def run(xs, state):
        outputs = []
        for t, x in enumerate(tr.unstack(xs, axis=1)):
            state = tr.cut(state, scale) if t in (2, 3) else state
            output, state = cell(x, state)
            outputs.append(output)
        return np.stack(outputs), state

    report = check_grads(run, normal(2, 5, 3), cell.initial_state(2), parameters=cell.parameters())
    assert {leaf.method for leaf in report.leaves} == {"complex step"}
    assert any("do not see cuts" in note for note in report.notes) == (kind == "relu")


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", CELLS)
def test_second_order(kind):
    cell = cell_of(kind)
    report = check_grads(cell, normal(2, 4, 3), order=2)
    assert report.order == 2
    parameters, xs = cell.parameters(), normal(2, 4, 3)
    assert check_grads(lambda xs: tr.unroll(cell, xs, cut_every=2), xs, parameters=parameters, order=2).ok
    assert check_grads(tr.RNNLM(5, 3, 3, np.random.default_rng(0)), [[1, 2]], [[2, -1]], order=2).ok


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (lambda x, y: x * y + x / (2 + y * y), [(2, 3), (3,)]),
        (lambda x, y: x - y, [(2, 1, 3), (4, 1)]),
        (lambda x, y: x**2 * y, [(), (2, 2)]),
        (lambda x, y: np.concatenate([x, y]) * 2, [(0, 3), (2, 3)]),
        (lambda x: (np.sum(x), {"a": [x * x, 3]}, None), [(2, 3)]),
        (lambda x: x[:, None] * np.ones((2, 3), int), [(2,)]),
        (lambda x: np.var(x, axis=0) + tr.logsumexp(x, axis=0), [(3, 2)]),
    ],
)
@pytest.mark.parametrize("order", [1, 2])
def test_functions_of_several_arrays(f, shapes, order):
    for seed in range(3):
        assert check_grads(
            f, *(normal(*shape, seed=seed + i) for i, shape in enumerate(shapes)), order=order, seed=seed
        ).ok


@pytest.mark.parametrize("f", [tr.relu, np.abs, tr.max, lambda x: np.clip(x, -1, 1), lambda x: np.minimum(x, 0.3)])
@pytest.mark.parametrize("method", ["auto", "complex"])
@settings(max_examples=5)
@given(seed=seeds)
def test_operations_with_kinks(f, method, seed):
    report = check_grads(f, normal(2, 3, seed=seed), method=method, seed=seed)
    expected = "4 points, longdouble" if method == "auto" else "complex step"
    assert {leaf.method for leaf in report.leaves} == {expected}
    assert any("not analytic" in note for note in report.notes)


@pytest.mark.parametrize("f", [tr.relu, np.abs, lambda x: np.max(x, axis=0), lambda x: np.maximum(x, np.zeros((4, 3)))])
@pytest.mark.parametrize("method", ["auto", "complex"])
@pytest.mark.parametrize("full", [True, False])
def test_at_a_kink_any_slope_between_the_sides_is_right(f, method, full):
    assert check_grads(f, np.zeros((4, 3)), method=method, full=full).ok


def test_several_kinks_moved_at_once_are_judged_one_by_one():
    assert check_grads(lambda x: tr.relu(x[0]) - tr.relu(x[1]), np.zeros((2, 3)), full=False).ok


def test_the_report_names_what_is_not_analytic():
    report = check_grads(lambda x: np.max(tr.relu(x), axis=0), normal(2, 3))
    assert report.notes == ("max, relu: not analytic, four-point differences in longdouble",)


def test_where_longdouble_does_not_go_float64_does_with_a_looser_bound():
    inverse = primitive(lambda x, /: np.linalg.inv(x), lambda g, y, x: (-y.T @ g @ y.T,), "y", analytic=False)
    report = check_grads(inverse, normal(3, 3))
    assert {leaf.method for leaf in report.leaves} == {"4 points, float64"}
    wrong = primitive(lambda x, /: np.linalg.inv(x), lambda g, y, x: (-1.00001 * y.T @ g @ y.T,), "y", analytic=False)
    with pytest.raises(GradCheckError, match=r"times 1 \+ 1.0e-05 in every entry"):
        check_grads(wrong, normal(3, 3))


def test_a_part_in_float32_is_checked_to_the_rounding_of_float32():
    report = check_grads(lambda x: np.tanh(x.astype(np.float32)).astype(np.float64), normal(2, 3))
    assert "a part is computed in a type narrower than float64" in report.notes[0]
    steep = check_grads(lambda x: np.tanh(4 * x.astype(np.float32)) * 1e6, 1e-8 * normal(2, 3))
    assert steep.ok  # though differences over the first step are off by 4e-4 of the gradient
    half = primitive(tanh, lambda g, y, x: (g * (1 - y),), "y")
    with pytest.raises(GradCheckError):
        check_grads(lambda x: half_of(half, x), normal(2, 3))


def half_of(half, x):
    return half(x.astype(np.float32))


def test_an_operation_that_hides_that_it_is_not_analytic_gets_a_second_opinion():
    size = primitive(lambda x, /: np.abs(x), lambda g, y, x: (g * np.sign(x),), "x")
    report = check_grads(size, normal(2, 3))
    assert "should say analytic=False" in report.notes[0]
    wrong = primitive(lambda x, /: np.abs(x), lambda g, y, x: (-g * np.sign(x),), "x")
    with pytest.raises(GradCheckError):
        check_grads(wrong, normal(2, 3))


def test_complex_numbers_that_do_not_pass():
    half = primitive(lambda x, /: np.floor(x) + x % 1, lambda g, y, x: (g,))
    assert "complex numbers do not pass" in check_grads(half, normal(2, 3)).notes[0]
    with pytest.raises(tr.UnsupportedError, match='use method="longdouble"'):
        check_grads(half, normal(2, 3), method="complex")
    with pytest.raises(tr.UnsupportedError, match="complex numbers do not pass through"):
        check_grads(lambda x: half(tr.cut(x, 0.5)), normal(2, 3))
    with pytest.raises(tr.ConfigError, match="does not see cuts"):
        check_grads(lambda x: tr.cut(x, 0.5), normal(2, 3), method="longdouble")


def test_an_operation_that_drops_the_imaginary_part_is_noticed_whatever_the_warning_filter():
    real = primitive(lambda x, /: np.asarray(x, np.float64) * 2, lambda g, y, x: (2 * g,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = check_grads(real, normal(2, 3))
    assert "complex numbers do not pass (Casting complex values" in report.notes[0]


@pytest.mark.nightly
def test_a_large_leaf_is_looked_at_along_directions_unless_every_entry_is_asked_for():
    for full, every, directions in (("auto", False, 3), (False, False, 3), (True, True, 4000)):
        (leaf,) = check_grads(lambda x: x * x, normal(40, 100), full=full).leaves
        assert (leaf.every, leaf.directions) == (every, directions)
    (leaf,) = check_grads(lambda x: x * x, normal(40, 100), directions=7).leaves
    assert leaf.directions == 7


# -- what a backward pass must not do ------------------------------------------------------------------------------


def test_values_that_change_from_call_to_call():
    rng = np.random.default_rng(0)
    with pytest.raises(GradCheckError, match="not repeatable: <lambda> gave different values when called again"):
        check_grads(lambda x: x * rng.random(), normal(2))


def test_a_backward_pass_that_gives_other_bits_the_second_time():
    rng = np.random.default_rng(0)
    noisy = primitive(tanh, lambda g, y, x: (g * (1 - y * y) * (1 + 1e-15 * rng.random(y.shape)),), "y")
    with pytest.raises(GradCheckError, match="not repeatable: a second backward pass gave different bits for x"):
        check_grads(noisy, normal(20))


def test_an_input_that_is_written_to():
    def greedy(x, ids):
        ids[0] += 1
        return x * 2

    with pytest.raises(GradCheckError, match=r"input changed: greedy wrote into its input ids, of shape \(3,\)"):
        check_grads(greedy, normal(2), np.arange(3))


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda op, x: op(x), "a rule wrote into an array it was given"),
        (lambda op, x: op(x * 2) * 3, "the rule of tanh wrote into the cotangent it was given"),
    ],
)
def test_a_cotangent_that_is_written_to(f, words):
    careless = primitive(tanh, lambda g, y, x: (np.multiply(g, 1 - y * y, out=g),), "y")
    with pytest.raises(GradCheckError, match=f"cotangent changed: {words}"):
        check_grads(lambda x: f(careless, x), normal(2))


def test_gradients_that_share_memory(monkeypatch):
    g, w = np.zeros((2, 3)), tr.tensor(normal(2), requires_grad=True)
    (found,) = sharing({"a": g, "b": g[0], "c": np.zeros(3)}, {})
    assert found == "memory shared: the gradient of a and the gradient of b"
    assert sharing({"w": w.data}, {"w": w}) == ["memory shared: the gradient of w and the values of w"]
    assert sharing({"a": np.zeros(2), "w": np.zeros(2)}, {"w": w}) == []
    monkeypatch.setattr(backward, "grad", lambda *_, **__: {"x": g, "y": g})
    with pytest.raises(GradCheckError, match="memory shared: the gradient of x and the gradient of y"):
        check_grads(lambda x, y: x * y, normal(2, 3), normal(2, 3))
    assert differing({"a": np.zeros(2)}, {"a": -np.zeros(2)}) == [
        "not repeatable: a second backward pass gave different bits for a"
    ]


def test_a_leaf_without_a_gradient():
    with pytest.raises(GradCheckError, match="y: no gradient\n  nothing uses it; pass allow_unused=True"):
        check_grads(lambda x, y: x * 2, normal(2), normal(2))
    report = check_grads(lambda x, y: x * 2, normal(2), normal(2), allow_unused=True)
    assert [leaf.verdict for leaf in report.leaves] == ["ok", "unused"]
    with pytest.raises(GradCheckError, match="y: no gradient\n  a cut stands between, or nothing uses it"):
        check_grads(lambda x, y: x * tr.cut(y), normal(2), normal(2))
    unused = tr.tensor(normal(2), requires_grad=True)
    with pytest.raises(GradCheckError, match="y: no gradient\n  nothing uses it"):
        check_grads(cell_of(), normal(2, 4, 3), truncation=tr.Chunked(2), parameters={"y": unused})


@pytest.mark.parametrize("allow_unused", [False, True])
def test_a_leaf_whose_gradient_is_lost(allow_unused):
    with pytest.raises(GradCheckError, match=r"y\[.\]: no gradient, expected .*\n  the result depends on it"):
        check_grads(lambda x, y: x * 2 + y.data, normal(2), normal(2), allow_unused=allow_unused)


def test_check_false_only_reports():
    report = check_grads(primitive(tanh, lambda g, y, x: (g,)), normal(2), check=False)
    assert not report.ok
    with pytest.raises(GradCheckError) as raised:
        check_grads(primitive(tanh, lambda g, y, x: (g,)), normal(2))
    assert str(raised.value) == str(report)


def test_the_reproducer_names_what_is_not_the_default():
    report = check_grads(cell_of(), normal(2, 5, 3), truncation=tr.Chunked(2), full=True, seed=4)
    call, _, shapes = report.reproducer.partition("  # ")
    assert call == "check_grads(RNNCell(...), xs, full=True, truncation=Chunked(n=2), seed=4)"
    assert shapes.startswith("Wx (3, 3), Wh (3, 3), b (3,), first state (2, 3), xs (2, 5, 3) float64")


@pytest.mark.nightly
def test_no_false_alarm_in_many_leaf_checks():
    alarms, leaves = [], 0
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        kind, policy = rng.choice(sorted(CELLS)), [*POLICIES, None, None, None][rng.integers(len(POLICIES) + 3)]
        N, T = rng.integers(1, 4), rng.integers(1, 9)
        scale, order = 10.0 ** rng.uniform(-2, 1), 1 + (policy is None and seed % 5 == 0)
        cell = cell_of(kind, seed)
        for p in cell.parameters().values():
            p.data = p.data * scale
        report = check_grads(cell, normal(N, T, 3, seed=seed), truncation=policy, seed=seed, order=order, check=False)
        leaves += len(report.leaves)
        alarms += [] if report.ok else [(seed, str(report))]
    assert not alarms, f"{len(alarms)} of {leaves}: {alarms[0]}"
