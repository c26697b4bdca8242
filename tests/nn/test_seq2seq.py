"""Attention and encoder-decoder models, against NumPy and against themselves one step at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.testing import check_grads

KINDS = [
    {"attention": None},
    {"attention": "dot"},
    {"attention": "additive"},
    {"attention": None, "peek": True},
    {"attention": "dot", "peek": True, "reverse": True, "cell": "gru"},
]


def made(kind, seed=0, dtype=np.float64):
    return tr.Seq2Seq(6, 7, 3, 4, np.random.default_rng(seed), dtype=dtype, **kind)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(0, 99))
def test_attention_is_its_equation(N, T, Q, seed):
    rng = np.random.default_rng(seed)
    query, keys, mask = rng.standard_normal((N, Q, 3)), rng.standard_normal((N, T, 3)), rng.random((N, T)) < 0.7
    additive = tr.AdditiveAttention(3, 3, 5, rng, np.float64)
    Wq, Wk, v = (p.data for p in additive.parameters().values())
    hidden = np.tanh((query @ Wq)[:, :, None] + (keys @ Wk)[:, None])
    query, keys = tr.tensor(query), tr.tensor(keys)
    for attend, scores in (
        (tr.DotAttention(0.5), 0.5 * np.einsum("nqd,ntd->nqt", query.data, keys.data)),
        (additive, hidden @ v),
    ):
        context, weights = attend(query, keys)
        np.testing.assert_allclose(weights.data, softmax(scores), rtol=1e-10)
        np.testing.assert_allclose(context.data, softmax(scores) @ keys.data, rtol=1e-10, atol=1e-12)
        _, masked = attend(query, keys, mask)
        exps = np.where(mask[:, None], np.exp(scores), 0)
        sums = exps.sum(-1, keepdims=True)
        np.testing.assert_allclose(masked.data, np.where(sums > 0, exps / np.where(sums > 0, sums, 1), 0), rtol=1e-10)
        one, row = attend(query[:, 0], keys, mask)
        assert one.shape == (N, 3)
        np.testing.assert_allclose(row.data, masked.data[:, 0], rtol=1e-10)


@pytest.mark.parametrize("attend", [tr.DotAttention(), tr.AdditiveAttention(2, 2, 3, np.random.default_rng(0), float)])
def test_gradients_of_attention(attend):
    rng = np.random.default_rng(0)
    mask = np.array([[True, True, False], [False, False, False]])

    def loss(query, keys):
        context, weights = attend(query, keys, mask)
        return (context * context).sum() + (weights * np.arange(3.0)).sum()

    assert check_grads(loss, rng.standard_normal((2, 2)), rng.standard_normal((2, 3, 2))).ok


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((np.ones((2, 3)), np.ones((2, 3))), tr.ShapeError, r"expected keys of shape \(N, T, D\), got \(2, 3\)"),
        ((np.ones((2, 4)), np.ones((2, 5, 3))), tr.ShapeError, r"expected a query of shape \(N, D\) = \(2, 3\)"),
        ((np.ones((2, 3)), np.ones((2, 5, 3)), np.ones((2, 5))), tr.DTypeError, "a mask of truth values, got dtype"),
        ((np.ones((2, 3)), np.ones((2, 5, 3)), np.ones((2, 4), bool)), tr.ShapeError, r"\(N, T\) = \(2, 5\), got"),
    ],
)
def test_errors_of_attention(arguments, error, text):
    with pytest.raises(error, match=f"DotAttention: .*{text}"):
        tr.DotAttention()(*arguments)


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients(kind):
    model = made(kind)
    sources, targets, lengths = [[1, 2, 3], [4, 5, 0]], [[1, 4, 5, 2], [1, 6, 2, -1]], np.array([3, 2])
    assert model.loss(sources, targets, lengths=lengths).dtype == np.float64
    leaves = {name: parameter.data for name, parameter in model.parameters().items()}

    def loss(*arrays):
        model.load(dict(zip(leaves, arrays, strict=True)))
        return model.loss(sources, targets, lengths=lengths)

    gradients = tr.grad(loss(*leaves.values()), model.parameters())
    rng = np.random.default_rng(0)
    for name, array in leaves.items():  # along one direction for each parameter; complex step does not fit `load`
        way, h = rng.standard_normal(array.shape), 1e-6
        ends = [loss(*{**leaves, name: array + sign * h * way}.values()).item() for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(np.sum(gradients[name] * way), rel=1e-5, abs=1e-8), name


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_padding_changes_nothing(kind):
    model = made(kind)
    alone = model([[4, 5]], [[1, 6]]).data
    padded = model([[1, 2, 3], [4, 5, 0]], [[1, 3], [1, 6]], lengths=np.array([3, 2])).data
    np.testing.assert_allclose(padded[1:], alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_step_at_a_time_is_teacher_forcing(kind):
    model = made(kind)
    sources, inputs = [[1, 2, 3], [4, 5, 0]], np.array([[1, 4, 5], [1, 6, 2]])
    encoded = model.encode(sources, np.array([3, 2]))
    state = encoded.state
    whole = model(sources, inputs, lengths=np.array([3, 2])).data
    for t in range(3):
        logits, state = model.step(inputs[:, t], state, encoded)
        np.testing.assert_allclose(logits.data, whole[:, t], rtol=1e-10, atol=1e-12)


def test_reverse_reads_from_the_end():
    forward, backward = made({"cell": "rnn"}), made({"cell": "rnn", "reverse": True})
    states = [
        model.encode(ids, np.array([3, 2])).state.data
        for model, ids in ((forward, [[3, 2, 1], [5, 4, 0]]), (backward, [[1, 2, 3], [4, 5, 0]]))
    ]
    np.testing.assert_allclose(states[0], states[1], rtol=1e-12)


def test_dropout_needs_a_generator():
    model = made({"attention": "dot", "dropout": 0.5})
    losses = [model.loss([[1, 2]], [[1, 3, 2]], rng=rng).item() for rng in (None, None, np.random.default_rng(0))]
    assert losses[0] == losses[1] != losses[2]


def test_errors():
    with pytest.raises(tr.ConfigError, match='Seq2Seq: attention must be "dot", "additive" or None'):
        made({"attention": "luong"})
    with pytest.raises(tr.ConfigError, match="Seq2Seq: cell must be one of"):
        made({"cell": "transformer"})
    model = made({})
    with pytest.raises(tr.ShapeError, match=r"Seq2Seq: expected sources of shape \(N, T\)"):
        model([1, 2], [[1]])
    with pytest.raises(tr.ShapeError, match=r"Seq2Seq: expected targets of shape \(N, T\) with T >= 2"):
        model.loss([[1, 2]], [[1]])


# -- decoding ---------------------------------------------------------------------------------------------------------


def log_probability(model, source, target):
    """Of a target without start, stop included."""
    logits = model([source], [[1, *target[:-1]]]).data[0]
    return np.log(softmax(logits))[np.arange(len(target)), target].sum()


@pytest.mark.sample(4)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("compiled", [True, False])
def test_greedy_takes_the_likeliest(kind, compiled):
    model, sources, lengths = made(kind, seed=3), np.array([[1, 2, 3], [4, 5, 0]]), np.array([3, 2])
    found = tr.decode(model, sources, start=1, stop=2, length=6, lengths=lengths, compiled=compiled)
    for ids, source, length in zip(found, sources, lengths, strict=True):
        expected = []
        for _ in range(6):
            expected.append(int(model([source[:length]], [[1, *expected]]).data[0, -1].argmax()))
        stops = [*expected, 2].index(2)
        assert ids.tolist() == expected[:stops]


@pytest.mark.sample(3)
@pytest.mark.parametrize("penalty", [0.0, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_best_of_all(seed, penalty):
    model = made({"attention": "dot"}, seed)
    model.load({name: 3 * parameter.data for name, parameter in model.parameters().items()})
    tokens = [0, 1, 3, 4, 5, 6]  # 2 ends a target
    every = [(2,), *((a, 2) for a in tokens), *((a, b, 2) for a in tokens for b in tokens)]
    worth = [log_probability(model, [4, 5], target) / len(target) ** penalty for target in every]
    (found,) = tr.decode(model, [[4, 5]], start=1, stop=2, length=3, beam=60, penalty=penalty)
    assert found.tolist() == [*every[int(np.argmax(worth))][:-1]]


def test_sources_are_decoded_as_if_alone():
    model, sources = made({"attention": "additive"}, seed=1), np.array([[1, 2, 3], [4, 5, 1], [3, 3, 3]])
    together = tr.decode(model, sources, start=1, stop=2, length=5, beam=3)
    for ids, source in zip(together, sources, strict=True):
        (alone,) = tr.decode(model, [source], start=1, stop=2, length=5, beam=3)
        np.testing.assert_array_equal(ids, alone)


def test_sampling_follows_the_probabilities_and_forbidden_ids_never_come():
    model, rng = made({}, seed=2), np.random.default_rng(0)
    drawn = tr.decode(model, [[1, 2]] * 4000, start=1, stop=2, length=1, temperature=1.0, rng=rng, forbidden=[0, 3])
    p = softmax(model([[1, 2]], [[1]]).data[0, 0])
    p[[0, 3]] = 0
    counts = np.bincount([ids[0] if len(ids) else 2 for ids in drawn], minlength=7)
    np.testing.assert_allclose(counts / 4000, p / p.sum(), atol=0.03)
    assert counts[0] == counts[3] == 0


def test_errors_of_decode():
    model = made({})
    with pytest.raises(tr.ConfigError, match="decode: rng"):
        tr.decode(model, [[1]], start=1, stop=2, length=3, temperature=1.0)
    with pytest.raises(tr.ConfigError, match="decode: a beam search draws nothing"):
        tr.decode(model, [[1]], start=1, stop=2, length=3, temperature=1.0, beam=2, rng=np.random.default_rng(0))
    with pytest.raises(tr.ConfigError, match="decode: beam"):
        tr.decode(model, [[1]], start=1, stop=2, length=3, beam=0)


def test_sources_of_different_lengths_in_a_list():
    model = tr.Seq2Seq(9, 9, 4, 8, np.random.default_rng(0), attention="dot")
    sources = [np.array([3, 4, 5], np.uint16), [6], (7, 8)]
    found = tr.decode(model, sources, start=1, stop=2, length=4)
    for source, target in zip(sources, found, strict=True):
        (alone,) = tr.decode(model, [list(source)], start=1, stop=2, length=4)
        assert alone.tolist() == target.tolist()
    with pytest.raises(tr.ShapeError, match=r"for one sequence alone, add the axis N"):
        tr.decode(model, [3, 4, 5], start=1, stop=2, length=4)
