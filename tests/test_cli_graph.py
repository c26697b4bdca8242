"""The command `graph`: a named cell, a cell of one's own, a saved model on real text."""

import sys
from pathlib import Path

import pytest
from command_line import refused

from tinygrad_rnn.cli import main
from tinygrad_rnn.commands.look import shown_steps, small_model
from tinygrad_rnn.errors import ConfigError
from tinygrad_rnn.graphs.drawing import VIEWS

TEXT = "to be or not to be that is the question\n" * 30
CELL = """
import numpy as np
import tinygrad_rnn as tr

class Leaky(tr.Module):
    def __init__(self, input_size, hidden_size, rng):
        self.W = tr.tensor(rng.standard_normal((input_size, hidden_size)), requires_grad=True, name="W")

    def initial_state(self, batch_size):
        return np.zeros((batch_size, self.W.shape[1]))

    def __call__(self, x, h):
        h = 0.5 * h + np.tanh(x @ self.W)
        return h, h

def broken(input_size, hidden_size, rng):
    raise RuntimeError("no such luck")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_arguments_a_page_is_written(folder, capsys):
    assert main(["graph"]) == 0
    out = capsys.readouterr().out
    assert "graph.html" in out
    assert "rnn" in out
    assert Path("graph.html").read_text().startswith("<!doctype html>")
    assert [path.name for path in folder.iterdir()] == ["graph.html"]


@pytest.mark.parametrize("view", ["auto", *VIEWS])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_every_view_of_every_cell(folder, cell, view):
    arguments = f"graph {cell} --view {view} --steps 4 --gradients --truncation chunked:2 --out picture.svg"
    assert main(arguments.split()) == 0
    text = Path("picture.svg").read_text()
    assert text.startswith("<svg")
    assert "chunked:2" in text
    assert "returning gradient" in text


def test_a_saved_model_on_its_text(folder, capsys):
    Path("play.txt").write_text(TEXT)
    small = "--hidden-size 8 --batch-size 4 --bptt 5 --epochs 1 --layers 2 --no-progress --save m.npz"
    assert main(["train", "play.txt", *small.split()]) == 0
    capsys.readouterr()
    assert (
        main(["graph", "m.npz", "play.txt", "--steps", "6", "--batch-size", "2", "--view", "rolled", "--out", "m.dot"])
        == 0
    )
    assert "2 x 6 tokens of play.txt" in capsys.readouterr().out
    assert "layers.1" in Path("m.dot").read_text()
    assert main(["graph", "m.npz"]) == 2
    assert "pass the text to use" in capsys.readouterr().err
    assert main(["graph", "m.npz", "play.txt", "--steps", "5000"]) == 2
    assert "graph: --batch-size 4 streams of --steps 5000" in capsys.readouterr().err


def test_a_cell_of_ones_own(folder, monkeypatch):
    Path("mymodule_for_graph.py").write_text(CELL)
    before = sys.path.copy()
    assert (
        main(["graph", "mymodule_for_graph:Leaky", "--view", "rolled", "--steps", "4", "--show", "2", "--out", "c.svg"])
        == 0
    )
    assert sys.path == before
    text = Path("c.svg").read_text()
    assert ">Leaky<" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("graph gnu", "'gnu' does not exist"),
        ("graph nowhere:Cell", "graph: importing 'nowhere' raised ModuleNotFoundError: No module named 'nowhere'"),
        ("graph cells_for_graph:Other", "graph: module 'cells_for_graph' has no 'Other'; it has: "),
        ("graph cells_for_graph:broken", "raised RuntimeError: no such luck"),
        ("graph --view rolld", "invalid choice: 'rolld'"),
        ("graph --truncation chunky:3", "'chunky:3' is not a policy"),
        ("graph --show 1,x", "--show must be a number of steps"),
        ("graph --view ops --show 99", "expected steps= one of 1 to 8, got 99"),
        ("graph --out picture.jpg", "must end in one of"),
        ("graph --out nowhere/picture.svg", "error: nowhere/picture.svg: there is no folder '"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder, capsys, arguments, message):
    Path("cells_for_graph.py").write_text(CELL)
    assert message in refused(capsys, *arguments.split())
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["cells_for_graph.py"]


def test_small_models_are_the_same_each_time():
    (first, ids, targets), (second, *_) = small_model("gru", 5, layers=2), small_model("gru", 5, layers=2)
    assert ids.shape == targets.shape == (4, 5)
    assert all(
        (a.data == b.data).all() for a, b in zip(first.parameters().values(), second.parameters().values(), strict=True)
    )


@pytest.mark.parametrize("text", ["0", "1,,2", "two", "-1", ""])
def test_steps_to_show_that_are_none(text):
    with pytest.raises(ConfigError, match="--show must be"):
        shown_steps(text)
