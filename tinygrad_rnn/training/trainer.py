"""Trainer: epochs of the training loop, with evaluation, schedules, early stop, files and progress."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType

from tqdm import tqdm

from ..checks import instance
from ..compiler.api import chosen_executor
from ..config import TrainConfig
from ..data.batches import OffsetBatches
from ..data.corpus import Corpus
from ..engine.tape import Array
from ..errors import ConfigError, CorpusError, DivergedError, NonFiniteError
from ..nn.models import RNNLM
from .build import make_model, make_optimizer, make_policy, make_schedule, named_executor, stream, updates_per_pass
from .compiled import CompiledUpdate, is_compilable
from .evaluation import Evaluator, perplexity, written
from .files import RunFiles, TakenFiles
from .guards import parameters_of
from .loop import EpochResult, Window, train_epoch
from .modelfile import check_describes
from .records import EpochRecord, RunResult


class Trainer:
    r"""Train a language model as a configuration says, and keep its best epoch.

    Each epoch starts from a fresh state, draws its dropout from a stream of its own (`seed` and the epoch's number),
    and ends with an evaluation on the held-out text. The schedule sees the held-out loss. `patience` epochs without a
    better one end the run. Afterwards the model has the parameters of its best epoch.

    Ctrl-C ends the run after the current window: the epoch is evaluated and recorded like any other. A second Ctrl-C
    ends it at once; the files are whole then too.

    Args:
        train: text to train on, at least batch_size * bptt + 1 tokens.
        held_out: text to evaluate on, at least 2 tokens, with the same vocabulary.
        config: settings of the run.
        model: the model to train; None: a new one, `make_model(config, V)`.
        files: where to write the model of the best epoch so far, the configuration and the metrics; None: nowhere.
        on_epoch: called with each epoch's record.
        progress: show a progress bar on stderr, where that is a terminal.

    Attributes:
        model: what is trained.
        windows: the training text as windows.

    Raises:
        CorpusError: if a text is too short, or the vocabularies differ.
        ConfigError: if an argument is of the wrong type, the model has no parameters or is of another vocabulary, or
            there are `files`, and `config` does not describe the model.

    >>> from tinygrad_rnn.data import load_corpus
    >>> train, held_out = load_corpus("to be or not to be\n" * 60, "word")
    >>> config = TrainConfig(hidden_size=8, batch_size=4, bptt=5, epochs=4, lr=0.05, dropout=0.0, seed=1)
    >>> trainer = Trainer(train, held_out, config, progress=False)
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
        model: RNNLM | None = None,
        files: RunFiles | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
        progress: bool = True,
    ) -> None:
        for name, part in (("train", train), ("held_out", held_out)):
            instance("Trainer", name, part, Corpus, "train, held_out = load_corpus(text, level) makes both")
        instance("Trainer", "config", config, TrainConfig)
        self.windows = OffsetBatches(train.ids, config.batch_size, config.bptt)
        if len(held_out) < 2:
            raise CorpusError(f"Trainer: expected 2 held-out tokens or more, got {len(held_out)}; raise held_out")
        if train.vocabulary != held_out.vocabulary:
            raise CorpusError(
                "Trainer: train and held_out have different vocabularies; load_corpus makes both with one"
            )
        self.config = config
        self.vocabulary = train.vocabulary
        self.held_out = held_out
        self.model = make_model(config, len(train.vocabulary)) if model is None else model
        parameters_of("Trainer", self.model)
        if getattr(self.model, "vocab_size", len(self.vocabulary)) != len(self.vocabulary):
            raise ConfigError(
                f"Trainer: the model has logits for {self.model.vocab_size} tokens, but the vocabulary of the text has "
                f"V={len(self.vocabulary)}"
            )
        if files is not None:
            check_describes(config, len(train.vocabulary), self.model)
        self._policy = make_policy(config)
        self._files = files
        self._on_epoch = on_epoch
        self._progress = progress

    @property
    def executor(self) -> str | None:
        """What replays the updates, "native" or "numpy"; None: each is recorded anew. It may build the C library."""
        config = self.config
        compilable = config.compile and is_compilable(self._policy, draws=True)  # epochs are given a generator
        return chosen_executor(named_executor(config)) if compilable else None

    def run(self) -> RunResult:
        """Train, and give the model the parameters of its best epoch, also where an error ends the run.

        The folder of the files is this run's alone from here to the end.

        Returns:
            The records of all epochs.

        Raises:
            NonFiniteError: if a loss or a gradient is not finite. The files hold the best epoch before.
            DivergedError: if both losses of an epoch are far above that of guessing blindly. Likewise.
            ConfigError, OSError: if a file cannot be written, or another run writes to the same folder.
            KeyboardInterrupt: on a second Ctrl-C.
        """
        with nullcontext() if self._files is None else self._files.taken() as files:
            return self._run(files)

    def _run(self, files: TakenFiles | None) -> RunResult:
        config = self.config
        optimizer = make_optimizer(config)
        compiled = config.compile and CompiledUpdate(
            self.model, optimizer, config.clip, self._policy, named_executor(config)
        )
        evaluator = Evaluator(self.model, compiled=config.compile, executor=named_executor(config))
        schedule = make_schedule(config, config.epochs * updates_per_pass(self.windows, self._policy))
        records: list[EpochRecord] = []
        step, stopped_early = 0, False
        with _Best(self.model, files).kept() as best, _interruptible() as interrupt:
            for epoch in range(1, config.epochs + 1):
                started = time.perf_counter()
                with self._bar(epoch, interrupt) as on_window:
                    trained = train_epoch(
                        self.model,
                        self.windows,
                        optimizer,
                        self.model.initial_state(config.batch_size),
                        policy=self._policy,
                        schedule=schedule,
                        clip=config.clip,
                        rng=stream(config.seed, 1, epoch),
                        step=step,
                        compiled=compiled,
                        on_window=on_window,
                    )
                step += trained.steps
                record = self._evaluated(evaluator, epoch, step, trained, started)
                schedule.observe(record.valid_nats)
                records.append(record)
                if best.is_better(record):
                    best.take(record)
                    if files is not None:
                        files.save(self.model, config, self.vocabulary)
                if files is not None:
                    files.append(record)
                if self._on_epoch is not None:
                    self._on_epoch(record)
                stopped_early = 0 < config.patience <= epoch - best.epoch
                if interrupt.requested or stopped_early:
                    break
        assert best.record is not None
        return RunResult(tuple(records), best.record, interrupt.requested, stopped_early and not interrupt.requested)

    def _evaluated(
        self, evaluator: Evaluator, epoch: int, step: int, trained: EpochResult, started: float
    ) -> EpochRecord:
        valid = evaluator(self.held_out.ids, self.config.batch_size, self.config.bptt)
        if not valid.nats < float("inf"):
            raise NonFiniteError(f"Trainer: the held-out loss after epoch {epoch} is {valid.nats}; lower lr or clip")
        blind = math.log(len(self.vocabulary))
        if min(trained.nats, valid.nats) > 2 * blind + 10:
            raise DivergedError(
                f"Trainer: training diverged: in epoch {epoch} the training loss is {trained.nats:.3g} and the "
                f"held-out loss {valid.nats:.3g} nats per token, where guessing blindly gives {blind:.3g}; lower lr or "
                "clip"
            )
        return EpochRecord(
            epoch=epoch,
            step=step,
            train_nats=trained.nats,
            train_perplexity=perplexity(trained.nats),
            valid_nats=valid.nats,
            valid_perplexity=valid.perplexity,
            valid_bits=valid.bits,
            lr=trained.lr,
            gradient_norm=trained.gradient_norm,
            tokens=trained.tokens,
            tokens_per_s=trained.tokens / trained.seconds,
            seconds=time.perf_counter() - started,
            interrupted=trained.stopped,
        )

    @contextmanager
    def _bar(self, epoch: int, interrupt: _Interrupt) -> Iterator[Callable[[Window], bool]]:
        with tqdm(
            total=self.windows.tokens,
            desc=f"epoch {epoch}/{self.config.epochs}",
            unit=" tokens",
            unit_scale=True,
            leave=False,
            disable=None if self._progress else True,  # None: hidden where stderr is not a terminal
        ) as bar:

            def on_window(window: Window) -> bool:
                bar.update(window.tokens)
                loss, tokens = written(window.nats, 3), written(perplexity(window.nats), 1)
                bar.set_postfix_str(f"loss {loss}, perplexity {tokens}", refresh=False)
                return interrupt.requested

            yield on_window


class _Best:
    """The best epoch so far, and its parameters: before the first, those that the model started with."""

    def __init__(self, model: RNNLM, files: RunFiles | None) -> None:
        self._model, self._files = model, files
        self.record: EpochRecord | None = None
        self._parameters: dict[str, Array] = {}

    @property
    def epoch(self) -> int:
        return 0 if self.record is None else self.record.epoch

    def is_better(self, record: EpochRecord) -> bool:
        return self.record is None or record.valid_nats < self.record.valid_nats

    def take(self, record: EpochRecord | None = None) -> None:
        self.record = record
        self._parameters = {name: parameter.data for name, parameter in self._model.parameters().items()}

    @contextmanager
    def kept(self) -> Iterator[_Best]:
        """At the end, whatever ends it, give the model the parameters of the best epoch."""
        self.take()
        try:
            yield self
        except (NonFiniteError, DivergedError) as error:
            place = "" if self._files is None else f" in {self._files.model}"
            kept = f"the model of epoch {self.epoch} is kept{place}" if self.epoch else "no epoch was kept"
            raise type(error)(f"{error}; {kept}") from error
        finally:
            self._model.load(self._parameters)


@dataclass
class _Interrupt:
    requested: bool = False


@contextmanager
def _interruptible() -> Iterator[_Interrupt]:
    """Note the first Ctrl-C instead of raising; the second one raises. Only the main thread can be interrupted."""
    interrupt = _Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def note(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
