"""The command that searches settings of a training run."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..config import TrainConfig, read_toml
from ..data.corpus import Corpus
from ..errors import ConfigError
from ..exits import interrupted_by, status_of
from ..training.inference.evaluation import perplexity, written
from ..training.language.runfiles import numbered
from ..training.language.search import parse_search
from ..training.language.sweep import Found, Sweep
from ..training.runs.interrupt import interruptible
from .printing import row
from .texts import training_texts
from .train import given_settings, resolved, run_name

_SWEEPS = "sweeps"
_DATA = ("corpus", "level", "min_count", "max_tokens", "held_out", "valid")


def sweep(arguments: argparse.Namespace) -> int:
    """Run the trials of a sweep, in this process or in several, and print a table; return 0."""
    found = _opened(arguments)
    if arguments.worker is not None:
        return _worked(arguments, found)
    row("sweep", f"{found.folder}, {arguments.trials} trials, {found.sampler} sampler, {found.pruner} pruner")
    for name, text in found.search.items():
        row("", f"{name} {text}")
    if arguments.processes == 1:
        found.work(arguments.trials, _Texts(), _print_trial)
    else:
        _in_processes(arguments, found)
    _print_table(arguments, found)
    return 0


def _worked(arguments: argparse.Namespace, found: Sweep) -> int:
    """Run trials in a process that another one has started, which says what a signal did; return the exit status."""
    try:
        found.work(arguments.trials, _Texts(), _print_trial, worker=arguments.worker)
    except KeyboardInterrupt as error:
        return status_of(error)
    return 0


def _opened(arguments: argparse.Namespace) -> Sweep:
    """Return the sweep in the folder that is named, or a new one."""
    search = _search(arguments)
    folder = Path(arguments.out) if arguments.out else None
    there = None if folder is None else Sweep.open(folder)
    if there is not None:
        wanted = {**given_settings(arguments), **({"search": search} if search else {})}
        wanted |= {name: value for name in ("sampler", "pruner") if (value := getattr(arguments, name)) is not None}
        have = {**vars(there.config), "search": {**there.search}, "sampler": there.sampler, "pruner": there.pruner}
        differing = sorted(name for name, value in wanted.items() if have[name] != value)
        if differing:
            raise ConfigError(
                f"sweep: {folder} is a sweep with another {', '.join(differing)}; leave them out to go on with it, or "
                "choose another folder"
            )
        return there
    config = resolved(arguments)
    for name in ("corpus", "valid", "test"):
        if getattr(config, name) == "-":
            raise ConfigError(f"sweep: {name} must be a file, since each trial reads it; got '-', stdin")
    training_texts(config)  # errors in the text come before the first trial
    folder = folder or next(path for path in numbered(_SWEEPS, run_name(config)) if not path.exists())
    made = Sweep(folder, config, search, arguments.sampler or "tpe", arguments.pruner or "median")
    made.create()
    return made


def _search(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the search space of a file and of the flags, which have the last word."""
    found = {} if arguments.space is None else {name: str(text) for name, text in read_toml(arguments.space).items()}
    return found | parse_search(arguments.search or ())


class _Texts:
    """The texts of configurations; the last ones are kept, since most trials read the same."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._parts: tuple[Corpus, Corpus] | None = None

    def __call__(self, config: TrainConfig) -> tuple[Corpus, Corpus]:
        key = tuple(getattr(config, name) for name in _DATA)
        if self._parts is None or key != self._key:
            self._key, self._parts = key, training_texts(config)
        return self._parts


def _in_processes(arguments: argparse.Namespace, found: Sweep) -> None:
    """Run the trials in processes of their own; a signal that ends this one is passed on to them."""
    command = [sys.executable, "-m", "tinygrad_rnn", "sweep", "--out", str(found.folder)]
    command += ["--trials", str(arguments.trials), "--threads", str(arguments.threads or 1)]
    with _started([[*command, "--worker", str(number)] for number in range(arguments.processes)]) as processes:
        with interruptible() as interrupt:
            while any(process.poll() is None for process in processes) and interrupt.signal is None:
                time.sleep(0.1)
        if interrupt.signal is not None:
            raise interrupted_by(interrupt.signal)
    failed = [process for process in processes if process.returncode]
    if failed:
        raise ConfigError(f"sweep: {len(failed)} of {len(processes)} processes ended with an error; see above")


@contextlib.contextmanager
def _started(commands: list[list[str]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start processes; at the end ask those that still run to end, and wait for them."""
    processes = [subprocess.Popen(command) for command in commands]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait()


def _print_trial(trial: Found) -> None:
    print(_line(trial), flush=True)


def _line(trial: Found) -> str:
    settings = ", ".join(f"{name} {_short(value)}" for name, value in trial.settings.items())
    loss = "-" if trial.nats is None else written(perplexity(trial.nats), 1)
    reason = f" ({trial.reason})" if trial.reason else ""
    return f"{trial.number:>5}  {trial.state:<8}  {trial.epochs:>6}  {loss:>12}  {settings}{reason}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _print_table(arguments: argparse.Namespace, found: Sweep) -> None:
    trials = found.found()
    if arguments.json:
        print(json.dumps([vars(trial) for trial in trials]))
        return
    print(f"\n{'trial':>5}  {'state':<8}  {'epochs':>6}  {'held-out ppl':>12}  settings")
    for trial in trials:
        print(_line(trial))
    best = trials[0] if trials and trials[0].state == "complete" else None
    if best is not None:
        files = found.files(best.number)
        row("best", f"trial {best.number}, {files.model}")
        row("again", f"tinygrad-rnn train --config {shlex.quote(str(files.config))}")
