"""Where results were recorded, and their names there: `i, f, o = split(sigmoid(x), 3)` names three gates.

A node knows the line that recorded it. If a statement there assigns the result of the operation, its target is the
name of the result; `h, c = o * tanh(c), f * c + i * g` assigns two. Without source code a result has no name.
"""

from __future__ import annotations

import ast
import linecache
from collections import Counter
from collections.abc import Hashable, Iterable
from functools import lru_cache
from typing import NamedTuple

from ...engine.sites import line_of, position_of
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


class _Assignment(NamedTuple):
    line: int
    operation: str
    targets: tuple[str, ...]
    several: int  # operations of this kind in the statement
    number: int  # of the one that is assigned among them, from 0


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

    A statement that has several operations of the kind that it assigns, such as a + f(b + c), assigns the last of them.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.LSTMCell(2, 3, np.random.default_rng(0))
    >>> _, (h, c) = cell(np.ones((1, 2)), cell.initial_state(1))
    >>> names_of([h.node, c.node]) == {h.node: ("h",), c.node: ("c",)}
    True
    """
    runs: dict[tuple[_Assignment, object, int | None, tuple[str, ...]], list[Node]] = {}
    for node in sorted(nodes, key=lambda node: node.id):
        for assigned in _assigned(node.site[0].co_filename, line_of(node.site)) if node.operation is not None else ():
            if assigned.operation == node.name and len(assigned.targets) == len(node.specs):
                runs.setdefault((assigned, node.site[0], node.step, node.scope), []).append(node)
    found: dict[Node, tuple[str, ...]] = {}
    for (assigned, *_), run in runs.items():
        # The statement may have run several times in a step. If it was recorded only in part, only the last is certain.
        several, number = assigned.several, assigned.number
        chosen = run[number::several] if len(run) % several == 0 else run[-1:] if number == several - 1 else []
        found.update((node, assigned.targets) for node in chosen)
    return found


@lru_cache(maxsize=4096)
def operand_name(path: str, line: int, operation: str, number: int) -> str:
    """Return the variable that operand `number` of an operation is, if the line leaves no doubt; else "".

    `weights @ M` reads M. A line with two products leaves no doubt only if the operand is the same variable in both.
    """
    found: set[str] = set()
    for part in _expressions(path).get(line, ()):
        match part:
            case ast.Subscript(value=value) if operation == "getitem":
                operands = [value]
            case ast.BinOp(left=left, right=right):
                operands = [left, right]
            case ast.Call(args=args):
                operands = args
            case _:
                continue
        if number < len(operands) and (operation == "getitem" or _operation(part) == operation):
            operand = operands[number]
            found.add(operand.id if isinstance(operand, ast.Name) else "")
    return found.pop() if len(found) == 1 else ""


@lru_cache(maxsize=64)
def _expressions(path: str) -> dict[int, list[ast.expr]]:
    """Return the expressions of a file by the line on which they begin."""
    found: dict[int, list[ast.expr]] = {}
    for part in ast.walk(_tree(path)):
        if isinstance(part, ast.expr):
            found.setdefault(part.lineno, []).append(part)
    return found


@lru_cache(maxsize=4096)
def _assigned(path: str, line: int) -> tuple[_Assignment, ...]:
    """Return what the statement at a line assigns, as far as it is the result of an operation."""
    for statement in _assignments(path):
        if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
            target, value = statement.targets[0], statement.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=False))
            several, before, found = _operations(value), Counter[str | None](), []
            for part, expression in pairs:
                before += _operations(expression)
                targets = part.elts if isinstance(part, ast.Tuple) else [part]
                names = tuple(name.id for name in targets if isinstance(name, ast.Name))
                operation = _operation(expression)
                if operation is not None and len(names) == len(targets):
                    count = several[operation], before[operation] - 1
                    found.append(_Assignment(statement.lineno, operation, names, *count))
            return tuple(found)
    return ()


def _operations(value: ast.expr) -> Counter[str | None]:
    return Counter(_operation(part) for part in ast.walk(value) if isinstance(part, ast.expr))


@lru_cache(maxsize=64)
def _assignments(path: str) -> tuple[ast.Assign, ...]:
    return tuple(node for node in ast.walk(_tree(path)) if isinstance(node, ast.Assign))


@lru_cache(maxsize=64)
def _tree(path: str) -> ast.Module:
    try:
        return ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return ast.Module([], [])


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


def maker_of(node: Node) -> str:
    """Return the class or function whose code recorded a node, "LSTMCell" for LSTMCell.__call__; "" for a script.

    A lambda has no name, but one in the method of a cell, such as the step of a scan, belongs to that cell.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(2, 3, np.random.default_rng(0))
    >>> maker_of(cell(np.ones((1, 2)), cell.initial_state(1))[0].node)
    'RNNCell'
    """
    parts = [part for part in node.site[0].co_qualname.split(".") if part != "<locals>"]
    named = [part for part in parts if not part.startswith("<")]
    if len(named) > 1 and named[-1] in ("__call__", "forward", "loss", "step"):
        return named[-2]
    return "" if parts[-1].startswith("<") else parts[-1]
