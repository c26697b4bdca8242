from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn.handwritten
from tinygrad_rnn.handwritten import RNN
from tinygrad_rnn.handwritten.base import check_shape, sigmoid


def test_the_room_imports_numpy_and_itself_alone():
    allowed = {"__future__", "abc", "typing", "numpy"}
    for source in Path(tinygrad_rnn.handwritten.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                own = name.startswith("tinygrad_rnn.handwritten.")
                assert own or name.split(".")[0] in allowed, f"{source.name} imports {name}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_against_its_definition_and_at_the_ends(dtype):
    z = np.linspace(-5, 5, 41, dtype=dtype)
    assert sigmoid(z).dtype == dtype
    np.testing.assert_allclose(sigmoid(z), 1 / (1 + np.exp(-z)), rtol=0, atol=2 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(sigmoid(np.array([-1e4, 0, 1e4], dtype=dtype)), [0, 0.5, 1])


def test_sigmoid_passes_a_complex_step(relative_error):
    z = np.linspace(-3, 3, 13)
    s = sigmoid(z)
    assert relative_error(sigmoid(z + 1e-30j).imag / 1e-30, s * (1 - s)) <= 1e-12


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 5), r"f: x must have shape \(N, D=3\), got \(2, 5\); make axis 1 \(D\) 3 long"),
        ((3,), r"f: x must have shape \(N, D=3\), got \(3,\); give it 2 axes, not 1"),
        ((0, 3), r"f: x must have shape \(N, D=3\), got \(0, 3\); axis 0 \(N\) is empty"),
    ],
)
def test_check_shape_says_what_it_wants(shape, message):
    with pytest.raises(ValueError, match=message):
        check_shape("f", "x", np.zeros(shape), "N, D", (None, 3))


def test_check_shape_accepts_what_fits_and_refuses_what_is_no_array():
    check_shape("f", "x", np.zeros((7, 3)), "N, D", (None, 3))
    with pytest.raises(TypeError, match="f: x must be a NumPy array, got list"):
        check_shape("f", "x", [[1.0, 2.0, 3.0]], "N, D", (None, 3))


def test_integer_weights_are_refused():
    with pytest.raises(TypeError, match=r"RNN: params\[0\] of shape \(2, 3\) has dtype int64"):
        RNN(np.ones((2, 3), dtype=np.int64), np.ones((3, 3)), np.ones(3))
