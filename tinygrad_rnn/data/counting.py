"""The vocabulary of runs: exact counts of all tokens, by sorting and merging files, in bounded memory."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..errors import CorpusError
from .runs import Run
from .vocabulary import UNKNOWN, Vocabulary

_Counted: TypeAlias = tuple[str, int, int]
"""A token, how often it appears, and a number that grows with the place where it appeared first."""

_FILES = 64  # that are merged at a time


def count_vocabulary(folder: Path, runs: Sequence[Run], training_tokens: int, min_count: int, size: int) -> Vocabulary:
    """Return the vocabulary of the start of a text, as `Vocabulary.from_tokens` makes it, of the most frequent tokens.

    Args:
        folder: of the runs, and for files that are merged.
        runs: of the text.
        training_tokens: length of the start.
        min_count: tokens that appear fewer times are left out.
        size: the most tokens of the vocabulary, "<unk>" among them.

    Raises:
        CorpusError: if no token appears `min_count` times.
    """
    files, before = [], 0
    for run in runs:
        if before < training_tokens:
            files.append(_written(folder / f"counts-{run.number:05d}", _counted(folder, run, training_tokens - before)))
        before += run.length
    while len(files) > _FILES:
        groups = [files[first : first + _FILES] for first in range(0, len(files), _FILES)]
        files = [_written(group[0].with_suffix(".merged"), _merged(group)) for group in groups]
    # Frequent first, then early first; the heap holds no more than the vocabulary.
    kept = heapq.nsmallest(
        size - 1,
        ((-count, first, token) for token, count, first in _merged(files) if count >= min_count and token != UNKNOWN),
    )
    for path in folder.glob("counts-*"):
        path.unlink()
    if not kept:
        raise CorpusError(
            f"prepare: no token appears min_count = {min_count} times or more in the training part of "
            f"{training_tokens:,} tokens; pass more text or a lower min_count"
        )
    return Vocabulary([UNKNOWN, *(token for _, _, token in kept)])


def _counted(folder: Path, run: Run, most: int) -> list[_Counted]:
    """Return the counts of the first tokens of a run, sorted by token."""
    counts = np.zeros(run.tokens, np.int64)
    for block in run.blocks(folder, most):
        counts += np.bincount(block, minlength=run.tokens)
    numbered = zip(
        run.table(folder), counts.tolist(), range(run.number << 40, (run.number << 40) + run.tokens), strict=True
    )
    return sorted(one for one in numbered if one[1])


def _merged(files: Iterable[Path]) -> Iterator[_Counted]:
    """Yield the sums of counts in sorted files, sorted."""
    rows = heapq.merge(*(_read(path) for path in files), key=itemgetter(0))
    for token, group in groupby(rows, key=itemgetter(0)):
        same = [*group]
        yield token, sum(count for _, count, _ in same), min(first for _, _, first in same)


def _read(path: Path) -> Iterator[_Counted]:
    with path.open("rb") as file:
        for line in file:
            token, count, first = json.loads(line)
            yield token, count, first


def _written(path: Path, rows: Iterable[_Counted]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path
