"""Faults planted in derivatives written by hand: the checker finds each within 100 drawn examples, and nothing else."""

import functools
import statistics

import numpy as np
import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as hst
from testing import mutants

import tinygrad_rnn as tr
import tinygrad_rnn.testing.strategies as st
from tinygrad_rnn.testing import GradCheckError, check_grads

N, T, D, H = (hst.shared(hst.integers(1, most), key=key) for key, most in zip("NTDH", (3, 5, 3, 3), strict=True))
# Which steps get credit does not depend on the model: a small one makes it quick.
MODEL = {"model": st.models(cell="rnn", max_layers=1), "batch": st.sequences()}


def leaf(*sizes):
    return st.tensors(hst.tuples(*sizes))


def times(number, size):
    return size.map(lambda length: number * length)


def check_lstm(fault, **tensors):
    check_grads(mutants.lstm(fault), *tensors.values())


def check_rnn(fault, **tensors):
    check_grads(mutants.rnn(fault), *tensors.values())


def check_gru(fault, **tensors):
    check_grads(mutants.gru(fault), *tensors.values())


def check_take(fault, W, ids, negative):
    ids = ids.inputs - 5 if negative else ids.inputs
    check_grads(lambda W: mutants.take(fault)(W, ids=ids), W)


def check_cut(fault, h, scale):
    check_grads(lambda h: h * mutants.cut(fault)(np.tanh(h), scale=scale), h)


def check_late_cut(fault, model, batch, h):
    policy = mutants.CutLate(h) if fault else tr.Chunked(h)
    check_grads(model, batch, truncation=policy)


def check_wide_window(fault, model, batch, h):
    policy = mutants.WindowOffByOne(h) if fault else tr.Windowed(h)
    check_grads(model, batch, truncation=policy)


def check_loss(fault, logits, batch, masked):
    targets = batch.targets.copy()
    if masked:
        targets.flat[1:] = -1
    check_grads(lambda x: mutants.cross_entropy(fault)(x, targets=targets), logits)


TENSORS = {
    "xs": leaf(N, T, D),
    "x": leaf(N, D),
    "h": leaf(N, H),
    "c": leaf(N, H),
    **{f"Wx{number}": leaf(D, times(number, H)) for number in (1, 3, 4)},
    **{f"Wh{number}": leaf(H, times(number, H)) for number in (1, 3, 4)},
    **{f"b{number}": leaf(times(number, H)) for number in (1, 3, 4)},
}


def some(names):
    return {name: TENSORS[name] for name in names.split(", ")}


# name: (function, strategies of its arguments, faults)
FAMILIES = {
    "lstm": (check_lstm, some("xs, h, c, Wx4, Wh4, b4"), mutants.LSTM_FAULTS),
    "rnn": (check_rnn, some("x, h, Wx1, Wh1, b1"), mutants.RNN_FAULTS),
    "gru": (check_gru, some("x, h, Wx3, Wh3, b3, b1"), mutants.GRU_FAULTS),
    "take": (
        check_take,
        {"W": leaf(hst.just(5), D), "ids": st.sequences(5), "negative": hst.booleans()},
        mutants.TAKE_FAULTS,
    ),
    "cut": (check_cut, {"h": st.tensors(), "scale": hst.sampled_from([0.0, 1.0, 0.5])}, mutants.CUT_FAULTS),
    "chunks": (check_late_cut, {**MODEL, "h": hst.integers(1, 3)}, mutants.CHUNK_FAULTS),
    "windows": (check_wide_window, {**MODEL, "h": hst.integers(1, 3)}, mutants.WINDOW_FAULTS),
    "cross_entropy": (
        check_loss,
        {"logits": leaf(N, T, hst.just(5)), "batch": st.sequences(5, batch=N, steps=T), "masked": hst.booleans()},
        mutants.LOSS_FAULTS,
    ),
}
FAULTS = [(family, fault) for family, (_, _, faults) in FAMILIES.items() for fault in faults]


@functools.cache
def examples_to_kill(family, fault, seed_of_draws=0):
    """Return how many examples Hypothesis draws until the checker reports the fault; None: not in 100."""
    check, strategies, _ = FAMILIES[family]
    drawn, killed_at = 0, None

    @seed(seed_of_draws)
    @settings(max_examples=100, deadline=None, database=None, phases=[Phase.generate], report_multiple_bugs=False)
    @given(**strategies)
    def run(**arguments):
        nonlocal drawn, killed_at
        drawn += 1
        try:
            check(fault, **arguments)
        except GradCheckError:
            killed_at = killed_at or drawn
            raise

    try:
        run()
    except GradCheckError:
        return killed_at
    return None


@pytest.mark.sample(10)
@pytest.mark.parametrize(("family", "fault"), FAULTS)
def test_every_fault_is_found_within_100_examples(family, fault):
    assert examples_to_kill(family, fault) is not None


@pytest.mark.nightly
def test_half_of_the_faults_are_found_within_three_examples():
    counts = [examples_to_kill(family, fault) for family, fault in FAULTS]
    assert statistics.median(counts) <= 3


@pytest.mark.sample(3)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_has_no_fault_passes(family):
    check, strategies, _ = FAMILIES[family]

    @settings(max_examples=10)
    @given(**strategies)
    def run(**arguments):
        check("", **arguments)

    run()
