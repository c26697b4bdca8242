"""Checkpoints of the Trainer: a run that was stopped goes on to the same bits."""

import signal

import numpy as np
import pytest
from training.runs import Reader, endless, line, linear, reader, results, sequences, squared

import tinygrad_rnn as tr
from tinygrad_rnn.optim import SGD, Adam, Plateau
from tinygrad_rnn.training.runs.settings import settings_of


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_update_and_the_run_goes_on_to_the_same_bits(tmp_path, number):
    whole = reader()
    expected = results(whole, whole.fit())

    class Interrupts(tr.Callback):
        def on_update(self, trainer, result):
            if result.step == 8:
                signal.raise_signal(number)

    handler = signal.getsignal(number)
    history = reader(tmp_path, callbacks=[Interrupts()]).fit()
    assert (history.interrupted, history.signal, history.records[-1].step) == (True, number, 9)
    assert signal.getsignal(number) is handler
    resumed = reader(tmp_path, callbacks=[tr.Callback()]).resume()
    assert resumed.run.updates == 9
    assert results(resumed, resumed.fit()) == expected


class Crash(Exception):
    pass


def crashed(at, folder, every=2, **settings):
    """A run that ends without any notice after an update."""

    class Crashes(tr.Callback):
        def on_update(self, trainer, result):
            if result.step == at:
                raise Crash

    with pytest.raises(Crash):
        reader(tr.Checkpoints(folder, every=every), callbacks=[Crashes()], **settings).fit()


@pytest.mark.sample(1)
@pytest.mark.parametrize("settings", [{}, {"compile": False}, {"accumulate": 2, "epochs": 6}, {"epoch_updates": 4}])
def test_a_run_that_crashed_goes_on_to_the_same_bits(tmp_path, settings):
    """In the first epoch, between two, and in a later one; at a checkpoint, and after it."""
    whole = reader(**settings)
    expected = results(whole, whole.fit())
    for at in (2, 7, 11):
        folder = tmp_path / str(at)
        crashed(at, folder, **settings)
        resumed = reader(folder, callbacks=[tr.Callback()], **settings).resume()
        assert 0 < resumed.run.updates <= at
        assert results(resumed, resumed.fit()) == expected


def test_an_endless_stream_goes_on_where_it_was(tmp_path):
    def trainer(callbacks=()):
        checkpoints = tr.Checkpoints(tmp_path, every=3)
        return tr.Trainer(
            linear(), squared, endless(), epoch_updates=5, updates=14, checkpoints=checkpoints, callbacks=callbacks,
            progress=False,
        )  # fmt: skip

    class Crashes(tr.Callback):
        def on_update(self, trainer, result):
            if result.step == 8:
                raise Crash

    with pytest.raises(Crash):
        trainer([Crashes()]).fit()
    resumed = trainer([tr.Callback()]).resume()
    history = resumed.fit()
    whole = tr.Trainer(linear(), squared, endless(), epoch_updates=5, updates=14, progress=False)
    assert results(resumed, history) == results(whole, whole.fit())


def begun():
    return dict(sequences().batches(4, np.random.default_rng(6)).state_dict())


# What a checkpoint holds, and the change that shows that it matters: without it other bits come out.
PARTS = {
    "the moments": lambda snapshot: snapshot["states"].__setitem__(0, Adam(0.02).state_dict()),
    "the schedule": lambda snapshot: snapshot["states"].__setitem__(1, Plateau(0.2).state_dict()),
    "the parameters": lambda snapshot: snapshot["model"].update(Reader(1).state_dict()),
    "the place in the data": lambda snapshot: snapshot["run"]["totals"].__setitem__("batches", 0),
    "the shuffling": lambda snapshot: snapshot["run"].__setitem__("data", begun()),
    "the generator": lambda snapshot: snapshot["run"].__setitem__("rng", np.random.default_rng(9)),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The results of a whole run, and the folder of one that crashed in its second epoch."""
    folder, whole = tmp_path_factory.mktemp("stopped"), reader(epochs=2)
    expected = results(whole, whole.fit())
    crashed(8, folder, epochs=2)
    return expected, folder


@pytest.mark.sample(4)
@pytest.mark.parametrize("part", PARTS)
def test_nothing_that_a_checkpoint_holds_is_there_in_vain(tmp_path, part, stopped):
    expected, folder = stopped
    snapshot = tr.Checkpoints(folder).latest()
    PARTS[part](snapshot)
    resumed = reader(tmp_path, callbacks=[tr.Callback()], epochs=2)
    resumed._restore(snapshot)
    resumed._resumed = True
    assert results(resumed, resumed.fit()) != expected


def test_a_finished_run_may_go_on_for_longer(tmp_path):
    reader(tmp_path, epochs=2).fit()
    again = reader(tmp_path, epochs=2).resume().fit()
    assert len(again.records) == 2
    longer, whole = reader(tmp_path, epochs=3).resume(), reader()
    assert results(longer, longer.fit()) == results(whole, whole.fit())


def test_a_run_that_waited_long_enough_stays_ended(tmp_path):
    def trainer():
        return tr.Trainer(
            linear(), squared, line, line, optimizer=SGD(1e-9), epochs=9, patience=1, monitor="loss", maximize=True,
            checkpoints=tmp_path, progress=False,
        )  # fmt: skip

    first = trainer().fit()
    assert first.stopped_early
    assert len(trainer().resume().fit().records) == len(first.records)


def test_a_run_that_a_callback_ended_stays_ended_and_says_so(tmp_path):
    expected = results(whole := reader(), whole.fit())
    ended = reader(tmp_path, callbacks=[lambda record: record.epoch == 1]).fit()
    resumed = reader(tmp_path)
    with pytest.warns(UserWarning, match=r"a callback ended this run in epoch 1.* trainer\.run\.stop = False"):
        resumed.resume()
    assert resumed.fit().records == ended.records
    resumed.run.stop = False
    assert results(resumed, resumed.fit()) == expected


def of_pairs(model, batch):
    return tr.mse(model(batch[0]), batch[1])


def run_of(folder, rows=12, optimizer=Adam, **settings):
    data = [(np.full((2, 3), float(n)), np.ones((2, 1))) for n in range(rows)]
    settings = {"optimizer": optimizer(0.01), "epochs": 2, "progress": False} | settings
    return tr.Trainer(linear(), of_pairs, data, checkpoints=folder, **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rows": 6}, "batches of an epoch 12, now 6"),
        ({"optimizer": lambda _: Adam(0.5)}, r"optimizer Adam\(lr=0.01, .*, now Adam\(lr=0.5, "),
        ({"optimizer": tr.optim.AdamW}, r"optimizer Adam\(.*, now AdamW\("),
        ({"clip": 1.0}, r"clip inf, now 1.0"),
        ({"accumulate": 2}, "accumulate 1, now 2"),
        ({"seed": 1}, "seed 0, now 1"),
        ({"monitor": "accuracy", "maximize": True}, "monitor 'loss', now 'accuracy'; maximize False, now True"),
    ],
    ids=lambda part: str(part)[:30] if isinstance(part, dict) else "",
)
def test_a_run_that_goes_on_with_other_settings_is_noticed(tmp_path, settings, words):
    run_of(tmp_path).fit()
    with pytest.warns(UserWarning, match=rf"Trainer.resume: the run was made with other settings: {words}"):
        run_of(tmp_path, **settings).resume()
    run_of(tmp_path, epochs=3, patience=1, callbacks=[lambda record: None]).resume()  # these may differ


def test_a_generator_in_a_policy_is_no_other_setting():
    found = [
        settings_of(
            tr.TrainStep(linear(), squared, tr.SGD(0.1), policy=tr.Randomized(c=0.3, rng=np.random.default_rng(0))),
            *([], None, 1, "loss", False, 0),
        )
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert "Randomized(" in found[0]["policy"]


class Remembers(tr.Callback):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        assert state == {}


def test_checkpoints_of_another_run_are_not_taken(tmp_path):
    reader(tmp_path).fit()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(tr.ConfigError, match="is a checkpoint of an earlier run: resume it"):
        reader(tmp_path).fit()
    with pytest.raises(tr.ModelFileError, match="the checkpoint is of another model"):
        reader(tmp_path, model=tr.Linear(2, 1, np.random.default_rng(0))).resume()
    with pytest.raises(tr.ModelFileError, match="another"):
        reader(tmp_path, callbacks=[Remembers()] * 3).resume()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before
    reader(tr.Checkpoints(tmp_path, force=True), epochs=1).fit()
    assert len(list(tmp_path.glob("*.npz"))) == 1
