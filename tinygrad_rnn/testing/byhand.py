"""The two sides of `compare_handwritten`: a hand-written layer behind one interface, and the automatic gradient."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.autograd import grad
from ..engine.tape import Array
from ..engine.tensor import Tensor, tensor
from ..engine.tree import flatten, rebuild


class ByHandError(Exception):
    """The hand-written code raised an error, returned something of a wrong form, or changed what it was given."""


@dataclass
class Pass:
    """What one forward and one backward over a window gave.

    Attributes:
        hs: (N, T, H), the state h after each step.
        last: the other parts of the state after the last step; None if they are not to be had.
        dxs: (N, T, D).
        dstate: gradient of each part of the state before the first step; None where it is not to be had.
        gradients: parameter name to gradient, summed over the steps.
        parts: for each step, parameter name to its part of the gradient; None if they are not to be had.
    """

    hs: Array
    last: list[Array] | None
    dxs: Array
    dstate: list[Array | None]
    gradients: dict[str, Array]
    parts: list[dict[str, Array]] | None


class Automatic:
    """The automatic gradient of a cell, step by step.

    Args:
        cell: the cell; its state is an array or a nesting of them, h first.
        nest: a state, for its nesting.
    """

    def __init__(self, cell: Any, nest: Any) -> None:
        self.cell, self.nest = cell, nest
        self.parameters: dict[str, Tensor] = cell.parameters()

    def run(self, xs: Array, state: Sequence[Array], dhs: Array, dothers: Sequence[Array]) -> Pass:
        """Return the pass over xs (N, T, D) with dL/dh at each step, and dL/d(other parts) at the end."""
        steps, hs = [], []
        for t in range(xs.shape[1]):
            x, before = tensor(xs[:, t], requires_grad=True), [tensor(part, requires_grad=True) for part in state]
            after = flatten(self.cell(x, rebuild(self.nest, iter(before)))[1])
            state = [part.data for part in after]
            steps.append((x, before, after))
            hs.append(state[0])
        dxs, parts = [], []
        dstate: list[Any] = [np.zeros_like(dhs[:, 0]), *dothers]
        for t in reversed(range(xs.shape[1])):
            dstate[0] = dstate[0] + dhs[:, t]
            x, before, after = steps[t]
            dx, dstate, part = grad(after, [x, before, self.parameters], cotangent=dstate, allow_unused=True)
            dxs.append(dx)
            parts.append(part)
        total = {name: np.sum([part[name] for part in parts], axis=0) for name in self.parameters}
        return Pass(np.stack(hs, 1), list(state[1:]), np.stack(dxs[::-1], 1), dstate, total, parts[::-1])


class ByHand(ABC):
    """A hand-written layer.

    Args:
        layer: the object or functions; a copy is used.
        weights: parameter name to array, in the order of the cell.

    Attributes:
        whole: whether it goes over a whole window by itself.
    """

    whole = False

    def __init__(self, layer: Any, weights: Mapping[str, Array]) -> None:
        self.layer = copy.deepcopy(layer)
        self.weights = {name: np.array(value) for name, value in weights.items()}

    def fresh(self) -> ByHand:
        """Return another one that has not been run."""
        return type(self)(self.layer, self.weights)

    def starts_from(self, state: Sequence[Array]) -> bool:
        """Return whether it can start from a given state."""
        return True

    @abstractmethod
    def run(self, xs: Array, state: Sequence[Array], dhs: Array, dothers: Sequence[Array]) -> Pass:
        """Return the pass over a window, as `Automatic.run` does.

        Raises:
            ByHandError: if the hand-written code fails.
        """

    def _gradients(self) -> dict[str, Array]:
        grads = getattr(self.layer, "grads", None)
        if grads is None or len(grads) != len(self.weights):
            raise ByHandError(
                f"backward: expected the layer's grads to hold {len(self.weights)} arrays after it, for "
                f"{', '.join(self.weights)}, got {'none' if grads is None else len(grads)}"
            )
        return {name: np.array(g) for name, g in zip(self.weights, grads, strict=True)}


class Steps(ByHand):
    """A layer of one step: forward(x, *state) -> state, backward(*dstate) -> (dx, *dstate), params, grads."""

    def run(self, xs: Array, state: Sequence[Array], dhs: Array, dothers: Sequence[Array]) -> Pass:
        """Unroll the layer, with a copy of it for each step: what forward keeps for backward stays apart."""
        layers: list[Any] = [self, *(self.fresh() for _ in range(xs.shape[1] - 1))]
        count, hs = len(state), []
        for t, step in enumerate(layers):
            state = called("forward", step.layer.forward, [xs[:, t], *state], count)
            hs.append(state[0])
        dxs, parts = [], []
        dstate: list[Any] = [np.zeros_like(dhs[:, 0]), *dothers]
        for t in reversed(range(xs.shape[1])):
            dstate[0] = dstate[0] + dhs[:, t]
            dx, *dstate = called("backward", layers[t].layer.backward, dstate, 1 + count)
            dxs.append(dx)
            parts.append(layers[t]._gradients())
        return _joined(hs, state[1:], dxs, dstate, parts)


class Window(ByHand):
    """A layer of a window: forward(xs) -> hs, backward(dhs) -> dxs, params, grads; perhaps set_state, dh and dc."""

    whole = True

    def starts_from(self, state: Sequence[Array]) -> bool:
        """Return whether it can start from a given state, and let it."""
        try:
            self.layer.set_state(*map(np.array, state))
        except (AttributeError, ValueError, TypeError):
            return False
        return True

    def run(self, xs: Array, state: Sequence[Array], dhs: Array, dothers: Sequence[Array]) -> Pass:
        """Run the layer over the window; from zeros if it cannot start from a given state."""
        if not self.starts_from(state) and hasattr(self.layer, "reset_state"):
            self.layer.reset_state()
        (hs,) = called("forward", self.layer.forward, [xs], 1)
        (dxs,) = called("backward", self.layer.backward, [dhs], 1)
        first = [getattr(self.layer, name, None) for name in ("dh", "dc")[: len(state)]]
        dstate = [None if part is None else np.array(part) for part in first]
        return Pass(hs, None, dxs, dstate + [None] * (len(state) - len(dstate)), self._gradients(), None)


class Functions(ByHand):
    """A pair: forward(x, state, parameters) -> (state, cache) and backward(dstate, cache) -> (dx, dstate, gradients).

    state and dstate are tuples of arrays (N, H), h first; parameters and gradients are dicts with the cell's names.
    """

    def run(self, xs: Array, state: Sequence[Array], dhs: Array, dothers: Sequence[Array]) -> Pass:
        """Unroll the functions."""
        forward, backward = self.layer
        count = len(state)
        hs: list[Array] = []
        caches: list[Any] = []
        for t in range(xs.shape[1]):
            result = _guarded("forward", lambda x, *s: forward(x, s, self.weights), [xs[:, t], *state])
            state, cache = _unpacked("forward", result, ("state", "cache"))
            state = _arrays("forward", state, count)
            hs.append(state[0])
            caches.append(cache)
        dxs, parts = [], []
        dstate: list[Any] = [np.zeros_like(dhs[:, 0]), *dothers]
        for t in reversed(range(xs.shape[1])):
            dstate[0] = dstate[0] + dhs[:, t]
            result = _guarded("backward", lambda *d, cache=caches[t]: backward(d, cache), dstate)
            dx, dstate, gradients = _unpacked("backward", result, ("dx", "dstate", "gradients"))
            dstate = _arrays("backward", dstate, count)
            if not isinstance(gradients, Mapping) or set(gradients) != set(self.weights):
                raise ByHandError(f"backward: expected gradients to be a dict with the keys {list(self.weights)}")
            dxs.append(np.array(dx))
            parts.append({name: np.array(gradients[name]) for name in self.weights})
        return _joined(hs, state[1:], dxs, dstate, parts)


def state_names(count: int) -> tuple[str, ...]:
    """Return names for the parts of a state: h, c, and then numbers.

    >>> state_names(3)
    ('h', 'c', 'state2')
    """
    return ("h", "c", *(f"state{k}" for k in range(2, count)))[:count]


def by_hand(handwritten: Any, weights: Mapping[str, Array]) -> ByHand:
    """Return a hand-written layer with the given weights behind the one interface.

    Raises:
        TypeError: if it is none of what `compare_handwritten` takes.
        ValueError: if its parameters do not fit those of the cell.
    """
    if isinstance(handwritten, tuple) and len(handwritten) == 2 and all(map(callable, handwritten)):
        return Functions(handwritten, weights)
    layer = handwritten
    if isinstance(layer, type) or not hasattr(layer, "forward"):
        if not callable(layer):
            raise TypeError(
                f"compare_handwritten: handwritten is a {type(layer).__name__}; expected a layer with forward and "
                "backward, a class or function that makes one of the weights, or a pair (forward, backward)"
            )
        layer = layer(*(np.array(value) for value in weights.values()))
    else:
        layer = copy.deepcopy(layer)
    _load(layer, weights)
    takes = inspect.signature(layer.forward).parameters.values()
    needed = [p for p in takes if p.kind is not p.VAR_KEYWORD and p.default is p.empty]
    alone = len(needed) == 1 and needed[0].kind is not inspect.Parameter.VAR_POSITIONAL
    return (Window if alone else Steps)(layer, weights)


def _load(layer: Any, weights: Mapping[str, Array]) -> None:
    params = getattr(layer, "params", None)
    if params is None or len(params) != len(weights):
        have = "none" if params is None else f"{len(params)}"
        raise ValueError(
            f"compare_handwritten: expected params to hold {len(weights)} arrays, for {', '.join(weights)}, got {have}"
        )
    for held, (name, value) in zip(params, weights.items(), strict=True):
        if held.shape != value.shape or held.dtype != value.dtype:
            raise ValueError(
                f"compare_handwritten: params holds an array of {held.dtype} {held.shape} where {name} of float64 "
                f"{value.shape} is expected; build the layer of float64 arrays in the order {', '.join(weights)}"
            )
        held[...] = value


def called(name: str, function: Callable[..., Any], arrays: Sequence[Array], count: int) -> list[Array]:
    """Return what a hand-written method returns for copies of some arrays, as `count` arrays of its own."""
    return _arrays(name, _guarded(name, function, arrays), count)


def _guarded(name: str, function: Callable[..., Any], arrays: Sequence[Array]) -> Any:
    handed = [np.array(array) for array in arrays]
    try:
        result = copy.deepcopy(function(*handed))
    except Exception as error:  # whatever hand-written code raises is a finding
        raise ByHandError(f"{name} raised {type(error).__name__}: {error}") from error
    if any(not np.array_equal(new, old, equal_nan=True) for new, old in zip(handed, arrays, strict=True)):
        raise ByHandError(f"{name} changes an array that it was given; compute into a new one")
    return result


def _arrays(name: str, result: Any, count: int) -> list[Array]:
    found = list(result) if isinstance(result, tuple | list) else [result]
    if len(found) != count:
        raise ByHandError(f"{name}: expected it to return {count} arrays, got {len(found)}")
    return [np.array(part) for part in found]


def _unpacked(name: str, result: Any, parts: tuple[str, ...]) -> tuple[Any, ...]:
    if not isinstance(result, tuple) or len(result) != len(parts):
        raise ByHandError(f"{name}: expected it to return ({', '.join(parts)})")
    return result


def _joined(
    hs: list[Array], last: Sequence[Array], dxs: list[Array], dstate: Sequence[Array], parts: list[dict[str, Array]]
) -> Pass:
    """Stack the steps; dxs and parts come last step first."""
    total = {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}
    return Pass(np.stack(hs, 1), list(last), np.stack(dxs[::-1], 1), list(dstate), total, parts[::-1])
