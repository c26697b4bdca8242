"""Einstein's summation, as products of matrices: an operand at a time is multiplied into the result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, overload

import numpy as np

from ..engine.operands import as_value
from ..engine.table import implements
from ..engine.tape import Array
from ..engine.tensor import Operand, Tensor, Value, shape_of
from ..engine.types import Numbers
from ..errors import ShapeError, UnsupportedError
from .diagonals import diagonal
from .elementwise import multiply
from .linalg import matmul
from .reduce import sum
from .shape import broadcast_to, reshape, transpose

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _Term(NamedTuple):
    """An operand, and the letter of each of its axes: each once."""

    value: Operand
    axes: str


@overload
def einsum(subscripts: str, /, *operands: Tensor, optimize: bool | str = False) -> Tensor: ...
@overload
def einsum(subscripts: str, /, *operands: Numbers, optimize: bool | str = False) -> Array: ...
@overload
def einsum(subscripts: str, /, *operands: Operand, optimize: bool | str = False) -> Value: ...
@implements(np.einsum)
def einsum(subscripts: str, /, *operands: Operand, optimize: bool | str = False) -> Value:
    """Return the sum of products that `subscripts` says, such as "nth,hk->ntk": letters without an output are summed.

    Args:
        subscripts: a letter for each axis of each operand, "..." for axes that are broadcast; without "->" the output
            has the letters that occur once, in the order of the alphabet. A letter twice in an operand is a diagonal.
        operands: arrays; axes of one letter have one length, or length 1.
        optimize: how `np.einsum_path` chooses the order of more than one product; False: "greedy".

    Raises:
        ShapeError: if subscripts and shapes do not fit.
        UnsupportedError: for lists of axes in place of letters.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> tr.einsum("ij,jk->ik", np.eye(2), np.ones((2, 1)))
    array([[1.],
           [1.]])
    """
    if not isinstance(subscripts, str):
        raise UnsupportedError('einsum: the subscripts must be a string, such as "ij,jk->ik"; lists are not supported')
    operands = tuple(map(as_value, operands))
    inputs, output, lengths = _parsed(subscripts, tuple(shape_of(operand) for operand in operands))
    terms = [_without_repeats(_Term(*pair)) for pair in zip(operands, inputs, strict=True)]
    for pair in _order(terms, output, optimize):
        right, left = (terms.pop(number) for number in sorted(pair, reverse=True))
        if output[:1] in right.axes and output[:1] not in left.axes:  # rows of a batch stay rows
            left, right = right, left
        terms.append(_product(left, right, output, set(output).union(*(term.axes for term in terms)), lengths))
    last = _summed(terms[0], set(output))
    return as_value(_turned(last, output))


# -- subscripts --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _parsed(subscripts: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[list[str], str, dict[str, int]]:
    """Return the letters of each input and of the output, and the length of the axes of each letter."""
    inputs, output = _spelled_out(subscripts, shapes)
    lengths = _lengths(subscripts, inputs, shapes)
    if any(letter not in lengths for letter in output) or len(set(output)) < len(output):
        raise ShapeError(f"einsum: each letter of the output of {subscripts!r} must be one of an input, and once")
    return inputs, output, lengths


def _spelled_out(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """Return the letters of each input and of the output, with letters in place of "..."."""
    left, arrow, output = subscripts.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(shapes):
        raise ShapeError(f"einsum: {subscripts!r} has {len(inputs)} inputs, and there are {len(shapes)} operands")
    named = set(subscripts.replace(" ", "").replace("->", "").replace(",", "").replace("...", ""))
    if not named <= set(_LETTERS):
        raise ShapeError(f"einsum: {subscripts!r} may hold letters, commas, '...' and '->' only")
    free = [letter for letter in _LETTERS if letter not in named]
    dotted = [(part, shape) for part, shape in zip(inputs, shapes, strict=True) if "..." in part]
    most = max((len(shape) - len(part) + 3 for part, shape in dotted), default=0)
    broadcast = "".join(free[: max(0, most)])
    inputs = [_spelled(part, shape, broadcast, subscripts) for part, shape in zip(inputs, shapes, strict=True)]
    if arrow:
        return inputs, output.replace("...", broadcast)
    letters = "".join(inputs)
    once = sorted(letter for letter in set(letters) if letters.count(letter) == 1 and letter not in broadcast)
    return inputs, broadcast + "".join(once)


def _spelled(part: str, shape: tuple[int, ...], broadcast: str, subscripts: str) -> str:
    """Return the letters of one input: the axes of "..." are the last of those that are broadcast."""
    if "..." in part:
        count = len(shape) - len(part) + 3
        part = part.replace("...", broadcast[len(broadcast) - count :] if count > 0 else "")
    if len(part) != len(shape):
        raise ShapeError(f"einsum: {subscripts!r} has {len(part)} letters for an operand of shape {shape}")
    return part


def _lengths(subscripts: str, inputs: Iterable[str], shapes: Iterable[tuple[int, ...]]) -> dict[str, int]:
    """Return the length of the axes of each letter."""
    found: dict[str, int] = {}
    for letters, shape in zip(inputs, shapes, strict=True):
        for letter, length in zip(letters, shape, strict=True):
            if found.get(letter, 1) == 1:
                found[letter] = length
            elif length not in (1, found[letter]):
                raise ShapeError(
                    f"einsum: the axes {letter!r} of {subscripts!r} have the lengths {found[letter]} and {length}"
                )
    return found


def _without_repeats(term: _Term) -> _Term:
    """Take the diagonal of axes that have one letter."""
    value, axes = term
    if len(set(axes)) == len(axes):
        return term
    for letter in sorted(set(axes)):
        while axes.count(letter) > 1:
            first = axes.index(letter)
            second = axes.index(letter, first + 1)
            if shape_of(value)[first] != shape_of(value)[second]:
                raise ShapeError(
                    f"einsum: {letter!r} is a diagonal of axes that differ, of shape {shape_of(term.value)}"
                )
            value = diagonal(value, 0, first, second)
            axes = axes[:first] + axes[first + 1 : second] + axes[second + 1 :] + letter
    return _Term(value, axes)


def _order(terms: Sequence[_Term], output: str, optimize: bool | str) -> list[tuple[int, int]]:
    """Return which terms are multiplied, pair by pair; the product becomes the last term."""
    if len(terms) < 3:
        return [(0, 1)] * (len(terms) - 1)
    spelled = f"{','.join(term.axes for term in terms)}->{output}"
    hollow = [np.broadcast_to(np.float32(0), shape_of(term.value)) for term in terms]
    path = np.einsum_path(spelled, *hollow, optimize=optimize or "greedy")[0][1:]
    pairs: list[tuple[int, int]] = []
    count = len(terms)
    for group in path:  # a group of three or more is multiplied pair by pair
        first, second, *others = sorted(group)
        pairs += [(first, second), *((number - 2 - more, count - 2 - more) for more, number in enumerate(others))]
        count -= len(group) - 1
    return pairs


# -- products ----------------------------------------------------------------------------------------------------------


def _summed(term: _Term, wanted: set[str]) -> _Term:
    """Sum over the axes that are not wanted."""
    gone = tuple(place for place, letter in enumerate(term.axes) if letter not in wanted)
    if not gone:
        return term
    return _Term(sum(term.value, axis=gone), "".join(letter for letter in term.axes if letter in wanted))


def _product(left: _Term, right: _Term, output: str, wanted: set[str], lengths: dict[str, int]) -> _Term:
    """Multiply two terms, and sum over the letters that are not wanted."""
    left, right = _summed(left, wanted | set(right.axes)), _summed(right, wanted | set(left.axes))
    both = [letter for letter in left.axes if letter in right.axes]
    batch, inner = [x for x in both if x in wanted], [x for x in both if x not in wanted]
    rows = [letter for letter in left.axes if letter not in both]
    columns = [letter for letter in right.axes if letter not in both]
    made = "".join([*batch, *rows, *columns])
    if not inner or (batch and not rows and not columns):  # no product of matrices
        made = "".join(sorted(made, key=f"{output}{made}".index))
        spread = [*made, *inner]
        value = multiply(_spread(left, spread), _spread(right, spread))
        return _summed(_Term(value, "".join(spread)), wanted)
    longest = {letter: lengths[letter] for letter in inner}
    value = matmul(_grouped(left, batch, rows, inner, longest), _grouped(right, batch, inner, columns, longest))
    shape = shape_of(value)[: len(batch)]
    return _Term(_shaped(value, (*shape, *_of(left, rows), *_of(right, columns))), made)


def _of(term: _Term, letters: Iterable[str]) -> list[int]:
    return [shape_of(term.value)[term.axes.index(letter)] for letter in letters]


def _turned(term: _Term, letters: Iterable[str]) -> Operand:
    """Return the array with its axes in the order of `letters`."""
    order = tuple(term.axes.index(letter) for letter in letters)
    return term.value if order == tuple(range(len(order))) else transpose(term.value, order)


def _shaped(value: Operand, shape: tuple[int, ...]) -> Operand:
    return value if shape_of(value) == shape else reshape(value, shape)


def _spread(term: _Term, letters: Sequence[str]) -> Operand:
    """Return the array with its axes in the order of `letters`, and length 1 for those that it has not."""
    ordered = _turned(term, [letter for letter in letters if letter in term.axes])
    lengths = iter(shape_of(ordered))
    return _shaped(ordered, tuple(next(lengths) if letter in term.axes else 1 for letter in letters))


def _grouped(
    term: _Term, batch: Sequence[str], rows: Sequence[str], columns: Sequence[str], longest: dict[str, int]
) -> Operand:
    """Return the array as matrices: batch axes, one axis for all of `rows`, one for all of `columns`.

    Axes in `longest` are summed over; one of length 1 is broadcast before.
    """
    letters = [*batch, *rows, *columns]
    ordered = _turned(term, letters)
    shape = tuple(longest.get(letter, length) for letter, length in zip(letters, shape_of(ordered), strict=True))
    if shape_of(ordered) != shape:
        ordered = broadcast_to(ordered, shape)
    first, second = len(batch), len(batch) + len(rows)
    return _shaped(ordered, (*shape[:first], math.prod(shape[first:second]), math.prod(shape[second:])))
