"""Runs that are killed with -9 and resumed end with the bits of a run that was never stopped."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tinygrad_rnn.training import load_model
from tinygrad_rnn.training.files.archive import digest

LINES = "to be or not to be that is the question\nwhether tis nobler in the mind to suffer\n"
SETTINGS = ["--hidden-size", "16", "--batch-size", "4", "--bptt", "7", "--epochs", "3", "--dropout", "0.3"]
SETTINGS += ["--checkpoint-every", "10", "--no-progress", "--layers", "2", "--executor", "numpy"]
TIMES = {"seconds", "tokens_per_s"}  # all else in the metrics is a result

# Repetitions of the lines, and what decides differently about plans, draws and schedules.
WAYS = {
    "default": (150, []),
    "policy": (100, ["--truncation", "chunked:5", "--schedule", "cosine", "--warmup", "9"]),
    "recorded anew": (40, ["--no-compile", "--optimizer", "momentum"]),
    "drawn cuts": (20, ["--truncation", "randomized:0.2", "--no-compile"]),
    "windows": (10, ["--truncation", "windowed:6/2"]),
    "carried": (
        60,
        ["--truncation", "snap:1", "--no-compile", "--cell", "rnn", "--layers", "1", "--checkpoint-every", "5"],
    ),
}


def run(folder, *arguments):
    """Start the command in a process of its own."""
    command = [sys.executable, "-m", "tinygrad_rnn", "train", *arguments]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def results(folder):
    """Return the digests of the model's arrays, and the metrics without the times."""
    model = load_model(folder).model
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
    return {name: digest(p.data) for name, p in model.parameters().items()}, metrics


def reached(process, beginning):
    """Wait for a line that begins so; return when it came."""
    for line in process.stdout:
        if line.lstrip().startswith(beginning):
            break
    return time.monotonic()


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoints/checkpoint-*"))


def killed_and_resumed(folder, settings, rng, kills, seconds):
    """Run into run/, killing it up to that many times at random moments; return the files that each kill left."""
    table, resumes, trained = [], False, False
    while True:
        begin = ["play.txt", *SETTINGS, *settings, "--save", "run", "--force"]
        process = run(folder, *(["--resume", "run", "--no-progress"] if resumes else begin))
        deadline = reached(process, "epoch ") + rng.uniform(0, seconds)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.002)
        if process.poll() is not None or trained or len(table) == kills:
            finished(process)
            return table
        process.kill()
        process.communicate()
        table.append(sorted(path.name for path in Path(folder, "run").rglob("*") if path.is_file()))
        resumes = bool(checkpoints(folder / "run"))
        trained = checkpoints(folder / "run")[-1:] == checkpoints(folder / "whole")[-1:]


def compared(tmp_path, way, seed, kills):
    """Compare a run that is killed, each time within the next half of it, with one that is not; return the table."""
    repeats, settings = WAYS[way]
    (tmp_path / "play.txt").write_text(LINES * repeats)
    whole = run(tmp_path, "play.txt", *SETTINGS, *settings, "--save", "whole")
    seconds = -reached(whole, "epoch ") + reached(whole, "best epoch")
    finished(whole)
    table = killed_and_resumed(tmp_path, settings, np.random.default_rng(seed), kills, seconds / 2)
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    return table


def moment(files):
    """Return what a run was about when it was killed, by the files that it left."""
    if any(name.endswith(".part") for name in files):
        return "while a file was half written"
    if not any(name.startswith("checkpoint-") for name in files):
        return "before the first checkpoint"
    return "later" if "metrics.jsonl" in files else "in the first epoch"


@pytest.mark.nightly
def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    """All ways run nightly, with more kills."""
    assert len(compared(tmp_path, "drawn cuts", seed=1, kills=2)) == 2


@pytest.mark.nightly
@pytest.mark.parametrize("way", WAYS)
def test_ten_kills_each(tmp_path, way):
    """Sixty in all. Prints a table: run with -s."""
    table, seed = [], 0
    while len(table) < 10:
        folder = tmp_path / str(seed)
        folder.mkdir()
        table += compared(folder, way, seed, kills=10 - len(table))
        seed += 1
    print(f"{way:>14}: {seed} runs, {len(table)} kills, {dict(Counter(map(moment, table)))}")
    for files in table:
        print(" ", ", ".join(files))
