"""C99 on a Cortex-M4 without an operating system, under QEMU: the same numbers, in the memory it says."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import c_programs as c
import numpy as np
import pytest

import tinygrad_rnn as tr

BOARD = Path(__file__).parent / "cortex_m"
TARGET = ["-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp", "-std=c99", "-Os"]
WARN = ["-Wall", "-Wextra", "-pedantic", "-Werror"]
LINK = ["-ffreestanding", "-nostdlib", "-ffunction-sections", "-Wl,--gc-sections", "-Wl,-e,start"]
STEPS = 120
V = 65

PROGRAM = """
#include "model.h"

void run(void);
void print_bits(float value);

/* Each step prints its largest result, whose place names the id that comes next. */
void run(void)
{
    static float state[MODEL_STATE_SIZE], y[MODEL_Y_SIZE];
    int32_t id = 0;
    model_init(state);
    for (int t = 0; t < STEPS; t++) {
        int best = 0;
        if (model_step(&id, state, y)) return;
        for (int i = 1; i < MODEL_Y_SIZE; i++) best = y[i] > y[best] ? i : best;
        print_bits(y[best]);
        id = (best + t) % MODEL_Y_SIZE;
    }
}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return by kind of weights (printed numbers, those of this machine, bytes of flash and RAM, the header)."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("a compiler for the board comes with ziglang: pip install tinygrad_rnn[native]")
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not there")
    model = tr.RNNLM(V, 32, 32, np.random.default_rng(0), cell="lstm")
    source = c.source_of_module(model)
    return {kind: _run(source, kind, tmp_path_factory.mktemp("board")) for kind in (None, "int8")}


def _run(source, quantize, folder):
    library = c.compiled(folder, {"model": source}, quantize=quantize)
    (folder / "main.c").write_text(PROGRAM.replace("STEPS", str(STEPS)))
    files = [str(BOARD / "board.c"), str(folder / "main.c"), str(folder / "model.c")]
    kernel = str(folder / "model.elf")
    c.run(
        *(sys.executable, "-m", "ziglang", "cc", *TARGET, *WARN, *LINK, "-T", str(BOARD / "link.ld")),
        *(*files, "-I", str(folder), "-o", kernel),
    )
    flags = ["-nographic", "-semihosting-config", "enable=on,target=native", "-kernel", kernel]
    done = subprocess.run(["qemu-system-arm", "-M", "mps2-an386", *flags], capture_output=True, text=True, timeout=120)
    bits = [int(line, 16) for line in (done.stdout + done.stderr).split()]
    printed = np.array(bits, np.uint32).view(np.float32)
    text, _, bss = (int(n) for n in c.run("size", kernel).splitlines()[1].split()[:3])
    return printed, _here(c.CModel(library, "model", source)), (text, bss), (folder / "model.h").read_text()


def _here(model):
    found, id = [], 0
    for t in range(STEPS):
        y = model.step(np.array([id]))[1][0].ravel()
        found.append(y.max())
        id = (int(y.argmax()) + t) % V
    return np.array(found)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_board_prints_the_numbers_of_this_machine(quantize, built):
    printed, here, _, _ = built[quantize]
    assert printed.shape == here.shape
    np.testing.assert_allclose(printed, here, rtol=1e-6)
    assert len(set(here.tolist())) > 20


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_flash_and_ram_are_those_of_the_header(quantize, built):
    *_, (flash, ram), header = built[quantize]
    said = {name: int(value) for name, value in re.findall(r"#define MODEL_(\w+) (\d+)", header)}
    assert 0 <= flash - said["FLASH_BYTES"] < 4096, "the code"
    assert 0 <= ram - (said["RAM_BYTES"] + 4 * V) < 16, "with the results, and gaps"


def test_8_bits_take_a_third(built):
    assert built["int8"][2][0] < built[None][2][0] / 3
