"""CTC against the sum over all alignments, written out."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import complex_gradient
from replay import executors

import tinygrad_rnn as tr

COMPILED = pytest.mark.parametrize("setting", [None, *executors()], ids=lambda s: s["executor"] if s else "eager")


def labelling(alignment, blank):
    return [label for label, _ in itertools.groupby(alignment) if label != blank]


def by_enumeration(logits, labels, blank):
    """Return -log of the sum of the probabilities of all alignments of one sequence (T, V)."""
    logs = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    total = sum(
        np.exp(sum(logs[t, label] for t, label in enumerate(alignment)))
        for alignment in itertools.product(range(logits.shape[1]), repeat=len(logits))
        if labelling(alignment, blank) == labels
    )
    return -np.log(total)


@st.composite
def cases(draw):
    """Return logits (N, T, V), targets (N, L), the lengths of both, and the blank."""
    N, T, V = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(2, 3))
    blank, L = draw(st.integers(0, V - 1)), draw(st.integers(0, 3))
    lengths, counts, targets = [], [], []
    labels = st.sampled_from([label for label in range(V) if label != blank])
    for _ in range(N):
        steps = draw(st.integers(1, T))
        row = draw(st.lists(labels, max_size=L))
        while len(row) + sum(a == b for a, b in itertools.pairwise(row)) > steps:
            row = row[:-1]
        lengths.append(steps)
        counts.append(len(row))
        targets.append(row + [-7] * (L - len(row)))
    seed = draw(st.integers(0, 2**32 - 1))
    logits = 2 * np.random.default_rng(seed).standard_normal((N, T, V))
    return logits, np.array(targets, int).reshape(N, L), np.array(lengths), np.array(counts), blank


@COMPILED
@given(case=cases())
def test_it_is_the_sum_over_all_alignments(setting, case):
    logits, targets, lengths, counts, blank = case
    expected = [
        by_enumeration(x[:steps], list(row[:count]), blank)
        for x, row, steps, count in zip(logits, targets, lengths, counts, strict=True)
    ]

    def both(x):
        each = tr.ctc(x, targets, lengths, counts, blank=blank, reduction="none")
        return each, tr.grad(np.mean(each), x)

    after = np.arange(logits.shape[1]) >= lengths[:, None]
    leaf = tr.tensor(np.where(after[..., None], np.nan, logits), requires_grad=True)
    each, d = both(leaf) if setting is None else tr.compile(both, **setting)(leaf)
    np.testing.assert_allclose(each.data if setting is None else each, expected, rtol=1e-11, atol=1e-12)
    slope = complex_gradient(lambda x: tr.ctc(x, targets, lengths, counts, blank=blank), [logits], 0)
    np.testing.assert_allclose(d, np.where(after[..., None], 0, slope), rtol=1e-9, atol=1e-12)
    assert not d[after].any()


def test_pytorch_finds_the_same():
    torch = pytest.importorskip("torch", reason="PyTorch is for development only")
    rng = np.random.default_rng(0)
    logits, targets = 3 * rng.standard_normal((4, 60, 12)), rng.integers(1, 12, (4, 20))
    lengths, counts = np.array([60, 55, 50, 60]), np.array([20, 7, 0, 15])
    x = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.ctc_loss(
        torch.log_softmax(x, -1).transpose(0, 1),
        *(torch.tensor(part) for part in (targets, lengths, counts)),
        reduction="sum",
    )
    theirs.backward()
    ours = tr.tensor(logits, requires_grad=True)
    loss = tr.ctc(ours, targets, lengths, counts, reduction="sum")
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-12)
    np.testing.assert_allclose(tr.grad(loss, ours), x.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_it_can_be_learned_in_float32():
    """A frame-wise table of logits comes to spell its labelling."""
    x, optimizer = tr.tensor(np.zeros((1, 8, 4)), np.float32, True), tr.Adam(0.3)
    for _ in range(60):
        optimizer.update({"x": x}, {"x": tr.grad(tr.ctc(x, [[2, 2, 1]]), x)})
    assert labelling(np.argmax(x.data[0], axis=-1).tolist(), 0) == [2, 2, 1]
    assert tr.ctc(x, [[2, 2, 1]]).item() < 0.1


def test_second_derivatives():
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    assert tr.testing.check_grads(lambda x: tr.ctc(x, [[1, 2], [1, 1]]), x, order=2).ok


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        ((np.zeros((2, 3)), [[1]]), {}, tr.ShapeError, r"logits of shape \(N, T, V\)"),
        ((np.zeros((1, 3, 2), int), [[1]]), {}, tr.DTypeError, "floating point logits"),
        ((np.zeros((1, 3, 2)), [[1], [1]]), {}, tr.ShapeError, r"targets of shape \(N, L\) = \(1, L\)"),
        ((np.zeros((1, 3, 2)), [[0.5]]), {}, tr.DTypeError, "integer targets"),
        ((np.zeros((1, 3, 2)), [[2]]), {}, IndexError, "label 2 is outside"),
        ((np.zeros((1, 3, 2)), [[0]]), {}, IndexError, "label 0 is outside .* or the blank"),
        ((np.zeros((1, 3, 2)), [[1, 1, 1]]), {}, tr.ShapeError, "sequence 0 has 3 steps, and its 3 labels need 5"),
        ((np.zeros((1, 3, 2)), [[1]], [4]), {}, tr.ShapeError, r"lengths of shape .* each in 1 \.\. 3, got \[4\]"),
        ((np.zeros((1, 3, 2)), [[1]], [3], [2]), {}, tr.ShapeError, r"target_lengths .* each in 0 \.\. 1"),
        ((np.zeros((1, 3, 2)), [[1]], [2.5]), {}, tr.DTypeError, "integer lengths"),
        ((np.zeros((1, 3, 2)), [[1]]), {"blank": 2}, tr.ConfigError, "blank must be an integer from 0 to 1"),
        ((np.zeros((1, 3, 2)), [[1]]), {"reduction": "all"}, tr.ConfigError, "reduction must be one of"),
    ],
)
def test_what_does_not_fit(arguments, settings, error, message):
    with pytest.raises(error, match=message):
        tr.ctc(*arguments, **settings)
