"""Numbers of operations in the C library, and the header that defines them, both from the table of operators."""

from __future__ import annotations

from ..ir.table import TABLE

LOOPS = [row for row in TABLE if row.native in ("vector", "scalar")]
"""Elementwise operations whose loops are made from an expression in source/elementwise.h, in the order of the table."""

SCALAR = frozenset(row.name for row in LOOPS if row.native == "scalar")
"""Names of those that call libm for each element, and so are not vectorized."""

_OWN = [row.name for row in TABLE if row.native == "own" and row.name not in ("where", "loop")]

NAMES = [*(row.name for row in LOOPS), "where", *_OWN, "loop"]
"""Names of all operations; the index of a name is the number of the operation in C."""

NUMBER = {name: number for number, name in enumerate(NAMES)}

LAST_LOOP = NUMBER["where"]
"""The number of the last elementwise operation."""

NATIVE = frozenset(NAMES[: LAST_LOOP + 1])
"""Names of the elementwise operations of the library."""


def header() -> str:
    """Return the text of the header operations.h, which `build` writes beside the sources.

    >>> header().splitlines()[1].partition(" X(subtract")[0]
    '#define ELEMENTWISE(X) X(add, REAL)'
    """
    loops = " ".join(f"X({row.name}, {'uint8_t' if row.truth else 'REAL'})" for row in LOOPS)
    own = " ".join(f"X({name})" for name in _OWN)
    return (
        "/* Written by compiler/native/numbers.py from the table of operators: X(name, type of the result). */\n"
        f"#define ELEMENTWISE(X) {loops}\n"
        f"#define OPERATIONS(X) {own}\n"
        f'#define NAMES "{" ".join(NAMES)}"\n'
    )
