"""What is highlighted for a loss: everything that a gradient from it reaches in the picture."""

from __future__ import annotations

from collections.abc import Iterable

from .scene import Scene


def reach_of(scene: Scene, losses: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return, for each loss box, the ids of the boxes and edges that its gradient reaches.

    It goes back along edges, stops at closed cuts, and enters no data. Where gradients are drawn it follows just the
    edges along which one was found. Credit that is carried forward counts as coming back.
    """
    into: dict[str, list[int]] = {}
    data = {box.id for box in scene.boxes if box.kind in ("input", "constant")}
    for number, edge in enumerate(scene.edges):
        carries = edge.kind in ("gradient", "influence") or (
            scene.scale is None and edge.kind == "value" and edge.tail not in data
        )
        if carries:
            into.setdefault(edge.head, []).append(number)
    found: dict[str, frozenset[str]] = {}
    for loss in losses:
        lit = {loss}
        waiting = [loss]
        while waiting:
            for number in into.get(waiting.pop(), ()):
                edge = scene.edges[number]
                lit.add(edge.id)
                if edge.tail not in lit:
                    lit.add(edge.tail)
                    waiting.append(edge.tail)
        found[loss] = frozenset(lit)
    return found
