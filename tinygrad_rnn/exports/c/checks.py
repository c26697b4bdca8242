"""Functions without a gradient that a program calls on arrays: checks of ids and positions, by their full name.

What they check is known when a program is written (shapes, dtypes), or where the ids are used (their range); what is
left of them is a copy.
"""

from __future__ import annotations

from ...compiler.plans.instructions import Instruction, Slot
from ..checks import BACKWARD_ORDER, CHECK_OF_IDS, CHECK_OF_LENGTHS, COPIES, full_name, setting

KERNELS = (CHECK_OF_IDS, CHECK_OF_LENGTHS, BACKWARD_ORDER, "numpy.argmax", "numpy.argmin")
"""Functions that are kernels."""


def function_of(instruction: Instruction) -> str:
    """Return the full name of the function that an instruction calls."""
    return full_name(instruction.operator.compute)


def as_element(instruction: Instruction) -> tuple[str, Slot, tuple[object, ...]] | None:
    """Return a known function as (operator, result, operands), None for any other instruction."""
    name = function_of(instruction)
    if instruction.operator.key == instruction.operator.name or name not in (*COPIES, "numpy.full_like"):
        return None
    given, out = instruction.inputs[0], instruction.outputs[0]
    if name == "numpy.full_like":
        return "astype", out, (setting(instruction, 1, "fill_value"),)
    if not isinstance(given, Slot):
        return None
    return "astype", out, (given,)
