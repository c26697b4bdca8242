"""generate: greedy, temperature, top-k, and what may not be drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.errors import ConfigError, CorpusError
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
        ({"temperature": -0.1}, ConfigError, "temperature must be a finite number of 0"),
        ({"temperature": float("nan")}, ConfigError, "temperature"),
        ({"temperature": float("inf")}, ConfigError, "temperature"),
        ({"top_k": -1}, ConfigError, "top_k"),
        ({"length": -1}, ConfigError, "length"),
        ({"length": 2.0}, ConfigError, "length"),
        ({"rng": None}, ConfigError, "rng is needed"),
        ({"prompt": []}, CorpusError, "prompt is empty"),
        ({"prompt": [5]}, CorpusError, r"ids\[0\] is 5"),
        ({"vocabulary": Vocabulary(["<unk>"]), "prompt": [0]}, CorpusError, "the unknown token only"),
    ],
)
def test_refuses_before_the_first_token(settings, error, message):
    arguments = {"vocabulary": WORDS, "prompt": [1], "length": 3, "rng": rng(), **settings}
    with pytest.raises(error, match=message):
        generate(MODEL, **arguments)
