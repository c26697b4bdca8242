"""Mini-batches of sequences: shuffled, sorted by length, padded, and resumable."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..checks import flag, generator, integer
from ..engine.saved import Saved, check_keys
from ..engine.tree import brief
from ..errors import ConfigError
from .arrays import Array, padded


class Batch(NamedTuple):
    """A mini-batch of padded sequences; a nest of arrays, as a compiled update takes it.

    Attributes:
        inputs: (N, T, ...); 0 after the end of a sequence.
        targets: (N, ...), or (N, L, ...) where they have a time axis, with -1 (integers) or 0 after their end; or None.
        lengths: (N,), of the inputs.
        mask: (N, T), True up to the end of each.
        target_lengths: (N,); None where targets have no time axis.
        target_mask: (N, L); likewise.
    """

    inputs: Array
    targets: Array | None
    lengths: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    target_lengths: npt.NDArray[np.int64] | None = None
    target_mask: npt.NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        return brief(self)


class Table(Protocol):
    """The data that is cut into batches: `Sequences`."""

    inputs: list[Array]
    targets: list[Array] | None
    steps: bool
    lengths: npt.NDArray[np.int64]


class Batches:
    """The mini-batches of a data set: each pass over this object yields every sequence once.

    With a generator, each pass has a different order. The generator should be used for nothing else: a resumed pass
    restores its state at the start of the pass.

    Args:
        sequences: the data set.
        batch_size: N, sequences in a batch; the last batch may have fewer.
        rng: generator that shuffles; None: the order is kept.
        pool: number of batches that are sorted by length together; 1: no sorting.
        multiple: T is rounded up to a multiple of it.
        drop_last: leave out a last batch of fewer than N.

    Raises:
        ConfigError: if a setting is out of range, or no batch would be left.

    >>> import numpy as np
    >>> from tinygrad_rnn.data import Sequences
    >>> batches = Sequences([[1, 2], [3], [4, 5, 6]]).batches(2, np.random.default_rng(0))
    >>> len(batches), [batch.lengths.tolist() for batch in batches]
    (2, [[3, 2], [1]])
    """

    def __init__(
        self,
        sequences: Table,
        batch_size: int,
        rng: np.random.Generator | None = None,
        *,
        pool: int = 1,
        multiple: int = 1,
        drop_last: bool = False,
    ) -> None:
        self.sequences = sequences
        self.batch_size = integer("Batches", "batch_size", batch_size)
        self.rng: np.random.Generator | None = None if rng is None else generator("Batches", "rng", rng)
        self.pool, self.multiple = integer("Batches", "pool", pool), integer("Batches", "multiple", multiple)
        self.drop_last = flag("Batches", "drop_last", drop_last)
        if not len(self):
            raise ConfigError(
                f"Batches: {len(sequences.lengths)} sequences make no batch of {batch_size}; lower batch_size, or keep "
                "the last batch"
            )
        self._pass = object()  # the pass that was begun last, of several at a time
        self._position = 0  # batches of it that were yielded
        self._begin = self._drawn()  # the generator before it
        self._skip = 0  # batches that the next pass leaves out, because they were yielded before a stop

    def __len__(self) -> int:
        count = len(self.sequences.lengths)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of a pass, or the rest of a resumed pass. A pass that is left early is over."""
        skip, self._skip = self._skip, 0
        if skip and self.rng is not None and self._begin is not None:
            self.rng.bit_generator.state = self._begin
        self._begin, self._position = self._drawn(), skip
        this = self._pass = object()
        try:
            for place, rows in enumerate(self._order()[skip:], start=skip + 1):
                if self._pass is this:
                    self._position = place
                    if place == len(self):  # a state saved after the last batch continues with a new pass
                        self._end_pass()
                yield self._batch(rows)
        finally:
            if self._pass is this:
                self._end_pass()

    def _end_pass(self) -> None:
        self._position, self._begin = 0, self._drawn()

    def state_dict(self) -> dict[str, Saved]:
        """Return the number of batches of this pass that were yielded, and the generator at its start."""
        return {"position": self._position, "rng": copy.deepcopy(self._begin)}

    def load_state_dict(self, state: Mapping[str, Saved]) -> None:
        """Take what `state_dict` returned: the next pass is the rest of the one that was under way.

        Raises:
            ConfigError: if it is the state of other batches.
        """
        where = "Batches.load_state_dict"
        found = check_keys(where, state, {"position", "rng"})
        position, begin = integer(where, "position", found["position"], low=0, high=len(self) - 1), found["rng"]
        if (begin is None) != (self.rng is None):
            raise ConfigError(f"{where}: one of both has no generator: rng is {begin!r}, and here {self.rng!r}")
        if self.rng is not None and isinstance(begin, Mapping):
            try:
                self.rng.bit_generator.state = dict(begin)
            except (TypeError, ValueError, KeyError) as error:
                raise ConfigError(f"{where}: rng is the state of another kind of generator: {error}") from error
        self._pass = object()
        self._position = self._skip = position
        self._begin = self._drawn()

    def _drawn(self) -> dict[str, Saved] | None:
        return None if self.rng is None else dict(copy.deepcopy(self.rng.bit_generator.state))

    def _order(self) -> list[npt.NDArray[np.int64]]:
        """Return the numbers of the sequences in each batch of a pass."""
        lengths, N = self.sequences.lengths, self.batch_size
        order = np.arange(len(lengths))
        if self.rng is not None:
            order = self.rng.permutation(order)
        if self.drop_last:
            order = order[: len(self) * N]
        if self.pool > 1:
            pools = [order[start : start + self.pool * N] for start in range(0, len(order), self.pool * N)]
            order = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in pools])
        batches = [order[start : start + N] for start in range(0, len(order), N)]
        if self.pool > 1 and self.rng is not None:
            batches = [batches[place] for place in self.rng.permutation(len(batches))]
        return batches

    def _batch(self, rows: npt.NDArray[np.int64]) -> Batch:
        data = self.sequences
        inputs, lengths = padded([data.inputs[row] for row in rows], 0, self.multiple, data.lengths[rows])
        mask = np.arange(inputs.shape[1]) < lengths[:, None]
        if data.targets is None:
            return Batch(inputs, None, lengths, mask)
        wanted = [data.targets[row] for row in rows]
        if not data.steps:
            return Batch(inputs, np.stack(wanted), lengths, mask)
        value = -1 if np.result_type(*wanted).kind == "i" else 0
        counts = np.array([len(target) for target in wanted], np.int64)
        targets, counts = padded(wanted, value, self.multiple, counts)
        return Batch(inputs, targets, lengths, mask, counts, np.arange(targets.shape[1]) < counts[:, None])
