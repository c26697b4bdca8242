"""Programs on a line: as plans of a family follow from two of them, the records of a plan follow from those of the two.

Sizes and steps of records, and their places in a buffer, are numbers of the plan, or products of some of which one
changes, so they lie on the line too. What does not is looked at for each plan: where buffers lie, which decides what a
chain may do block by block and where workers wait for each other, which bytes are reached, and what is small enough not
to be left to NumPy. A line is known once it has given the records of a third plan as `encode` makes them.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..plans.between import Place, PlanLine
from ..plans.instructions import Buffer
from ..plans.plan import Plan
from .encode import encode
from .numbers import NUMBER, SCALAR
from .program import ALL_WELL, OPERANDS, RECORD, Piece, Program, Records, Repeated
from .records import FEW, records_of
from .waits import place_waits

assert RECORD.fields is not None
_BASE, _OFFSET, _N, _S, _X = (RECORD.fields[name][1] // 8 for name in ("base", "offset", "n", "s", "x"))
_WAIT = RECORD.fields["split"][1] // 8  # with `split` in the first half
_FIXED = np.r_[:_OFFSET, _X : RECORD.itemsize // 8]  # columns that are the same for all plans
_CHANCES = 4  # programs that a line may get wrong before it is given up
Numbers = NDArray[np.int64]


def program_of(plan: Plan, workers: int) -> Program:
    """Return the program of a plan: from the line that it was made from, if that is known, or encoded."""
    place = plan.place
    if not isinstance(place, Place):
        return _encoded(plan, workers)
    line = _line(place, workers)
    made = line.program(plan, place)
    if made is not None and line.is_known:
        return made
    program = encode(plan, workers)
    if made is not None:
        line.compare(made, program)
    return program


def prepare(plan: Plan, workers: int) -> None:
    """Find out about the line of a plan, which nobody needs, what its programs have in common."""
    assert isinstance(plan.place, Place)
    line = _line(plan.place, workers)
    with suppress(RuntimeError, ValueError):  # there may be no such sizes: the end of an array, for instance
        made = line.program(plan, plan.place)
        if made is not None:
            line.compare(made, encode(plan, workers))


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

    Args:
        line: the plans.
        workers: their number.

    Attributes:
        is_known: whether a program was what `encode` makes; there is a length, now and then, at which that is another.
    """

    def __init__(self, line: PlanLine, workers: int) -> None:
        self._workers = workers
        one, other = (_encoded(plan, workers) for plan in (line.one, line.other))
        self._pieces, self.is_known = one.pieces, False
        (mine, places), (theirs, more) = _buffers(one), _buffers(other)
        self._buffers = [line.number(buffer) for buffer in mine]
        # Of a loop that Python goes through, records say too little.
        is_alike = not any(isinstance(piece, Repeated) for piece in (*one.pieces, *other.pieces))
        is_alike = is_alike and _structure(one) == _structure(other) and np.array_equal(places, more)
        self._chances = _CHANCES if is_alike and self._buffers == [line.number(buffer) for buffer in theirs] else 0
        if self._chances:
            self._row, self._column = np.nonzero(places >= 0)
            self._memory = places[self._row, self._column]
            self._find_way(one, other, mine, theirs)

    def compare(self, made: Program, program: Program) -> None:
        """Compare a program of this line with what `encode` makes."""
        pairs = zip(made.buffers, program.buffers, strict=False)
        is_same = all(one is two or (one.kind == "scratch" and one.nbytes == two.nbytes) for one, two in pairs)
        is_like = is_same and _structure(made) == _structure(program)
        self.is_known = is_like and np.array_equal(_table(made), _table(program))
        self._chances -= 1

    def _find_way(self, one: Program, other: Program, mine: list[Buffer], theirs: list[Buffer]) -> None:
        self._sizes, more = (np.array([buffer.nbytes for buffer in buffers], np.int64) for buffers in (mine, theirs))
        self._more = more - self._sizes
        self._table, second = _table(one), _table(other)
        for table in (self._table, second):  # waits are found for each plan, those for ids excepted
            pair = table[:, _WAIT : _WAIT + 1].view(np.int32)
            pair[:, 1] *= pair[:, 1] == ALL_WELL
        self._spans, spans = (_spans(program)[self._row, self._column].T for program in (one, other))
        self._is_reached = self._spans[1] > 0
        for table, reach, buffers in ((self._table, self._spans, mine), (second, spans, theirs)):
            starts = np.array([buffer.offset for buffer in buffers], np.int64)[self._memory]
            table[self._row, _OFFSET + self._column] -= starts
            reach -= starts * self._is_reached
        self._way, self._longer = second - self._table, spans - self._spans
        op = self._table[:, :1].view(np.int32)[:, 0]
        changed = set(op[self._way.any(axis=1)].tolist())
        if self._way[:, _FIXED].any() or NUMBER["find_equal"] in changed:  # that has a table of 2**n entries
            self._chances = 0
        self._scalar = np.flatnonzero(np.isin(op, [NUMBER[name] for name in SCALAR]))
        self._pairs = self._find_pairs(op, self._table[self._row, _BASE + self._column])

    def _find_pairs(self, op: NDArray[np.int32], memory: Numbers) -> Numbers:
        """Return the pairs of operands of chains that must not overlap, if they are not the same."""
        found: list[tuple[int, int]] = []
        heads = self._table[:, _N + 1]
        for loop in np.flatnonzero(op == NUMBER["loop"]):
            if NUMBER["chain"] in op[loop : loop + 1 + heads[loop]]:
                self._chances = 0  # its places move
        for chain in np.flatnonzero(op == NUMBER["chain"]):
            inside = np.flatnonzero((self._row > chain) & (self._row <= chain + heads[chain]))
            found += [
                pair
                for pair in combinations(inside.tolist(), 2)
                if memory[pair[0]] == memory[pair[1]]
                and self._row[pair[0]] != self._row[pair[1]]
                and 0 in self._column[[*pair]]
            ]
        return np.array(found, np.intp).reshape(-1, 2).T

    def program(self, plan: Plan, place: Place) -> Program | None:
        """Return the program of a plan; None if it does not follow from the two."""
        if not (self.is_known or self._chances):
            return None
        _, buffers, p, q = place
        more = [np.divmod(way * p, q) for way in (self._way, self._longer, self._more)]
        if any(rest.any() for _, rest in more):
            return None
        table, spans, sizes = self._table + more[0][0], self._spans + more[1][0], self._sizes + more[2][0]
        memory = [
            Buffer("scratch", size) if number is None else buffers[number]
            for number, size in zip(self._buffers, sizes.tolist(), strict=True)
        ]
        starts = np.array([buffer.offset for buffer in memory], np.int64)[self._memory]
        table[self._row, _OFFSET + self._column] += starts
        if not self._is_sound(table, spans, sizes) or not self._is_left(plan):
            return None
        extents = np.zeros((len(table), OPERANDS, 2), np.int64)
        if self._workers > 1:  # only the waits depend on them
            extents[self._row, self._column] = (spans + starts * self._is_reached).T
        program = Program(self._cut(table, extents), [buffer for buffer in memory if buffer.kind != "arena"])
        place_waits(program, self._workers)
        return program

    def _is_sound(self, table: Numbers, spans: Numbers, sizes: Numbers) -> bool:
        """Return whether records reach nothing outside of their buffers, and chains are in order."""
        one, other = table[self._row, _OFFSET + self._column][self._pairs]
        first, second = (spans[1] - spans[0])[self._pairs]
        apart = other - one
        is_right = (apart >= first) | (-apart >= second) | ((apart == 0) & (first == second))
        is_short = table[self._scalar, _N:_S].prod(axis=1) <= FEW
        return bool(
            (spans[0] >= 0).all() and (spans[1] <= sizes[self._memory]).all() and is_right.all() and is_short.all()
        )

    def _is_left(self, plan: Plan) -> bool:
        """Return whether what is left to NumPy in other plans on the line is left to it in this one."""
        return all(records_of(plan.at(piece)) is None for piece in self._pieces if isinstance(piece, int))

    def _cut(self, table: Numbers, extents: Numbers) -> list[Piece]:
        """Return the pieces of a program with these numbers."""
        pieces, at = [*self._pieces], 0
        for number, piece in enumerate(pieces):
            if isinstance(piece, Records):
                stop = at + len(piece.array)
                rows, reached = table[at:stop].reshape(-1).view(RECORD), extents[at:stop].tolist()
                pieces[number] = Records(rows, piece.heads, piece.room, reached, piece.shares)
                at = stop
        return pieces


def _structure(program: Program) -> object:
    """Return what the programs on a line have in common."""
    return [
        (piece.heads, piece.room, len(piece.array)) if isinstance(piece, Records) else piece for piece in program.pieces
    ]


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
