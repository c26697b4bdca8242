"""The start of the command: help and version without NumPy, and threads set before it loads."""

import os
import shlex
import subprocess
import sys

import pytest
from command_line import refused

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


INTERRUPTED = """
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore it
name = sys.argv.pop(1)

class Finder:
    def find_spec(self, found, path=None, target=None):
        if found == name:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
runpy.run_module("tinygrad_rnn", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["cli", "config", "flags", "launch", "commands", "commands.measure"])
def test_ctrl_c_while_the_program_is_loaded_is_one_line(module):
    command = [sys.executable, "-c", INTERRUPTED, f"tinygrad_rnn.{module}", "evaluate", "none.npz"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "tinygrad-rnn: interrupted\n")


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    out = capsys.readouterr().out
    for name in TrainConfig.__dataclass_fields__:
        assert name == "corpus" or "--" + name.replace("_", "-") in out


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("evaluate m --json text", {"model": "m", "corpus": "text", "json": True, "held_out": False}),
        ("evaluate m --batch-size 2 text --held-out", {"model": "m", "corpus": "text", "batch_size": 2}),
        ("evaluate --json m --no-compile text", {"model": "m", "corpus": "text", "json": True, "compile": False}),
        ("evaluate m --json -", {"model": "m", "corpus": "-"}),
        ("evaluate m --json", {"model": "m", "corpus": None}),
        ("truncation m --steps 3 text", {"model": "m", "corpus": "text", "steps": 3, "wanted_cosine": 0.99}),
        ("graph m --steps 3 text", {"model": "m", "corpus": "text", "steps": 3, "view": "auto"}),
        ("graph --steps 3", {"model": "rnn", "corpus": None}),
        ("lesson 1 --seconds 3 mine.py", {"number": 1, "path": "mine.py", "seconds": 3.0, "threads": None}),
        ("score m --json text", {"model": "m", "corpus": "text"}),
        ("prepare a --out x b --level char c", {"files": ["a", "b", "c"], "out": "x", "level": "char"}),
        ("train --epochs 2 text --tied", {"corpus": "text", "epochs": 2, "tied": True}),
    ],
)
def test_flags_may_stand_anywhere(line, values):
    found = vars(cli._parser().parse_args(line.split()))
    assert {name: found[name] for name in values} == values
    straight = [word for word in line.split()[1:] if word in ("m", "-", "text", "1", "mine.py", "a", "b", "c")]
    flags = [word for word in line.split()[1:] if word not in straight]
    assert vars(cli._parser().parse_args([line.split()[0], *straight, *flags])) == found


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate m text --json more", "unrecognized arguments: more (see tinygrad-rnn --help)"),
        ("evaluate m --jso text", "unrecognized arguments: --jso text"),
        ("evaluate m --colour red text", "unrecognized arguments: --colour red text"),
        ("evaluate --json", "the following arguments are required: model (see tinygrad-rnn evaluate --help)"),
        ("export m", "the following arguments are required: --to"),
        ("truncation m --steps 0 text", "argument --steps: must be an integer of 1 or more, got '0'"),
        ("lesson one --seconds 3 mine.py", "argument number: must be an integer of 1 or more, got 'one'"),
        ("sweep --search lr=log:1e-3:1 text", "got 'text' (a text to train on comes before it)"),
    ],
)
def test_mistakes_are_still_said(capsys, line, message):
    assert message in refused(capsys, *line.split())


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


def test_a_command_to_copy_is_quoted(tmp_path, capsys):
    file = tmp_path / "my answers.py"
    for language in ("en", "zh"):
        assert main(["lesson", "1", "--start", str(file), "--language", language]) == 0
        assert shlex.split(capsys.readouterr().out.replace("\uff1a", " "))[-4:] == [
            "tinygrad-rnn",
            "lesson",
            "1",
            str(file),
        ]
        file.unlink()
