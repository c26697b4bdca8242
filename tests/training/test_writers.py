"""Metrics for other programs: a CSV file, and event files of TensorBoard, read back."""

import csv
import importlib.util
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.cli import main

TEXT = "to be or not to be that is the question\n" * 30
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--bptt", "5", "--epochs", "2", "--no-progress", "--save", "run"]


def loss(model, batch):
    error = model(batch) - 1
    return np.mean(error * error), None, {"size": np.mean(np.abs(error))}


def trainer(callbacks, epochs=3, **settings):
    rng = np.random.default_rng(0)
    train, valid = [np.ones((4, 2)) * n for n in range(1, 5)], [np.ones((4, 2))]
    model = tr.Linear(2, 1, rng, dtype=np.float64)
    return tr.Trainer(model, loss, train, valid, epochs=epochs, callbacks=callbacks, progress=False, **settings)


def rows(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_csv_file_has_all_epochs_with_all_digits(tmp_path):
    records = trainer([tr.CSVMetrics(tmp_path / "metrics.csv")]).fit().records
    found = rows(tmp_path / "metrics.csv")
    assert list(found[0]) == [
        *("epoch", "step", "train/loss", "train/size", "valid/loss", "valid/size", "lr", "gradient_norm", "weight"),
        *("train_seconds", "seconds", "interrupted"),
    ]
    for row, record in zip(found, records, strict=True):
        assert float(row["train/loss"]) == record.train["loss"]
        assert float(row["valid/size"]) == record.valid["size"]
        assert (int(row["epoch"]), int(row["step"])) == (record.epoch, record.step)


def test_a_resumed_run_goes_on_in_the_same_file_and_may_have_other_writers(tmp_path):
    trainer([tr.CSVMetrics(tmp_path / "a.csv")], 2, checkpoints=tmp_path / "run").fit()
    later = trainer([tr.CSVMetrics(tmp_path / n) for n in ("a.csv", "b.csv")], 4, checkpoints=tmp_path / "run")
    records = later.resume().fit().records
    for name in ("a.csv", "b.csv"):
        assert [int(row["epoch"]) for row in rows(tmp_path / name)] == [1, 2, 3, 4]
        assert [float(row["train/loss"]) for row in rows(tmp_path / name)] == [one.train["loss"] for one in records]


def test_a_run_that_begins_keeps_the_file_of_an_earlier_one(tmp_path):
    path = tmp_path / "a.csv"
    trainer([tr.CSVMetrics(path)]).fit()
    first = path.read_text()
    with pytest.raises(tr.ConfigError, match=r"a.csv' exists already; .* force=True"):
        trainer([tr.CSVMetrics(path)]).fit()
    assert path.read_text() == first
    trainer([tr.CSVMetrics(path, force=True)], 1).fit()
    assert len(rows(path)) == 1


def test_a_callback_with_a_state_must_be_there_again(tmp_path):
    class Counts(tr.Callback):
        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    trainer([Counts()], 1, checkpoints=tmp_path).fit()
    with pytest.raises(tr.ModelFileError, match="the run had 1 callbacks with a state, and this Trainer has 0"):
        trainer([tr.Callback()], 2, checkpoints=tmp_path).resume()


def unwritable(path):
    path.mkdir()
    path.chmod(0o500)
    return path / "m"


PLACES = {
    "there is no folder": lambda path: path / "no" / "such" / "m",
    "not a folder": lambda path: path / "file" / "m",
    "cannot be written to": lambda path: unwritable(path / "closed"),
    "must be a file, got the folder": lambda path: path,
}


@pytest.mark.parametrize("message", PLACES)
def test_what_cannot_be_written_is_said_before_the_first_epoch_ends(tmp_path, message):
    (tmp_path / "file").touch()
    place = PLACES[message](tmp_path)
    if message == "cannot be written to" and os.access(place.parent, os.W_OK):
        pytest.skip("root may write anywhere")
    seen = []
    writers = [lambda: tr.CSVMetrics(place)]
    if place.parent.exists() and place != tmp_path and importlib.util.find_spec("tensorboardX"):
        writers.append(lambda: tr.TensorBoard(place, every=0))  # it makes the folder, if it can
    for make in writers:
        before = sorted(tmp_path.rglob("*"))
        run = trainer([lambda record: seen.append(record), make()])
        with pytest.raises(tr.ConfigError, match=message):
            run.fit()
        assert run.run.updates == 1
        assert (seen, sorted(tmp_path.rglob("*"))) == ([], before)


def test_a_device_is_written_to_and_a_folder_is_made(tmp_path):
    made = [tr.CSVMetrics("/dev/null")]
    if importlib.util.find_spec("tensorboardX"):
        made.append(tr.TensorBoard(tmp_path / "a" / "b", every=0))
    assert len(trainer(made).fit().records) == 3
    assert len(list(tmp_path.rglob("*.*"))) == len(made) - 1


def test_without_tensorboardx_an_error_names_the_extra(tmp_path, monkeypatch, capsys):
    for name in ("tensorboardX", "tensorboardX.event_file_writer"):  # another test may have imported it
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(tr.ConfigError, match=r'pip install "tinygrad_rnn\[tensorboard\]"'):
        tr.TensorBoard(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    assert main(["train", "text.txt", *SMALL, "--tensorboard"]) == 2
    assert "tinygrad_rnn[tensorboard]" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def events(folder):
    """Return (tag, step, value) of the points in a folder's event files, as the format has them."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX is not installed")
    found = []
    for path in sorted(Path(folder).iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):  # length, checksum of the length, event, checksum of the event
            (length,) = struct.unpack_from("<Q", data, at)
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += length + 16
    return found


def test_event_files_have_epochs_and_updates(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    records = trainer([tr.TensorBoard(tmp_path / "events", every=3)]).fit().records
    found = events(tmp_path / "events")
    losses = [(step, value) for tag, step, value in found if tag == "train/loss"]
    assert losses == [(record.step, np.float32(record.train["loss"])) for record in records]
    assert [step for tag, step, _ in found if tag == "update/gradient_norm"] == [3, 6, 9, 12]
    assert {tag for tag, _, _ in found} == {
        *("train/loss", "train/size", "valid/loss", "valid/size", "lr", "gradient_norm", "weight", "train_seconds"),
        *("seconds", "update/loss", "update/lr", "update/gradient_norm"),
    }


def test_flags(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    assert main(["train", "text.txt", *SMALL, "--csv"]) == 0
    assert "config.toml, metrics.jsonl, metrics.csv" in capsys.readouterr().out
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    found = rows("run/metrics.csv")
    assert list(found[0]) == list(lines[0])
    assert [float(row["valid_nats"]) for row in found] == [line["valid_nats"] for line in lines]
    assert main(["train", "--resume", "run", "--epochs", "3"]) == 0  # goes on with the files that it has
    assert len(rows("run/metrics.csv")) == 3
    Path("run/model.npz").unlink()
    Path("run/config.toml").unlink()
    Path("run/metrics.jsonl").unlink()
    assert main(["train", "text.txt", *SMALL, "--csv"]) == 2
    assert "metrics.csv exists already" in capsys.readouterr().err


def test_the_flag_tensorboard(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)
    assert main(["train", "text.txt", *SMALL, "--tensorboard"]) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    found = [(step, value) for tag, step, value in events("run/tensorboard") if tag == "valid_nats"]
    assert found == [(line["step"], np.float32(line["valid_nats"])) for line in lines]
    for path in Path("run").glob("*.*"):
        path.unlink()
    assert main(["train", "text.txt", *SMALL, "--tensorboard"]) == 2
    assert "holds event files of an earlier run" in capsys.readouterr().err
