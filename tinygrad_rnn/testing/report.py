"""What a check found: one report for all checks, for the terminal and for notebooks, and the error that carries it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import ClassVar, Protocol

GOOD = frozenset({"ok", "empty", "unused", "not applicable"})
"""Verdicts with which a check passes."""


class Result(Protocol):
    """What was found for one thing that was looked at: a row of the table."""

    @property
    def name(self) -> str:
        """What was looked at."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""

    @property
    def story(self) -> str:
        """What is wrong, in words; "" if nothing is, or the row says it all."""


class Report(ABC):
    """A line that says how it went, a table, notes, and what is wrong in words.

    Attributes:
        columns: names of the columns.
        seed: of everything that was drawn.
        reproducer: one line of Python that repeats the check.
        notes: what a reader should know of how it was checked.
        failures: what is wrong besides the rows of the table.
    """

    columns: ClassVar[tuple[str, ...]]
    seed: int
    reproducer: str
    notes: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    @abstractmethod
    def subject(self) -> str:
        """What was checked, in words."""

    @property
    @abstractmethod
    def rows(self) -> Sequence[Result]:
        """The rows of the table."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures and not self.wrong

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of what is wrong, each once."""
        return tuple(dict.fromkeys(row.name for row in self.rows if not row.ok))

    @property
    def title(self) -> str:
        """The line above the table."""
        verdict = "ok" if self.ok else f"WRONG in {', '.join(self.wrong)}" if self.wrong else "WRONG"
        return f"{self.subject}: {verdict} (seed {self.seed})"

    @property
    def stories(self) -> tuple[str, ...]:
        """What is wrong, the worst first."""
        return (*self.failures, *(row.story for row in self.rows if row.story))

    @property
    def _lines(self) -> list[str]:
        lines = [f"note: {note}" for note in self.notes]
        return lines if self.ok else [*lines, "", *self.stories, f"reproduce: {self.reproducer}"]

    def __str__(self) -> str:
        table = text_table(self.columns, [row.cells for row in self.rows]) if self.rows else []
        return "\n".join([self.title, *table, *self._lines])

    def _repr_html_(self) -> str:
        return html_table(self.title, self.columns, [(row.cells, not row.ok) for row in self.rows], self._lines)


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
    def excess(self) -> float:
        """How many times what is allowed the error is; 0 where nothing was compared."""
        return self.error / self.bound if self.bound else 0.0

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
class GradReport(Report):
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

    columns = ("leaf", "shape", "largest error", "allowed", "method", "looked at", "verdict")

    target: str
    leaves: tuple[LeafResult, ...]
    seed: int
    order: int
    notes: tuple[str, ...]
    failures: tuple[str, ...]
    reproducer: str

    @property
    def subject(self) -> str:
        """What was checked, in words."""
        return f"{'gradients' if self.order == 1 else 'second-order gradients'} of {self.target}"

    @property
    def rows(self) -> Sequence[LeafResult]:
        """The leaves."""
        return self.leaves

    @property
    def stories(self) -> tuple[str, ...]:
        """What is wrong, the worst leaf first."""
        worst = sorted(self.leaves, key=lambda leaf: leaf.error / (leaf.bound or 1), reverse=True)
        return (*self.failures, *(leaf.story for leaf in worst if not leaf.ok))


class GradCheckError(AssertionError):
    """A gradient that is wrong, or a backward pass that does what it must not; `report` holds everything found.

    >>> from tinygrad_rnn.testing import GradCheckError
    >>> issubclass(GradCheckError, AssertionError)
    True
    """

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in plain text, columns aligned.

    >>> text_table(("leaf", "verdict"), [("Wh", "ok")])
    ['leaf  verdict', 'Wh    ok']
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]


_CELL = "padding:2px 10px;text-align:left;border-bottom:1px solid rgba(128,128,128,.35)"


def html_table(
    title: str, head: Sequence[str], rows: Sequence[tuple[Sequence[str], bool]], below: Sequence[str]
) -> str:
    """Return a table as HTML. No colour is set: text and background are the notebook's, light or dark.

    Args:
        title: above the table.
        head: names of the columns.
        rows: cells, and whether the row is printed in bold.
        below: paragraphs under it.

    >>> html_table("t", ["a"], [(["1 < 2"], True)], []).count("1 &lt; 2")
    1
    """
    parts = [f"<p><b>{escape(title)}</b></p>", '<table style="border-collapse:collapse"><thead><tr>']
    parts += [f'<th style="{_CELL}">{escape(name)}</th>' for name in head]
    parts.append("</tr></thead><tbody>")
    for cells, bold in rows:
        style = f"{_CELL};font-weight:bold" if bold else _CELL
        parts.append("<tr>" + "".join(f'<td style="{style}">{escape(cell)}</td>' for cell in cells) + "</tr>")
    parts.append("</tbody></table>")
    parts += [f"<p>{escape(line).replace(chr(10), '<br>')}</p>" for line in below if line]
    return "".join(parts)
