"""Where results were recorded, and their names there: `i, f, o = split(sigmoid(x), 3)` names three gates.

A node knows the expression that recorded it, by its position. If a statement assigns that expression, its target is the
name of the result; `h, c = o * tanh(c), f * c + i * g` assigns two. Without source code a result has no name.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Hashable, Iterable
from functools import lru_cache
from typing import NamedTuple

from ...engine.sites import position_of
from ...engine.tape import Node

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
    ast.MatMult: "matmul",
    ast.Mod: "remainder",
    ast.FloorDiv: "floor_divide",
}


class SiteKey(NamedTuple):
    """The origin of an operation: module, name, and position in a code object (by its id, which hashes faster)."""

    scope: tuple[str, ...]
    name: str
    code: int
    position: Hashable

    @classmethod
    def of(cls, node: Node) -> SiteKey:
        """Return where a node was recorded."""
        return cls(node.scope, node.name, id(node.site[0]), position_of(node.site))


Spot = tuple[SiteKey, int]
"""A site, and how many operations of the same step were recorded there before."""


_Position = tuple[int | None, ...]
"""First and last line, first and last column of an expression, which the instruction that computes it has too."""


def spots_of(nodes: Iterable[Node]) -> dict[Node, Spot]:
    """Return the spot of each node: its site, and how many nodes of its step were recorded there before."""
    seen: dict[tuple[int | None, SiteKey], int] = {}
    spots: dict[Node, Spot] = {}
    for node in nodes:
        site = SiteKey.of(node)
        seen[node.step, site] = number = seen.get((node.step, site), -1) + 1
        spots[node] = site, number
    return spots


def names_of(nodes: Iterable[Node]) -> dict[Node, tuple[str, ...]]:
    """Return the names of results in the source code: node to a name for each output.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.LSTMCell(2, 3, np.random.default_rng(0))
    >>> _, (h, c) = cell(np.ones((1, 2)), cell.initial_state(1))
    >>> names_of([h.node, c.node]) == {h.node: ("h",), c.node: ("c",)}
    True
    """
    found: dict[Node, tuple[str, ...]] = {}
    for node in nodes:
        if node.operation is not None:
            place = _assigned(node.site[0].co_filename).get(position_of(node.site))
            if place is not None and place[0] == node.name and len(place[1]) == len(node.specs):
                found[node] = place[1]
    return found


def operand_name(node: Node, number: int) -> str:
    """Return the variable that operand `number` of an operation is, or "": `weights @ M` reads M."""
    match part := _expressions(node.site[0].co_filename).get(position_of(node.site)):
        case ast.Subscript(value=value) if node.name == "getitem":
            operands = [value]
        case ast.BinOp(left=left, right=right):
            operands = [left, right]
        case ast.Call(args=args):
            operands = args
        case _:
            return ""
    if number < len(operands) and (node.name == "getitem" or _operation(part) == node.name):
        operand = operands[number]
        return operand.id if isinstance(operand, ast.Name) else ""
    return ""


@lru_cache(maxsize=64)
def _expressions(path: str) -> dict[_Position, ast.expr]:
    """Return the expressions of a file by their position."""
    return {_position(part): part for part in ast.walk(_tree(path)) if isinstance(part, ast.expr)}


@lru_cache(maxsize=64)
def _assigned(path: str) -> dict[_Position, tuple[str, tuple[str, ...]]]:
    """Return what a file assigns of what operations compute: the operation and its targets, by position."""
    found = {}
    for part in ast.walk(_tree(path)):
        pairs: list[tuple[ast.expr, ast.expr | ast.stmt]]
        match part:
            case ast.Assign(targets=[ast.Tuple(elts=targets), *_], value=ast.Tuple(elts=values)):
                pairs = list(zip(targets, values, strict=False))
            case ast.Assign(targets=[target, *_], value=value) | ast.NamedExpr(target=target, value=value):
                pairs = [(target, value)]
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                pairs = [(target, value)]
            case ast.AugAssign(target=target):
                pairs = [(target, part)]
            case _:
                continue
        for target, expression in pairs:
            targets = target.elts if isinstance(target, ast.Tuple) else [target]
            names = tuple(name.id for name in targets if isinstance(name, ast.Name))
            operation = _operation(expression)
            if operation is not None and len(names) == len(targets):
                found[_position(expression)] = operation, names
    return found


def _position(part: ast.expr | ast.stmt) -> _Position:
    return part.lineno, part.end_lineno, part.col_offset, part.end_col_offset


@lru_cache(maxsize=64)
def _tree(path: str) -> ast.Module:
    try:
        return ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _operation(value: ast.expr | ast.stmt) -> str | None:
    match value:
        case ast.BinOp(op=op) | ast.AugAssign(op=op):
            return _BINARY.get(type(op))
        case ast.UnaryOp(op=ast.USub()):
            return "negative"
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name
        case _:
            return None


def maker_of(node: Node) -> str:
    """Return the class or function whose code recorded a node, "LSTMCell" for LSTMCell.__call__; "" for a script.

    A function in the method of a cell, such as the step of a scan, belongs to that cell.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(2, 3, np.random.default_rng(0))
    >>> maker_of(cell(np.ones((1, 2)), cell.initial_state(1))[0].node)
    'RNNCell'
    """
    *around, inner = node.site[0].co_qualname.split(".<locals>.")
    methods = [part for part in around if "." in part]
    if "." not in inner and methods:
        return methods[-1].split(".")[-2]
    parts = inner.split(".")
    if len(parts) > 1 and parts[-1] in ("__call__", "forward", "loss", "step"):
        return parts[-2]
    return "" if parts[-1].startswith("<") else parts[-1]
