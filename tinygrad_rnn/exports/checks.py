"""Functions that check an array and return it, by their full name: what they check is known when a program is written
(shapes, dtypes), or where the ids are used (their range).
"""

from __future__ import annotations

from functools import partial

from ..compiler.ir.graph import Call
from ..compiler.plans.instructions import Instruction

COPIES = frozenset(
    {
        "tinygrad_rnn.ops.index._checked_ids",
        "tinygrad_rnn.ops.loss._checked",
        "tinygrad_rnn.ops.masked._numbers_like",
    }
)
"""Functions that return their argument, or it in another dtype, if it is as it should be."""

CHECK_OF_IDS = "tinygrad_rnn.nn.layers.Embedding._checked"
"""Returns its argument if no id is negative; the lookup that follows finds those that are too large."""

CHECK_OF_LENGTHS = "tinygrad_rnn.nn.unroll._in_range"
"""Returns lengths of sequences, as positions, if they lie in [1, T]."""

BACKWARD_ORDER = "tinygrad_rnn.nn.unroll.backward_order"
"""Returns the steps of sequences from lengths and T, each sequence from its own end."""


def full_name(compute: object) -> str:
    """Return the full name of a function, or of what a partial or a method calls.

    >>> full_name(partial(full_name, None))
    'tinygrad_rnn.exports.checks.full_name'
    """
    while isinstance(compute, partial):
        compute = compute.func
    return f"{getattr(compute, '__module__', '')}.{getattr(compute, '__qualname__', '')}"


def setting(call: Call | Instruction, place: int, name: str) -> object:
    """Return an argument of the function that a call computes, given at a place or by name; None if it is not."""
    if len(call.inputs) > place:
        return call.inputs[place]
    compute = call.operator.compute
    return compute.keywords.get(name) if isinstance(compute, partial) else None
