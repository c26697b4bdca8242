"""A run has its folder to itself: two at once, one that was killed, and what is left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tinygrad_rnn.cli import main
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.data import load_corpus
from tinygrad_rnn.errors import ConfigError
from tinygrad_rnn.training import LanguageTrainer, RunFiles, load_model
from tinygrad_rnn.training.files.lock import NAME, locked

TEXT = "to be or not to be that is the question\n" * 30
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--bptt", "5", "--lr", "0.05", "--no-progress", "--no-compile"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a text in it."""
    monkeypatch.chdir(tmp_path)
    Path("play.txt").write_text(TEXT)
    return tmp_path


def start(*arguments):
    command = [sys.executable, "-m", "tinygrad_rnn", "train", "play.txt", *SMALL, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until_first_epoch(process):
    for line in process.stdout:
        if line.strip().startswith("1 "):
            return
    raise AssertionError(process.stderr.read())


def stopped(process, number=signal.SIGINT):
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def dead_process():
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.nightly
def test_runs_that_start_at_once_get_a_folder_each(folder):
    runs = [start("--epochs", "1", "--seed", str(seed)) for seed in range(2)]
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert (run.returncode, err) == (0, "")
        assert "saved" in out
    folders = [Path("runs", f"play-lstm-{number}") for number in (1, 2)]
    assert sorted(load_model(path).config.seed for path in folders) == [0, 1]
    for path in folders:
        names = sorted(file.name for file in path.iterdir())
        assert names == ["checkpoints", "config.toml", "curve.png", "metrics.jsonl", "model.npz"]


@pytest.mark.nightly
def test_a_second_writer_is_refused_while_the_first_runs(folder):
    first = start("--epochs", "100000", "--save", "a", "--seed", "1")
    until_first_epoch(first)
    second = start("--epochs", "1", "--save", "a", "--seed", "2", "--force")
    out, err = second.communicate(timeout=60)
    assert (second.returncode, out) == (2, "")
    assert f"a: another run (process {first.pid} on {socket.gethostname()}) is writing there; choose another" in err
    assert err.count("\n") == 1
    code, out, _ = stopped(first)
    assert code == 130
    assert "saved" in out
    assert load_model("a").config.seed == 1
    assert not Path("a", NAME).exists()
    assert (
        main(["train", "play.txt", *SMALL, "--epochs", "1", "--save", "a", "--seed", "2", "--force"]) == 0
    )  # now it may
    assert load_model("a").config.seed == 2


@pytest.mark.nightly
def test_the_lock_of_a_killed_run_is_taken_over(folder, capsys):
    killed = start("--epochs", "100000", "--save", "a")
    until_first_epoch(killed)
    stopped(killed, signal.SIGKILL)
    assert Path("a", NAME).exists()
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--save", "a", "--force", "--seed", "3"]) == 0
    err = capsys.readouterr().err
    (note,) = (line for line in err.splitlines() if "without unlocking" in line)  # of two folders, the run's and that
    assert note.startswith("tinygrad-rnn: note: the run that wrote there before")  # of its checkpoints
    assert f"(process {killed.pid})" in note
    assert load_model("a").config.seed == 3
    assert not list(Path("a").glob(f"{NAME}*"))


def lock(path, **owner):
    path.mkdir(exist_ok=True)
    (path / NAME).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "token": "x", **owner}))


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ({"host": "elsewhere"}, r"process \d+ on elsewhere\) is writing there.*or remove .*lock if that run is gone"),
        ({"pid": 1}, "process 1 on"),
        ({"pid": "1"}, "process 1 on"),
        ({"pid": -1}, "process -1 on"),
        ({}, r"process \d+ on"),
    ],
)
def test_who_may_be_alive_keeps_the_lock(tmp_path, owner, message):
    lock(tmp_path, **owner)
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(ConfigError, match=message), locked(tmp_path):
        pass
    assert (tmp_path / NAME).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_lock_that_says_nothing_is_kept(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(ConfigError, match="process unknown on an unknown machine"), locked(tmp_path):
        pass


@pytest.mark.parametrize("owner", [lambda: {"pid": dead_process()}, lambda: {"started": "0"}])
def test_a_dead_process_or_one_that_came_later_loses_it(tmp_path, owner):
    lock(tmp_path, **owner())
    with pytest.warns(UserWarning, match="its locks were taken over"), locked(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["token"] != "x"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.nightly
def test_one_of_many_takes_a_dead_lock_over(tmp_path):
    lock(tmp_path, pid=dead_process())
    code = (
        "import sys, time, warnings; from pathlib import Path\n"
        "from tinygrad_rnn.errors import ConfigError; from tinygrad_rnn.training.files.lock import locked\n"
        "sys.stdin.read(1)\n"
        "try:\n"
        "    with locked(Path(sys.argv[1])): print('held'); sys.stdout.flush(); sys.stdin.read(1)\n"
        "except ConfigError: print('refused'); sys.stdout.flush()\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    runs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(3)
    ]
    for run in runs:
        run.stdin.write("g")
        run.stdin.flush()
    said = [run.stdout.readline().strip() for run in runs]  # all have tried; the one that holds it waits
    for run in runs:
        run.communicate("e", timeout=60)
    assert sorted(said) == ["held", "refused", "refused"]
    assert list(tmp_path.iterdir()) == []


def test_the_trainer_of_the_library_holds_the_lock(tmp_path):
    train, held_out = load_corpus(TEXT, "word")
    config = TrainConfig(hidden_size=8, batch_size=4, bptt=5, epochs=2, compile=False)
    files, seen = RunFiles.at(tmp_path / "run"), []

    def second_run(record):
        seen.append((tmp_path / "run" / NAME).exists())
        errors = []

        def run():
            try:
                files = RunFiles.at(tmp_path / "run", force=True)
                LanguageTrainer(train, held_out, config, files=files, progress=False).run()
            except ConfigError as error:
                errors.append(str(error))

        thread = threading.Thread(target=run)  # one process, two runs
        thread.start()
        thread.join()
        assert "is writing there" in errors[0]

    LanguageTrainer(train, held_out, config, files=files, on_epoch=second_run, progress=False).run()
    assert seen == [True, True]
    assert load_model(tmp_path / "run").config == config
    assert not (tmp_path / "run" / NAME).exists()


def test_folders_that_stay_empty_are_gone(tmp_path):
    with RunFiles.fresh(tmp_path / "runs", "x") as one, RunFiles.fresh(tmp_path / "runs", "x") as other:
        assert [files.model.parent.name for files in (one, other)] == ["x-1", "x-2"]
        other.metrics.write_text("")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["metrics.jsonl", "runs", "x-2"]
    with RunFiles.at(tmp_path / "a" / "b" / "c").taken():
        assert (tmp_path / "a" / "b" / "c" / NAME).exists()
    assert not (tmp_path / "a").exists()
    too_long = "x" * 300  # no file system takes such a name
    with pytest.raises(ConfigError, match="cannot be made"), RunFiles.at(tmp_path / "a" / too_long / "c").taken():
        pass
    assert not (tmp_path / "a").exists()
    with RunFiles.at(tmp_path / "a" / "b" / ".." / "c").taken() as files:
        files.metrics.write_text("")
    assert files.metrics.exists()  # under the name that it was saved by


def test_a_folder_that_cannot_be_written_to(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be written to"), RunFiles.at(tmp_path).taken():
        pass
