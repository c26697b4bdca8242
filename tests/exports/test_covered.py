"""The table of docs/export.md: which operations each format has. Where it says no, there is one error and no file."""

import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
ENDINGS = {"torch": ".py", "onnx": ".onnx", "c": ".c", "wasm": ".wasm"}
NEEDS = {"torch": "safetensors", "onnx": "onnx", "c": "numpy", "wasm": "ziglang"}
X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
IDS, LENGTHS = np.array([[0, 1, 2], [3, 0, 1]]), np.array([2, 3])
RNG, CELL = np.random.default_rng(0), tr.RNNCell(4, 2, np.random.default_rng(0))
P = tr.parameter(X)


@tr.primitive()
def cubed(x, /):
    return x**3


def gradient(function):
    """Return the function x -> the gradient of the sum of what is made of x times a parameter."""
    return lambda x: tr.grad(np.sum(function(x * P)), {"p": P})["p"]


def loss_and_gradient(x):
    loss = tr.cross_entropy(x * P, IDS)
    return loss, tr.grad(loss, {"p": P})["p"]


ROWS = {
    "dropout and other draws": lambda x: tr.Dropout(0.5)(x, RNG),
    "a primitive of your own": cubed,
    "complex numbers": lambda x: np.abs(x * 1j),
    "`np.sort`": np.sort,
    "`np.linalg.solve`, `np.linalg.inv`": lambda x: np.linalg.solve(x[0, :2, :2], np.linalg.inv(x[1, :2, :2])),
    "`np.argmax`": lambda x: np.argmax(x, axis=-1),
    "`np.any`, `np.all`, `np.round`": lambda x: (np.any(x > 0, axis=1), np.all(x > 0), np.round(x, 1)),
    "`np.cumsum`": lambda x: np.cumsum(x, axis=1),
    "sums over an axis in the middle": lambda x: np.sum(x, axis=1),
    "gradients of `np.max` over an axis": gradient(lambda x: np.max(x, axis=-1)),
    "arithmetic of whole numbers": (lambda x, ids: (ids * 2 // 3, (ids == 1) * x[..., 0]), IDS),
    "`np.arctan2`": lambda x: np.arctan2(x, 2.0),
    "`x[::-1]`": lambda x: x[::-1],
    "`x[ids]`": lambda x: x[np.array([1, 0])],
    "`x[:, ids]`": lambda x: x[:, np.array([2, 0, 0])],
    "`x[rows, columns]`": lambda x: x[np.array([1, 0]), np.array([2, 0])],
    "`np.pad`, `np.diag`": lambda x: np.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :3] @ np.diag(x[0, 0]),
    "`np.take_along_axis`": (lambda x, ids: np.take_along_axis(x, ids[..., None], axis=2), IDS),
    "`cross_entropy` and its gradient": loss_and_gradient,
    "`cross_entropy` with smoothing, of ids that are fixed": gradient(
        lambda x: tr.cross_entropy(x, IDS, smoothing=0.1)
    ),
    "`cross_entropy` with smoothing, of ids as an input": (lambda x, ids: tr.cross_entropy(x, ids, smoothing=0.1), IDS),
    "`cross_entropy` of probabilities, `binary_cross_entropy`": (
        lambda x, q: (tr.cross_entropy(x, q), tr.binary_cross_entropy(x, q)),
        np.full_like(X, 0.25),
    ),
    "losses of numbers, with a mask": (lambda x, mask: gradient(lambda y: tr.mse(y, x, mask=mask))(x), X[..., 0] > 0),
    "`clip_by_norm`": lambda x: tr.clip_by_norm({"p": gradient(np.tanh)(x)}, 1.0),
    "`&`, `|`, `~` of truth values, `np.isnan`": lambda x: tr.where(~np.isnan(x) & (x > 0) | (x < -0.5), x, 0.0),
    "`unroll` with `lengths` that are fixed": lambda x: tr.unroll(CELL, x, lengths=LENGTHS)[0],
    "`unroll` and `bidirectional` with `lengths` as an input": (
        lambda x, lengths: (tr.unroll(CELL, x, lengths=lengths), tr.bidirectional(CELL, CELL, x, lengths=lengths)),
        LENGTHS,
    ),
}
"""Functions of X; or with the inputs after X."""


def table():
    """Return what the page says: by row, by format."""
    text = PAGE.read_text(encoding="utf-8").split("| operation |")[1].split("\n\n")[0]
    head, _, *rows = (re.split(r" \| ", line.strip("| ")) for line in ("operation |" + text).splitlines())
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def covers(path, function, name):
    """Return whether a format has what a function computes."""
    function, *more = function if isinstance(function, tuple) else (function,)
    try:
        tr.export(function, path, X, *more, to=name)
    except tr.UnsupportedError:
        assert not [*path.parent.iterdir()]
        return False
    return True


def test_the_page_has_these_rows():
    assert list(table()) == list(ROWS)


@pytest.mark.parametrize("name", ENDINGS)
def test_each_format_has_what_the_page_says(name, tmp_path):
    pytest.importorskip(NEEDS[name])
    said = {"yes": True, "no": False}
    wrong = {}
    for number, (row, function) in enumerate(ROWS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        if covers(folder / f"f{ENDINGS[name]}", function, name) != said[table()[row][name]]:
            wrong[row] = table()[row][name]
    assert wrong == {}
