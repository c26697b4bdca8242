"""generate: greedy, temperature, top-k, and what may not be drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.errors import ConfigError, CorpusError, NonFiniteError
from tinygrad_rnn.training import generate

WORDS = Vocabulary(["<unk>", "a", "b", "c", "d"])
MODEL = tr.RNNLM(5, 4, 4, np.random.default_rng(1), cell="lstm")


def biased_model(*logits):
    """A model that gives every position these logits."""
    model = tr.RNNLM(len(logits), 2, 2, np.random.default_rng(0))
    model.output.W.data = np.zeros((2, len(logits)))
    model.output.b.data = np.array(logits)
    return model


@given(prompt=st.lists(st.integers(0, 4), min_size=1, max_size=5), length=st.integers(0, 6))
def test_greedy_is_the_argmax_of_the_whole_text(prompt, length):
    text = list(prompt)
    for _ in range(length):
        logits, _ = MODEL(np.array([text]))
        text.append(int(np.argmax(logits.data[0, -1, 1:])) + 1)  # never <unk>
    assert list(generate(MODEL, WORDS, prompt, length, temperature=0)) == text[len(prompt) :]


def test_frequencies_are_the_softmax():
    logits = np.array([9.0, 0.0, 1.0, 2.0, -1.0])
    ids = list(generate(biased_model(*logits), WORDS, [1], 4000, temperature=0.5, rng=np.random.default_rng(0)))
    expected = np.exp(logits / 0.5)
    expected[0] = 0.0  # <unk> is the likeliest, and is not drawn
    expected /= expected.sum()
    np.testing.assert_allclose(np.bincount(ids, minlength=5) / 4000, expected, atol=0.02)


@pytest.mark.parametrize(("top_k", "allowed"), [(1, {3}), (2, {3, 2}), (3, {1, 2, 3}), (9, {1, 2, 3, 4})])
def test_top_k(top_k, allowed):
    model = biased_model(9.0, 0.0, 0.1, 0.2, -0.1)
    ids = generate(model, WORDS, [1], 300, top_k=top_k, rng=np.random.default_rng(0))
    assert set(ids) == allowed


def test_unknown_if_it_is_allowed():
    model = biased_model(9.0, 0.0, 0.0, 0.0, 0.0)
    assert set(generate(model, WORDS, [1], 20, temperature=0, allow_unknown=True)) == {0}


@pytest.mark.parametrize("temperature", [1e-310, 1e300])
def test_extreme_temperatures(temperature):
    ids = list(generate(biased_model(0, 0, 1, 2, 3), WORDS, [1], 50, temperature=temperature, rng=rng()))
    assert set(ids) == ({4} if temperature < 1 else {1, 2, 3, 4})


def rng():
    return np.random.default_rng(0)


def test_same_seed_same_text():
    first, second = (list(generate(MODEL, WORDS, [1, 2], 30, rng=rng())) for _ in range(2))
    assert first == second


def test_recording_is_on_between_two_tokens():
    ids = generate(MODEL, WORDS, [1], 2, temperature=0)
    next(ids)
    assert (MODEL.layers[0].b * 2).requires_grad
    ids.close()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"temperature": -0.1}, ConfigError, "temperature must be a finite number of 0 or more"),
        ({"temperature": float("nan")}, ConfigError, "temperature"),
        ({"temperature": float("inf")}, ConfigError, "temperature"),
        ({"top_k": -1}, ConfigError, "top_k"),
        ({"length": -1}, ConfigError, "length"),
        ({"length": 2.0}, ConfigError, "length"),
        ({"temperature": True}, ConfigError, "temperature"),
        ({"temperature": "0.8"}, ConfigError, "temperature"),
        ({"top_k": True}, ConfigError, "top_k"),
        ({"top_k": float("nan")}, ConfigError, "top_k"),
        ({"rng": None}, ConfigError, "rng is needed"),
        ({"rng": 0}, ConfigError, r"rng must be a numpy.random.Generator, got 0; pass np.random.default_rng\(0\)"),
        (
            {"vocabulary": Vocabulary(["<unk>", "a", "b"])},
            ConfigError,
            "logits for 5 tokens, but the vocabulary has V=3",
        ),
        ({"vocabulary": Vocabulary(list("abcdef"))}, ConfigError, "logits for 5 tokens, but the vocabulary has V=6"),
        ({"prompt": []}, CorpusError, "prompt is empty"),
        ({"prompt": [5]}, CorpusError, r"ids\[0\] is 5"),
    ],
)
def test_refuses_before_the_first_token(settings, error, message):
    arguments = {"vocabulary": WORDS, "prompt": [1], "length": 3, "rng": rng(), **settings}
    with pytest.raises(error, match=message):
        generate(MODEL, **arguments)


class Fixed:
    """A model that is no RNNLM and always gives these logits."""

    def __init__(self, *logits):
        self.logits = np.array(logits)

    def initial_state(self, batch_size):
        return None

    def __call__(self, ids, state):
        return tr.tensor(np.broadcast_to(self.logits, (*ids.shape, len(self.logits)))), state


@pytest.mark.parametrize("temperature", [0.0, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize("top_k", [0, 2])
@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ((0, 1, np.nan, 3, 4), "1 of 5 are NaN or .inf, the first that of 'b'"),
        ((np.nan,) * 5, "5 of 5 are NaN"),
        ((np.nan, 1, 2, 3, 4), "1 of 5 are NaN or .inf, the first that of '<unk>'"),
        ((0, 1, 2, np.inf, 4), "1 of 5 are NaN or .inf, the first that of 'c'"),
        ((0, np.inf, np.inf, 0, 0), "2 of 5"),
        ((-np.inf,) * 5, "all that may be drawn are -inf"),
        ((5, -np.inf, -np.inf, -np.inf, -np.inf), "all that may be drawn are -inf"),
    ],
)
def test_logits_that_are_no_distribution(temperature, top_k, logits, message):
    with pytest.raises(NonFiniteError, match=f"generate: the model's logits are no distribution: {message}"):
        next(generate(Fixed(*logits), WORDS, [1], 3, temperature=temperature, top_k=top_k, rng=rng()))


@pytest.mark.parametrize("temperature", [0.0, 1e-310, 1.0])
def test_a_token_that_cannot_come_does_not_come(temperature):
    model = Fixed(0, -np.inf, 1.0, -np.inf, -np.inf)
    assert set(generate(model, WORDS, [1], 20, temperature=temperature, rng=rng())) == {2}


@pytest.mark.parametrize("size", [3, 9])
def test_the_logits_of_any_model_are_counted(size):
    with pytest.raises(ConfigError, match=f"logits for {size} tokens, but the vocabulary has V=5"):
        next(generate(Fixed(*range(size)), WORDS, [1], 3, temperature=0))


def test_of_equal_tokens_the_lowest_ids_count_as_likelier():
    V = 200  # enough for every way that a CPU sorts
    words, model = Vocabulary([str(n) for n in range(V)]), Fixed(*[1.0] * V)
    assert list(generate(model, words, [7], 3, temperature=0)) == [0, 0, 0]
    assert set(generate(model, words, [7], 300, top_k=3, rng=rng())) == {0, 1, 2}


def test_a_vocabulary_of_the_unknown_token_only():
    with pytest.raises(CorpusError, match="the unknown token only"):
        generate(Fixed(1.0), Vocabulary(["<unk>"]), [0], 3, temperature=0)
