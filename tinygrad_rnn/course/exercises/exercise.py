"""Lessons and their exercises, as data: what the reader writes, what is right, and which mistakes are known."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from .text import Text

Solve = Callable[..., object]
"""What an exercise asks for, as a function of a case: of the arguments that the reader's function is called with."""


@dataclass(frozen=True)
class Output:
    """One of the results that an exercise asks for.

    Attributes:
        name: as in the task: "dWh".
        time_axis: the axis of the steps; None: it has none.
        backward: whether it is computed from the last step to the first, so that an error begins at the last wrong one.
    """

    name: str
    time_axis: int | None = None
    backward: bool = True


@dataclass(frozen=True)
class Mistake:
    """A typical mistake: what one who makes it computes, and what to tell them.

    Attributes:
        name: in a few words, for the teacher's table.
        hint: a question or a remark that leads to the answer and does not give it.
        solve: computes what the mistaken solution does, with the signature of the exercise's own.
    """

    name: Text
    hint: Text
    solve: Solve


@dataclass(frozen=True)
class Exercise:
    """A function that the reader writes, and how it is graded.

    Attributes:
        name: of the function, or of the class.
        stub: its first line: "def backward(w, h0, xs, es):".
        task: what it must do, for a docstring: shapes, equation, what it returns.
        cases: yields the arguments of each case, drawn from a generator; the first case is the simplest.
        solve: the right answer.
        outputs: the results, in the order in which they are returned; one alone is returned without a tuple.
        mistakes: typical ones, the more specific first.
        call: `call(theirs, *case)` gives the results of what the reader wrote, where that is a class, or a function for
            others to call; None: it is called with the case.
        tolerance: largest difference that is allowed, relative to the largest entry of a result.
        steps: the axis of the steps in each argument that has one.
    """

    name: str
    stub: str
    task: Text
    cases: Callable[[np.random.Generator], Iterator[tuple[object, ...]]]
    solve: Solve
    outputs: tuple[Output, ...]
    mistakes: tuple[Mistake, ...]
    call: Callable[..., object] | None = None
    tolerance: float = 1e-6
    steps: Mapping[str, int] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """Names of the arguments of a case."""
        parameters = inspect.signature(self.solve).parameters.values()
        return [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]

    def drawn(self) -> list[tuple[object, ...]]:
        """Return the cases, the same each time."""
        return list(self.cases(np.random.default_rng(0)))


@dataclass(frozen=True)
class Lesson:
    """A lesson of the course.

    Attributes:
        number: from 1.
        slug: name of its page: "bptt-by-hand".
        title: of the page.
        exercises: in the order of the page.
    """

    number: int
    slug: str
    title: Text
    exercises: tuple[Exercise, ...]

    @property
    def page(self) -> str:
        """Name of its page, without the folder of the language: "04-bptt-by-hand.md"."""
        return f"{self.number:02d}-{self.slug}.md"

    def starter(self, language: str) -> str:
        """Return a Python file with the functions to write: the first line of each, and its task as a docstring."""
        parts = [f'"""{self.number}. {self.title[language]}"""\n\nimport numpy as np\n']
        for exercise in self.exercises:
            body = "\n".join(f"    {line}".rstrip() for line in inspect.cleandoc(exercise.task[language]).splitlines())
            parts.append(f'{exercise.stub}\n    """\n{body}\n    """\n    raise NotImplementedError\n')
        return "\n\n".join(parts)
