"""The two files: what stands around the body of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ... import __version__
from ...compiler.ir.arrays import DType
from ..program import Port, Program
from ..source import Source
from .code import Code
from .constants import Constants
from .functions import need_libm, with_needed
from .literals import literal, type_of
from .names import comment, letters
from .places import WHOLE, Places

STACK_BYTES = 2048
"""Of a step, at most: it has scalars and a few sums in lanes, no arrays, no recursion. Tests measure it."""


class Page:
    """The source and the header of a program.

    Args:
        stem: of the names of the files; what is left of it as letters is the prefix of all that the header declares.
        code: the body of the step.
        source, program: what is written.
        places, constants: where everything lies.
        ports: names of the parameters, by ("input" or "output", number).
        reentrant: whether the working memory is a parameter.
        quantize: how weights are stored.
    """

    def __init__(
        self,
        stem: str,
        code: Code,
        source: Source,
        program: Program,
        places: Places,
        constants: Constants,
        ports: dict[tuple[str, int], str],
        reentrant: bool,
        quantize: str | None,
    ) -> None:
        self._code = code
        self._stem, self._name = stem, letters(stem)
        self._source, self._program, self._places = source, program, places
        self._constants, self._ports, self._quantize = constants, ports, quantize
        self._has_work = bool(places.room)
        self._passes_work = reentrant and self._has_work
        self._initial = list(_initial(program, places, constants))
        constants.keep("\n".join([*code.lines, *self._initial]))

    # -- the source ---------------------------------------------------------------------------------------------------

    def source(self) -> str:
        """Return the source file."""
        code = self._code
        lines = [f"/* {comment(self._stem)}.h says what this is. */", ""]
        lines += ["#include <math.h>"] * (code.calls_libm or need_libm(code.used)) + [f'#include "{self._stem}.h"', ""]
        if code.used:
            lines += ["#ifdef __FAST_MATH__", "#error compile without -ffast-math: exp and tanh would be wrong"]
            lines += ["#endif", ""]
        for text in with_needed(code.used):
            lines += [*text.splitlines(), ""]
        for definition, _ in self._constants.defined.values():
            lines += [*definition, ""]
        if any("work." in line for line in code.lines):
            lines += ["static struct {", *self._members(), "} work;", ""]
        lines += [self._step(restrict=True), "{", *self._unused(), *code.lines, "    return 0;", "}"]
        if self._places.state_size:
            lines += ["", self._init(), "{", *self._initial, "}"]
        return "\n".join(lines) + "\n"

    def _unused(self) -> Iterator[str]:
        """Yield what keeps compilers from warning of parameters that the step does not read."""
        text = "\n".join(self._code.lines)
        for name in self._parameters():
            if f"{name}[" not in text and f"{name}->" not in text and f"({name} +" not in text:
                yield f"    (void){name};"

    def _members(self) -> list[str]:
        types = {"f32": "float", "f64": "double", WHOLE: "int16_t"}
        return [
            f"    {types.get(name) or name.replace('i', 'int').replace('u', 'uint') + '_t'} {name}[{size}];"
            for name, size in self._places.room.items()
        ]

    # -- the header ---------------------------------------------------------------------------------------------------

    def header(self) -> str:
        """Return the header."""
        prefix = self._name.upper()
        lines = ["/*", *(f" * {line}".rstrip() for line in self._words()), " */", ""]
        lines += [f"#ifndef {prefix}_H", f"#define {prefix}_H", "", "#include <stdint.h>", ""]
        lines += ["#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
        lines += [f"#define {prefix}_{name} {value}" for name, value in self._sizes()]
        if self._passes_work:
            lines += ["", "typedef struct {", *self._members(), f"}} {self._name}_work;"]
        lines += ["", f"{self._step()};"]
        if self._places.state_size:
            lines += [f"{self._init()};"]
        lines += ["", "#ifdef __cplusplus", "}", "#endif", "", "#endif"]
        return "\n".join(lines) + "\n"

    def _words(self) -> Iterator[str]:
        """Yield the comment at the start of the header."""
        module = self._source.module
        what = getattr(self._source.function, "__qualname__", "a function").rpartition(".")[2]
        if module is not None:
            what = f"one call of {type(module).__name__}, {module.parameter_count():,} parameters"
        yield comment(f"{what}; written by tinygrad_rnn {__version__}, do not edit")
        yield ""
        yield from self._calls()
        yield ""
        yield from map(comment, self._memory())
        yield ""
        yield "Parameters do not overlap. Arrays are in C order, the last axis together:"
        yield from self._tables()

    def _calls(self) -> Iterator[str]:
        name = self._name
        fails = any("return 1;" in line for line in self._code.lines)
        failure = "; or 1 if an id or a length is out of range, and then the state is as it was before the call"
        yield f"{name}_step returns 0{failure * fails}."
        if self._places.state_size:
            yield f"{name}_init writes the state before the first step."
        if self._constants.parts:
            yield f"weights: the content of {name}.bin, in memory that is aligned for its numbers (little-endian)."
        if self._passes_work:
            yield f"work: memory for the time of a call, {name}_work, which needs no initial value."

    def _memory(self) -> Iterator[str]:
        flash, work = self._constants.nbytes, self._work_bytes()
        state = self._places.state_size * self._places.state_dtype.itemsize
        kind = ", matrices in 8 bits" if self._quantize else ""
        where = "the constants, beside the code" + (f" (in {self._stem}.bin)" if self._constants.parts else "")
        yield f"flash: {flash:,} bytes for {where}{kind}"
        yield f"RAM:   {work + state:,} bytes: {state:,} for the state, {work:,} of working memory"
        yield f"stack: at most {STACK_BYTES:,} bytes; no recursion, no allocation"

    def _tables(self) -> Iterator[str]:
        ports = {"input": self._program.inputs, "output": self._program.outputs}
        for (kind, number), name in self._ports.items():
            port = ports[kind][number]
            yield f"  {name}: {_shape(port)} {self._type(kind, port)}, {kind} {comment(port.name)}"
        for one in self._program.carried:
            port = self._program.inputs[one.input]
            yield f"  state + {self._places.state_offsets[one.input]}: {_shape(port)}, {comment(port.name)}"

    def _sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the macros: elements of each parameter, and bytes."""
        for number in self._program.given:
            yield f"{self._ports['input', number].upper()}_SIZE", math.prod(self._program.inputs[number].shape)
        for number in self._program.results:
            yield f"{self._ports['output', number].upper()}_SIZE", math.prod(self._program.outputs[number].shape)
        if self._places.state_size:
            yield "STATE_SIZE", self._places.state_size
        if self._constants.parts:
            yield "WEIGHTS_BYTES", sum(part.nbytes for part in self._constants.parts)
        yield "FLASH_BYTES", self._constants.nbytes
        yield "RAM_BYTES", self._work_bytes() + self._places.state_size * self._places.state_dtype.itemsize
        yield "STACK_BYTES", STACK_BYTES

    def _work_bytes(self) -> int:
        return sum(size * int(name[1:]) // 8 for name, size in self._places.room.items())

    # -- declarations -------------------------------------------------------------------------------------------------

    def _step(self, restrict: bool = False) -> str:
        parts = self._parameters()
        if restrict:
            parts = {name: text.replace("*", "*restrict ") for name, text in parts.items()}
        return f"int {self._name}_step({', '.join(text + name for name, text in parts.items()) or 'void'})"

    def _init(self) -> str:
        return f"void {self._name}_init({type_of(self._places.state_dtype)} *state)"

    def _parameters(self) -> dict[str, str]:
        """Return the types of the parameters by name, in their order."""
        found: dict[str, str] = {}
        if self._constants.parts:
            found["weights"] = f"const {self._blob_type()} *"
        for number in self._program.given:
            found[self._ports["input", number]] = f"const {self._type('input', self._program.inputs[number])} *"
        if self._places.state_size:
            found["state"] = f"{type_of(self._places.state_dtype)} *"
        for number in self._program.results:
            found[self._ports["output", number]] = f"{self._type('output', self._program.outputs[number])} *"
        if self._passes_work:
            found["work"] = f"{self._name}_work *"
        return found

    def _blob_type(self) -> str:
        assert self._constants.blob is not None
        return type_of(self._constants.blob)

    @staticmethod
    def _type(kind: str, port: Port) -> str:
        """Return the type of a parameter: ids come in 32 bits."""
        return "int32_t" if kind == "input" and port.dtype == np.int64 else type_of(port.dtype)


def _shape(port: Port) -> str:
    return f"({', '.join(map(str, port.shape))}{',' * (len(port.shape) == 1)})"


def _initial(program: Program, places: Places, constants: Constants) -> Iterator[str]:
    """Yield the lines that write the state before the first step; arrays for it are added to the constants."""
    for one in program.carried:
        size, start = one.initial.size, places.state_offsets[one.input]
        if not size:
            continue
        value = literal(one.initial.flat[0], places.state_dtype)
        if not _same(one.initial, places.state_dtype):
            base, at = constants.add(f"initial.{program.inputs[one.input].name}", one.initial, inside=True)
            value = f"{base}[{f'{at} + ' * bool(at)}i0]"
        place = f"{start} + i0" if start else "i0"
        yield f"    for (long i0 = 0; i0 < {size}; i0++) state[{place}] = {value};"


def _same(array: np.ndarray[tuple[int, ...], DType], dtype: DType) -> bool:
    return len({literal(value, dtype) for value in (array.flat[0], array.min(), array.max())}) == 1
