"""The report of a check, the same for all checks, for terminals and notebooks, and the error that carries it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from html import escape
from operator import attrgetter
from typing import Generic, Self, TypeVar

from ..checks import flag
from ..tables import html_table, text_table

GOOD = frozenset({"ok", "empty", "unused", "not applicable"})
"""Verdicts with which a check passes."""


class Result(ABC):
    """The result for one item: its name, a verdict, its row of the table, and its error in words."""

    name: str
    verdict: str

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.verdict in GOOD

    @property
    def excess(self) -> float:
        """The error as a multiple of what is allowed, where it is a number."""
        return 0.0

    @property
    @abstractmethod
    def cells(self) -> dict[str, str]:
        """The row of the table, by column."""

    @property
    @abstractmethod
    def finding(self) -> str:
        """What is wrong, in words; "" if nothing is."""


R = TypeVar("R", bound=Result, covariant=True)


@dataclass(frozen=True)
class Report(Generic[R]):
    """A headline with the verdict, a table, notes, and a description of the errors.

    Attributes:
        target: what was checked.
        results: one for each item that was checked; the rows of the table.
        seed: seed of everything that was drawn.
        reproducer: one line of Python that repeats the check.
        notes: remarks on the check, such as its method where that is not the default.
        failures: errors besides those in the results.
    """

    target: str
    results: tuple[R, ...]
    seed: int
    reproducer: str
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures and not self.wrong

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of the wrong items, each once."""
        return tuple(dict.fromkeys(result.name for result in self.results if not result.ok))

    @property
    def title(self) -> str:
        """The line above the table."""
        verdict = "ok" if self.ok else f"wrong in {', '.join(self.wrong)}" if self.wrong else "wrong"
        return f"{self.target}: {verdict} (seed {self.seed})"

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, in words, the worst item first."""
        worst = sorted(self.results, key=attrgetter("excess"), reverse=True)
        return (*self.failures, *(result.finding for result in worst if not result.ok))

    def or_raised(self, check: bool) -> Self:
        """Return the report; raise `GradCheckError` instead if `check` and something is wrong."""
        if flag("", "check", check) and not self.ok:
            raise GradCheckError(self)
        return self

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        return [tuple(self.results[0].cells), *(tuple(result.cells.values()) for result in self.results)]

    @property
    def _below(self) -> list[str]:
        notes = [f"note: {note}" for note in self.notes]
        return notes if self.ok else [*notes, "", *self.findings, f"reproduce: {self.reproducer}"]

    def __str__(self) -> str:
        return "\n".join([self.title, *(text_table(self._rows) if self.results else ()), *self._below])

    def _repr_html_(self) -> str:
        wrong = [number for number, result in enumerate(self.results) if not result.ok]
        table = html_table(self._rows, bold=wrong) if self.results else ""
        below = [escape(line).replace("\n", "<br>") for line in self._below if line]
        return "".join([f"<p><b>{escape(self.title)}</b></p>", table, *(f"<p>{line}</p>" for line in below)])


@dataclass(frozen=True)
class LeafResult(Result):
    """The result for one leaf.

    Attributes:
        name: name of the leaf.
        shape: shape of the leaf.
        error: the difference from the oracle that is largest relative to its bound.
        bound: the allowed difference there.
        method: method of the oracle: "complex step", or "4 points, " and the dtype of the differences.
        directions: number of derivatives that were compared.
        every: whether every entry was compared, instead of random directions.
        verdict: "ok"; "wrong"; "not finite"; "no gradient"; "unused" (and allowed); "empty" (no elements).
        index: index of the worst entry of a gradient that is not ok, or None.
        expected: the oracle's value there.
        actual: the gradient's value there.
        hint: a description of the difference, or "".
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
    def excess(self) -> float:
        """The error as a multiple of what is allowed."""
        return self.error / (self.bound or 1)

    @property
    def place(self) -> str:
        """The leaf with the index of the worst entry, as in "Wh[2, 1]"."""
        return f"{self.name}{list(self.index or ()) or ''}"

    @property
    def cells(self) -> dict[str, str]:
        """The row of the table, by column."""
        count = f"{self.directions} direction{'s' * (self.directions != 1)}"
        return {
            "leaf": self.name,
            "shape": str(self.shape),
            "largest error": f"{self.error:.1e}" if self.directions else "-",
            "allowed": f"{self.bound:.1e}" if self.directions else "-",
            "method": self.method or "-",
            "looked at": "every entry" if self.every else count if self.directions else "-",
            "verdict": self.verdict,
        }

    @property
    def finding(self) -> str:
        """What is wrong, in words; "" if nothing is."""
        if self.ok:
            return ""
        values = "" if self.expected is None else f", expected {self.expected:.12g}, got {self.actual:.12g}"
        return f"{self.place}: {self.verdict}{values}" + (f"\n  {self.hint}" if self.hint else "")


@dataclass(frozen=True)
class GradReport(Report[LeafResult]):
    """The outcome of `check_grads`; `order` is the order of the derivative, 1 or 2.

    There are no results if a failure makes values meaningless: the function is not repeatable, an input was changed, or
    gradients share memory.

    >>> import numpy as np
    >>> from tinygrad_rnn.testing import check_grads
    >>> report = check_grads(lambda x: np.tanh(x), np.ones((2, 3)))
    >>> report.ok, report.leaves[0].name, report.leaves[0].every
    (True, 'x', True)
    """

    order: int = 1

    @property
    def leaves(self) -> tuple[LeafResult, ...]:
        """One result per leaf."""
        return self.results

    @property
    def title(self) -> str:
        """The line above the table."""
        return f"{'gradients' if self.order == 1 else 'second-order gradients'} of {super().title}"


class GradCheckError(AssertionError):
    """Raised for a wrong gradient, or a backward pass with side effects; `report` holds all findings.

    >>> from tinygrad_rnn.testing import GradCheckError
    >>> issubclass(GradCheckError, AssertionError)
    True
    """

    def __init__(self, report: Report[Result]) -> None:
        super().__init__(str(report))
        self.report = report
