"""The compiler that the extra [native] brings: where there is no other, and for other machines."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oracle import relative_error

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.native import build as native
from tinygrad_rnn.compiler.native.cpu import levels
from tinygrad_rnn.compiler.native.encode import encode
from tinygrad_rnn.compiler.native.numbers import header
from tinygrad_rnn.compiler.native.program import RECORD, Records
from tinygrad_rnn.errors import NativeError
from tinygrad_rnn.exports.program import program_of
from tinygrad_rnn.exports.source import source_of_function

HERE = Path(__file__).parent
WINE = shutil.which("wine64") or "/usr/lib/wine/wine64"
SECONDS = 1800.0  # for a compiler without a cache, on a busy machine: it compiles the C library of the target too

# The first bytes of a shared library of each machine that it is compiled for.
TARGETS = {
    "x86_64-linux-gnu": b"\x7fELF\x02\x01",
    "aarch64-linux-gnu": b"\x7fELF\x02\x01",
    "x86_64-macos": b"\xcf\xfa\xed\xfe\x07\x00\x00\x01",
    "aarch64-macos": b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01",
    "x86_64-windows-gnu": b"MZ",
    "aarch64-windows-gnu": b"MZ",
}


@pytest.fixture
def nothing_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("CC", raising=False)


@pytest.fixture
def carried(script, tmp_path, monkeypatch):
    """A package ziglang whose program hands on to the real compiler, and notes its arguments."""
    real = shutil.which("cc") or pytest.skip("no C compiler to stand in for it")
    package = tmp_path / "ziglang"
    package.mkdir()
    (package / "__init__.py").write_text("")
    program = Path(script("zig", f'echo "$@" >> {tmp_path}/log\nshift\nPATH=/usr/bin:/bin exec {real} "$@"'))
    program.rename(package / "zig")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ziglang", raising=False)
    return package / "zig"


def test_it_is_taken_where_there_is_no_other(carried, nothing_on_the_path, source, cache, tmp_path):
    assert native.find_compiler() == (str(carried), "cc")
    library = native.load(native.build(source, cache, native.find_compiler()))
    assert library.functions.add(2, 3) == 5
    assert all(line.startswith("cc ") for line in (tmp_path / "log").read_text().splitlines())


def test_others_come_first(carried, script, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    found = script("clang", "exit 0")
    assert native.find_compiler() == (found,)


def test_a_package_without_the_program(carried, nothing_on_the_path):
    carried.unlink()
    with pytest.raises(NativeError, match=r'no C compiler .* pip install "tinygrad_rnn\[native\]", which brings one'):
        native.find_compiler()


def test_what_the_compiler_keeps_goes_with_the_build(source, cache, script, cc):
    compiler = script("keeping", f'mkdir -p "$ZIG_GLOBAL_CACHE_DIR" && touch "$ZIG_LOCAL_CACHE_DIR/x"; exec {cc} "$@"')
    native.build(source, cache, [compiler])
    assert [path.suffix for path in cache.iterdir()] == [".so"]


@pytest.fixture(scope="module")
def zig():
    pytest.importorskip("ziglang")
    return native._carried_compiler()


TRAINS = """
import numpy as np, tinygrad_rnn as tr
model, rng = tr.RNNLM(20, 8, 16, np.random.default_rng(0), cell="lstm"), np.random.default_rng(1)
def step(params, ids, targets, state):
    loss, state = model.loss(ids, targets, state)
    return loss, {name: p - 0.1 * g for (name, p), g in zip(params.items(), tr.grad(loss, params).values())}, state
ids, targets = rng.integers(0, 20, (2, 4, 9))
native, plain = (
    tr.compile(step, executor=name)(model.parameters(), ids, targets, model.initial_state(4))
    for name in ("native", "numpy")
)
from tinygrad_rnn.compiler.native.build import library
print(library().compiler)
print(max(float(np.abs(native[1][name] - plain[1][name]).max()) for name in plain[1]))
"""


@pytest.mark.nightly
def test_plans_run_on_what_it_makes(zig, tmp_path):
    """The real one, with every other compiler hidden."""
    environment = {key: value for key, value in os.environ.items() if key not in ("CC", "HOME")}
    environment |= {"PATH": str(tmp_path / "empty"), "TINYGRAD_RNN_CACHE": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", TRAINS], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    compiler, difference = run.stdout.splitlines()
    assert compiler.startswith("clang version")
    assert float(difference) < 1e-6


@pytest.mark.nightly
@pytest.mark.parametrize("level", levels())
def test_levels_in_its_spelling(zig, tmp_path, source, level):
    library = native.load(native.build(source, tmp_path, (str(zig), "cc"), level))
    assert f"-march={level.replace('-', '_')}" in library.flags


@pytest.mark.nightly
@pytest.mark.parametrize("target", TARGETS)
def test_the_library_for_other_machines(zig, tmp_path, target, monkeypatch):
    monkeypatch.setattr(native, "_TIMEOUT", SECONDS)
    made = native._compile(native._SOURCE, tmp_path, (str(zig), "cc", "-target", target), "baseline")
    content = made.read_bytes()
    assert content.startswith(TARGETS[target])
    for name in ("tinygrad_rnn_pool", "tinygrad_rnn_replay", "tinygrad_rnn_operations", native._NOTE):
        assert name.encode() in content
    if content.startswith(b"\x7fELF"):
        assert content[18] == {"x86_64": 62, "aarch64": 183}[target.split("-")[0]]


def written(plan, arrays, workers):
    """Return a plan with its memory as replay_file.c reads it, and where each result lies in what that writes."""
    program = encode(plan, workers)
    by_python = [list(plan.flat())[piece] for piece in program.pieces if isinstance(piece, int)]
    assert not by_python
    assert all(isinstance(piece, Records) for piece in program.pieces)
    memory = [np.zeros(plan.arena_bytes, np.uint8), *(np.zeros(one.nbytes, np.uint8) for one in program.buffers)]
    for buffer, block in zip(program.buffers, memory[1:], strict=True):
        if buffer.constant is not None:
            block[:] = np.ascontiguousarray(buffer.constant).reshape(-1).view(np.uint8)
    for slot, array in zip(plan.inputs, arrays, strict=True):
        if slot.buffer in program.buffers:
            slot.array(memory[program.base(slot.buffer)])[...] = array
    numbers = [workers, len(program.pieces), len(memory), RECORD.itemsize]
    parts = [np.array(numbers, np.int64).tobytes()]
    for piece in program.pieces:
        parts += [np.array([len(piece.array), piece.room], np.int64).tobytes(), piece.array.tobytes()]
    for block in memory:
        parts += [np.array([block.nbytes], np.int64).tobytes(), block.tobytes()]
    starts = np.cumsum([0, *(block.nbytes for block in memory)])
    places = [(slot, int(starts[program.base(slot.buffer)])) for slot in plan.outputs]
    return b"".join(parts), places


@pytest.mark.nightly
@pytest.mark.parametrize("target", ["x86_64-linux-musl", "aarch64-linux-musl", "x86_64-windows-gnu"])
def test_it_computes_the_same_on_other_machines(zig, tmp_path, target):
    """A training step of an LSTM, in full on the other machine: QEMU's, or Wine's."""
    runner = {"aarch64": [shutil.which("qemu-aarch64")], "windows": [WINE]}.get(
        next((name for name in ("aarch64", "windows") if name in target), ""), []
    )
    if runner and not (runner[0] and Path(runner[0]).is_file()):
        pytest.skip(f"no {'qemu-aarch64' if 'aarch64' in target else 'wine64'} (of Debian's qemu-user and wine64)")
    layers = tr.RecurrentLayers("lstm", 6, 8, np.random.default_rng(0), layers=2)

    def step(params, xs, cotangent):
        outputs, _ = layers(xs)
        gradients = tr.grad(outputs, params, cotangent=cotangent)
        return outputs, {name: p - 0.1 * gradients[name] for name, p in params.items()}

    rng = np.random.default_rng(1)
    xs, cotangent = rng.standard_normal((3, 7, 6), np.float32), rng.standard_normal((3, 7, 8), np.float32)
    params = layers.parameters()
    program = program_of(source_of_function(step, (params, xs, cotangent), ()))
    arrays = [p.data for p in params.values()] + [xs, cotangent, *(weight.array for weight in program.weights)]
    content, places = written(program.plan(), arrays, workers=2)
    (tmp_path / "operations.h").write_text(header())
    made = tmp_path / ("replay.exe" if "windows" in target else "replay")
    command = [str(zig), "cc", "-target", target, "-O2", "-std=gnu11", "-pthread", "-fno-math-errno", "-static"]
    command += [f"-I{tmp_path}", f"-I{native._SOURCE}", str(HERE / "replay_file.c"), "-o", str(made), "-lm"]
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(tmp_path), "ZIG_LOCAL_CACHE_DIR": str(tmp_path)}
    environment |= {"WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all"}
    subprocess.run(command, check=True, env=environment, capture_output=True, timeout=SECONDS)
    run = subprocess.run([*runner, str(made)], input=content, env=environment, capture_output=True, timeout=300)
    assert run.returncode == 0, (run.returncode, run.stderr)
    outputs, updated = step(params, xs, cotangent)
    expected = [outputs.data, *(p.data for p in updated.values())]
    memory = np.frombuffer(run.stdout, np.uint8)
    for (slot, start), want in zip(places, expected, strict=True):
        assert relative_error(slot.array(memory[start:].copy()), want) < 2e-5
