"""The past of a recurrence: another one goes on from it, with the bits of the one that was stopped."""

import numpy as np
import pytest

import tinygrad_rnn as tr

XS = np.random.default_rng(0).standard_normal((2, 14, 3))
POLICIES = [
    lambda: tr.Windowed(5),
    lambda: tr.Windowed(6, 2),
    lambda: tr.Full(),
    lambda: tr.Chunked(4),
    lambda: tr.Checkpointed(2),
    lambda: tr.Checkpointed(states=3),
    lambda: tr.Adaptive(0.1, 6, every=2),
    lambda: tr.Randomized(mean_length=3, every=5),
    lambda: tr.RTRL(every=4),
    lambda: tr.EProp("random"),
    lambda: tr.UORO(),
]


class Run:
    """A recurrence, its cell and its generator, which draws what is dropped."""

    def __init__(self, policy, saved=None, **options):
        self.cell, self.rng = tr.GRUCell(3, 4, np.random.default_rng(1), np.float64), np.random.default_rng(2)
        drop, state = tr.Dropout(0.4), self.cell.initial_state(2)
        if saved is not None:
            self.cell.load(saved["model"])
            self.rng.bit_generator.state = saved["rng"].bit_generator.state
            state, options = saved["state"], {"past": saved["past"]}

        def step(xs, h):
            hs, h = tr.unroll(self.cell, drop(xs, self.rng), h)
            return np.sum(hs * hs), h

        self.run = tr.Recurrence(step, self.cell.parameters(), policy, state, self.rng, **options)

    def feed(self, xs):
        """Return the gradients of the updates that come, each of which changes the parameters."""
        found = []
        for update in self.run.feed(xs):
            found.append(update.gradients)
            for name, p in self.cell.parameters().items():
                p.data = p.data - 0.01 * update.gradients[name]
        return found

    def rest(self, xs):
        """Return all that follows, to the end of the sequence."""
        found, last = self.feed(xs), self.run.finish()
        return [*found, *([] if last is None else [last.gradients])], self.run.state


@pytest.mark.sample(9)
@pytest.mark.parametrize("stop", [3, 8])
@pytest.mark.parametrize("make", POLICIES, ids=lambda make: repr(make()))
def test_another_recurrence_goes_on_with_the_same_bits(tmp_path, make, stop):
    """Through a file, and also where losses wait for a pass."""
    one, files = Run(make(), resumable=True), tr.Checkpoints(tmp_path)
    one.feed(XS[:, :stop])
    with files.taken():
        content = {"past": one.run.past, "state": one.run.state, "model": one.cell.state_dict(), "rng": one.rng}
        files.save(1, content)
    other = Run(make(), files.latest())
    (expected, state), (found, last) = one.rest(XS[:, stop:]), other.rest(XS[:, stop:])
    assert len(expected) == len(found) > 0
    for wanted, gradients in zip(expected, found, strict=True):
        for name, gradient in wanted.items():
            np.testing.assert_array_equal(gradients[name], gradient)
    np.testing.assert_array_equal(last, state)


def test_a_past_must_be_asked_for_beforehand():
    run = Run(tr.Windowed(3)).run
    with pytest.raises(tr.ConfigError, match="Recurrence.past: make the recurrence with resumable=True"):
        _ = run.past
    with pytest.raises(tr.ConfigError, match="resumable"):
        Run(tr.Windowed(3), resumable="yes")
