"""Metrics: values by definition, masks, merging over batches, compiled."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn import metrics

IDS = {"accuracy": metrics.accuracy, "nats": metrics.nats, "perplexity": metrics.perplexity, "bits": metrics.bits}
NUMBERS = {"mae": metrics.mae, "rmse": metrics.rmse, "r2": metrics.r2}


def by_definition(name, y, t):
    """Return a metric of all rows that count: logits (M, V) and ids (M,), or numbers (M,)."""
    if name in NUMBERS:
        return {
            "mae": lambda: np.mean(np.abs(y - t)),
            "rmse": lambda: np.sqrt(np.mean((y - t) ** 2)),
            "r2": lambda: 1 - np.mean((y - t) ** 2) / np.var(t),
        }[name]()
    if name == "accuracy":
        return np.mean(np.argmax(y, axis=-1) == t)
    nats = np.mean([np.log(np.sum(np.exp(row))) - row[i] for row, i in zip(y, t, strict=True)])
    return {"nats": nats, "perplexity": np.exp(nats), "bits": nats / np.log(2)}[name]


@pytest.mark.parametrize("name", IDS | NUMBERS)
@pytest.mark.parametrize("compiled", [False, True])
@given(seed=st.integers(0, 2**32 - 1))
def test_batches_merge_into_the_metric_of_what_counts(name, compiled, seed):
    rng = np.random.default_rng(seed)
    metric = (IDS | NUMBERS)[name]
    one = tr.compile(lambda y, t, mask: metric(y, t, mask)) if compiled else metric
    found, kept_y, kept_t = [], [], []
    for _ in range(3):
        mask = rng.random((4, 5)) < 0.5
        mask[0, :3] = True
        if name in IDS:
            y, t = rng.standard_normal((4, 5, 6)), rng.integers(0, 6, (4, 5))
            t[0, 4] = -1
            counted = mask & (t != -1)
        else:
            y, t = rng.standard_normal((4, 5)), rng.standard_normal((4, 5))
            counted = mask
        kept_y.append(y[counted])
        kept_t.append(t[counted])
        y[~mask] = np.nan
        found.append(one(tr.tensor(y) if compiled else y, t, mask))
    whole = metrics.merged(found)
    assert type(whole) is type(metric(y, t, mask))
    assert whole.value == pytest.approx(by_definition(name, np.concatenate(kept_y), np.concatenate(kept_t)), rel=1e-9)
    assert whole.elements == sum(map(len, kept_t))


@pytest.mark.parametrize("name", IDS | NUMBERS)
def test_of_nothing_a_metric_is_not_a_number(name):
    y = np.zeros((2, 3, 4) if name in IDS else (2, 3))
    t = np.zeros((2, 3), int if name in IDS else float)
    found = (IDS | NUMBERS)[name](y, t, np.zeros(2, bool))
    assert math.isnan(found.value)
    assert found.elements == 0


def test_a_metric_prints_its_value():
    assert repr(metrics.rmse([1.0, 2.0], [1.0, 4.0])) == "RootMean(1.41421 over 2 elements)"
    assert str(metrics.accuracy(np.eye(2), np.array([0, 0]))) == "Metric(0.5 over 2 elements)"


def test_ids_are_compared_as_they_are():
    assert metrics.accuracy(np.array([1, 2, 3]), [1, 2, 0]).value == pytest.approx(2 / 3)


def test_targets_that_are_no_classes_are_an_error():
    """A mapping of labels that is wrong would only look like a bad model."""
    logits = np.zeros((3, 2))
    assert metrics.accuracy(logits, [0, -1, 0]).value == 1
    assert metrics.accuracy(logits, [0, 7, 0], mask=[True, False, True]).value == 1
    for wrong in (2, -2):
        for measure in IDS.values():
            with pytest.raises(IndexError, match=rf"target {wrong} is outside \[0, V\) with V=2"):
                measure(logits, [0, wrong, 0])


@pytest.mark.parametrize("name", ["nats", "perplexity", "bits"])
def test_half_precision_is_added_up_in_more(name):
    logits, targets = np.zeros((70_000, 3), np.float16), np.zeros(70_000, int)
    expected = IDS[name](logits.astype(np.float64), targets).value
    assert IDS[name](logits, targets).value == pytest.approx(expected, rel=1e-6)
    assert IDS[name](tr.tensor(logits), targets).value == pytest.approx(expected, rel=1e-6)


def test_r2_says_nothing_where_it_cannot_know():
    """The sums of squares of times since 1970 agree in all the digits that differ between them."""
    rng = np.random.default_rng(0)
    targets = rng.standard_normal(100)
    predictions = targets + 0.5 * rng.standard_normal(100)
    expected = 1 - np.sum((predictions - targets) ** 2) / np.sum((targets - targets.mean()) ** 2)
    for offset in (0, 1e3, 1e5):
        assert metrics.r2(predictions + offset, targets + offset).value == pytest.approx(expected, rel=1e-4)
    assert math.isnan(metrics.r2(predictions + 1.7e9, targets + 1.7e9).value)


def by_recursion(a, b):
    if not a or not b:
        return len(a) + len(b)
    return min(by_recursion(a[1:], b[1:]) + (a[0] != b[0]), by_recursion(a[1:], b) + 1, by_recursion(a, b[1:]) + 1)


@given(rows=st.lists(st.tuples(st.text("ab", max_size=5), st.text("abc", max_size=5)), min_size=1, max_size=4))
def test_edit_distance_is_its_recursion(rows):
    ours, theirs = zip(*rows, strict=True)
    total = sum(by_recursion(a, b) for a, b in rows)
    assert metrics.edit_distance(ours, theirs).value == pytest.approx(total / len(rows))
    rate = metrics.error_rate(ours, [list(text) for text in theirs])
    assert rate.elements == sum(map(len, theirs))
    assert math.isnan(rate.value) if not rate.elements else rate.value == pytest.approx(total / rate.elements)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: metrics.accuracy(np.zeros((2, 3)), np.zeros((4,), int)),
            tr.ShapeError,
            r"predictions of shape \(4,\)",
        ),
        (lambda: metrics.accuracy(np.zeros((2,)), np.zeros((2,))), tr.DTypeError, "integer targets"),
        (lambda: metrics.rmse(np.zeros(3), np.zeros(2)), tr.ShapeError, r"rmse: expected predictions of shape \(2,\)"),
        (lambda: metrics.mae([[1, 2], [3]], [1, 2]), tr.DTypeError, "mae: predictions: cannot make an array"),
        (lambda: metrics.mae(np.zeros(2, complex), np.zeros(2)), tr.DTypeError, "real predictions"),
        (lambda: metrics.r2(np.zeros(2), np.zeros(2), np.ones(3, bool)), tr.ShapeError, "mask of shape"),
        (lambda: metrics.merged([]), tr.ConfigError, "metrics of one kind, one or more, got none"),
        (
            lambda: metrics.merged([metrics.mae([1.0], [1.0]), metrics.rmse([1.0], [1.0])]),
            tr.ConfigError,
            r"\['Metric', 'RootMean'\]",
        ),
        (lambda: metrics.edit_distance(["a"], []), tr.ShapeError, "as many predictions as targets, got 1 and 0"),
    ],
)
def test_what_does_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        make()
