"""The integer oracle: h_t = w h_{t-1} + x_t, l_t = e_t h_t. Exact in float64, so every row is compared with ==."""

import itertools

import numpy as np
import pytest

import tinygrad_rnn as tr

W, H0 = 2.0, 1.0
X = np.array([[1.0, -1.0, 2.0, 1.0, -2.0, 3.0]])
E = np.array([[1.0, 2.0, -1.0, 1.0, 3.0, 1.0]])
STATES = np.array([3.0, 5.0, 12.0, 25.0, 48.0, 99.0])
T = 6


def credits():
    """C[tau, t] = e_tau * w ** (tau - t) * h_{t-1}."""
    h = np.concatenate([[H0], STATES])
    return np.array([[E[0, tau] * W ** (tau - t) * h[t] if t <= tau else 0.0 for t in range(T)] for tau in range(T)])


def linear():
    w = tr.tensor(W, requires_grad=True)

    def step(inputs, h):
        xs, es = inputs
        total = 0.0
        for t in range(xs.shape[1]):
            h = h * w + xs[:, t]
            total = total + (h * es[:, t]).sum()
        return total, h

    return {"w": w}, step


def gradient(policy, inputs=(X, E)):
    parameters, step = linear()
    return tr.bptt(step, parameters, inputs, np.full(1, H0), policy)


def test_the_credits_are_those_of_the_table():
    assert credits()[5].tolist() == [32, 48, 40, 48, 50, 48]
    assert credits()[3, :4].tolist() == [8, 12, 10, 12]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (tr.Full(), 631),
        (tr.Chunked(1), 137),
        (tr.Chunked(2), 201),
        (tr.Chunked(3), 301),
        (tr.Full(every=3), 301),
        (tr.Windowed(1), 137),
        (tr.Windowed(2), 267),
        (tr.Windowed(3), 383),
        (tr.Windowed(4), 503),
        (tr.Windowed(6), 631),
        (tr.Windowed(2, every=2), 201),
        (tr.Windowed(3, every=2), 327),
        (tr.Windowed(4, every=2), 431),
        (tr.Windowed(3, every=3), 301),
        (tr.Windowed(6, every=3), 631),
        (tr.Decay(0.5), 253),
        (tr.Decay(0.0), 137),
        (tr.Decay(1.0), 631),
        (tr.Randomized(c=0.0, rng=0), 631),
        (tr.Checkpointed(3), 631),
        (tr.Checkpointed(4), 631),
        (tr.Checkpointed(1), 631),
        (tr.Checkpointed(states=1), 631),
        (tr.Checkpointed(states=2), 631),
        (tr.Checkpointed(2, states=2), 631),
        (tr.Checkpointed(states=2, every=3), 301),
        (tr.Checkpointed(memory="1 MB"), 631),
        (tr.Adaptive(0.1, max_window=6, every=2, window=4), None),
    ],
    ids=repr,
)
def test_rows(policy, expected):
    found = gradient(policy)
    if expected is not None:
        assert found.gradients["w"] == expected
        assert (policy.mask(T) * credits()).sum() == expected
    assert found.state.tolist() == [99]
    assert sum(found.losses) == (E * STATES).sum()


def test_full_gives_the_gradient_of_the_first_state():
    assert gradient(tr.Full()).state_gradient.tolist() == [178]
    assert gradient(tr.Checkpointed(2)).state_gradient.tolist() == [178]


@pytest.mark.parametrize(("losses", "expected"), [("new", 431), ("at the update", 238), ("all in the window", 459)])
def test_three_readings_of_k1_2_k2_4(losses, expected):
    """What "TBPTT(k1=2, k2=4)" means elsewhere, written as weights; ours is the first."""
    C, M = credits(), tr.Windowed(4, every=2).mask(T)
    if losses == "at the update":
        M[[0, 2, 4]] = 0
    elif losses == "all in the window":
        for end in (4, 6):  # losses that an earlier pass has covered count again, within the window
            for tau in range(end - 4, end - 2):
                M[tau, end - 4 : tau + 1] += 1
    assert (M * C).sum() == expected


def test_only_the_loss_at_the_update_is_a_matter_of_weights():
    weights = E * np.array([[0.0, 1, 0, 1, 0, 1]])
    assert gradient(tr.Windowed(4, every=2), (X, weights)).gradients["w"] == 238


def test_randomized_is_unbiased_over_all_patterns():
    """All 32 patterns of cuts at c = 1/4: mean 631 exactly, standard deviation 399.4."""
    C, values, weights = credits(), [], []
    for pattern in itertools.product([0.0, 4 / 3], repeat=T - 1):
        M = np.array([[np.prod(pattern[t:tau]) if t <= tau else 0.0 for t in range(T)] for tau in range(T)])
        values.append((M * C).sum())
        weights.append(np.prod([0.25 if s == 0 else 0.75 for s in pattern]))
    mean = np.dot(values, weights)
    assert mean == pytest.approx(631, abs=1e-10)
    assert np.sqrt(np.dot(weights, (np.array(values) - mean) ** 2)) == pytest.approx(399.4, abs=0.05)


class Fixed(tr.Policy):
    """A given scale for each edge."""

    grain = 1

    def __init__(self, scales):
        self.scales = scales

    def scale(self, edge, end):
        return self.scales[edge - 1]


@pytest.mark.parametrize("pattern", list(itertools.product([0.0, 2.0], repeat=T - 1)))
def test_every_pattern_of_cuts_is_carried_out(pattern):
    """Scales of 0 and 2 keep everything exact."""
    policy = Fixed(pattern)
    assert gradient(policy).gradients["w"] == (policy.mask(T) * credits()).sum()


@pytest.mark.parametrize("options", [{"c": 0.3}, {"mean_length": 4.0}, {"mean_length": 2.5, "alpha": 3.0}])
def test_the_mean_over_everything_a_random_policy_can_draw_is_full(options):
    """E[M] = 1, edge by edge, with probabilities that depend on the cuts before."""
    policy = tr.Randomized(**options)
    expected = np.zeros((T, T))
    for cuts in itertools.product([False, True], repeat=T - 1):
        probability, scales, since = 1.0, [], 0
        for is_cut in cuts:
            since += 1
            c = policy.probability(since)
            probability *= c if is_cut else 1 - c
            scales.append(0.0 if is_cut else 1 / (1 - c))
            since = 0 if is_cut else since
        expected += probability * Fixed(scales).mask(T)
    np.testing.assert_allclose(expected, np.tril(np.ones((T, T))), rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(policy.expected_mask(T), np.tril(np.ones((T, T))))


@pytest.mark.sample(1)
@pytest.mark.parametrize("options", [{"c": 0.3}, {"mean_length": 4.0}])
def test_draws_follow_the_stated_probabilities_and_the_seed(options):
    policy = tr.Randomized(**options, rng=np.random.default_rng(0))
    mean = np.mean([policy.mask(T) for _ in range(20_000)], axis=0)
    np.testing.assert_allclose(mean[np.tril_indices(T)], 1, atol=0.06)
    same = [tr.Randomized(**options, rng=5) for _ in range(2)]
    assert [(m.mask(T) == n.mask(T)).all() for m, n in [same] * 3] == [True] * 3
    assert gradient(tr.Randomized(**options, rng=7)).gradients["w"] == pytest.approx(
        (tr.Randomized(**options, rng=7).mask(T) * credits()).sum(), rel=1e-13
    )
