"""Losses against their definitions, their gradients against complex steps, masks, reductions, and what is refused."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import complex_gradient
from replay import executors

import tinygrad_rnn as tr

COMPILED = pytest.mark.parametrize("setting", [None, *executors()], ids=lambda s: s["executor"] if s else "eager")

# name -> the loss of predictions (N, T, D) and targets, and the loss of each element by its definition
ELEMENTWISE = {
    "mse": (tr.mse, lambda y, t: (y - t) ** 2),
    "mae": (tr.mae, lambda y, t: np.abs(y - t)),
    "huber": (
        lambda *a, **k: tr.huber(*a, delta=0.7, **k),
        lambda y, t: np.where(np.abs(y - t) <= 0.7, (y - t) ** 2 / 2, 0.7 * (np.abs(y - t) - 0.35)),
    ),
    "gaussian_nll": (
        lambda y, t, *a, **k: tr.gaussian_nll(y, 0.5 * y - 0.1, t, *a, **k),
        lambda y, t: 0.5 * (np.log(2 * np.pi * np.exp(0.5 * y - 0.1)) + (y - t) ** 2 / np.exp(0.5 * y - 0.1)),
    ),
    "binary_cross_entropy": (
        lambda y, t, mask=None, **k: tr.binary_cross_entropy(y, 1 / (1 + np.exp(-t)), mask=mask, **k),
        lambda y, t: np.logaddexp(0, y) - y / (1 + np.exp(-t)),
    ),
}


def drawn(seed, masks=True):
    """Return predictions, targets and a mask of one of the shapes that it may have, with one True at least."""
    rng = np.random.default_rng(seed)
    y, t = 2 * rng.standard_normal((3, 4, 2)), rng.standard_normal((3, 4, 2))
    axes = int(rng.integers(1, 4))
    mask = rng.random((3, 4, 2)[:axes]) < 0.6
    mask.flat[0] = True
    return y, t, mask


def run(f, y, setting):
    """Return f(y) and the gradient of its sum, eagerly or compiled."""

    def both(y):
        loss = f(y)
        return loss, tr.grad(np.sum(loss), y)

    leaf = tr.tensor(y, requires_grad=True)
    loss, d = both(leaf) if setting is None else tr.compile(both, **setting)(leaf)
    return np.asarray(loss.data if isinstance(loss, tr.Tensor) else loss), d


@functools.cache
def with_gradient(name, reduction, executor):
    """Return a leaf, and (leaf, t, mask) -> (loss, gradient of its sum); compiled once, where by an executor."""

    def both(y, t, mask):
        loss = ELEMENTWISE[name][0](y, t, mask=mask, reduction=reduction)
        return loss, tr.grad(np.sum(loss), y)

    leaf = tr.tensor(np.zeros((3, 4, 2)), requires_grad=True)
    return leaf, both if executor is None else tr.compile(both, executor=executor, threads=2)


@COMPILED
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ELEMENTWISE)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_loss_is_its_definition_where_it_counts(name, reduction, setting, seed):
    loss, definition = ELEMENTWISE[name]
    y, t, mask = drawn(seed)
    whole = np.broadcast_to(mask.reshape(mask.shape + (1,) * (3 - mask.ndim)), y.shape)
    each = np.where(whole, definition(y, t), 0)
    expected = {"none": each, "sum": each.sum(), "mean": each.sum() / whole.sum()}[reduction]
    leaf, both = with_gradient(name, reduction, setting and setting["executor"])
    leaf.data = np.where(whole, y, np.nan)  # what stands in masked places is not looked at
    found, d = both(leaf, t, mask)
    found = found.data if isinstance(found, tr.Tensor) else found
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    slope = complex_gradient(lambda y: np.sum(loss(y, t, mask=mask, reduction=reduction)), [y], 0)
    np.testing.assert_allclose(d, np.where(whole, slope, 0), rtol=1e-10, atol=1e-12)
    assert np.all(d[~whole] == 0)
    assert np.shape(found) == np.shape(expected)


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_loss_has_the_dtype_of_its_predictions(name, dtype):
    y, t, mask = drawn(0)
    leaf = tr.tensor(y.astype(dtype), requires_grad=True)
    loss = ELEMENTWISE[name][0](leaf, t, mask=mask)
    assert loss.dtype == tr.grad(loss, leaf).dtype == dtype
    assert loss.item() == pytest.approx(
        float(ELEMENTWISE[name][0](y, t, mask=mask)), rel=20 * float(np.finfo(dtype).eps)
    )


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_second_derivatives(name):
    y, t, mask = drawn(3)
    assert tr.testing.check_grads(lambda y: ELEMENTWISE[name][0](y, t, mask=mask), y, order=2, allow_unused=True).ok


def test_at_a_kink_the_slope_is_between_those_beside_it():
    x = tr.tensor([1.0, 2.0], requires_grad=True)
    assert tr.grad(tr.mae(x, [1.0, 5.0]), x).tolist() == [0.0, -0.5]


@pytest.mark.parametrize("name", ELEMENTWISE)
@COMPILED
def test_a_mask_of_nothing(name, setting):
    """The mean is an error, also when a later call of a compiled function brings such a mask; sums are 0."""
    loss, (y, t, _) = ELEMENTWISE[name][0], drawn(0)

    def mean(y, mask):
        return loss(y, t, mask=mask)

    f = mean if setting is None else tr.compile(mean, **setting)
    f(tr.tensor(y), np.ones((3, 4), bool))
    with pytest.raises(tr.ShapeError, match=rf"{name}: all \d+ (positions|elements) are masked.*the mean is undefined"):
        f(tr.tensor(y), np.zeros((3, 4), bool))
    assert float(loss(y, t, mask=np.zeros(3, bool), reduction="sum")) == 0
    assert not loss(y, t, mask=np.zeros(3, bool), reduction="none").any()


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"t": np.zeros((3, 4))}, tr.ShapeError, r"targets of shape \(3, 4, 2\), that of .*, got \(3, 4\)"),
        ({"t": np.array(["a"])}, (tr.DTypeError, TypeError), "numbers|ufunc"),
        ({"y": np.zeros((3, 4, 2), int)}, tr.DTypeError, "expected floating point"),
        ({"mask": np.ones((4, 2), bool)}, tr.ShapeError, r"mask of shape \(3, 4, 2\), or of its first axes.* \(4, 2\)"),
        ({"mask": np.ones((3, 4))}, tr.DTypeError, "mask of booleans"),
        ({"reduction": "median"}, tr.ConfigError, "reduction must be one of"),
    ],
)
def test_what_does_not_fit(name, change, error, message):
    y, t, _ = drawn(0)
    arguments = {"y": y, "t": t, **change}
    with pytest.raises(error, match=message):
        ELEMENTWISE[name][0](arguments.pop("y"), arguments.pop("t"), **arguments)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: tr.mse(x, x), tr.UnsupportedError, "mse: targets are constants"),
        (lambda x: tr.huber(x, [0.0, 0.0], delta=0), tr.ConfigError, "delta must be"),
        (lambda x: tr.gaussian_nll(x, np.zeros(3), [0.0, 0.0]), tr.ShapeError, r"log_variance of shape \(2,\)"),
        (lambda x: tr.mae(tr.tensor(np.zeros((0, 2))), np.zeros((0, 2))), tr.ShapeError, "there are no elements"),
    ],
)
def test_arguments_of_one(make, error, message):
    with pytest.raises(error, match=message):
        make(tr.tensor([1.0, 2.0], requires_grad=True))


# -- cross entropy --------------------------------------------------------------------------------------------------

LOGITS = np.random.default_rng(0).standard_normal((3, 4, 5))
IDS = np.random.default_rng(1).integers(0, 5, (3, 4))
IDS[0, 1] = IDS[2, 3] = -1
MASK = np.array([True, True, False])
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.0, 1.5])
PROBABILITIES = np.random.default_rng(2).dirichlet(np.ones(5), (3, 4))

CROSS = {
    "plain": {},
    "masked": {"mask": MASK},
    "weights": {"class_weights": WEIGHTS},
    "smoothing": {"smoothing": 0.1},
    "all": {"class_weights": WEIGHTS, "smoothing": 0.3, "mask": MASK},
}


def by_definition(logits, targets, reduction, mask=None, class_weights=None, smoothing=0.0):
    """Return the loss position by position, in plain Python."""
    weights = np.ones(5) if class_weights is None else class_weights
    total, count, each = 0.0, 0.0, np.zeros(logits.shape[:-1])
    for place in np.ndindex(logits.shape[:-1]):
        logs = logits[place] - np.log(np.sum(np.exp(logits[place])))
        probabilities = targets.ndim == logits.ndim
        if (mask is not None and not mask[place[0]]) or (not probabilities and targets[place] == -1):
            continue
        q = targets[place] if probabilities else np.eye(5)[targets[place]]
        each[place] = -np.sum(weights * ((1 - smoothing) * q + smoothing / 5) * logs)
        total += each[place]
        count += 1 if probabilities else weights[targets[place]]
    return {"mean": total / count, "sum": total, "none": each}[reduction]


@COMPILED
@pytest.mark.parametrize("targets", [IDS, PROBABILITIES], ids=["ids", "probabilities"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CROSS)
def test_cross_entropy_is_its_definition(name, reduction, targets, setting):
    settings = {**CROSS[name], "reduction": reduction}
    kept = np.broadcast_to(MASK[:, None] if "mask" in settings else True, IDS.shape)
    kept = kept & (IDS != -1) if targets is IDS else kept
    hidden = np.where(kept[..., None], LOGITS, np.nan)
    found, d = run(lambda x: tr.cross_entropy(x, targets, **settings), hidden, setting)
    np.testing.assert_allclose(found, by_definition(LOGITS, targets, **settings), rtol=1e-12, atol=1e-14)
    slope = complex_gradient(lambda x: np.sum(tr.cross_entropy(x, targets, **settings)), [LOGITS], 0)
    np.testing.assert_allclose(d, np.where(kept[..., None], slope, 0), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", CROSS)
def test_cross_entropy_is_pytorchs(name):
    torch = pytest.importorskip("torch", reason="PyTorch is for development only")
    settings = {key: value for key, value in CROSS[name].items() if key != "mask"}
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(LOGITS.reshape(-1, 5)),
        torch.tensor(IDS.ravel()),
        weight=torch.tensor(settings["class_weights"]) if "class_weights" in settings else None,
        ignore_index=-1,
        label_smoothing=settings.get("smoothing", 0.0),
    )
    assert float(tr.cross_entropy(LOGITS, IDS, **settings)) == pytest.approx(theirs.item(), rel=1e-12)


def test_logits_of_no_probability_cost_nothing_where_none_is_wanted():
    loss = tr.cross_entropy(np.array([[0.0, 0.0, -np.inf]]), [0], class_weights=np.ones(3))
    assert float(loss) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("targets", "settings", "error", "message"),
    [
        (IDS, {"smoothing": 1.5}, tr.ConfigError, "smoothing must be"),
        (IDS, {"class_weights": np.ones(4)}, tr.ShapeError, r"class_weights of shape \(V,\) = \(5,\)"),
        (IDS, {"class_weights": [1, 2, -3, 1, 1]}, ValueError, r"0 or more, finite, got -3 at \[2\]"),
        (IDS, {"class_weights": ["a"] * 5}, tr.DTypeError, "class_weights: expected numbers"),
        (IDS, {"class_weights": np.zeros(5)}, tr.ShapeError, "every position is masked or has the weight 0"),
        (IDS, {"mask": np.zeros(3, bool)}, tr.ShapeError, "all 12 positions are masked"),
        (-PROBABILITIES, {}, ValueError, r"probabilities of 0 or more, finite, got -0\.\d+ at \[0, 0, 0\]"),
        (PROBABILITIES[..., :4], {}, tr.DTypeError, r"probabilities of shape \(3, 4, 5\)"),
        (PROBABILITIES, {"mask": np.zeros(3, bool)}, tr.ShapeError, "all 3 positions are masked"),
    ],
)
def test_targets_that_do_not_fit(targets, settings, error, message):
    with pytest.raises(error, match=message):
        tr.cross_entropy(LOGITS, targets, **settings)


@COMPILED
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_loss_of_nothing_has_no_sign(reduction, setting):
    """It prints as 0.0: where masked, and where the right class is certain."""
    sure = np.where(np.arange(5) == np.arange(12).reshape(3, 4, 1) % 5, 0.0, -np.inf)
    ids = np.arange(12).reshape(3, 4) % 5
    calls = [lambda x: tr.cross_entropy(x, np.where(IDS < 0, -1, ids), mask=MASK, reduction=reduction)]
    calls += [lambda x: tr.cross_entropy(x, np.eye(5)[ids], mask=MASK, reduction=reduction)]
    zeros = np.zeros((3, 4, 5))
    calls += [
        lambda x, loss=loss: loss(x - x, zeros, mask=MASK, reduction=reduction)
        for loss, definition in ELEMENTWISE.values()
        if definition(0.0, 0.0) == 0
    ]
    for call in calls:
        f = call if setting is None else tr.compile(call, **setting)
        found = np.asarray(f(sure if call in calls[:2] else zeros))
        assert not found.any()
        assert not np.signbit(found).any()


def test_all_positions_masked_is_a_sum_of_0():
    assert float(tr.cross_entropy(LOGITS, np.full((3, 4), -1), reduction="sum")) == 0
    assert not tr.cross_entropy(LOGITS, IDS, mask=np.zeros(3, bool), reduction="none").any()
