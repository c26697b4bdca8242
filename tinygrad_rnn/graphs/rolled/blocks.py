"""Which boxes of a rolled picture belong together: modules by their scopes, and cells by their loops.

A cell is found by what it does: the operations that lie on a circle through a delay. So stacked cells in one module
part by themselves, and a cell that was written outside any module is found too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..model.components import cycles

Key = tuple[str, ...]


class Kind(NamedTuple):
    """What a box is, as far as grouping goes: the modules it was recorded in, and whether it repeats each step."""

    scope: tuple[str, ...]
    repeats: bool


@dataclass(frozen=True)
class Block:
    """Boxes that belong together.

    Attributes:
        label: what stands in its region; "": no region.
        members: ids of boxes.
        cell: whether it carries a state.
        repeats: whether it is computed in each step.
    """

    label: str
    members: tuple[str, ...]
    cell: bool
    repeats: bool


def blocks_of(
    kinds: Mapping[str, Kind], arrows: Iterable[tuple[str, str]], loops: Sequence[tuple[str, str]]
) -> list[Block]:
    """Return the blocks of a picture, in the order in which values pass through them.

    Args:
        kinds: id of an operation's box to what it is, oldest first.
        arrows: (tail, head), the boxes of data among them, without the loops.
        loops: (delay, source of the state).

    >>> kinds = {"product": Kind((), True), "sum": Kind((), True), "loss": Kind((), True)}
    >>> arrows = [("delay", "product"), ("product", "sum"), ("sum", "loss")]
    >>> [(block.label, block.members) for block in blocks_of(kinds, arrows, [("delay", "sum")])]
    [('recurrent cell', ('delay', 'product', 'sum')), ('head', ('loss',))]
    """
    pairs = list(arrows)
    ahead: dict[str, list[str]] = {}
    behind: dict[str, list[str]] = {}
    for tail, head in pairs:
        ahead.setdefault(tail, []).append(head)
        behind.setdefault(head, []).append(tail)
    cells = _cells(ahead, behind, loops)
    keys: dict[str, Key] = {}
    for box in _in_order(kinds, behind):
        keys[box] = _key(box, kinds, cells, {keys[other] for other in behind.get(box, ()) if other in keys})
    for box in [*(delay for delay, _ in loops), *(tail for tail, _ in pairs if tail not in kinds)]:
        reader = min((head for head in ahead.get(box, ()) if head in keys), key=list(keys).index, default=None)
        if reader is not None:
            keys.setdefault(box, keys[reader])
    groups: dict[Key, list[str]] = {}
    for box, key in keys.items():
        groups.setdefault(key, []).append(box)
    many = sum(key[0] == "cell" for key in groups) > 1
    return [
        Block(_label(key, cells, kinds, many), tuple(sorted(groups[key])), key[0] == "cell", key[0] != "once")
        for key in _sorted(groups, keys, pairs)
    ]


class _Cell(NamedTuple):
    core: frozenset[str]
    leads_to: frozenset[str]  # boxes that its core is computed from
    follows: frozenset[str]  # boxes that are computed from its core


def _closure(starts: Iterable[str], next_of: Mapping[str, list[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        box = waiting.pop()
        if box not in found:
            found.add(box)
            waiting.extend(next_of.get(box, ()))
    return frozenset(found)


def _cells(
    ahead: Mapping[str, list[str]], behind: Mapping[str, list[str]], loops: Sequence[tuple[str, str]]
) -> list[_Cell]:
    """Return the cells, each before those that read it: loops that feed each other, both ways, are one."""
    after = [_closure([delay], ahead) for delay, _ in loops]
    depends = {a: [b for b, reach in enumerate(after) if loops[a][1] in reach] for a in range(len(loops))}
    found = []
    for group in cycles(depends):
        forward = frozenset[str]().union(*(after[b] for b in group))
        core = forward & _closure((loops[b][1] for b in group), behind)
        # A state that its own step does not read is a delay line: its readers stand for it.
        core = core or frozenset(box for b in group for box in ahead.get(loops[b][0], ()))
        found.append(_Cell(core, _closure(core, behind), _closure(core, ahead)))
    return found


def _in_order(kinds: Mapping[str, Kind], behind: Mapping[str, list[str]]) -> list[str]:
    """Return operations so that each stands behind what it reads; ids are given oldest first, outside ones last."""
    found: dict[str, None] = {}
    for start in kinds:
        waiting = [start]
        while waiting:
            box = waiting[-1]
            missing = [other for other in behind.get(box, ()) if other in kinds and other not in found]
            if missing and box not in found:
                waiting.extend(missing)
            else:
                found[waiting.pop()] = None
    return list(found)


def _key(box: str, kinds: Mapping[str, Kind], cells: list[_Cell], before: set[Key]) -> Key:
    scope, repeats = kinds[box]
    feeds = [number for number, cell in enumerate(cells) if box in cell.leads_to]
    if not repeats:
        side = "before" if feeds else "after"
        only = next(iter(before)) if len(before) == 1 else None
        return ("once", side, *scope) if scope else only if only and only[0] == "once" else ("once", side)
    own = [number for number, cell in enumerate(cells) if box in cell.core]
    if own:
        return ("cell", str(own[0]))
    near = [
        n for n, cell in enumerate(cells) if scope and any(o in kinds and kinds[o].scope == scope for o in cell.core)
    ]
    if near:
        chosen = [number for number in near if number in feeds] or near[::-1]
        return ("cell", str(chosen[0]))
    if scope:
        return ("module", *scope)
    if feeds:
        return ("cell", str(feeds[0]))
    modules = {key for key in before if key[0] in ("module", "head")}
    return next(iter(modules)) if len(modules) == 1 else ("head",)


def _label(key: Key, cells: list[_Cell], kinds: Mapping[str, Kind], many: bool) -> str:
    if key[0] == "cell":
        number = int(key[1])
        scopes = {kinds[box].scope for box in cells[number].core if box in kinds}
        scope = ".".join(next(iter(scopes))) if len(scopes) == 1 else ""
        alone = sum({kinds[b].scope for b in c.core if b in kinds} == scopes for c in cells) == 1
        return scope if scope and alone else f"{scope or 'recurrent'} cell{f' {number + 1}' if many else ''}"
    return {"module": ".".join(key[1:]), "head": "head", "once": ".".join(key[2:])}[key[0]]


def _sorted(groups: Mapping[Key, list[str]], keys: Mapping[str, Key], arrows: Iterable[tuple[str, str]]) -> list[Key]:
    """Return the blocks, each behind those that it reads (where they do not read each other)."""
    reads: dict[Key, set[Key]] = {key: set() for key in groups}
    for tail, head in arrows:
        if tail in keys and head in keys and keys[tail] != keys[head]:
            reads[keys[head]].add(keys[tail])
    done: list[Key] = []
    waiting = list(groups)
    while waiting:
        ready = [key for key in waiting if reads[key] <= set(done)] or waiting[:1]
        done.append(ready[0])
        waiting.remove(ready[0])
    return done
