"""A hand-written backward pass as a target: its results over a window, next to the automatic gradient."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from ...checks import fits
from ...engine.autograd import grad
from ...engine.tape import Array
from ...engine.tensor import Tensor, described, tensor
from ...engine.tree import brief, flatten, rebuild
from ...nn.cells import Cell
from ...nn.module import Module
from ..oracles import Scalar
from .backward import BackwardPass
from .base import Evaluation, Target, name_of

Arrays: TypeAlias = Mapping[str, Array]


class ByHandError(Exception):
    """Raised if the hand-written code raises an error, returns a result of the wrong form, or changes its arguments."""


class Window(NamedTuple):
    """The input of both sides; the parts of a state are (N, H), h first."""

    xs: Array  # (N, T, D)
    state: Sequence[Array]  # before the first step
    dhs: Array  # (N, T, H), gradient of the loss with respect to h after each step
    dlast: Sequence[Array]  # gradient with respect to the other parts of the state after the last step

    @property
    def units(self) -> int:
        """H, the columns of a gate: those of c if there is one, because h may be a projection."""
        return int(self.state[:2][-1].shape[1])

    def until(self, steps: int) -> Window:
        """Return the first steps."""
        return self._replace(xs=self.xs[:, :steps], dhs=self.dhs[:, :steps])


class Pass(NamedTuple):
    """The results of one forward and one backward pass over a window, as far as they are known.

    The quantities are "h" (N, T, H), the state after each step; "c" and so on, the other parts after the last step;
    "dx" (N, T, D); "dh", "dc" and so on, before the first step; and "d" and the name of each parameter.
    """

    quantities: dict[str, Array]
    parts: Sequence[dict[str, Array]] = ()  # the gradients of the parameters for each step, whose sum is the quantity

    def steps(self, name: str) -> Sequence[Array] | None:
        """Return a quantity at each step, or None if it has no steps, or they are unknown."""
        if name in ("h", "dx"):
            return list(np.moveaxis(self.quantities[name], 1, 0))
        return [part[name] for part in self.parts] if self.parts and name in self.parts[0] else None


def state_names(count: int) -> tuple[str, ...]:
    """Return names for the parts of a state: h, c, and then numbers.

    >>> state_names(3)
    ('h', 'c', 'state2')
    """
    return ("h", "c", *(f"state{k}" for k in range(2, count)))[:count]


class Code(Protocol):
    """A user's layer: of one step, or of a window if forward takes only xs. It may have set_state, dh and dc too."""

    params: Sequence[Array]
    grads: Sequence[Array]
    forward: Callable[..., object]
    backward: Callable[..., object]


class Layer:
    """A hand-written layer: the code of the user, copied before it runs, and weights by name, in the cell's order."""

    def __init__(self, code: Code, weights: Arrays) -> None:
        self.code, self.weights = code, weights
        takes = inspect.signature(code.forward).parameters.values()
        needed = [p.kind for p in takes if p.kind is not p.VAR_KEYWORD and p.default is p.empty]
        self.whole = len(needed) == 1 and needed[0] is not inspect.Parameter.VAR_POSITIONAL
        """Whether it runs over a whole window by itself: its forward takes only xs."""

    def starts_from(self, state: Sequence[Array]) -> bool:
        """Return whether it can start from a given state."""
        return not self.whole or _started(copy.deepcopy(self.code), state)

    def run(self, window: Window, code: Code | None = None) -> Pass:
        """Return a pass over a window, by a new copy of the code or by a given one; raise `ByHandError` if it fails."""
        code = copy.deepcopy(self.code) if code is None else code
        if self.whole:
            return self._at_once(code, window)
        # A copy for each further step, so that the caches of the steps stay separate.
        codes = [code, *[copy.deepcopy(code) for _ in range(window.xs.shape[1] - 1)]]
        state, hs, dxs, parts = window.state, [], [], []
        for t, step in enumerate(codes):
            state = self._called("forward", step.forward, [window.xs[:, t], *state], len(state))
            _check_shapes("forward: expected a state of", window.state, state)
            hs.append(state[0])
        dstate = [np.zeros_like(window.dhs[:, 0]), *window.dlast]
        for t, step in reversed(list(enumerate(codes))):
            _check_shapes("backward: expected dx, then gradients of the state of", state, dstate)
            dstate[0] = dstate[0] + window.dhs[:, t]
            dx, *dstate = self._called("backward", step.backward, dstate, 1 + len(dstate))
            dxs.append(dx)
            parts.append(self._gradients(step))
        names = state_names(len(dstate))
        found = {"h": np.stack(hs, 1), **dict(zip(names[1:], state[1:], strict=True)), "dx": np.stack(dxs[::-1], 1)}
        found |= {f"d{name}": part for name, part in zip(names, dstate, strict=True)}
        found |= {name: np.sum([part[name] for part in parts], axis=0) for name in parts[0]}
        return Pass(found, parts[::-1])

    def _at_once(self, code: Code, window: Window) -> Pass:
        """Run a layer of a window, from zeros if it cannot start from a given state."""
        if not _started(code, window.state):
            getattr(code, "reset_state", lambda: None)()
        (hs,) = self._called("forward", code.forward, [window.xs], 1)
        (dxs,) = self._called("backward", code.backward, [window.dhs], 1)
        held = {f"d{name}": getattr(code, f"d{name}", None) for name in state_names(len(window.state))}
        dstate = {name: np.array(part) for name, part in held.items() if part is not None}
        return Pass({"h": hs, "dx": dxs, **dstate, **self._gradients(code)})

    def _called(self, name: str, function: Callable[..., object], arrays: Sequence[Array], count: int) -> list[Array]:
        """Return the result of a hand-written method for copies of some arrays, as `count` new arrays."""
        handed = [np.array(array) for array in arrays]
        try:
            found = _parts(function(*handed))
        except ByHandError:
            raise
        except Exception as error:  # any error of hand-written code is a finding
            raise ByHandError(f"{name} raised {type(error).__name__}: {error}") from error
        if any(not np.array_equal(new, old, equal_nan=True) for new, old in zip(handed, arrays, strict=True)):
            raise ByHandError(f"{name} writes into an array that it was given; compute into a new one")
        if len(found) != count:
            raise ByHandError(f"{name}: expected it to return {count} array{'s' * (count != 1)}, got {len(found)}")
        made = [np.array(part) for part in found]
        if any(part.dtype.kind not in "biuf" for part in made):
            pairs = zip(found, made, strict=True)
            got = [f"{new.dtype} {new.shape}" if new.ndim else type(part).__name__ for part, new in pairs]
            raise ByHandError(f"{name}: expected it to return arrays of real numbers, got {', '.join(got)}")
        return made

    def _gradients(self, code: Code) -> dict[str, Array]:
        grads = getattr(code, "grads", None)
        if grads is None or len(grads) != len(self.weights):
            raise ByHandError(
                f"backward: expected the layer's grads to hold {len(self.weights)} arrays after it, for "
                f"{', '.join(self.weights)}, got {'none' if grads is None else len(grads)}"
            )
        return {f"d{name}": np.array(g) for name, g in zip(self.weights, grads, strict=True)}


class Automatic(Layer):
    """A cell with its automatic gradient, as a pair of functions; `nest` is one of its states, h first."""

    def __init__(self, cell: Module, nest: object) -> None:
        parameters = cell.parameters()

        def forward(x: Array, state: Sequence[Array], _: Arrays) -> tuple[Sequence[Array], object]:
            before = tensor(x, requires_grad=True), [tensor(part, requires_grad=True) for part in state]
            after = flatten(cast(Cell, cell)(before[0], rebuild(nest, iter(before[1])))[1])
            return [part.data for part in after], (after, [before, parameters])

        def backward(dstate: Sequence[Array], cache: tuple[list[Tensor], object]) -> tuple[object, ...]:
            (dx, dbefore), gradients = grad(*cache, cotangent=list(dstate), allow_unused=True)
            return dx, dbefore, gradients

        weights = {name: parameter.data for name, parameter in parameters.items()}
        super().__init__(cast(Code, _Pair(forward, backward, weights)), weights)

    def _called(self, name: str, function: Callable[..., object], arrays: Sequence[Array], count: int) -> list[Array]:
        return list(cast("Sequence[Array]", function(*arrays)))  # an error of the cell is not a finding


def _check_shapes(what: str, state: Sequence[Array], given: Sequence[Array]) -> None:
    wanted, got = ([np.shape(part) for part in nest] for nest in (state, given))
    if got != wanted:
        raise ByHandError(f"{what} shapes {wanted}, got {got}")


def _started(code: Code, state: Sequence[Array]) -> bool:
    """Let a layer of a window start from a given state, and return whether it can."""
    try:
        getattr(code, "set_state")(*map(np.array, state))  # noqa: B009 (not every layer has it)
    except (AttributeError, ValueError, TypeError):
        return False
    return True


class _Pair:
    """A pair of functions as the code of a layer of one step; see `compare_handwritten`."""

    def __init__(self, forward: Callable[..., object], backward: Callable[..., object], weights: Arrays) -> None:
        self._functions, self._weights = (forward, backward), weights

    def forward(self, x: Array, *state: Array) -> object:
        result = self._functions[0](x, state, self._weights)
        after, self._cache = _unpacked("forward", result, ("state", "cache"))
        return after

    def backward(self, *dstate: Array) -> object:
        result = self._functions[1](dstate, self._cache)
        dx, before, gradients = _unpacked("backward", result, ("dx", "dstate", "gradients"))
        if not isinstance(gradients, Mapping) or set(gradients) != set(self._weights):
            raise ByHandError(f"backward: expected gradients to be a dict with the keys {list(self._weights)}")
        self.grads = [gradients[name] for name in self._weights]
        return dx, *_parts(before)


def as_layer(handwritten: object, weights: Arrays) -> Layer:
    """Return hand-written code of any form that `compare_handwritten` takes, with the given weights."""
    if isinstance(handwritten, tuple) and len(handwritten) == 2 and all(map(callable, handwritten)):
        return Layer(cast(Code, _Pair(*handwritten, weights)), weights)
    if hasattr(handwritten, "forward") and not isinstance(handwritten, type):
        code: object = copy.deepcopy(handwritten)
    elif callable(handwritten):
        if not fits(handwritten, [*weights]):
            raise TypeError(
                f"compare_handwritten: {name_of(handwritten)} must take the cell's {len(weights)} weights, "
                f"{', '.join(weights)}, as its arguments"
            )
        code = handwritten(*map(np.array, weights.values()))
    else:
        raise TypeError(
            "compare_handwritten: handwritten must be a layer with forward and backward, a class or function that "
            f"makes one from the weights, or a pair (forward, backward), got {described(handwritten)}"
        )
    for method in ("forward", "backward"):
        if not callable(getattr(code, method, None)):
            raise TypeError(
                f"compare_handwritten: {type(code).__name__} has no method {method}; a layer needs forward and backward"
            )
    params = getattr(code, "params", None)
    if params is None or len(params) != len(weights):
        raise ValueError(
            f"compare_handwritten: expected params to hold {len(weights)} arrays, for {', '.join(weights)}, got "
            f"{'none' if params is None else len(params)}"
        )
    for held, (name, value) in zip(params, weights.items(), strict=True):
        if not isinstance(held, np.ndarray) or held.shape != value.shape or held.dtype != value.dtype:
            got = brief(held) if isinstance(held, np.ndarray) else described(held)
            raise ValueError(
                f"compare_handwritten: expected params to hold {name}, float64 {value.shape}, got {got}; build the "
                f"layer of float64 arrays in the order {', '.join(weights)}"
            )
        held[...] = value
    return Layer(cast(Code, code), weights)


def _parts(result: object) -> list[object]:
    return list(result) if isinstance(result, tuple | list) else [result]


def _unpacked(name: str, result: object, parts: tuple[str, ...]) -> tuple[object, ...]:
    if not isinstance(result, tuple) or len(result) != len(parts):
        raise ByHandError(f"{name}: expected it to return ({', '.join(parts)})")
    return result


class HandwrittenEvaluation(Evaluation):
    """The results of both sides over a window: the leaves are the quantities.

    The value along a line is linear, with the automatic gradient as its slope.
    """

    def __init__(self, automatic: Automatic, layer: Layer, window: Window) -> None:
        sizes = dict(zip("NT", window.xs.shape, strict=False))
        self.target = Target("by hand", (), {}, (), sizes, (), lambda target, dtype: self)
        self.automatic, self.layer, self.window = automatic, layer, window
        self.expected, self.actual = automatic.run(window), layer.run(window)
        self._right = self.expected.quantities
        self.arrays = {name: np.ones(quantity.shape) for name, quantity in self._right.items()}
        self.value = self.size = self.eps = 0.0

    def gradient(self) -> BackwardPass:
        """Return the quantities that the hand-written side provides."""
        known = self.actual.quantities
        return BackwardPass({name: known[name] for name in self._right if name in known}, set(known), [])

    def along(self, name: str, direction: Array, t: Scalar) -> Scalar:
        """Return t times the automatic gradient along the direction."""
        return t * np.sum(self._right[name] * direction)
