"""The NumPy executor: binds a plan to memory once, and replays it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..engine.tape import Array
from .plan import Instruction, Plan, Slot

_UFUNCS: dict[str, np.ufunc] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "negative": np.negative,
    "power": np.power,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


class Executor:
    """A plan on NumPy arrays of its own. `run(arrays)` replays it and returns its outputs, which the caller may keep."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        memory = np.empty(plan.arena_bytes + 64, np.uint8)
        start = -memory.__array_interface__["data"][0] % 64
        self._arena = memory[start : start + plan.arena_bytes]
        self._memory: dict[int, Array] = {}
        self._objects: dict[int, Any] = {}  # generators: not arrays, looked up at each replay
        self._inputs = [None if slot.dtype == object else self.array(slot) for slot in plan.inputs]
        self._last: list[Any] = [None] * len(plan.inputs)
        self._outputs = [self.array(slot) for slot in plan.outputs]
        self._program: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
            self._bind(instruction) for instruction in plan.instructions
        ]

    def array(self, slot: Slot) -> Array:
        """Return the array of a slot."""
        buffer = slot.buffer
        if buffer.kind == "arena":
            return np.ndarray(slot.shape, slot.dtype, self._arena, buffer.offset + slot.offset, slot.strides)
        if id(buffer) not in self._memory:
            memory = np.empty(max(1, buffer.nbytes), np.uint8)
            if buffer.constant is not None and buffer.nbytes:
                memory[:] = buffer.constant.reshape(-1).view(np.uint8)
            self._memory[id(buffer)] = memory
        return np.ndarray(slot.shape, slot.dtype, self._memory[id(buffer)], slot.offset, slot.strides)

    def _bind(self, instruction: Instruction) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        inputs = tuple(self._operand(part) for part in instruction.inputs)
        outputs = tuple(self.array(slot) for slot in instruction.outputs)
        attrs = {name: self._operand(part) for name, part in instruction.attrs.items()}
        operator = instruction.operator
        if operator.name in _UFUNCS and operator.writes:
            return _UFUNCS[operator.name], (*inputs, *outputs)
        if operator.name == "matmul":
            return np.matmul, (*inputs, *outputs)
        if isinstance(operator.compute, np.ufunc):
            return operator.compute, (*inputs, *outputs)
        if operator.writes:
            return partial(operator.compute, *inputs, **attrs, out=outputs if len(outputs) > 1 else outputs[0]), ()
        compute = partial(operator.compute, **attrs)
        if any(isinstance(part, Slot) for part in inputs):
            compute = partial(self._with_objects, compute)
        return _copy_results, (compute, inputs, outputs)

    def _operand(self, part: Any) -> Any:
        if not isinstance(part, Slot):
            return part
        return part if part.dtype == object else self.array(part)

    def _with_objects(self, compute: Callable[..., Any], *inputs: Any) -> Any:
        return compute(*(self._objects[id(part.buffer)] if isinstance(part, Slot) else part for part in inputs))

    def run(self, arrays: list[Any]) -> list[Array]:
        """Replay the plan with these inputs."""
        for number, array in enumerate(arrays):
            mine = self._inputs[number]
            if mine is None:
                self._objects[id(self.plan.inputs[number].buffer)] = array
            elif array is not self._last[number]:
                np.copyto(mine, array)
                self._last[number] = None if array.flags.writeable else array
        for function, operands in self._program:
            function(*operands)
        return [output.copy() for output in self._outputs]


def _copy_results(compute: Callable[..., Any], inputs: tuple[Any, ...], outputs: tuple[Array, ...]) -> None:
    made = compute(*inputs)
    for output, part in zip(outputs, made if isinstance(made, tuple) else (made,), strict=True):
        np.copyto(output, part)
