"""check_grads: what is right passes under every method, and every planted fault is found where it is."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.testing import Batch, GradCheckError, check_grads
from tinygrad_rnn.testing.targets import backward
from tinygrad_rnn.testing.targets.backward import differing, sharing

seeds = st.integers(0, 2**32 - 1)
CELLS = {
    "rnn": tr.RNNCell,
    "lstm": tr.LSTMCell,
    "gru": tr.GRUCell,
    "stacked": lambda D, H, rng, dtype: tr.Stacked([tr.GRUCell(D, H, rng, dtype), tr.LSTMCell(H, H, rng, dtype)]),
    "relu": lambda D, H, rng, dtype: ReluCell(D, H, rng, dtype),
}
POLICIES = [
    *(tr.Full(), tr.Full(every=3), tr.Chunked(2), tr.Windowed(3), tr.Windowed(4, every=2), tr.Decay(0.5, every=4)),
    *(tr.Checkpointed(2), tr.Randomized(c=0.3), tr.Randomized(mean_length=3.0, rng=5), tr.Adaptive(0.3, 4)),
]


class ReluCell(tr.RNNCell):
    def __call__(self, x, h):
        h = tr.relu(x @ self.Wx + h @ self.Wh + self.b)
        return h, h


def normal(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def cell_of(kind="rnn", seed=0):
    return CELLS[kind](3, 3, np.random.default_rng(seed), np.float64)


def tanh(x, /):
    return np.tanh(x)


def matmul(a, b, /):
    return a @ b


def primitive(forward, rule, keep="", analytic=True):
    """Return an operation with a rule of one's choice."""
    made = tr.primitive(analytic=analytic)(forward)
    made.rule(keep=keep)(rule)
    return made


# -- what is right passes ------------------------------------------------------------------------------


@settings(max_examples=20)
@given(seed=seeds, N=st.integers(1, 3), T=st.integers(1, 5), kind=st.sampled_from(sorted(CELLS)))
def test_cells(seed, N, T, kind):
    report = check_grads(cell_of(kind, seed), normal(N, T, 3, seed=seed), seed=seed)
    assert all(leaf.verdict == "ok" for leaf in report.leaves)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@settings(max_examples=5)
@given(seed=seeds, T=st.integers(1, 6), kind=st.sampled_from(sorted(CELLS)))
def test_every_policy_on_cells(policy, seed, T, kind):
    check_grads(cell_of(kind, seed), normal(2, T, 3, seed=seed), seed=seed, truncation=policy)


@pytest.mark.parametrize("policy", [*POLICIES, None], ids=repr)
def test_every_policy_on_language_models(policy):
    rng = np.random.default_rng(0)
    model = tr.RNNLM(5, 3, 3, rng, cell="gru", layers=2, tied=True)
    batch = Batch(rng.integers(0, 5, (2, 6)), rng.integers(-1, 5, (2, 6)))
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


def test_a_large_leaf_is_looked_at_along_directions_unless_every_entry_is_asked_for():
    for full, every, directions in (("auto", False, 3), (False, False, 3), (True, True, 4000)):
        (leaf,) = check_grads(lambda x: x * x, normal(40, 100), full=full).leaves
        assert (leaf.every, leaf.directions) == (every, directions)
    (leaf,) = check_grads(lambda x: x * x, normal(40, 100), directions=7).leaves
    assert leaf.directions == 7


# -- what is wrong is found ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda g, y, x: (-g * (1 - y * y),), "times -1 in every entry: a sign is flipped"),
        (lambda g, y, x: (2 * g * (1 - y * y),), "times 2 in every entry: counted twice"),
        (lambda g, y, x: (g * (1 - y * y) / 3,), "times 0.333333 = 1/N in every entry: averaged where it is"),
        (lambda g, y, x: (0 * g,), "0 in every entry: no gradient arrives"),
        (lambda g, y, x: (1 - y * y,), "x["),
        (lambda g, y, x: (g * (1 - y),), "x["),
        (lambda g, y, x: (g * (1 - y * y) * (1 + 1e-8),), r"times 1 + 1.0e-08 in every entry"),
        (lambda g, y, x: ((g * (1 - y * y)).astype(np.float32) * 1.0,), "as if a part were computed in float32"),
        (lambda g, y, x: (g * (1 - y * y) * (np.arange(4) != 2),), "wrong in column 2 only, times 0 there"),
        (
            lambda g, y, x: ((g * (1 - y * y))[::-1],),
            "right numbers in wrong places: row 0 holds what belongs to row 2",
        ),
        (lambda g, y, x: (g * np.nan,), "not finite, expected"),
    ],
)
def test_a_wrong_rule_is_found_with_its_hint(rule, words):
    with pytest.raises(GradCheckError) as raised:
        check_grads(primitive(tanh, rule, "y"), normal(3, 4))
    (leaf,) = raised.value.report.leaves
    assert not leaf.ok
    assert words in str(raised.value)
    assert "reproduce: check_grads(tanh, x, seed=0)  # x (3, 4)" in str(raised.value)


def test_the_right_leaf_index_and_values_are_named():
    def rule(g, y, a, b):
        db = a.T @ g
        db[1, 2] *= 3
        return g @ b.T, db

    report = check_grads(primitive(matmul, rule, "a b"), normal(4, 3), normal(3, 5), check=False, seed=9)
    a, b = report.leaves
    assert (a.ok, b.ok, b.index) == (True, False, (1, 2))
    assert b.actual == pytest.approx(3 * b.expected)
    assert b.error == pytest.approx(abs(2 * b.expected))
    assert report.seed == 9
    assert "seed=9" in report.reproducer


def test_a_wrong_entry_of_a_large_leaf_is_searched_for():
    def rule(g, y, a, b):
        db = a.T @ g
        db[17, 33] *= 2
        return g @ b.T, db

    report = check_grads(primitive(matmul, rule, "a b"), normal(20, 60), normal(60, 50), check=False)
    assert report.leaves[1].index == (17, 33)
    assert report.leaves[1].hint == "times 2 there: counted twice"


@pytest.mark.parametrize(
    ("entry", "size", "full"),
    [((1, 2), 3e-10, True), ((1, 2), 3e-10, "auto"), ((1, 2), 1e-7, False), (..., 3e-10, True), (..., 3e-9, False)],
)
def test_a_tiny_error_in_an_lstm_is_found(entry, size, full):
    """One entry of dWh, or all of dWh, a little too large."""

    def rule(g, y, w):
        g = g * 1.0
        g[entry] *= 1 + size
        return (g,)

    cell, off = cell_of("lstm"), primitive(lambda w, /: w * 1, rule)

    def run(xs, Wh):
        cell.Wh = off(Wh)
        return tr.unroll(cell, xs, cell.initial_state(2))

    report = check_grads(run, normal(2, 5, 3), cell.Wh, parameters={"Wx": cell.Wx, "b": cell.b}, full=full, check=False)
    assert [leaf.name for leaf in report.leaves if not leaf.ok] == ["Wh"]


def test_a_wrong_rule_for_second_order_only():
    slope = primitive(lambda y, /: 1 - y * y, lambda g, out, y: (-g * y,), "y")  # the derivative is -2 y
    half = primitive(tanh, lambda g, y, x: (g * slope(y),), "y")
    assert check_grads(half, normal(3, 3)).ok
    with pytest.raises(GradCheckError, match="second-order gradients of tanh: WRONG") as raised:
        check_grads(half, normal(3, 3), order=2)
    assert raised.value.report.leaves[0].hint == "times 0.5 in every entry: one of two parts is lost"
    with pytest.raises(GradCheckError, match="^gradients of tanh: WRONG"):
        check_grads(primitive(tanh, lambda g, y, x: (g,)), normal(2, 3), order=2)


def test_a_wrong_slope_at_a_kink_and_beside_it():
    at = primitive(
        lambda x, /: np.maximum(x, 0), lambda g, y, x: (g * (3.0 * (x == 0) + (x > 0)),), "x", analytic=False
    )
    assert check_grads(at, normal(2, 3)).ok
    assert not check_grads(at, np.zeros((2, 3)), check=False).ok
    beside = primitive(lambda x, /: np.maximum(x, 0), lambda g, y, x: (1.001 * g * (x > 0),), "x", analytic=False)
    with pytest.raises(GradCheckError, match=r"times 1.001 in every entry"):
        check_grads(beside, normal(2, 3))


def test_a_state_that_is_used_as_a_constant():
    cell = cell_of()

    def run(xs):
        state, outputs = np.zeros((2, 3)), []
        for t, x in enumerate(tr.unstack(xs, axis=1)):
            output, state = cell(x, tr.tensor(state.data) if t == 3 else state)
            outputs.append(output)
        return np.stack(outputs)

    with pytest.raises(GradCheckError, match=r"the result of tanh \(recorded at .* enters matmul .* use cut\(x\)"):
        check_grads(run, normal(2, 5, 3), parameters=cell.parameters())


def test_a_gradient_that_goes_around_a_cut():
    sneak = primitive(lambda cut, h, /: cut * 1, lambda g, y, cut, h: (g, g))
    cell = cell_of()

    def run(xs):
        h, outputs = np.zeros((2, 3)), []
        for t, x in enumerate(tr.unstack(xs, axis=1)):
            h = sneak(tr.cut(h), h) if t == 2 else tr.cut(h, 0.5) if t == 4 else h
            output, h = cell(x, h)
            outputs.append(output)
        return np.stack(outputs)

    report = check_grads(run, normal(2, 5, 3), parameters=cell.parameters(), check=False)
    assert all("equals the gradient with cut 1 of 2 open" in leaf.hint for leaf in report.leaves)


class Disagreeing(tr.Chunked):
    """Says that it cuts at every second edge, and leaves edge 2 open."""

    def mask(self, T):
        return tr.Chunked(2).mask(T)

    def scale(self, edge, end):
        return 1.0 if edge == 2 else super().scale(edge, end)

    def __init__(self):
        super().__init__(2)
        object.__setattr__(self, "every", None)
        object.__setattr__(self, "grain", 1)


def forgetful(edges):
    """Return a step of a recurrence that uses the state as a constant at some edges, and its parameters."""
    w = tr.tensor(normal(3), requires_grad=True)

    def step(xs, state):
        h, t = state
        total = 0.0
        for x in tr.unstack(xs, axis=1):
            before = tr.tensor(h.data) if t in edges and isinstance(h, tr.Tensor) else h
            h = np.tanh(w * before + x)
            total, t = total + np.sum(h * h), t + 1
        return total, (h, t)

    return step, {"w": w}


@pytest.mark.parametrize(
    ("edges", "policy", "words"),
    [
        ({2}, tr.Decay(0.5), "equals the gradient with edge 2 (before step 2) cut"),
        ({3}, tr.Full(), "equals the gradient with edge 3 (before step 3) cut"),
        ({1, 2, 3, 4, 5}, tr.Windowed(3), "equals the gradient with every edge cut"),
    ],
)
def test_a_step_that_loses_the_gradient_of_its_state(edges, policy, words):
    step, parameters = forgetful(edges)
    report = check_grads(
        step, normal(2, 6, 3), (normal(2, 3), 0), truncation=policy, parameters=parameters, check=False
    )
    assert words in report.leaves[0].hint


def test_a_policy_whose_mask_and_scales_disagree():
    report = check_grads(cell_of(), normal(2, 6, 3), truncation=Disagreeing(), check=False)
    assert not report.ok
    assert "equals the gradient of the mask that the policy's scale gives, not its mask" in report.leaves[0].hint


# -- what a backward pass must not do ------------------------------------------------------------------------------


def test_values_that_change_from_call_to_call():
    rng = np.random.default_rng(0)
    with pytest.raises(GradCheckError, match="not repeatable: <lambda> gave other values when it was called again"):
        check_grads(lambda x: x * rng.random(), normal(2))


def test_a_backward_pass_that_gives_other_bits_the_second_time():
    rng = np.random.default_rng(0)
    noisy = primitive(tanh, lambda g, y, x: (g * (1 - y * y) * (1 + 1e-15 * rng.random(y.shape)),), "y")
    with pytest.raises(GradCheckError, match="not repeatable: a second backward pass gave other bits for x"):
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
    assert sharing({"a": g, "b": g[0], "c": np.zeros(3)}, {}) == ["memory shared: the gradients of a and b"]
    assert sharing({"w": w.data}, {"w": w}) == ["memory shared: the gradient of w and the values of w"]
    assert sharing({"a": np.zeros(2), "w": np.zeros(2)}, {"w": w}) == []
    monkeypatch.setattr(backward, "grad", lambda *_, **__: {"x": g, "y": g})
    with pytest.raises(GradCheckError, match="memory shared: the gradients of x and y"):
        check_grads(lambda x, y: x * y, normal(2, 3), normal(2, 3))
    assert differing({"a": np.zeros(2)}, {"a": -np.zeros(2)}) == [
        "not repeatable: a second backward pass gave other bits for a"
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
        kind, policy = rng.choice(sorted(CELLS)), [*POLICIES, None, None, None][rng.integers(13)]
        N, T = rng.integers(1, 4), rng.integers(1, 9)
        scale, order = 10.0 ** rng.uniform(-2, 1), 1 + (policy is None and seed % 5 == 0)
        cell = cell_of(kind, seed)
        for p in cell.parameters().values():
            p.data = p.data * scale
        report = check_grads(cell, normal(N, T, 3, seed=seed), truncation=policy, seed=seed, order=order, check=False)
        leaves += len(report.leaves)
        alarms += [] if report.ok else [(seed, str(report))]
    assert not alarms, f"{len(alarms)} of {leaves}: {alarms[0]}"
