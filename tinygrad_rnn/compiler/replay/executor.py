"""The executor: binds a plan to memory, and replays it, with NumPy or with the C library of `native`.

Memory is of four kinds: the arena, whose bytes serve one value after another; constants; copies of inputs; and blocks
for large results. Blocks are handed out without a copy, and written again only when nobody holds what was in them, so
a result that the caller keeps never changes. An input that lies in such a block (the parameters that the last replay
returned) is read where it is. A donated input lies in a block of its own, into which it is copied if it comes from
elsewhere, and the result that is written over it lies in the same block. For each combination of blocks that occurs,
the calls are bound once.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeVar, cast
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from ...engine.arrays import MISREAD, applied, is_fixed
from ...engine.tape import Array
from ...errors import TraceError
from ..ir.graph import Operator, map_attrs
from ..ir.table import UFUNCS
from ..native.line import program_of
from ..plans.instructions import Buffer, Instruction, Slot
from ..plans.memory import Beside, Block, InputCopy, Memory, Part, address, own_memory
from ..plans.plan import Plan
from .binding import Binding, BoundCall, pieces_of, timed

Input = Array | np.random.Generator
R = TypeVar("R")

_LARGE = 1 << 14  # bytes; smaller results are copied, and smaller inputs too
_HUGE = 1 << 20  # bytes; of larger inputs no copy is kept that is not needed
_SHARED = 1 << 25  # floating point operations; fewer are done before another thread can be relied on to have started
_BOUND = 16  # combinations of blocks for which the calls stay bound
_Place = Block | Part
_Blocks = tuple[tuple[_Place, ...], tuple[_Place | None, ...]]  # of large results, and large inputs
_NO_BLOCKS: _Blocks = (), ()
_COPY = np.ndarray.copy


class FastPath(NamedTuple):
    """The fast path: what a replay does if neither inputs nor results lie in blocks.

    Attributes:
        narrow: numbers of small inputs, and where they are copied to.
        wide: numbers of large ones, where they are copied to, and their copies.
        calls: those of the plan.
        results: arrays whose copies are returned.
        beside: `used` says that inputs may lie in blocks after all.
    """

    narrow: list[tuple[int, Array]]
    wide: list[tuple[int, Array, InputCopy]]
    calls: list[BoundCall]
    results: list[Array]
    beside: Beside


class Executor:
    """A plan bound to memory. `run(arrays)` replays it and returns its outputs, which the caller may keep.

    Args:
        plan: what `make_plan` made.
        threads: workers of the C library, or threads of NumPy's large loops.
        native: replay with the C library what it knows, and only the rest with NumPy.
        memory: what is shared with other executors of the same function; only one of them runs at a time.

    Attributes:
        wide: numbers of large inputs.

    Raises:
        NativeError: if there is no C library.
    """

    def __init__(self, plan: Plan, threads: int = 1, native: bool = False, memory: Memory | None = None) -> None:
        self.plan = plan
        self._instructions: dict[int, Instruction] = {}  # by number, those that Python does
        if native and threads > 1:
            threads = 1 if plan.flops() < _SHARED else threads
        self.threads = threads
        self._program = program_of(plan, self.threads) if native else None
        self._pieces = pieces_of(plan) if self._program is None else self._program.pieces
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()
        self._shared = Memory() if memory is None else memory
        self._arena = self._shared.arena(plan.arena_bytes)
        self._memory: dict[int, Array] = {}  # of constants, small results and copied inputs, by buffer
        self._objects: dict[int, object] = {}  # generators among the inputs, by buffer
        self._needs = {
            number: slot.buffer.nbytes
            for number, slot in enumerate(plan.outputs)
            if slot.buffer.kind == "output" and slot.buffer.nbytes >= _LARGE
        }
        inputs = self._inputs = {id(slot.buffer): number for number, slot in enumerate(plan.inputs)}
        self._over = {  # numbers of results that are written over an input, and of the input
            number: inputs[id(slot.buffer)] for number, slot in enumerate(plan.outputs) if id(slot.buffer) in inputs
        }
        self._bound: dict[_Blocks, list[BoundCall]] = {}
        numbered = [(number, slot) for number, slot in enumerate(plan.inputs) if slot.dtype != object]
        self.wide = [number for number, slot in numbered if slot.buffer.nbytes >= _LARGE]
        self._copies: dict[int, InputCopy | None] = dict.fromkeys(self.wide)
        # Indices into `wide` of the inputs that results are written over.
        self._given = [place for place, number in enumerate(self.wide) if number in self._over.values()]
        self._generators = [number for number, slot in enumerate(plan.inputs) if slot.dtype == object]
        self._narrow = [(number, self._array(slot)) for number, slot in numbered if slot.buffer.nbytes < _LARGE]
        self._in_blocks = bool(self._needs or self._given)
        self._small = {  # small results, by number, and small inputs that are written over
            number: self._array(slot)
            for number, slot in enumerate(plan.outputs)
            if number not in self._needs and self._over.get(number) not in self.wide
        }

    @property
    def nbytes(self) -> int:
        """Bytes that are held now: arena, constants, copies of inputs, blocks of results."""
        blocks = sum(block.nbytes for block in self._shared.blocks())
        return self._arena.nbytes + blocks + sum(array.nbytes for array in self._memory.values())

    def run(self, arrays: Sequence[Input]) -> list[Array]:
        """Replay the plan with these inputs, of the shapes and dtypes that it was made for."""
        bound, chosen, copied = self._prepared(arrays)
        try:
            for function, operands in bound:
                function(*operands)
        finally:
            self._objects.clear()  # the generators are the caller's
        if not chosen:
            return [*map(_COPY, self._small.values())]
        return [self._handed(number, slot, chosen, copied) for number, slot in enumerate(self.plan.outputs)]

    def fast_path(self) -> FastPath | None:
        """Return the fast path of a replay; None if a replay must take decisions, or there has been none yet."""
        bound = self._bound.get(_NO_BLOCKS)
        if self._in_blocks or self._generators or bound is None or self._shared.beside.used:
            return None
        wide = [(n, self._array(self.plan.inputs[n]), copy) for n, copy in self._copies.items() if copy is not None]
        return FastPath(self._narrow, wide, bound, [*self._small.values()], self._shared.beside)

    def close(self) -> None:
        """Drop the calls that are bound to shared memory; another replay binds them again."""
        with self._shared.counted():
            self._bound = {}

    def _prepared(self, arrays: Sequence[Input]) -> tuple[list[BoundCall], dict[int, _Place], bool]:
        """Return calls that are bound to these inputs, the blocks they write to, and whether results are copied."""
        chosen: dict[int, _Place] = {}
        wide: dict[int, _Place | None] = {}
        copied, key = False, _NO_BLOCKS
        if self._in_blocks or self._shared.beside.used:
            blocks, copied = self._shared.free_set(self._needs)
            chosen = {number: blocks[number] for number in self._needs}
            wide = dict(zip(self.wide, self._sources(arrays), strict=True))
            for number, source in wide.items():
                if source is not None and self._copies[number] is not None:
                    self._drop_copy(number)
            key = tuple(chosen.values()), tuple(wide.values())
        bound = self._bound.get(key)
        if bound is None:
            with self._counted():
                if len(self._bound) == _BOUND:
                    del self._bound[next(iter(self._bound))]
                bound = self._bound[key] = self._bind(chosen, wide)
        self._fill(arrays, wide)
        if self._over:
            chosen = chosen | {
                number: block for number, of in self._over.items() if (block := wide.get(of)) is not None
            }
        return bound, chosen, copied

    def _sources(self, arrays: Sequence[Input]) -> tuple[_Place | None, ...]:
        """Return the blocks in which large inputs lie; a donated one that lies in none is copied into one first."""
        shared = self._shared
        found = [shared.block_of(cast("Array", arrays[number])) for number in self.wide]
        taken: list[_Place] = []
        for place in self._given:
            block = found[place]
            if block is None or not block.donated or block in taken:
                number = self.wide[place]
                slot = self.plan.inputs[number]
                block = shared.donated_block(slot.buffer.nbytes, taken)
                block.array(slot)[...] = arrays[number]
            taken.append(block)
        if taken:
            found = [None if block in taken else block for block in found]  # another input in it is read from a copy
            for place, block in zip(self._given, taken, strict=True):
                found[place] = block
        return tuple(found)

    # -- memory -------------------------------------------------------------------------------------------------------

    def _fill(self, arrays: Sequence[Input], wide: dict[int, _Place | None]) -> None:
        """Put inputs where the calls read them, those in blocks excepted."""
        for number in self._generators:
            self._objects[id(self.plan.inputs[number].buffer)] = arrays[number]
        for number, target in self._narrow:
            target[...] = arrays[number]  # np.copyto takes twice as long
        for number, made in self._copies.items():
            known = None if made is None or made.last is None else made.last()
            if known is not arrays[number] and wide.get(number) is None:
                self._copy(number, arrays[number])

    def _copy(self, number: int, array: Input) -> None:
        """Copy a large input to where the calls read it."""
        target, copy = self._array(self.plan.inputs[number]), self._copies[number]
        assert copy is not None
        copy.last = None  # whatever interrupts the copy
        target[...] = array
        copy.last = ref(array) if isinstance(array, np.ndarray) and is_fixed(array) else None

    def _drop_copy(self, number: int) -> None:
        """Drop the copy of a large input that now comes in a block: parameters do so from the second replay on."""
        slot = self.plan.inputs[number]
        if slot.buffer.nbytes < _HUGE:
            return
        place = self.wide.index(number)
        with self._counted():
            self._bound = {key: bound for key, bound in self._bound.items() if key[1] and key[1][place] is not None}
        self._copies[number] = None
        del self._memory[id(slot.buffer)]
        self._shared.drop_input(number)

    def _handed(self, number: int, slot: Slot, chosen: dict[int, _Place], copied: bool) -> Array:
        """Return a result as the caller gets it."""
        if number not in chosen:
            return self._small[number].copy()
        result = chosen[number].array(slot)
        return result.copy() if copied and number in self._needs else result

    def _array(self, slot: Slot) -> Array:
        """Return the array of a slot that lies in the arena or in memory of its own."""
        buffer = slot.buffer
        return slot.array(self._arena, buffer.offset) if buffer.kind == "arena" else slot.array(self._memory_of(buffer))

    def _memory_of(self, buffer: Buffer) -> Array:
        """Return the memory of a buffer that does not lie in the arena."""
        if id(buffer) not in self._memory:
            number = self._inputs.get(id(buffer))
            memory = own_memory(buffer.nbytes) if number is None else self._input(number, buffer.nbytes)
            if buffer.constant is not None and buffer.nbytes:
                memory[:] = buffer.constant.reshape(-1).view(np.uint8)
            self._memory[id(buffer)] = memory
        return self._memory[id(buffer)]

    def _input(self, number: int, nbytes: int) -> Array:
        """Return the memory that an input is copied into."""
        copy = self._shared.input_copy(number, nbytes)
        if number in self._copies:
            self._copies[number] = copy
        return copy.memory[:nbytes]

    # -- binding ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the references to blocks that binding and unbinding make; see `Memory.counted`."""
        try:
            with self._shared.counted():
                yield
        except BaseException:
            self._bound = {}
            raise

    def _bind(self, chosen: dict[int, _Place], sources: dict[int, _Place | None]) -> list[BoundCall]:
        blocks = {id(self.plan.outputs[number].buffer): chosen[number] for number in self._needs}
        for number, source in sources.items():
            if source is not None:
                blocks[id(self.plan.inputs[number].buffer)] = source

        def place(slot: Slot) -> Array:
            block = blocks.get(id(slot.buffer))
            return self._array(slot) if block is None else block.array(slot)

        bases = None if self._program is None else self._addresses(blocks)
        return Binding(place, self._call, bases, self.threads, self._counted).bound(self._pieces)

    def seconds(self, arrays: Sequence[Input], replays: int = 20) -> list[float]:
        """Return the time of each instruction in seconds: the least of several replays, one instruction at a time.

        They are in the order of `Plan.flat`; the time of one in a loop is that of all steps of a replay. Each includes
        about 0.1 microseconds for reading the clock. Generators are copied, so that those of the caller do not advance.

        Args:
            arrays: inputs of the plan.
            replays: how many times each instruction is timed, at least 1.
        """
        parts = [copy.deepcopy(part) if isinstance(part, np.random.Generator) else part for part in arrays]
        self.run(parts)
        bound, _, _ = self._prepared(parts)
        best = [math.inf] * sum(1 for _ in self.plan.flat())
        for _ in range(replays):
            times = [0.0] * len(best)
            for number, seconds in timed(self._pieces, bound):
                times[number] += seconds
            best = list(map(min, best, times))
        return best

    def _addresses(self, blocks: dict[int, _Place]) -> NDArray[np.int64]:
        """Return where the memory of the library's buffers starts, the arena first."""
        assert self._program is not None
        found = [address(self._arena)]
        for buffer in self._program.buffers:
            block = blocks.get(id(buffer))
            found.append(address(self._memory_of(buffer)) if block is None else block.address)
        return np.array(found, np.int64)

    def _call(self, number: int, operand: Callable[[object], object]) -> BoundCall:
        """Return an instruction as a call; `operand` returns the array of a slot, and anything else as it is."""
        instruction = self._instructions.get(number) or self._instructions.setdefault(number, self.plan.at(number))
        inputs = tuple(operand(part) for part in instruction.inputs)
        outputs = tuple(operand(slot) for slot in instruction.outputs)
        attrs = map_attrs(operand, instruction.attrs)
        if self.threads > 1 and instruction.operator.parts:
            attrs["each"] = self._each
        operator = instruction.operator
        ufunc = UFUNCS.get(operator.name)
        if operator.name == "matmul" and all(_is_plain(part) for part in (*inputs, *outputs)):
            return np.dot, (*inputs, *outputs)  # a third of a microsecond less than np.matmul
        if (function := ufunc or operator.compute) in MISREAD:
            return partial(applied, function), (*inputs, *outputs)
        if ufunc is not None:
            return ufunc, (*inputs, *outputs)
        if any(isinstance(part, Slot) for part in inputs):
            compute = partial(self._with_objects, partial(operator.compute, **attrs))
            return _copy_results, (operator, compute, inputs, outputs)
        if operator.writes:
            out = outputs if operator.multiple else outputs[0]
            return partial(operator.compute, *inputs, **attrs, out=out), ()
        return _copy_results, (operator, partial(operator.compute, **attrs), inputs, outputs)

    def _each(self, work: Callable[[int, int], R], count: int) -> list[R]:
        """Call work(start, stop) for as many parts of range(count) as there are threads; see `kernels.Each`."""
        borders = [count * number // self.threads for number in range(self.threads + 1)]
        if self._pool is None or self._process != os.getpid():  # threads do not survive a fork
            self._pool, self._process = ThreadPoolExecutor(self.threads - 1), os.getpid()
        others: list[Future[R]] = []
        for start, stop in pairwise(borders[1:]):
            others.append(self._pool.submit(copy_context().run, work, start, stop))  # with the caller's np.errstate
        try:
            first = work(borders[0], borders[1])
        finally:
            wait(others)
        return [first, *(other.result() for other in others)]

    def _with_objects(self, compute: Callable[..., object], *inputs: object) -> object:
        return compute(*(self._objects[id(part.buffer)] if isinstance(part, Slot) else part for part in inputs))


def _is_plain(array: object) -> bool:
    if not isinstance(array, np.ndarray):
        return False
    return array.ndim == 2 and array.flags.c_contiguous and array.dtype.kind == "f"


def _copy_results(
    operator: Operator, compute: Callable[..., object], inputs: tuple[object, ...], outputs: tuple[Array, ...]
) -> None:
    made = compute(*inputs)
    for output, part in zip(outputs, operator.results(made), strict=True):
        if np.shape(part) != output.shape:
            raise TraceError(
                f"compile: {operator.name} returned shape {np.shape(part)}, expected {output.shape} as recorded; "
                "its shape depends on values (a boolean index, for instance), so compute it outside of the function"
            )
        np.copyto(output, part)
