"""The start of the command: help and version without NumPy, and threads set before it loads."""

import os
import subprocess
import sys

import pytest

from tinygrad_rnn import __version__, cli
from tinygrad_rnn.cli import main
from tinygrad_rnn.config import TrainConfig


def test_help_and_version_without_numpy():
    code = (
        "import sys\n"
        "from tinygrad_rnn.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as exit: print(exit.code, 'numpy' in sys.modules)"
    )
    for flag in ("--help", "--version"):
        found = subprocess.run([sys.executable, "-c", code, flag], capture_output=True, text=True, check=True)
        assert found.stdout.endswith("0 False\n")
    assert f"tinygrad-rnn {__version__}" in found.stdout


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    out = capsys.readouterr().out
    for name in TrainConfig.__dataclass_fields__:
        assert name == "corpus" or "--" + name.replace("_", "-") in out


def test_threads_are_set_before_numpy_loads(monkeypatch, capsys):
    for name in cli._THREADS:
        monkeypatch.setenv(name, "9")
    assert main(["evaluate", "none.npz", "--threads", "3"]) == 2
    assert [os.environ[name] for name in cli._THREADS] == ["3"] * 4


def test_one_thread_unless_the_environment_says_otherwise(monkeypatch):
    for name in cli._THREADS:
        monkeypatch.delenv(name, raising=False)
    assert main(["evaluate", "none.npz"]) == 2
    assert [os.environ[name] for name in cli._THREADS] == ["1"] * 4
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert main(["evaluate", "none.npz"]) == 2
    assert os.environ["OPENBLAS_NUM_THREADS"] == "2"
