"""Memory and speed of a corpus that is larger than memory, against the size of its text.

    python benchmarks/larger_than_memory.py TEXT                 # 1 MB, 100 MB and 1 GB: ten minutes, 3 GB of disk
    python benchmarks/larger_than_memory.py TEXT --sizes 1 5000  # in MB: twenty minutes, 13 GB of disk

Texts of each size are made of the paragraphs of TEXT, shuffled again and again. Each is prepared, with 5,000 words, and
used by the commands, in processes of their own; peak memory is the largest resident set that the system saw of each,
file pages included. `train` and `evaluate` are stopped after a while. "one pass" reads every window of the training
part, 20 streams by 35 steps. Then one process trains on windows from memory and on the same windows from the file
by turns, and compares processor times; the pages of the file are dropped from memory before each turn.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers.process import commit, describe_machine, environment
from report import head, save, table

import tinygrad_rnn as tr

MB = 1_000_000
RESULTS = Path(__file__).parent / "results" / "larger_than_memory"
COMMAND = [sys.executable, "-m", "tinygrad_rnn"]
PASS = (
    "import sys, tinygrad_rnn as tr; train, _ = tr.load_corpus(__import__('pathlib').Path(sys.argv[1])); "
    "[None for _ in tr.OffsetBatches(train.ids, 20, 35)]"
)


def write_text(source: bytes, path: Path, size: int) -> None:
    """Write a text of `size` bytes, of the paragraphs of another in new orders."""
    paragraphs, rng = source.strip().split(b"\n\n"), random.Random(0)
    with path.open("wb") as file:
        while (left := size - file.tell()) > 0:
            rng.shuffle(paragraphs)
            file.write((b"\n\n".join(paragraphs) + b"\n\n")[:left])


def peak(command: list[str], seconds: float | None = None) -> tuple[float, float, float]:
    """Return the peak memory in MB, the processor time and the time of a process, killed after some seconds."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        found = (0, 0, None)
        while not found[0]:
            time.sleep(0.05)
            if seconds is not None and time.perf_counter() - started > seconds:
                os.kill(process.pid, signal.SIGKILL)  # Popen.kill would wait for it
            found = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(found[1])
        if process.returncode not in (0, -signal.SIGKILL):
            errors.seek(0)
            raise SystemExit(f"{command} failed: {errors.read().decode()}")
    usage = found[2]
    return usage.ru_maxrss * 1024 / MB, usage.ru_utime + usage.ru_stime, time.perf_counter() - started


def measure(source: bytes, size: int, folder: Path, seconds: float) -> dict[str, Any]:
    """Return what a text of some bytes takes."""
    text, corpus, run = folder / "text", str(folder / "corpus"), str(folder / "run")
    write_text(source, text, size)
    found: dict[str, Any] = {"bytes": size}
    found["prepare_mb"], found["prepare_cpu_s"], found["prepare_s"] = peak(
        [*COMMAND, "prepare", str(text), "--out", corpus, "--vocab-size", "5000", "--no-progress"]
    )
    text.unlink()
    found["tokens"] = len(tr.Corpus.open(corpus))
    small = ["--hidden-size", "100", "--epochs", "1000", "--checkpoint-every", "50", "--no-progress", "--save", run]
    found["train_mb"], *_ = peak([*COMMAND, "train", corpus, *small], seconds)
    model = folder / "model"
    one = ["--hidden-size", "100", "--epochs", "1", "--max-tokens", "20000", "--no-progress", "--save", str(model)]
    peak([*COMMAND, "train", corpus, *one])
    found["evaluate_mb"], *_ = peak([*COMMAND, "evaluate", str(model), corpus], seconds)
    found["pass_mb"], found["pass_cpu_s"], _ = peak([sys.executable, "-c", PASS, corpus])
    return found


def speed(corpus: Path, hidden_size: int, updates: int, turns: int) -> dict[str, Any]:
    """Return processor times of training on windows from memory and from a mapped file, by turns."""
    whole = tr.Corpus.open(corpus)
    ids = whole.ids[:10_000_000]
    windows = {"memory": tr.OffsetBatches(np.array(ids), 20, 35), "file": tr.OffsetBatches(ids, 20, 35)}
    model = tr.RNNLM(len(whole.vocabulary), hidden_size, hidden_size, np.random.default_rng(0))
    step = tr.TrainStep(model, lambda model, batch, state: model.loss(*batch, state), tr.SGD(lr=0.01), clip=1.0)
    tr.run_epoch(step, itertools.islice(windows["memory"], 3), model.initial_state(20))
    times: dict[str, list[float]] = {name: [] for name in windows}
    for _ in range(turns):
        for name, batches in windows.items():
            with (corpus / "ids.npy").open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            started = time.process_time()
            result = tr.run_epoch(step, itertools.islice(batches, updates), model.initial_state(20))
            times[name].append((time.process_time() - started) / (700 * result.steps))
    rates = {name: 1 / min(seconds) for name, seconds in times.items()}
    about = {"level": whole.level, "V": len(whole.vocabulary), "H": hidden_size}
    return {**about, **rates, "ratio": rates["file"] / rates["memory"]}


def report(found: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    rows, least = [], found["sizes"][0]
    for one in found["sizes"]:
        cells = [f"{one['bytes'] / MB:,.0f} MB", f"{one['tokens'] / 1e6:,.1f} M"]
        for name in ("prepare", "train", "evaluate", "pass"):
            over = one[f"{name}_mb"] - least[f"{name}_mb"]
            cells.append(f"{one[f'{name}_mb']:.0f}" + (f" ({over:+.0f})" if one is not least else ""))
        cells.append(f"{one['bytes'] / MB / one['prepare_cpu_s']:.1f} MB/s")
        cells.append(f"{one['tokens'] / 1e6 * 0.9 / one['pass_cpu_s']:.0f} M tokens/s")
        rows.append(cells)
    columns = ["text", "tokens", "prepare, MB", "train, MB", "evaluate, MB", "one pass, MB", "prepare", "one pass"]
    text = "# A corpus that is larger than memory\n\n" + head(found) + "\n\n"
    text += (
        "Peak resident memory of each process (and how much that is above the first row), and speeds per second of\n"
    )
    text += "the processor. `train` and `evaluate` were stopped after " + f"{found['seconds']:.0f} seconds.\n\n"
    text += table(columns, rows)
    text += (
        "\nTraining on windows from memory and from the file, by turns: tokens per second of the processor, the best\n"
    )
    text += f"of {found['turns']} turns of {found['updates']} updates each (20 streams, 35 steps).\n\n"
    speeds = [
        [one["level"], one["V"], one["H"], f"{one['memory']:,.0f}", f"{one['file']:,.0f}", f"{one['ratio']:.3f}"]
        for one in found["speed"]
    ]
    return text + table(["level", "V", "H", "memory", "file", "file / memory"], speeds)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a text, of which the others are made")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1, 100, 1000], metavar="MB")
    parser.add_argument("--seconds", type=float, default=60, help="after which train and evaluate are stopped")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--folder", type=Path, help="where there is room for three times the largest text")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    source = args.text.read_bytes()
    found: dict[str, Any] = {"seconds": args.seconds, "turns": args.turns, "updates": args.updates}
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        found["sizes"] = []
        for size in args.sizes:
            one = measure(source, int(size * MB), folder, args.seconds)
            print(one, flush=True)
            found["sizes"].append(one)
            for name in ("corpus", "run", "model"):
                shutil.rmtree(folder / name)
        found["speed"] = []
        write_text(source, folder / "text", 50 * MB)
        for level, hidden_size in (("word", 200), ("char", 64)):
            tr.data.prepare_corpus([folder / "text"], folder / level, level)
            found["speed"].append(speed(folder / level, hidden_size, args.updates, args.turns))
            print(found["speed"][-1], flush=True)
    finally:
        shutil.rmtree(folder)
    env = environment(int(os.environ.get("OPENBLAS_NUM_THREADS", 1)), None)
    found["machine"] = describe_machine(env)
    found["versions"], found["commit"] = [f"tinygrad_rnn {tr.__version__}"], commit(Path(__file__).parents[1])
    save(found, report(found), args.out)


if __name__ == "__main__":
    main()
