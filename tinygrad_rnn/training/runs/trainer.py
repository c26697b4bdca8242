"""Trainer: epochs of the training loop for any task, with evaluation, schedules, early stop and checkpoints."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Self, cast

import numpy as np

from ...checks import flag, generator, instance, integer, number
from ...credit.policy import Policy, policy_state
from ...credit.update import Past
from ...errors import ConfigError, DivergedError, NonFiniteError, warn
from ...nn.cells import State
from ...nn.module import Module
from ...optim import Adam, Averaged, Optimizer, Schedule
from ...parallel.group import LostError
from ..files.checkpoints import Checkpoints, checkpoints_in
from ..files.plain import Plain
from ..inference.evaluation import Measure, OnBatch, written
from ..loop.epoch import EpochResult, run_epoch
from ..loop.objective import Loss, Objective
from ..loop.result import StepResult
from ..loop.step import TrainStep
from ..loop.streams import stream
from .callbacks import Callback, EachEpoch, Everywhere, OnEpoch, called
from .interrupt import Interrupt, interruptible
from .processes import alike, recovered, whole_state
from .progress import Progress
from .records import History, Record, check_losses
from .run import Batches, Run, Snapshot, Source, restore, states_of
from .settings import settings_of, warn_of_others


class Trainer:
    r"""Train a module on batches, and keep its best epoch.

    An epoch is one pass over `train`. It starts from a fresh state, draws from a stream of its own (`seed` and the
    epoch's number), and ends with an evaluation on `valid`, whose loss the schedule sees. Afterwards the model has the
    parameters of its best epoch.

    The first Ctrl-C, or SIGTERM, ends the run after the current update: the epoch is evaluated and recorded like any
    other. A second one ends it at once; files are complete even then.

    Args:
        model: the model that is trained.
        loss: `loss(model, batch, state, rng) -> (loss, state, metrics)`; state, rng and metrics may be left out, as in
            `lambda model, batch: ...`. The loss is a mean, and so are the metrics; "weight" among them is the number of
            elements that they are means over.
        train: batches, nestings of arrays: an iterable that can be read once for each epoch, or a function that returns
            one; the function may take a generator, to shuffle with.
        valid: held-out batches, in the same forms; None: the training loss decides which epoch is the best.
        optimizer: None: Adam(lr=0.001). The averages of `Averaged` are evaluated, and are the final weights.
        schedule: learning rate of each update; None: the optimizer's own.
        clip: largest global norm of the gradient; 0: no clipping.
        policy: a truncation policy, or its text, for batches of sequences (N, T, ...).
        metrics: name to `function(model, batch)`, further means over a held-out batch.
        callbacks: `Callback`s, or functions that are called with each epoch's `Record`; True ends the run.
        checkpoints: a folder, or `Checkpoints`; None: none are written.
        epochs: how many; None: until `updates` are done.
        updates: how many, at most; None: no limit.
        epoch_updates: updates after which an epoch ends, where a pass is long or endless; None: the whole pass.
        accumulate: batches of one update.
        patience: the run ends after this many epochs without a better one; 0: never.
        monitor: the mean that decides which epoch is best, "loss" or a metric: the smallest is best.
        maximize: the largest is best instead.
        limit: a loss above which, in training and on the held-out batches, a run has diverged.
        state: before the first batch of an epoch, or a function that returns it; `valid_state` is that of evaluation.
        seed: of everything random that the Trainer draws: 0, unless `rng` gives one.
        rng: generator that the seed is drawn from.
        compile: False: record each batch anew.
        executor: the executor of plans, as in `compile`.
        progress: show a progress bar on stderr, if that is a terminal; a `Progress` sets what it counts.
        notes: kept in each checkpoint, for the code that resumes the run.
        comm: a communicator of mpi4py: its processes train together, each on its rows of every batch. All make the same
            Trainer; the first one alone writes, and calls `callbacks` that are not for all. None: this process alone.
        exchange: what processes send, as in `TrainStep`.

    Attributes:
        step: the `TrainStep` that makes the updates.
        run: the position and the records of the run.
        notes: as given; after `resume` those of the checkpoint.

    Raises:
        ConfigError: if an argument is of the wrong type or out of range, or the model has no parameters.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> rng, w = np.random.default_rng(0), np.array([[1.0], [-2.0]])
    >>> def batches(rng):
    ...     for _ in range(20):
    ...         x = rng.standard_normal((8, 2))
    ...         yield x, x @ w
    >>> def loss(model, batch):
    ...     return np.mean((model(batch[0]) - batch[1]) ** 2)
    >>> model = tr.Linear(2, 1, rng, dtype=np.float64)
    >>> history = tr.Trainer(model, loss, batches, optimizer=tr.Adam(0.05), epochs=5, progress=False).fit()
    >>> len(history.records), history.best.train["loss"] < 0.01
    (5, True)
    """

    def __init__(
        self,
        model: Module,
        loss: Loss | Objective,
        train: Batches,
        valid: Batches | None = None,
        *,
        optimizer: Optimizer | None = None,
        schedule: Schedule | None = None,
        clip: float = 0.0,
        policy: Policy | str | None = None,
        metrics: Mapping[str, OnBatch] | None = None,
        callbacks: Sequence[Callback | OnEpoch] = (),
        checkpoints: Checkpoints | str | os.PathLike[str] | None = None,
        epochs: int | None = None,
        updates: int | None = None,
        epoch_updates: int | None = None,
        accumulate: int = 1,
        patience: int = 0,
        monitor: str = "loss",
        maximize: bool = False,
        limit: float = math.inf,
        state: State = None,
        valid_state: State = None,
        seed: int = 0,
        rng: np.random.Generator | None = None,
        compile: bool = True,
        executor: str | None = None,
        progress: bool | Progress = True,
        notes: Plain = None,
        comm: object = None,
        exchange: str = "gradients",
    ) -> None:
        if epochs is None and updates is None:
            raise ConfigError("Trainer: pass epochs=, updates= or both: how long to train")
        if schedule is not None:
            instance("Trainer", "schedule", schedule, Schedule, "such as Cosine(0.1, total_steps)")
        self.model, self.schedule = model, schedule
        self.step = TrainStep(
            model,
            loss,
            Adam(0.001) if optimizer is None else optimizer,
            clip=clip,
            policy=policy,
            compile=compile,
            executor=executor,
            comm=comm,
            exchange=exchange,
            resumable=checkpoints is not None,
        )
        self.group = self.step.group
        self._train = Source("train", train)
        self._valid = None if valid is None else Source("valid", valid)
        self._measure = Measure(
            model, self.step.objective, metrics, compiled=compile, executor=executor, name="Trainer", group=self.group
        )
        self.callbacks = [one if isinstance(one, Callback) else EachEpoch(one) for one in callbacks]
        self._checkpoints = None if checkpoints is None else checkpoints_in(checkpoints)
        self._epochs = None if epochs is None else integer("Trainer", "epochs", epochs)
        self._updates = None if updates is None else integer("Trainer", "updates", updates)
        self._epoch_updates = None if epoch_updates is None else integer("Trainer", "epoch_updates", epoch_updates)
        self._accumulate = integer("Trainer", "accumulate", accumulate)
        self._patience = integer("Trainer", "patience", patience, low=0)
        self._monitor = instance("Trainer", "monitor", monitor, str)
        self._sign = -1.0 if flag("Trainer", "maximize", maximize) else 1.0
        self._limit = number("Trainer", "limit", limit, infinite=True)
        self._state, self._valid_state, self.notes = state, valid_state, notes
        self._progress = progress if isinstance(progress, Progress) else flag("Trainer", "progress", progress)
        if rng is not None:
            seed = int(generator("Trainer", "rng", rng).integers(2**63))
        self.run = Run(self.group.share(integer("Trainer", "seed", seed, low=0)))
        self._settings = settings_of(self.step, train, schedule, accumulate, monitor, maximize, self.run.seed)
        alike(self.group, model)
        self._resumed, self._held = False, ExitStack()

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer of the step."""
        return self.step.optimizer

    @property
    def best(self) -> Record | None:
        """The best epoch so far."""
        return self.run.best

    def resume(self, path: str | os.PathLike[str] | None = None) -> Self:
        """Continue from the newest checkpoint, with the bits of a run that was never stopped; `fit` does the rest.

        The Trainer must be constructed like that of the run: the same model, data and settings. `epochs`, `updates` and
        `patience` may differ. Without a checkpoint the run starts from the beginning.

        Args:
            path: the folder of the checkpoints; None: that of `checkpoints`.

        Raises:
            ConfigError: if there is no folder.
            ModelFileError: if the checkpoint is of another run, or all are damaged.

        Warns:
            UserWarning: if the environment or a setting differs, so that the numbers may differ.
        """
        if path is not None:
            self._checkpoints = replace(self._checkpoints or Checkpoints(path), folder=path)
        if self._checkpoints is None:
            raise ConfigError("Trainer.resume: pass the folder of the checkpoints, here or as checkpoints=")
        snapshot = self.group.share(self.group.first(self._checkpoints.latest))
        self._resumed = self.step.resumable = True
        if snapshot is not None:
            self._restore(cast(Snapshot, snapshot))
        return self

    def fit(self) -> History:
        """Train, and give the model the parameters of its best epoch, even if an error ends the run.

        Raises:
            NonFiniteError: if a loss or a gradient is not finite.
            DivergedError: if both losses of an epoch are above `limit`.
            ConfigError, OSError: if a checkpoint cannot be written, or another run writes to the same folder.
            CorpusError: if there are no batches.
            KeyboardInterrupt: on a second Ctrl-C.
        """
        with self._held, self._best_kept(), interruptible() as interrupt:
            self.group.first(self._take)
            while not (self.run.stop or interrupt.signal or self._waited_enough() or self._is_over()):
                try:
                    self._epoch(interrupt)
                except LostError:
                    self._recover()
        run = self.run
        if run.best is None:
            raise ConfigError("Trainer.fit: the run was over before its first epoch")
        stopped = self._waited_enough() and not interrupt.signal
        return History(tuple(run.records), run.best, interrupt.signal is not None, stopped, interrupt.signal)

    def _take(self) -> None:
        """Hold the folder of the checkpoints, in the process that writes there."""
        if self._checkpoints is not None:
            self._held.enter_context(self._checkpoints.taken(self._resumed))

    def _recover(self) -> None:
        """Go on from the last update, without the processes that have died."""
        fresh = self._state() if callable(self._state) else self._state
        was_first = self.group.is_first
        make = partial(self._snapshot, None)
        found, state, text = recovered(self.group, self.step, self.run.updates, self.run.state, make, fresh)
        self._restore(cast(Snapshot, found))
        self.run.state, self._resumed = state, True
        for callback in self.callbacks:
            if isinstance(callback, Everywhere):
                callback.on_loss(self)
        if self.group.is_first:
            if not was_first:
                self._take()
            warn(f"Trainer: {text}")

    def _is_over(self) -> bool:
        updates, epochs = self._updates or math.inf, self._epochs or math.inf
        return self.run.updates >= updates or len(self.run.records) >= epochs

    def _waited_enough(self) -> bool:
        return 0 < self._patience <= len(self.run.records) - (self.run.best.epoch if self.run.best else 0)

    def _epoch(self, interrupt: Interrupt) -> None:
        run, started = self.run, time.perf_counter()
        totals = run.begin_epoch(self._state, self._train.batches)
        read, before = self._train.read, totals.seconds
        with self._bar() as bar:
            trained = run_epoch(
                self.step,
                self._train.epoch(stream(run.seed, 4, run.epoch), run.read, self.group),
                run.state,
                schedule=self.schedule,
                rng=run.rng,
                accumulate=self._accumulate,
                first=run.step,
                totals=totals,
                on_update=partial(self._after_update, bar, interrupt),
            )
        self.step.settle()
        with self._averaged():
            record = self._evaluated(trained, before + time.perf_counter() - started, interrupt)
            if self.schedule is not None:
                self.schedule.observe(record.valid.get("loss", record.train["loss"]))
            self.step.forget()
            run.end_epoch(record, self._train.read - read, self._train.batches)
            if run.best is None or self._value(record) < self._value(run.best):
                run.best, run.arrays = record, self.model.state_dict()
            run.stop |= called(self.group, self.callbacks, lambda callback: callback.on_epoch(self, record))
        if not record.interrupted:
            self._save()

    def _averaged(self) -> AbstractContextManager[None]:
        """Give the model the averages of its weights, if the optimizer keeps them, for a `with` block."""
        optimizer = self.optimizer
        return optimizer.averaged(self.model.parameters()) if isinstance(optimizer, Averaged) else nullcontext()

    def _after_update(self, bar: Callable[[StepResult], None], interrupt: Interrupt, result: StepResult) -> bool:
        """Record an update, and return whether the epoch ends here."""
        run = self.run
        run.state = result.state
        bar(result)
        run.stop |= called(self.group, self.callbacks, lambda callback: callback.on_update(self, result))
        interrupt.signal = int(self.group.largest(interrupt.signal or 0)[0]) or None  # it may reach some alone
        if interrupt.signal or (self._checkpoints and (every := self._checkpoints.every) and run.updates % every == 0):
            self._save()
        full = run.updates - run.step == self._epoch_updates or run.updates == self._updates
        return bool(interrupt.signal) or run.stop or full

    def _evaluated(self, trained: EpochResult, seconds: float, interrupt: Interrupt) -> Record:
        """Evaluate, and return the record of the epoch.

        Raises:
            NonFiniteError: if the held-out loss is not finite.
            DivergedError: if both losses are above the limit.
        """
        run, started = self.run, time.perf_counter()
        valid: dict[str, float] = {}
        if self._valid is not None:
            state = self._valid_state() if callable(self._valid_state) else self._valid_state
            valid, _ = self._measure(self._valid.epoch(stream(run.seed, 5), 0, self.group), state)
        check_losses(run.epoch, trained.loss, valid.get("loss", trained.loss), self._limit)
        return Record(
            epoch=run.epoch,
            step=run.step + trained.steps,
            train={"loss": trained.loss, **trained.metrics},
            valid=valid,
            lr=trained.lr,
            gradient_norm=trained.gradient_norm,
            weight=trained.weight,
            train_seconds=trained.seconds,
            seconds=seconds + time.perf_counter() - started,
            interrupted=trained.stopped and interrupt.signal is not None,
        )

    def _value(self, record: Record) -> float:
        """Return the monitored mean, with the sign that makes less better."""
        means = record.valid or record.train
        if self._monitor not in means:
            raise ConfigError(f"Trainer: monitor must be one of {', '.join(means)}, got {self._monitor!r}")
        return self._sign * means[self._monitor]

    @contextmanager
    def _best_kept(self) -> Iterator[None]:
        """At the end of the run, however it ends, give the model the parameters of the best epoch."""
        run = self.run
        run.arrays = run.arrays or self.model.state_dict()
        try:
            yield
        except (NonFiniteError, DivergedError) as error:
            kept = f"the model of epoch {run.best.epoch} is kept" if run.best else "no epoch was kept"
            raise type(error)(f"{error}; {kept}") from error
        finally:
            self.model.load(run.arrays, strict=False)
            for callback in self.callbacks:
                if self.group.is_first or isinstance(callback, Everywhere):
                    callback.on_end(self)

    def _bar(self) -> AbstractContextManager[Callable[[StepResult], None]]:
        how, total = self._progress, self._epoch_updates
        if not isinstance(how, Progress):
            if total is None and isinstance(self._train.batches, Sized):
                total = -(-len(self._train.batches) // self._accumulate)
            how = Progress(" updates", total, lambda _: 1, lambda result: f"loss {written(result.loss, 4)}")
        epochs = "" if self._epochs is None else f"/{self._epochs}"
        return how.bar(f"epoch {self.run.epoch}{epochs}", shown=bool(self._progress) and self.group.is_first)

    def _save(self) -> None:
        """Write a checkpoint of what all processes hold."""
        if self._checkpoints is None:
            return
        self.step.settle()
        save, state, past = self._checkpoints.save, whole_state(self.step, self.run.state), self.step.past()
        self.group.first(lambda: save(self.run.updates, self._snapshot(state, past), alone=not self._resumed))
        self._resumed = True

    def _snapshot(self, state: State, past: Past | None = None) -> dict[str, Plain]:
        return {
            "run": self.run.snapshot(state),
            "model": self.model.state_dict(),
            "states": states_of(self.optimizer, self.schedule, *self.callbacks),
            "policy": policy_state(self.step.policy),
            "past": past,
            "notes": self.notes,
            "settings": self._settings,
            "outer": self.step.outer_state(),
        }

    def _restore(self, snapshot: Snapshot) -> None:
        restore(snapshot, self.model, self.optimizer, self.schedule, self.callbacks, self.step.policy)
        self.step.load_outer_state(snapshot.get("outer"))
        self.run, self.notes = Run.restored(snapshot["run"]), snapshot["notes"]
        self.step.continue_from(snapshot.get("past"))
        warn_of_others(snapshot.get("settings", {}), self._settings)
