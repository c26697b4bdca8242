"""Types of the public functions: `typed.py` asserts them, for pyright here, and for mypy in `make types`."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typed

ROOT = Path(__file__).parent.parent
TYPED = Path(__file__).parent / "typed.py"


@pytest.mark.skipif(
    f"numpy=={np.__version__} " not in (ROOT / "requirements.lock").read_text(encoding="utf-8"),
    reason="other versions of NumPy have other types",
)
@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright_finds_the_types_that_are_asserted():
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(TYPED)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "room",
    [typed.operations, typed.tensors, typed.gradients, typed.compiled, typed.primitives, typed.recurrences],
    ids=lambda room: room.__name__,
)
def test_the_typed_calls_run(room):
    room(typed.a) if room is typed.operations else room()


def test_a_wrong_type_is_found(tmp_path):
    """mypy looks at the package, and not past it."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(TYPED.read_text(encoding="utf-8").replace("tr.tanh(x), tr.Tensor", "tr.tanh(x), int"))
    done = subprocess.run([sys.executable, "-m", "mypy", str(wrong)], cwd=ROOT, capture_output=True, text=True)
    assert "Expression is of type" in done.stdout
