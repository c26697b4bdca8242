"""Causes of a wrong gradient of a leaf: an ineffective cut, a result used as a constant, a different mask."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

from ...engine.tape import Array, Node, enable_grad
from ...engine.walk import pull_back
from ...errors import ConfigError
from ...truncation import Full, Policy
from ..oracles import STEP
from ..targets.backward import BackwardPass, Place
from ..targets.base import Evaluation
from ..targets.function import FunctionEvaluation
from ..targets.handwritten import HandwrittenEvaluation
from ..targets.truncated import Recurrence, TruncatedEvaluation
from .handwritten import gates_hint
from .hints import hint

_MOST_CUTS = 20  # that are opened one at a time
_MOST_STEPS = 40  # up to which other masks are tried

Recorded = list[tuple[Node, tuple[Array, ...]]]
"""Every recorded node, with the arrays that it computed."""


def explained(evaluation: Evaluation, name: str, expected: Array, actual: Array) -> str:
    """Return how a wrong gradient of a leaf differs from the oracle's, and the cause, or ""."""
    sizes, why = evaluation.target.sizes, ""
    if isinstance(evaluation, HandwrittenEvaluation):
        return gates_hint(expected, actual, evaluation.expected.hs.shape[2], sizes)
    if isinstance(evaluation, FunctionEvaluation):
        recorded: Recorded = []
        found = evaluation.gradient(lambda node, outputs: recorded.append((node, outputs)))
        why = _opened_cut(found, recorded, name, expected, actual) or _used_as_constant(found, recorded)
    elif isinstance(evaluation, TruncatedEvaluation):
        why = _other_mask(evaluation, name, actual)
    return "; ".join(filter(None, (hint(expected, actual, sizes), why)))


def _opened_cut(found: BackwardPass, recorded: Recorded, name: str, expected: Array, actual: Array) -> str:
    """Return which cut, if it were open, would turn the expected gradient into the actual one."""
    cuts = found.cuts[::-1]
    if not 0 < len(cuts) <= _MOST_CUTS or name not in found.places:
        return ""
    computed = {node.id: outputs for node, outputs in recorded}
    leaf = found.places[name]
    near = 1e-8 * max(float(np.abs(expected).max()), float(np.abs(actual).max()))
    for number, node in enumerate(cuts, 1):
        before = _before(node, computed)
        with enable_grad():
            arriving = pull_back(found.seeds, [(node, 0)]).get((node, 0))
            if before is None or arriving is None:
                continue
            kept_back = (1 - node.attrs["scale"]) * arriving
            through = pull_back([(before, kept_back)], [leaf]).get(leaf)
        if through is None or not through.any():
            continue
        if np.abs(expected + through - actual).max() <= near:
            return f"equals the gradient with cut {number} of {len(cuts)} open (recorded at {node.where()})"
    return ""


def _before(cut: Node, computed: dict[int, tuple[Array, ...]]) -> Place | None:
    """Return the edge that a cut goes back to; a closed cut knows the node, and the values say which output."""
    if cut.edges:
        return cut.edges[0]
    past = cut.past() if cut.past is not None else None
    if past is None:
        return None
    outputs, value = computed.get(past.id, ()), computed[cut.id][0].tobytes()
    return (past, next((index for index, output in enumerate(outputs) if output.tobytes() == value), 0))


def _used_as_constant(found: BackwardPass, recorded: Recorded) -> str:
    """Return which result of the graph enters another operation as a constant, as x.data does."""
    known = {
        (output.shape, output.tobytes()): node
        for node, outputs in reversed(recorded)
        for output in outputs
        if output.any()
    }
    for node in reversed(found.nodes):
        for edge, value in zip(node.edges, node.inputs, strict=True):
            if edge is None and isinstance(value, np.ndarray) and node.name != "where":
                source = known.get((value.shape, value.tobytes()))
                if source is not None and source.id < node.id:
                    return (
                        f"the result of {source.name} (recorded at {source.where()}) enters {node.name} (recorded at "
                        f"{node.where()}) as a constant, so no gradient passes there: use cut(x), not x.data, if that "
                        "is meant"
                    )
    return ""


def _other_mask(evaluation: TruncatedEvaluation, name: str, actual: Array) -> str:
    """Return a mask with which the gradient under test would be right."""
    recurrence = evaluation.recurrence
    if recurrence.sizes["T"] > _MOST_STEPS or name in recurrence.first_state:
        return ""
    us = np.random.default_rng(0).standard_normal((2, *actual.shape))
    try:
        credits = TruncatedEvaluation(recurrence, False, evaluation.target, np.float64).credits(name, us, STEP)
    except ConfigError:  # a step that needs the whole sequence at once
        return ""
    claimed = np.array([float(np.sum(actual * u)) for u in us])
    near = 1e-8 * np.abs(credits).sum(axis=(1, 2))
    for M, meaning in _suspected_masks(recurrence):
        counted = np.where(M != 0, credits, 0) * M  # a credit that does not count may be infinite
        if (np.abs(counted.sum(axis=(1, 2)) - claimed) <= near).all():
            return f"equals the gradient {meaning}"
    return ""


def _suspected_masks(recurrence: Recurrence) -> Iterator[tuple[Array, str]]:
    """Yield masks that might have been carried out instead of the policy's, and what each would mean."""
    ours, policy = recurrence.mask, recurrence.policy
    T = len(ours)
    if type(policy).mask is not Policy.mask:
        yield Policy.mask(copy.deepcopy(policy), T), "of the mask that the policy's scale gives, not its mask"
    for k in range(1, T):
        opened, closed = ours.copy(), ours.copy()
        opened[k:, :k] = np.outer(ours[k:, k], ours[k - 1, :k])
        closed[k:, :k] = 0
        yield opened, f"with the cut at edge {k} (before step {k}) open"
        yield closed, f"with edge {k} (before step {k}) cut"
    yield np.eye(T), "with every edge cut: is the state used as x.data?"
    yield Full().mask(T), "of full BPTT: nothing is cut"
