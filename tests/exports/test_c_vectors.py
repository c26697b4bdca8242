"""gcc turns loops over the functions of an exported file into vector instructions, on every level of x86-64."""

import platform
import shutil
import subprocess

import pytest

from tinygrad_rnn.exports.c.functions import with_needed

LEVELS = {"x86-64": "", "AVX2": "-mavx2 -mfma", "AVX-512": "-march=x86-64-v4"}
# Double precision needs integers of 64 bits side by side, which SSE2 alone does not compare.
CASES = [
    (name, kind, level)
    for name in ("exp", "tanh", "sigmoid", "sqrt", "relu", "maximum")
    for kind in ("f32", "f64")
    for level in LEVELS
    if (kind, level) != ("f64", "x86-64") or name in ("relu", "maximum")
]
LOOP = """
void loop(const REAL *restrict x, REAL *restrict y)
{
    for (long i = 0; i < 1024; i++) y[i] = CALL;
}
"""


@pytest.mark.skipif(
    shutil.which("gcc") is None or platform.machine() not in ("x86_64", "AMD64"), reason="needs gcc on x86-64"
)
@pytest.mark.sample(12)
@pytest.mark.parametrize(("name", "kind", "level"), CASES)
def test_a_loop_over_a_function_is_vectorized(name, kind, level, tmp_path):
    call = f"{name}_{kind}(x[i]{', x[i + 1024]' if name == 'maximum' else ''})"
    loop = LOOP.replace("REAL", "float" if kind == "f32" else "double").replace("CALL", call)
    (tmp_path / "loop.c").write_text("\n".join(["#include <stdint.h>", *with_needed([(name, kind)]), loop]))
    flags = ["-std=c99", "-O3", *LEVELS[level].split(), "-fopt-info-vec", "-c", "loop.c"]
    said = subprocess.run(["gcc", *flags], cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    assert "loop vectorized" in said
