"""Areas of a rolled picture: the boxes of one block of the step, or of one module outside time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...engine.tape import Node
from ...pictures.layout.components import cycles
from ...pictures.layout.diagram import DiagramEdge
from ..model.blocks import Blocks, Kind
from ..model.operations import Operation
from ..model.rolling import Rolling


@dataclass(frozen=True)
class Area:
    """The boxes of one cell or module.

    Attributes:
        label: of its region; "": no region.
        members: ids of boxes.
        cell: whether it carries a state.
        repeats: whether it is computed in each step.
    """

    label: str
    members: tuple[str, ...]
    cell: bool
    repeats: bool


_Key = tuple[Kind | tuple[str, ...], bool]
"""A kind of block, or a module where there is no block, and whether it is computed in each step."""


def areas_of(
    edges: Sequence[DiagramEdge], box: Mapping[Node, str], delays: Mapping[str, str], rolling: Rolling, blocks: Blocks
) -> list[Area]:
    """Return the cells and modules of a picture, each after those that it reads, unless they are in a cycle.

    Args:
        edges: of the picture.
        box: result of an operation to its box.
        delays: id of a delay's box to the box that computes its state.
        rolling: the recurrence as one step.
        blocks: of the graph.
    """
    keys: dict[str, _Key] = {}
    phases = _phases(rolling)
    for op in rolling.template:
        keys.setdefault(box[op.node], _area_of(op, blocks))
    for op in rolling.outside:
        read = {box.get(source, "") for source in op.sources} & keys.keys()
        keys.setdefault(box[op.node], _area_outside(op, phases[op.node], {keys[source] for source in read}))
    keys.update((delay, keys[source]) for delay, source in delays.items())
    for edge in edges:  # data belong to their first reader
        keys.setdefault(edge.head, (("sum",), False))
        keys.setdefault(edge.tail, keys[edge.head])
    homes = _homes(_reads(keys, edges))
    keys = {id: homes.get(key, key) for id, key in keys.items()}
    members: dict[_Key, list[str]] = {}
    for id, key in keys.items():
        members.setdefault(key, []).append(id)
    cells = [key for key in members if isinstance(key[0], Kind) and key[0].role == "cell"]
    return [
        Area(_label(key, cells, blocks), tuple(sorted(members[key])), key in cells, key[1])
        for cycle in cycles(_reads(keys, edges))
        for key in cycle
    ]


def _reads(keys: Mapping[str, _Key], edges: Iterable[DiagramEdge]) -> dict[_Key, set[_Key]]:
    reads: dict[_Key, set[_Key]] = {key: set() for key in keys.values()}
    for edge in edges:
        reads[keys[edge.head]].add(keys[edge.tail])
    return reads


def _homes(reads: Mapping[_Key, set[_Key]]) -> dict[_Key, _Key]:
    """Return attention to the cell that it is a part of: one of the same module, which reads it and which it reads."""
    found: dict[_Key, _Key] = {}
    for cycle in cycles(reads):
        cells = {key[0].scope: key for key in cycle if isinstance(key[0], Kind) and key[0].role == "cell"}
        for key in cycle:
            if isinstance(key[0], Kind) and key[0].role == "attention" and key[0].scope in cells and key[0].scope:
                found[key] = cells[key[0].scope]
    return found


def _phases(rolling: Rolling) -> dict[Node, int]:
    """Return how often the way to each operation leaves the steps: 0 before the first cells, 1 after their stack."""
    found: dict[Node, int] = {}
    for op in sorted((*rolling.template, *rolling.outside), key=lambda op: op.node.id):
        before = [
            found[source] + (op.step is None and source.step is not None) for source in op.sources if source in found
        ]
        found[op.node] = max(before, default=0)
    return found


def _area_outside(op: Operation, phase: int, read: set[_Key]) -> _Key:
    """Return the area of an operation outside time: its module, or, if it has none, the only area that it reads."""
    scope = () if op.name in ("stack", "unstack") else op.node.scope  # from a sequence to its steps, or back
    if not scope and len(read) == 1 and not next(iter(read))[1]:
        return read.pop()
    return (*scope, str(phase)), False


def _area_of(op: Operation, blocks: Blocks) -> _Key:
    """Return the area of an operation of the step: its block; a loss belongs to the layer from which it is computed."""
    sources = [source for source in op.sources if source.step == op.step]
    block = next((blocks.of[node] for node in (op.node, *sources) if node in blocks.of), None)
    if block is None:
        return op.node.scope, True
    if block.kind.role == "loss":
        read = {blocks.of.get(source) for o in block.ops for source in o.sources} - {block}
        layers = {b.kind for b in read if b is not None and b.step == op.step and b.kind.role != "cell"}
        return layers.pop() if len(layers) == 1 else block.kind, True
    return block.kind, True


def _label(key: _Key, cells: Sequence[_Key], blocks: Blocks) -> str:
    kind = key[0]
    if not isinstance(kind, Kind):
        return ".".join(kind if key[1] else kind[:-1])
    names = {block.kind: block.name for block in blocks.blocks}
    alike = [other for other in cells if isinstance(other[0], Kind) and names[other[0]] == names[kind]]
    if key not in alike or len(alike) == 1:
        return names[kind]
    return f"{names[kind]}{' cell' if kind.scope else ''} {alike.index(key) + 1}"
