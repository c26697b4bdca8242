"""The cost of a plan: calls, arithmetic, traffic, memory, and where the time goes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from ..ir.table import MOVES
from .instructions import Buffer, Instruction, Loop, Slot

_Cost = tuple[int, int, int, float | None]  # calls, floating point operations, bytes, seconds
_UNITS = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]


@dataclass(frozen=True)
class Row:
    """The cost of all calls of one operator.

    Attributes:
        operator: its name.
        calls: their number in a replay; a call in a loop counts at each step.
        flops: floating point operations.
        nbytes: bytes read and written.
        seconds: time of one replay, or None where it was not measured.
    """

    operator: str
    calls: int
    flops: int
    nbytes: int
    seconds: float | None


@dataclass(frozen=True)
class LoopCosts:
    """The cost of a loop, all its steps together.

    Attributes:
        instructions: their number in its body.
        steps: T.
        reverse: whether the last step comes first.
        flops, nbytes, seconds: as in `Row`.
    """

    instructions: int
    steps: int
    reverse: bool
    flops: int
    nbytes: int
    seconds: float | None

    @property
    def calls(self) -> int:
        """Number of calls of all steps."""
        return self.steps * self.instructions


@dataclass(frozen=True)
class Explanation:
    """The cost of a plan; `str(explanation)` is a report.

    Attributes:
        rows: costs by operator, the highest first (in time where it was measured, else in bytes).
        passes: names of the passes that ran.
        arena_bytes: size of the arena, whose bytes serve one value after another.
        alive_bytes: the most bytes of the arena that hold values at one time.
        alive_at: (number, operator) of the instruction where that is, in the order of `Plan.flat`.
        input_bytes, constant_bytes, result_bytes: memory beside the arena.
        executor: what replayed the plan if times were measured, such as "native, 2 threads"; else "".
        loops: costs of each loop, in the order in which they are done; they are in the rows too.
    """

    rows: tuple[Row, ...]
    passes: tuple[str, ...]
    arena_bytes: int
    alive_bytes: int
    alive_at: tuple[int, str]
    input_bytes: int
    constant_bytes: int
    result_bytes: int
    executor: str = ""
    loops: tuple[LoopCosts, ...] = ()

    @property
    def calls(self) -> int:
        """Number of calls of a replay; those of a loop count at each step."""
        return sum(row.calls for row in self.rows)

    @property
    def instructions(self) -> int:
        """Number of instructions of the plan; those of a loop count once."""
        return self.calls - sum(loop.calls - loop.instructions for loop in self.loops)

    @property
    def flops(self) -> int:
        """Floating point operations of a replay."""
        return sum(row.flops for row in self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes that the calls of a replay read and write."""
        return sum(row.nbytes for row in self.rows)

    @property
    def peak_bytes(self) -> int:
        """Bytes that a first replay holds: arena, copies of inputs, constants, results."""
        return self.arena_bytes + self.input_bytes + self.constant_bytes + self.result_bytes

    @property
    def seconds(self) -> float | None:
        """Time of the calls of a replay, added up; None where it was not measured."""
        times = [row.seconds for row in self.rows if row.seconds is not None]
        return sum(times) if times else None

    def __str__(self) -> str:
        count = f"{self.calls} calls" + (f" ({self.instructions} instructions)" if self.loops else "")
        head = f"plan of {count}: {_scaled(self.flops, 'FLOP')}, {_scaled(self.nbytes, 'B')} read and written"
        if self.seconds is not None:
            head += f", {_time(self.seconds)}"
            head += f" ({self.flops / self.seconds / 1e9:.3g} GFLOP/s)" if self.seconds else ""
            head += f", {self.executor}" if self.executor else ""
        number, operator = self.alive_at
        lines = [
            head,
            *(self._of_loop(loop) for loop in self.loops),
            f"memory: {_scaled(self.peak_bytes, 'B')} = arena {_scaled(self.arena_bytes, 'B')}, "
            f"inputs {_scaled(self.input_bytes, 'B')}, constants {_scaled(self.constant_bytes, 'B')}, "
            f"results {_scaled(self.result_bytes, 'B')}",
            f"arena: at most {_scaled(self.alive_bytes, 'B')} in use at one time, at instruction {number} ({operator})",
            f"passes: {', '.join(self.passes) or 'none'}",
            "",
        ]
        names = ["operator", *(row.operator for row in self.rows), "all"]
        width = max(map(len, names))
        titles = f"{'operator':<{width}}  {'calls':>6}  {'arithmetic':>12} {'share':>6}  {'traffic':>9} {'share':>6}"
        lines.append(titles + ("" if self.seconds is None else f"  {'time':>9} {'share':>6}"))
        whole = Row("all", self.calls, self.flops, self.nbytes, self.seconds)
        lines += [_line(row, whole, width) for row in (*self.rows, whole)]
        return "\n".join(lines)

    def _of_loop(self, loop: LoopCosts) -> str:
        way = ", in reverse" if loop.reverse else ""
        text = f"loop, T = {_count(loop.steps, 'step')}{way}: {_count(loop.instructions, 'instruction')}, "
        text += f"{_count(loop.calls, 'call')}, {_scaled(loop.flops, 'FLOP')}, {_scaled(loop.nbytes, 'B')}"
        if loop.seconds is None or self.seconds is None:
            return text
        return f"{text}, {_time(loop.seconds)} ({_share(loop.seconds, self.seconds)})"


class Costly(Protocol):
    """The part of a `Plan` that is explained; `plan` itself imports this module."""

    inputs: list[Slot]
    outputs: list[Slot]
    arena_bytes: int
    passes: list[str]

    def flat(self) -> Iterator[tuple[Instruction, Loop | None]]:
        """Yield the instructions, each with the loop that it is done in."""


def explain(plan: Costly, seconds: Sequence[float] | None = None, executor: str = "") -> Explanation:
    """Return the cost of a plan.

    A matrix product counts 2 * M * N * K floating point operations, any other call one for each element of its largest
    operand or result, or none if it only moves elements. A call moves the bytes of its operands and results, where an
    element that is repeated by broadcasting counts once; caches are not considered. A call in a loop counts at each
    step, in its row and in the line of its loop.

    Args:
        plan: what `compile` made.
        seconds: time of each instruction, as `Executor.seconds` measures it, in the order of `Plan.flat`; None: no
            times.
        executor: what they were measured on, in words.

    Returns:
        An `Explanation`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> step = tr.compile(lambda x, w: np.sum(np.tanh(x @ w)))
    >>> _ = step(np.ones((20, 30)), np.ones((30, 40)))
    >>> costs = explain(step.plan)
    >>> costs.calls, costs.flops == 2 * 20 * 30 * 40 + 2 * 20 * 40
    (3, True)
    >>> print(str(costs).splitlines()[0])
    plan of 3 calls: 49.6 kFLOP, 40 kB read and written
    """
    flat = list(plan.flat())
    times: Sequence[float | None] = [None] * len(flat) if seconds is None else seconds
    found: dict[str, list[_Cost]] = {}
    within: dict[int, tuple[Loop, list[_Cost]]] = {}
    for (instruction, loop), duration in zip(flat, times, strict=True):
        steps = 1 if loop is None else loop.steps
        nbytes = steps * sum(slot.distinct_bytes() for slot in instruction.slots())
        cost = steps, steps * flops_of(instruction), nbytes, duration
        found.setdefault(instruction.operator.name, []).append(cost)
        if loop is not None:
            within.setdefault(id(loop), (loop, []))[1].append(cost)
    rows = [Row(name, *_added(costs)) for name, costs in found.items()]
    loops = [LoopCosts(len(costs), one.steps, one.reverse, *_added(costs)[1:]) for one, costs in within.values()]
    rows.sort(key=lambda row: (-(row.seconds or 0.0), -row.nbytes, row.operator))
    buffers = {id(slot.buffer): slot.buffer for slot in _all_slots(plan)}.values()
    held = {
        kind: sum(b.nbytes for b in buffers if b.kind == kind) for kind in ("input", "donated", "constant", "output")
    }
    alive, number = _most_alive(buffers, len(flat))
    return Explanation(
        tuple(rows),
        tuple(plan.passes),
        plan.arena_bytes,
        alive,
        (number, flat[number][0].operator.name if flat else "none"),
        held["input"] + held["donated"],
        held["constant"],
        held["output"],
        executor,
        tuple(loops),
    )


def _all_slots(plan: Costly) -> Iterable[Slot]:
    yield from (slot for instruction, _ in plan.flat() for slot in instruction.slots())
    yield from plan.inputs
    yield from plan.outputs


def flops_of(instruction: Instruction) -> int:
    """Return the floating point operations of an instruction; see `explain`."""
    name = instruction.operator.name
    if name in MOVES:
        return 0
    if name == "matmul":
        return 2 * math.prod(instruction.outputs[0].shape) * int(instruction.inputs[0].shape[-1])
    if name == "subtract_rows":
        return math.prod(instruction.inputs[1].shape)
    return max((math.prod(slot.shape) for slot in instruction.slots() if slot.dtype.kind != "O"), default=0)


def _most_alive(buffers: Iterable[Buffer], count: int) -> tuple[int, int]:
    """Return the most bytes of the arena that hold values at one of `count` instructions, and the number of that."""
    change = [0] * (count + 1)
    for buffer in buffers:
        if buffer.kind == "arena" and buffer.dies >= 0:
            change[buffer.born] += buffer.nbytes
            change[buffer.dies + 1] -= buffer.nbytes
    held = [*accumulate(change)]
    return max(held), held.index(max(held))


def _added(costs: list[_Cost]) -> _Cost:
    calls, flops, nbytes, times = zip(*costs, strict=True)
    known = [duration for duration in times if duration is not None]
    return sum(calls), sum(flops), sum(nbytes), sum(known) if known else None


def _line(row: Row, whole: Row, width: int) -> str:
    text = f"{row.operator:<{width}}  {row.calls:>6}"
    text += f"  {_scaled(row.flops, 'FLOP'):>12} {_share(row.flops, whole.flops):>6}"
    text += f"  {_scaled(row.nbytes, 'B'):>9} {_share(row.nbytes, whole.nbytes):>6}"
    if row.seconds is None or whole.seconds is None:
        return text
    return f"{text}  {_time(row.seconds):>9} {_share(row.seconds, whole.seconds):>6}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _scaled(amount: float, unit: str) -> str:
    factor, letter = next((f, letter) for f, letter in _UNITS if amount >= f or f == 1.0)
    return f"{float(f'{amount / factor:.3g}'):g} {letter}{unit}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"
