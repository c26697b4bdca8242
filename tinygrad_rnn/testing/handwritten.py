"""`compare_handwritten`: a hand-derived backward pass compared with the automatic gradient, quantity by quantity."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from ..checks import integer
from ..engine.tape import Array
from ..engine.tensor import adopt
from ..engine.tree import flatten
from ..nn.cells import initial_state
from ..nn.module import Module
from .diagnose.causes import causes
from .diagnose.hints import hint
from .judge import Judge, Options
from .oracles import ComplexStep
from .report import LeafResult, Report
from .targets.base import name_of, renew
from .targets.handwritten import Automatic, ByHandError, HandwrittenEvaluation, Layer, Window, as_layer


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
    def cells(self) -> dict[str, str]:
        """The row of the table, by column."""
        leaf = super().cells
        told = {"verdict": self.verdict, "where": self.where or "-", "what it looks like": self.hint or "-"}
        measured = {name: leaf[name] for name in ("largest error", "allowed")}
        return {"quantity": self.name, "shape": leaf["shape"], "run": self.run, **measured, **told}


@dataclass(frozen=True)
class HandwrittenReport(Report[QuantityResult]):
    """The outcome of `compare_handwritten`.

    `causes` are the possible mistakes, as far as the numbers show them. A failure is an error that was raised, an
    argument that was written into, or grads that accumulate.
    """

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

    - a layer for one step: `forward(x, *state) -> state` (an array or a tuple),
      `backward(*dstate) -> (dx, *dstate)`, x and dx (N, D); a list `params` in the order of `cell.parameters()`, and a
      list `grads` of the same shapes that backward overwrites (in this package: `handwritten.RNN`);
    - one for a window, `handwritten.TimeRNN`: `forward(xs) -> hs`, `backward(dhs) -> dxs`, xs (N, T, D), hs (N, T, H);
      `params` and `grads` likewise; if it has them, `set_state(*state)` before and dh, dc after it are used;
    - a class, or any function, that makes one of these from the weights: `handwritten.LSTM`;
    - a pair of functions: `forward(x, state, parameters) -> (state, cache)` and
      `backward(dstate, cache) -> (dx, dstate, gradients)`, with states as tuples, and parameters and gradients as
      dicts with the names of `cell.parameters()`.

    Args:
        cell: a cell whose state holds h first, with `initial_state`, `parameters`, and `input_size` (or a first
            parameter of D rows).
        handwritten: the code to check; it is copied.
        T: number of steps of the longer run.
        N: number of sequences.
        seed: seed of everything that is drawn.
        rtol, atol: allowed error relative to the largest entry of a quantity, and to the largest of all.
        check: raise an error if something is wrong; otherwise only report it.

    Returns:
        A `HandwrittenReport`; printed, it is a table.

    Raises:
        GradCheckError: if something is wrong; its `report` holds everything found.
        TypeError, ValueError: if `handwritten` is none of the above, or its params do not fit those of the cell.
        ConfigError: if T, N or a tolerance is out of range. (It is a ValueError.)

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn import handwritten
    >>> from tinygrad_rnn.testing import compare_handwritten
    >>> cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    >>> compare_handwritten(cell, handwritten.RNN).ok
    True
    """
    T, N = integer("compare_handwritten", "T", T), integer("compare_handwritten", "N", N)
    options = Options(seed, 1, False, rtol, atol, function="compare_handwritten")
    automatic, layer, window = _sides(cell, handwritten, T, N, np.random.default_rng(seed))
    by = name_of(handwritten)
    oracle = ComplexStep(0.0, 0.0, name="automatic gradient")
    runs: dict[int, list[QuantityResult]] = {1: [], T: []}
    failures: list[str] = []
    for steps in runs:
        run = f"{steps} step{'s' * (steps != 1)}"
        try:
            evaluation = HandwrittenEvaluation(automatic, layer, window.until(steps))
            judge = Judge(evaluation, evaluation.gradient(), oracle, options)
            runs[steps] = [_located(QuantityResult(**vars(r), run=run), evaluation, judge) for r in judge.results()]
            if steps == 1:
                failures += _repeated(layer, window.until(1))
        except ByHandError as error:
            failures.append(f"in a run of {run}, {error}")
    in_one_step, over_time = ({r.name: r.first_step for r in runs[steps] if not r.ok} for steps in (1, T))
    return HandwrittenReport(
        target=f"{by} by hand against {type(cell).__name__}, N = {N}, T = {T}",
        results=tuple(result for results in runs.values() for result in results),
        seed=seed,
        failures=tuple(failures),
        causes=tuple(causes(automatic, layer, window, in_one_step, over_time)),
        reproducer=f"compare_handwritten({type(cell).__name__}(...), {by}, T={T}, N={N}, seed={seed})",
    ).or_raised(check)


def _sides(
    cell: Module, handwritten: object, T: int, N: int, rng: np.random.Generator
) -> tuple[Automatic, Layer, Window]:
    """Return both sides with the same weights, and the window that they are run on."""
    if not isinstance(cell, Module):
        raise TypeError(f"compare_handwritten: cell is a {type(cell).__name__}; expected a Module, such as an RNNCell")
    cell = copy.deepcopy(cell)
    parameters = cell.parameters()
    for parameter in parameters.values():
        adopt(parameter, parameter.data.astype(np.float64) + 0.1 * rng.standard_normal(parameter.shape))
        renew(parameter)
    nest = initial_state(cell, N, "compare_handwritten")
    state = [0.5 * rng.standard_normal(part.shape) for part in flatten(nest)]
    D = getattr(cell, "input_size", None) or next(iter(parameters.values())).shape[0]
    xs, dhs = rng.standard_normal((N, T, D)), rng.standard_normal((N, T, state[0].shape[1]))
    layer = as_layer(handwritten, {name: parameter.data for name, parameter in parameters.items()})
    # A layer of a window returns only h, so no loss can depend on the rest of the last state.
    dlast = [0.0 * part if layer.whole else rng.standard_normal(part.shape) for part in state[1:]]
    if not layer.starts_from(state):
        state = [np.zeros_like(part) for part in state]
    return Automatic(cell, nest), layer, Window(xs, state, dhs, dlast)


def _located(result: QuantityResult, evaluation: HandwrittenEvaluation, judge: Judge) -> QuantityResult:
    """Return the result with the steps at which it is wrong."""
    name, window, T = result.name, evaluation.window, evaluation.window.xs.shape[1]
    if result.ok or T == 1 or judge.found.gradients[name].shape != result.shape:
        return result

    def is_wrong(expected: Array, actual: Array) -> bool:
        largest = float(np.abs(expected).max(initial=0.0))
        return not (np.abs(actual - expected) <= judge.tolerance.allowed(largest, largest, 1.0)).all()

    expected, actual = evaluation.expected.steps(name), evaluation.actual.steps(name)
    if expected is None:
        return result
    if actual is not None:
        steps = [t for t in range(T) if is_wrong(expected[t], actual[t])]
        if name in ("h", "dx") and 0 < len(steps) < T:
            t = steps[-1]
            looks = hint(expected[t], actual[t], {"N": len(actual[t])})
            result = replace(result, hint=f"at step {t}: {looks}" if looks else "")
        return replace(result, steps=tuple(steps), where=where(steps, T))
    for s in range(T):
        alone = window._replace(dhs=np.where(np.arange(T)[:, None] == s, window.dhs, 0))
        e, a = (side.run(alone).quantities[name] for side in (evaluation.automatic, evaluation.layer))
        if is_wrong(e, a):
            return replace(result, where=f"with a loss at step {s} alone" + (", and later" if s < T - 1 else ""))
    return result


def _repeated(layer: Layer, window: Window) -> list[str]:
    """Return the failures of a second run of the same layer."""
    code = copy.deepcopy(layer.code)
    first, second = (layer.run(window, code).quantities for _ in range(2))
    pairs = {name: (first[f"d{name}"], second[f"d{name}"]) for name in layer.weights}
    changed = [name for name, pair in pairs.items() if not np.array_equal(*pair, equal_nan=True)]
    if changed and all(np.allclose(pairs[name][1], 2 * pairs[name][0]) for name in changed):
        return ["grads accumulate: a second backward adds to those of the first; overwrite them (grads[0][...] = dWx)"]
    return [f"a second run of the same window gives a different gradient of {', '.join(changed)}"] if changed else []


def where(steps: list[int], T: int) -> str:
    """Return the wrong steps of a window in words, in the order of the backward pass."""
    if len(steps) == T or not steps:
        return "at every step" if steps else ""
    last, right = steps[-1], T - len(steps)
    if len(steps) == 1 and last in (0, T - 1):
        return f"at the {'last' if last else 'first'} step only (t = {last})"
    if steps == list(range(len(steps))):
        return f"from step {last} back; the last {f'{right} are' if right > 1 else 'one is'} right"
    return f"first at step {last}, going backward; wrong: {', '.join(map(str, steps))}"
