"""The command-line spelling of policies, there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.truncation.parse import POLICY_FORMS, parse_policy, policy_text

whole = st.integers(1, 10**6)
every = st.none() | st.integers(1, 100)
share = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("text", "every", "expected"),
    [
        ("full", None, tr.Full()),
        ("full", 35, tr.Full(every=35)),
        ("chunked:35", 7, tr.Chunked(35)),
        ("windowed:20", 7, tr.Windowed(20)),
        ("windowed:70/35", 7, tr.Windowed(70, every=35)),
        ("decay:0.95", 35, tr.Decay(0.95, every=35)),
        ("decay:1e-3", None, tr.Decay(0.001)),
        ("decay:-.5", None, tr.Decay(-0.5)),
        ("randomized:0.02", 35, tr.Randomized(c=0.02, rng=3, every=35)),
        ("randomized:mean=50", None, tr.Randomized(mean_length=50, rng=3)),
        ("randomized:mean=50,alpha=4", None, tr.Randomized(mean_length=50, alpha=4, rng=3)),
        ("adaptive", None, tr.Adaptive(0.1, max_window=200, every=1)),
        ("adaptive", 150, tr.Adaptive(0.1, max_window=300, every=150)),
        ("adaptive:0.2", 35, tr.Adaptive(0.2, max_window=200, every=35)),
        ("adaptive:0.2/90", 35, tr.Adaptive(0.2, max_window=90, every=35)),
        ("checkpointed:50", 35, tr.Checkpointed(50, every=35)),
        ("checkpointed:states=20", 35, tr.Checkpointed(every=35, states=20)),
        ("checkpointed:50,states=20", None, tr.Checkpointed(50, states=20)),
        ("checkpointed:memory=64 MB", None, tr.Checkpointed(memory=64_000_000)),
        ("checkpointed:5,memory=1.5KiB", 7, tr.Checkpointed(5, every=7, memory=1536)),
        ("  chunked:35 ", None, tr.Chunked(35)),
    ],
)
def test_forms(text, every, expected):
    assert repr(parse_policy(text, every, rng=3)) == repr(expected)


@pytest.mark.parametrize("text", POLICY_FORMS)
def test_the_examples_are_spelled_as_they_are_listed(text):
    default = {"adaptive": "adaptive:0.1/200", "adaptive:0.1": "adaptive:0.1/200"}
    assert policy_text(parse_policy(text, every=35)) == default.get(text, text)


@given(
    policy=st.one_of(
        st.builds(tr.Full, every),
        st.builds(tr.Chunked, whole),
        st.builds(lambda h, n: tr.Windowed(h * n, n), st.integers(1, 9), st.integers(1, 99)),
        st.builds(tr.Decay, share | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False), every),
        st.builds(lambda c, n: tr.Randomized(c=c, rng=3, every=n), share, every),
        st.builds(
            lambda mean, alpha, n: tr.Randomized(mean_length=mean, alpha=alpha, rng=3, every=n),
            st.floats(1.01, 1e9) | st.integers(2, 99),
            st.floats(2.01, 1e9) | st.integers(3, 9) | st.just(6.0),
            every,
        ),
        st.builds(lambda t, n, k: tr.Adaptive(t, n * k, n), st.floats(1e-9, 9), st.integers(1, 99), st.integers(1, 9)),
        st.builds(tr.Checkpointed, whole, every),
        st.builds(tr.Checkpointed, whole, every, states=whole),
        st.builds(tr.Checkpointed, whole, every, memory=st.integers(1, 10**14) | whole.map(lambda n: n * 2**20)),
    )
)
def test_what_is_written_is_read_back(policy):
    assert repr(parse_policy(policy_text(policy), policy.every, rng=3)) == repr(policy)


def test_a_generator_is_drawn_from():
    rng = np.random.default_rng(0)
    assert parse_policy("randomized:0.5", rng=rng).rng is rng


@pytest.mark.parametrize(
    "text",
    [
        *("", "ful", "Full", "full:", "full:3", "chunked", "chunked:", "chunked:-3", "chunked:2.5", "chunked:3/2"),
        *("windowed", "windowed:1/2/3", "windowed:/2", "decay", "decay:x", "decay:nan", "decay:1,2", "checkpointed"),
        *(
            "checkpointed:",
            "checkpointed:states",
            "checkpointed:2,3",
            "checkpointed:memory=64",
            "checkpointed:,states=2",
        ),
        *("randomized:", "randomized:alpha=3", "randomized:mean=5,beta=3", "adaptive:", "adaptive:/9", "chunked:1\n2"),
        "chunked:" + 5000 * "9",
    ],
)
def test_other_text_is_refused_with_the_forms(text):
    with pytest.raises(tr.ConfigError, match="is not a policy; the forms are") as caught:
        parse_policy(text, every=4)
    assert all(form in str(caught.value) for form in POLICY_FORMS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chunked:0", "'chunked:0': Chunked: n must be an integer of 1 or more"),
        ("windowed:5/9", r"every \(9\) must be at most h"),
        ("randomized:1", r"c must be a number in \[0, 1\)"),
        ("randomized:mean=0.5", "mean_length must be a finite number above 1"),
        ("adaptive:0", "tolerance must be a finite number above 0"),
        ("adaptive:0.1/3", "every must be an integer from 1 to 3, got 4"),
        ("decay:1" + 400 * "0", "finite"),
        ("checkpointed:states=0", "states must be an integer of 1 or more"),
        ("checkpointed:memory=0MB", "memory must be an integer of 1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused_by_the_policy(text, words):
    with pytest.raises(tr.ConfigError, match=words):
        parse_policy(text, every=4)


def test_a_policy_of_the_users_has_no_spelling():
    class Own(tr.Policy):
        def scale(self, edge, end):
            return 1.0

    with pytest.raises(tr.ConfigError, match="Own.*has no spelling"):
        policy_text(Own())
