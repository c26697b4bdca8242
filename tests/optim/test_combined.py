"""Optimizers made of optimizers: groups, and averages of the weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.errors import ConfigError, ShapeError
from tinygrad_rnn.optim import SGD, Adam, Averaged, Grouped, Lion, Momentum

NAMES = ("embedding.W", "cell.Wx", "cell.b")


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {name: tr.tensor(rng.standard_normal((2, 3)), requires_grad=True) for name in NAMES}


def gradients(count, seed=1):
    rng = np.random.default_rng(seed)
    return [{name: rng.standard_normal((2, 3)) for name in NAMES} for _ in range(count)]


def arrays(params):
    return {name: p.data for name, p in params.items()}


COMBINED = {
    "groups": lambda: Grouped({"embedding.*": SGD(0.5), "*.b": Adam(0.1), "*": Momentum(0.1, weight_decay=0.1)}),
    "ema": lambda: Averaged(Adam(0.1, amsgrad=True), decay=0.8),
    "mean": lambda: Averaged(SGD(0.1), decay=None, start=2),
    "later": lambda: Averaged(Lion(0.1), decay=None, start=None),
    "average of groups": lambda: Averaged(Grouped({"cell.*": Adam(0.1), "*": Momentum(0.1)}), decay=0.8),
}


@given(rates=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5))
def test_each_group_is_as_if_it_were_alone(rates):
    together, alone = weights(), weights()
    grouped = COMBINED["groups"]()
    members = {"embedding.W": SGD(0.5), "cell.b": Adam(0.1), "cell.Wx": Momentum(0.1, weight_decay=0.1)}
    for lr, g in zip(rates, gradients(len(rates)), strict=True):
        grouped.update(together, g, lr=lr)  # meant for the last, whose own is 0.1
        for name, member in members.items():
            member.update({name: alone[name]}, {name: g[name]}, lr=lr * (member.lr / 0.1))
    for name in NAMES:
        np.testing.assert_array_equal(together[name].data, alone[name].data)
    assert grouped.steps == len(rates)


@given(decay=st.none() | st.floats(0, 0.999), start=st.integers(0, 4), count=st.integers(1, 8))
def test_an_average_is_the_weighted_sum_of_the_weights(decay, start, count):
    params, plain = weights(), weights()
    optimizer, other = Averaged(Momentum(0.3), decay, start), Momentum(0.3)
    seen = []
    for g in gradients(count):
        optimizer.update(params, g)
        other.update(plain, g)
        seen.append(arrays(params))
    for name in NAMES:
        np.testing.assert_array_equal(params[name].data, plain[name].data)  # training is left alone
        kept = np.stack([row[name] for row in seen[start:] or seen[-1:]])
        share = (1.0 if decay is None else decay) ** np.arange(len(kept))[::-1]
        expected = np.tensordot(share / share.sum(), kept, 1)
        np.testing.assert_allclose(optimizer.averages()[name], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", COMBINED)
def test_a_saved_one_goes_on_with_the_same_bits(name):
    straight, resumed = weights(), weights()
    whole, first, second = (COMBINED[name]() for _ in range(3))
    gs = gradients(8)
    for step, g in enumerate(gs):
        if name == "later" and step in (2, 3):
            whole.begin()
        whole.update(straight, g)
    for step, g in enumerate(gs[:4]):
        if name == "later" and step in (2, 3):
            first.begin()
        first.update(resumed, g)
    saved = first.state_dict()
    assert all(isinstance(value, np.ndarray) for value in saved.values())
    second.load_state_dict(saved)
    for g in gs[4:]:
        second.update(resumed, g)
    for key, array in whole.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[key], array)
    for name in NAMES:
        np.testing.assert_array_equal(resumed[name].data, straight[name].data)


def test_averages_are_lent_and_taken_back():
    params, optimizer = weights(), Averaged(SGD(0.1), decay=0.5)
    with optimizer.averaged(params):  # before the first update there are none
        pass
    optimizer.update(params, gradients(1)[0])
    optimizer.update(params, gradients(2)[1])
    before, averages = arrays(params), optimizer.averages()
    with optimizer.averaged(params):
        for name, array in averages.items():
            np.testing.assert_array_equal(params[name].data, array)
    with pytest.raises(KeyboardInterrupt), optimizer.averaged(params):
        raise KeyboardInterrupt
    for name, array in before.items():
        np.testing.assert_array_equal(params[name].data, array)


def test_the_average_of_a_half_precision_weight_is_kept_in_float32():
    p, optimizer = tr.tensor(np.ones(2), np.float16, True), Averaged(SGD(1e-3), decay=None)
    for _ in range(4):
        optimizer.update({"p": p}, {"p": np.ones(2, np.float16)})
    assert optimizer.averages()["p"].dtype == np.float32
    with optimizer.averaged({"p": p}):
        assert p.dtype == np.float16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grouped({}), "Grouped: groups is empty"),
        (lambda: Grouped([SGD(0.1)]), "Grouped: groups must be of type Mapping"),
        (lambda: Grouped({"*": SGD}), r"Grouped: groups\['\*'\] must be of type Optimizer"),
        (lambda: Grouped({"*": Averaged(SGD(0.1))}), r"average all groups: Averaged\(Grouped"),
        (lambda: Averaged(0.9), "Averaged: optimizer must be of type Optimizer"),
        (lambda: Averaged(SGD(0.1), decay=1.0), "Averaged: decay must be a number in"),
        (lambda: Averaged(SGD(0.1), start=-1), "Averaged: start must be an integer of 0 or more"),
        (lambda: Grouped({"*.b": SGD(0.1)}).start(weights()), r"embedding.W fits none of \['\*.b'\]"),
        (lambda: Grouped({"head.*": SGD(0.1), "*": SGD(0.1)}).start(weights()), "no parameter belongs to 'head"),
        (lambda: Averaged(SGD(0.1)).load_state_dict({"steps": 1}), "'since' is missing"),
        (lambda: Averaged(SGD(0.1)).load_state_dict({"steps": 1, "since": 0.5}), "since must be an integer"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_an_optimizer_in_use_is_no_member():
    used, params = SGD(0.1), weights()
    used.update(params, gradients(1)[0])
    with pytest.raises(ConfigError, match="has made 1 updates already; pass a new SGD"):
        Averaged(used)


def test_state_of_another_group_is_refused():
    grouped = Grouped({"cell.*": Adam(0.1), "*": SGD(0.1)})
    with pytest.raises(ShapeError, match="unknown name 'm.embedding.W'"):
        grouped.load_state_dict({"steps": 1, "m.embedding.W": np.ones(2)})
    with pytest.raises(ShapeError, match="missing slots of cell.W"):
        grouped.load_state_dict({"steps": 1, "m.cell.W": np.ones(2)})
