"""What is wrong with a result: which output, from which step on, by what factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...engine.tape import Array
from ...engine.tensor import Tensor
from ...testing.diagnose.hints import factor_of
from ..exercises.exercise import Exercise, Output
from ..exercises.text import Text


@dataclass(frozen=True)
class Finding:
    """One difference between the reader's results and the right ones.

    Attributes:
        output: name of the result; "" where it concerns the call as a whole.
        what: in words.
        step: the step at which the error begins, or None.
        factor: the number that the result is times the right one, where it is the same in each entry; else None.
    """

    output: str
    what: Text
    step: int | None = None
    factor: float | None = None


_COUNT = Text("returns {got}, expected {count} results: {names}", "返回了 {got}，应当返回 {count} 个结果：{names}")
_NO_ARRAY = Text("is {got}, expected an array of shape {shape}", "是 {got}，应当是形状为 {shape} 的数组")
_SHAPE = Text("has shape {got}, expected {shape}", "的形状是 {got}，应当是 {shape}")
_TRANSPOSED = Text("has shape {got}, expected {shape}: transposed?", "的形状是 {got}，应当是 {shape}：是否转置了？")
_NOT_FINITE = Text("has entries that are not finite (nan or inf)", "含有非有限的元素（nan 或 inf）")
_ZERO = Text("is 0 in every entry{where}", "的每个元素都是 0{where}")
_SIGN = Text("has the wrong sign in every entry{where}", "的每个元素符号都反了{where}")
_FACTOR = Text("is {factor} times the right value in every entry{where}", "的每个元素都是正确值的 {factor} 倍{where}")
_TURNED = Text("holds the right numbers, transposed", "数值正确，但被转置了")
_ENTRIES = Text("is wrong in {wrong} of {size} entries{where}", "的 {size} 个元素中有 {wrong} 个不对{where}")
_ONE_STEP = Text(", at step {first}", "，在第 {first} 步")
_FROM = Text(", from step {first} on", "，从第 {first} 步开始")
_BACK = Text(", from step {first} back to step {last}", "，从第 {first} 步往回到第 {last} 步")
_NOWHERE = Text("", "")


def arrays_of(exercise: Exercise, made: object) -> list[Array] | Finding:
    """Return the results of a call as arrays, or what is wrong with their number or kind."""
    names = ", ".join(output.name for output in exercise.outputs)
    parts = [made] if len(exercise.outputs) == 1 else made
    if not isinstance(parts, tuple | list) or len(parts) != len(exercise.outputs):
        got = f"{len(made)}" if isinstance(made, tuple | list) else type(made).__name__
        return Finding("", _COUNT.filled(got=got, count=len(exercise.outputs), names=names))
    found = []
    for output, part in zip(exercise.outputs, parts, strict=True):
        value = part.data if isinstance(part, Tensor) else part
        try:
            array = np.asarray(value)
        except ValueError:  # nested lists of different lengths
            array = np.asarray(None)
        if array.dtype.kind not in "biuf":
            return Finding(output.name, _NO_ARRAY.filled(got=type(part).__name__, shape="(...)"))
        found.append(array.astype(np.float64))
    return found


def same(exercise: Exercise, left: Sequence[Array], right: Sequence[Array]) -> bool:
    """Return whether two lists of results are equal within the tolerance of the exercise."""
    return all(_is_right(exercise, a, b) for a, b in zip(left, right, strict=True))


def differences(exercise: Exercise, expected: Sequence[Array], found: Sequence[Array]) -> list[Finding]:
    """Return what is wrong with each result."""
    return [
        _difference(output, e, a, exercise.tolerance)
        for output, e, a in zip(exercise.outputs, expected, found, strict=True)
        if not _is_right(exercise, e, a)
    ]


def _is_right(exercise: Exercise, expected: Array, found: Array) -> bool:
    if expected.shape != found.shape or not np.isfinite(found).all():
        return False
    return not _wrong(expected, found, exercise.tolerance).any()


def _wrong(expected: Array, found: Array, tolerance: float) -> Array:
    """Return which entries are wrong."""
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    wrong: Array = np.abs(found - expected) > tolerance * scale
    return wrong


def _difference(output: Output, expected: Array, found: Array, tolerance: float) -> Finding:
    if found.shape != expected.shape:
        turned = found.ndim == 2 and found.shape[::-1] == expected.shape
        text = (_TRANSPOSED if turned else _SHAPE).filled(got=found.shape, shape=expected.shape)
        return Finding(output.name, text)
    if not np.isfinite(found).all():
        return Finding(output.name, _NOT_FINITE)
    wrong = _wrong(expected, found, tolerance)
    steps = _steps(output, wrong)
    where, first = _where(output, steps, wrong)
    if expected.ndim == 2 and expected.shape[0] == expected.shape[1] and not _wrong(expected, found.T, tolerance).any():
        return Finding(output.name, _TURNED)
    factor = factor_of(expected[wrong], found[wrong]) if wrong.sum() > 1 or wrong.all() else None
    if not found[wrong].any():
        return Finding(output.name, _ZERO.filled(where=where), first, 0.0)
    if factor is None:
        text = _ENTRIES.filled(wrong=int(wrong.sum()), size=wrong.size, where=where)
    elif abs(factor + 1) < 1e-6:
        text = _SIGN.filled(where=where)
    else:
        text = _FACTOR.filled(factor=f"{factor:.6g}", where=where)
    return Finding(output.name, text, first, factor)


def _steps(output: Output, wrong: Array) -> list[int]:
    """Return the steps at which a result is wrong."""
    if output.time_axis is None:
        return []
    others = tuple(axis for axis in range(wrong.ndim) if axis != output.time_axis)
    return [int(step) for step in np.flatnonzero(wrong.any(axis=others))]


def _where(output: Output, steps: list[int], wrong: Array) -> tuple[Text, int | None]:
    """Return in words at which steps a result is wrong, and the step at which that begins."""
    if output.time_axis is None or not steps:
        return _NOWHERE, None
    if len(steps) == 1:
        return _ONE_STEP.filled(first=steps[0]), steps[0]
    if output.backward:
        return _BACK.filled(first=steps[-1], last=steps[0]), steps[-1]
    return _FROM.filled(first=steps[0]), steps[0]
