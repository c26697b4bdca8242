"""Types of the public functions under mypy and pyright: `typed.py` asserts them, and marks the calls that are wrong."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typed

ROOT = Path(__file__).parent.parent
TYPED = Path(__file__).parent / "typed.py"


with_the_locked_numpy = pytest.mark.skipif(
    f"numpy=={np.__version__} " not in (ROOT / "requirements.lock").read_text(encoding="utf-8"),
    reason="other versions of NumPy have other types",
)


def checked(*command):
    """Run a type checker on `typed.py`; return what it printed, if it found something."""
    done = subprocess.run([sys.executable, "-m", *command, str(TYPED)], cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@with_the_locked_numpy
def test_mypy_finds_the_types_that_are_asserted():
    assert checked("mypy", "--strict", "--no-error-summary") == ""


@with_the_locked_numpy
@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright_finds_the_types_that_are_asserted():
    assert checked("pyright", "--pythonpath", sys.executable) == ""


@pytest.mark.parametrize(
    "room",
    [typed.operations, typed.tensors, typed.gradients, typed.compiled, typed.primitives, typed.recurrences],
    ids=lambda room: room.__name__,
)
def test_the_typed_calls_run(room):
    room(typed.a) if room is typed.operations else room()


def test_a_wrong_type_is_found(tmp_path):
    """The checkers look at the package, and not past it."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(TYPED.read_text(encoding="utf-8").replace("tr.tanh(x), tr.Tensor", "tr.tanh(x), int"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(wrong)], cwd=ROOT, capture_output=True, text=True
    )
    assert "Expression is of type" in done.stdout
