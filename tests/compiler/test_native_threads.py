"""Workers under ThreadSanitizer: it sees each access to memory that no wait puts in order, those of copies too."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import numpy as np
import tinygrad_rnn as tr

rng = np.random.default_rng(0)


def gradients(model, params, *more):
    def f(xs, *more):
        outputs = model(xs, **dict(zip(["lengths"], more)))
        return tr.grad(np.sum(outputs * outputs), params)

    compiled = tr.compile(f, executor="native", threads=2)
    for T in (9, 12):
        xs = rng.standard_normal((8, T, 12)).astype(np.float32)
        for _ in range(2):
            compiled(xs, *more)


for cell, H in (("rnn", 50), ("lstm", 50), ("gru", 50), ("lstm", 200)):
    for layers in (1, 2):
        model = tr.SequenceModel(cell, 12, H, 6, rng, layers=layers, last=False)
        gradients(model, model.parameters())
        gradients(model, model.parameters(), np.arange(1, 9))

for N in (1, 6):
    model = tr.RNNLM(70, 16, 120, rng, cell="lstm", layers=2)
    step = tr.TrainStep(model, lambda model, batch, state: model.loss(*batch, state), tr.SGD(0.1), clip=1.0)
    state = model.initial_state(N)
    for _ in range(4):
        ids = rng.integers(0, 70, (N, 13))
        state = step((ids[:, :-1], ids[:, 1:]), state).state
print("done")
"""


@pytest.mark.nightly
def test_no_data_race(tmp_path):
    compiler = shutil.which("gcc")
    found = compiler and subprocess.run([compiler, "-print-file-name=libtsan.so"], capture_output=True, text=True)
    sanitizer = Path(found.stdout.strip()) if found else Path()
    if not sanitizer.is_absolute():
        pytest.skip("gcc with ThreadSanitizer is not installed")
    environment = os.environ | {
        "CC": f"{compiler} -g -fsanitize=thread",
        "LD_PRELOAD": str(sanitizer.resolve()),
        "TSAN_OPTIONS": "exitcode=0",
        "TINYGRAD_RNN_CACHE": str(tmp_path),
        "OPENBLAS_NUM_THREADS": "2",
        "OMP_NUM_THREADS": "2",
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=900)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not run under this kernel")
    assert done.stdout == "done\n", done.stderr[-2000:]
    races = [line for line in done.stderr.splitlines() if "SUMMARY: ThreadSanitizer" in line]
    assert not races, done.stderr[:4000]
