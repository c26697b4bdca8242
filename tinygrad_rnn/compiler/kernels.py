"""Kernels: what passes put in the place of several calls, because it needs fewer passes over memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..engine.tape import Array
from .graph import Operator

_BLOCK = 1 << 16  # elements of a block of rows that stays in cache

Each = Callable[[Callable[[int, int], Any], int], list[Any]]
"""`each(work, count)` calls work(start, stop) for parts of range(count), perhaps on several threads at a time."""


def in_one_piece(work: Callable[[int, int], Any], count: int) -> list[Any]:
    """Return [work(0, count)]."""
    return [work(0, count)]


def _loss_and_gradient(
    logits: Array, g: Any, /, targets: Array, ignore_label: int, *, out: Any = None, each: Each = in_one_piece
) -> tuple[Array, Array]:
    """Return the cross-entropy of logits (M, V) and g times its gradient, which may be written over the logits.

    Each block of rows goes through all passes while it is in cache: largest logit, exp, sum, scale.
    """
    if out is None:
        out = np.empty((), logits.dtype), np.empty_like(logits)
    loss, gradient = out
    ids = targets.reshape(-1)
    kept = ids != ignore_label
    count = int(np.count_nonzero(kept))
    weight: Any = logits.dtype.type(np.asarray(g).item() / count)  # of a position, once for all if none is masked
    weights = None
    if count < len(ids):
        ids, weights = np.where(kept, ids, 0), np.where(kept, weight, 0)
    rows = max(1, _BLOCK // logits.shape[1])
    lines = np.arange(min(rows, len(ids)))

    def part(first: int, last: int) -> float:
        total = 0.0
        for start in range(first, last, rows):
            block = slice(start, min(start + rows, last))
            x, d = logits[block], gradient[block]
            picks = lines[: len(x)], ids[block]
            np.subtract(x, x.max(axis=1, keepdims=True), out=d)
            picked = d[picks]
            np.exp(d, out=d)
            sums = d.sum(axis=1)
            nats = np.log(sums) - picked
            scale = weight if weights is None else weights[block]
            total += float(nats.sum() if weights is None else nats.sum(where=kept[block]))
            d *= (scale / sums)[:, None]
            d[picks] -= scale
        return total

    loss[()] = math.fsum(each(part, len(logits))) / count
    return loss, gradient


LOSS_AND_GRADIENT = Operator("loss_and_gradient", _loss_and_gradient, True, over=1, parts=True)


_NAMES = "add subtract multiply divide negative exp log sqrt tanh maximum minimum"
CHAINED = {name: getattr(np, name) for name in _NAMES.split()}
"""Ufuncs that a chain may hold, by name."""


class Chain(NamedTuple):
    """Elementwise operations on arrays of one shape.

    Attributes:
        steps: (name, operands) of each; an operand is a number, ("input", n) or ("step", n), the result of a step.
        wanted: the steps whose results are kept.
    """

    steps: tuple[tuple[str, tuple[Any, ...]], ...]
    wanted: tuple[int, ...]


def chain_operator(chain: Chain) -> Operator:
    """Return the operator that takes arrays through a chain, block by block."""

    def compute(*inputs: Array, out: Any = None, each: Each = in_one_piece) -> Any:
        whole = next(array for array in inputs if array.ndim)
        if out is None:
            out = tuple(np.empty(whole.shape, whole.dtype) for _ in chain.wanted)
        outs = out if isinstance(out, tuple) else (out,)
        flat = [array.reshape(-1) if array.ndim else array for array in inputs]
        made = [part if part.flags.c_contiguous else np.empty(part.shape, part.dtype) for part in outs]
        kept = {step: part.reshape(-1) for step, part in zip(chain.wanted, made, strict=True)}

        def part(first: int, last: int) -> None:
            spare = _temporaries(chain, whole.dtype)
            for start in range(first, last, _CHAIN_BLOCK):
                stop = min(start + _CHAIN_BLOCK, last)
                block = [array[start:stop] if array.ndim else array for array in flat]
                results: list[Array] = []
                for number, (name, operands) in enumerate(chain.steps):
                    parts = [
                        part if not isinstance(part, tuple) else (block if part[0] == "input" else results)[part[1]]
                        for part in operands
                    ]
                    target = kept[number][start:stop] if number in kept else spare[number][: stop - start]
                    results.append(CHAINED[name](*parts, out=target))

        each(part, whole.size)
        for target, own in zip(outs, made, strict=True):
            if target is not own:
                np.copyto(target, own)
        return outs if len(outs) > 1 else outs[0]

    return Operator("chain", compute, True, key=chain, parts=True)


_CHAIN_BLOCK = 1 << 15  # elements of a block: a dozen of them stay in the second cache of a core


def _temporaries(chain: Chain, dtype: Any) -> dict[int, Array]:
    """Return memory for the results that are not kept: as few blocks as can be alive at a time."""
    last = {number: number for number in range(len(chain.steps))}
    for number, (_, operands) in enumerate(chain.steps):
        for part in operands:
            if isinstance(part, tuple) and part[0] == "step":
                last[part[1]] = number
    free: list[Array] = []
    alive: dict[int, Array] = {}
    found: dict[int, Array] = {}
    for number in range(len(chain.steps)):
        for done in [n for n in alive if last[n] <= number]:  # what is read here for the last time may be written over
            free.append(alive.pop(done))
        if number not in chain.wanted:
            found[number] = alive[number] = free.pop() if free else np.empty(_CHAIN_BLOCK, dtype)
    return found
