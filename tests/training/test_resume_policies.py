"""Checkpoints in the middle of an epoch under policies that reach or carry over batches: the same bits, resumed."""

import signal

import numpy as np
import pytest
from training.runs import results

import tinygrad_rnn as tr

N, UPDATES = 3, 9


class Halved(tr.Policy):
    """A policy of the user's, whose windows overlap and are recorded again in each pass."""

    every, grain, reach, recompute = 2, 1, 5, True

    def scale(self, edge, end):
        return 0.5


class Text(tr.Module):
    """A language model that drops inputs of its cell."""

    def __init__(self, cell):
        rng = np.random.default_rng(0)
        self.embedding, self.cell = tr.Embedding(6, 3, rng), cell(3, 4, rng)
        self.drop, self.out = tr.Dropout(0.3), tr.Linear(4, 6, rng)

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)


def loss(model, batch, state, rng=None):
    ids, targets = batch
    hs, state = tr.unroll(model.cell, model.drop(model.embedding(ids), rng), state)
    logits = model.out(hs)
    return tr.cross_entropy(logits, targets), state, {"accuracy": tr.metrics.accuracy(logits, targets)}


def trainer(policy, folder=None, cell=tr.LSTMCell, every=4, callbacks=(), **settings):
    """Two epochs of nine updates and more, in batches that are not as long as the passes."""
    ids = np.random.default_rng(1).integers(0, 6, (N, 46))
    length = 5 * (policy.every or 1)
    batches = [(ids[:, at : at + length], ids[:, at + 1 : at + length + 1]) for at in range(0, 45, length)]
    batches = [(xs, ys[:, : xs.shape[1]]) for xs, ys in batches if ys.shape[1] == xs.shape[1]]
    model = Text(cell)
    return tr.Trainer(
        model, loss, batches, optimizer=tr.Adam(0.05), policy=policy, epochs=2, epoch_updates=UPDATES, clip=0.5,
        state=lambda: model.initial_state(N), progress=False, callbacks=callbacks, seed=3,
        checkpoints=None if folder is None else tr.Checkpoints(folder, every=every), **settings,
    )  # fmt: skip


class Crash(Exception):
    pass


class Crashes(tr.Callback):
    def __init__(self, at):
        self.at = at

    def on_update(self, trainer, result):
        if result.step == self.at:
            raise Crash


POLICIES = {
    "windowed": lambda: tr.Windowed(5),
    "windowed, every 2": lambda: tr.Windowed(6, 2),
    "halved": Halved,
    "adaptive": lambda: tr.Adaptive(0.05, max_window=6, every=2),
    "randomized": lambda: tr.Randomized(mean_length=3, rng=3, every=4),
    "checkpointed": lambda: tr.Checkpointed(memory="1 MB", every=4),
    "rtrl": tr.RTRL,
    "rtrl, every 3": lambda: tr.RTRL(every=3),
    "snap": lambda: tr.SnAp(1),
    "eprop": tr.EProp,
    "eprop, random": lambda: tr.EProp("random", rng=np.random.default_rng(4)),
    "rflo": tr.RFLO,
    "uoro": tr.UORO,
    "kf": tr.KroneckerFactored,
    "forward": tr.ForwardGradient,
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", POLICIES)
def test_a_run_that_crashed_in_an_epoch_goes_on_to_the_same_bits(tmp_path, name):
    """At checkpoints in both epochs, and in between; its folder has no checkpoint of the crash itself."""
    whole = trainer(POLICIES[name]())
    expected = results(whole, whole.fit())
    updates = len(expected[1]) and whole.run.step
    for at in (5, updates - 2):
        folder = tmp_path / str(at)
        with pytest.raises(Crash):
            trainer(POLICIES[name](), folder, callbacks=[Crashes(at)]).fit()
        resumed = trainer(POLICIES[name](), folder).resume()
        assert resumed.run.updates == (at + 1) // 4 * 4
        assert resumed.run.totals is not None  # in the middle of an epoch
        assert results(resumed, resumed.fit()) == expected


def segments(snapshot):
    return snapshot["past"]["parts"][0]["run"]["segments"]["segments"]


def older(snapshot):
    """Every step recorded with the newest parameters that a step was."""
    for segment in segments(snapshot):
        segment["version"] = segments(snapshot)[-1]["version"]


def drawn_alike(snapshot):
    for segment in segments(snapshot):
        segment["drawn"] = segments(snapshot)[0]["drawn"]


def zeroed(snapshot):
    for segment in segments(snapshot):
        segment["before"] = tuple(map(np.zeros_like, segment["before"]))


def other_inputs(snapshot):
    for segment in segments(snapshot):
        segment["inputs"] = tuple(part[:, ::-1] if part.shape[1] > 1 else 0 * part for part in segment["inputs"])


# The policy, and the change of what a checkpoint holds that shows that it matters: without it other bits come out.
PARTS = {
    "the past of windows": ("windowed", lambda snapshot: snapshot.update(past=None)),
    "the parameters of each step": ("windowed", older),
    "the draws of each step": ("windowed", drawn_alike),
    "the states before each step": ("windowed, every 2", zeroed),
    "the inputs of each step": ("windowed", other_inputs),
    "the past, recorded again": ("halved", lambda snapshot: snapshot.update(past=None)),
    "the losses that a pass has covered": (
        "windowed",
        lambda snapshot: snapshot["past"]["parts"][0]["run"].update(begin=0),
    ),
    "the window of an adaptive policy": (
        "adaptive",
        lambda snapshot: [one.update(window=2) for one in snapshot["past"]["parts"][0]["run"]["policies"]],
    ),
    "the cuts that were drawn": ("randomized", lambda snapshot: snapshot.update(past=None)),
    "the influence": ("rtrl", lambda snapshot: snapshot["past"]["parts"][0].update(carry=None)),
    "the influence that snap keeps": ("snap", lambda snapshot: snapshot["past"]["parts"][0].update(carry=None)),
    "the traces": ("eprop", lambda snapshot: snapshot["past"]["parts"][0].update(carry=None)),
    "the random matrices": (
        "eprop, random",
        lambda snapshot: snapshot["past"]["parts"][0]["carrier"]["feedback"]["drawn"].update(
            {"out.W": np.ones((4, 6), np.float32)}
        ),
    ),
    "the vectors of uoro": ("uoro", lambda snapshot: snapshot["past"]["parts"][0].update(carry=None)),
    "the factors of kf": ("kf", lambda snapshot: snapshot["past"]["parts"][0].update(carry=None)),
    "the direction": ("forward", lambda snapshot: snapshot["past"]["parts"][0].update(carry=None)),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("part", PARTS)
def test_nothing_that_a_checkpoint_holds_of_the_past_is_there_in_vain(tmp_path, part):
    name, change = PARTS[part]
    whole = trainer(POLICIES[name]())
    expected = results(whole, whole.fit())
    with pytest.raises(Crash):
        trainer(POLICIES[name](), tmp_path, callbacks=[Crashes(5)]).fit()
    snapshot = tr.Checkpoints(tmp_path).latest()
    change(snapshot)
    resumed = trainer(POLICIES[name](), tmp_path / "other")
    resumed._restore(snapshot)
    assert results(resumed, resumed.fit()) != expected


@pytest.mark.parametrize("name", ["windowed", "rtrl"])
def test_a_signal_loses_no_update(tmp_path, name):
    class Interrupts(tr.Callback):
        def on_update(self, trainer, result):
            if result.step == 6:
                signal.raise_signal(signal.SIGTERM)

    whole = trainer(POLICIES[name]())
    expected = results(whole, whole.fit())
    assert trainer(POLICIES[name](), tmp_path, every=0, callbacks=[Interrupts()]).fit().interrupted
    resumed = trainer(POLICIES[name](), tmp_path).resume()
    assert resumed.run.updates == 7
    assert results(resumed, resumed.fit()) == expected


def test_a_checkpoint_of_another_policy_is_refused(tmp_path):
    with pytest.raises(Crash):
        trainer(tr.Windowed(5), tmp_path, callbacks=[Crashes(5)]).fit()
    for policy in (tr.RTRL(), tr.Full(every=1), tr.Adaptive(0.1, 5)):
        with pytest.raises(tr.ModelFileError, match="trained under the policy Windowed, and the policy is"):
            trainer(policy, tmp_path).resume()
