"""The progress bar of an epoch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm import tqdm

from ..loop.result import StepResult


@dataclass(frozen=True)
class Progress:
    """The unit and the text of a progress bar.

    Attributes:
        unit: name of the unit.
        total: units in an epoch; None: not known.
        amount: the number of units in an update.
        text: the text for an update.
    """

    unit: str
    total: float | None
    amount: Callable[[StepResult], float]
    text: Callable[[StepResult], str]

    @contextmanager
    def bar(self, title: str, shown: bool = True) -> Iterator[Callable[[StepResult], None]]:
        """Show a bar on stderr, if that is a terminal; yield the function that counts an update.

        Args:
            title: the text in front of it.
            shown: False: show nothing.
        """
        with tqdm(
            total=self.total,
            desc=title,
            unit=self.unit,
            unit_scale=True,
            leave=False,
            disable=None if shown and sys.stderr else True,  # None: hidden where stderr is not a terminal
        ) as bar:

            def note(result: StepResult) -> None:
                if not bar.disable:
                    bar.update(self.amount(result))
                    bar.set_postfix_str(self.text(result), refresh=False)

            yield note
