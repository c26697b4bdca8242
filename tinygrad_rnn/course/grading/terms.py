"""Which term of a wrong result is wrong: what each argument, at each step, adds to it, compared with what it should.

The reader's function and the right one are called again with one argument moved a little, at one step or at all of
them. What the results do then is the share of that argument in them: where the reader's does not move, its term is
missing; where it moves by twice as much, it is counted twice. This needs no list of mistakes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ...engine.tape import Array
from ...engine.tree import flatten, rebuild
from ..exercises.exercise import Exercise, Output
from ..exercises.text import Text
from .findings import Finding, is_simple, said_of, steps_of

Call = Callable[[tuple[object, ...]], Sequence[Array] | None]
"""Gives the results for a case; None if there are none: the function raised an error, for instance."""

_MOVE, _NEAR = 1e-4, 1e-4  # of an argument; between two shares that are equal, relative to the largest share

_MISSING = Text(
    "does not depend on {term}, and should: where does it enter?", "与{term}无关，但应当有关：它从哪里进入？"
)
_EXTRA = Text("depends on {term}, and should not", "不应当依赖{term}却依赖了")
_TIMES = Text("takes {factor} times the share of {term}", "把{term}的贡献算成了 {factor} 倍")
_SIGN = Text("takes the share of {term} with the wrong sign", "把{term}的贡献的符号弄反了")
_LATER = Text(
    "takes at each step the share of {term} that belongs to the step after", "每一步取的{term}的贡献属于后一步"
)
_EARLIER = Text(
    "takes at each step the share of {term} that belongs to the step before", "每一步取的{term}的贡献属于前一步"
)
_HERE = Text("at step {step} {what}", "在第 {step} 步{what}")
_COMPARED = Text(
    "takes {factor} times as much of the share of {term} as of each other one",
    "放大{term}的贡献的倍数，是放大其他贡献的 {factor} 倍",
)
_PASSES = Text(
    "changes the share of {one} by another factor than that of {other}: what does only one of them go through?",
    "对{one}的贡献和{other}的贡献改变了不同的倍数：只有其中一方经过的是什么？",
)
_GROWS = Text(
    "grows by {found} if {name} grows by 1, and should grow by {expected}",
    "在 {name} 增加 1 时增加 {found}，而应当增加 {expected}",
)
_ONE_OF = Text("{what}; the share of {right} is right", "{what}；{right}的贡献是对的")
_BEYOND = Text("has the right share of {right}, and a wrong one of {wrong}", "{right}的贡献是对的，{wrong}的贡献不对")
_LINEAR = Text(
    "grows in proportion to {term}, and should not: it is outside of a function that it should go through",
    "随{term}成正比地增长，这不对：它本应经过某个函数，现在却在这个函数之外",
)
_CURVED = Text(
    "does not grow in proportion to {term}, and should: it goes through a function that it should not",
    "没有随{term}成正比地增长，这不对：它经过了一个不该经过的函数",
)
_ALL = Text("{name}", " {name} ")
_AT = Text("{name} at step {steps}", "第 {steps} 步的 {name} ")
_AT_SEVERAL = Text("{name} at steps {steps}", "第 {steps} 步的 {name} ")


class Leaf(NamedTuple):
    """One array or number among the arguments of a case.

    Attributes:
        name: of the argument, with the place in it where it is nested: "layers[0][2]".
        place: its number among all leaves of the case.
        value: the array.
        time_axis: the axis of the steps, or None.
    """

    name: str
    place: int
    value: Array
    time_axis: int | None


class Share(NamedTuple):
    """What an argument adds to the right result and to the reader's, and below which size that is rounding."""

    expected: Array
    found: Array
    rounding: tuple[float, float]

    @property
    def factor(self) -> float | None:
        """Return the number that the reader's share is times the right one, where there is one."""
        factor = round(float(np.sum(self.found * self.expected) / np.sum(self.expected**2)), 4)
        near = 2 * _NEAR * max(float(np.abs(part).max(initial=0.0)) for part in self[:2])
        return factor if bool((np.abs(self.found - factor * self.expected) <= near).all()) else None

    @property
    def kind(self) -> str | float:
        """Return "same", "missing", "extra", "none" (in neither), the factor if it is simple, or "other"."""
        sizes = [float(np.abs(part).max(initial=0.0)) for part in self[:2]]
        there = [size > least for size, least in zip(sizes, self.rounding, strict=True)]
        if not all(there):
            return "missing" if there[0] else "extra" if there[1] else "none"
        if bool((np.abs(self.found - self.expected) <= _NEAR * max(sizes)).all()):
            return "same"
        return self.factor if self.factor is not None and is_simple(self.factor, 1e-3) else "other"


def terms(
    exercise: Exercise,
    case: tuple[object, ...],
    solve: Call,
    theirs: Call,
    wrong: Sequence[int],
    simplest: tuple[object, ...] | None = None,
) -> list[Finding]:
    """Return which terms of the wrong results are wrong, at most one finding for each.

    Args:
        exercise: the exercise.
        case: the arguments.
        solve: the right function.
        theirs: the reader's.
        wrong: numbers of the results that are wrong.
        simplest: the arguments of another wrong case. Large arguments may end in a flat part of a function, and what
            does not move there has no term missing if it moves here.
    """
    expected, found = solve(case), theirs(case)
    if expected is None or found is None or not all(map(_comparable, expected, found)):
        return []
    leaves = list(_leaves(exercise, case))
    pairs = zip(expected, found, strict=True)
    rounding = [(_rounding(right), _rounding(made)) for right, made in pairs]
    seen = {leaf.name: _seen(leaf, case, solve, theirs, rounding) for leaf in leaves}
    made = []
    for number in wrong:
        output = exercise.outputs[number]
        step = _first(output, expected[number], found[number], exercise.tolerance)
        tables = {
            name: [_picked(part, number, output, step) for part in parts] for name, parts in seen.items() if parts
        }
        flat = [name for name in tables if simplest is not None and _moves(name, exercise, simplest, theirs, number)]
        tables = {name: parts for name, parts in tables.items() if parts[0].kind != "missing" or name not in flat}
        what = _judged(tables)
        if what is not None and step is not None:
            what = _HERE.filled(step=step, what=what)
        what = _all_late(tables) or what or _shaped(leaves, case, solve, theirs, number)
        what = what or _parted(tables) or _counted(exercise, case, solve, theirs, number)
        if what is not None:
            made.append(Finding(output.name, what, step))
    return made


def _moves(name: str, exercise: Exercise, case: tuple[object, ...], theirs: Call, number: int) -> bool:
    """Return whether a result of the reader's function moves with an argument in a case."""
    for leaf in _leaves(exercise, case):
        if leaf.name == name:
            up, down = (theirs(_moved(case, leaf, sign * next(_pieces(leaf)))) for sign in (1, -1))
            return up is not None and down is not None and not np.array_equal(up[number], down[number])
    return False


def _rounding(value: Array) -> float:
    """Return below which size a share in this result is rounding."""
    return 1e-7 * max(1.0, float(np.abs(value).max(initial=0.0)))


def _comparable(expected: Array, found: Array) -> bool:
    return expected.shape == found.shape and bool(np.isfinite(found).all())


def _leaves(exercise: Exercise, case: tuple[object, ...]) -> Iterator[Leaf]:
    """Yield the arrays and numbers of a case that can be moved: not the whole numbers."""
    place = 0
    for name, argument in zip(exercise.arguments, case, strict=True):
        inside = [name] if isinstance(argument, np.ndarray | float) else list(_names(name, argument))
        for label, leaf in zip(inside, flatten(argument), strict=True):
            value = np.asarray(leaf)
            if value.dtype.kind == "f" and value.size:
                yield Leaf(label, place, value, exercise.steps.get(name))
            place += 1


def _names(name: str, nest: object) -> Iterator[str]:
    if isinstance(nest, list | tuple):
        for number, part in enumerate(nest):
            yield from _names(f"{name}[{number}]", part)
    else:
        yield name


def _moved(case: tuple[object, ...], leaf: Leaf, by: Array) -> tuple[object, ...]:
    """Return a case with one leaf moved."""
    leaves = flatten(copy.deepcopy(case))
    value = leaf.value + by
    leaves[leaf.place] = value if isinstance(leaves[leaf.place], np.ndarray) else float(value)
    return tuple(rebuild(case, iter(leaves)))


def _pieces(leaf: Leaf) -> Iterator[Array]:
    """Yield directions to move a leaf along: as a whole, then at one step after another, the same at each."""
    shape, axis = leaf.value.shape, leaf.time_axis
    one = shape if axis is None else (*shape[:axis], 1, *shape[axis + 1 :])
    whole = np.broadcast_to(np.random.default_rng(1).uniform(0.5, 1.0, one) * _MOVE, shape)
    yield whole
    for step in range(0 if axis is None else shape[axis]):
        at = np.arange(shape[axis or 0]) == step
        yield whole * np.expand_dims(at, [other for other in range(len(shape)) if other != axis])


def _seen(
    leaf: Leaf, case: tuple[object, ...], solve: Call, theirs: Call, rounding: Sequence[tuple[float, float]]
) -> list[list[Share]]:
    """Return the shares of a leaf in each result, as a whole and at each step; [] where a call fails."""
    found = []
    for by in _pieces(leaf):
        sides = [call(_moved(case, leaf, sign * by)) for call in (solve, theirs) for sign in (1, -1)]
        if any(side is None for side in sides):
            return []
        ups = [
            [(a - b) / (2 * _MOVE) for a, b in zip(up, down, strict=True)]  # type: ignore[arg-type]
            for up, down in (sides[:2], sides[2:])
        ]
        found.append([Share(*parts) for parts in zip(*ups, rounding, strict=True)])
    return found


def _first(output: Output, expected: Array, found: Array, tolerance: float) -> int | None:
    """Return the step at which a result begins to be wrong."""
    steps = steps_of(output, expected, found, tolerance)
    return None if not steps else steps[-1] if output.backward else steps[0]


def _picked(shares: Sequence[Share], number: int, output: Output, step: int | None) -> Share:
    """Return the share in one result, at one step of it."""
    if step is None or output.time_axis is None:
        return shares[number]
    share = shares[number]
    expected, found = (np.take(part, step, axis=output.time_axis) for part in share[:2])
    return Share(expected, found, share.rounding)


def _judged(tables: dict[str, list[Share]]) -> Text | None:
    """Return in words which share is wrong; None where none stands out."""
    kinds = {name: [share.kind for share in shares] for name, shares in tables.items()}
    for kind, text in (("missing", _MISSING), ("extra", _EXTRA)):
        for name, found in kinds.items():
            if found[0] == kind:
                return text.filled(term=_ALL.filled(name=name))
        for name, found in kinds.items():
            if kind in found[1:]:
                return text.filled(term=_at(name, found[1:], kind))
    return _multiplied(kinds) or _split(kinds) or _uneven(tables) or _apart(tables)


def _all_late(tables: dict[str, list[Share]]) -> Text | None:
    """Return whether each step has the share of its neighbour."""
    for name, (_, *shares) in tables.items():
        if len(shares) < 3 or all(share.kind == "same" for share in shares):
            continue
        expected, found = (np.array([share[side] for share in shares]) for side in (0, 1))
        for text, right, made in ((_LATER, expected[1:], found[:-1]), (_EARLIER, expected[:-1], found[1:])):
            if Share(right, made, shares[0].rounding).kind == "same":
                return text.filled(term=_ALL.filled(name=name))
    return None


def _multiplied(kinds: dict[str, list[str | float]]) -> Text | None:
    """Return whether one share is multiplied, as a whole or at some steps."""
    for name, found in kinds.items():
        factor = next((part for part in found if isinstance(part, float)), None)
        if factor is None or not set(found[1:]) <= {"same", "none", factor}:
            continue
        others = {part for other, parts in kinds.items() if other != name for part in parts}
        if found[0] != factor:
            return _by(factor, _at(name, found[1:], factor))
        if others <= {"same", "none"}:
            return _by(factor, _ALL.filled(name=name))
    return None


def _split(kinds: dict[str, list[str | float]]) -> Text | None:
    """Return whether the shares of an argument are right at some steps, the first ones rather, and wrong at others."""
    mixed = {name: found for name, (_, *found) in kinds.items() if "same" in found and set(found) - {"same", "none"}}
    for name in sorted(mixed, key=lambda name: next(kind for kind in mixed[name] if kind != "none") != "same"):
        wrong = set(mixed[name]) - {"same", "none"}
        return _BEYOND.filled(right=_at(name, mixed[name], "same"), wrong=_at(name, mixed[name], *wrong))
    return None


def _uneven(tables: dict[str, list[Share]]) -> Text | None:
    """Return whether one share is multiplied in comparison with all others, which a slope has changed alike."""
    ratios = _ratios(tables)
    for name in ratios:
        first, *rest = [ratio for other, ratio in ratios.items() if other != name]
        times = ratios[name] / first
        alike = all(np.allclose(ratio, first, rtol=1e-3) for ratio in rest)
        factor = round(float(times.flat[0]), 3)
        if alike and np.allclose(times, factor, rtol=1e-3) and is_simple(factor, 1e-3) and factor != 1:
            return _COMPARED.filled(term=_ALL.filled(name=name), factor=said_of(factor))
    return None


def _ratios(tables: dict[str, list[Share]]) -> dict[str, Array]:
    """Return by what each wrong share is multiplied, entry by entry; {} where there are too few to compare."""
    shares = {name: found[0] for name, found in tables.items() if found[0].kind not in ("same", "none")}
    if len(shares) < 3 or not all(share.expected.all() for share in shares.values()):
        return {}
    return {name: share.found / share.expected for name, share in shares.items()}


def _parted(tables: dict[str, list[Share]]) -> Text | None:
    """Return whether some shares are multiplied by one factor, and the others by another, as by a slope."""
    ratios = _ratios(tables)
    alike = [name for name, ratio in ratios.items() if np.allclose(ratio, next(iter(ratios.values())), rtol=1e-3)]
    apart = [name for name in ratios if name not in alike]
    if not apart or not all(np.allclose(ratios[name], ratios[apart[0]], rtol=1e-3) for name in apart):
        return None
    one, other = (_ALL.filled(name=", ".join(names)) for names in sorted((apart, alike), key=len))
    return _PASSES.filled(one=one, other=other)


def _apart(tables: dict[str, list[Share]]) -> Text | None:
    """Return which shares are right and which are not; of one that is wrong, by what factor."""
    kinds = {name: shares[0].kind for name, shares in tables.items()}
    right = [name for name, kind in kinds.items() if kind == "same"]
    wrong = [name for name, kind in kinds.items() if kind not in ("same", "none")]
    multiplied = [name for name in wrong if isinstance(kinds[name], float) or (len(wrong) == 1 and right)]
    if len(multiplied) == 1 and (factor := tables[multiplied[0]][0].factor) is not None:
        what = _by(factor, _ALL.filled(name=multiplied[0]))
        return _ONE_OF.filled(what=what, right=_ALL.filled(name=", ".join(right))) if right else what
    if right and wrong:
        named = (_ALL.filled(name=", ".join(names)) for names in (right, wrong))
        return _BEYOND.filled(**dict(zip(("right", "wrong"), named, strict=True)))
    return None


def _at(name: str, kinds: Sequence[str | float], *meant: str | float) -> Text:
    steps = [step for step, found in enumerate(kinds) if found in meant]
    text = _AT if len(steps) == 1 else _AT_SEVERAL
    return text.filled(name=name, steps=", ".join(map(str, steps)))


def _by(factor: float, term: Text) -> Text:
    return _SIGN.filled(term=term) if factor == -1 else _TIMES.filled(factor=said_of(factor), term=term)


def _counted(exercise: Exercise, case: tuple[object, ...], solve: Call, theirs: Call, number: int) -> Text | None:
    """Return by how much a result grows with a whole number, such as the size of a layer, where that is wrong."""
    for place, (name, argument) in enumerate(zip(exercise.arguments, case, strict=True)):
        if type(argument) is not int:
            return None
        sides = [
            call(end) for call in (solve, theirs) for end in ((*case[:place], argument + 1, *case[place + 1 :]), case)
        ]
        if any(side is None or side[number].size != 1 for side in sides):
            return None
        right, right_before, made, made_before = (float(side[number].item()) for side in sides)  # type: ignore[index]
        if right - right_before != made - made_before:
            grown = {"expected": f"{right - right_before:g}", "found": f"{made - made_before:g}"}
            return _GROWS.filled(name=name, **grown)
    return None


def _shaped(leaves: Sequence[Leaf], case: tuple[object, ...], solve: Call, theirs: Call, number: int) -> Text | None:
    """Return whether a result goes through a function of an argument where it should not, or the other way round."""
    for leaf in leaves:
        by = np.ones(leaf.value.shape)
        straight = []
        for call in (solve, theirs):
            sides = [call(_moved(case, leaf, times * by)) for times in (-1, 0, 1)]
            if any(side is None for side in sides):
                break
            low, middle, high = (side[number] for side in sides)  # type: ignore[index]
            bend, slope = np.abs(high - 2 * middle + low).max(initial=0), np.abs(high - low).max(initial=0)
            if slope < _NEAR:
                break
            straight.append(bool(bend < 1e-9 * slope))
        if straight == [False, True]:
            return _LINEAR.filled(term=_ALL.filled(name=leaf.name))
        if straight == [True, False]:
            return _CURVED.filled(term=_ALL.filled(name=leaf.name))
    return None
