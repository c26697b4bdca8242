"""One step of an LSTM as C99, against `tr.compile` in Python, ONNX Runtime, PyTorch and TensorFlow Lite.

    python benchmarks/export_c.py            # about three minutes, most of it in the C compiler
    python benchmarks/export_c.py --quick
    python benchmarks/export_c.py --draw     # the tables again, from the kept JSON
    python benchmarks/export_c.py --model models/book --text other.txt    # bits per character with weights in 8 bits

D = H = 128 and 512, float32, random weights, N = 1 for the latency of a step and N = 16 for throughput. The C is
compiled with `-O3 -march=native`, and called in a loop in C, as a C program would; the others are called from Python.
ONNX Runtime gets one LSTM node; "ours" is the native executor; TensorFlow Lite ("tflite", with XNNPACK;
"tflite-micro", with its kernels for any machine) gets the cell as operators, in float32. All have one thread and take
turns; each number is the least processor time of a step in microseconds. Size on disk is that of what must be
shipped: the compiled C with its weights; the model file and the runtime's libraries for the others. Start-up is the
time of a process from its start to the first step's end, the least of several. Needs gcc or clang, the extra [onnx],
and PyTorch; ai-edge-litert and tflite-micro are measured where they are installed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers.lite import in_lite, in_micro
from peers.process import commit, describe_machine, environment
from report import brief, head, save, table

import tinygrad_rnn as tr
from tinygrad_rnn.training import load_model

RESULTS = Path(__file__).parent / "results" / "export_c"
SIZES = (128, 512)
STREAMS = (1, 16)
Record = dict[str, Any]

LOOP = """
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

double spent(const float *weights, long steps);

double spent(const float *weights, long steps)
{
    static float x[MODEL_X_SIZE], state[MODEL_STATE_SIZE], y[MODEL_Y_SIZE];
    clock_t start = clock();
    model_init(state);
    for (long step = 0; step < steps; step++) model_step(weights, x, state, y);
    return (double)(clock() - start) / CLOCKS_PER_SEC / (double)steps;
}

#ifdef PROGRAM
int main(void)
{
    float *weights = malloc(MODEL_WEIGHTS_BYTES);
    FILE *file = fopen("model.bin", "rb");
    if (!file || fread(weights, 1, MODEL_WEIGHTS_BYTES, file) != MODEL_WEIGHTS_BYTES) return 1;
    return spent(weights, 1) < 0;
}
#endif
"""


def cell_of(H: int) -> tr.LSTMCell:
    """Return the cell that is measured."""
    cell = tr.LSTMCell(H, H, np.random.default_rng(0))
    for part in cell.parameters().values():
        part.data = (np.random.default_rng(1).standard_normal(part.shape) * 0.05).astype(np.float32)
    return cell


def compiled(H: int, N: int, quantize: str | None, folder: Path) -> Callable[[int], float]:
    """Return a function of a number of steps: the seconds of processor time of one of them, in C."""
    tr.export(cell_of(H), folder / "model.c", np.zeros((N, H), np.float32), weights="blob", quantize=quantize)
    (folder / "loop.c").write_text(LOOP)
    flags = ["cc", "-O3", "-march=native", str(folder / "loop.c"), str(folder / "model.c")]
    subprocess.run([*flags, "-shared", "-fPIC", "-o", str(folder / "model.so")], check=True)
    subprocess.run([*flags, "-DPROGRAM", "-o", str(folder / "model")], check=True)
    spent = ctypes.CDLL(str(folder / "model.so")).spent
    spent.restype = ctypes.c_double
    weights = ctypes.create_string_buffer((folder / "model.bin").read_bytes())
    spent.argtypes = [ctypes.c_void_p, ctypes.c_long]
    return lambda steps: float(spent(ctypes.addressof(weights), steps))


def repeated(call: Callable[[], object]) -> Callable[[int], float]:
    """Return a function of a number of steps: the seconds of processor time of one of them, called from Python."""

    def spent(steps: int) -> float:
        start = time.process_time()
        for _ in range(steps):
            call()
        return (time.process_time() - start) / steps

    return spent


def in_onnxruntime(H: int, N: int, folder: Path) -> Callable[[], object]:
    """Return a call of ONNX Runtime on the file that `tr.export` writes, one LSTM node."""
    import onnxruntime

    x, state = np.zeros((N, H), np.float32), cell_of(H).initial_state(N)
    tr.export(cell_of(H), folder / "model.onnx", x, state)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    given = dict(zip([one.name for one in session.get_inputs()], [x, *map(np.asarray, state)], strict=True))
    return lambda: session.run(None, given)


def in_pytorch(H: int, N: int) -> Callable[[], object]:
    """Return a call of PyTorch's cell."""
    import torch

    torch.set_num_threads(1)
    cell, x, state = torch.nn.LSTMCell(H, H), torch.zeros(N, H), (torch.zeros(N, H), torch.zeros(N, H))

    def call() -> object:
        with torch.inference_mode():
            return cell(x, state)

    return call


def peers(H: int, N: int, folder: Path) -> dict[str, Callable[[int], float]]:
    """Return what takes turns, by name."""
    found: dict[str, Callable[[int], float]] = {}
    for name, quantize in (("C", None), ("C, 8 bits", "int8")):
        place = folder / f"{quantize}{H}{N}"
        place.mkdir()
        found[name] = compiled(H, N, quantize, place)
    cell = cell_of(H)
    step = tr.compile(lambda x, state: cell(x, state), threads=1)
    x, state = np.zeros((N, H), np.float32), cell.initial_state(N)
    found["ours"] = repeated(lambda: step(x, state))
    if importlib.util.find_spec("onnxruntime"):
        found["onnxruntime"] = repeated(in_onnxruntime(H, N, folder))
    if importlib.util.find_spec("torch"):
        found["pytorch"] = repeated(in_pytorch(H, N))
    if importlib.util.find_spec("ai_edge_litert"):
        found["tflite"] = repeated(in_lite(cell, N))
    if importlib.util.find_spec("tflite_micro"):
        found["tflite-micro"] = repeated(in_micro(cell, N))
    return found


def times(args: argparse.Namespace, folder: Path) -> list[Record]:
    """Return the times of all sizes."""
    records = []
    for H in SIZES:
        for N in STREAMS:
            parts = peers(H, N, folder)
            best = dict.fromkeys(parts, math.inf)
            steps = max(10, 40_000 // (H * N // 16)) // (10 if args.quick else 1)
            for _ in range(3 if args.quick else 15):
                for name, spent in parts.items():
                    best[name] = min(best[name], spent(steps // 20 + 1 if name == "tflite-micro" else steps))
            records.append({"H": H, "N": N, "microseconds": {name: 1e6 * value for name, value in best.items()}})
            print(H, N, {name: round(1e6 * value, 1) for name, value in best.items()}, flush=True)
    return records


PROGRAMS = {
    "ours": "import numpy as np, tinygrad_rnn as tr; c = tr.load('cell.npz'); "
    "tr.compile(lambda x, s: c(x, s))(np.zeros((1, 128), np.float32), c.initial_state(1))",
    "onnxruntime": "import numpy as np, onnxruntime as o; s = o.InferenceSession('model.onnx'); "
    "z = np.zeros; s.run(None, {i.name: z([1, 128], np.float32) for i in s.get_inputs()})",
    "pytorch": "import torch; z = torch.zeros(1, 128); torch.nn.LSTMCell(128, 128)(z, (z, z))",
}


def starts(args: argparse.Namespace, folder: Path) -> list[Record]:
    """Return seconds from the start of a process to its first step (H = 128), and bytes on disk."""
    place = folder / "start"
    place.mkdir()
    compiled(128, 1, None, place)
    tr.save(place / "cell.npz", cell_of(128))
    in_onnxruntime(128, 1, place)
    commands = {"C": ["./model"], **{name: [sys.executable, "-c", text] for name, text in PROGRAMS.items()}}
    sizes = {
        "C": (place / "model").stat().st_size + (place / "model.bin").stat().st_size,
        "ours": _folder_bytes("tinygrad_rnn") + _folder_bytes("numpy") + (place / "cell.npz").stat().st_size,
        "onnxruntime": _folder_bytes("onnxruntime") + (place / "model.onnx").stat().st_size,
        "pytorch": _folder_bytes("torch"),
    }
    best = dict.fromkeys(commands, math.inf)
    for _ in range(2 if args.quick else 5):
        for name, command in commands.items():
            start = time.perf_counter()
            done = subprocess.run(command, cwd=place, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            best[name] = min(best[name], time.perf_counter() - start)
    return [{"name": name, "seconds": best[name], "bytes": sizes[name]} for name in commands]


def _folder_bytes(package: str) -> int:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return 0
    return sum(file.stat().st_size for file in Path(spec.origin).parent.rglob("*") if file.is_file())


def bits(path: str, text: str, folder: Path) -> Record:
    """Return the bits per character of a model over a text, and the flash: as it is, and with weights in 8 bits."""
    saved = load_model(path)
    ids = saved.vocabulary.encode(list(Path(text).read_text(encoding="utf-8")))
    found: Record = {"characters": len(ids) - 1, "parameters": saved.model.parameter_count()}
    for name, quantize in (("float32", None), ("int8", "int8")):
        tr.export(saved.model, folder / "lm.c", quantize=quantize)
        library = folder / f"{name}{saved.model.parameter_count()}.so"  # of the same name it would not be loaded again
        subprocess.run(["cc", "-O3", "-shared", "-fPIC", str(folder / "lm.c"), "-o", str(library)], check=True)
        program = ctypes.CDLL(str(library))
        sizes = dict(line.split()[1:] for line in (folder / "lm.h").read_text().splitlines() if line.count(" ") == 2)
        state, y = np.zeros(int(sizes["LM_STATE_SIZE"]), np.float32), np.zeros(len(saved.vocabulary), np.float32)
        program.lm_init(state.ctypes.data_as(ctypes.c_void_p))
        nats = 0.0
        for one, following in zip(ids[:-1].astype(np.int32), ids[1:], strict=True):
            x = ctypes.c_int32(int(one))
            program.lm_step(ctypes.byref(x), *(part.ctypes.data_as(ctypes.c_void_p) for part in (state, y)))
            top = y.max()
            nats += float(top + np.log(np.exp(y - top).sum()) - y[following])
        found[name] = {"bits": nats / math.log(2) / (len(ids) - 1), "flash": int(sizes["LM_FLASH_BYTES"])}
    return found


def report(found: dict[str, Any]) -> str:
    """Return the tables."""
    names = list(found["times"][0]["microseconds"])
    rows = [
        [record["H"], record["N"], *(brief(record["microseconds"][name]) for name in names)]
        for record in found["times"]
    ]
    reference = "onnxruntime"
    ratios = [
        [
            record["H"],
            record["N"],
            *(brief(record["microseconds"][reference] / record["microseconds"][name]) for name in names),
        ]
        for record in found["times"]
        if reference in names
    ]
    started = [[one["name"], f"{1e3 * one['seconds']:.0f} ms", f"{one['bytes']:,}"] for one in found["starts"]]
    text = [
        "# One step of an LSTM as C99\n",
        f"{head(found)} Written by `benchmarks/export_c.py`, which says what is measured and how.\n",
        "## Processor time of a step: microseconds\n",
        table(["H", "N", *names], rows),
        "## How many times faster than ONNX Runtime\n",
        table(["H", "N", *names], ratios),
        "## From the start of a process to its first step, and bytes on disk; H = 128\n",
        table(["", "start-up", "bytes"], started),
    ]
    for one in found.get("bits", []):
        plain, small = one["float32"], one["int8"]
        text.append(
            f"A character model of {one['parameters']:,} parameters over {one['characters']:,} characters that it was "
            f"not trained on: {plain['bits']:.4f} bits per character in float32 ({plain['flash']:,} bytes of "
            f"constants), {small['bits']:.4f} in 8 bits ({small['flash']:,}): {small['bits'] - plain['bits']:+.4f}.\n"
        )
    return "\n".join(text)


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--text")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.draw:
        found = json.loads(args.out.with_suffix(".json").read_text(encoding="utf-8"))
    else:
        env = environment(1, None)
        versions = [
            f"{name} {__import__(name).__version__}"
            for name in ("onnxruntime", "torch", "tinygrad_rnn", "ai_edge_litert")
            if importlib.util.find_spec(name)
        ]
        with tempfile.TemporaryDirectory() as folder:
            found = {
                "machine": describe_machine(env),
                "versions": versions,
                "commit": commit(Path(__file__).parents[1]),
                "times": times(args, Path(folder)),
                "starts": starts(args, Path(folder)),
                "bits": [bits(path, args.text, Path(folder)) for path in args.model],
            }
    save(found, report(found), args.out)


if __name__ == "__main__":
    main()
