"""check_grads: every planted fault is found where it is, with its hint."""

import numpy as np
import pytest
from testing.rules import cell_of, matmul, normal, primitive, tanh

import tinygrad_rnn as tr
from tinygrad_rnn.testing import GradCheckError, check_grads


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda g, y, x: (-g * (1 - y * y),), "times -1 in every entry: a sign is flipped"),
        (lambda g, y, x: (2 * g * (1 - y * y),), "times 2 in every entry: counted twice"),
        (lambda g, y, x: (g * (1 - y * y) / 3,), "times 0.333333 = 1/N in every entry: averaged instead of"),
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


@pytest.mark.sample(3)
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
    with pytest.raises(GradCheckError, match="second-order gradients of tanh: wrong") as raised:
        check_grads(half, normal(3, 3), order=2)
    assert raised.value.report.leaves[0].hint == "times 0.5 in every entry: one of two parts is lost"
    with pytest.raises(GradCheckError, match="^gradients of tanh: wrong"):
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


class SaysItIsExact(tr.SnAp):
    exact = True


def test_credit_that_is_not_carried_forward():
    report = check_grads(cell_of("gru"), normal(2, 5, 3), truncation=SaysItIsExact(1), check=False)
    assert {"Wx", "Wh"} <= set(report.wrong)
    assert "first state" not in [leaf.name for leaf in report.leaves]
    assert report.notes[-1].startswith("not checked: the first state, because SaysItIsExact(n=1, every=1)")
