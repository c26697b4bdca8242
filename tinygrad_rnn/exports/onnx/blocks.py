"""An ONNX graph as plain data, from which the file is made: nodes, constants, and the graphs inside of nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from ...compiler.ir.arrays import DType
from ...engine.tape import Array
from .extents import Lengths


class Info(NamedTuple):
    """Name, dtype and shape of an input or an output."""

    name: str
    dtype: DType
    shape: Lengths


@dataclass
class Block:
    """A graph: that of the file, or the body of a `Scan`, which may read what the graphs around it compute."""

    name: str
    nodes: list[Node] = field(default_factory=list)
    inputs: list[Info] = field(default_factory=list)
    outputs: list[Info] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)


Attribute: TypeAlias = int | float | str | list[int] | list[str] | Block


@dataclass
class Node:
    """A node: its type in the standard, the names of its inputs ("" for one left out) and outputs, its attributes."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Attribute]
    note: str = ""
