"""What the library asks a policy, and that every function that takes one takes its text too."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import relative_error

import tinygrad_rnn as tr
from tinygrad_rnn.data import OffsetBatches
from tinygrad_rnn.testing import check_grads
from tinygrad_rnn.training import train_epoch
from tinygrad_rnn.training.loop.objective import language_loss
from tinygrad_rnn.training.loop.step import is_compilable

RNG = np.random.default_rng(0)
XS = RNG.standard_normal((2, 6, 3))
TEXT = RNG.integers(0, 5, (2, 7))


class Strict(tr.Policy):
    """Weights that fall with the distance; it raises where it is asked for an edge that no loss can reach back over."""

    def __init__(self, h, every, grain):
        self.reach, self.every, self.grain = h, every, grain

    def scale(self, edge, end):
        update = end if self.every is None else math.ceil(end / self.every) * self.every
        assert 0 < edge < end
        assert update - edge < self.reach
        return 1 - (update - edge) / self.reach if edge % self.grain == 0 else 1.0


class Taper(tr.Policy):
    """As the page on truncation has it: beyond its reach it divides by 0."""

    every = grain = 1

    def __init__(self, h=3):
        self.h = self.reach = h

    def scale(self, edge, end):
        back = end - edge
        return max(0, self.h - back) / (self.h - back + 1)


@st.composite
def strict(draw):
    grain = draw(st.integers(1, 3))
    every = draw(st.none() | st.integers(1, 3).map(lambda n: n * grain))
    reach = draw(st.integers(1, 6)) if every is None else every + grain * draw(st.integers(0, 3))
    return Strict(reach, every, grain if every else 1)


def recurrence(T, seed):
    rng = np.random.default_rng(seed)
    cell = tr.RNNCell(3, 2, rng, np.float64)

    def step(inputs, state):
        outputs, state = tr.unroll(cell, inputs[0], state)
        return np.sum(outputs * inputs[1]), state

    return step, cell, (rng.standard_normal((2, T, 3)), rng.standard_normal((2, T, 2))), cell.initial_state(2)


@given(policy=strict(), T=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_a_policy_is_never_asked_beyond_its_reach(policy, T, seed):
    step, cell, inputs, state = recurrence(T, seed)
    M = policy.mask(T)
    assert np.isfinite(M).all()
    assert (np.diag(M) == 1).all()
    whole = tr.bptt(step, cell.parameters(), inputs, state, policy)
    parts = [tuple(x[:, t : t + 1] for x in inputs) for t in range(T)]
    updates = list(tr.stream(step, cell.parameters(), parts, state, policy))
    for name, expected in whole.gradients.items():
        assert relative_error(sum(update.gradients[name] for update in updates), expected) < 1e-12
    assert check_grads(cell, inputs[0], truncation=policy).ok
    is_compilable(policy)
    tr.draw(cell, inputs[0], truncation=policy)


@pytest.mark.sample(1)
@pytest.mark.parametrize("make", [Taper, lambda: Strict(4, 2, 2), lambda: Strict(3, None, 1)])
def test_nor_by_anything_else_that_takes_one(make):
    model = tr.RNNLM(5, 3, 3, np.random.default_rng(0), dtype=np.float64)
    ids, targets = TEXT[:, :-1], TEXT[:, 1:]
    M = make().mask(7)
    assert np.array_equal(make().expected_mask(7), M)
    assert check_grads(model, ids, targets, truncation=make()).ok
    assert tr.truncation_report(model, ids, targets, [make()], repeats=1).policies[0].passes
    assert tr.plot_gradient_flow(model, ids, targets, policies=[make()])
    assert tr.draw(model, ids, targets, truncation=make(), gradients=True).svg()
    for compiled in (False, True):
        windows = OffsetBatches(np.arange(50) % 5, batch_size=2, bptt=5)
        train_epoch(model, windows, tr.SGD(0.1), model.initial_state(2), policy=make(), compiled=compiled)


def test_the_taper_in_a_drawing_has_the_weights_of_its_mask():
    assert Taper(3).start().factors(6) == [1.0, 0.0, 0.0, 0.0, 1 / 2, 2 / 3]
    assert np.allclose(np.cumprod(Taper(3).factors(6)[:2:-1]), Taper(3).mask(6)[5, 2:5][::-1])


def test_the_mask_is_what_is_carried_out_where_the_last_pass_is_a_short_one():
    """A reach that the last, shorter pass counts from the multiple of `every` after it, in mask and driver alike."""

    class Halves(tr.Policy):
        every, grain, reach = 2, 1, 4

        def scale(self, edge, end):
            return 0.5

    w = [tr.tensor(2.0, requires_grad=True) for _ in range(5)]
    h, credits = np.zeros(1), np.zeros((5, 5))
    for t, use in enumerate(w):
        h = h * use + 1.0
        credits[t, : t + 1] = tr.grad(h.sum(), w[: t + 1])

    def step(xs, h):
        total = 0.0
        for t in range(xs.shape[1]):
            h = h * w[0] + xs[:, t]
            total = total + h.sum()
        return total, h

    found = tr.bptt(step, {"w": w[0]}, np.ones((1, 5)), np.zeros(1), Halves())
    assert found.gradients["w"] == np.sum(Halves().mask(5) * credits)
    assert Halves().mask(5)[4].tolist() == [0, 0, 0.25, 0.5, 1]


def test_a_reach_that_ends_inside_a_segment_is_an_error():
    class Odd(tr.Policy):
        every = grain = 2
        reach = 3

        def scale(self, edge, end):
            return 1.0

    step, cell, inputs, state = recurrence(6, 0)
    with pytest.raises(tr.ConfigError, match="set grain to a number of steps that divides every edge"):
        tr.bptt(step, cell.parameters(), inputs, state, Odd())


def test_what_a_cut_stops_is_absent_and_not_multiplied_by_0():
    """The credit from before the cut is infinite: 0 times it would be nan."""

    class Growing(tr.Policy):
        every = None
        grain = 1

        def scale(self, edge, end):
            return 0.0 if edge == 1 else 1e200

    assert Growing().mask(5)[4].tolist() == [0, math.inf, math.inf, 1e200, 1]
    w = tr.tensor(1e200, requires_grad=True)

    def step(xs, h):
        h = h * w
        return h.sum(), h

    for policy in (tr.Decay(0.0), tr.Windowed(1), tr.Chunked(1), Strict(1, 1, 1)):
        found = tr.bptt(step, {"w": w}, np.ones((1, 3)), np.full(1, 1e-300), policy)
        assert found.gradients["w"] == pytest.approx(1e100)  # the full one is infinite


@pytest.mark.parametrize("value", [2.5, True, 0, -3, math.nan, math.inf, "3", np.True_, [2], 2.0])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("n", lambda value: tr.Chunked(value)),
        ("h", lambda value: tr.Windowed(value)),
        ("every", lambda value: tr.Windowed(9, every=value)),
        ("every", lambda value: tr.Full(every=value)),
        ("every", lambda value: tr.Decay(0.5, every=value)),
        ("segment", lambda value: tr.Checkpointed(value)),
        ("every", lambda value: tr.Checkpointed(2, every=value)),
        ("states", lambda value: tr.Checkpointed(states=value)),
        ("every", lambda value: tr.Randomized(c=0.5, every=value)),
        ("max_window", lambda value: tr.Adaptive(0.1, value)),
        ("every", lambda value: tr.Adaptive(0.1, 9, every=value)),
        ("window", lambda value: tr.Adaptive(0.1, 9, window=value)),
        ("reach", lambda value: tr.bptt(*plain(), Strict(value, 1, 1))),
        ("every", lambda value: tr.bptt(*plain(), Strict(3, value, 1))),
        ("grain", lambda value: tr.bptt(*plain(), Strict(3, 1, value))),
    ],
)
def test_steps_are_integers(name, make, value):
    with pytest.raises(tr.ConfigError, match=rf"\b{name} must be an integer"):
        make(value)


@pytest.mark.parametrize("value", [True, math.nan, math.inf, "0.5", None, 0.5j, [0.5]])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("g", lambda value: tr.Decay(value)),
        ("c", lambda value: tr.Randomized(c=value)),
        ("mean_length", lambda value: tr.Randomized(mean_length=value)),
        ("alpha", lambda value: tr.Randomized(mean_length=3.0, alpha=value)),
        ("tolerance", lambda value: tr.Adaptive(value, 9)),
        ("scale(1, 2)", lambda value: scaling(value).mask(2)),
    ],
)
def test_factors_are_finite_numbers(name, make, value):
    if value is None and name in ("c", "mean_length"):
        pytest.skip("None: not given")
    with pytest.raises(tr.ConfigError, match=rf"{re.escape(name)} must be a"):
        make(value)


@pytest.mark.parametrize("T", [2.5, True, -1, math.nan, "3", None])
def test_masks_of_a_number_of_steps(T):
    for ask in (tr.Full().mask, tr.Full().passes, tr.Randomized(c=0.5).expected_mask):
        with pytest.raises(tr.ConfigError, match="T must be an integer of 0 or more"):
            ask(T)


def test_integers_and_numbers_of_numpy_will_do():
    for policy in (tr.Windowed(np.int64(4), every=np.int32(2)), tr.Decay(np.float32(0.5), every=np.uint8(3))):
        assert type(policy.every) is int
        assert "np." not in repr(policy)
        assert tr.parse_policy(tr.policy_text(policy), every=policy.every) == policy


def scaling(value):
    policy = Strict(9, None, 1)
    policy.scale = lambda edge, end: value
    return policy


def plain():
    step, cell, inputs, state = recurrence(4, 0)
    return step, cell.parameters(), inputs, state


def model_and_text():
    return tr.RNNLM(5, 3, 3, np.random.default_rng(0), dtype=np.float64), TEXT[:, :-1], TEXT[:, 1:]


def trained(policy, compiled=False):
    model = model_and_text()[0]
    windows = OffsetBatches(np.arange(50) % 5, batch_size=2, bptt=4)
    train_epoch(model, windows, tr.SGD(0.1), model.initial_state(2), policy=policy, compiled=compiled)
    return model.layers[0].Wh.data.tolist()


def updated(policy):
    model, ids, targets = model_and_text()
    step = tr.TrainStep(model, language_loss, tr.SGD(0.1), policy=policy)
    result = step((ids, targets), model.initial_state(2))
    return result.loss, result.gradient_norm


# Everything that takes a policy, and what it gives.
TAKERS = {
    "Recurrence": lambda p: [u.end for u in tr.Recurrence(*plain()[:2], p, plain()[3]).feed(plain()[2])],
    "bptt": lambda p: tr.bptt(*plain(), p).gradients["Wh"].tolist(),
    "stream": lambda p: [u.loss for u in tr.stream(*plain()[:2], [plain()[2]], plain()[3], p)],
    "recurrence_report": lambda p: tr.recurrence_report(*plain(), [p], repeats=1).policies[0].agreement,
    "truncation_report": lambda p: tr.truncation_report(*model_and_text(), [p], repeats=1).policies[0].agreement,
    "train_epoch": lambda p: trained(p),
    "train_epoch, compiled": lambda p: trained(p, compiled=True),
    "TrainStep": updated,
    "is_compilable": is_compilable,
    "check_grads": lambda p: check_grads(tr.RNNCell(3, 2, np.random.default_rng(0)), XS, truncation=p).ok,
    "draw": lambda p: tr.draw(*model_and_text(), truncation=p).svg(),
    "plot_gradient_flow": lambda p: tr.plot_gradient_flow(*model_and_text(), policies=[p]),
    "parse_policy": tr.parse_policy,
    "policy_text": tr.policy_text,
}


@pytest.mark.parametrize("taker", TAKERS)
def test_a_text_is_as_good_as_a_policy(taker):
    assert TAKERS[taker]("chunked:2") == TAKERS[taker](tr.Chunked(2))


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("chunky:2", "'chunky:2' is not a policy; the forms are"),
        ("chunked:0", "'chunked:0': Chunked: n must be an integer of 1 or more, got 0"),
        (3, 'must be a truncation policy, such as Chunked(35), or its text, such as "chunked:35"; got 3'),
        (tr.Full, "(the class; make one of it)"),
    ],
)
def test_what_is_no_policy_is_one_error_that_names_who_was_called(taker, wrong, message):
    with pytest.raises(tr.ConfigError) as caught:
        TAKERS[taker](wrong)
    assert message in str(caught.value)
    called = taker.partition(",")[0].replace("truncation_report", "recurrence_report")
    assert str(caught.value).startswith(f"{called}: ")
