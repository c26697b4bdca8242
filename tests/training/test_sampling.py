"""Sampler: draws what NumPy's `choice` draws, for all rows at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.errors import ConfigError
from tinygrad_rnn.training.inference.sampling import Sampler


def words(V):
    return Vocabulary([str(n) for n in range(V)])


def by_hand(logits, temperature, top_k, rng, banned):
    """Return the ids as one draws them with `choice`, row by row."""
    ids = []
    for row in logits.astype(np.float64):
        if banned is not None:
            row[banned] = -np.inf
        if 0 < top_k < len(row):
            row[np.argsort(-row, kind="stable")[top_k:]] = -np.inf
        if temperature == 0:
            ids.append(np.argmax(row))
            continue
        weights = np.exp((row - row.max()) / temperature)
        ids.append(rng.choice(len(row), p=weights / weights.sum()))
    return ids


@given(
    seed=st.integers(0, 2**32 - 1),
    V=st.sampled_from([2, 3, 64, 511, 512, 513, 600, 1024, 2600]),
    N=st.sampled_from([1, 2, 5, 6, 9]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 50.0]),
    top_k=st.sampled_from([0, 1, 2, 40, 10_000]),
    banned=st.sampled_from([None, 0, 1]),
    levels=st.sampled_from([0, 1, 3, 1000]),
    spread=st.sampled_from([0.1, 1.0, 40.0]),
)
def test_is_choice(seed, V, N, temperature, top_k, banned, levels, spread):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((N, V)) * spread
    if levels < 1000:
        logits = np.round(logits * levels) / max(levels, 1)  # many equal ones
    logits = logits.astype(np.float32)
    sampler = Sampler(words(V), temperature, top_k, [np.random.default_rng(seed)], banned)
    other = np.random.default_rng(seed)
    for _ in range(3):
        assert sampler(logits).tolist() == by_hand(logits, temperature, top_k, other, banned)


class Said:
    """A generator that says these numbers."""

    def __init__(self, *numbers):
        self.numbers = np.array(numbers)

    def random(self, N=None):
        return self.numbers if N else self.numbers.item()


@pytest.mark.parametrize("V", [5, 600, 2600])
def test_at_the_very_end_of_a_share_it_is_choice_too(V):
    weights = np.random.default_rng(0).random(V)
    weights[V // 3 : V // 2] = 0
    logits = np.log(weights, where=weights > 0, out=np.full(V, -np.inf))
    e = np.exp(logits - logits.max())
    ends = (e / e.sum()).cumsum()
    ends /= ends[-1]
    near = np.concatenate([ends, np.nextafter(ends, 0), np.nextafter(ends, 1), [0.0]])
    near = near[near < 1]
    sampler = Sampler(words(V), 1.0, 0, [Said(*near)], None)
    wanted = ends.searchsorted(near, side="right")
    assert np.array_equal(sampler(np.broadcast_to(logits, (len(near), V))), wanted)
    said = Said(0.0)
    alone = Sampler(words(V), 1.0, 0, [said], None)
    for u, one in zip(near, wanted, strict=True):
        said.numbers = u
        assert alone(logits[None])[0] == one


def test_one_generator_for_each_row():
    logits = np.random.default_rng(0).standard_normal((3, 50))
    together = Sampler(words(50), 1.0, 0, [np.random.default_rng(n) for n in range(3)], None)
    apart = [Sampler(words(50), 1.0, 0, [np.random.default_rng(n)], None) for n in range(3)]
    for _ in range(4):
        assert together(logits).tolist() == [one(logits[n : n + 1])[0] for n, one in enumerate(apart)]


def test_another_number_of_rows():
    sampler = Sampler(words(700), 1.0, 1, [np.random.default_rng(0)], None)
    for N in (2, 1, 3):
        logits = np.random.default_rng(N).standard_normal((N, 700))
        assert sampler(logits).tolist() == logits.argmax(axis=1).tolist()


def test_refuses_logits_of_another_size():
    with pytest.raises(ConfigError, match="logits for 4 tokens, but the vocabulary has V=3"):
        Sampler(words(3), 1.0, 0, [np.random.default_rng(0)], None)(np.zeros((1, 4)))
