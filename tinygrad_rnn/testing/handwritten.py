"""`compare_handwritten`: a backward that was derived by hand, against the automatic gradient, quantity by quantity."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..engine.tape import Array
from ..engine.tree import flatten, map_leaves
from .byhand import Automatic, ByHand, ByHandError, Pass, by_hand, state_names
from .causes import causes, gates_hint
from .hints import hint
from .report import GradCheckError, table
from .tables import html
from .targets import place
from .tolerance import Tolerance

_HEAD = ("quantity", "shape", "run", "largest error", "allowed", "verdict", "where", "what it looks like")


@dataclass(frozen=True)
class QuantityResult:
    """What was found for one quantity of one run.

    Attributes:
        name: "h" (forward), "dx", "dh", "dc", or "d" and the name of a parameter.
        run: "1 step", or "5 steps".
        shape: that it must have.
        error: largest difference from the automatic gradient.
        allowed: what that may be.
        verdict: "ok" or "WRONG".
        steps: time steps at which it is wrong; empty if that is not known, or the quantity has no steps.
        where: the same in words.
        hint: what the difference looks like.
    """

    name: str
    run: str
    shape: tuple[int, ...]
    error: float
    allowed: float
    verdict: str
    steps: tuple[int, ...] = ()
    where: str = ""
    hint: str = ""

    @property
    def first_step(self) -> int | None:
        """The step at which the error first appears, going backward; None if that is not known."""
        return max(self.steps, default=None)

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        error = "-" if np.isnan(self.error) else f"{self.error:.1e}"
        return (
            *(self.name, str(self.shape), self.run, error, f"{self.allowed:.1e}", self.verdict),
            *(self.where or "-", self.hint or "-"),
        )


@dataclass(frozen=True)
class HandwrittenReport:
    """The outcome of `compare_handwritten`.

    Attributes:
        title: what was compared.
        results: one for each quantity and run.
        failures: what is wrong besides values: an error was raised, an input changed, grads pile up.
        causes: what the error may be, as far as it can be read off the numbers.
        reproducer: one line of Python that repeats the comparison.
    """

    title: str
    results: tuple[QuantityResult, ...]
    failures: tuple[str, ...]
    causes: tuple[str, ...]
    reproducer: str

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return not self.failures and not self.wrong

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names of the quantities that are wrong in any run, each once."""
        return tuple(dict.fromkeys(result.name for result in self.results if result.verdict == "WRONG"))

    def result(self, name: str, run: str) -> QuantityResult:
        """Return the result of one quantity ("dWh") in one run ("1 step", "5 steps").

        Raises:
            KeyError: if there is none.
        """
        found = {(result.name, result.run): result for result in self.results}
        return found[name, run]

    @property
    def _headline(self) -> str:
        wrong = ", ".join(self.wrong) or "see below"
        return f"{self.title}: {'ok' if self.ok else f'WRONG: {wrong}'}"

    @property
    def _stories(self) -> list[str]:
        lines = [
            *(f"wrong: {failure}" for failure in self.failures),
            *(f"looks like: {cause}" for cause in self.causes),
        ]
        return lines if self.ok else [*lines, f"reproduce: {self.reproducer}"]

    def __str__(self) -> str:
        return "\n".join([self._headline, *table(_HEAD, [result.cells for result in self.results]), *self._stories])

    def _repr_html_(self) -> str:
        rows = [(result.cells, result.verdict == "WRONG") for result in self.results]
        return html(self._headline, _HEAD, rows, self._stories)


def compare_handwritten(
    cell: Any,
    handwritten: Any,
    T: int = 5,
    N: int = 2,
    seed: int = 0,
    rtol: float = 1e-10,
    atol: float = 1e-13,
    check: bool = True,
) -> HandwrittenReport:
    """Compare a backward derived by hand with the automatic gradient of a cell that computes the same.

    One step and T steps are run from random states with random gradients of the loss, in float64, and each of dx, dh
    (dc), dWx, dWh, db is compared; the report says which is wrong, by what factor, and from which time step back.
    The weights are the cell's, moved by small random numbers, so that a bias that starts at 0 hides nothing.

    `handwritten` is one of these; arrays of a state are (N, H), h first (h, or h and c):

    - a layer of one step: forward(x, *state) -> state (an array or a tuple), backward(*dstate) -> (dx, *dstate),
      x and dx (N, D); a list `params` in the order of `cell.parameters()`, and a list `grads` of the same shapes that
      backward overwrites (in this package: `handwritten.RNN`);
    - a layer of a window: forward(xs) -> hs, backward(dhs) -> dxs, with xs (N, T, D) and hs (N, T, H); `params` and
      `grads` likewise; if it has them, set_state(*state) before and dh, dc after it are used (`handwritten.TimeRNN`);
    - a class, or any function, that makes one of these from the weights: `handwritten.LSTM`;
    - a pair of functions: forward(x, state, parameters) -> (state, cache) and
      backward(dstate, cache) -> (dx, dstate, gradients), with states as tuples, and parameters and gradients as dicts
      with the names of `cell.parameters()`.

    Args:
        cell: a cell whose state holds h first, with `initial_state`, `parameters`, and `input_size` (or a first
            parameter of D rows).
        handwritten: what is checked; it is copied.
        T: steps of the longer run.
        N: sequences.
        seed: of everything drawn.
        rtol, atol: allowed error relative to the largest entry of a quantity, and to the largest of all.
        check: raise an error if something is wrong; otherwise only report it.

    Returns:
        A `HandwrittenReport`; printed, it is a table.

    Raises:
        GradCheckError: if something is wrong; its `report` holds everything found.
        TypeError, ValueError: if `handwritten` is none of the above, or its params do not fit those of the cell.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn import handwritten
    >>> from tinygrad_rnn.testing import compare_handwritten
    >>> cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    >>> compare_handwritten(cell, handwritten.RNN).ok
    True
    """
    rng = np.random.default_rng(seed)
    cell = copy.deepcopy(cell)
    parameters = cell.parameters()
    for parameter in parameters.values():
        values = parameter.data.astype(np.float64)
        place(parameter, values + 0.1 * rng.standard_normal(values.shape))
    nest = map_leaves(lambda part: np.zeros(part.shape), cell.initial_state(N))
    state = [0.5 * rng.standard_normal(part.shape) for part in flatten(nest)]
    D = getattr(cell, "input_size", None) or next(iter(parameters.values())).shape[0]
    xs, dhs = rng.standard_normal((N, T, D)), rng.standard_normal((N, T, state[0].shape[1]))
    automatic = Automatic(cell, nest)
    layer = by_hand(handwritten, {name: parameter.data for name, parameter in parameters.items()})
    dothers = [rng.standard_normal(part.shape) for part in state[1:]]
    if layer.whole:  # it gives out h alone, so no loss can depend on the rest of the last state
        dothers = [np.zeros_like(part) for part in dothers]
    if not layer.fresh().starts_from(state):
        state = [np.zeros_like(part) for part in state]

    comparison = _Comparison(automatic, layer, {"N": N, "T": T}, rtol, atol)
    results: list[QuantityResult] = []
    failures: list[str] = []
    for steps in dict.fromkeys((1, T)):
        window = (xs[:, :steps], state, dhs[:, :steps], dothers)
        try:
            results += comparison.compare(*window)
            if steps == 1:
                failures += comparison.again(*window)
        except ByHandError as error:
            failures.append(f"in a run of {steps} step{'s' if steps > 1 else ''}, {error}")
    wrong = {(result.run, result.name): result.first_step for result in results if result.verdict == "WRONG"}
    found = causes(automatic, layer, (xs, state, dhs, dothers), wrong) if wrong else []
    by = getattr(handwritten, "__name__", type(handwritten).__name__)
    title = f"{by} by hand against {type(cell).__name__}, N = {N}, T = {T} (seed {seed})"
    reproducer = f"compare_handwritten({type(cell).__name__}(...), {by}, T={T}, N={N}, seed={seed})"
    report = HandwrittenReport(title, tuple(results), tuple(failures), tuple(found), reproducer)
    if check and not report.ok:
        raise GradCheckError(report)
    return report


class _Comparison:
    """Runs both sides on a window and judges each quantity."""

    def __init__(self, automatic: Automatic, layer: ByHand, sizes: dict[str, int], rtol: float, atol: float) -> None:
        self.automatic, self.layer, self.sizes = automatic, layer, sizes
        self.rtol, self.atol = rtol, atol

    def compare(self, xs: Array, state: list[Array], dhs: Array, dothers: list[Array]) -> list[QuantityResult]:
        """Return a result for each quantity."""
        expected = self.automatic.run(xs, state, dhs, dothers)
        actual = self.layer.fresh().run(xs, state, dhs, dothers)
        names = state_names(len(state))
        judge = _Judge(expected, xs.shape[1], state[0].shape[1], self.sizes, self.rtol, self.atol)
        results = [judge.by_step("h", expected.hs, actual.hs)]
        if actual.last is not None and expected.last is not None:
            results += map(judge.whole, names[1:], expected.last, actual.last)
        results.append(judge.by_step("dx", expected.dxs, actual.dxs))
        for name, e, a in zip(names, expected.dstate, actual.dstate, strict=True):
            if a is not None and e is not None:
                results.append(judge.whole(f"d{name}", e, a))
        for name, e in expected.gradients.items():
            result = judge.whole(f"d{name}", e, actual.gradients[name])
            if result.verdict != "ok" and xs.shape[1] > 1:
                result = self._locate(result, name, judge, expected, actual, (xs, state, dhs, dothers))
            results.append(result)
        return results

    def _locate(
        self, result: QuantityResult, name: str, judge: _Judge, expected: Pass, actual: Pass, window: Any
    ) -> QuantityResult:
        if actual.parts is not None and expected.parts is not None:
            pairs = zip(expected.parts, actual.parts, strict=True)
            steps = [t for t, (e, a) in enumerate(pairs) if judge.is_wrong(e[name], a[name])]
            return replace(result, steps=tuple(steps), where=where(steps, judge.T))
        xs, state, dhs, dothers = window
        for s in range(judge.T):
            alone = np.zeros_like(dhs)
            alone[:, s] = dhs[:, s]
            parts = [side.run(xs, state, alone, dothers) for side in (self.automatic, self.layer.fresh())]
            if judge.is_wrong(*(part.gradients[name] for part in parts)):
                return replace(
                    result, where=f"with a loss at step {s} alone" + (", and later" if s < judge.T - 1 else "")
                )
        return result

    def again(self, xs: Array, state: list[Array], dhs: Array, dothers: list[Array]) -> list[str]:
        """Return what is wrong with a second run of the same layer."""
        layer = self.layer.fresh()
        first = layer.run(xs, state, dhs, dothers).gradients
        second = layer.run(xs, state, dhs, dothers).gradients
        changed = [name for name in first if not np.array_equal(first[name], second[name], equal_nan=True)]
        if not changed:
            return []
        if all(np.allclose(second[name], 2 * first[name]) for name in changed):
            return [
                "grads pile up: a second backward adds to what the first left; overwrite them (grads[0][...] = dWx)"
            ]
        return [f"a second run of the same window gives another gradient of {', '.join(changed)}"]


class _Judge:
    def __init__(self, expected: Pass, T: int, H: int, sizes: dict[str, int], rtol: float, atol: float) -> None:
        found = [expected.dxs, *(part for part in expected.dstate if part is not None), *expected.gradients.values()]
        self.tolerance = Tolerance(rtol, atol, max(float(np.abs(array).max(initial=0.0)) for array in found))
        self.T, self.H = T, H
        self.run = "1 step" if T == 1 else f"{T} steps"
        self.sizes = sizes if T > 1 else {letter: n for letter, n in sizes.items() if letter != "T"}

    def allowed(self, expected: Array) -> float:
        largest = float(np.abs(expected).max(initial=0.0))
        return self.tolerance.allowed(terms=largest, slope=largest, spread=1.0)

    def is_wrong(self, expected: Array, actual: Array) -> bool:
        return expected.shape != actual.shape or not bool((np.abs(actual - expected) <= self.allowed(expected)).all())

    def whole(self, name: str, expected: Array, actual: Array) -> QuantityResult:
        """Judge an array that has no axis of time."""
        allowed = self.allowed(expected)
        if actual.shape != expected.shape:
            looks = f"has shape {actual.shape}"
            if actual.shape == expected.shape[::-1]:
                looks += ": transposed"
            elif actual.ndim < expected.ndim or (actual.ndim == 1 and actual.shape == (self.sizes["N"],)):
                looks += ": summed over the wrong axis"
            return QuantityResult(name, self.run, expected.shape, np.nan, allowed, "WRONG", hint=looks)
        error = float(np.abs(actual - expected).max(initial=0.0))
        if not self.is_wrong(expected, actual):
            return QuantityResult(name, self.run, expected.shape, error, allowed, "ok")
        looks = gates_hint(expected, actual, self.H, self.sizes)
        return QuantityResult(name, self.run, expected.shape, error, allowed, "WRONG", hint=looks)

    def by_step(self, name: str, expected: Array, actual: Array) -> QuantityResult:
        """Judge an array (N, T, ...)."""
        result = self.whole(name, expected, actual)
        if result.verdict == "ok" or actual.shape != expected.shape or self.T == 1:
            return result
        close = np.abs(actual - expected) <= result.allowed
        steps = [t for t in range(self.T) if not close[:, t].all()]
        if len(steps) < self.T:
            t = steps[-1]
            looks = hint(expected[:, t], actual[:, t], {"N": self.sizes["N"]})
            result = replace(result, hint=f"at step {t}: {looks}" if looks else "")
        return replace(result, steps=tuple(steps), where=where(steps, self.T))


def where(steps: list[int], T: int) -> str:
    """Return the wrong steps of a window in words, as they are met going backward.

    >>> where([0, 1], 5)
    'from step 1 back; the last 3 are right'
    """
    if len(steps) == T or not steps:
        return "at every step" if steps else ""
    if steps == [T - 1]:
        return f"at the last step only (t = {T - 1})"
    if steps == [0]:
        return "at the first step only (t = 0)"
    if steps == list(range(len(steps))):
        return (
            f"from step {steps[-1]} back; the last {f'{T - len(steps)} are' if T - len(steps) > 1 else 'one is'} right"
        )
    return f"first at step {steps[-1]}, going backward; wrong: {', '.join(map(str, steps))}"
