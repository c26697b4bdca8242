"""Policies and the driver refuse what they cannot do, and a policy prints as the call that makes it."""

import numpy as np
import pytest

import tinygrad_rnn as tr


@pytest.mark.parametrize(
    "policy",
    [
        *(tr.Full(), tr.Chunked(3), tr.Windowed(4, every=2), tr.Decay(0.5, every=7), tr.Checkpointed(5)),
        *(tr.Checkpointed(every=8, states=3), tr.Checkpointed(5, memory="1.5 MiB")),
        *(tr.Adaptive(0.1, 9, 3), tr.Randomized(c=0.25, rng=3), tr.Randomized(mean_length=5.0, alpha=4.0)),
    ],
    ids=repr,
)
def test_repr_reads_back(policy):
    again = eval(repr(policy), {name: getattr(tr, name) for name in tr.__all__})
    assert repr(again) == repr(policy)
    assert (again.mask(9) == policy.mask(9)).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tr.Chunked(0), tr.ConfigError, "n must be an integer of 1 or more, got 0"),
        (lambda: tr.Chunked(True), tr.ConfigError, "got True"),
        (lambda: tr.Windowed(2, every=3), tr.ConfigError, "at most h"),
        (lambda: tr.Decay(np.nan), tr.ConfigError, "finite number"),
        (lambda: tr.Randomized(), tr.ConfigError, "either c or mean_length"),
        (lambda: tr.Randomized(c=1.0), tr.ConfigError, r"c must be a number in \[0, 1\)"),
        (lambda: tr.Randomized(mean_length=0.5), tr.ConfigError, "above 1"),
        (lambda: tr.Randomized(c=0.5).scale(1, 2), tr.ConfigError, r"policy.start\(\)"),
        (lambda: tr.Adaptive(0, 5), tr.ConfigError, "tolerance must be a finite number above 0"),
        (lambda: tr.Adaptive(0.1, 5, every=6), tr.ConfigError, "every must be an integer from 1 to 5, got 6"),
        (lambda: run(np.ones(3)), tr.ShapeError, r"\(N, T, ...\)"),
        (lambda: run((np.ones((2, 3)), np.ones((2, 4)))), tr.ShapeError, "agree on N and T"),
        (lambda: run(np.ones((2, 0))), tr.ShapeError, "T >= 1"),
        (lambda: run(np.ones((2, 3)), loss=np.ones(2)), tr.GradientError, r"one element or None; got shape \(2,\)"),
        (lambda: run(np.ones((2, 3)), policy=Misplaced()), tr.ConfigError, "is not 1 at edge 1"),
        (lambda: run(np.ones((2, 3)), requires_grad=False), tr.GradientError, "has no requires_grad"),
        (lambda: raw(lambda xs, h: h), tr.GradientError, r"must return \(loss, state\).*it returned one Tensor"),
        (lambda: raw(lambda xs, h: (None, h, h)), tr.GradientError, "it returned 3 values"),
        (lambda: raw(parameters={"w": np.ones(2)}), tr.GradientError, r"parameters\['w'\] must be a Tensor"),
        (lambda: raw(parameters=[tr.tensor(1.0)]), tr.GradientError, "parameters must be a mapping .*got list"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def raw(step=lambda xs, h: (None, h), parameters=None):
    """Both ways of calling a step give the same error, under the name of the function."""
    errors = []
    for call in (
        lambda: tr.bptt(step, parameters or {}, np.ones((1, 2)), np.ones(1), "full"),
        lambda: list(tr.credit_profile(step, parameters or {}, np.ones((1, 2)), np.ones(1))),
    ):
        with pytest.raises(tr.GradientError) as caught:
            call()
        errors.append(caught.value)
    assert str(errors[0]).removeprefix("Recurrence: ") == str(errors[1]).removeprefix("credit_profile: ")
    raise errors[0]


class Misplaced(tr.Policy):
    def scale(self, edge, end):
        return 0.5


def run(inputs, loss=None, policy=tr.Full(), requires_grad=True):  # noqa: B008 (immutable)
    w = tr.tensor(2.0, requires_grad=requires_grad)
    seen = tr.tensor(1.0, requires_grad=True)

    def step(xs, h):
        h = h * w * seen
        return (h.sum() if loss is None else h.sum() * loss), h

    return tr.bptt(step, {"w": w}, inputs, np.ones(1), policy)
