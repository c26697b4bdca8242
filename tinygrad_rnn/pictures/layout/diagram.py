"""`Diagram`: boxes, edges between them, and groups of boxes, that have no places yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .content import Content


@dataclass(frozen=True)
class DiagramEdge:
    """An edge from box to box, in the direction of values.

    Attributes:
        tail, head: ids of boxes.
        magnitude: norm of the cotangent that comes back along it; None: nothing, or not asked for.
        closed: whether a cut stops the gradient.
        label: small text where it starts.
        back: whether it leads from one step to the next, back to an earlier box.
        tooltip: shown on hover; "": the norm, if there is one.
    """

    tail: str
    head: str
    magnitude: float | None = None
    closed: bool = False
    label: str = ""
    back: bool = False
    tooltip: str = ""


@dataclass
class Group:
    """Boxes that stand together, in a region, if they have a label; `members` are ids of boxes or of other groups."""

    label: str
    members: list[str] = field(default_factory=list)


@dataclass
class Diagram:
    """What a picture shows.

    Attributes:
        boxes: id to what stands in the box.
        edges: between them; without those that lead back there is no cycle.
        groups: id to group; none is in two others.
        losses: ids of the boxes of losses.
    """

    boxes: dict[str, Content] = field(default_factory=dict)
    edges: list[DiagramEdge] = field(default_factory=list)
    groups: dict[str, Group] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)

    def magnitudes(self) -> Iterator[float]:
        """Yield the magnitudes of the edges that have one."""
        return (edge.magnitude for edge in self.edges if edge.magnitude)
