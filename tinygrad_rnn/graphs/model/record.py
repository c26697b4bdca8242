"""The recording of a model or a cell on an example, one step at a time, so that each has a column of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np

from ...checks import integer, spread
from ...credit.forward import ForwardPolicy
from ...engine.tape import Array, Node, enable_grad, watching
from ...engine.tensor import Tensor
from ...errors import ConfigError, DrawingError
from ...truncation import Policy, parse_policy, policy_text, started
from .credit import Credit, carry_forward
from .graph import Graph, Pass, Place, read
from .steps import Scales, Steps, run_whole, steps_of


def record(
    target: object, example: Sequence[object], truncation: Policy | str | None = None, cut_every: int | None = None
) -> Graph:
    """Return the graph of a target; see `draw` for what a target can be.

    Raises:
        DrawingError: if the target cannot be drawn, its example is missing, or cuts are requested in a graph that has
            already been recorded.
        ConfigError: if `truncation` is not a policy, or `cut_every` is not an integer of 1 or more.
    """
    if truncation is not None and cut_every is not None:
        raise DrawingError("draw: pass truncation= or cut_every=, not both")
    losses = [target] if isinstance(target, Tensor) else target
    if isinstance(losses, list | tuple) and losses and all(isinstance(loss, Tensor) for loss in losses):
        if example or truncation is not None or cut_every is not None:
            raise DrawingError(
                "draw: a loss has already been recorded, so example, truncation and cut_every have no effect; pass a "
                "model or a cell with an example, or call cut() where you want cuts when you record the loss"
            )
        return read(list(losses))
    if not (callable(target) or hasattr(target, "loss")) or not example:
        raise DrawingError(
            f"draw: expected a loss (a Tensor), several losses, or a model or cell with an example, such as "
            f"draw(model, ids, targets) or draw(cell, xs); got {type(target).__name__} and {len(example)} arguments"
        )
    target = cast("Callable[..., object]", target)
    example = spread(getattr(target, "loss", target), example)
    policy = None if truncation is None else started(parse_policy(truncation, argument="draw: truncation"))
    names: Mapping[str, Tensor] = target.parameters() if hasattr(target, "parameters") else {}
    nodes: list[Node] = []
    values: dict[Place, Array] = {}

    def look(node: Node, outputs: tuple[Array, ...]) -> None:
        nodes.append(node)
        values.update(((node, index), output) for index, output in enumerate(outputs))

    steps, windows = steps_of(target, example), list[_Window]()
    with watching(look), enable_grad():
        found = run_whole(target, example) if steps is None else [steps.run(_scales(policy, cut_every, windows), {})]
    passes = () if steps is None else tuple(_pass(steps, window, nodes) for window in windows)
    graph = read(found, values, names, passes)
    credit, notes = _credit(policy, target, steps, names), _notes(policy, truncation, cut_every)
    if steps is not None:
        graph = replace(graph, sequence=steps.sequence, initial=steps.initial)
    return replace(graph, credit=credit, notes=notes)


def _credit(policy: Policy | None, target: object, steps: Steps | None, names: Mapping[str, Tensor]) -> Credit | None:
    """Return what a policy carries forward; None: nothing."""
    if not isinstance(policy, ForwardPolicy):
        return None
    if steps is None or not names:
        raise DrawingError(
            f"draw: {policy!r} carries credit from step to step, so it needs a model or cell that has parameters() "
            f"and runs step by step; got {type(target).__name__}"
        )
    return carry_forward(policy, steps.loss, steps.T, steps.state, names)


class _Window(NamedTuple):
    """A backward pass: the steps of its losses, begin to end - 1, and the factor of the cut before each step."""

    begin: int
    end: int
    scales: list[float | None]


def _pass(steps: Steps, window: _Window, nodes: Sequence[Node]) -> Pass:
    """Run the steps once more, with the cuts of one pass; `nodes` are those of the first recording, in order."""
    again: list[Node] = []
    terms: dict[int, Tensor] = {}
    with watching(lambda node, _: again.append(node)), enable_grad():
        steps.run(lambda _: window.scales, terms)
    seeds = [(part.node, part.index) for t, part in terms.items() if window.begin <= t < window.end and part.node]
    closed = frozenset(t for t, scale in enumerate(window.scales) if scale == 0 and t < window.end)
    return Pass(tuple(seeds), dict(zip(again, nodes, strict=True)), closed, window.end)


def _scales(policy: Policy | None, cut_every: int | None, windows: list[_Window]) -> Scales:
    """Return the factors of the cuts in the drawn graph.

    If the windows of a policy's passes overlap, no cut is closed, and the passes are put into `windows`.
    """
    if cut_every is not None:
        interval = integer("draw", "cut_every", cut_every)
        return lambda T: [0.0 if t and t % interval == 0 else None for t in range(T)]
    if policy is None:
        return lambda T: [None] * T
    if isinstance(policy, ForwardPolicy):  # nothing goes back from step to step
        return lambda T: [None, *[0.0] * (T - 1)]

    def scales(T: int) -> Sequence[float | None]:
        factors, begin = policy.factors(T), 0
        if len(policy.passes(T)) > 1 and not np.allclose(policy.mask(T), _mask(factors)):
            for end in policy.passes(T):
                own = [*policy.factors(end, begin), *[1.0] * (T - end)]
                windows.append(_Window(begin, end, [None, *own[1:]]))
                begin = end
            return [None, *[1.0] * (T - 1)]
        return [None if factor == 1 else factor for factor in factors]

    return scales


def _mask(factors: Sequence[float]) -> Array:
    """Return the factor on the gradient of each loss (row) at each step (column), given those of the cuts."""
    M = np.tri(len(factors))
    for edge, factor in enumerate(factors):
        M[edge:, :edge] *= factor
    return M


def _notes(policy: Policy | None, truncation: Policy | str | None, cut_every: int | None) -> tuple[str, ...]:
    if isinstance(policy, ForwardPolicy):
        return (f"credit carried forward by {policy!r}", "lines: the gradient within each step")
    if cut_every is not None:
        return (f"cut every {cut_every} step{'s' * (cut_every != 1)}",)
    return () if truncation is None else (f"truncation {policy_name(truncation)}",)


def policy_name(policy: Policy | str) -> str:
    """Return the name of a policy: its text, or the name of its class if that is the user's own."""
    try:
        return policy if isinstance(policy, str) else policy_text(policy)
    except ConfigError:
        return type(policy).__name__
