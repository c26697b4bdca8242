"""`compare_handwritten`: a hand-derived backward pass compared with the automatic gradient, quantity by quantity."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from ..engine.tape import Array
from ..engine.tensor import adopt
from ..engine.tree import flatten, map_leaves
from ..nn.cells import initial_state
from ..nn.module import Module
from .diagnose.handwritten import causes
from .diagnose.hints import hint
from .judge import Judge, Options
from .oracles import ComplexStep
from .report import GradCheckError, LeafResult, Report
from .targets.base import renew
from .targets.handwritten import (
    Automatic,
    ByHandError,
    HandwrittenEvaluation,
    Layer,
    Window,
    as_layer,
)


@dataclass(frozen=True)
class QuantityResult(LeafResult):
    """The result for one quantity of one run: "h" (forward), "dx", "dh", "dc", or "d" and a parameter's name.

    Attributes:
        run: "1 step", or "5 steps".
        steps: time steps at which it is wrong; empty if they are unknown, or the quantity has no steps.
        where: the steps in words.
    """

    run: str = ""
    steps: tuple[int, ...] = ()
    where: str = ""

    @property
    def first_step(self) -> int | None:
        """The step at which the error first appears in the backward pass; None if unknown."""
        return max(self.steps, default=None)

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        name, shape, error, bound, *_ = super().cells
        return name, shape, self.run, error, bound, self.verdict, self.where or "-", self.hint or "-"


@dataclass(frozen=True)
class HandwrittenReport(Report[QuantityResult]):
    """The outcome of `compare_handwritten`.

    `causes` are the possible mistakes, as far as the numbers show them. Failures are an error that was raised, an input
    that was changed, grads that accumulate.
    """

    columns = ("quantity", "shape", "run", "largest error", "allowed", "verdict", "where", "what it looks like")

    causes: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[str, ...]:
        """Failures besides wrong values, and the possible mistakes."""
        return (*(f"wrong: {failure}" for failure in self.failures), *(f"looks like: {cause}" for cause in self.causes))

    def result(self, name: str, run: str) -> QuantityResult:
        """Return the result of one quantity ("dWh") in one run ("1 step", "5 steps").

        Raises:
            KeyError: if there is none.
        """
        return {(result.name, result.run): result for result in self.results}[name, run]


def compare_handwritten(
    cell: Module,
    handwritten: object,
    T: int = 5,
    N: int = 2,
    seed: int = 0,
    rtol: float = 1e-10,
    atol: float = 1e-13,
    check: bool = True,
) -> HandwrittenReport:
    """Compare a hand-derived backward pass with the automatic gradient of a cell that computes the same.

    One step and T steps are run from random states with random gradients of the loss, in float64, and each of dx, dh
    (dc), dWx, dWh, db is compared; the report says which is wrong, by what factor, and from which time step back.
    The weights are the cell's plus small random numbers, so that a bias that starts at 0 hides no fault.

    `handwritten` is one of these; arrays of a state are (N, H), h first (h, or h and c):

    - a layer for one step: forward(x, *state) -> state (an array or a tuple), backward(*dstate) -> (dx, *dstate),
      x and dx (N, D); a list `params` in the order of `cell.parameters()`, and a list `grads` of the same shapes that
      backward overwrites (in this package: `handwritten.RNN`);
    - a layer for a window: forward(xs) -> hs, backward(dhs) -> dxs, with xs (N, T, D) and hs (N, T, H); `params` and
      `grads` likewise; if it has them, set_state(*state) before and dh, dc after it are used (`handwritten.TimeRNN`);
    - a class, or any function, that makes one of these from the weights: `handwritten.LSTM`;
    - a pair of functions: forward(x, state, parameters) -> (state, cache) and
      backward(dstate, cache) -> (dx, dstate, gradients), with states as tuples, and parameters and gradients as dicts
      with the names of `cell.parameters()`.

    Args:
        cell: a cell whose state holds h first, with `initial_state`, `parameters`, and `input_size` (or a first
            parameter of D rows).
        handwritten: the code to check; it is copied.
        T: number of steps of the longer run.
        N: number of sequences.
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
    automatic, layer, window = _sides(cell, handwritten, T, N, rng)
    by = getattr(handwritten, "__name__", type(handwritten).__name__)
    title = f"{by} by hand against {type(cell).__name__}, N = {N}, T = {T}"
    runs: dict[int, list[QuantityResult]] = {1: [], T: []}
    failures: list[str] = []
    for steps in runs:
        try:
            runs[steps] = _compared(title, automatic, layer, window.until(steps), Options(seed, 1, False, rtol, atol))
            if steps == 1:
                failures += _repeated(layer, window.until(1))
        except ByHandError as error:
            failures.append(f"in a run of {_run(steps)}, {error}")
    in_one_step, over_time = ({r.name: r.first_step for r in runs[steps] if not r.ok} for steps in (1, T))
    report = HandwrittenReport(
        target=title,
        results=tuple(result for results in runs.values() for result in results),
        seed=seed,
        failures=tuple(failures),
        causes=tuple(causes(automatic, layer, window, in_one_step, over_time)),
        reproducer=f"compare_handwritten({type(cell).__name__}(...), {by}, T={T}, N={N}, seed={seed})",
    )
    if check and not report.ok:
        raise GradCheckError(report)
    return report


def _sides(
    cell: Module, handwritten: object, T: int, N: int, rng: np.random.Generator
) -> tuple[Automatic, Layer, Window]:
    """Return both sides with the same weights, and the window that they are run on."""
    cell = copy.deepcopy(cell)
    parameters = cell.parameters()
    for parameter in parameters.values():
        adopt(parameter, parameter.data.astype(np.float64) + 0.1 * rng.standard_normal(parameter.shape))
        renew(parameter)
    nest = map_leaves(lambda part: np.zeros(part.shape), initial_state(cell, N))
    state = [0.5 * rng.standard_normal(part.shape) for part in flatten(nest)]
    D = getattr(cell, "input_size", None) or next(iter(parameters.values())).shape[0]
    xs, dhs = rng.standard_normal((N, T, D)), rng.standard_normal((N, T, state[0].shape[1]))
    layer = as_layer(handwritten, {name: parameter.data for name, parameter in parameters.items()})
    dlast = [rng.standard_normal(part.shape) for part in state[1:]]
    if layer.whole:  # it returns only h, so no loss can depend on the rest of the last state
        dlast = [np.zeros_like(part) for part in dlast]
    if not layer.starts_from(state):
        state = [np.zeros_like(part) for part in state]
    return Automatic(cell, nest), layer, Window(xs, state, dhs, dlast)


def _compared(title: str, automatic: Automatic, layer: Layer, window: Window, options: Options) -> list[QuantityResult]:
    """Return a result for each quantity that the hand-written side provides."""
    evaluation = HandwrittenEvaluation(automatic, layer, window, title)
    judge = Judge(evaluation, evaluation.gradient(), ComplexStep(0.0, 0.0, name="automatic gradient"), options)
    run = _run(window.xs.shape[1])
    return [_located(QuantityResult(**vars(found), run=run), evaluation, judge) for found in judge.results()]


def _located(result: QuantityResult, evaluation: HandwrittenEvaluation, judge: Judge) -> QuantityResult:
    """Return the result with the steps at which it is wrong."""
    window, T = evaluation.window, evaluation.window.xs.shape[1]
    name, actual = result.name, judge.found.gradients[result.name]
    if result.ok or T == 1 or actual.shape != result.shape:
        return result

    def is_wrong(expected: Array, actual: Array) -> bool:
        largest = float(np.abs(expected).max(initial=0.0))
        return not (np.abs(actual - expected) <= judge.tolerance.allowed(largest, largest, 1.0)).all()

    if name in ("h", "dx"):
        expected = evaluation.expected.quantities[name]
        steps = [t for t in range(T) if is_wrong(expected[:, t], actual[:, t])]
        if 0 < len(steps) < T:
            t = steps[-1]
            looks = hint(expected[:, t], actual[:, t], {"N": len(actual)})
            result = replace(result, hint=f"at step {t}: {looks}" if looks else "")
        return replace(result, steps=tuple(steps), where=where(steps, T))
    parameter = name.removeprefix("d")
    if parameter not in evaluation.expected.gradients:
        return result
    if evaluation.expected.parts is not None and evaluation.actual.parts is not None:
        pairs = zip(evaluation.expected.parts, evaluation.actual.parts, strict=True)
        steps = [t for t, (e, a) in enumerate(pairs) if is_wrong(e[parameter], a[parameter])]
        return replace(result, steps=tuple(steps), where=where(steps, T))
    for s in range(T):
        alone = np.zeros_like(window.dhs)
        alone[:, s] = window.dhs[:, s]
        sides = evaluation.automatic, evaluation.layer
        e, a = (side.run(window._replace(dhs=alone)).gradients[parameter] for side in sides)
        if is_wrong(e, a):
            return replace(result, where=f"with a loss at step {s} alone" + (", and later" if s < T - 1 else ""))
    return result


def _repeated(layer: Layer, window: Window) -> list[str]:
    """Return the failures of a second run of the same layer."""
    code = copy.deepcopy(layer.code)
    first, second = (layer.again(code, window).gradients for _ in range(2))
    changed = [name for name in first if not np.array_equal(first[name], second[name], equal_nan=True)]
    if not changed:
        return []
    if all(np.allclose(second[name], 2 * first[name]) for name in changed):
        return ["grads accumulate: a second backward adds to those of the first; overwrite them (grads[0][...] = dWx)"]
    return [f"a second run of the same window gives a different gradient of {', '.join(changed)}"]


def _run(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"


def where(steps: list[int], T: int) -> str:
    """Return the wrong steps of a window in words, in the order of the backward pass.

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
