"""Schedules: their curves, and that a saved one goes on as it would have."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.engine.saved import Stateful
from tinygrad_rnn.errors import ConfigError
from tinygrad_rnn.optim import Constant, Cosine, Exponential, OneCycle, Plateau, StepDecay, Warmup

SCHEDULES = {
    "constant": lambda: Constant(0.3),
    "cosine": lambda: Cosine(1.0, total_steps=30, floor=0.2),
    "step": lambda: StepDecay(1.0, every=7, factor=0.5),
    "milestones": lambda: StepDecay(1.0, every=[3, 8], factor=0.1),
    "exponential": lambda: Exponential(1.0, 0.9, hold=4),
    "one cycle": lambda: OneCycle(1.0, total_steps=40),
    "plateau": lambda: Plateau(1.0, 0.25, patience=1, threshold=0.01, floor=1e-3),
    "warm plateau": lambda: Warmup(Plateau(1.0, 0.25), steps=5),
    "warm cosine": lambda: Warmup(Cosine(1.0, 30), steps=5),
}


@pytest.mark.parametrize("name", SCHEDULES)
@given(losses=st.lists(st.floats(-5, 5) | st.just(math.nan), max_size=12), cut=st.integers(0, 12))
def test_a_saved_schedule_goes_on_as_it_would_have(name, losses, cut):
    straight, first, second = (SCHEDULES[name]() for _ in range(3))
    assert isinstance(straight, Stateful)
    for loss in losses[:cut]:
        straight.observe(loss)
        first.observe(loss)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    for step, loss in enumerate(losses[cut:], start=cut):
        straight.observe(loss)
        second.observe(loss)
        assert second.lr(step) == straight.lr(step) > 0
    assert second.state_dict() == straight.state_dict()


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_state_of_something_else_is_refused_and_changes_nothing(name):
    schedule = SCHEDULES[name]()
    before = schedule.state_dict()
    for state in ({"nonsense": 1}, [], None, {**before, "more": 1}):
        with pytest.raises(ConfigError, match=rf"{type(schedule).__name__}.load_state_dict: expected a state"):
            schedule.load_state_dict(state)
    assert schedule.state_dict() == before


@pytest.mark.parametrize("state", [{"lr": -1.0}, {"lr": "1"}, {"best": math.nan}, {"best": "x"}, {"waited": 0.5}])
def test_values_of_a_plateau_are_checked_before_any_is_taken(state):
    schedule = Plateau(1.0)
    before = schedule.state_dict()
    with pytest.raises(ConfigError, match=rf"Plateau.load_state_dict: {next(iter(state))} must be"):
        schedule.load_state_dict({**before, "lr": 0.5, "waited": 3, **state})
    assert schedule.state_dict() == before


def test_a_schedule_of_ones_own_needs_no_state():
    class Mine:
        def lr(self, step):
            return 1.0

        def observe(self, validation_loss):
            pass

    warm = Warmup(Mine(), steps=2)
    assert warm.state_dict() == {"inner": {}}
    warm.load_state_dict({"inner": {}})
    with pytest.raises(ConfigError, match="Warmup.load_state_dict: inner: expected a state with"):
        warm.load_state_dict({"inner": {"lr": 1.0}})
    with pytest.raises(ConfigError, match="expected the state of the inner schedule, got 3"):
        warm.load_state_dict({"inner": 3})


def test_a_plateau_waits_and_counts_small_gains_as_none():
    schedule, rates = Plateau(1.0, 0.1, patience=1, threshold=0.1, floor=0.05), []
    for loss in (10.0, 9.5, 9.2, 8.0, 7.9, 7.9, 7.9, 7.9):  # 9.5 and 9.2 are within a tenth of 10
        schedule.observe(loss)
        rates.append(schedule.lr(0))
    assert rates == [1.0, 1.0, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05]


def test_a_loss_that_is_not_a_number_is_no_improvement():
    schedule = Plateau(1.0, 0.5)
    schedule.observe(math.nan)
    assert schedule.lr(0) == 0.5
    assert schedule.best == math.inf


@pytest.mark.parametrize(
    "make",
    [
        lambda: Plateau(0.1, factor=1.0),
        lambda: Plateau(0.1, patience=-1),
        lambda: Plateau(0.1, threshold=-0.1),
        lambda: Plateau(0.1, floor=0.2),
        lambda: StepDecay(0.1, every=0),
        lambda: StepDecay(0.1, every=[3, 3]),
        lambda: StepDecay(0.1, every=[5, 3]),
        lambda: StepDecay(0.1, every="35"),
        lambda: StepDecay(0.1, every=3, factor=0.0),
        lambda: Exponential(0.1, 0.0),
        lambda: Exponential(0.1, 0.5, hold=-1),
        lambda: OneCycle(0.1, 1),
        lambda: OneCycle(0.1, 10, rise=1.0),
        lambda: OneCycle(0.1, 10, divide=0.5),
        lambda: OneCycle(0.1, 10, final_divide=0.5),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(ConfigError):
        make()


@given(total=st.integers(2, 50), rise=st.floats(0.01, 0.99))
def test_one_cycle_goes_up_and_down_within_its_ends(total, rise):
    schedule = OneCycle(1.0, total, rise, divide=10, final_divide=100)
    rates = [schedule.lr(step) for step in range(total + 3)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert math.isclose(rates[-1], 1e-3)
    assert max(rates) <= 1.0


def test_the_old_name_of_plateau_warns():
    with pytest.warns(DeprecationWarning, match=r"optim\.Halving is optim\.Plateau now"):
        assert tr.optim.Halving is tr.optim.Plateau
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = tr.optim.Nonsense
