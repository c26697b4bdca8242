"""NGrams: probabilities that sum to one, values by hand, and a second program for the same equations."""

from collections import Counter

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn.data import NGrams, load_corpus, unigram_nats
from tinygrad_rnn.errors import ConfigError, CorpusError, DTypeError

V = 5
TEXTS = st.lists(st.integers(0, V - 1), min_size=1, max_size=30)


def by_definition(text, order):
    """Return p(w, context), written as the equations are, with dictionaries."""
    grams = [Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for n in range(1, order + 1)]
    counts = [Counter(gram[1:] for gram in grams[n + 1]) for n in range(order - 1)] + [grams[-1]]

    def p(w, context, n=order):
        if n == 0:
            return 1 / V
        lower = p(w, context, n - 1)
        h = tuple(context[len(context) - n + 1 :]) if n > 1 else ()
        after = {gram: count for gram, count in counts[n - 1].items() if gram[:-1] == h and len(context) >= n - 1}
        if not after:
            return lower
        once, twice = (sum(count == k for count in counts[n - 1].values()) for k in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        share = max(after.get((*h, w), 0) - discount, 0) + discount * len(after) * lower
        return share / sum(after.values())

    return p


@given(TEXTS, TEXTS, st.integers(1, 4))
@settings(max_examples=examples(60), deadline=None)
def test_probabilities_sum_to_one_and_are_those_of_the_equations(text, context, order):
    model, p = NGrams(np.array(text), V, order), by_definition(text, order)
    found = model.probabilities(context)
    assert found.sum() == pytest.approx(1, rel=1e-12)
    assert (found > 0).all() or order == 0
    np.testing.assert_allclose(found, [p(w, context) for w in range(V)], rtol=1e-9)


@given(TEXTS, st.lists(st.integers(0, V - 1), min_size=2, max_size=20), st.integers(1, 4))
@settings(max_examples=examples(40), deadline=None)
def test_nats_are_those_of_each_token_after_all_before_it(text, other, order):
    model = NGrams(np.array(text), V, order)
    expected = [-np.log(model.probabilities(other[:t])[other[t]]) for t in range(1, len(other))]
    np.testing.assert_allclose(model.nats(np.array(other)), expected, rtol=1e-9, atol=1e-12)


def test_a_bigram_model_by_hand():
    # 0 1 0 1 0 2: 01 twice, 10 twice, 02 once: d_2 = 1 / (1 + 2 * 2). One token before each of 0, 1, 2: d_1 = 1, and
    # p_1 = 1 / 4 everywhere. After 0: (2 - 0.2) / 3 and (1 - 0.2) / 3, and 0.2 * 2 / 3 * 1 / 4 for each token.
    model = NGrams(np.array([0, 1, 0, 1, 0, 2]), 4, order=2)
    rest = 0.2 * 2 / 3 / 4
    np.testing.assert_allclose(model.probabilities([0]), [rest, 1.8 / 3 + rest, 0.8 / 3 + rest, rest], rtol=1e-12)
    np.testing.assert_allclose(model.probabilities([2]), [0.25] * 4)  # nothing comes after 2
    np.testing.assert_allclose(model.probabilities([]), [0.25] * 4)


def test_a_longer_order_is_better_on_a_text_with_a_rule():
    train, held_out = load_corpus("a b c a b d " * 60, "word", 1)
    nats = [NGrams(train.ids, len(train.vocabulary), order).nats(held_out.ids).mean() for order in (1, 2, 3, 4)]
    assert nats[0] > nats[1] > nats[3]  # of four tokens three say which of c and d comes next
    assert nats[3] < 0.1 < 1 < unigram_nats(train, held_out)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([], 3), CorpusError, "NGrams: the text is empty"),
        (([3], 3), CorpusError, "NGrams"),
        (([0.5], 3), DTypeError, "NGrams"),
        (([0], 0), ConfigError, "NGrams: vocab_size"),
        (([0], 3, 0), ConfigError, "NGrams: order"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        NGrams(*arguments)
