"""The command sweep: trials are runs like those of train, by several processes, and a killed sweep goes on."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import refused

from tinygrad_rnn.cli import main
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.training import load_model

pytest.importorskip("optuna", reason="needs the extra tinygrad_rnn[sweep]")

TEXT = "to be or not to be that is the question\n" * 30
SMALL = ["--batch-size", "4", "--bptt", "5", "--epochs", "2", "--cell", "rnn"]
SEARCH = ["--search", "lr=log:1e-3:1e-1", "hidden_size=int:3:9"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a text in it."""
    monkeypatch.chdir(tmp_path)
    Path("play.txt").write_text(TEXT)
    return tmp_path


def table(capsys, *arguments):
    capsys.readouterr()
    assert main(["sweep", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def losses(number, folder="sw"):
    lines = Path(folder, f"trial-{number:04d}", "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["valid_nats"] for line in lines]


def test_a_sweep_and_more_of_it(folder, capsys):
    """The best trial's configuration trains the same model again; a later call goes on."""
    Path("space.toml").write_text('lr = "log:1e-3:1e-1"\nhidden_size = "int:3:4"\n')
    space = ["--space", "space.toml", "--search", "hidden_size=int:3:9"]  # the flag has the last word
    Path("sw/.begun").mkdir(parents=True)  # what is left of a sweep that was killed before it had begun
    Path("sw/.begun/study.db").write_bytes(b"half")
    assert main(["sweep", "play.txt", *SMALL, *space, "--trials", "2", "--out", "sw", "--sampler", "random"]) == 0
    out = capsys.readouterr().out
    assert "hidden_size int:3:9" in out
    assert "best        trial" in out
    trials = table(capsys, "--out", "sw", "--trials", "3", "--pruner", "median")
    assert sorted(trial["number"] for trial in trials) == [0, 1, 2]
    assert len({(trial["settings"]["lr"], trial["settings"]["hidden_size"]) for trial in trials}) == 3
    complete = [trial for trial in trials if trial["state"] == "complete"]
    assert [trial["nats"] for trial in complete] == sorted(trial["nats"] for trial in complete)
    for trial in trials:
        config = load_model(f"sw/trial-{trial['number']:04d}").config
        assert {name: getattr(config, name) for name in trial["settings"]} == trial["settings"]
        assert trial["nats"] == pytest.approx(min(losses(trial["number"])))
        assert trial["epochs"] == len(losses(trial["number"])) <= 2
    best = trials[0]["number"]
    assert main(["train", "--config", f"sw/trial-{best:04d}/config.toml", "--save", "again", "--no-progress"]) == 0
    assert [json.loads(line)["valid_nats"] for line in Path("again/metrics.jsonl").read_text().splitlines()] == losses(
        best
    )

    assert main(["sweep", "play.txt", *SMALL, "--search", "lr=choice:0.1", "--trials", "1", "--out", "sw ü"]) == 0
    again = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert again == ["again", "tinygrad-rnn", "train", "--config", "sw ü/trial-0000/config.toml"]

    assert "another hidden_size" in refused(capsys, "sweep", "--out", "sw", "--hidden-size", "7")
    other = ["--search", "lr=log:1e-3:1e-2", "--sampler", "tpe"]
    assert "another sampler, search" in refused(capsys, "sweep", "--out", "sw", *other)
    Path("sw/sweep.json").write_text("{")
    assert "is damaged" in refused(capsys, "sweep", "--out", "sw")


def test_bad_trials_are_pruned_and_bad_sweeps_refused(folder, capsys):
    """A trial that diverges, one whose settings do not fit together, and one that is worse than the others."""
    search = ["--search", "lr=choice:1e9,0.05", "batch_size=choice:4,4000", "optimizer=choice:sgd,adam"]
    trials = table(capsys, "play.txt", *SMALL, *search, "--trials", "8", "--sampler", "random", "--seed", "1")
    assert len(trials) == 8
    reasons = [trial["reason"] for trial in trials if trial["settings"]["batch_size"] == 4000]
    assert reasons
    assert all("expected at least batch_size * bptt + 1" in reason for reason in reasons)
    wild = [t for t in trials if t["settings"]["lr"] == 1e9 and t["settings"]["batch_size"] == 4]
    assert wild
    assert all(trial["state"] == "pruned" for trial in wild)
    assert Path("sweeps/play-rnn-1/sweep.json").exists()

    assert "nothing is searched" in refused(capsys, "sweep", "play.txt")
    assert "does not exist" in refused(capsys, "sweep", "missing.txt", *SEARCH)
    assert "holds other files" in refused(capsys, "sweep", "play.txt", *SEARCH, "--out", ".")
    assert not Path("sweeps/play-rnn-2").exists()


def start(*arguments):
    command = [sys.executable, "-m", "tinygrad_rnn", "sweep", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path, lines=1):
    deadline = time.monotonic() + 60
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.nightly
def test_a_sweep_that_was_stopped_goes_on_with_its_trial(folder, capsys):
    long = ["--batch-size", "4", "--bptt", "5", "--cell", "rnn", "--epochs", "20", "--pruner", "none"]
    process = start("play.txt", *long, *SEARCH, "--trials", "1", "--out", "sw")
    wait_for(Path("sw/trial-0000/metrics.jsonl"), 3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "tinygrad-rnn: terminated\n")
    before = losses(0)
    assert len(before) < 20
    (trial,) = table(capsys, "--out", "sw", "--trials", "1")
    assert trial["number"] == 0
    assert trial["state"] == "complete"
    assert trial["epochs"] == 20
    assert losses(0)[: len(before) - 1] == before[:-1]
    assert main(["train", "--config", "sw/trial-0000/config.toml", "--save", "whole", "--no-progress"]) == 0
    assert losses(0) == [
        json.loads(line)["valid_nats"] for line in Path("whole/metrics.jsonl").read_text().splitlines()
    ]


@pytest.mark.nightly
def test_two_processes_share_a_sweep_that_is_killed(folder, capsys):
    """With SIGKILL, all of its processes; every trial is there once, and as if it had not been killed."""
    settings = ["--batch-size", "4", "--bptt", "5", "--cell", "rnn", "--epochs", "60", "--pruner", "none"]
    process = start("play.txt", *settings, *SEARCH, "--trials", "5", "--processes", "2", "--out", "sw")
    for number in (0, 1):
        wait_for(Path(f"sw/trial-{number:04d}/metrics.jsonl"), 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    capsys.readouterr()
    assert main(["sweep", "--out", "sw", "--trials", "5", "--processes", "2"]) == 0
    trials = table(capsys, "--out", "sw", "--trials", "5")
    numbers = {trial["number"] for trial in trials}
    assert len(numbers) == len(trials) == 5
    assert numbers >= {0, 1}
    assert all(trial["state"] == "complete" and trial["epochs"] == 60 for trial in trials)
    assert len({trial["settings"]["lr"] for trial in trials}) == 5
    for number in (0, 1):
        config = TrainConfig.from_toml(f"sw/trial-{number:04d}/config.toml")
        assert (
            main(["train", "play.txt", "--config", f"sw/trial-{number:04d}/config.toml", "--save", f"w{number}"]) == 0
        )
        again = [json.loads(line)["valid_nats"] for line in Path(f"w{number}/metrics.jsonl").read_text().splitlines()]
        assert losses(number) == again
        assert config.epochs == 60


def test_without_optuna_the_error_names_the_extra(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "tinygrad_rnn[sweep]" in refused(capsys, "sweep", "play.txt", *SEARCH)
