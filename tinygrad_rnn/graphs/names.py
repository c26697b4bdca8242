"""Names of results, read from the lines that recorded them: `i, f, o = split(sigmoid(x), 3)` names three gates.

A node knows the line that recorded it. If a statement there assigns what this very operation returns, its target is
the name that the author gave the result. Where there is no source text, there is no name.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable
from functools import lru_cache

from ..engine.tape import Node

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
    ast.MatMult: "matmul",
}


def names_of(nodes: Iterable[Node]) -> dict[int, tuple[str, ...]]:
    """Return the names that the source gives to results: node id to one name for each output.

    Of several operations of one kind in a statement, the one that the others lead to is what it assigns.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.LSTMCell(2, 3, np.random.default_rng(0))
    >>> _, (h, c) = cell(np.ones((1, 2)), cell.initial_state(1))
    >>> names_of([h.node, c.node]) == {h.node.id: ("h",), c.node.id: ("c",)}
    True
    """
    found: dict[int, tuple[tuple[object, ...], tuple[str, ...]]] = {}
    for node in sorted(nodes, key=lambda node: node.id):
        if node.operation is None:
            continue
        assigned = _assignment(node.site[0].co_filename, node.site[1])
        if assigned is None or assigned[1] != node.name or len(assigned[2]) != len(node.specs):
            continue
        key = (node.site[0], assigned[0], node.step, node.scope)
        for edge in node.edges:  # of a + b + c, the last sum has the name
            if edge is not None and edge[0].id in found and found[edge[0].id][0] == key and edge[0].name == node.name:
                del found[edge[0].id]
        found[node.id] = (key, assigned[2])
    return {id: names for id, (_, names) in found.items()}


@lru_cache(maxsize=4096)
def _assignment(path: str, line: int) -> tuple[int, str, tuple[str, ...]] | None:
    """Return (line of the statement, operation of its value, names of its targets), if it assigns an operation."""
    for statement in _assignments(path):
        if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
            value, target = statement.value, statement.targets[0]
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            names = [part.id for part in parts if isinstance(part, ast.Name)]
            operation = _operation(value)
            if operation is None or len(names) != len(parts):
                return None
            return statement.lineno, operation, tuple(names)
    return None


@lru_cache(maxsize=64)
def _assignments(path: str) -> tuple[ast.Assign, ...]:
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Assign))


def _operation(value: ast.expr) -> str | None:
    match value:
        case ast.BinOp(op=op):
            return _BINARY.get(type(op))
        case ast.UnaryOp(op=ast.USub()):
            return "negative"
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name
        case _:
            return None
