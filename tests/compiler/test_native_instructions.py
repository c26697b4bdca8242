"""The library as a processor with shorter vectors gets it: other tiles, and less memory for panels and lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from replay import need_library

HERE = Path(__file__).parent
SHORT = "-mno-avx512f"


def test_shorter_vectors(tmp_path):
    need_library()
    if " avx512f" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("the processor has no longer vectors: the other tests have shown this")
    files = [str(HERE / f"test_native_{name}.py") for name in ("products", "elementwise", "chains")]
    # The root is where the options of pytest stand, and what it imports lies.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files],
        cwd=HERE.parents[1],
        env=os.environ | {"CC": f"{os.environ.get('CC') or 'cc'} {SHORT}", "TINYGRAD_RNN_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
