"""What a gradient check found: a table for the terminal and for notebooks, and the error that carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .tables import html

GOOD = frozenset({"ok", "empty", "unused"})
"""Verdicts with which a check passes."""

_HEAD = ("leaf", "shape", "largest error", "allowed", "method", "looked at", "verdict")


@dataclass(frozen=True)
class LeafResult:
    """What was found for one leaf.

    Attributes:
        name: of the leaf.
        shape: of the leaf.
        error: largest difference from the oracle, measured by what is allowed there.
        bound: what was allowed there.
        method: of the oracle: "complex step", or "4 points, " and the dtype of the differences.
        directions: derivatives that were compared.
        every: whether these were those of every entry; else of random directions.
        verdict: "ok"; "wrong"; "not finite"; "no gradient"; "unused" (and allowed); "empty" (no elements).
        index: of the worst entry of a gradient that is not ok, or None.
        expected: the oracle's value there.
        actual: the gradient's value there.
        hint: what the difference looks like, or "".
    """

    name: str
    shape: tuple[int, ...]
    error: float
    bound: float
    method: str
    directions: int
    every: bool = False
    verdict: str = "ok"
    index: tuple[int, ...] | None = None
    expected: float | None = None
    actual: float | None = None
    hint: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.verdict in GOOD

    @property
    def place(self) -> str:
        """The leaf with the index of the worst entry, as in "Wh[2, 1]"."""
        return self.name if not self.index else f"{self.name}[{', '.join(map(str, self.index))}]"

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        if self.every:
            looked_at = "every entry"
        else:
            looked_at = f"{self.directions} direction{'s' if self.directions != 1 else ''}" if self.directions else "-"
        error, bound = (f"{self.error:.1e}", f"{self.bound:.1e}") if self.directions else ("-", "-")
        return (self.name, str(self.shape), error, bound, self.method or "-", looked_at, self.verdict)

    @property
    def story(self) -> str:
        """What is wrong, in words; "" if nothing is."""
        if self.ok:
            return ""
        text = f"{self.place}: {self.verdict}"
        if self.expected is not None:
            text += f", expected {self.expected:.12g}, got {self.actual:.12g}"
        return text + (f"\n  {self.hint}" if self.hint else "")


@dataclass(frozen=True)
class GradReport:
    """The outcome of `check_grads`.

    Attributes:
        target: what was checked.
        leaves: one result a leaf; none where a failure makes values meaningless.
        seed: that the directions and cotangents were drawn from.
        order: of the derivative, 1 or 2.
        notes: how it was checked, where that is not the ordinary way.
        failures: what is wrong besides values: not repeatable, an input changed, memory shared.
        reproducer: one line of Python that repeats the check.

    >>> import numpy as np
    >>> from tinygrad_rnn.testing import check_grads
    >>> report = check_grads(lambda x: np.tanh(x), np.ones((2, 3)))
    >>> report.ok, report.leaves[0].name, report.leaves[0].every
    (True, 'x', True)
    """

    target: str
    leaves: tuple[LeafResult, ...]
    seed: int
    order: int
    notes: tuple[str, ...]
    failures: tuple[str, ...]
    reproducer: str

    @property
    def ok(self) -> bool:
        """Whether every leaf is right and nothing else is wrong."""
        return not self.failures and all(leaf.ok for leaf in self.leaves)

    @property
    def title(self) -> str:
        """The line above the table."""
        which = "gradients" if self.order == 1 else "second-order gradients"
        return f"{which} of {self.target}: {'ok' if self.ok else 'WRONG'} (seed {self.seed})"

    @property
    def stories(self) -> tuple[str, ...]:
        """What is wrong, the worst leaf first."""
        worst = sorted(
            (leaf for leaf in self.leaves if not leaf.ok), key=lambda leaf: leaf.error / (leaf.bound or 1), reverse=True
        )
        return (*self.failures, *(leaf.story for leaf in worst))

    def __str__(self) -> str:
        lines = [self.title]
        if self.leaves:
            lines += table(_HEAD, [leaf.cells for leaf in self.leaves])
        lines += [f"note: {note}" for note in self.notes]
        if not self.ok:
            lines += ["", *self.stories, f"reproduce: {self.reproducer}"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        lines = [f"note: {note}" for note in self.notes]
        if not self.ok:
            lines += [*self.stories, f"reproduce: {self.reproducer}"]
        return html(self.title, _HEAD, [(leaf.cells, not leaf.ok) for leaf in self.leaves], lines)


class GradCheckError(AssertionError):
    """A gradient that is wrong, or a backward pass that does what it must not; `report` holds everything found.

    >>> from tinygrad_rnn.testing import GradCheckError
    >>> issubclass(GradCheckError, AssertionError)
    True
    """

    def __init__(self, report: object) -> None:
        super().__init__(str(report))
        self.report = report


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in plain text, columns aligned.

    >>> table(("leaf", "verdict"), [("Wh", "ok")])
    ['leaf  verdict', 'Wh    ok']
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
