"""Common mistakes in a hand-written backward pass, recognized from the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from ...engine.tape import Array
from ..targets.handwritten import Automatic, ByHandError, Layer, Pass, Window, state_names
from .hints import hint

_NEAR = 1e-8


def gates_hint(expected: Array, actual: Array, H: int, sizes: Mapping[str, int]) -> str:
    """Describe a difference gate by gate: `hint` for arrays (..., G * H) whose columns are blocks of H.

    >>> gates_hint(np.arange(8.0), np.array([2.0, 3, 0, 1, 4, 5, 6, 7]), 2, {})
    'gate blocks 0 and 1 of 4 are swapped'
    """
    count, rest = divmod(expected.shape[-1] if expected.ndim else 0, H)
    if rest or count < 2 or not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        return hint(expected, actual, sizes)
    near = _NEAR * float(np.abs(expected).max())
    es, found = np.split(expected, count, -1), np.split(actual, count, -1)
    source = [next((k for k, e in enumerate(es) if np.abs(a - e).max() <= near), None) for a in found]
    moved = [k for k, where in enumerate(source) if where not in (k, None)]
    if set(source) == set(range(count)) and len(moved) == 2:
        return f"gate blocks {moved[0]} and {moved[1]} of {count} are swapped"
    if set(source) == set(range(count)) and moved:
        return f"gate blocks are in the order {source}"
    wrong = [k for k, (e, a) in enumerate(zip(es, found, strict=True)) if np.abs(a - e).max() > 1e-3 * near]
    if len(wrong) == count:
        return hint(expected, actual, sizes)
    inner = hint(np.concatenate([es[k] for k in wrong], -1), np.concatenate([found[k] for k in wrong], -1), sizes)
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
    x, h = window.xs[:1, 0], window.state[0][:1]
    alone = Window(
        window.xs[:1, :1],
        [part[:1] for part in window.state],
        window.dhs[:1, :1],
        [np.zeros_like(part[:1]) for part in window.dlast],
    )
    names = [next((n for n in layer.weights if n.rpartition(".")[2] == letter), "") for letter in ("Wx", "Wh", "b")]
    if not all(names):
        return []
    Wx, Wh, b = (layer.weights[name] for name in names)
    if b.ndim != 1 or Wx.shape != (x.shape[1], b.size) or Wh.shape != (h.shape[1], b.size):
        return []
    expected, actual = automatic.run(alone), layer.run(alone)
    da, found = expected.gradients[names[2]], actual.gradients[names[2]]
    if found.shape != da.shape or not found.any():
        return []
    after = [part[0] for part in expected.last if part is not None]
    lines = _derivatives((x @ Wx + h @ Wh + b)[0], da, found, after, h.shape[1])
    return [*lines, *_products(found, h, expected.hs[:, 0], actual, actual.gradients[names[1]], Wx, Wh)]


def _products(da: Array, before: Array, after: Array, actual: Pass, dWh: Array, Wx: Array, Wh: Array) -> Iterator[str]:
    """Yield each product with da that uses a wrong factor."""
    if dWh.shape == Wh.shape and _same(dWh, after.T @ da[None]) and not _same(after, before):
        yield "dWh uses the state after the step, not the one before it; dWh = h_prev' @ da"
    for name, dv, W in (("dh", actual.dstate[0], Wh), ("dx", actual.dxs[:, 0], Wx)):
        if W.shape[0] == W.shape[1] and _same(dv, da[None] @ W) and not _same(dv, da[None] @ W.T):
            yield f"{name} is da @ W{name[1]}; it must be da @ W{name[1]}', with W{name[1]} transposed"


def _derivatives(a: Array, da: Array, found: Array, after: Sequence[Array], H: int) -> list[str]:
    """Return which derivative of an activation is missing or applied twice, and in which gates."""
    s = 0.5 * (np.tanh(0.5 * a) + 1)
    factors = {
        "the derivative of tanh, 1 - tanh(a)^2,": 1 - np.tanh(a) ** 2,
        "the derivative of the sigmoid, s * (1 - s),": s * (1 - s),
    }
    if after and after[0].shape == (H,):
        factors["the derivative of tanh(c), 1 - tanh(c)^2,"] = np.tile(1 - np.tanh(after[0]) ** 2, a.size // H)
    lines = []
    for what, factor in factors.items():
        for kind, off in (("is missing", found * factor - da), ("is taken twice", found - da * factor)):
            near = _NEAR * np.abs(da).max()
            close = [bool((np.abs(part) <= near).all()) for part in np.split(off, a.size // H)]
            right = [bool((np.abs(part) <= near).all()) for part in np.split(found - da, a.size // H)]
            blocks = [k for k, (c, r) in enumerate(zip(close, right, strict=True)) if c and not r]
            if blocks:
                lines.append(f"{what} {kind}" + (f" {_blocks(blocks, len(close))}" if len(close) > 1 else ""))
    return lines


def _over_time(automatic: Automatic, layer: Layer, window: Window, wrong: Wrong) -> list[str]:
    """Find what a later step failed to send back, if one step is right but a window is not."""
    T, state = window.xs.shape[1], window.state
    step = wrong.get("dx")
    if step is None:
        return [f"one step by itself is right: look at how the loop adds up {', '.join(wrong)}"]
    if step < T - 1:
        head = window.until(step + 1)._replace(dlast=[np.zeros_like(part) for part in window.dlast])
        before = automatic.run(head)
        middle = [before.hs[:, -1], *(part for part in before.last if part is not None)]
        sent = automatic.run(Window(window.xs[:, step + 1 :], middle, window.dhs[:, step + 1 :], window.dlast)).dstate
        actual = layer.run(window).dxs[:, step]
        names = state_names(len(state))
        for count in range(1, len(state) + 1):
            for lost in combinations(range(len(state)), count):
                kept = [np.zeros_like(state[k]) if k in lost or part is None else part for k, part in enumerate(sent)]
                dhs = np.array(head.dhs)
                dhs[:, -1] += kept[0]
                if _same(actual, automatic.run(head._replace(dhs=dhs, dlast=kept[1:])).dxs[:, step]):
                    parts = " and ".join(names[k] for k in lost)
                    return [f"what step {step + 1} sends back to {parts} of step {step} is lost"]
    return [f"one step by itself is right: look at what the loop over time does at step {step}"]


def _same(actual: Array | None, expected: Array) -> bool:
    if actual is None or actual.shape != expected.shape:
        return False
    return bool(np.abs(actual - expected).max(initial=0.0) <= _NEAR * np.abs(expected).max(initial=0.0))


def _blocks(blocks: Sequence[int], count: int) -> str:
    return f"in gate block{'s' if len(blocks) > 1 else ''} {', '.join(map(str, blocks))} of {count}"
