"""The Trainer of language models: a configuration, as arguments of `Trainer`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import Self, TypedDict, cast

from ...checks import instance
from ...config import TrainConfig
from ...data.batches import OffsetBatches
from ...data.corpus import Corpus
from ...data.heldout import HeldOutWindows
from ...errors import ConfigError, CorpusError, DivergedError, NonFiniteError
from ...nn.cells import State
from ...nn.models import RNNLM
from ...nn.module import Module
from ...optim import Averaged
from ...parallel.group import Group, group_of
from ..files.archive import digest
from ..files.checkpoints import Checkpoints
from ..inference.evaluation import masked_language_loss, perplexity, written
from ..loop.guards import parameters_of
from ..loop.objective import LanguageModel, Objective, Window, language_loss
from ..loop.parts import Rng
from ..loop.result import StepResult
from ..runs.callbacks import Callback, Everywhere
from ..runs.progress import Progress
from ..runs.records import Record
from ..runs.trainer import Trainer
from .build import (
    averaging_is_due,
    make_model,
    make_optimizer,
    make_policy,
    make_schedule,
    named_executor,
    updates_per_pass,
)
from .modelfile import check_describes
from .records import EpochRecord, RunResult, epoch_record
from .runfiles import RunFiles, TakenFiles


class Notes(TypedDict):
    """The notes in the checkpoints of a language model: its settings, and the digests of its texts."""

    config: dict[str, object]
    text: list[str]


class LanguageTrainer:
    r"""Train a language model by a configuration, and keep its best epoch.

    Each epoch starts from a fresh state, draws its dropout from a stream of its own (`seed` and the epoch's number),
    and ends with an evaluation on the held-out text. The schedule sees the held-out loss. The run ends after
    `patience` epochs without a better one. Afterwards the model has the parameters of its best epoch.

    Ctrl-C, or SIGTERM, ends the run after the current window: the epoch is evaluated and recorded like any other. A
    second one ends it at once; the files are complete even then.

    Args:
        train: text to train on, at least batch_size * bptt + 1 tokens.
        held_out: text to evaluate on, at least 2 tokens, with the same vocabulary.
        config: settings of the run.
        model: the model to train; None: a new one, `make_model(config, V)`.
        files: where to write the model of the best epoch so far, the configuration, the metrics and checkpoints; None:
            nowhere.
        on_epoch: called with each epoch's record.
        callbacks: further callbacks of the `Trainer`, such as `TensorBoard`.
        progress: show a progress bar on stderr, where that is a terminal.
        comm: as in `Trainer`: processes that divide the `batch_size` streams of each batch; the first one writes.

    Attributes:
        model: the model that is trained.
        windows: the training text as windows.
        trainer: the `Trainer` that does it.

    Raises:
        CorpusError: if a text is too short, or the vocabularies differ.
        ConfigError: if an argument is of the wrong type, the model has no parameters or is of another vocabulary, or
            there are `files` and `config` does not describe the model.

    >>> from tinygrad_rnn.data import load_corpus
    >>> train, held_out = load_corpus("to be or not to be\n" * 60, "word")
    >>> config = TrainConfig(hidden_size=8, batch_size=4, bptt=5, epochs=4, lr=0.05, dropout=0.0, seed=1)
    >>> trainer = LanguageTrainer(train, held_out, config, progress=False)
    >>> result = trainer.run()
    >>> len(result.records), result.best.valid_perplexity < 1.5
    (4, True)
    """

    def __init__(
        self,
        train: Corpus,
        held_out: Corpus,
        config: TrainConfig,
        *,
        model: Module | None = None,
        files: RunFiles | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
        comm: object = None,
    ) -> None:
        for name, part in (("train", train), ("held_out", held_out)):
            instance("Trainer", name, part, Corpus, "train, held_out = load_corpus(text, level) makes both")
        instance("Trainer", "config", config, TrainConfig)
        self.windows: OffsetBatches = OffsetBatches(train.ids, config.batch_size, config.bptt, config.drop_last)
        if len(held_out) < 2:
            raise CorpusError(f"Trainer: expected 2 held-out tokens or more, got {len(held_out)}; raise held_out")
        if train.vocabulary != held_out.vocabulary:
            raise CorpusError(
                "Trainer: train and held_out have different vocabularies; load_corpus makes both with one"
            )
        self.config = config
        self.vocabulary = train.vocabulary
        self.held_out = held_out
        self.model: RNNLM = make_model(config, len(train.vocabulary)) if model is None else cast(RNNLM, model)
        parameters_of("Trainer", self.model)
        if getattr(self.model, "vocab_size", len(self.vocabulary)) != len(self.vocabulary):
            raise ConfigError(
                f"Trainer: the model has logits for {self.model.vocab_size} tokens, but the vocabulary of the text has "
                f"V={len(self.vocabulary)}"
            )
        if files is not None:
            check_describes(config, len(train.vocabulary), self.model)
        self._files, self._on_epoch, self._resumed = files, on_epoch, False
        self._writes: TakenFiles | None = None  # in the process that writes
        self._held = ExitStack()
        self._text = [digest(part.ids) for part in (train, held_out)]
        self.trainer: Trainer = self._made(callbacks, progress, group_of(comm))

    def _made(self, callbacks: Sequence[Callback], progress: bool, group: Group) -> Trainer:
        config, policy = self.config, make_policy(self.config)
        held_out = HeldOutWindows(self.held_out.ids, config.batch_size, config.bptt, whole=config.compile)
        updates = math.ceil(updates_per_pass(self.windows, policy) / config.accumulate)
        return Trainer(
            self.model,
            Objective(_loss, f"{type(self.model).__name__}.loss"),
            self.windows,
            held_out,
            optimizer=make_optimizer(config),
            schedule=make_schedule(config, config.epochs * updates),
            clip=config.clip,
            policy=policy,
            callbacks=[_Reports(self), *callbacks],
            checkpoints=self._checkpoints(),
            epochs=config.epochs,
            accumulate=config.accumulate,
            patience=config.patience,
            limit=2 * math.log(len(self.vocabulary)) + 10,
            state=lambda: self.model.initial_state(config.batch_size),
            valid_state=lambda: self.model.initial_state(held_out.streams),
            seed=config.seed,
            compile=config.compile,
            executor=named_executor(config),
            progress=progress and Progress(" tokens", self.windows.tokens, _tokens, _progress_text),
            notes={"config": asdict(config), "text": self._text},
            comm=group,
            exchange=config.exchange,
        )

    def _checkpoints(self) -> Checkpoints | None:
        if self._files is None:
            return None
        return Checkpoints(self._files.checkpoints, every=self.config.checkpoint_every, force=self._files.force)

    @property
    def executor(self) -> str | None:
        """The executor of the updates, "native" or "numpy"; None: each is recorded anew. It may build the C library."""
        return self.trainer.step.executor(draws=True)  # epochs are given a generator

    def resume(self, path: str | os.PathLike[str] | None = None) -> Self:
        """Continue from the newest checkpoint, with the bits of a run that was never stopped; see `Trainer.resume`.

        Args:
            path: the folder of the run, or its model file; None: that of `files`, which this run then continues.

        Raises:
            CorpusError: if the run had another text.
        """
        self.trainer.resume(None if path is None else RunFiles.at(path).checkpoints)
        self._resumed = True
        if path is None and self._files is not None:
            self._files = replace(self._files, force=True)
        if cast(Notes, self.trainer.notes)["text"] != self._text:
            raise CorpusError("Trainer.resume: the text is not the one that the run was trained on")
        return self

    def run(self) -> RunResult:
        """Train, and give the model the parameters of its best epoch, even if an error ends the run.

        The folder of the files is locked for this run until it ends.

        Returns:
            The records of all epochs.

        Raises:
            NonFiniteError: if a loss or a gradient is not finite. The files hold the best epoch before.
            DivergedError: if both losses of an epoch are far above that of guessing uniformly. The files hold the best
                epoch before.
            ConfigError, OSError: if a file cannot be written, or another run writes to the same folder.
            KeyboardInterrupt: on a second Ctrl-C.
        """
        with self._held:
            self.trainer.group.first(self.take)
            try:
                history = self.trainer.fit()
            except (NonFiniteError, DivergedError) as error:
                files = self._files
                place = f" in {files.model}" if files is not None and self.trainer.best is not None else ""
                raise type(error)(f"{error}{place}") from error
            finally:
                self._writes = None
        best = epoch_record(history.best)
        records = tuple(best if record is history.best else epoch_record(record) for record in history.records)
        return RunResult(records, best, history.interrupted, history.stopped_early, history.signal)

    def take(self) -> None:
        """Hold the folder of the files, in the process that writes them."""
        if self._files is None or isinstance(self._writes, TakenFiles):
            return
        self._writes = self._held.enter_context(self._files.taken())
        if self._resumed and self.trainer.run.records:
            self._writes.rewrite([epoch_record(record) for record in self.trainer.run.records])

    def take_over(self) -> None:
        """Write the files from now on, if the process that wrote them has died and this is the first one now."""
        if self.trainer.group.is_first and self._files is not None:
            self._files, self._resumed = replace(self._files, force=True), True
            self.take()

    def report(self, record: Record) -> None:
        """Write the files of an epoch, begin to average if that is due, and call `on_epoch`."""
        line = epoch_record(record)
        optimizer, losses = self.trainer.optimizer, [one.valid["loss"] for one in self.trainer.run.records]
        if isinstance(optimizer, Averaged) and averaging_is_due(losses, self.config.nonmonotone):
            optimizer.begin()
        self.trainer.group.first(partial(self._write, line, record is self.trainer.best))

    def _write(self, line: EpochRecord, is_best: bool) -> None:
        if self._writes is not None:
            if is_best:
                self._writes.save(self.model, self.config, self.vocabulary)
            self._writes.append(line)
        if self._on_epoch is not None:
            self._on_epoch(line)


class _Reports(Everywhere):
    def __init__(self, owner: LanguageTrainer) -> None:
        self._owner = owner

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        self._owner.report(record)

    def on_loss(self, trainer: Trainer) -> None:
        self._owner.take_over()


def _loss(model: LanguageModel, batch: Window, state: State, rng: Rng) -> object:
    """Return the loss of windows: of training, with dropout, or of the held-out text, where targets may be masked."""
    return masked_language_loss(model, batch, state) if rng is None else language_loss(model, batch, state, rng)


def _tokens(result: StepResult) -> int:
    return round(result.weight)


def _progress_text(result: StepResult) -> str:
    return f"loss {written(result.loss, 3)}, perplexity {written(perplexity(result.loss), 1)}"
