"""The base classes of optimizers: checks, state by parameter name, dtypes, and the loop over parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from functools import lru_cache, partial
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from ..checks import instance, integer, number
from ..engine.saved import Saved
from ..engine.tape import Array
from ..engine.tensor import Tensor, Value
from ..engine.tree import flatten, map_leaves
from ..errors import ConfigError, DTypeError, ShapeError
from ..ops import astype
from .clipping import times

V = TypeVar("V", Array, Tensor)
"""A value that a rule computes with: an array, or a Tensor while an update is compiled."""

Rates: TypeAlias = Any
"""The `lr` of a rule: a number or a nest of numbers, as its own `rates` returns it."""


class Optimizer(ABC):
    """Base of the optimizers: checks, state by parameter name, and the loop over parameters.

    Your own rule derives from `Rule`; combinations of optimizers (`Grouped`, `Averaged`) derive from this class.

    Args:
        lr: learning rate, above 0.

    Attributes:
        steps: number of completed updates; `rates` does not count the current one.
        slots: the names of the arrays that are kept for each parameter (initially zeros).

    Raises:
        ConfigError: if the rate is not above 0.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, lr: float) -> None:
        self.lr = number(self.name, "lr", lr, low=0, above=True)
        self.steps = 0
        self._state: dict[str, dict[str, Array]] = {}

    @property
    def name(self) -> str:
        """The name of the class, for messages."""
        return type(self).__name__

    @property
    def divisible(self) -> bool:
        """Whether several processes may each update a part of a parameter.

        That is so if each new element follows from the old one and its gradient alone, and nothing is kept of it.
        """
        return False

    def rates(self, lr: float) -> Rates:
        """Return the numbers that the rule gets as its `lr` in this update: the learning rate, unless it needs more.

        A number that changes from update to update (a bias correction, from `self.steps`) belongs here, not in the
        rule, where it would be frozen in a compiled plan.
        """
        return lr

    def slots_of(self, name: str) -> tuple[str, ...]:
        """Return the names of the arrays that are kept for the parameter of this name."""
        return self.slots

    @abstractmethod
    def changed(self, name: str, p: V, g: V, rates: Rates, state: dict[str, V]) -> V:
        """Return the new value of one parameter, and put new values into `state`; nothing is written in place.

        Args:
            name: of the parameter.
            p: the parameter, any shape, float32 at least.
            g: its gradient, of the same shape and dtype.
            rates: what `rates` returned for this update.
            state: slot name to value, of the same shape and dtype.
        """

    def updated(
        self,
        params: Mapping[str, Value],
        grads: Mapping[str, V],
        state: Mapping[str, Mapping[str, V]],
        rates: Rates,
        factor: Value | float | None = None,
    ) -> tuple[dict[str, V], dict[str, dict[str, V]]]:
        """Return new parameters and new state, as arrays or Tensors, without changing anything.

        Each parameter and its state keep their dtypes, whatever the dtypes of the others. The rates are rounded
        once to the dtype of each parameter.

        Args:
            params: name to value.
            grads: the same names, to values of the same shapes.
            state: the same names, each to slot name and value.
            rates: what `rates` returned, as numbers or float64 of shape ().
            factor: what gradients are multiplied with first, each in its dtype, as clipping does; None: 1. A plan
                does it on the way, block by block, and no array of all products is made.
        """
        new_params, new_state = {}, {}
        rounded: dict[np.dtype[np.floating], Rates] = {}
        for name, p in params.items():
            dtype = _wide(p.dtype)
            if dtype not in rounded:
                rounded[dtype] = map_leaves(partial(_as, dtype=dtype), rates)
            slots, wide = dict(state[name]), _as(cast("V", p), dtype)  # a Tensor where its gradient is one
            g = grads[name] if factor is None else times(grads[name], factor)
            new = self.changed(name, wide, _as(g, dtype), rounded[dtype], slots)
            new_params[name] = _as(new, p.dtype)
            new_state[name] = {slot: _as(value, dtype) for slot, value in slots.items()}
        return new_params, new_state

    def start(self, params: Mapping[str, Tensor], lr: float | None = None) -> tuple[dict[str, dict[str, Array]], Rates]:
        """Return the checked state and rates that `updated` needs for the next update.

        Args:
            params: name to leaf Tensor.
            lr: learning rate of this update; None: the optimizer's own.

        Returns:
            The state by parameter name and slot, zeros before the first update; and `rates(lr)`.

        Raises:
            ConfigError: if there are no parameters, `lr` is not a finite number of 0 or more, or a rate is too large
                for the dtype of a parameter.
            ShapeError, DTypeError: if the parameters are not those of earlier updates, or not real floating point.
        """
        self._check_parameters(params)
        lr = number(self.name, "lr", self.lr if lr is None else lr, low=0)
        rates = self.rates(lr)
        for dtype in {_wide(p.dtype) for p in params.values()}:
            most = float(np.finfo(dtype).max)
            for rate in flatten(rates):
                if abs(rate) > most:
                    raise ConfigError(
                        f"{self.name}: lr = {lr:g} gives a rate of {rate:g}, above the largest {dtype}; lower it"
                    )
        state = {}
        for name, p in params.items():
            found, dtype = self._state.get(name, {}), _wide(p.dtype)
            state[name] = {
                slot: _as(found[slot], dtype) if found else np.zeros(p.shape, dtype) for slot in self.slots_of(name)
            }
        return state, rates

    def take(self, state: Mapping[str, Mapping[str, Array]]) -> None:
        """Take the state that `updated` returned, and count the update."""
        self._state = {name: dict(slots) for name, slots in state.items()}
        self.steps += 1

    def update(self, params: Mapping[str, Tensor], grads: Mapping[str, Array], lr: float | None = None) -> None:
        """Give every parameter a new array; all or nothing. Graphs recorded before keep the old arrays.

        Args:
            params: name to leaf Tensor, as `module.parameters()` gives them.
            grads: the same names, to arrays of the same shapes, as `grad(loss, params)` gives them.
            lr: learning rate of this update; None: the optimizer's own.

        Raises:
            ShapeError: if names or shapes of gradients, or of an earlier update, do not fit the parameters.
            DTypeError: if a parameter or a gradient is not real floating point.
            ConfigError: if there are no parameters, or `lr` is not a finite number of 0 or more.
        """
        state, rates = self.start(params, lr)
        arrays = {name: parameter.data for name, parameter in params.items()}
        new, state = self.updated(arrays, self._checked_gradients(params, grads), state, rates)
        for name, parameter in params.items():
            parameter.data = new[name]
        self.take(state)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all state: "steps", and "slot.parameter name" for each slot and parameter."""
        found = {f"{slot}.{name}": array.copy() for name, state in self._state.items() for slot, array in state.items()}
        return {"steps": np.array(self.steps), **found}

    def load_state_dict(self, state: Mapping[str, Saved]) -> None:
        """Take the state that `state_dict` of an optimizer of the same class returned; all or nothing.

        Args:
            state: "steps" and "slot.parameter name" to array. Shapes are checked by the next update.

        Raises:
            ShapeError: if "steps" or a slot is missing, or a name does not belong to this optimizer.
            DTypeError: if a slot is not real.
            ConfigError: if "steps" is not an integer of 0 or more.
        """
        where = f"{type(self).__name__}.load_state_dict"
        slots: dict[str, dict[str, Array]] = {}
        for key in state.keys() - {"steps"}:
            slot, _, name = key.partition(".")
            if not name or slot not in self.slots_of(name):
                raise ShapeError(
                    f"{where}: unknown name {key!r}; expected 'steps' and "
                    f"{list(self.slots_of(name) if name else self.slots)} with names"
                )
            array = np.array(state[key])
            if array.dtype.kind not in "fiu":
                raise DTypeError(f"{where}: {key} has dtype {array.dtype}; expected real floating point")
            slots.setdefault(name, {})[slot] = array
        incomplete = sorted(name for name, found in slots.items() if len(found) < len(self.slots_of(name)))
        if "steps" not in state or incomplete:
            raise ShapeError(f"{where}: missing {'slots of ' + ', '.join(incomplete) if incomplete else 'steps'}")
        steps = integer(where, "steps", np.asarray(state["steps"]).item(), low=0)
        self.steps, self._state = steps, slots

    def _check_parameters(self, params: Mapping[str, Tensor]) -> None:
        where = f"{self.name}.update"
        instance(where, "params", params, Mapping, "as module.parameters() gives them")
        if not params:
            raise ConfigError(
                f"{where}: there are no parameters; a parameter is a Tensor with requires_grad=True that is an "
                "attribute of the Module"
            )
        if (
            self._state and self._state.keys() != params.keys()
        ):  # a saved state has no entry for a parameter without slots
            known = self._state.keys() | {name for name in params if not self.slots_of(name)}
            advice = "; was one frozen, or thawed, since? Make a new optimizer, or give it groups and a rate of 0"
            self._check_names("earlier updates", known, params, advice)
        for name, parameter in params.items():
            if not isinstance(parameter, Tensor):  # messages are made where they are needed: this runs in each update
                instance(where, f"params[{name!r}]", parameter, Tensor, "parameter(array) makes one")
            if parameter.dtype.kind != "f":
                raise DTypeError(f"{where}: {name} has dtype {parameter.dtype}; expected real floating point")
            for slot, array in self._state.get(name, {}).items():
                if array.shape != parameter.shape:
                    _check_shape(f"{where}: {slot} of {name}", array, parameter)

    def _checked_gradients(self, params: Mapping[str, Tensor], grads: Mapping[str, ArrayLike]) -> dict[str, Array]:
        where = f"{self.name}.update: gradient"
        instance(f"{self.name}.update", "grads", grads, Mapping, "as grad(loss, params) gives them")
        self._check_names("grads", grads.keys(), params)
        found = {name: np.asarray(g) for name, g in grads.items()}
        for name, g in found.items():
            if g.dtype.kind not in "fiu":
                raise DTypeError(f"{where} of {name} has dtype {g.dtype}; expected real floating point")
            _check_shape(f"{where} of {name}", g, params[name])
        return found

    def _check_names(self, what: str, names: Set[str], params: Mapping[str, Tensor], advice: str = "") -> None:
        missing, unknown = sorted(params.keys() - names), sorted(names - params.keys())
        if missing or unknown:
            raise ShapeError(
                f"{self.name}.update: {what} lack parameters {missing} and have unknown parameters {unknown}{advice}"
            )


class Rule(Optimizer):
    """Base of the optimizers that change each parameter by one rule.

    Your own rule defines `slots`, the names of its arrays for each parameter (initially zeros), and `rule`.

    Args:
        lr: learning rate, above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases; 0 turns it off.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> class SignSGD(Rule):
    ...     def rule(self, p, g, lr, state):
    ...         return p - lr * np.sign(g)
    >>> b = tr.tensor([1.0, 1.0], requires_grad=True)
    >>> SignSGD(lr=0.5).update({"b": b}, {"b": np.array([3.0, -4.0])})
    >>> b.data
    array([0.5, 1.5])
    """

    def __init__(self, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(lr)
        self.weight_decay = number(self.name, "weight_decay", weight_decay, low=0)

    @abstractmethod
    def rule(self, p: V, g: V, lr: Rates, state: dict[str, V]) -> V:
        """Return the new value of one parameter, and put new values into `state`; nothing is written in place.

        Write it with operators and functions that take arrays and Tensors alike, so that it can be compiled.

        Args:
            p: the parameter, any shape.
            g: its gradient, of the same shape and dtype, including weight decay.
            lr: the result of `rates` for this update.
            state: slot name to value, of the same shape and dtype.

        A parameter of half precision is passed in float32 (a small `eps` and squares would be 0 in float16), and
        rounded back afterwards; its slots stay in float32.
        """

    def changed(self, name: str, p: V, g: V, rates: Rates, state: dict[str, V]) -> V:
        """Return the result of `rule` for the gradient with weight decay."""
        return self.rule(p, self.decayed(p, g), rates, state)

    def decayed(self, p: V, g: V) -> V:
        """Return the gradient with weight decay, g + weight_decay * p; for biases (fewer than two axes), g."""
        return g + self.weight_decay * p if self.weight_decay and p.ndim > 1 else g


def _check_shape(what: str, array: Array, parameter: Tensor) -> None:
    if np.shape(array) != parameter.shape:
        raise ShapeError(f"{what} has shape {np.shape(array)}, expected {parameter.shape}")


@lru_cache(maxsize=64)
def _wide(dtype: np.dtype[np.generic]) -> np.dtype[np.floating]:
    """Return the dtype that a rule computes in: that of the parameter, but at least float32."""
    return np.promote_types(dtype, np.float32)


def _as(value: V, dtype: np.dtype[np.floating]) -> V:
    if getattr(value, "dtype", None) == dtype:
        return value
    new: V = astype(value, dtype)
    return new
