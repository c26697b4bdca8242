"""Optimizers: from gradients to new parameters.

In the equations p is a parameter, g its gradient, lr the learning rate, t = 1, 2, ... the update. Weight decay leaves
out parameters with fewer than two axes: biases.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import flag, number
from ..engine.tape import Array
from ..engine.tensor import Tensor
from ..errors import ConfigError, DTypeError, ShapeError


class Optimizer(ABC):
    """Base of the optimizers: checks, state by parameter name, and the loop over parameters.

    A rule of your own gives `slots`, the names of the arrays that it keeps for each parameter (zeros at the start),
    and `rule`.

    Args:
        lr: learning rate, above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p; 0 turns it off.

    Attributes:
        steps: number of updates so far; `rates` sees the number of those before the one that is under way.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> class SignSGD(Optimizer):
    ...     def rule(self, p, g, lr, state):
    ...         return p - lr * np.sign(g)
    >>> b = tr.tensor([1.0, 1.0], requires_grad=True)
    >>> SignSGD(lr=0.5).update({"b": b}, {"b": np.array([3.0, -4.0])})
    >>> b.data
    array([0.5, 1.5])
    """

    slots: tuple[str, ...] = ()

    def __init__(self, lr: float, weight_decay: float = 0.0) -> None:
        self.lr = number(_name(self), "lr", lr, low=0, above=True)
        self.weight_decay = number(_name(self), "weight_decay", weight_decay, low=0)
        self.steps = 0
        self._state: dict[str, dict[str, Array]] = {}

    def rates(self, lr: float) -> Any:
        """Return the numbers of this update, which `rule` gets as its `lr`: the learning rate, unless it needs more.

        A number that changes from update to update (a bias correction, from `self.steps`) belongs here, and not into
        `rule`, where it would be frozen in a compiled plan.
        """
        return lr

    @abstractmethod
    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return the new value of one parameter, and put new values into `state`; nothing is written in place.

        It is written with operators and functions that take arrays and Tensors alike, so that it can be compiled.

        Args:
            p: the parameter, any shape.
            g: its gradient, of the same shape and dtype; weight decay is in it already.
            lr: what `rates` returned for this update.
            state: slot name to value, of the same shape and dtype.
        """

    def updated(
        self, params: Mapping[str, Any], grads: Mapping[str, Any], state: Mapping[str, Mapping[str, Any]], rates: Any
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Return new parameters and new state, of arrays or of Tensors; nothing is changed.

        Args:
            params: name to value.
            grads: the same names, to values of the same shapes.
            state: the same names, each to slot name and value.
            rates: what `rates` returned.
        """
        new_params, new_state = {}, {}
        for name, p in params.items():
            slots = dict(state[name])
            new_params[name] = self.rule(p, self._decayed(p, grads[name]), rates, slots)
            new_state[name] = slots
        return new_params, new_state

    def state_of(self, params: Mapping[str, Tensor]) -> dict[str, dict[str, Array]]:
        """Return the state by parameter name and slot: zeros where there was no update yet."""
        return {
            name: self._state.get(name) or {slot: np.zeros_like(p.data) for slot in self.slots}
            for name, p in params.items()
        }

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
            DTypeError: if a parameter is complex.
            ConfigError: if `lr` is not a finite number of 0 or more.
        """
        rate = self.lr if lr is None else number(_name(self), "lr", lr, low=0)
        self._check(params, grads)
        arrays = {name: parameter.data for name, parameter in params.items()}
        cast = {name: np.asarray(grads[name], dtype=p.dtype) for name, p in arrays.items()}
        new, state = self.updated(arrays, cast, self.state_of(params), self.rates(rate))
        for name, parameter in params.items():
            parameter.data = new[name]
        self.take(state)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all state: "steps", and "slot.parameter name" for each slot and parameter."""
        found = {f"{slot}.{name}": array.copy() for name, state in self._state.items() for slot, array in state.items()}
        return {"steps": np.array(self.steps), **found}

    def load_state_dict(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Take the state that `state_dict` of an optimizer of the same class returned; all or nothing.

        Args:
            arrays: "steps" and "slot.parameter name" to array. Shapes are checked by the next update.

        Raises:
            ShapeError: if "steps" or a slot is missing, or a name does not belong to this optimizer.
        """
        where = f"{type(self).__name__}.load_state_dict"
        state: dict[str, dict[str, Array]] = {}
        for key in arrays.keys() - {"steps"}:
            slot, _, name = key.partition(".")
            if slot not in self.slots or not name:
                raise ShapeError(f"{where}: unknown name {key!r}; expected 'steps' and {list(self.slots)} with names")
            state.setdefault(name, {})[slot] = np.array(arrays[key])
        incomplete = sorted(name for name, slots in state.items() if len(slots) < len(self.slots))
        if "steps" not in arrays or incomplete:
            raise ShapeError(f"{where}: missing {'slots of ' + ', '.join(incomplete) if incomplete else 'steps'}")
        self.steps, self._state = int(np.asarray(arrays["steps"]).item()), state

    def _decayed(self, p: Any, g: Any) -> Any:
        return g + self.weight_decay * p if self.weight_decay and p.ndim > 1 else g

    def _check(self, params: Mapping[str, Tensor], grads: Mapping[str, Array]) -> None:
        where = f"{type(self).__name__}.update"
        for what, names in (("grads", grads.keys()), ("earlier updates", self._state.keys() or params.keys())):
            missing, unknown = sorted(params.keys() - names), sorted(names - params.keys())
            if missing or unknown:
                raise ShapeError(f"{where}: {what} lack parameters {missing} and have unknown parameters {unknown}")
        for name, parameter in params.items():
            if parameter.dtype.kind != "f":
                raise DTypeError(f"{where}: {name} has dtype {parameter.dtype}; expected real floating point")
            for what, array in (("gradient", grads[name]), *self._state.get(name, {}).items()):
                if np.shape(array) != parameter.shape:
                    raise ShapeError(
                        f"{where}: {what} of {name} has shape {np.shape(array)}, expected {parameter.shape}"
                    )


class SGD(Optimizer):
    """Gradient descent: p <- p - lr * g. Source: Robbins and Monro 1951.

    Args:
        lr: learning rate, above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([1.0], requires_grad=True)
    >>> SGD(lr=0.1).update({"x": x}, {"x": np.array([2.0])})
    >>> x.data
    array([0.8])
    """

    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return p - lr * g."""
        return p - lr * g


class Momentum(Optimizer):
    """Gradient descent with momentum: v <- momentum * v + g,  p <- p - lr * v.

    With `nesterov`, p <- p - lr * (g + momentum * v). Sources: Polyak 1964; Sutskever et al. 2013, On the importance
    of initialization and momentum, where lr stands inside v.

    Args:
        lr: learning rate, above 0.
        momentum: in [0, 1).
        nesterov: look ahead.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x, optimizer = tr.tensor([1.0], requires_grad=True), Momentum(lr=0.1, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.update({"x": x}, {"x": np.array([2.0])})
    >>> x.data  # 1 - 0.1 * 2 - 0.1 * 3
    array([0.5])
    """

    slots = ("v",)

    def __init__(self, lr: float, momentum: float = 0.9, nesterov: bool = False, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.momentum = number(_name(self), "momentum", momentum, low=0, high=1, below=True)
        self.nesterov = flag(_name(self), "nesterov", nesterov)

    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return p - lr * v, or p - lr * (g + momentum * v)."""
        v = state["v"] = self.momentum * state["v"] + g
        return p - lr * (g + self.momentum * v if self.nesterov else v)


class RMSprop(Optimizer):
    """Divide by a running size of the gradient: v <- alpha * v + (1 - alpha) * g^2,  p <- p - lr * g / (sqrt(v) + eps).

    Source: Tieleman and Hinton 2012, lecture 6.5.

    Args:
        lr: learning rate, above 0.
        alpha: how slowly v forgets, in [0, 1).
        eps: above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([1.0], requires_grad=True)
    >>> RMSprop(lr=0.1, alpha=0.75).update({"x": x}, {"x": np.array([2.0])})
    >>> x.data.round(6)  # 1 - 0.1 * 2 / sqrt(0.25 * 4)
    array([0.8])
    """

    slots = ("v",)

    def __init__(self, lr: float, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.alpha = number(_name(self), "alpha", alpha, low=0, high=1, below=True)
        self.eps = number(_name(self), "eps", eps, low=0, above=True)

    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return p - lr * g / (sqrt(v) + eps)."""
        v = state["v"] = self.alpha * state["v"] + (1 - self.alpha) * g * g
        return p - lr * g / (np.sqrt(v) + self.eps)


class Adam(Optimizer):
    """Adaptive moments, with bias correction. Source: Kingma and Ba 2015, algorithm 1.

    m <- beta1 * m + (1 - beta1) * g,  v <- beta2 * v + (1 - beta2) * g^2,
    p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Args:
        lr: learning rate, above 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([1.0], requires_grad=True)
    >>> Adam(lr=0.1).update({"x": x}, {"x": np.array([2.0])})
    >>> x.data.round(6)  # the first step is lr * sign(g)
    array([0.9])
    """

    slots = ("m", "v")

    def __init__(
        self,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ConfigError(f"{_name(self)}: betas must be two numbers, (beta1, beta2), got {betas!r}")
        first, second = (
            number(_name(self), f"betas[{n}]", beta, low=0, high=1, below=True) for n, beta in enumerate(betas)
        )
        self.betas = first, second
        self.eps = number(_name(self), "eps", eps, low=0, above=True)

    def rates(self, lr: float) -> tuple[float, float, float]:
        """Return lr, lr / (1 - beta1^t) and 1 / (1 - beta2^t)."""
        t = self.steps + 1
        return lr, lr / (1 - self.betas[0] ** t), 1 / (1 - self.betas[1] ** t)

    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return p - lr * corrected m / (sqrt(corrected v) + eps)."""
        beta1, beta2 = self.betas
        m = state["m"] = beta1 * state["m"] + (1 - beta1) * g
        v = state["v"] = beta2 * state["v"] + (1 - beta2) * g * g
        _, corrected, correction = lr
        return p - corrected * m / (np.sqrt(v * correction) + self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay: Adam's step, and p <- p - lr * weight_decay * p beside it.

    The decay does not pass through the moments. Source: Loshchilov and Hutter 2019, algorithm 2.

    Args:
        lr: learning rate, above 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: above 0.
        weight_decay: decay, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> W = tr.tensor([[1.0]], requires_grad=True)
    >>> AdamW(lr=0.1, weight_decay=0.5).update({"W": W}, {"W": np.array([[2.0]])})
    >>> W.data.round(6)  # 1 - 0.1 - 0.1 * 0.5 * 1
    array([[0.85]])
    """

    def __init__(
        self,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay)

    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return Adam's new p, less lr * weight_decay * p."""
        new = super().rule(p, g, lr, state)
        return new - (lr[0] * self.weight_decay) * p if p.ndim > 1 else new

    def _decayed(self, p: Any, g: Any) -> Any:
        return g


def _name(optimizer: Optimizer) -> str:
    return type(optimizer).__name__
