"""Where a run is: what a checkpoint holds of it, and how it is put back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TypeAlias

import numpy as np

from ..engine.saved import Stateful
from ..engine.tape import Array
from ..engine.tensor import Tensor
from ..engine.tree import map_leaves
from ..errors import ConfigError, ModelFileError
from ..imports import import_object
from ..metrics import Metric
from ..nn.cells import State
from ..nn.module import Module
from ..truncation import Policy
from .loop import Totals
from .objective import Batch
from .plain import Plain, set_state
from .records import Record
from .streams import stream

Batches: TypeAlias = Iterable[Batch] | Callable[..., Iterable[Batch]]
"""Batches of each pass: an iterable, or a function that returns one; it may take a generator, which shuffles."""


@dataclass
class Run:
    """Where a run is.

    Attributes:
        seed: of all streams of random numbers.
        step: updates in the epochs that are done.
        read: batches that were read in them.
        records: of the epochs that are done.
        best: the best of them, and the model's arrays after it; before the first, those that the run started with.
        stop: whether a callback has ended the run.
        totals: of the epoch under way; None: none is.
        state: after its last update.
        rng: that its loss function draws from.
        data: the state of the batches when it began (when the next one begins), if they have one.
        resumed: whether the batches must still be given that state.
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
        """The epoch that is under way, or comes next."""
        return len(self.records) + 1

    @property
    def updates(self) -> int:
        """Updates since the start of the run."""
        return self.step + (0 if self.totals is None else self.totals.steps)

    def begin_epoch(self, state: State, batches: Batches) -> Totals:
        """Return the totals of the epoch under way; a new one starts if there is none."""
        if self.resumed:
            restore_into("batches", batches, self.data)
            self.resumed = False
        if self.totals is None:
            self.totals, self.state = Totals(), state() if callable(state) else state
            self.rng = stream(self.seed, 1, self.epoch)
            self.data = _state_of(batches)
        return self.totals

    def end_epoch(self, record: Record, read: int, batches: Batches) -> None:
        """Take the record of the epoch."""
        self.records.append(record)
        self.step, self.read = record.step, self.read + read
        self.totals = self.state = self.rng = None
        self.data = _state_of(batches)

    def snapshot(self) -> dict[str, Plain]:
        """Return all of it."""
        return {
            "seed": self.seed,
            "step": self.step,
            "read": self.read,
            "records": [asdict(record) for record in self.records],
            "best": None if self.best is None else self.best.epoch,
            "arrays": dict(self.arrays),
            "stop": self.stop,
            "totals": None if self.totals is None else _totals_as_plain(self.totals),
            "state": map_leaves(_array_of, self.state),
            "rng": self.rng,
            "data": self.data,
        }

    @classmethod
    def restored(cls, snapshot: Mapping[str, Plain]) -> Run:
        """Return the run that `snapshot` describes."""
        records = [Record(**record) for record in snapshot["records"]]
        best = None if snapshot["best"] is None else records[snapshot["best"] - 1]
        totals = None if snapshot["totals"] is None else _totals(snapshot["totals"])
        return cls(**{**snapshot, "records": records, "best": best, "totals": totals, "resumed": True})


def _totals_as_plain(totals: Totals) -> dict[str, Plain]:
    plain = {
        name: {"kind": f"{type(metric).__module__}:{type(metric).__qualname__}", "sums": metric.sums}
        for name, metric in totals.metrics.items()
    }
    return {**asdict(replace(totals, metrics={})), "metrics": plain}


def _totals(plain: Mapping[str, Plain]) -> Totals:
    metrics = {name: _metric(**metric) for name, metric in plain["metrics"].items()}
    return Totals(**{**plain, "metrics": metrics})


def _metric(kind: str, sums: Array) -> Metric:
    found = import_object("resume", kind)
    if not (isinstance(found, type) and issubclass(found, Metric)):
        raise ModelFileError(f"resume: {kind} is not a Metric")
    made: Metric = found(sums)
    return made


class Source:
    """The batches of a run: an iterable, or a function that gives one for each pass; see `Batches`.

    Args:
        name: of the argument, for messages.
        batches: what the user passed.

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

    def epoch(self, rng: np.random.Generator, before: int) -> Iterator[Batch]:
        """Yield the batches of a pass, and count them in `read`.

        Args:
            rng: for a function that takes one.
            before: batches that earlier passes have read, which an iterator that runs on through all of them skips if
                this is the first pass that it is asked for.
        """
        if isinstance(self.batches, Iterable):
            batches = iter(self.batches)
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
    """Give an object the state that was saved of it, if it has any.

    Raises:
        ModelFileError: if one was saved, and it takes none; or the other way round.
    """
    if isinstance(target, Stateful) != (state is not None):
        raise ModelFileError(
            f"resume: the checkpoint {'has' if state is not None else 'lacks'} a state for the {what}, which is of "
            f"type {type(target).__name__} now; make the same Trainer as that of the run"
        )
    if isinstance(target, Stateful):
        target.load_state_dict(state)


def _state_of(target: object) -> Plain:
    return dict(target.state_dict()) if isinstance(target, Stateful) else None


def states_of(*targets: object) -> list[Plain]:
    """Return the states of objects, None for those that have none."""
    return [_state_of(target) for target in targets]


def policy_state(policy: Policy | None) -> dict[str, Plain]:
    """Return what a policy holds that may change: its numbers and generators.

    >>> import tinygrad_rnn as tr
    >>> policy_state(tr.Adaptive(0.1, max_window=8, every=2))["window"]
    4
    """
    if policy is None:
        return {}
    return {name: value for name, value in vars(policy).items() if isinstance(value, int | float | np.random.Generator)}


def restore_policy(policy: Policy | None, state: Mapping[str, Plain]) -> None:
    """Give a policy what `policy_state` returned."""
    for name, value in state.items():
        own = getattr(policy, name, None)
        if isinstance(own, np.random.Generator):
            set_state(own, value)
        elif own != value:
            object.__setattr__(policy, name, value)  # a policy may be frozen


def restore_model(model: Module, arrays: Mapping[str, Array]) -> None:
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
