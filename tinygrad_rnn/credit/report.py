"""What the parameters of a step reach: the pattern of the influence of `RTRL` and `SnAp`, in numbers and a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..checks import integer
from ..engine.tape import Array
from ..engine.tensor import Tensor, shape_of
from ..engine.tree import flatten, map_leaves
from ..errors import ShapeError
from ..files import new_figure, write_figure
from .influence import Influence
from .moves import Moves
from .nests import arrays_of, check_kept, floats, fresh_leaf, leaves_of, loss_and_state, steps_of
from .pattern import StepPattern
from .record import StepRecord
from .update import Step


@dataclass(frozen=True)
class InfluencePattern:
    """Which entries of J = dh/dtheta can be other than zero after some steps, for one stream.

    Attributes:
        steps: steps after which; None: however many.
        reached: name of a parameter to booleans (n, *shape): which of the n numbers of state each element reaches.
        kept: the same, for the entries that are kept; the others follow from them (an LSTM's h from its c).
        factors: number of factors by which they follow, which are kept too.
        is_complete: whether more steps reach nothing more, so that `SnAp(steps)` is `RTRL`.
        nbytes: bytes of what is kept for a stream, entries and factors.
    """

    steps: int | None
    reached: dict[str, Array]
    kept: dict[str, Array]
    factors: int
    is_complete: bool
    nbytes: int

    @property
    def entries(self) -> int:
        """Number of entries that are kept for a stream."""
        return sum(int(np.count_nonzero(kept)) for kept in self.kept.values())

    @property
    def full(self) -> int:
        """Number of entries of J without a pattern, n * P."""
        return sum(reached.size for reached in self.reached.values())

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {reached.shape[1:]}" for name, reached in self.reached.items())
        kept = f"{self.entries:,} of {self.full:,} entries are kept, {self.nbytes:,} bytes"
        return f"<InfluencePattern after {self._when}: {kept}: {shapes}>"

    @property
    def _when(self) -> str:
        return "however many steps" if self.steps is None else f"{self.steps} step{'s' * (self.steps != 1)}"

    def table(self) -> str:
        """Return the pattern as text: for each parameter its size, and how many units an element of it reaches."""
        lines = [f"Entries of dh/dtheta that can be other than zero after {self._when}, for one stream", ""]
        wide = max([9, *map(len, self.reached)])
        lines.append(f"{'parameter':<{wide}}  {'elements':>9}  {'units reached':>13}  {'kept':>10}  of all")
        for name, reached in self.reached.items():
            counts = np.count_nonzero(reached, axis=0)
            low, high = int(counts.min(initial=len(reached))), int(counts.max(initial=0))
            units = f"{low}" if low == high else f"{low} to {high}"
            kept = int(np.count_nonzero(self.kept[name]))
            lines.append(
                f"{name:<{wide}}  {math.prod(reached.shape[1:]):>9,}  {units:>13}  {kept:>10,}  "
                f"{kept / max(reached.size, 1):6.1%}"
            )
        factors = f" and {self.factors:,} factors" if self.factors else ""
        lines += ["", f"{self.entries:,} of {self.full:,} entries{factors} are kept, {self.nbytes:,} bytes."]
        if more := sum(map(np.count_nonzero, self.reached.values())) - self.entries:
            lines.append(f"{more:,} follow by the factors, from one part of the state to another on elements alone.")
        if self.is_complete:
            lines.append("More steps reach nothing more: on this pattern RTRL is exact.")
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the pattern, a row for each unit of the state and a column for each element of a parameter.

        Args:
            path: file to write; its ending chooses the format.

        Raises:
            ImportError: if matplotlib, the extra tinygrad_rnn[plot], is not there.
            OSError: if the file cannot be written.
        """
        shades = [np.where(self.kept[name], 1.0, 0.4 * reached) for name, reached in self.reached.items()]
        columns = np.concatenate([shade.reshape(len(shade), -1) for shade in shades], axis=1)
        figure = new_figure("InfluencePattern.plot", 9, 3.2)
        axes = figure.subplots()
        axes.imshow(columns, aspect="auto", cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
        borders = np.cumsum([0, *(math.prod(reached.shape[1:]) for reached in self.reached.values())])
        for border in borders[1:-1]:
            axes.axvline(border - 0.5, color="#666666", linewidth=0.8)
        axes.set_xticks((borders[1:] + borders[:-1]) / 2 - 0.5, list(self.reached))
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("unit of the state")
        axes.set_xlabel("element of the parameter")
        follow = sum(map(np.count_nonzero, self.reached.values())) - self.entries
        more = f", {follow:,} follow from them (pale)" if follow else ""
        axes.set_title(
            f"dh/dtheta within {self._when}: {self.entries:,} of {self.full:,} entries are kept{more}", fontsize=10
        )
        write_figure(path, figure, dpi=150)


def influence_pattern(
    step: Step, parameters: Mapping[str, Tensor], inputs: object, state: object, steps: int | None = 1
) -> InfluencePattern:
    """Return which units of the state each element of the parameters can reach, found from a recorded step.

    It follows from the operations, not from their values: `SnAp(steps)` carries these entries, and `RTRL` those for any
    number of steps. Parameters that reach no unit, those of an output layer, are left out.

    Args:
        step: as in `Recurrence`.
        parameters: name to leaf Tensor.
        inputs: arrays (N, T, ...), or any nesting of them; the first step of the first stream counts.
        state: before the first step.
        steps: number of steps, 1 or more; None: any number.

    Raises:
        ConfigError: if `steps` is below 1.
        ShapeError: if the state has no parts, or inputs have no steps.
        GradientError: as `Recurrence`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.IndRNNCell(3, 4, np.random.default_rng(0))
    >>> def step(xs, state):
    ...     outputs, state = tr.unroll(cell, xs, state)
    ...     return np.sum(outputs), state
    >>> found = influence_pattern(step, cell.parameters(), np.ones((1, 1, 3), np.float32), cell.initial_state(1))
    >>> found.entries, found.full, found.is_complete
    (20, 80, True)
    """
    steps = None if steps is None else integer("influence_pattern", "steps", steps)
    if not steps_of(inputs) or not floats(state):
        raise ShapeError("influence_pattern: expected inputs (N, T, ...) with T >= 1, and a state with a float array")
    named = leaves_of(parameters, "influence_pattern")
    N = shape_of(flatten(inputs)[0])[0]
    alone = map_leaves(lambda part: part[:1] if shape_of(part)[:1] == (N,) else part, arrays_of(state))
    before = map_leaves(fresh_leaf, alone)
    loss, after = loss_and_state(step(map_leaves(lambda x: x[:1, :1], inputs), before), "influence_pattern")
    check_kept("influence_pattern", before, after)
    jacobian = StepRecord(loss, before, after, named, Moves()).jacobian
    shapes = {name: parameter.shape for name, parameter in named.items()}
    pattern = StepPattern.of(jacobian, shapes)
    found, whole = pattern.spread(steps), pattern.spread(None)
    kept = {name: np.broadcast_to(part, (len(part), *shapes[name])) for name, part in found.items() if part.any()}
    reached = {
        name: np.broadcast_to(found[name] | pattern.following(found[name]), part.shape) for name, part in kept.items()
    }
    complete = all(np.array_equal(found[name], whole[name]) for name in found)
    influence = Influence(pattern.blocks(steps), shapes, jacobian.sizes, 1)
    nbytes = influence.nbytes({name: parameter.dtype for name, parameter in named.items()})
    return InfluencePattern(steps, reached, kept, influence.factors, complete, nbytes)
