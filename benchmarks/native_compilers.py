"""The C library as different compilers make it: the time of a training step, of the build, and the size.

    python benchmarks/native_compilers.py                      # prints a Markdown table, writes it to results/

Forward, backward and SGD update, float32, the configurations of train_step.py, one thread. Each compiler that is there
has a process of its own, and the processes take turns in rounds; a figure is the least processor time of a step over
that of the first compiler, so above 1 is slower. "zig" is the compiler of the extra [native].
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe, machine
from peers.task import CONFIGS
from report import save, table

from tinygrad_rnn.compiler.native import build

RESULTS = Path(__file__).parent / "results" / "native_compilers"


def compilers() -> dict[str, str]:
    """Return the commands of the compilers that are there, by name."""
    found = {name: path for name in ("gcc", "clang") if (path := shutil.which(name))}
    carried = build._carried_compiler()
    return found | ({} if carried is None else {"zig": f"{carried} cc"})


def measured(command: str, cache: str, names: list[str], seconds: float) -> dict[str, float]:
    """Return the least milliseconds of a step of each configuration, in a process of its own."""
    environment = os.environ | {"CC": command, "TINYGRAD_RNN_CACHE": cache, "OPENBLAS_NUM_THREADS": "1"}
    arguments = [sys.executable, __file__, "--worker", "--seconds", str(seconds), "--configs", *names]
    run = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def work(names: list[str], seconds: float) -> None:
    """Print the least milliseconds of a step, as JSON."""
    from compile_passes import least, stepper  # it loads NumPy, which reads the number of threads

    found = {}
    for name in names:
        step, _ = stepper(CONFIGS[name], (), "native")
        step()
        found[name] = 1000 * least([step], seconds)[0]
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", choices=list(CONFIGS), default=["book", "words-lstm", "char", "long"])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each step in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.configs, arguments.seconds)
        return
    rows, there = {}, compilers()
    with tempfile.TemporaryDirectory() as folder:
        for name, command in there.items():
            start = time.perf_counter()
            path = build.build(build._SOURCE, Path(folder, "tinygrad_rnn", name), command.split())
            rows[name] = {
                "build_s": time.perf_counter() - start,
                "kB": path.stat().st_size / 1000,
                "compiler": build.load(path).compiler,
                "ms": dict.fromkeys(arguments.configs, float("inf")),
            }
        for _ in range(arguments.rounds):
            for name, command in there.items():
                found = measured(command, folder, arguments.configs, arguments.seconds)
                rows[name]["ms"] = {key: min(ms, found[key]) for key, ms in rows[name]["ms"].items()}
    first = next(iter(rows.values()))["ms"]
    lines = [
        (
            name,
            row["compiler"],
            *(f"{row['ms'][key] / first[key]:.2f}" for key in arguments.configs),
            f"{row['build_s']:.0f}",
            f"{row['kB']:.0f}",
        )
        for name, row in rows.items()
    ]
    columns = ("compiler", "version", *(f"{key}, ratio" for key in arguments.configs), "build, s", "size, kB")
    text = f"# The C library, by compiler\n\n{describe()}. Ratios to the first row of the processor time of a step.\n\n"
    save({"machine": machine(), "compilers": rows}, text + table(columns, lines), RESULTS)


if __name__ == "__main__":
    main()
