"""Sums and products in another order.

Whatever the order of its terms, a sum of floating point numbers is right to rounding of its largest term; but if large
terms cancel, or a product leaves the range of its type halfway, the order decides. So what the user wrote keeps its
order, and only terms that the engine adds up, to the cotangent of one value, are regrouped (`defer_sums`).
`regroup_sums` and `reassociate` are for those who allow more (fast_math).
"""

from __future__ import annotations

import math
from typing import Any

from ..ir.graph import Call, Graph, Rewriter, Value
from ..ir.operators import ADD, MATMUL, MULTIPLY, RESHAPE, SUM, TRANSPOSE
from ..ir.order import sort
from .common import stacked, substitute


def reassociate(graph: Graph) -> Graph:
    """In chains of sums, and of products, combine first what fewer matrix products have led to.

    (x @ Wx + h @ Wh) + b becomes (x @ Wx + b) + h @ Wh, and (g * o) * (1 - c * c) becomes g * (o * (1 - c * c)): what
    does not wait for the step before can then be computed for all steps at once.
    """
    depth = _depths(graph)
    uses = graph.uses()
    returned = set(graph.outputs)
    new = Rewriter(graph)
    inner: set[Call] = set()
    chains: dict[Call, list[Any]] = {}
    for call in reversed(graph.calls):
        if call.name not in ("add", "multiply") or call in inner or call.output.dtype.kind not in "fc":
            continue
        inside: set[Call] = set()
        leaves = _leaves(call, uses, returned, inside)
        if len(leaves) > 2 and all(part.dtype == call.output.dtype for part in leaves if isinstance(part, Value)):
            chains[call] = leaves
            inner |= inside
    if not chains:
        return graph
    for call in graph.calls:
        if call in inner:
            continue
        if call not in chains:
            new.keep(call)
            continue
        leaves = sorted(chains[call], key=lambda part: (_rank(part, call), depth.get(part, 0), _size(part)))
        operator = ADD if call.name == "add" else MULTIPLY
        parts = [new.get(leaf) for leaf in leaves]
        numbers = [part for part in parts if not isinstance(part, Value)]
        parts = [part for part in parts if isinstance(part, Value)]
        if numbers:  # put together as numbers, which take the dtype of what they meet
            parts.insert(0, sum(numbers) if call.name == "add" else math.prod(numbers))
        made = parts[0]
        for part in parts[1:]:
            made = new.call(operator, [made, part], place=call.place).output
        new.now[call.output] = made
    return sort(new.done())


def _rank(part: Any, call: Call) -> int:
    """Return 0 for what is the same at all steps, 1 for what was computed for all steps at once, else 2.

    In a sum only: so that every step, the first one too, adds the same terms first.
    """
    maker = part.maker if isinstance(part, Value) else None
    if call.name != "add" or maker is None:
        return 0
    return 1 if maker.name == "unstack" else 0 if maker.step is None else 2


def _size(part: Any) -> int:
    return part.size if isinstance(part, Value) else 0


def _depths(graph: Graph) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for call in graph.calls:
        depth = max((found.get(value, 0) for value in call.values()), default=0) + (call.name == "matmul")
        for value in call.outputs:
            found[value] = depth
    return found


def _leaves(
    root: Call, uses: dict[Value, list[Call]], returned: set[Value], inner: set[Call], anybodys: bool = True
) -> list[Any]:
    """Return the operands of a chain of equal operations, whose results nobody else reads; mark what lies inside.

    Unless `anybodys` sums are wanted, all operations of the chain add to the same cotangent.
    """
    leaves: list[Any] = []
    waiting = list(reversed(root.inputs))
    while waiting:
        part = waiting.pop()
        maker = part.maker if isinstance(part, Value) else None
        if (
            maker is not None
            and maker.name == root.name
            and (anybodys or maker.cotangent == root.cotangent)
            and part.dtype == root.output.dtype
            and len(uses[part]) == 1
            and part not in returned
        ):
            inner.add(maker)
            waiting.extend(reversed(maker.inputs))
        else:
            leaves.append(part)
    return leaves


def defer_sums(graph: Graph) -> Graph:
    """Make of the products that steps add to a cotangent one product over all steps, and of sums one sum.

    sum over t of x_t.T @ d_t is X.T @ D with the rows of all steps below each other: the gradients of the weights.
    """
    return _deferred(graph, anybodys=False)


def regroup_sums(graph: Graph) -> Graph:
    """Do the same with sums that the user wrote."""
    return _deferred(graph, anybodys=True)


def _deferred(graph: Graph, anybodys: bool) -> Graph:
    uses = graph.uses()
    returned = set(graph.outputs)
    inner: set[Call] = set()
    now: dict[Value, Value] = {}
    new = Rewriter(graph)
    new.calls = list(graph.calls)
    for call in reversed(graph.calls):
        if call.name != "add" or call in inner or not (anybodys or call.cotangent):
            continue
        inside: set[Call] = set()
        leaves = _leaves(call, uses, returned, inside, anybodys)
        inner |= inside
        products: dict[Any, list[Call]] = {}
        sums: dict[Any, list[Call]] = {}
        rest: list[Any] = []
        for leaf in leaves:
            maker = leaf.maker if isinstance(leaf, Value) and _spec(leaf) == _spec(call.output) else None
            if maker is not None and is_outer(maker):
                products.setdefault(tuple(map(_spec, maker.inputs)), []).append(maker)
            elif maker is not None and _is_column_sum(maker):
                sums.setdefault(_spec(maker.inputs[0]), []).append(maker)
            else:
                rest.append(leaf)
        groups = [g for g in (*products.values(), *sums.values()) if len(g) > 1]
        if not groups:
            continue
        rest += [maker.output for g in (*products.values(), *sums.values()) if len(g) == 1 for maker in g]
        parts = [_joined(new, sorted(group, key=_time)) for group in groups] + rest
        total = parts[0]
        for part in parts[1:]:
            total = new.call(ADD, [total, part]).output
        now[call.output] = total
    return sort(substitute(Graph(graph.inputs, new.calls, graph.outputs, graph.captured), now)) if now else graph


def _spec(value: Value) -> Any:
    return value.shape, value.dtype


def _time(call: Call) -> int:
    return -1 if call.step is None else call.step


def is_outer(call: Call) -> bool:
    """Return whether a call is A.T @ B of matrices."""
    left = call.inputs[0].maker if call.name == "matmul" and isinstance(call.inputs[0], Value) else None
    return (
        left is not None
        and left.name == "transpose"
        and call.inputs[0].ndim == 2
        and call.inputs[1].ndim == 2
        and tuple(a % 2 for a in left.attrs["axes"] or (1, 0)) == (1, 0)
    )


def _is_column_sum(call: Call) -> bool:
    return (
        call.name == "sum"
        and call.inputs[0].ndim == 2
        and call.attrs["axis"] in (0, (0,))
        and not call.attrs["keepdims"]
    )


def _joined(new: Rewriter, group: list[Call]) -> Value:
    if group[0].name == "sum":
        whole = _rows(new, [call.inputs[0] for call in group])
        return new.call(SUM, [whole], {"axis": 0, "keepdims": False}).output
    left = _rows(new, [call.inputs[0].maker.inputs[0] for call in group])
    right = _rows(new, [call.inputs[1] for call in group])
    turned = new.call(TRANSPOSE, [left], {"axes": (1, 0)}).output
    return new.call(MATMUL, [turned, right]).output


def _rows(new: Rewriter, values: list[Value]) -> Value:
    """Append what puts the rows of matrices below each other, in the order of time."""
    whole = stacked(new, values)
    return new.call(RESHAPE, [whole], {"shape": (whole.shape[0] * whole.shape[1], whole.shape[2])}).output
