"""Wrong solutions that are on no list of mistakes: what is said names the output, the step, the term, the factor."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygrad_rnn.course.grading.findings import arrays_of
from tinygrad_rnn.course.grading.grade import grade_exercise
from tinygrad_rnn.course.grading.sandbox import grade_files
from tinygrad_rnn.course.grading.terms import terms
from tinygrad_rnn.course.lessons import LESSONS, lesson


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def context_from_the_middle(ids, window):
    pairs = [(k, t) for t in range(window, len(ids) - window) for k in range(1, window + 1)]
    before, after = ([ids[t + side * k] for k, t in pairs] for side in (-1, 1))
    shape = (-1, window)
    return np.hstack([np.reshape(before, shape), np.reshape(after, shape)]), ids[window : len(ids) - window]


def bias_after_tanh(x, h, Wx, Wh, b):
    return np.tanh(x @ Wx + h @ Wh) + b


def bias_twice(xs, h0, Wx, Wh, b):
    for x in xs:
        h0 = np.tanh(x @ Wx + b + h0 @ Wh + b)
    return h0


def first_state_for_two_steps(xs, h0, Wx, Wh, b):
    hs = []
    for t in range(xs.shape[1]):
        hs.append(np.tanh(xs[:, t] @ Wx + (hs[-1] if t > 1 else h0) @ Wh + b))
    return np.stack(hs, axis=1)


def whole_numbers(w, h0, xs):
    hs = np.zeros(len(xs), dtype=int)
    for t, x in enumerate(xs):
        hs[t] = h0 = w * h0 + x
    return hs


def states(w, h0, xs):
    hs = [h0]
    for x in xs:
        hs.append(w * hs[-1] + x)
    return hs


def loop_without_step_0(w, h0, xs, es):
    hs, dh, dw = states(w, h0, xs), 0.0, 0.0
    for t in range(len(xs) - 1, 0, -1):
        dh = es[t] + w * dh
        dw += dh * hs[t]
    return dw, w * dh


def one_loss_twice(w, h0, xs, es):
    hs, dh, dw = states(w, h0, xs), 0.0, 0.0
    for t in reversed(range(len(xs))):
        dh = es[t] * (2 if t == 2 else 1) + w * dh
        dw += dh * hs[t]
    return dw, w * dh


def w_times_both(w, h0, xs):
    hs = []
    for x in xs:
        hs.append(h0 := w * (h0 + x))
    return hs


def backward_with(step):
    """Return a backward pass whose gradient of a state comes from `step(w, es, t, dh)`."""

    def backward(w, h0, xs, es):
        hs, dh, dw = states(w, h0, xs), 0.0, 0.0
        for t in reversed(range(len(xs))):
            dh = step(w, es, t, dh)
            dw += dh * hs[t]
        return dw, w * dh

    return backward


def cut_with(stops, scale=lambda xs: 1.0):
    """Return a truncated gradient whose walk back stops before the steps where `stops(t, T, n)`."""

    def truncated(w, h0, xs, es, n):
        hs, dh, dw = states(w, h0, xs), 0.0, 0.0
        for t in reversed(range(len(xs))):
            dh = es[t] + w * dh
            dw += dh * hs[t]
            dh = 0.0 if stops(t, len(xs), n) else dh
        return dw * scale(xs)

    return truncated


def mask_from_the_end(T, n):
    return [[float(t <= tau and (T - 1 - tau) // n == (T - 1 - t) // n) for t in range(T)] for tau in range(T)]


def of_probabilities(logits, targets, loss):
    """Return the mean of a loss of the targets' probabilities, over the steps that count."""
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    n, t = np.nonzero(targets != -1)
    return loss((p / p.sum(axis=-1, keepdims=True))[n, t, targets[n, t]])


def layer(dhs, xs, hs, h0, Wx, Wh, wrong=""):
    dxs, dWx, dWh, db, dh = np.zeros_like(xs), 0, 0, 0, np.zeros_like(h0)
    for t in reversed(range(hs.shape[1])):
        slope = (1 - hs[:, t] ** 2) / (len(hs) if wrong == "mean" else 1)
        da = dhs[:, t] * slope + dh if wrong == "slope" else (dhs[:, t] + dh) * slope
        if wrong == "in place":
            dhs[:, t] += dh
        before = hs[:, t - 1] if t or wrong == "wraps" else h0
        dxs[:, t], dWx, dWh = da @ Wx.T, dWx + xs[:, t].T @ da, dWh + before.T @ da
        db, dh = db + (da if wrong == "sum" else da.sum(axis=0)), da @ Wh.T
    return dxs, dWx, dWh, db, dh


def wrong_layer(wrong):
    return lambda *arguments: layer(*arguments, wrong=wrong)


def sums_reach_one_term(leaves, calls):
    v = list(leaves)
    for name, i, j in calls:
        v.append(v[i] + v[j] if name == "add" else v[i] * v[j])
    g = [0.0] * (len(v) - 1) + [1.0]
    for k in reversed(range(len(calls))):
        (name, i, j), here = calls[k], g[len(leaves) + k]
        g[i] += here if name == "add" else here * v[j]
        g[j] += 0 if name == "add" else here * v[i]
    return g[: len(leaves)]


def norms_without_the_last(g, Wh, T):
    found = []
    for _ in range(T):
        found.append(np.linalg.norm(g))
        g = Wh @ g
    return found


def overflowing(logits, targets):
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    n, t = np.nonzero(targets >= 0)
    return -np.log(p[n, t, targets[n, t]]).mean()


def results_swapped(a, c):
    i, f, o, g = np.split(a, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def losses_one_step_late(w, h0, xs, es):
    J, dw, found = 0.0, 0.0, []
    for h, e in zip(states(w, h0, xs), [0, *es[:-1]], strict=False):
        J = w * J + h
        dw += e * J
        found.append(J)
    return found, dw


def in_float32(w, h0, xs, es):
    J, h, dw, found = *np.float32([0, h0, 0]), []
    for x, e in zip(np.float32(xs), np.float32(es), strict=True):
        J, h = np.float32(w) * J + h, np.float32(w) * h + x
        dw += e * J
        found.append(J)
    return found, dw * np.float32(1.00001)


def remembers(length, N, seen=[]):  # noqa: B006
    seen.append(0)
    return np.arange(N) * (length // N) + len(seen)


WRONG = [
    (1, "contexts", context_from_the_middle, "contexts holds the right numbers in each row, in another order"),
    (1, "same_to_cbow", lambda a, b: None, "returns nothing: is there a return?"),
    (2, "rnn_step", bias_after_tanh, "h grows in proportion to b, and should not"),
    (2, "read", bias_twice, "h takes 2 times as much of the share of b as of each other one"),
    (1, "hidden", lambda context, W: W[context].sum(axis=0) / len(W),
     "h is 0.666667 times the right value in every entry; in case 2 it is 1/2 times: what is this factor made of?"),
    (2, "rnn_step", lambda x, h, Wx, Wh, b: np.tanh(x @ Wx + np.tanh(h @ Wh) + b),
     "changes the share of h, Wh by another factor than that of x, Wx, b: what does only one of them go through?"),
    (2, "count_parameters", lambda V, D, H: V * D + D * H + H * H + H + H * V + D,
     "count grows by 5 if V grows by 1, and should grow by 6"),
    (2, "count_parameters", lambda V, D, H: f"{V * D}", "count is str, expected an array or a number"),
    (3, "unroll", first_state_for_two_steps, "hs at step 1 does not depend on xs at step 0, and should"),
    (3, "last_states", lambda hs, lengths: hs[lengths - 1], "raises IndexError: index 2 is out of bounds"),
    (4, "forward", whole_numbers, "hs holds whole numbers, the right values cut off"),
    (4, "backward", loop_without_step_0, "dw does not depend on es at step 0, and should"),
    (4, "backward", one_loss_twice, "dw takes 2 times the share of es at step 2"),
    (4, "forward", w_times_both, "hs at step 0 has the right share of h0, and a wrong one of w, xs"),
    (4, "forward", w_times_both, "hs is wrong in 6 of 6 entries, from step 0 on: [0] is 4, expected 3"),
    (4, "backward", backward_with(lambda w, es, t, dh: w * (es[t] + dh)),
     "dw is 2 times the right value; in case 2 it is 2.5 times: what is this factor made of?"),
    (4, "backward", backward_with(lambda w, es, t, dh: es[t - 1] + w * dh),
     "dw takes at each step the share of es that belongs to the step after"),
    (4, "rnn_backward", wrong_layer("mean"), "at step 2 it is 1/2 times the right value"),
    (4, "rnn_backward", wrong_layer("in place"), "changes dhs in place; work on a copy"),
    (4, "rnn_backward", wrong_layer("sum"), "db has shape (1, 1), expected (1,): the numbers are right"),
    (4, "rnn_backward", wrong_layer("wraps"), "dWh does not depend on h0, and should"),
    (4, "rnn_backward", wrong_layer("slope"), "has the right share of dhs at step 0, and a wrong one of dhs at step 1"),
    (5, "tanh_rule", lambda g, y: 2 * g * (1 - y * y), "dx is 2 times the right value in every entry"),
    (5, "matmul_rule", lambda g, x, W: (g @ W, x.T @ g), "for g (2, 4), x (2, 3), W (3, 4)"),
    (5, "gradients", sums_reach_one_term, "gradients is 3 where 4 is right, at index 0"),
    (6, "gradient_norms", norms_without_the_last, "norms has shape (3,), expected (4,): the first 3 along axis 0"),
    (7, "truncated", cut_with(lambda t, T, n: t % n == 0, lambda xs: 1 / len(xs)),
     "dw is 1/6 times the right value; in case 3 it is 1/5 times"),
    (7, "truncated", cut_with(lambda t, T, n: t == n),
     "dw has the right share of es at steps 0, 1, 2, 3, and a wrong one of es at steps 4, 5"),
    (7, "mask", mask_from_the_end, "M is wrong in 8 of 64 entries: [2, 0] is 0, expected 1"),
    (7, "mask", lambda T, n: np.ones((T,)), "M has shape (4,), expected (4, 4)"),
    (8, "offsets", lambda length, N: int(input()), "asks for input; all that it needs is in its arguments"),
    (8, "offsets", remembers, "gives something else when it is called again with the same arguments"),
    (9, "time_affine_backward", lambda g, x, W: (g @ W.T, np.einsum("nth,ntv->hv", x, g), g.sum(axis=0)),
     "db has shape (2, 1), expected (1,): its sum over axis 0 is right"),
    (9, "time_loss", lambda logits, targets: of_probabilities(logits, targets, lambda p: -np.log10(p + 1e-300).mean()),
     "loss is 0.60206 where 1.38629 is right"),
    (9, "perplexity", lambda losses, counts: -np.exp(np.average(losses, weights=counts)) / 3,
     "perplexity is -1/3 times the right value"),
    (9, "time_loss", overflowing, "loss has entries that are not finite"),
    (10, "lstm_step", results_swapped, "h and c stand in each other's place"),
    (10, "leaky_step", lambda x, h, Wx, Wh, b, alpha: (1 - alpha) * h + alpha * np.tanh(x @ Wx + h @ Wh) + b,
     "h grows in proportion to b, and should not"),
    (10, "forward_credit", losses_one_step_late, "takes at each step the share of es that belongs to the step after"),
    (10, "forward_credit", in_float32, "dw is right to 4 digits only: rounded, or computed in float32?"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "name", "theirs", "said"), WRONG, ids=[f"{n}-{name}-{i}" for i, (n, name, *_) in enumerate(WRONG)]
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_what_is_said(number, name, theirs, said, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    exercise = next(one for one in lesson(number).exercises if one.name == name)
    grade = grade_exercise(exercise, theirs)
    assert not grade.passed
    lines = [f"{finding.output} {finding.what.en}".lstrip() for finding in grade.findings]
    assert any(said in line for line in lines), lines
    assert grade.mistake is None
    assert all(finding.what.zh != finding.what.en for finding in grade.findings)


def test_a_factor_that_is_the_same_in_every_case_is_named():
    (exercise,) = (one for one in lesson(9).exercises if one.name == "time_affine_backward")
    grade = grade_exercise(exercise, lambda g, x, W: tuple(0.7 * part for part in exercise.solve(g, x, W)))
    assert [finding.what.en.rpartition(": ")[2] for finding in grade.findings] == ["0.7 times, in every case"] * 3


def test_a_flat_part_of_a_function_is_no_missing_term():
    """The third case has logits of some thousands: no probability moves there."""
    (exercise,) = (one for one in lesson(9).exercises if one.name == "time_loss")
    grade = grade_exercise(exercise, lambda *case: of_probabilities(*case, lambda p: -np.log(p.mean())))
    assert [finding.what.en for finding in grade.findings] == ["is 1.33679 where 1.46752 is right"]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_no_term_is_blamed_where_a_solution_is_right(lesson):
    for exercise in lesson.exercises:

        def solve(case, exercise=exercise):
            return arrays_of(exercise, exercise.solve(*case))

        for case in exercise.drawn():
            assert terms(exercise, case, solve, solve, range(len(exercise.outputs))) == []


LOOPS = """
def truncated(w, h0, xs, es, n):
    while True:
        pass

def windowed(w, h0, xs, es, h):
    raise SystemExit

def mask(T, n):
    steps = range(T)
    return [[int(tau // n == t // n and t <= tau) for t in steps] for tau in steps]
"""


@pytest.mark.nightly
def test_a_function_that_does_not_end_fails_alone(tmp_path):
    path = Path(tmp_path, "loops.py")
    path.write_text(LOOPS)
    ((first, second, third),) = grade_files(lesson(7), [path], seconds=1)
    assert first.findings[0].what.en == "did not end within 1 s"
    assert second.findings[0].what.en == "ended the process with code 0"
    assert third.passed


def test_the_line_of_an_error_is_one_of_the_reader(tmp_path):
    path = Path(tmp_path, "stacks.py")
    path.write_text("import numpy as np\n\ndef forward(w, h0, xs):\n    return np.stack([])\n")
    ((grade, *_),) = grade_files(lesson(4), [path])
    assert grade.findings[0].what.en.startswith("raises ValueError: need at least one array to stack (line 4)")
