"""Causes of a wrong gradient: of a leaf, and of a quantity of a hand-written backward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations

import numpy as np

from ...engine.tape import Array, Node, enable_grad, watching
from ...engine.tree import map_leaves
from ...engine.walk import pull_back
from ...errors import ConfigError
from ...truncation import Full, Policy
from ..oracles import STEP
from ..targets.backward import BackwardPass, Place
from ..targets.base import Evaluation
from ..targets.function import FunctionEvaluation
from ..targets.handwritten import Automatic, ByHandError, HandwrittenEvaluation, Layer, Window, state_names
from ..targets.truncated import Recurrence, TruncatedEvaluation
from .hints import hint, order_of

_MOST_CUTS = 20  # that are opened one at a time
_MOST_STEPS = 40  # up to which other masks are tried
_NEAR = 1e-8  # relative, between two gradients that should be equal

Recorded = dict[Node, tuple[Array, ...]]
"""Every recorded node, with the arrays that it computed."""


def explained(evaluation: Evaluation, name: str, expected: Array, actual: Array) -> str:
    """Return how a wrong gradient of a leaf differs from the oracle's, and the cause, or ""."""
    sizes, why = evaluation.target.sizes, ""
    if isinstance(evaluation, HandwrittenEvaluation):
        return gates_hint(expected, actual, evaluation.window.units, sizes)
    if isinstance(evaluation, FunctionEvaluation):
        recorded: Recorded = {}
        with watching(recorded.__setitem__):
            found = evaluation.gradient()
        why = _opened_cut(found, recorded, name, expected, actual) or _used_as_constant(found, recorded)
    elif isinstance(evaluation, TruncatedEvaluation):
        why = _other_mask(evaluation, name, actual)
    return "; ".join(filter(None, (hint(expected, actual, sizes), why)))


def _opened_cut(found: BackwardPass, recorded: Recorded, name: str, expected: Array, actual: Array) -> str:
    """Return which cut, if it were open, would turn the expected gradient into the actual one."""
    cuts = found.cuts[::-1]
    if not 0 < len(cuts) <= _MOST_CUTS or name not in found.places:
        return ""
    leaf = found.places[name]
    near = _NEAR * max(float(np.abs(expected).max()), float(np.abs(actual).max()))
    for number, node in enumerate(cuts, 1):
        before = _before(node, recorded)
        with enable_grad():
            arriving = pull_back(found.seeds, [(node, 0)]).get((node, 0))
            if before is None or arriving is None:
                continue
            kept_back = (1 - node.attrs["scale"]) * arriving
            through = pull_back([(before, kept_back)], [leaf]).get(leaf)
        if through is not None and through.any() and np.abs(expected + through - actual).max() <= near:
            return f"equals the gradient with cut {number} of {len(cuts)} open (recorded at {node.where()})"
    return ""


def _before(cut: Node, recorded: Recorded) -> Place | None:
    """Return the edge that a cut goes back to; a closed cut knows the node, and the values say which output."""
    if cut.edges:
        return cut.edges[0]
    past = cut.past() if cut.past is not None else None
    if past is None:
        return None
    outputs, value = recorded.get(past, ()), recorded[cut][0].tobytes()
    return (past, next((index for index, output in enumerate(outputs) if output.tobytes() == value), 0))


def _used_as_constant(found: BackwardPass, recorded: Recorded) -> str:
    """Return which result of the graph enters another operation as a constant, as x.data does."""
    known = {
        (output.shape, output.tobytes()): node
        for node, outputs in reversed(recorded.items())
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
    near = _NEAR * np.abs(credits).sum(axis=(1, 2))
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


def gates_hint(expected: Array, actual: Array, H: int, sizes: Mapping[str, int]) -> str:
    """Describe a difference gate by gate: `hint` for arrays (..., G * H) whose columns are blocks of H.

    >>> gates_hint(np.arange(8.0), np.array([2.0, 3, 0, 1, 4, 5, 6, 7]), 2, {})
    'gate blocks 0 and 1 of 4 are swapped'
    """
    count, rest = divmod(expected.shape[-1] if expected.ndim else 0, H)
    if rest or count < 2 or not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        return hint(expected, actual, sizes)
    near = _NEAR * float(np.abs(expected).max())
    es, found = (np.stack(np.split(g, count, -1)) for g in (expected, actual))
    order = order_of(es, found, near)
    moved = [k for k, source in enumerate(order) if source != k]
    if len(moved) == 2:
        return f"gate blocks {moved[0]} and {moved[1]} of {count} are swapped"
    if moved:
        return f"gate blocks are in the order {order}"
    wrong = [k for k in range(count) if np.abs(found[k] - es[k]).max() > 1e-3 * near]
    if len(wrong) == count:
        return hint(expected, actual, sizes)
    inner = hint(np.concatenate(es[wrong], -1), np.concatenate(found[wrong], -1), sizes)
    return f"{_blocks(wrong, count)} only" + (f": {inner}" if inner else "")


Wrong = Mapping[str, int | None]
"""The wrong quantities of a run, each with the step at which the error first appears in the backward pass, or None."""


def causes(automatic: Automatic, layer: Layer, window: Window, in_one_step: Wrong, over_time: Wrong) -> list[str]:
    """Return the possible mistakes, given what is wrong in a run of one step and in one over the window."""
    forward = sorted({name for name in (*in_one_step, *over_time) if not name.startswith("d")})
    if forward:
        return [
            f"the forward pass gives a different {' and '.join(forward)}: make it equal first; what is compared now is "
            "the backward pass of a different function"
        ]
    try:
        if in_one_step:
            return _in_one_step(automatic, layer, window)
        return _over_time(automatic, layer, window, over_time) if over_time else []
    except ByHandError:
        return []


def _in_one_step(automatic: Automatic, layer: Layer, window: Window) -> list[str]:
    """Examine one sequence with a loss on h alone: then db is the gradient of the sum a = x @ Wx + h @ Wh + b."""
    first: Window = map_leaves(lambda part: part[:1], window.until(1))
    alone = first._replace(dlast=[np.zeros_like(part) for part in first.dlast])
    x, h, H = alone.xs[:, 0], alone.state[0], alone.units
    names = [next((n for n in layer.weights if n.rpartition(".")[2] == letter), "") for letter in ("Wx", "Wh", "b")]
    if not all(names):
        return []
    Wx, Wh, b = (layer.weights[name] for name in names)
    if b.ndim != 1 or b.size % H or Wx.shape != (x.shape[1], b.size) or Wh.shape != (h.shape[1], b.size):
        return []
    expected, actual = automatic.run(alone).quantities, layer.run(alone).quantities
    da, found = (side[f"d{names[2]}"] for side in (expected, actual))
    if found.shape != da.shape or not found.any():
        return []
    lines = _derivatives((x @ Wx + h @ Wh + b)[0], da, found, expected.get("c"), H)
    # Each product with da that uses a wrong factor.
    dWh, after = actual[f"d{names[1]}"], expected["h"][:, 0]
    if dWh.shape == Wh.shape and _same(dWh, after.T @ found[None]) and not _same(after, h):
        lines.append("dWh uses the state after the step, not the one before it; dWh = h_prev' @ da")
    for name, dv, W in (("dh", actual.get("dh"), Wh), ("dx", actual["dx"][:, 0], Wx)):
        if W.shape[0] == W.shape[1] and _same(dv, found[None] @ W) and not _same(dv, found[None] @ W.T):
            lines.append(f"{name} is da @ W{name[1]}; it must be da @ W{name[1]}', with W{name[1]} transposed")
    return lines


def _derivatives(a: Array, da: Array, found: Array, c: Array | None, H: int) -> list[str]:
    """Return which derivative of an activation is missing or applied twice, and in which gates."""
    s = 0.5 * (np.tanh(0.5 * a) + 1)
    factors = {
        "the derivative of tanh, 1 - tanh(a)^2,": 1 - np.tanh(a) ** 2,
        "the derivative of the sigmoid, s * (1 - s),": s * (1 - s),
    }
    if c is not None and c.shape == (1, H):
        factors["the derivative of tanh(c), 1 - tanh(c)^2,"] = np.tile(1 - np.tanh(c[0]) ** 2, a.size // H)
    near, lines = _NEAR * np.abs(da).max(), []
    for what, factor in factors.items():
        for kind, off in (("is missing", found * factor - da), ("is taken twice", found - da * factor)):
            close, right = (np.abs(part.reshape(-1, H)).max(axis=1) <= near for part in (off, found - da))
            blocks = np.flatnonzero(close & ~right).tolist()
            if blocks:
                lines.append(f"{what} {kind}" + (f" {_blocks(blocks, len(close))}" if len(close) > 1 else ""))
    return lines


def _over_time(automatic: Automatic, layer: Layer, window: Window, wrong: Wrong) -> list[str]:
    """Find what a later step failed to send back, if one step is right but a window is not."""
    step, names = wrong.get("dx"), state_names(len(window.state))
    if step is None:
        return [f"one step by itself is right: look at how the loop adds up {', '.join(wrong)}"]
    if step < window.xs.shape[1] - 1:
        head = window.until(step + 1)._replace(dlast=[np.zeros_like(part) for part in window.dlast])
        before = automatic.run(head).quantities
        middle = [before["h"][:, -1], *(before[name] for name in names[1:])]
        rest = Window(window.xs[:, step + 1 :], middle, window.dhs[:, step + 1 :], window.dlast)
        sent = automatic.run(rest).quantities
        actual = layer.run(window).quantities["dx"][:, step]
        for lost in chain.from_iterable(combinations(names, count) for count in range(1, len(names) + 1)):
            dh, *dlast = (0 * sent[f"d{name}"] if name in lost else sent[f"d{name}"] for name in names)
            dhs = np.concatenate([head.dhs[:, :-1], head.dhs[:, -1:] + dh[:, None]], axis=1)
            if _same(actual, automatic.run(head._replace(dhs=dhs, dlast=dlast)).quantities["dx"][:, step]):
                return [f"what step {step + 1} sends back to {' and '.join(lost)} of step {step} is lost"]
    return [f"one step by itself is right: look at what the loop over time does at step {step}"]


def _same(actual: Array | None, expected: Array) -> bool:
    near = _NEAR * np.abs(expected).max(initial=0.0)
    return actual is not None and actual.shape == expected.shape and np.allclose(actual, expected, rtol=0, atol=near)


def _blocks(blocks: Sequence[int], count: int) -> str:
    return f"in gate block{'s' if len(blocks) > 1 else ''} {', '.join(map(str, blocks))} of {count}"
