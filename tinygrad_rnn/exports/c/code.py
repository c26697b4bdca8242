"""Lines of C in the making."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ...compiler.ir.arrays import DType, Shape
from ...compiler.plans.instructions import Buffer, Slot
from .literals import is_real, literal, type_of
from .places import Places, Ref
from .quantize import Small

_LANES = 8  # sums that are added up side by side
_LONG = 4 * _LANES  # elements; shorter sums are added up one after the other


class Code:
    """The body of a function, line by line.

    Args:
        places: where buffers lie.
        quantized: matrices in 8 bits, and where they lie.

    Attributes:
        lines: so far.
        used: functions of this package, as (name, "f32" or "f64").
        calls_libm: whether a function of math.h is called.
    """

    def __init__(self, places: Places, quantized: dict[Buffer, Small]) -> None:
        self.places, self.quantized = places, quantized
        self.lines: list[str] = []
        self.used: set[tuple[str, str]] = set()
        self.calls_libm = False
        self._depth = 1

    def line(self, text: str) -> None:
        """Append a line."""
        self.lines.append("    " * self._depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Append a head, and what is appended meanwhile in braces."""
        self.line(f"{head} {{" if head else "{")
        self._depth += 1
        yield
        self._depth -= 1
        self.line("}")

    @contextmanager
    def loop(self, variable: str, length: object, start: object = 0, step: int = 1) -> Iterator[None]:
        """Append a loop over a range."""
        by = f"{variable}++" if step == 1 else f"{variable} += {step}"
        with self.block(f"for (long {variable} = {start}; {variable} < {length}; {by})"):
            yield

    @contextmanager
    def loops(self, lengths: Shape, letter: str) -> Iterator[list[object]]:
        """Append loops over some axes; yield their variables, "i0", "i1" for the letter i; 0 for a length of one."""
        named = [(f"{letter}{number}", length) for number, length in enumerate(lengths)]
        with self._nested([(name, length) for name, length in named if length != 1]):
            yield [name if length != 1 else 0 for name, length in named]

    @contextmanager
    def scope(self, lengths: Shape, letter: str) -> Iterator[list[object]]:
        """Append loops as `loops` does, or braces if there are none: for local variables."""
        if any(length != 1 for length in lengths):
            with self.loops(lengths, letter) as index:
                yield index
        else:
            with self.block(""):
                yield [0] * len(lengths)

    @contextmanager
    def _nested(self, ranges: Sequence[tuple[str, int]]) -> Iterator[None]:
        if not ranges:
            yield
            return
        with self.loop(*ranges[0]), self._nested(ranges[1:]):
            yield

    def use(self, name: str, dtype: DType) -> str:
        """Take note of a function that is called, and return its name in C."""
        kind = f"f{8 * dtype.itemsize}"
        if name.startswith("LIBM_"):
            self.calls_libm = True
            return name.removeprefix("LIBM_") + ("f" if kind == "f32" else "")
        self.used.add((name, kind))
        return f"{name}_{kind}"

    def ref(self, slot: Slot, steps: Sequence[int] | None = None) -> Ref:
        """Return how an element of a slot is written."""
        return self.places.ref(slot, steps)

    def sum_of(self, variable: str, length: int, term: str, dtype: DType) -> None:
        """Append the sum of a term, in which `variable` runs from 0 to length; it is s0 then.

        Long sums are added up in lanes, which compilers turn into vectors without leave to reorder sums.
        """
        zero = literal(0, dtype)
        self.line(f"{type_of(dtype)} s0 = {zero};")
        first = 0
        if length >= _LONG and is_real(dtype):
            first = length - length % _LANES
            self.line(f"{type_of(dtype)} s1[{_LANES}] = {{{', '.join([zero] * _LANES)}}};")
            with self.loop(f"{variable}_", first, step=_LANES), self.loop("n9", _LANES):
                self.line(f"const long {variable} = {variable}_ + n9;")
                self.line(f"s1[n9] += {term};")
            with self.loop("n9", _LANES):
                self.line("s0 += s1[n9];")
        if first < length:
            with self.loop(variable, length, first):
                self.line(f"s0 += {term};")
