"""The command that trains a language model."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from ..config import TrainConfig, config_file, read_toml, ready_configs
from ..data.corpus import Corpus, unigram_nats
from ..data.text import Level
from ..errors import ConfigError, CorpusError
from ..parallel.group import Group
from ..training.files.checkpoints import Checkpoints
from ..training.inference.evaluation import evaluate, perplexity, written
from ..training.inference.generation import generate as generate_ids
from ..training.language.build import make_optimizer, named_executor
from ..training.language.modelfile import init_from
from ..training.language.records import EpochRecord, RunResult, epoch_record
from ..training.language.runfiles import RunFiles, numbered, save_curve
from ..training.language.trainer import LanguageTrainer, Notes
from ..training.loop.streams import stream
from ..training.runs.callbacks import Callback
from ..training.runs.records import Record
from ..training.runs.writers import CSVMetrics, TensorBoard
from .printing import describe, note, readable, row, score_text
from .processes import of_this_run
from .texts import called, corpus_at, line_start, prepared_settings, training_texts

Texts: TypeAlias = tuple[Corpus, Corpus]
_RUNS = "runs"
_OTHER_FORMATS = frozenset(
    {".pt", ".pth", ".ckpt", ".pkl", ".bin", ".h5", ".npy", ".onnx", ".c", ".py", ".wasm", ".html"}
)
_UPDATES = {
    "native": "compiled, replayed by the C library",
    "numpy": "compiled, replayed by NumPy",
    None: "recorded anew for each window",
}


# Settings that a resumed run may change: its numbers depend on all others.
_RESUMABLE = frozenset({"corpus", "epochs", "patience", "checkpoint_every", "valid", "test"})


def train(arguments: argparse.Namespace) -> int:
    """Train a model; return 128 and the signal's number if one ended it, else 0."""
    if arguments.config == "list":
        for name, headline in ready_configs().items():
            print(f"{name:<15} {headline}")
        return 0
    if arguments.save is not None:
        _check_place(arguments.save)
    with of_this_run() as group:
        if arguments.resume is not None:
            return _resume(arguments, group)
        config = resolved(arguments)
        if arguments.repeat > 1:
            return _repeat(arguments, config, group)
        parts = training_texts(config)
        if arguments.dry_run:
            return _dry_run(arguments, config, parts, group)
        return _run(arguments, config, parts, group)[0]


def _check_place(path: str) -> None:
    """Check that --save does not ask for a format that `train` does not write; a folder may be called anything else."""
    expected = "train: --save must be a folder, or a model file ending with .npz or .safetensors, got"
    if not path:
        raise ConfigError(f"{expected} an empty text")
    if Path(path).suffix.lower() in _OTHER_FORMATS and not Path(path).is_dir():
        raise ConfigError(f"{expected} {path!r}; export writes a trained model in other formats")


def _run(arguments: argparse.Namespace, config: TrainConfig, parts: Texts, group: Group) -> tuple[int, RunResult]:
    """Train in a folder of its own, and print the result; return the exit code and the result."""
    if arguments.save:
        taken: AbstractContextManager[RunFiles] = RunFiles.at(arguments.save, arguments.force).taken()
    else:
        taken = RunFiles.fresh(_RUNS, run_name(config))
    with _held_by_first(taken, group) as files:
        trainer = _trainer(arguments, config, parts, files, group)
        if config.init:
            for name in init_from(config.init, trainer.model, trainer.vocabulary):
                note(f"{name} is not in {config.init} in this shape: it starts with fresh weights")
        baseline = _print_start(trainer, parts[0])
        with np.errstate(all="ignore"):  # the run itself checks that its values are finite
            result = trainer.run()
        return _print_result(trainer, result, files, baseline), result


@contextmanager
def _held_by_first(taken: AbstractContextManager[RunFiles], group: Group) -> Iterator[RunFiles]:
    """Let the first process hold the files of a run; yield them in all."""
    with ExitStack() as held:
        files = group.first(lambda: held.enter_context(taken))
        model = group.share(None if files is None else files.model)
        assert model is not None
        yield RunFiles(model) if files is None else files


def _resume(arguments: argparse.Namespace, group: Group) -> int:
    """Continue a run that was stopped."""
    files = RunFiles.at(arguments.resume, force=True)
    snapshot = Checkpoints(files.checkpoints).latest()
    if snapshot is None:
        raise ConfigError(f"train: there is no checkpoint in {files.checkpoints}; leave out --resume to start a run")
    given = given_settings(arguments)
    if others := sorted(given.keys() - _RESUMABLE):
        flags = ", ".join("--" + name.replace("_", "-") for name in others)
        raise ConfigError(f"train: --resume goes on with the settings of the run; leave out {flags}")
    if arguments.config or arguments.save or arguments.force or arguments.dry_run or arguments.repeat > 1:
        raise ConfigError("train: --resume goes with neither --config, --save, --force, --dry-run nor --repeat")
    config = TrainConfig.from_mapping(cast(Notes, snapshot["notes"])["config"] | given, "train")
    parts = _same_texts(config)
    with _held_by_first(files.taken(), group) as taken:
        trainer = _trainer(arguments, config, parts, taken, group).resume()
        row("resumed", f"after {trainer.trainer.run.updates:,} updates")
        baseline = _print_start(trainer, parts[0])
        with np.errstate(all="ignore"):
            result = trainer.run()
        return _print_result(trainer, result, taken, baseline)


def _same_texts(config: TrainConfig) -> Texts:
    """Return the texts of a run that goes on."""
    try:
        return training_texts(config)
    except CorpusError as error:
        if "-" not in (config.corpus, config.valid):
            raise
        raise CorpusError(
            f"train: {error}; the run was trained on a text from stdin: pass the same text there again, or name a file "
            "with it beside --resume"
        ) from error


def _repeat(arguments: argparse.Namespace, config: TrainConfig, group: Group) -> int:
    """Train with several seeds, and print the mean and the standard deviation of the results."""
    if arguments.save or arguments.dry_run:
        raise ConfigError("train: --repeat makes a folder for each seed in runs/; leave out --save and --dry-run")
    found: list[float] = []
    parts = training_texts(config)  # read once: it may be stdin
    for seed in range(config.seed, config.seed + arguments.repeat):
        row("seed", str(seed))
        each = config.replace(seed=seed)
        code, result = _run(arguments, each, parts, group)
        found.append(result.best.valid_perplexity)
        if code:
            return code
        print()
    deviation = float(np.std(found, ddof=1))
    row("held out", f"perplexity {np.mean(found):.2f}, standard deviation {deviation:.2f} over {len(found)} seeds")
    return 0


def _dry_run(arguments: argparse.Namespace, config: TrainConfig, parts: Texts, group: Group) -> int:
    files = RunFiles.at(arguments.save or _free_folder(config), arguments.force)
    files.check()
    trainer = _trainer(arguments, config, parts, files, group)
    _print_plan(trainer, parts[0])
    row("memory", _memory(trainer))
    row("save to", f"{files.model} (dry run: nothing was written)")
    print("\n" + config.to_toml(), end="")
    return 0


def _trainer(
    arguments: argparse.Namespace, config: TrainConfig, parts: Texts, files: RunFiles, group: Group
) -> LanguageTrainer:
    callbacks: list[Callback] = []  # what a run has begun to write it goes on with when it is resumed
    if arguments.csv or files.csv.exists():
        callbacks.append(CSVMetrics(files.csv, row=_values, force=True))
    if arguments.tensorboard or files.tensorboard.exists():
        callbacks.append(TensorBoard(files.tensorboard, row=_values))
    return LanguageTrainer(
        *parts,
        config,
        files=files,
        on_epoch=_print_epoch,
        callbacks=callbacks,
        progress=not arguments.no_progress,
        comm=group,
    )


def _print_start(trainer: LanguageTrainer, train_part: Corpus) -> float:
    """Print what will be done, and the head of the table of epochs; return the perplexity of the unigram model."""
    baseline = _print_plan(trainer, train_part)
    row("updates", _UPDATES[trainer.executor])
    if (size := trainer.trainer.group.size) > 1:
        row("processes", f"{size}, which divide the {trainer.config.batch_size} streams; they send {_sent(trainer)}")
    print(
        f"\n{'epoch':>5}  {'train ppl':>9}  {'held-out ppl':>12}  {'lr':>8}  {'tokens/s':>8}  {'seconds':>7}",
        flush=True,
    )
    return baseline


def _sent(trainer: LanguageTrainer) -> str:
    exchange = trainer.config.exchange
    return exchange if exchange == "gradients" else f"gradients as {exchange}"


def _values(record: Record) -> dict[str, object]:
    """Return the values of an epoch by their names in metrics.jsonl."""
    return dataclasses.asdict(epoch_record(record))


def _print_result(trainer: LanguageTrainer, result: RunResult, files: RunFiles, baseline: float) -> int:
    """Print the result of a run, and return the exit code."""
    config, level = trainer.config, cast(Level, trainer.config.level)
    code = 0 if result.signal is None else 128 + result.signal
    if not trainer.trainer.group.is_first:
        return code
    print()
    if result.interrupted:
        row("interrupted", f"in epoch {len(result.records)} of {config.epochs}; --resume goes on")
    elif result.stopped_early:
        row("stopped", f"no better held-out loss for {config.patience} epochs")
    row("best epoch", f"{result.best.epoch} of {len(result.records)}")
    row("held out", score_text(result.best.valid_nats, level) + f" (unigram {written(baseline, 1)})")
    if config.test:
        test = corpus_at(config.test, level, trainer.vocabulary)
        found = evaluate(trainer.model, test.ids, 1, config.bptt, compiled=config.compile)
        row("test", score_text(found.nats, level) + f", {found.tokens:,} tokens as one stream")
    _print_sample(trainer, level)
    others = [files.config, files.metrics, *(path for path in (files.csv, files.tensorboard) if path.exists())]
    names = ", ".join(path.name for path in others)
    row("saved", f"{files.model}, with {names}" + _curve(result, files, baseline))
    return code


def _print_plan(trainer: LanguageTrainer, train_part: Corpus) -> float:
    """Print what will be done; return the perplexity of the unigram model."""
    config, held_out = trainer.config, trainer.held_out
    baseline = perplexity(unigram_nats(train_part, held_out))
    row("corpus", f"{called(config.corpus)}, {config.level} level")
    row("", f"{len(train_part):,} training tokens, vocabulary {len(train_part.vocabulary):,}")
    row("", f"{len(held_out):,} held-out tokens, {held_out.unknown_rate:.1%} of them unknown")
    row("model", f"{describe(config, trainer.model)}, {trainer.model.parameter_count():,} parameters")
    row("training", _plan(trainer))
    row("baseline", f"unigram perplexity {written(baseline, 1)} on the held-out part")
    return baseline


def resolved(arguments: argparse.Namespace) -> TrainConfig:
    """Return the configuration of defaults, the file that --config names, and flags."""
    values: dict[str, object] = {}
    if arguments.config is not None:
        values = read_toml(config_file(arguments.config))
        TrainConfig.from_mapping(values, arguments.config)  # a mistake in the file is reported as the file's
    return TrainConfig.from_mapping(prepared_settings({**values, **given_settings(arguments)}), "train")


def given_settings(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the settings that were given as flags."""
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    return {name: value for name, value in vars(arguments).items() if name in names}


def run_name(config: TrainConfig) -> str:
    """Return what the folders of runs are called, before their number."""
    text = Path(called(config.corpus)).stem if config.corpus else "python-reference"
    module, _, name = (config.model or config.cell).rpartition(":")
    return "-".join(re.sub(r"[^\w-]+", "-", part) for part in (text, module.rpartition(".")[2], name) if part)


def _free_folder(config: TrainConfig) -> Path:
    return next(folder for folder in numbered(_RUNS, run_name(config)) if not folder.exists())


def _plan(trainer: LanguageTrainer) -> str:
    config, windows = trainer.config, trainer.windows
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    return (
        f"{epochs} of {len(windows):,} windows ({config.batch_size} x {config.bptt} tokens), {config.optimizer}, "
        f"lr {config.lr:g} ({config.schedule}), dropout {config.dropout:g}, clip {config.clip:g}, seed {config.seed}"
        + (f", truncation {config.truncation}" if config.truncation else "")
    )


def _memory(trainer: LanguageTrainer) -> str:
    config = trainer.config
    parameters = [parameter.data for parameter in trainer.model.parameters().values()]
    arrays = 2 + len(make_optimizer(config).slots)  # parameters, gradients, moments
    held = sum(array.nbytes for array in parameters) * arrays
    width = max(array.itemsize for array in parameters)
    positions = config.batch_size * config.bptt
    logits = positions * len(trainer.vocabulary) * 3 * width  # logits, probabilities, cotangent
    return (
        f"about {held / 1e6:,.0f} MB for parameters, gradients and moments, and {logits / 1e6:,.0f} MB or more "
        "for the graph of a window"
    )


def _curve(result: RunResult, files: RunFiles, baseline: float) -> str:
    if save_curve(result.records, files.curve, baseline):
        return f" and {files.curve.name}"
    note("for a picture of the learning curve install tinygrad_rnn[plot] (matplotlib)")
    return ""


def _print_sample(trainer: LanguageTrainer, level: Level) -> None:
    vocabulary, config = trainer.vocabulary, trainer.config
    if len(vocabulary) == 1:
        return
    start = [int(one) for one in vocabulary.encode([line_start(vocabulary, level)])]
    ids = generate_ids(
        trainer.model,
        vocabulary,
        start,
        60 if level in ("word", "token") else 300,
        temperature=0.8,
        rng=stream(config.seed, 2),
        compiled=config.compile,
        executor=named_executor(config),
    )
    row("sample", "at temperature 0.8")
    print("    " + readable(vocabulary.decode(list(ids)), level).replace("\n", "\n    "))


def _print_epoch(record: EpochRecord) -> None:
    print(
        f"{record.epoch:>5}  {written(record.train_perplexity, 1):>9}  {written(record.valid_perplexity, 1):>12}  "
        f"{record.lr:>8.2g}  "
        f"{record.tokens_per_s:>8,.0f}  {record.seconds:>7.1f}{'  (interrupted)' if record.interrupted else ''}",
        flush=True,
    )
