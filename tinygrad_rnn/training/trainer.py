"""Trainer: epochs of the training loop, with evaluation, schedules, early stop, files and progress."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from tqdm import tqdm

from ..compiler.api import chosen_executor
from ..config import TrainConfig
from ..data.batches import OffsetBatches
from ..data.corpus import Corpus
from ..errors import CorpusError, NonFiniteError
from ..nn.models import RNNLM
from .build import make_model, make_optimizer, make_policy, make_schedule, stream, updates_per_pass
from .compiled import CompiledUpdate, is_compilable
from .evaluation import evaluate, perplexity
from .files import RunFiles
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
        ConfigError: if there are `files`, and `config` does not describe the model.

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
        return chosen_executor(_named(config)) if compilable else None

    def run(self) -> RunResult:
        """Train, and give the model the parameters of its best epoch.

        Returns:
            The records of all epochs.

        Raises:
            NonFiniteError: if a loss or a gradient is not finite. The files hold the best epoch before.
            ConfigError, OSError: if a file cannot be written.
            KeyboardInterrupt: on a second Ctrl-C.
        """
        config, params = self.config, self.model.parameters()
        optimizer = make_optimizer(config)
        compiled = config.compile and CompiledUpdate(self.model, optimizer, config.clip, self._policy, _named(config))
        schedule = make_schedule(config, config.epochs * updates_per_pass(self.windows, self._policy))
        records: list[EpochRecord] = []
        best: EpochRecord | None = None
        kept = {name: parameter.data for name, parameter in params.items()}
        step, stopped_early = 0, False
        with _interruptible() as interrupt:
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
                record = self._evaluated(epoch, step, trained, started)
                schedule.observe(record.valid_nats)
                records.append(record)
                if best is None or record.valid_nats < best.valid_nats:
                    best = record
                    kept = {name: parameter.data for name, parameter in params.items()}
                    if self._files is not None:
                        self._files.save(self.model, config, self.vocabulary)
                if self._files is not None:
                    self._files.append(record)
                if self._on_epoch is not None:
                    self._on_epoch(record)
                stopped_early = bool(config.patience) and epoch - best.epoch >= config.patience
                if interrupt.requested or stopped_early:
                    break
        assert best is not None
        self.model.load(kept)
        return RunResult(tuple(records), best, interrupt.requested, stopped_early and not interrupt.requested)

    def _evaluated(self, epoch: int, step: int, trained: EpochResult, started: float) -> EpochRecord:
        valid = evaluate(self.model, self.held_out.ids, self.config.batch_size, self.config.bptt)
        if not valid.nats < float("inf"):
            raise NonFiniteError(
                f"Trainer: the held-out loss after epoch {epoch} is {valid.nats}; lower lr or clip. "
                "What was saved before is untouched"
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
                bar.set_postfix_str(f"loss {window.nats:.3f}, perplexity {perplexity(window.nats):.1f}", refresh=False)
                return interrupt.requested

            yield on_window


@dataclass
class _Interrupt:
    requested: bool = False


def _named(config: TrainConfig) -> str | None:
    """Return the executor that a configuration names; None where the environment may choose."""
    return None if config.executor == "auto" else config.executor


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
