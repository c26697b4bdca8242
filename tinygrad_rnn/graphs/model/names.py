"""Names of results, read from the lines that recorded them: `i, f, o = split(sigmoid(x), 3)` names three gates.

A node knows the line that recorded it. If a statement there assigns the result of the operation, its target is the
name of the result. Without source code a result has no name.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

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


class _Assignment(NamedTuple):
    line: int
    operation: str
    targets: tuple[str, ...]
    several: int  # operations of this kind in the statement


def names_of(nodes: Iterable[Node]) -> dict[int, tuple[str, ...]]:
    """Return the names of results in the source code: node id to a name for each output.

    A statement that has several operations of the kind that it assigns, such as a + f(b + c), assigns the last of them.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.LSTMCell(2, 3, np.random.default_rng(0))
    >>> _, (h, c) = cell(np.ones((1, 2)), cell.initial_state(1))
    >>> names_of([h.node, c.node]) == {h.node.id: ("h",), c.node.id: ("c",)}
    True
    """
    runs: dict[tuple[object, ...], list[Node]] = {}
    known: dict[tuple[object, ...], _Assignment] = {}
    for node in sorted(nodes, key=lambda node: node.id):
        if node.operation is None:
            continue
        assigned = _assignment(node.site[0].co_filename, node.site[1])
        if assigned is None or assigned.operation != node.name or len(assigned.targets) != len(node.specs):
            continue
        key: tuple[object, ...] = (node.site[0], assigned.line, node.step, node.scope)
        runs.setdefault(key, []).append(node)
        known[key] = assigned
    found: dict[int, tuple[str, ...]] = {}
    for key, run in runs.items():
        # The statement may have run several times in a step. If it was recorded only in part, only the last is certain.
        several = known[key].several
        chosen = run[several - 1 :: several] if len(run) % several == 0 else run[-1:]
        found.update((node.id, known[key].targets) for node in chosen)
    return found


@lru_cache(maxsize=4096)
def _assignment(path: str, line: int) -> _Assignment | None:
    """Return what the statement at a line assigns, if that is the result of an operation."""
    for statement in _assignments(path):
        if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
            value, target = statement.value, statement.targets[0]
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            names = [part.id for part in parts if isinstance(part, ast.Name)]
            operation = _operation(value)
            if operation is None or len(names) != len(parts):
                return None
            parts_of_value = (part for part in ast.walk(value) if isinstance(part, ast.expr))
            count = sum(_operation(part) == operation for part in parts_of_value)
            return _Assignment(statement.lineno, operation, tuple(names), count)
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
