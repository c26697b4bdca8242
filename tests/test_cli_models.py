"""Cells and models of the user's on the command line: trained, described, and refused in one line."""

import sys
from pathlib import Path

import pytest
from command_line import refused

from tinygrad_rnn.cli import main
from tinygrad_rnn.training import load_model

TEXT = "to be or not to be that is the question\n" * 30
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--bptt", "5", "--epochs", "2", "--lr", "0.05", "--no-progress"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a text and a module in it."""
    monkeypatch.chdir(tmp_path)
    Path("play.txt").write_text(TEXT)
    Path("mine_for_cli.py").write_text(
        "import numpy as np, tinygrad_rnn as tr\n"
        "class Leaky(tr.RNNCell):\n"
        "    def __call__(self, x, state):\n"
        "        h = 0.5 * state + 0.5 * super().__call__(x, state)[0]\n"
        "        return h, h\n"
        "def make(vocab_size, config, rng):\n"
        "    return tr.RNNLM(vocab_size, 6, 7, rng, cell='gru', layers=2)\n"
        "def nothing(vocab_size, config, rng):\n"
        "    return 3\n"
        "def double(vocab_size, config, rng):\n"
        "    return tr.RNNLM(vocab_size, 6, 7, rng, dtype='float64')\n"
        "def two(vocab_size, config):\n"
        "    return make(vocab_size, config, np.random.default_rng(0))\n"
        "def broken(*arguments):\n"
        "    raise LookupError('no such\\nluck')\n"
        "class Other(tr.RNNLM):\n"
        "    def loss(self, ids, targets):\n"
        "        return super().loss(ids, targets)\n"
        "def other(vocab_size, config, rng):\n"
        "    return Other(vocab_size, 6, 7, rng)\n"
    )
    yield tmp_path
    sys.modules.pop("mine_for_cli", None)


def test_a_cell_and_a_model_of_the_users(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--cell", "mine_for_cli:Leaky", "--save", "a"]) == 0
    assert main(["train", "play.txt", *SMALL, "--model", "mine_for_cli:make", "--save", "b"]) == 0
    assert type(load_model("a").model.layers[0]).__name__ == "Leaky"
    assert load_model("b").model.parameters()["layers.1.Wh"].shape == (7, 21)
    for name in "ab":
        assert main(["evaluate", name, "play.txt", "--held-out"]) == 0
        assert main(["generate", name, "--length", "5"]) == 0
    assert main(["train", "--resume", "b", "--epochs", "3", "--no-progress"]) == 0
    capsys.readouterr()
    assert "must return a Module" in refused(capsys, "train", "play.txt", *SMALL, "--model", "mine_for_cli:nothing")
    assert "has no 'Lost'" in refused(capsys, "train", "play.txt", *SMALL, "--cell", "mine_for_cli:Lost")


def test_a_model_of_the_users_is_described_as_it_is(folder, capsys):
    """Not by the settings, which its function need not heed; nor is the folder of its run named after them."""
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--model", "mine_for_cli:double"]) == 0
    run = "runs/play-mine_for_cli-double-1"
    commands = (
        ["evaluate", run, "play.txt"],
        ["truncation", run, "play.txt", "--steps", "9", "--policies", "full"],
        ["graph", run, "play.txt", "--out", "g.svg"],
        ["export", run, "--to", "safetensors"],
        ["train", "play.txt", *SMALL, "--model", "mine_for_cli:double", "--dry-run"],
    )
    count = load_model(run).model.parameter_count()
    row = f"model       mine_for_cli:double, float64, {count:,} parameters"
    assert row in capsys.readouterr().out.splitlines()
    for command in commands:
        assert main(command) == 0
        assert row in capsys.readouterr().out.splitlines(), command
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--cell", "mine_for_cli:Leaky"]) == 0
    assert "mine_for_cli:Leaky, 1 layer of 8 units, embedding 8, float32, " in capsys.readouterr().out
    assert Path("runs/play-mine_for_cli-Leaky-1").is_dir()


@pytest.mark.parametrize(
    ("flag", "name", "message"),
    [
        ("model", "two", "model: mine_for_cli:two raised TypeError: two() takes 2 positional arguments but 3 were"),
        ("model", "broken", "raised LookupError: no such luck; expected a function make(vocab_size, config, rng)"),
        ("model", "np.pi", "'float' object is not callable; expected a function make(vocab_size, config, rng)"),
        ("model", "other", "loss(ids, targets, state, rng=rng); those of Other take other arguments: too many"),
        ("cell", "broken", "cell: mine_for_cli:broken raised LookupError: no such luck; expected a function f(input_"),
        ("cell", "nothing", "got 3"),
    ],
)
def test_what_makes_no_model_is_an_error_of_one_line(folder, capsys, flag, name, message):
    assert message in refused(capsys, "train", "play.txt", *SMALL, f"--{flag}", f"mine_for_cli:{name}")
    assert not Path("runs").exists()
