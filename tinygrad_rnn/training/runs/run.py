"""The position of a run, and its state in a checkpoint."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import NotRequired, TypeAlias, TypedDict, TypeVar, cast

import numpy as np

from ...credit.policy import Policy, restore_policy
from ...credit.update import Past
from ...engine.saved import Saved, Stateful
from ...engine.tape import Array
from ...engine.tensor import Tensor
from ...engine.tree import map_leaves
from ...errors import ConfigError, ModelFileError, warn
from ...imports import import_object
from ...metrics import Metric
from ...nn.cells import State
from ...nn.module import Module
from ...parallel.group import Group
from ...parallel.shares import own_rows
from ..files.plain import Plain
from ..loop.epoch import Totals
from ..loop.objective import Batch
from ..loop.streams import stream
from .records import Record

Batches: TypeAlias = Iterable[Batch] | Callable[..., Iterable[Batch]]
"""Batches of each pass: an iterable, or a function that returns one and may take a generator to shuffle with."""


_Made = TypeVar("_Made")


class RunState(TypedDict):
    """A `Run` in a checkpoint: metrics and records as dicts, the best epoch as its number."""

    seed: int
    step: int
    read: int
    records: list[dict[str, Plain]]
    best: int | None
    arrays: dict[str, Array]
    stop: bool
    totals: dict[str, Plain] | None
    state: State
    rng: np.random.Generator | None
    data: Plain


class Snapshot(TypedDict):
    """The content of a `Trainer`'s checkpoint."""

    run: RunState
    model: dict[str, Array]
    states: list[Plain]
    policy: dict[str, Plain]
    past: NotRequired[Past | None]
    notes: Plain
    settings: NotRequired[dict[str, str]]
    outer: NotRequired[dict[str, Array] | None]


@dataclass
class Run:
    """The position of a run, and what it has found so far.

    Attributes:
        seed: of all streams of random numbers.
        step: updates in the completed epochs.
        read: batches that were read in them.
        records: of the completed epochs.
        best: the best of them; None: there is none yet.
        arrays: the model's arrays after the best epoch; before the first, those that the run started with.
        stop: whether a callback has ended the run.
        totals: of the current epoch; None: between epochs.
        state: after its last update.
        rng: that its loss function draws from.
        data: the state of the batches at the start of the current epoch (or the next one), if they have a state.
        resumed: whether that state must still be loaded into the batches.
    """

    seed: int
    step: int = 0
    read: int = 0
    records: list[Record] = field(default_factory=list)
    best: Record | None = None
    arrays: dict[str, Array] = field(default_factory=dict)
    stop: bool = False
    totals: Totals | None = None
    state: State = None
    rng: np.random.Generator | None = None
    data: Plain = None
    resumed: bool = False

    @property
    def epoch(self) -> int:
        """The number of the current epoch, or of the next one."""
        return len(self.records) + 1

    @property
    def updates(self) -> int:
        """Updates since the start of the run."""
        return self.step + (0 if self.totals is None else self.totals.steps)

    def begin_epoch(self, state: State, batches: Batches) -> Totals:
        """Return the totals of the current epoch, which is begun if there is none."""
        if self.resumed:
            restore_into("batches", batches, self.data)
            self.resumed = False
        if self.totals is None:
            self.totals, self.state = Totals(), state() if callable(state) else state
            self.rng = stream(self.seed, 1, self.epoch)
            self.data = _state_of(batches)
        return self.totals

    def end_epoch(self, record: Record, read: int, batches: Batches) -> None:
        """Record the end of the epoch."""
        self.records.append(record)
        self.step, self.read = record.step, self.read + read
        self.totals = self.state = self.rng = None
        self.data = _state_of(batches)

    def snapshot(self, state: State) -> RunState:
        """Return all of it; `state` is that of all streams, of which a process may hold some."""
        return {
            "seed": self.seed,
            "step": self.step,
            "read": self.read,
            "records": [asdict(record) for record in self.records],
            "best": None if self.best is None else self.best.epoch,
            "arrays": dict(self.arrays),
            "stop": self.stop,
            "totals": None if self.totals is None else _totals_as_plain(self.totals),
            "state": map_leaves(_array_of, state),
            "rng": self.rng,
            "data": self.data,
        }

    @classmethod
    def restored(cls, snapshot: RunState) -> Run:
        """Return the run that `snapshot` describes.

        Warns:
            UserWarning: if a callback has ended it.
        """
        records = [_made_of(Record, record) for record in snapshot["records"]]
        best = None if snapshot["best"] is None else records[snapshot["best"] - 1]
        totals = None if snapshot["totals"] is None else _totals(snapshot["totals"])
        if snapshot["stop"]:
            warn(
                f"Trainer.resume: a callback ended this run in epoch {len(records) or 1}, so fit makes no update; to "
                "go on, set trainer.run.stop = False before it",
            )
        return _made_of(cls, {**snapshot, "records": records, "best": best, "totals": totals, "resumed": True})


def _made_of(kind: Callable[..., _Made], values: Mapping[str, Plain]) -> _Made:
    """Return an object made of the values in a checkpoint, by name."""
    return kind(**values)


def _totals_as_plain(totals: Totals) -> dict[str, Plain]:
    plain = {
        name: {"kind": f"{type(metric).__module__}:{type(metric).__qualname__}", "sums": metric.sums}
        for name, metric in totals.metrics.items()
    }
    return {**asdict(replace(totals, metrics={})), "metrics": plain}


def _totals(plain: Mapping[str, Plain]) -> Totals:
    saved = cast(Mapping[str, Mapping[str, Plain]], plain["metrics"])
    return _made_of(Totals, {**plain, "metrics": {name: _made_of(_metric, metric) for name, metric in saved.items()}})


def _metric(kind: str, sums: Array) -> Metric:
    found = import_object("resume", kind)
    if not (isinstance(found, type) and issubclass(found, Metric)):
        raise ModelFileError(f"resume: {kind} is not a Metric")
    made: Metric = found(sums)
    return made


class Source:
    """The batches of a run: an iterable, or a function that returns one for each pass; see `Batches`.

    Args:
        name: of the argument, for messages.
        batches: the user's argument.

    Raises:
        ConfigError: if it is neither.

    >>> [*Source("train", lambda rng: rng.permutation(3)).epoch(np.random.default_rng(0), 0)]
    [np.int64(2), np.int64(0), np.int64(1)]
    """

    def __init__(self, name: str, batches: Batches) -> None:
        if not callable(batches) and not isinstance(batches, Iterable):
            raise ConfigError(
                f"Trainer: {name} must be an iterable of batches, or a function that returns one, got "
                f"{type(batches).__name__}"
            )
        self.batches = batches
        self.read = 0

    def epoch(self, rng: np.random.Generator, before: int, group: Group | None = None) -> Iterator[Batch]:
        """Yield the batches of a pass, and count them in `read`.

        Args:
            rng: for a function that takes one.
            before: batches that earlier passes have read, which a single iterator for all passes skips if this
                is the first pass after a restart.
            group: processes that divide the rows; of streams, each reads its own alone. None: this process has all.
        """
        if isinstance(self.batches, Iterable):
            own = None if group is None else own_rows(self.batches, group)
            batches = iter(self.batches) if own is None else own
            if batches is self.batches and not self.read:
                for _ in zip(range(before), batches, strict=False):
                    self.read += 1
        else:
            takes = inspect.signature(self.batches).parameters
            batches = iter(self.batches(rng) if takes else self.batches())
        for batch in batches:
            self.read += 1
            yield batch


def restore_into(what: str, target: object, state: Plain) -> None:
    """Load the saved state of an object, if it has one.

    Raises:
        ModelFileError: if a state was saved and the object takes none, or the other way round.
    """
    if isinstance(target, Stateful) != (state is not None):
        raise ModelFileError(
            f"resume: the checkpoint {'has' if state is not None else 'lacks'} a state for the {what}, which is of "
            f"type {type(target).__name__} now; construct the Trainer like that of the run"
        )
    if isinstance(target, Stateful):
        target.load_state_dict(cast(Mapping[str, Saved], state))


def _state_of(target: object) -> Plain:
    return dict(target.state_dict()) if isinstance(target, Stateful) else None


def states_of(*targets: object) -> list[Plain]:
    """Return the states of objects, None for those that have none."""
    return [_state_of(target) for target in targets]


def restore(
    snapshot: Snapshot,
    model: Module,
    optimizer: object,
    schedule: object,
    callbacks: Iterable[object],
    policy: Policy | None,
) -> None:
    """Load a checkpoint into the parts of a Trainer; its callbacks without a state may differ from those of the run.

    Raises:
        ModelFileError: if the checkpoint is of another model, or of a Trainer with other parts.
    """
    stateful = [callback for callback in callbacks if isinstance(callback, Stateful)]
    states = [state for state in snapshot["states"][2:] if state is not None]
    if len(stateful) != len(states):
        raise ModelFileError(
            f"resume: the run had {len(states)} callbacks with a state, and this Trainer has {len(stateful)}; "
            "construct it like that of the run, or use another folder for another run"
        )
    _restore_model(model, snapshot["model"])
    names = ["optimizer", "schedule", *(f"callback {type(callback).__name__}" for callback in stateful)]
    states = [*snapshot["states"][:2], *states]
    for name, target, state in zip(names, (optimizer, schedule, *stateful), states, strict=True):
        restore_into(name, target, state)
    if policy is not None:
        restore_policy(policy, snapshot["policy"])


def _restore_model(model: Module, arrays: Mapping[str, Array]) -> None:
    """Give a model the arrays of a checkpoint.

    Raises:
        ModelFileError: if it is another model.
    """
    try:
        model.load(arrays)
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"resume: the checkpoint is of another model: {error}") from error


def _array_of(part: State) -> State:
    return part.data if isinstance(part, Tensor) else part
