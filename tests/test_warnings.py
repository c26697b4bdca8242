"""Every warning points at the line of the user's code that led to it, however deep in the package it is raised."""

import warnings

import numpy as np
import pytest

import tinygrad_rnn as tr


def learned_first_state():
    model, ids = tr.RNNLM(5, 2, 3, np.random.default_rng(0)), np.array([[1, 2, 3]])
    params = {"h0": tr.parameter(np.ones((1, 3)), np.float32), **model.parameters()}
    tr.bptt(lambda batch, state: model.loss(*batch, state), params, (ids, ids), (params["h0"] * 2,), "chunked:1")


def recorded_anew():
    compiled = tr.compile(lambda x, rate: x * rate, max_plans=1)
    for rate in (0.1, 0.2):
        compiled(np.ones(2), rate)


CASES = {
    "a number that is read": lambda: float(np.sum(tr.parameter(np.ones(2)))),
    "too large a mean": lambda: tr.Standardize(1).fit(1e9 + np.arange(4.0)[:, None]),
    "nothing to divide by": lambda: np.var(tr.tensor([1.0]), ddof=1),
    "an old name": lambda: tr.optim.Halving,
    "a text of other words": lambda: tr.Corpus.from_text(
        "a b", "word", vocabulary=tr.Vocabulary(["<unk>", "x"], unknown="<unk>")
    ),
    "a learned first state": learned_first_state,
    "a function that is recorded anew": recorded_anew,
}


@pytest.mark.parametrize("name", CASES)
def test_it_points_here(name):
    with warnings.catch_warnings(record=True) as seen, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        CASES[name]()
    assert [warning.filename for warning in seen] == [__file__]
