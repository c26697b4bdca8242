"""Where workers get in each other's way, found without knowing how waits are found.

The oracle takes the records as source/record.h describes them, lists every byte that each worker reads and writes, and
looks for bytes that two workers touch between two waits.
"""

from dataclasses import dataclass

import numpy as np

from tinygrad_rnn.compiler.ir.table import TRUTH
from tinygrad_rnn.compiler.native.numbers import NAMES
from tinygrad_rnn.compiler.native.program import Records, Repeated

OUT, A, B, C = range(4)
STAYS = 2


def border(call, worker, workers):
    n = int(call["n"][1 if call["split"] == 2 else 0])
    if worker == workers:
        return n
    at = n * worker // workers
    return at // 16 * 16 if call["split"] > 1 else at


def touched(call, operand, *axes, size=None):
    """Return (memory, bytes) of the elements of an operand at all combinations of indices, (step, indices) an axis."""
    elements = np.zeros(1, np.int64)
    for step, indices in axes:
        elements = (elements[:, None] + int(step) * np.asarray(indices, np.int64)).reshape(-1)
    size = size or (8 if call["type"] else 4)
    starts = np.unique(elements) * size + int(call["offset"][operand])
    return int(call["base"][operand]), (starts[:, None] + np.arange(size)).reshape(-1)


def ids(call, rows):
    rows, length = np.asarray(rows, np.int64), int(call["n"][2])
    elements = rows // length * call["s"][B][0] + rows % length * call["s"][B][1]
    return touched(call, B, (1, elements), size=8)


def part(call, lo, hi):
    """Return (what is read, what is written) in rows or columns lo to hi of a call: lists of (memory, bytes)."""
    name, n, s = NAMES[call["op"]], [int(length) for length in call["n"]], call["s"]
    mine, all_of = range(lo, hi), [range(length) for length in n]
    if name == "matmul":
        rows, columns = (all_of[0], mine) if call["split"] == 2 else (mine, all_of[1])
        left = touched(call, A, (s[A][0], rows), (s[A][1], all_of[2]))
        right = touched(call, B, (s[B][0], all_of[2]), (s[B][1], columns))
        more = [touched(call, C, (s[C][0], rows), (1, columns))]  # without one it is no memory
        return [left, right, *more] if n[2] else [], [touched(call, OUT, (s[OUT][0], rows), (1, columns))]
    if name in ("sum_along", "logsumexp"):
        rows = touched(call, A, (s[A][0], mine), (1, all_of[1]))
        return [rows], [touched(call, OUT, (s[OUT][0], mine))]
    if name == "log_softmax":
        return [touched(call, A, (s[A][0], mine), (1, all_of[1]))], [
            touched(call, OUT, (s[OUT][0], mine), (1, all_of[1]))
        ]
    if name == "sum_middle":
        a = touched(call, A, (s[A][0], mine), (s[A][1], all_of[2]), (1, all_of[1]))
        return [a], [touched(call, OUT, (s[OUT][0], mine), (1, all_of[1]))]
    if name == "sum_rows":
        return [touched(call, A, (s[A][0], all_of[0]), (1, mine))], [touched(call, OUT, (1, mine))]
    if name == "take":
        table = touched(call, A, (s[A][0], all_of[3]), (1, all_of[1]))
        return [table, ids(call, mine)], [touched(call, OUT, (s[OUT][0], mine), (1, all_of[1]))]
    if name == "take_back":
        rows = touched(call, A, (s[A][0], all_of[0]), (1, mine))
        return [rows, ids(call, all_of[0])], [touched(call, OUT, (n[1], all_of[3]), (1, mine))]
    if name == "find_equal":
        return [ids(call, mine)], [touched(call, OUT, (1, mine), size=8), touched(call, A, (1, all_of[1]), size=8)]
    if name in ("add_equal", "subtract_rows"):
        rows = touched(call, A, (s[A][0], all_of[0]), (1, mine)), touched(call, B, (1, all_of[0]), size=8)
        table = all_of[2 if name == "subtract_rows" else 0]
        return list(rows), [touched(call, OUT, (s[OUT][0], table), (1, mine))]
    if name == "loss_and_gradient":
        logits, gradient = (touched(call, k, (s[k][0], mine), (1, all_of[1])) for k in (A, OUT))
        return [logits, ids(call, all_of[0])], [gradient, touched(call, C, (1, mine), size=8)]
    if name == "mean_nats":
        return [touched(call, A, (1, all_of[0]), size=8), ids(call, all_of[0])], [touched(call, OUT)]
    if name in ("convert", "from_whole", "to_whole"):
        other = 8 if name != "convert" else 4 if call["type"] else 8
        read, made = (None, 8) if name == "to_whole" else (other, None)
        a = touched(call, A, (s[A][0], mine), (s[A][1], all_of[1]), size=read)
        return [a], [touched(call, OUT, (s[OUT][0], mine), (s[OUT][1], all_of[1]), size=made)]
    # What is no memory, but a number or a line of a chain, is left out by `faults`.
    found = []
    for k in range(4):
        size = 1 if (k == OUT and name in TRUTH) or (k == C and name == "where") else None
        found.append(touched(call, k, *zip(s[k], [mine, *all_of[1:3]], strict=True), size=size))
    return found[1:], found[:1]


def share(call, record, worker, workers):
    """Return what `part` does, for what a worker does of a record of a call."""
    lo, hi = 0, int(call["n"][0])
    if call["split"]:
        lo, hi = border(call, worker, workers), border(call, worker + 1, workers)
    return part(record, lo, hi) if lo != hi and (call["split"] or not worker) else ([], [])


def matrix(call, worker, workers):
    """Return what `part` does, for the copy that a worker makes of the matrix of a product before a loop."""
    n, s = [int(length) for length in call["n"]], call["s"]
    if call["split"] == 3:
        columns = range(border(call, worker, workers), border(call, worker + 1, workers))
        return [touched(call, A, (s[A][0], columns), (s[A][1], range(n[2])))], []
    if worker and not call["split"]:
        return [], []
    return [touched(call, B, (s[B][0], range(n[2])), (s[B][1], range(n[1])))], []


def units(records, t=0):
    """Yield (call, the records that it does) at a step: of a chain those that follow, as one-dimensional calls.

    A loop is taken apart: after it come the calls of its body at each step. It does nothing itself but read, before
    all of them, the matrices that are the same at all steps: it may copy them.
    """
    number = 0
    while number < len(records):
        call = at(records[number], t)
        members = [call]
        follow = records[number + 1 : number + 1 + int(call["n"][1])]
        if NAMES[call["op"]] == "loop":
            yield call, [row for row in follow if NAMES[row["op"]] == "matmul" and row["n"][3] == STAYS]
            for step in range(int(call["n"][0]))[:: -1 if call["n"][2] else 1]:
                yield from units(follow, step)
            number += 1 + len(follow)
            continue
        if NAMES[call["op"]] == "chain":
            members = [at(row, t) for row in follow]
            number += len(members)
            for row in members:
                row["n"] = [call["n"][0], 1, 1, 1]
        number += 1
        yield call, members


def at(record, t):
    """Return a record as it is at a step of the loop around it."""
    now = record.copy()
    now["offset"] += t * now["step_stride"]
    return now


def tables(program):
    """Yield (table, step) in the order of a replay."""
    for piece in program.pieces:
        if isinstance(piece, Repeated):
            for t in piece.order():
                yield from ((table, t) for table in piece.pieces if isinstance(table, Records))
        elif isinstance(piece, Records):
            yield piece, 0


@dataclass
class Bytes:
    """What a worker has touched since the last wait: a flag for each byte of each memory."""

    read: list
    written: list


def faults(program, arena_bytes, workers):
    """Return the numbers of calls (table, call) in which workers get in each other's way."""
    sizes = [arena_bytes, *(buffer.nbytes for buffer in program.buffers)]
    found = []
    for table_number, (table, t) in enumerate(tables(program)):
        seen = []
        for number, (call, members) in enumerate(units(table.array, t)):
            if call["wait"] or not seen:
                seen = [Bytes(*([np.zeros(size, bool) for size in sizes] for _ in "rw")) for _ in range(workers)]
            for worker, own in enumerate(seen):
                for record in members:
                    if NAMES[call["op"]] == "loop":
                        does = matrix(record, worker, workers)
                    else:
                        does = share(call, record, worker, workers)
                    for flags, parts in zip((own.read, own.written), does, strict=True):
                        for memory, places in parts:
                            if memory >= 0 and len(places):
                                assert places.min() >= 0, (number, NAMES[record["op"]])
                                assert places.max() < sizes[memory], (number, NAMES[record["op"]])
                                flags[memory][places] = True
            for worker, own in enumerate(seen):
                for other in seen[:worker] + seen[worker + 1 :]:
                    pairs = zip(own.read, own.written, other.written, strict=True)
                    if any(np.any((read | written) & theirs) for read, written, theirs in pairs):
                        found.append((table_number, number))
    return sorted(set(found))
