"""Programs on a line: as plans of a family follow from two of them, the records of a plan follow from those of two.

Sizes and steps of records, and their places in a buffer, are numbers of the plan, or products of some of which one
changes, so they lie on the line too. What does not is looked at for each plan: numbers in place of arrays, where
buffers lie, which decides what a chain may do block by block and where workers wait for each other, which bytes are
reached, and what is small enough not to be left to NumPy. A line is known once it has given the records of another plan
as `encode` makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..plans.between import Place, PlanLine
from ..plans.instructions import Buffer
from ..plans.plan import Plan
from .encode import encode
from .numbers import NUMBER, SCALAR
from .program import ALL_WELL, OPERANDS, RECORD, Piece, Program, Records
from .records import FEW, records_of
from .waits import place_waits

assert RECORD.fields is not None
_BASE, _OFFSET, _N, _S, _X = (RECORD.fields[name][1] // 8 for name in ("base", "offset", "n", "s", "x"))
_WAIT = RECORD.fields["split"][1] // 8  # with `split` in the first half
_CHANCES = 8  # programs that are encoded to learn of a line, before it is given up
Numbers = NDArray[np.int64]


def program_of(plan: Plan, workers: int) -> Program:
    """Return the program of a plan: from the line that it was made from, if that is known, or encoded."""
    place = plan.place
    return _line(place, workers).program(plan, place) if isinstance(place, Place) else _encoded(plan, workers)


def _encoded(plan: Plan, workers: int) -> Program:
    """Return what `encode` makes of a plan that a line may go through."""
    program = plan.programs.get(workers)
    if not isinstance(program, Program):
        program = plan.programs[workers] = encode(plan, workers)
    return program


def _line(place: Place, workers: int) -> ProgramLine:
    known = place.line.programs.get(workers)
    if not isinstance(known, ProgramLine):
        known = place.line.programs[workers] = ProgramLine(place.line, workers)
    return known


class ProgramLine:
    """The programs of the plans on a line, for a number of workers.

    They follow from two that are alike: those of the first two plans, or of later ones, as there are sizes beyond which
    the records are others.

    Args:
        line: the plans.
        workers: their number.

    Attributes:
        known: the two that others follow from; None: two have not been found yet of which a third one, which was
            encoded, follows. There is a length, now and then, at which the program that is encoded is another.
    """

    def __init__(self, line: PlanLine, workers: int) -> None:
        self._workers, self._chances = workers, _CHANCES
        self.known: Pair | None = None
        self._members: list[_Member] = []
        self._pairs: list[Pair] = []
        for position, plan in enumerate((line.one, line.other)):
            self._add(_Member(_encoded(plan, workers), line.number, Fraction(position)))

    def program(self, plan: Plan, place: Place) -> Program:
        """Return the program of a plan: from the pair that is known, or encoded."""
        made = None if self.known is None else self.known.program(plan, place)
        if made is not None:
            return made
        program = encode(plan, self._workers)
        if self.known is None and self._chances:
            self._learn(plan, place, program)
        return program

    def _learn(self, plan: Plan, place: Place, program: Program) -> None:
        """Compare what was encoded with what follows from pairs; if it is new, pair it with one that is like it."""
        self._chances -= 1
        self.known = next((pair for pair in self._pairs if _is_like(pair.program(plan, place), program)), None)
        if self.known is None and self._chances:
            numbers = {id(buffer): number for number, buffer in enumerate(place.buffers)}
            self._add(_Member(program, lambda buffer: numbers.get(id(buffer)), place.position))
        else:
            self._members, self._pairs = [], []

    def _add(self, new: _Member) -> None:
        others = [one for one in reversed(self._members) if one.position != new.position and one.form == new.form]
        pairs = [Pair(one, new, self._workers) for one in others[:1]]
        self._pairs += [pair for pair in pairs if pair.is_linear]
        self._members.append(new)


class _Member:
    """A program that was encoded, with what programs of a pair have in common.

    Args:
        program: of a plan on the line.
        number: returns the number of a buffer in `Place.buffers`, None for scratch memory.
        position: of the plan: 0 for the first, 1 for the second.
    """

    def __init__(self, program: Program, number: Callable[[Buffer], int | None], position: Fraction) -> None:
        self.program, self.position = program, position
        self.buffers, self.places = _buffers(program)
        self.numbers = [number(buffer) for buffer in self.buffers]
        self.table = _table(program)
        pair = self.table[:, _WAIT : _WAIT + 1].view(np.int32)
        pair[:, 1] *= pair[:, 1] == ALL_WELL  # the other waits are found for each plan
        self.form = _structure(program), self.numbers, self.places.tolist(), self.table[:, :_OFFSET].tobytes()
        self.row, self.column = np.nonzero(self.places >= 0)
        self.memory = self.places[self.row, self.column]
        self.spans = _spans(program)[self.row, self.column].T
        starts = np.array([buffer.offset for buffer in self.buffers], np.int64)[self.memory]
        self.table[self.row, _OFFSET + self.column] -= starts
        self.spans -= starts * (self.spans[1] > 0)
        self.sizes = np.array([buffer.nbytes for buffer in self.buffers], np.int64)


class Pair:
    """Two programs that are alike, and what follows from them for others on their line.

    Attributes:
        is_linear: whether anything does.
    """

    def __init__(self, one: _Member, other: _Member, workers: int) -> None:
        self._one, self._workers, self._apart = one, workers, other.position - one.position
        self._way, self._longer, self._more = other.table - one.table, other.spans - one.spans, other.sizes - one.sizes
        op = one.table[:, :1].view(np.int32)[:, 0]
        self._scalar = np.flatnonzero(np.isin(op, [NUMBER[name] for name in SCALAR]))
        changing = np.flatnonzero(self._way[:, _X:].any(axis=1))
        self._way[:, _X:] = 0
        self._valued = _sources(one.program, changing.tolist())
        heads = one.table[:, _N + 1]
        loops = [op[at + 1 : at + 1 + heads[at]] for at in np.flatnonzero(op == NUMBER["loop"])]
        self.is_linear = not any(NUMBER["chain"] in body for body in loops)  # there, places of chains move
        self._overlaps = self._find_overlaps(op, heads)

    def _find_overlaps(self, op: NDArray[np.int32], heads: Numbers) -> Numbers:
        """Return the pairs of operands of chains that must not overlap, if they are not the same."""
        one, found = self._one, list[tuple[int, int]]()
        memory = one.table[one.row, _BASE + one.column]
        for chain in np.flatnonzero(op == NUMBER["chain"]):
            inside = np.flatnonzero((one.row > chain) & (one.row <= chain + heads[chain]))
            found += [
                pair
                for pair in combinations(inside.tolist(), 2)
                if memory[pair[0]] == memory[pair[1]]
                and one.row[pair[0]] != one.row[pair[1]]
                and 0 in one.column[[*pair]]
            ]
        return np.array(found, np.intp).reshape(-1, 2).T

    def program(self, plan: Plan, place: Place) -> Program | None:
        """Return the program of a plan; None if it does not follow from the two."""
        one, ratio = self._one, (place.position - self._one.position) / self._apart
        p, q = ratio.numerator, ratio.denominator
        more = [np.divmod(way * p, q) for way in (self._way, self._longer, self._more)]
        if any(rest.any() for _, rest in more):
            return None
        table, spans, sizes = one.table + more[0][0], one.spans + more[1][0], one.sizes + more[2][0]
        memory = [
            Buffer("scratch", size) if number is None else place.buffers[number]
            for number, size in zip(one.numbers, sizes.tolist(), strict=True)
        ]
        starts = np.array([buffer.offset for buffer in memory], np.int64)[one.memory]
        table[one.row, _OFFSET + one.column] += starts
        if not self._is_sound(table, spans, sizes) or not self._is_left(plan):
            return None
        for row, number, which in self._valued:
            records = records_of(plan.at(number))
            if records is None:
                return None
            values = [operand.number for operand in records[which].operands]
            table[row, _X : _X + len(values)] = np.array(values).view(np.int64)
        extents: list[list[tuple[int, int]]] = []
        if self._workers > 1:  # only the waits depend on them
            reached: Numbers = np.zeros((len(table), OPERANDS, 2), np.int64)
            reached[one.row, one.column] = (spans + starts * (spans[1] > 0)).T
            extents = reached.tolist()
        program = Program(self._cut(table, extents), [buffer for buffer in memory if buffer.kind != "arena"])
        place_waits(program, self._workers)
        return program

    def _is_sound(self, table: Numbers, spans: Numbers, sizes: Numbers) -> bool:
        """Return whether records reach nothing outside of their buffers, and chains are in order."""
        first, second = table[self._one.row, _OFFSET + self._one.column][self._overlaps]
        size, other = (spans[1] - spans[0])[self._overlaps]
        apart = second - first
        is_right = (apart >= size) | (-apart >= other) | ((apart == 0) & (size == other))
        is_short = table[self._scalar, _N:_S].prod(axis=1) <= FEW
        is_inside = (spans[0] >= 0).all() and (spans[1] <= sizes[self._one.memory]).all()
        return bool(is_inside and is_right.all() and is_short.all())

    def _is_left(self, plan: Plan) -> bool:
        """Return whether what is left to NumPy in other plans on the line is left to it in this one."""
        return all(records_of(plan.at(piece)) is None for piece in self._one.program.pieces if isinstance(piece, int))

    def _cut(self, table: Numbers, extents: list[list[tuple[int, int]]]) -> list[Piece]:
        """Return the pieces of a program with these numbers."""
        pieces, at = [*self._one.program.pieces], 0
        for number, piece in enumerate(pieces):
            if isinstance(piece, Records):
                stop = at + len(piece.array)
                rows = table[at:stop].reshape(-1).view(RECORD)
                pieces[number] = Records(rows, piece.heads, piece.room, extents[at:stop], piece.shares)
                at = stop
        return pieces


def _is_like(made: Program | None, program: Program) -> bool:
    """Return whether a program that follows from others is what was encoded."""
    if made is None or _structure(made) != _structure(program) or len(made.buffers) != len(program.buffers):
        return False
    pairs = zip(made.buffers, program.buffers, strict=True)
    is_same = all(one is two or (one.kind == "scratch" and one.nbytes == two.nbytes) for one, two in pairs)
    return is_same and np.array_equal(_table(made), _table(program))


def _sources(program: Program, rows: list[int]) -> list[tuple[int, int, int]]:
    """Return (row, number of the instruction that it belongs to, its place among the records of that) for some rows."""
    owners: list[int] = []
    for piece in program.pieces:
        if isinstance(piece, Records):
            own = [-1] * len(piece.array)  # loops and chains have none
            for head, numbers in piece.heads:
                if piece.array["op"][head] == NUMBER["chain"]:
                    own[head + 1 : head + 1 + len(numbers)] = numbers
                else:
                    own[head] = numbers[0]
            owners += own
    return [(row, owners[row], owners[:row].count(owners[row])) for row in rows]


def _structure(program: Program) -> list[object]:
    """Return what programs that are alike have in common; one with a loop that Python runs is like no other."""

    def of(piece: Piece) -> object:
        if isinstance(piece, Records):
            return piece.heads, piece.room, len(piece.array)
        return piece if isinstance(piece, int) else object()

    return [of(piece) for piece in program.pieces]


def _buffers(program: Program) -> tuple[list[Buffer], Numbers]:
    """Return the buffers of a program, those in the arena too, and which of them each operand of a record lies in."""
    found: dict[int, tuple[int, Buffer]] = {}
    places: list[list[int]] = []
    for piece in program.pieces:
        for record in piece.buffers if isinstance(piece, Records) else ():
            row = [-1 if one is None else found.setdefault(id(one), (len(found), one))[0] for one in record]
            places.append(row + [-1] * (OPERANDS - len(row)))
    return [buffer for _, buffer in found.values()], np.array(places, np.int64).reshape(-1, OPERANDS)


def _table(program: Program) -> Numbers:
    tables = [piece.array.view(np.int64) for piece in program.pieces if isinstance(piece, Records)]
    return np.concatenate([np.empty(0, np.int64), *tables]).reshape(-1, RECORD.itemsize // 8)


def _spans(program: Program) -> Numbers:
    """Return the extents of the operands of each record."""
    records = [record for piece in program.pieces if isinstance(piece, Records) for record in piece.extents]
    return np.array([[*record, *[(0, 0)] * (4 - len(record))] for record in records], np.int64).reshape(-1, 4, 2)
