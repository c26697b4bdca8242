"""A plan: calls and loops of calls on memory that is laid out in advance. It is data; executors replay it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .explain import Explanation, explain, flops_of
from .instructions import Instruction, Loop, Slot


@dataclass(repr=False)
class Plan:
    """A list of calls, and loops of calls, on memory that is laid out in advance.

    Attributes:
        instructions: calls and loops, in their order.
        inputs, outputs: where they lie; a result that lies in the buffer of an input is written over it.
        arena_bytes: size of the arena.
        passes: names of the passes that ran.
        last: index in `instructions` from which inputs are written over, so that everything that can fail comes before
            it; None: no input is written over.
        programs: what an executor has made of it, by the number of workers.
        place: where it lies on the line that it was made from, if it was.
        work: floating point operations of a replay, if they have been estimated.
    """

    instructions: Sequence[Instruction | Loop]
    inputs: list[Slot]
    outputs: list[Slot]
    arena_bytes: int
    passes: list[str] = field(default_factory=list)
    last: int | None = None
    programs: dict[int, object] = field(default_factory=dict, init=False)
    place: object = field(default=None, init=False)  # a plan with other instructions is not there
    work: float | None = field(default=None, init=False)

    def __repr__(self) -> str:
        loops = sum(isinstance(part, Loop) for part in self.instructions)
        return f"<Plan: {len(self.positions)} instructions, {loops} loops, {self.arena_bytes:,} bytes of arena>"

    def flat(self) -> Iterator[tuple[Instruction, Loop | None]]:
        """Yield the instructions, those of a loop once, each with the loop that it is done in.

        The number of an instruction, here and elsewhere, is its position in this order.
        """
        for part in self.instructions:
            if isinstance(part, Loop):
                yield from ((instruction, part) for instruction in part.instructions)
            else:
                yield part, None

    @cached_property
    def positions(self) -> list[tuple[int, int]]:
        """Where each instruction is: its place in `instructions`, or that of its loop, and its place in the loop."""
        sizes = [len(part.instructions) if isinstance(part, Loop) else 1 for part in self.instructions]
        return [(place, inner) for place, size in enumerate(sizes) for inner in range(size)]

    def at(self, number: int) -> Instruction:
        """Return an instruction by its number."""
        place, inner = self.positions[number]
        part = self.instructions[place]
        return part.instructions[inner] if isinstance(part, Loop) else part

    def flops(self) -> float:
        """Return the floating point operations of a replay, or an estimate."""
        if self.work is None:
            self.work = sum(flops_of(one) * (loop.steps if loop else 1) for one, loop in self.flat())
        return self.work

    def explain(self) -> Explanation:
        """Return what the plan costs, without times; `Compiled.explain` measures those too."""
        return explain(self)
