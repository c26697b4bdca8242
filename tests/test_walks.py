"""How far a reader walks from a call to what it does, from folder to folder, as docs/architecture.md counts."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.testing import check_grads
from tinygrad_rnn.training.loop.step import TrainStep

PACKAGE = Path(tr.__file__).parent
EVERYWHERE = {"engine", "."}  # what all rooms call: nests, arrays, the recorded graph; checks.py


class Walk:
    """The calls from one folder of the package into another, each pair once, and those that lead back up."""

    def __init__(self, without=()):
        self.stops, self.back = set(), set()
        self._without = EVERYWHERE | set(without)

    def __enter__(self):
        frame = sys._getframe(1)
        while frame is not None:  # the calls that led here
            self._called(frame)
            frame = frame.f_back
        self._before = sys.getprofile()
        sys.setprofile(lambda frame, event, _: self._called(frame) if event == "call" else None)
        return self

    def __exit__(self, *error):
        sys.setprofile(self._before)

    def _folder(self, frame):
        path = Path(frame.f_code.co_filename)
        if PACKAGE not in path.parents:
            return None
        folder = path.parent.relative_to(PACKAGE).as_posix()
        return None if folder.split("/")[0] in self._without else folder

    def _called(self, frame):
        folder, above = self._folder(frame), []
        while folder and frame.f_back is not None:
            frame = frame.f_back
            above += filter(None, [self._folder(frame)])
        if above and above[0] != folder:
            self.stops.add((above[0], folder))
            if folder in above:
                self.back.add((above[0], folder))


def stated(walk):
    """The row of a walk in docs/architecture.md: stops, folders, ways back."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| {walk} |"))
    return tuple(map(int, re.findall(r"\| (\d+) (?=\|)", row)))


def check(walk, name):
    found = len(walk.stops), len({folder for stop in walk.stops for folder in stop}), len(walk.back)
    assert all(count <= most for count, most in zip(found, stated(name), strict=True)), (found, walk.stops, walk.back)


@pytest.fixture
def update(tmp_path, monkeypatch, capsys):
    """An update of `tinygrad-rnn train`, after those that record and bind its plan."""
    from tinygrad_rnn.cli import main

    walk, made, accumulated = Walk(), [], TrainStep.accumulated

    def watched(*args, **kwargs):
        made.append(1)
        if len(made) == 10:
            walk.__enter__()
        elif len(made) == 11:
            walk.__exit__()
        return accumulated(*args, **kwargs)

    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat , and the dog on the cat .\n" * 40, encoding="utf-8")
    monkeypatch.setattr(TrainStep, "accumulated", watched)
    small = ["--hidden-size", "8", "--batch-size", "2", "--bptt", "5", "--epochs", "1", "--no-progress"]
    main(["train", str(text), *small, "--save", str(tmp_path / "run")])
    assert len(made) > 11
    return walk


def test_an_update(update):
    check(update, "an update of `tinygrad-rnn train`")


@pytest.mark.nightly
def test_a_drawing():
    model, ids = tr.RNNLM(10, 4, 4, np.random.default_rng(0)), np.arange(12).reshape(2, 6) % 10
    loss, _ = model.loss(ids[:, :-1], ids[:, 1:])
    tr.draw(loss, view="unrolled").svg()  # imports what it needs
    with Walk() as walk:
        tr.draw(loss, view="unrolled").svg()
    check(walk, "`draw`, unrolled, to SVG")


@pytest.mark.nightly
def test_a_check():
    cell, xs = tr.RNNCell(3, 4, np.random.default_rng(0), np.float64), np.ones((2, 3, 3))
    check_grads(cell, xs)
    with Walk(without={"nn", "ops"}) as walk:
        check_grads(cell, xs)
    check(walk, "`check_grads` of a cell")
