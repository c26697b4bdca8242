"""What the commands do; `cli` has the parser."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import math
import re
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np

from .config import TrainConfig, read_toml
from .data.batches import OffsetBatches
from .data.corpus import Corpus, load_corpus, unigram_nats
from .data.text import EOS, Level, detokenize, embedded_text, read_text, tokenize
from .data.vocabulary import UNKNOWN, Vocabulary
from .errors import ConfigError, CorpusError, NonFiniteError
from .nn.cells import CELLS
from .training.build import make_model, make_optimizer, named_executor
from .training.evaluation import evaluate as evaluate_model
from .training.evaluation import perplexity, written
from .training.files import RunFiles, numbered, save_curve
from .training.generation import generate as generate_ids
from .training.guards import cause
from .training.language import LanguageTrainer as Trainer
from .training.modelfile import load_model
from .training.records import EpochRecord, RunResult
from .training.streams import stream
from .truncation import parse_policy, truncation_report

_RUNS = "runs"
EMBEDDED = "the Python reference that Python carries"
_UPDATES = {
    "native": "compiled, replayed by the C library",
    "numpy": "compiled, replayed by NumPy",
    None: "recorded anew for each window",
}


def train(arguments: argparse.Namespace) -> int:
    """Train a model; return 130 if Ctrl-C ended it, else 0."""
    config = _resolve(arguments)
    level = cast(Level, config.level)
    train_part, held_out = load_corpus(
        _text(config.corpus), level, config.min_count, config.held_out, config.max_tokens or None
    )
    if arguments.save == "":
        raise ConfigError("train: --save must be a folder or a file ending with .npz, got an empty text")
    settings: dict[str, Any] = {"on_epoch": _print_epoch, "progress": not arguments.no_progress}
    if arguments.dry_run:
        files = RunFiles.at(arguments.save or _free_folder(config), arguments.force)
        files.check()
        trainer = Trainer(train_part, held_out, config, files=files, **settings)
        _print_plan(trainer, train_part)
        _row("memory", _memory(trainer))
        _row("save to", f"{files.model} (dry run: nothing was written)")
        print("\n" + config.to_toml(), end="")
        return 0
    fresh = RunFiles.fresh(_RUNS, _run_name(config))
    with RunFiles.at(arguments.save, arguments.force).taken() if arguments.save else fresh as files:
        return _train(Trainer(train_part, held_out, config, files=files, **settings), train_part, files)


def _train(trainer: Trainer, train_part: Corpus, files: RunFiles) -> int:
    baseline = _print_plan(trainer, train_part)
    config, level = trainer.config, cast(Level, trainer.config.level)
    _row("updates", _UPDATES[trainer.executor])
    print(
        f"\n{'epoch':>5}  {'train ppl':>9}  {'held-out ppl':>12}  {'lr':>8}  {'tokens/s':>8}  {'seconds':>7}",
        flush=True,
    )
    with np.errstate(all="ignore"):  # the run itself checks that its values are finite
        result = trainer.run()
    print()
    if result.interrupted:
        _row("interrupted", f"in epoch {len(result.records)} of {config.epochs}")
    elif result.stopped_early:
        _row("stopped", f"no better held-out loss for {config.patience} epochs")
    _row("best epoch", f"{result.best.epoch} of {len(result.records)}")
    _row("held out", _score(result.best.valid_nats, level) + f" (unigram {written(baseline, 1)})")
    _print_sample(trainer, level)
    _row("saved", f"{files.model}, with {files.config.name}, {files.metrics.name}" + _curve(result, files, baseline))
    return 130 if result.interrupted else 0


def _print_plan(trainer: Trainer, train_part: Corpus) -> float:
    """Say what will be done; return the perplexity of word frequencies alone."""
    config, held_out = trainer.config, trainer.held_out
    baseline = perplexity(unigram_nats(train_part, held_out))
    _row("corpus", f"{config.corpus or EMBEDDED}, {config.level} level")
    _row("", f"{len(train_part):,} training tokens, vocabulary {len(train_part.vocabulary):,}")
    _row("", f"{len(held_out):,} held-out tokens, {held_out.unknown_rate:.1%} of them unknown")
    _row("model", _describe(config) + f", {trainer.model.parameter_count():,} parameters")
    _row("training", _plan(trainer))
    _row("baseline", f"unigram perplexity {written(baseline, 1)} on the held-out part")
    return baseline


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a model; return 0."""
    model, config, vocabulary = load_model(arguments.model)
    corpus, described = _text_for(arguments, config, vocabulary)
    with np.errstate(all="ignore"):
        found = evaluate_model(model, corpus.ids, config.batch_size, config.bptt, **_replay(arguments))
    if not math.isfinite(found.nats):
        raise NonFiniteError(f"evaluate: the loss is {found.nats}: {cause(model.parameters(), (), None)}")

    _row("model", f"{_describe(config)}, {model.parameter_count():,} parameters")
    _row("text", described)
    _row("", f"{len(corpus):,} tokens, {corpus.unknown_rate:.1%} of them unknown")
    if found.batch_size < config.batch_size:
        streams = "1 stream" if found.batch_size == 1 else f"{found.batch_size} streams"
        _row("", f"read as {streams} instead of {config.batch_size}: it is short")
    _row("result", _score(found.nats, cast(Level, config.level)) + f", {found.tokens:,} tokens predicted")
    return 0


def truncation(arguments: argparse.Namespace) -> int:
    """Report what truncation does to the gradient of a model; return 0."""
    if arguments.plot and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError('truncation: --plot needs matplotlib: pip install "tinygrad_rnn[plot]"')
    policies = (
        [parse_policy(text, argument="truncation: --policies") for text in arguments.policies]
        if arguments.policies
        else None
    )
    model, config, vocabulary = load_model(arguments.model)
    if arguments.fresh:
        model = make_model(config, len(vocabulary))
    corpus, described = _text_for(arguments, config, vocabulary)
    N, T = arguments.batch_size, arguments.steps
    ids, targets = _window("truncation", corpus, described, N, T)
    report = truncation_report(model, ids, targets, policies, wanted_cosine=arguments.wanted_cosine)
    if arguments.json:
        print(report.to_json())
    else:
        fresh = ", fresh weights" if arguments.fresh else ""
        _row("model", f"{_describe(config)}, {model.parameter_count():,} parameters{fresh}")
        _row("text", f"the first {N} x {T} tokens of {described}")
        print("\n" + report.table())
    if arguments.plot:
        report.plot(arguments.plot)
        _note(f"picture: {arguments.plot}")
    return 0


def generate(arguments: argparse.Namespace) -> int:
    """Write text with a model; return 0."""
    model, config, vocabulary = load_model(arguments.model)
    level = cast(Level, config.level)
    if arguments.seed < 0:
        raise ConfigError(f"generate: --seed must be 0 or more, got {arguments.seed}")
    prompt = tokenize(arguments.prompt, level) or [_line_start(vocabulary, level)]
    ids = vocabulary.encode(prompt)
    unknown = sorted({token for token in prompt if token not in vocabulary})
    if unknown:
        _note(f"not in the vocabulary, read as {UNKNOWN}: {', '.join(unknown)}")
    continued = generate_ids(
        model,
        vocabulary,
        ids,
        arguments.length,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        rng=stream(arguments.seed),
        **_replay(arguments),
    )
    print(_readable([*prompt, *vocabulary.decode(list(continued))], level))
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Check gradients on drawn examples; return 1 if one is wrong, else 0."""
    if importlib.util.find_spec("hypothesis") is None:
        raise ConfigError('check: needs Hypothesis: pip install "tinygrad_rnn[testing]"')
    # Imported here: it needs Hypothesis, which no other command does.
    from .testing.command import check as check_gradients

    return check_gradients(arguments.target, arguments.examples, arguments.seed, arguments.order)


def graph(arguments: argparse.Namespace) -> int:
    """Draw the graph of a saved model on text, or of a small model with a named cell; return 0."""
    # Imported here: no other command draws.
    from .graphs.command import shown_steps, small_model
    from .graphs.drawing import draw

    shown, T = shown_steps(arguments.show), arguments.steps
    policy = parse_policy(arguments.truncation, argument="graph: --truncation") if arguments.truncation else None
    saved = Path(arguments.model).exists()
    if saved or not (arguments.model in CELLS or ":" in arguments.model):
        model, config, vocabulary = load_model(arguments.model)
        corpus, described = _text_for(arguments, config, vocabulary)
        ids, targets = _window("graph", corpus, described, arguments.batch_size, T)
        title, note = _describe(config), f"{arguments.batch_size} x {T} tokens of {described}"
    else:
        model, ids, targets = small_model(arguments.model, T, arguments.layers)
        title, note = arguments.model.rpartition(":")[2], f"a small model, {T} random tokens"
    drawing = draw(
        model,
        ids,
        targets,
        view=arguments.view,
        steps=shown,
        gradients=arguments.gradients,
        depth=arguments.depth,
        truncation=policy,
        title=title,
    )
    drawing.save(arguments.out)
    _row("model", f"{title}, {model.parameter_count():,} parameters")
    _row("graph", note + (f", truncation {arguments.truncation}" if policy else ""))
    _row("saved", arguments.out)
    return 0


def _resolve(arguments: argparse.Namespace) -> TrainConfig:
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    flags = {name: value for name, value in vars(arguments).items() if name in names}
    values: dict[str, Any] = {}
    if arguments.config is not None:
        values = read_toml(arguments.config)
        TrainConfig.from_mapping(values, arguments.config)  # a mistake in the file is reported as the file's
    return TrainConfig.from_mapping({**values, **flags}, "train")


def _text_for(arguments: argparse.Namespace, config: TrainConfig, vocabulary: Vocabulary) -> tuple[Corpus, str]:
    """Return the text that a trained model is to be tried on, and what it is in words."""
    level = cast(Level, config.level)
    if arguments.corpus is None and config.corpus:
        raise ConfigError(
            f"{arguments.command}: the model was trained on {config.corpus!r}; pass the text to use "
            "(--held-out uses the part at its end that training held out)"
        )
    text, name = _text(arguments.corpus or ""), arguments.corpus or EMBEDDED
    if not (arguments.held_out or arguments.corpus is None):
        return Corpus.from_text(text, level, vocabulary=vocabulary), name
    corpus = Corpus.from_text(text, level, vocabulary=vocabulary, max_tokens=config.max_tokens or None)
    first, corpus = corpus.split(config.held_out)
    # The training part alone made the vocabulary, so the same text makes the same one again.
    if Vocabulary.from_tokens(vocabulary.decode(first.ids), 1) != vocabulary:
        _note("this is not the text that the model was trained on, or another version of it")
    return corpus, f"the held-out part of {name}"


def _replay(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `evaluate` and `generate` are told of how to run the model."""
    return {"compiled": arguments.compile, "executor": None if arguments.executor == "auto" else arguments.executor}


def _window(command: str, corpus: Corpus, described: str, N: int, T: int) -> Any:
    """Return the first ids and targets (N, T) of a text."""
    if len(corpus) < N * T + 1:
        raise CorpusError(
            f"{command}: --batch-size {N} streams of --steps {T} need {N * T + 1} tokens, and {described} has "
            f"{len(corpus)}; lower one of them"
        )
    return next(iter(OffsetBatches(corpus.ids[: N * T + 1], N, T)))


def _text(path: str) -> str:
    return read_text(path) if path else embedded_text()


def _run_name(config: TrainConfig) -> str:
    name = re.sub(r"[^\w-]+", "-", Path(config.corpus).stem) if config.corpus else "python-reference"
    return f"{name}-{config.cell}"


def _free_folder(config: TrainConfig) -> Path:
    return next(folder for folder in numbered(_RUNS, _run_name(config)) if not folder.exists())


def _describe(config: TrainConfig) -> str:
    layers = "1 layer" if config.layers == 1 else f"{config.layers} layers"
    sizes = f"{config.hidden_size} units, embedding {config.embedding_width}{' (tied)' if config.tied else ''}"
    return f"{config.cell}, {layers} of {sizes}, {config.dtype}"


def _plan(trainer: Trainer) -> str:
    config, windows = trainer.config, trainer.windows
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    return (
        f"{epochs} of {len(windows):,} windows ({config.batch_size} x {config.bptt} tokens), {config.optimizer}, "
        f"lr {config.lr:g} ({config.schedule}), dropout {config.dropout:g}, clip {config.clip:g}, seed {config.seed}"
        + (f", truncation {config.truncation}" if config.truncation else "")
    )


def _memory(trainer: Trainer) -> str:
    config = trainer.config
    width = 4 if config.dtype == "float32" else 8
    arrays = 2 + len(make_optimizer(config).slots)  # parameters, gradients, moments
    held = trainer.model.parameter_count() * arrays * width
    positions = config.batch_size * config.bptt
    logits = positions * len(trainer.vocabulary) * 3 * width  # logits, probabilities, cotangent
    return (
        f"about {held / 1e6:,.0f} MB for parameters, gradients and moments, and {logits / 1e6:,.0f} MB or more "
        "for the graph of a window"
    )


def _score(nats: float, level: Level) -> str:
    if level == "char":
        bits = written(nats / math.log(2), 3)
        return f"{written(nats, 3)} nats/character, {bits} bits/character, perplexity {written(perplexity(nats), 1)}"
    return f"{written(nats, 3)} nats/token, perplexity {written(perplexity(nats), 1)}"


def _curve(result: RunResult, files: RunFiles, baseline: float) -> str:
    if save_curve(result.records, files.curve, baseline):
        return f" and {files.curve.name}"
    _note("for a picture of the learning curve install tinygrad_rnn[plot] (matplotlib)")
    return ""


def _line_start(vocabulary: Vocabulary, level: Level) -> str:
    line_end = EOS if level == "word" else "\n"
    return line_end if line_end in vocabulary else vocabulary.tokens[min(1, len(vocabulary) - 1)]


def _print_sample(trainer: Trainer, level: Level) -> None:
    vocabulary, config = trainer.vocabulary, trainer.config
    if len(vocabulary) == 1:
        return
    start = vocabulary.encode([_line_start(vocabulary, level)])
    ids = generate_ids(
        trainer.model,
        vocabulary,
        start,
        60 if level == "word" else 300,
        temperature=0.8,
        rng=stream(config.seed, 2),
        compiled=config.compile,
        executor=named_executor(config),
    )
    _row("sample", "at temperature 0.8")
    print("    " + _readable(vocabulary.decode(list(ids)), level).replace("\n", "\n    "))


def _readable(tokens: list[str], level: Level) -> str:
    return detokenize(tokens, level).strip("\n")


def _print_epoch(record: EpochRecord) -> None:
    print(
        f"{record.epoch:>5}  {written(record.train_perplexity, 1):>9}  {written(record.valid_perplexity, 1):>12}  "
        f"{record.lr:>8.2g}  "
        f"{record.tokens_per_s:>8,.0f}  {record.seconds:>7.1f}{'  (interrupted)' if record.interrupted else ''}",
        flush=True,
    )


def _row(name: str, text: str) -> None:
    print(f"{name:<11} {text}", flush=True)


def _note(text: str) -> None:
    print(f"tinygrad-rnn: note: {text}", file=sys.stderr)
