"""What is wrong with a result: which output, from which step on, by what factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...engine.tape import Array
from ...engine.tensor import Tensor
from ...testing.diagnose.hints import factor_of
from ..exercises.exercise import Exercise, Output
from ..exercises.text import Text
from .patterns import Equal, order_pattern, shape_pattern, swapped, value_pattern


@dataclass(frozen=True)
class Finding:
    """One difference between the reader's results and the right ones.

    Attributes:
        output: name of the result; "" where it concerns the call as a whole.
        what: in words.
        step: the step at which the error begins, or None.
        factor: the number that the result is times the right one, where it is the same in each entry; else None.
        plain: whether the words explain the whole of it, so that no term need be looked for.
    """

    output: str
    what: Text
    step: int | None = None
    factor: float | None = None
    plain: bool = False


_COUNT = Text("returns {got}, expected {count} results: {names}", "返回了 {got}，应当返回 {count} 个结果：{names}")
_NOTHING = Text("returns nothing: is there a return?", "没有返回任何东西：是否缺少 return？")
_NO_ARRAY = Text("is {got}, expected an array or a number", "是 {got}，应当是数组或数")
_COMPLEX = Text("is complex, expected real numbers", "是复数，应当是实数")
_UNEVEN = Text(
    "is a list of arrays of different shapes, expected one array", "是由形状不同的数组组成的列表，应当是一个数组"
)
_SHAPE = Text("has shape {got}, expected {shape}", "的形状是 {got}，应当是 {shape}")
_TRANSPOSED = Text("has shape {got}, expected {shape}: transposed?", "的形状是 {got}，应当是 {shape}：是否转置了？")
_NOT_FINITE = Text("has entries that are not finite (nan or inf)", "含有非有限的元素（nan 或 inf）")
_SWAPPED = Text("and {other} stand in each other's place", "与 {other} 的位置互换了")
_ZERO = Text("is 0 in {part}{where}", "的{part}是 0{where}")
_SIGN_ALONE = Text("has the wrong sign", "的符号反了")
_FACTOR_ALONE = Text("is {factor} times the right value", "是正确值的 {factor} 倍")
_SIGN = Text("has the wrong sign in {part}{where}", "的{part}符号反了{where}")
_FACTOR = Text("is {factor} times the right value in {part}{where}", "的{part}是正确值的 {factor} 倍{where}")
_VALUE = Text("is {found} where {expected} is right{where}", "是 {found}，而正确的是 {expected}{where}")
_ENTRIES = Text(
    "is wrong in {part}{where}: {index} is {found}, expected {expected}",
    "的{part}不对{where}：{index} 是 {found}，应当是 {expected}",
)
_AT_FIRST = Text(
    "is wrong in {part}{where}: at step {first} it is {factor} times the right value",
    "的{part}不对{where}：在第 {first} 步是正确值的 {factor} 倍",
)
_ELSEWHERE = Text(
    "{what}; in case {case} it is {factor} times: what is this factor made of?",
    "{what}；在第 {case} 个例子中是 {factor} 倍：这个倍数由什么而来？",
)
_EVERYWHERE = Text("{what}: {factor} times, in every case", "{what}：每个例子中都是 {factor} 倍")
_EVERY = Text("every entry", "每个元素")
_SOME = Text("{wrong} of {size} entries", " {size} 个元素中有 {wrong} 个")
_ONE_STEP = Text(", at step {first}", "，在第 {first} 步")
_ONE_INDEX = Text(", at index {first}", "，在下标 {first} 处")
_FROM = Text(", from step {first} on", "，从第 {first} 步开始")
_BACK = Text(", from step {first} back to step {last}", "，从第 {first} 步往回到第 {last} 步")
_NOWHERE = Text("", "")


def arrays_of(exercise: Exercise, made: object) -> list[Array] | Finding:
    """Return the results of a call as arrays, or what is wrong with their number or kind."""
    if made is None:
        return Finding("", _NOTHING)
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
        except ValueError:
            return Finding(output.name, _UNEVEN)
        if array.dtype.kind == "c":
            return Finding(output.name, _COMPLEX)
        if array.dtype.kind not in "biuf":
            return Finding(output.name, _NO_ARRAY.filled(got=type(part).__name__))
        found.append(array.astype(np.float64))
    return found


def same(exercise: Exercise, left: Sequence[Array], right: Sequence[Array]) -> bool:
    """Return whether two lists of results are equal within the tolerance of the exercise."""
    return not wrong_results(exercise, left, right)


def wrong_results(exercise: Exercise, expected: Sequence[Array], found: Sequence[Array]) -> list[int]:
    """Return the numbers of the results that are not right."""
    pairs = enumerate(zip(expected, found, strict=True))
    return [number for number, (e, a) in pairs if not _is_right(exercise, e, a)]


def differences(exercise: Exercise, expected: Sequence[Array], found: Sequence[Array]) -> list[Finding]:
    """Return what is wrong with each result."""

    def equal(left: Array, right: Array) -> bool:
        return _is_right(exercise, left, right)

    if (places := swapped(expected, found, equal)) is not None:
        one, other = (exercise.outputs[place].name for place in places)
        return [Finding(one, _SWAPPED.filled(other=other), plain=True)]
    return [
        _difference(exercise.outputs[number], expected[number], found[number], exercise.tolerance, equal)
        for number in wrong_results(exercise, expected, found)
    ]


def is_simple(factor: float, near: float = 1e-6) -> bool:
    """Return whether a factor is a whole number up to 10 or its inverse, such as -2 or 1/3: one that says something."""
    size = abs(factor)
    return size > 0 and any(
        abs(part - round(part)) < near * part and 1 <= round(part) <= 10 for part in (size, 1 / size)
    )


def said_of(factor: float) -> str:
    """Return a factor as text: "2", "1/3", "0.858954"."""
    if is_simple(factor, 1e-3) and abs(factor) < 0.99:
        return f"{'-' if factor < 0 else ''}1/{round(1 / abs(factor))}"
    return f"{factor:.6g}"


def steps_of(output: Output, expected: Array, found: Array, tolerance: float) -> list[int]:
    """Return the steps at which a result is wrong; [] for one without an axis of steps."""
    if output.time_axis is None:
        return []
    wrong = _wrong(expected, found, tolerance)
    others = tuple(axis for axis in range(wrong.ndim) if axis != output.time_axis)
    return [int(step) for step in np.flatnonzero(wrong.any(axis=others))]


def _is_right(exercise: Exercise, expected: Array, found: Array) -> bool:
    if expected.shape != found.shape or not np.isfinite(found).all():
        return False
    return not _wrong(expected, found, exercise.tolerance).any()


def _wrong(expected: Array, found: Array, tolerance: float) -> Array:
    """Return which entries are wrong."""
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    wrong: Array = np.abs(found - expected) > tolerance * scale
    return wrong


def _difference(output: Output, expected: Array, found: Array, tolerance: float, equal: Equal) -> Finding:
    if found.shape != expected.shape:
        turned = found.ndim == 2 and found.shape[::-1] == expected.shape
        text = (_TRANSPOSED if turned else _SHAPE).filled(got=found.shape, shape=expected.shape)
        return Finding(output.name, shape_pattern(expected, found, equal) or text, plain=True)
    if not np.isfinite(found).all():
        return Finding(output.name, _NOT_FINITE, plain=True)
    wrong = _wrong(expected, found, tolerance)
    where, first = _where(output, steps_of(output, expected, found, tolerance), wrong)
    filled = wrong.all() or first is not None
    part = _EVERY if filled else _SOME.filled(wrong=int(wrong.sum()), size=wrong.size)
    scalar = wrong.size == 1
    values = {"found": f"{found[wrong][0] + 0.0:.6g}", "expected": f"{expected[wrong][0] + 0.0:.6g}"}
    if not found[wrong].any():
        what = (_VALUE if scalar else _ZERO).filled(**values, part=part, where=where)
        return Finding(output.name, what, first, 0.0, plain=True)
    factor = factor_of(expected[wrong], found[wrong])
    if factor is not None and is_simple(factor) and (wrong.sum() > 1 or wrong.all()):
        texts = (_SIGN_ALONE, _FACTOR_ALONE) if scalar else (_SIGN, _FACTOR)
        what = texts[abs(factor + 1) >= 1e-6].filled(factor=said_of(factor), part=part, where=where)
        return Finding(output.name, what, first, factor, plain=True)
    if (pattern := value_pattern(expected, found, output.time_axis, equal)) is not None:
        return Finding(output.name, pattern, first, plain=True)
    if wrong.sum() == 1:
        return Finding(output.name, _VALUE.filled(**values, where=where), first, factor)
    if factor is not None:
        return Finding(output.name, _FACTOR.filled(factor=said_of(factor), part=part, where=where), first, factor)
    if (order := order_pattern(expected, found, equal)) is not None:
        return Finding(output.name, order, first)
    part = _SOME.filled(wrong=int(wrong.sum()), size=wrong.size)
    return Finding(output.name, _entries(output, expected, found, wrong, first).filled(part=part, where=where), first)


def _entries(output: Output, expected: Array, found: Array, wrong: Array, first: int | None) -> Text:
    """Return what stands in the first of the wrong entries; which part is wrong, and where, is to be filled in."""
    open_ = {"part": "{part}", "where": "{where}"}
    if output.time_axis is not None and first is not None:
        at = np.arange(wrong.shape[output.time_axis]) == first
        wrong = wrong & np.expand_dims(at, [axis for axis in range(wrong.ndim) if axis != output.time_axis])
        factor = factor_of(expected[wrong], found[wrong]) if wrong.sum() > 1 else None
        if factor is not None and is_simple(factor):
            return _AT_FIRST.filled(**open_, first=first, factor=said_of(factor))
    index = tuple(np.argwhere(wrong)[0])
    values = {"found": f"{found[index] + 0.0:.6g}", "expected": f"{expected[index] + 0.0:.6g}"}
    return _ENTRIES.filled(**open_, **values, index=f"[{', '.join(map(str, index))}]")


def _factor(expected: Array, found: Array) -> float | None:
    """Return the number that a result is times the right one, or None."""
    comparable = found.shape == expected.shape and bool(np.isfinite(found).all())
    return factor_of(expected, found) if comparable else None


def _all_over(pairs: Sequence[tuple[int, Array, Array]]) -> bool:
    """Return whether each result has several entries, and one factor: a lone entry has one in any case."""
    return all(right.size > 1 and _factor(right, made) is not None for _, right, made in pairs)


def over_cases(finding: Finding, pairs: Sequence[tuple[int, Array, Array]]) -> Finding:
    """Return a finding that also says whether its factor is the same in other cases, which tells what it is made of.

    Args:
        finding: what is wrong in the first case.
        pairs: of each case in which this result is wrong: its number, the right result, and the one found.
    """
    factors = [(case, _factor(right, made)) for case, right, made in pairs]
    (_, first), *others = factors
    if first is None or not others or abs(first) < 1e-9:
        return finding
    for case, factor in others:
        if factor is None or not np.isclose(factor, first, rtol=1e-6):
            if factor is None or finding.factor is None or not (finding.plain or _all_over(pairs)):
                return finding
            what = _ELSEWHERE.filled(what=finding.what, case=case, factor=said_of(factor))
            return replace(finding, what=what, plain=True)
    if finding.factor is not None and finding.plain:
        return finding
    return replace(finding, what=_EVERYWHERE.filled(what=finding.what, factor=said_of(first)), factor=first, plain=True)


def _where(output: Output, steps: list[int], wrong: Array) -> tuple[Text, int | None]:
    """Return in words where a result is wrong, and the step at which that begins."""
    if output.time_axis is None or not steps:
        one = wrong.ndim == 1 and wrong.size > 1 and wrong.sum() == 1
        return (_ONE_INDEX.filled(first=int(np.flatnonzero(wrong)[0])) if one else _NOWHERE), None
    if len(steps) == 1:
        return _ONE_STEP.filled(first=steps[0]), steps[0]
    if output.backward:
        return _BACK.filled(first=steps[-1], last=steps[0]), steps[-1]
    return _FROM.filled(first=steps[0]), steps[0]
