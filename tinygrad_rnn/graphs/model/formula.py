"""Short formulas for groups of operations, such as "tanh(x·Wx + h·Wh + b)"."""

from __future__ import annotations

from collections.abc import Callable, Container

from ...engine.tape import Node
from .graph import Edge, Place

SYMBOLS = {
    "add": "+",
    "subtract": "−",
    "multiply": "⊙",
    "divide": "÷",
    "negative": "−",
    "matmul": "×",
    "sigmoid": "σ",
    "power": "^",
    "sqrt": "√",
    "sum": "Σ",
    "cross_entropy": "cross-entropy",
    "take": "lookup",
    "take_along": "reorder",
    "unstack": "steps",
    "stack": "stack",
    "concatenate": "join",
    "getitem": "pick",
    "astype": "cast",
    "log_softmax": "log softmax",
    "broadcast_to": "broadcast",
}
"""Operations with a shorter or clearer name in pictures."""

BINARY = {"add": (" + ", 1), "subtract": (" − ", 1), "multiply": (" ⊙ ", 2), "divide": (" / ", 2), "matmul": ("·", 3)}
"""Infix operators: their sign and precedence."""
_SILENT = frozenset(("stack", "unstack", "reshape", "broadcast_to", "astype", "getitem", "concatenate", "split"))
_LIMIT = 60  # characters; a longer formula is not drawn


class _TooLongError(Exception):
    pass


def symbol(name: str) -> str:
    """Return the sign or name of an operation in pictures.

    >>> symbol("matmul"), symbol("sigmoid"), symbol("tanh")
    ('×', 'σ', 'tanh')
    """
    return SYMBOLS.get(name, name)


def formula(
    place: Place, inside: Container[Node], source: Callable[[Node, int], Edge], called: Callable[[Edge], str]
) -> str:
    """Return the formula of a value in terms of the inputs of its group; "" if it is too long to help.

    A value that is used twice appears twice, so the formula of a gated cell is usually too long.

    Args:
        place: the value.
        inside: the nodes of its group.
        source: returns the edge that input `number` of a node reads.
        called: returns the name of an edge from outside; "" omits a factor or an argument.
    """

    def written(node: Node, depth: int) -> tuple[str, int]:
        """Return text and precedence: 1 a sum, 2 a product of elements, 3 of matrices, 4 a name, a call or a power."""
        if not depth:
            raise _TooLongError
        parts: list[tuple[str, int]] = []
        for found in (source(node, number) for number in range(len(node.edges))):
            if found.source is not None and found.source in inside:
                part = written(found.source, depth - 1)
            else:
                part = (f"{found.number:.3g}" if found.number is not None else called(found), 4)
            if part[0]:
                parts.append(part)
        text, strength = _join(node, list(dict.fromkeys(parts)) if node.name in _SILENT - {"concatenate"} else parts)
        if len(text) > _LIMIT:
            raise _TooLongError
        return text, strength

    try:
        return written(place[0], 12)[0]
    except _TooLongError:
        return ""


def _join(node: Node, parts: list[tuple[str, int]]) -> tuple[str, int]:
    name = node.name
    if name in BINARY and len(parts) == 2:
        sign, strength = BINARY[name]
        (a, strong_a), (b, strong_b) = parts
        left = a if strong_a >= strength else f"({a})"
        right = b if strong_b > strength or (strong_b == strength and name in ("add", "multiply")) else f"({b})"
        return left + sign + right, strength
    if (name in BINARY or name in _SILENT) and len(parts) == 1:
        return parts[0]
    if name == "negative" and parts:
        text, strength = parts[0]
        return f"−{text if strength > 1 else f'({text})'}", 2
    if name == "power" and len(parts) == 2:
        (a, strong_a), (b, _) = parts
        return f"{a if strong_a == 4 else f'({a})'}{'²' if b == '2' else f'^{b}'}", 4
    if name == "transpose" and len(parts) == 1:
        text, strength = parts[0]
        return f"{text if strength == 4 else f'({text})'}ᵀ", 4
    if name == "exp" and parts and parts[0][0].startswith("log softmax("):
        return parts[0][0].removeprefix("log "), 4
    if name == "take" and parts:
        return f"{parts[0][0]}[ids]", 4
    return f"{symbol(name)}({', '.join(text for text, _ in parts)})", 4


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
