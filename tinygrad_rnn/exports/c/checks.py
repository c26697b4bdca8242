"""Functions without a gradient that the library calls on arrays: checks of ids, masks and the like, by name.

What they check is known when a program is written (shapes, dtypes), or where the ids are used (their range); what is
left of them is a copy.
"""

from __future__ import annotations

from functools import partial

from ...compiler.plans.instructions import Instruction, Slot

_COPIES = frozenset(
    {
        "tinygrad_rnn.ops.index._checked_ids",
        "tinygrad_rnn.ops.loss._checked",
        "tinygrad_rnn.ops.masked._numbers_like",
        "tinygrad_rnn.ops.masked._mask",
    }
)
"""Functions that return their argument, or it in another dtype or broadcast, if it is as it should be."""


CHECK_OF_IDS = "tinygrad_rnn.nn.layers.Embedding._checked"
"""Returns its argument if no id is negative; the lookup that follows finds those that are too large."""


def function_of(instruction: Instruction) -> str:
    """Return the full name of the function that an instruction calls."""
    compute = instruction.operator.compute
    while isinstance(compute, partial):
        compute = compute.func
    return f"{getattr(compute, '__module__', '')}.{getattr(compute, '__qualname__', '')}"


def as_element(instruction: Instruction) -> tuple[str, Slot, tuple[object, ...]] | None:
    """Return a known function as (operator, result, operands), None for any other instruction."""
    if instruction.operator.key == instruction.operator.name or function_of(instruction) not in _COPIES:
        return None
    given, out = instruction.inputs[0], instruction.outputs[0]
    if not isinstance(given, Slot):
        return None
    if len(given.shape) < len(out.shape):  # a mask of the first axes
        missing = len(out.shape) - len(given.shape)
        shape, strides = (*given.shape, *(1,) * missing), (*given.strides, *(0,) * missing)
        given = Slot(given.buffer, given.offset, shape, strides, given.dtype, given.turn)
    return "astype", out, (given,)
