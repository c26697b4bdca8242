"""Callbacks that write the metrics of a run for other programs: a CSV file, and event files of TensorBoard."""

from __future__ import annotations

import csv
import io
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from ...checks import flag, integer
from ...errors import ConfigError
from ...files import write_atomically
from ..loop.result import StepResult
from .callbacks import Callback
from .records import Record
from .trainer import Trainer

Row: TypeAlias = Callable[[Record], Mapping[str, object]]
"""The columns of an epoch: name to value."""


class CSVMetrics(Callback):
    """Write the metrics of all epochs to a CSV file with a header, after each epoch.

    The file is replaced as a whole, so a resumed run continues it without repeated lines. Where an epoch lacks a
    metric, its field is empty.

    Args:
        path: the file; its folder exists when the run starts.
        row: the columns of an epoch; None: `Record.values`.
        force: overwrite the file of an earlier run; a resumed run always goes on with its own.

    Raises:
        ConfigError: at the first update, if there is no such folder, no file can be written there, or a run that begins
            finds a file that is not empty.
        OSError: after an epoch, if the file cannot be written.

    >>> import tempfile, numpy as np, tinygrad_rnn as tr
    >>> model = tr.Linear(2, 1, np.random.default_rng(0), dtype=np.float64)
    >>> loss = lambda model, batch: np.mean(model(batch) ** 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "metrics.csv")
    ...     trainer = tr.Trainer(model, loss, [np.ones((3, 2))], epochs=2, callbacks=[CSVMetrics(file)], progress=False)
    ...     _ = trainer.fit()
    ...     [line.split(",")[:3] for line in file.read_text().splitlines()][0]
    ['epoch', 'step', 'train/loss']
    """

    def __init__(self, path: str | os.PathLike[str], *, row: Row | None = None, force: bool = False) -> None:
        self.path = Path(path)
        self._row = Record.values if row is None else row
        self._force = flag("CSVMetrics", "force", force)
        self._checked = False

    def on_update(self, trainer: Trainer, result: StepResult) -> None:
        """Check once, at the start of the run, that the file can be written."""
        if not self._checked:
            target = Path(os.path.realpath(self.path))
            if target.is_dir():
                raise ConfigError(f"CSVMetrics: path must be a file, got the folder {str(self.path)!r}")
            if target.is_file() or not target.exists():  # others, such as /dev/stdout, are written to directly
                _check_folder("CSVMetrics: path", self.path, target.parent)
            if target.is_file() and target.stat().st_size and trainer.run.updates == 1 and not self._force:
                raise ConfigError(
                    f"CSVMetrics: {str(self.path)!r} exists already; choose another file, resume the run that wrote "
                    "it, or overwrite it with force=True"
                )
            self._checked = True

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        """Write the file."""
        rows = [self._row(one) for one in trainer.run.records]
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, [*dict.fromkeys(name for row in rows for name in row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, buffer.getvalue())


class TensorBoard(Callback):
    """Write the metrics of each epoch, and of updates in between, to an event file that TensorBoard reads.

    The step of each point is the number of updates so far. A resumed run writes a new file into the same folder, and
    TensorBoard then hides the points of the earlier file that the run repeats.

    Args:
        folder: for the event files; made with the first point.
        every: updates between two points of update/loss, update/lr and update/gradient_norm; 0: none.
        row: the metrics of an epoch; None: `Record.values`. Numbers among them are written, except the epoch and step.

    Raises:
        ConfigError: if `every` is out of range, or tensorboardX is missing (the extra tinygrad_rnn[tensorboard]); at
            the first update, if the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], *, every: int = 50, row: Row | None = None) -> None:
        try:
            # Imported here: an optional extra. Its SummaryWriter, which writes in a thread, may lose the last points of
            # a run that is killed; the writer of events that it uses itself does not.
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto import event_pb2
        except ImportError as error:
            raise ConfigError(
                'TensorBoard: needs tensorboardX, which writes event files: pip install "tinygrad_rnn[tensorboard]"'
            ) from error
        self.folder, self.every = Path(folder), integer("TensorBoard", "every", every, low=0)
        self._row = Record.values if row is None else row
        self._events, self._open = event_pb2, EventsWriter
        self._writer: EventsWriter | None = None
        self._checked = False

    def on_update(self, trainer: Trainer, result: StepResult) -> None:
        """Write the point of an update, if one is due; at the start of the run, check that there is a place for it."""
        if not self._checked:
            there = next(path for path in (self.folder.absolute(), *self.folder.absolute().parents) if path.exists())
            _check_folder("TensorBoard: folder", self.folder, there)
            self._checked = True
        step = trainer.run.updates
        if self.every and step % self.every == 0:
            values = {"loss": result.loss, "lr": result.lr, "gradient_norm": result.gradient_norm}
            self._write({f"update/{name}": value for name, value in values.items()}, step)

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        """Write the point of an epoch."""
        values = self._row(record)
        self._write({name: values[name] for name in values if name not in ("epoch", "step")}, record.step)

    def on_end(self, trainer: Trainer) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, values: Mapping[str, object], step: int) -> None:
        """Write a point, all the way to the file."""
        event, now = self._events.Event, time.time()
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._writer = self._open(str(self.folder / "events"), f".{secrets.token_hex(4)}")  # no two have one name
            # A start of a session hides what earlier files have from this step on.
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            self._writer.write_event(event(wall_time=now, step=step, session_log=start))
        point = event(wall_time=now, step=step)
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                point.summary.value.add(tag=name, simple_value=value)
        self._writer.write_event(point)
        self._writer.flush()


def _check_folder(argument: str, path: Path, folder: Path) -> None:
    """Check at the start of a run, which may be long, that what a writer will write has a place.

    Raises:
        ConfigError: if there is no such folder, or nothing can be written there.
    """
    if not folder.exists():
        reason = f"there is no folder {str(folder)!r}; make it first"
    elif not folder.is_dir():
        reason = f"{str(folder)!r} is not a folder; choose another place"
    elif not os.access(folder, os.W_OK | os.X_OK):
        reason = f"{str(folder)!r} cannot be written to; choose another place"
    else:
        return
    raise ConfigError(f"{argument} is {str(path)!r}, but {reason}")
