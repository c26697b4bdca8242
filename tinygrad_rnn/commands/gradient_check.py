"""The command `check`: cases drawn by Hypothesis, a table row for each, and the code that repeats a failure."""

from __future__ import annotations

import ast
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.strategies import SearchStrategy
from tqdm import tqdm

from .. import __all__ as public_names
from ..errors import ConfigError
from ..imports import working_folder_first
from ..testing.gradients import check_grads
from ..testing.report import GradCheckError, GradReport
from .gradient_cases import Case, builtin_cases, cases_of


@dataclass
class Outcome:
    """The outcome of one case."""

    case: Case
    examples: int = 0  # that were drawn, up to the first that failed
    leaves: int = 0  # that were checked in them
    worst: float = 0.0  # largest error of a leaf, in units of what is allowed
    seconds: float = 0.0
    report: GradReport | None = None  # of the counter-example, shrunk
    drawn: dict[str, str] = field(default_factory=dict)  # the counter-example, name of the argument to Python

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        verdict = "ok" if self.report is None else "wrong"
        numbers = (str(self.examples), str(self.leaves), f"{self.worst:.2g}", f"{self.seconds:.1f}")
        return (self.case.name, *numbers, verdict)


def check(target: str | None, examples: int, seed_of_draws: int, order: int) -> int:
    """Check the target named on the command line, print a table, and return 1 if a gradient is wrong, else 0.

    Args:
        target: "mymodule:name", a model file, its folder, or None for everything built in.
        examples: largest number of examples per case.
        seed_of_draws: seed of everything that is drawn.
        order: order of the derivatives, 1 or 2.

    Raises:
        ConfigError: if the target cannot be found, or what is checked raises an error of its own.
        ModelFileError: if a file is not a model.

    >>> check("tinygrad_rnn:RNNCell", examples=2, seed_of_draws=0, order=2)  # doctest: +ELLIPSIS
    target ... verdict
    tinygrad_rnn:RNNCell ... ok
    <BLANKLINE>
    right
    0
    """
    with working_folder_first(), _nothing_left_behind():
        cases = list(builtin_cases() if target is None else cases_of(target))
        if order == 2:
            cases = [case for case in cases if case.truncation is None]
            if not cases:
                raise ConfigError("check: a truncated gradient has no second order; leave --order 2 out")
        width = max(len(case.name) for case in cases)
        print(_row(width, "target", "examples", "leaves", "error/bound", "seconds", "verdict"), flush=True)
        failures = []
        with tqdm(total=len(cases) * examples, unit=" examples", leave=False, disable=None) as bar:
            for number, case in enumerate(cases, start=1):
                bar.set_description_str(case.name)
                outcome = run_case(case, examples, seed_of_draws, order, bar.update)
                bar.update(number * examples - bar.n)
                bar.clear()
                print(_row(width, *outcome.cells), flush=True)
                if outcome.report is not None:
                    failures.append(_account(outcome, outcome.report, seed_of_draws, order))
    print(*failures, sep="\n", end="\n" * bool(failures))
    right = len(cases) - len(failures)
    print(f"\n{right} of {len(cases)} right" if failures else f"\nall {right} right" if right > 1 else "\nright")
    return 1 if failures else 0


def run_case(
    case: Case, examples: int, seed_of_draws: int, order: int, on_example: Callable[[], object] = lambda: None
) -> Outcome:
    """Return what Hypothesis finds for one case; the same for the same seed.

    `on_example` is called for each example, up to the first that fails.

    Raises:
        ConfigError: if what is checked raises an error of its own.

    >>> outcome = run_case(next(builtin_cases()), examples=2, seed_of_draws=0, order=1)
    >>> outcome.case.name, outcome.examples, outcome.report
    ('cell rnn', 2, None)
    """
    outcome, start = Outcome(case), time.perf_counter()
    arguments = {"f": case.f, **case.inputs, "truncation": case.truncation}
    draws = {name: value for name, value in arguments.items() if isinstance(value, SearchStrategy)}

    def check(**drawn: Any) -> None:
        f, *inputs, truncation = {**arguments, **drawn}.values()
        searching = outcome.report is None  # after the first failure Hypothesis shrinks it
        report = check_grads(f, *inputs, truncation=truncation, order=order, seed=seed_of_draws, check=False)
        if searching:
            on_example()
            outcome.examples += 1
            outcome.leaves += len(report.leaves)
            outcome.worst = max([outcome.worst, *(leaf.excess for leaf in report.leaves)])
        if not report.ok:
            outcome.report = report
            raise GradCheckError(report)

    configured = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    try:
        seed(seed_of_draws)(configured(given(**draws)(check)))()
    except GradCheckError as error:
        outcome.drawn = _drawn(error)
    except Exception as error:  # a user's cell may raise anything
        where = "".join(f", {name} = {text}" for name, text in _drawn(error).items())
        raise ConfigError(f"check: {case.name} raised {type(error).__name__}: {error}{where}") from error
    outcome.seconds = time.perf_counter() - start
    return outcome


def _drawn(error: BaseException) -> dict[str, str]:
    """Return the example that Hypothesis noted on an error, name of the argument to one line of Python."""
    for note in getattr(error, "__notes__", []):
        lines = note[max(note.find("check("), 0) :].splitlines()
        for end in range(1, len(lines) + 1):
            try:
                (call,) = ast.parse("\n".join(lines[:end])).body
            except (SyntaxError, ValueError):
                continue
            if isinstance(call, ast.Expr) and isinstance(call.value, ast.Call):
                return {str(keyword.arg): ast.unparse(keyword.value) for keyword in call.value.keywords}
    return {}


def _row(width: int, *cells: str) -> str:
    return "{:<{width}}  {:>8}  {:>6}  {:>11}  {:>7}  {}".format(*cells, width=width)


def _account(outcome: Outcome, report: GradReport, seed_of_draws: int, order: int) -> str:
    example = "".join(f"\n    {name} = {text}" for name, text in outcome.drawn.items())
    line = _line(outcome, seed_of_draws, order)
    return (
        f"\n{outcome.case.name}: wrong at example {outcome.examples}; the smallest counter-example:{example}\n\n"
        f"{dataclasses.replace(report, reproducer=line)}"
    )


def _line(outcome: Outcome, seed_of_draws: int, order: int) -> str:
    """Return the counter-example as one self-contained line of Python."""
    case, drawn = outcome.case, outcome.drawn
    texts = {"f": case.source, "truncation": case.source if case.truncation is not None else "", **drawn}
    arguments = [texts[name] for name in ("f", *case.inputs)]
    options = {"truncation": texts["truncation"], "order": order if order != 1 else "", "seed": seed_of_draws or ""}
    arguments += [f"{name}={value}" for name, value in options.items() if value != ""]
    call = f"check_grads({', '.join(arguments)})"
    names = {node.id for node in ast.walk(ast.parse(call)) if isinstance(node, ast.Name)}
    lines = [f"import {case.module}"] if case.module.partition(".")[0] in names else []
    homes = {**_HOMES, case.module: set(vars(sys.modules[case.module]))} if case.module else _HOMES
    for module, known in homes.items():
        used = sorted(names & known)
        names -= known
        lines += [f"from {module} import {', '.join(used)}"] if used else []
    return "; ".join([*lines, call])


_HOMES = {
    "numpy": {"array"},
    "numpy.random": {"default_rng"},
    "tinygrad_rnn": set(public_names),
    "tinygrad_rnn.testing": {"check_grads"},
    "tinygrad_rnn.testing.strategies": {"normal", "token_batch", "with_noise"},
}


@contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """Let Hypothesis keep its files in a temporary folder, not in the user's."""
    with tempfile.TemporaryDirectory() as folder:
        set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            set_hypothesis_home_dir(None)
