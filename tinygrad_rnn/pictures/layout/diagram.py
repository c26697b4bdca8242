"""`Diagram`: boxes, edges between them, and groups of boxes, without positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .content import Content


@dataclass(frozen=True)
class DiagramEdge:
    """An edge from box to box, in the direction of values.

    Attributes:
        tail, head: ids of boxes.
        magnitude: norm of the cotangent that comes back along it; None: no gradient, or not requested.
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
    """Boxes that are kept together, in a region if there is a label; `members` are ids of boxes or of other groups."""

    label: str
    members: list[str] = field(default_factory=list)


@dataclass
class Diagram:
    """The content of a picture, without positions.

    Attributes:
        boxes: id to the content of the box.
        edges: between them; acyclic except for those that lead back.
        groups: id to group; no box or group is in two groups.
        losses: ids of the boxes of losses.
    """

    boxes: dict[str, Content] = field(default_factory=dict)
    edges: list[DiagramEdge] = field(default_factory=list)
    groups: dict[str, Group] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)

    def magnitudes(self) -> Iterator[float]:
        """Yield the magnitudes of the edges that have one."""
        return (edge.magnitude for edge in self.edges if edge.magnitude)
