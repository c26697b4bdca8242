"""The report: table, HTML, hints from ratios."""

import numpy as np
import pytest

from tinygrad_rnn.testing import GradCheckError, GradReport, LeafResult
from tinygrad_rnn.testing.diagnose.hints import hint, ratio

GOOD = LeafResult("Wx", (3, 4), 1e-16, 2e-10, "complex step", 12, every=True)
BAD = LeafResult("Wh", (4, 4), 0.5, 1e-10, "complex step", 3, False, "wrong", (2, 1), 0.5, 1.0, "times 2 there")


def report(*leaves, notes=(), failures=()):
    return GradReport("Cell", leaves, 7, "check_grads(Cell(...), xs, seed=7)", notes, failures)


def test_a_good_report_is_a_table():
    good = report(GOOD, LeafResult("b", (0,), 0.0, 0.0, "", 0, verdict="empty"), notes=("relu: not analytic",))
    assert good.ok
    assert str(good).splitlines() == [
        "gradients of Cell: ok (seed 7)",
        "leaf  shape   largest error  allowed  method        looked at    verdict",
        "Wx    (3, 4)  1.0e-16        2.0e-10  complex step  every entry  ok",
        "b     (0,)    -              -        -             -            empty",
        "note: relu: not analytic",
    ]


def test_a_bad_one_says_where_what_and_how_to_see_it_again():
    bad = report(GOOD, BAD)
    assert not bad.ok
    assert str(GradCheckError(bad)) == str(bad)
    assert str(bad).splitlines() == [
        "gradients of Cell: wrong in Wh (seed 7)",
        "leaf  shape   largest error  allowed  method        looked at     verdict",
        "Wx    (3, 4)  1.0e-16        2.0e-10  complex step  every entry   ok",
        "Wh    (4, 4)  5.0e-01        1.0e-10  complex step  3 directions  wrong",
        "",
        "Wh[2, 1]: wrong, expected 0.5, got 1",
        "  times 2 there",
        "reproduce: check_grads(Cell(...), xs, seed=7)",
    ]


def test_a_failure_without_values():
    failed = report(failures=("input changed: f wrote into its input ids, of shape (3,)",))
    assert not failed.ok
    assert "leaf" not in str(failed)
    assert "input changed: f wrote into its input ids, of shape (3,)" in str(failed)


def test_the_worst_leaf_is_told_first():
    worse = LeafResult("b", (4,), 5.0, 1e-10, "complex step", 3, False, "wrong", (1,), 0.5, 5.5)
    assert [finding[:2] for finding in report(BAD, worse).findings] == ["b[", "Wh"]


def test_html_escapes_and_sets_no_colour_of_its_own():
    html = report(
        LeafResult("<b>&", (1,), 1.0, 0.1, "complex step", 1, verdict="wrong"), notes=("1 < 2",)
    )._repr_html_()
    assert "<b>&<" not in html
    assert "&lt;b&gt;&amp;" in html
    assert "1 &lt; 2" in html
    assert "reproduce" in html
    assert "color:" not in html.replace("border-bottom:1px solid rgba(128,128,128,.35)", "")
    assert "background" not in html


E = np.random.default_rng(0).standard_normal((4, 4))
COUNTED = np.where(np.arange(4)[:, None] == 2, 0.5, 1.0)


@pytest.mark.parametrize(
    ("actual", "sizes", "words"),
    [
        (-E, {}, "times -1 in every entry: a sign is flipped"),
        (2 * E, {}, "times 2 in every entry: counted twice"),
        (2 * E, {"N": 2}, "times 2 = N in every entry: counted twice, or summed instead of averaged"),
        (E / 3, {"N": 3}, "times 0.333333 = 1/N in every entry: averaged instead of summed"),
        (5 * E, {"N": 3, "T": 5}, "times 5 = T in every entry: summed instead of averaged"),
        (E / 15, {"N": 3, "T": 5}, "times 0.0666667 = 1/(N * T) in every entry: averaged instead of summed"),
        (0 * E, {}, "0 in every entry: no gradient arrives"),
        (1.25 * E, {}, "times 1.25 in every entry"),
        ((1 + 1e-7) * E, {}, "times 1 + 1.0e-07 in every entry"),
        (E.T, {}, "transposed"),
        (E[:, [0, 3, 2, 1]], {}, "right numbers in wrong places: column 1 holds what belongs to column 3"),
        (E[[1, 0, 2, 3]], {}, "right numbers in wrong places: row 0 holds what belongs to row 1"),
        (E * COUNTED, {}, "wrong in row 2 only, times 0.5 there: one of two parts is lost"),
        (E * COUNTED.T, {}, "wrong in column 2 only, times 0.5 there: one of two parts is lost"),
        (np.where(np.eye(4, k=2) > 0, 7, E), {}, "wrong in rows 0 to 1 only"),
        (E.astype(np.float32), {}, "relative errors of about 3e-08: rounding, as if a part were computed in float32"),
        (E + 1e-16, {}, "the difference is rounding: rtol and atol ask for more precision than float64 has"),
        (E + 1, {}, ""),
        (E * np.nan, {}, ""),
    ],
)
def test_hints(actual, sizes, words):
    assert hint(E, actual, sizes) == words


def test_hints_on_a_gradient_that_should_be_0_and_on_vectors():
    assert hint(np.zeros(3), np.ones(3), {}) == "expected 0 in every entry: a gradient arrives where none should"
    assert hint(np.array([1.0, 2, 4]), np.array([1.0, 3, 4]), {}) == "wrong in entry 1 only"
    assert hint(np.array(2.0), np.array(-2.0), {}) == "times -1 in every entry: a sign is flipped"
    assert ratio(2.0, 1.0, {"N": 2}) == "times 0.5 = 1/N there: one of two parts is lost, or averaged instead of summed"
    assert ratio(0.0, 1.0, {}) == ""
