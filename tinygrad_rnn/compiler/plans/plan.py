"""A plan: calls and loops of calls on memory that is laid out in advance. It is data; executors replay it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from .explain import Explanation, explain, flops_of
from .instructions import Instruction, Loop, Slot


@dataclass
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
        flops_there: the floating point operations of a plan at that place, if that is known.
    """

    instructions: Sequence[Instruction | Loop]
    inputs: list[Slot]
    outputs: list[Slot]
    arena_bytes: int
    passes: list[str] = field(default_factory=list)
    last: int | None = None
    programs: dict[int, object] = field(default_factory=dict, init=False)
    place: object = field(default=None, init=False)  # a plan with other instructions is not there
    flops_there: Callable[[], int] | None = field(default=None, init=False)

    def flat(self) -> Iterator[tuple[Instruction, Loop | None]]:
        """Yield the instructions, those of a loop once, each with the loop that it is done in.

        The number of an instruction, here and elsewhere, is its position in this order.
        """
        for part in self.instructions:
            if isinstance(part, Loop):
                yield from ((instruction, part) for instruction in part.instructions)
            else:
                yield part, None

    def at(self, number: int) -> Instruction:
        """Return an instruction by its number."""
        return next(islice(self.flat(), number, None))[0]

    def flops(self) -> int:
        """Return the floating point operations of a replay."""
        if self.flops_there is not None:
            return self.flops_there()
        return sum(flops_of(one) * (loop.steps if loop else 1) for one, loop in self.flat())

    def explain(self) -> Explanation:
        """Return what the plan costs, without times; `Compiled.explain` measures those too."""
        return explain(self)
