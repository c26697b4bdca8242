"""Checks before the first update, and the explanation of a value that is not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from ...engine.tape import Array
from ...engine.tensor import Tensor
from ...engine.tree import flatten
from ...errors import ConfigError, warn
from ...nn.cells import State
from ...nn.module import Module
from .objective import Batch


def parameters_of(function: str, model: Module) -> dict[str, Tensor]:
    """Return the parameters of a model.

    Args:
        function: the function that the user called, for messages.
        model: the user's argument.

    Raises:
        ConfigError: if it is not a model, or has no parameters.

    >>> import tinygrad_rnn as tr
    >>> parameters_of("train_epoch", "lstm")
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: train_epoch: model must be a Module, or have parameters() as one does; got str
    """
    if not callable(getattr(model, "parameters", None)):
        raise ConfigError(
            f"{function}: model must be a Module, or have parameters() as one does; got {type(model).__name__}"
        )
    found = model.parameters()
    if not found:
        raise ConfigError(
            f"{function}: the model {type(model).__name__} has no parameters, so there is nothing to train; a "
            "parameter is a Tensor with requires_grad=True that is an attribute of the Module, or of a Module in it"
        )
    return found


def warn_if_mixed(function: str, params: Mapping[str, Tensor], met: Mapping[str, State]) -> None:
    """Warn if the parameters and their inputs have several dtypes, since results take the widest.

    Args:
        function: the function that the user called, for the message.
        params: name to parameter.
        met: description to value, for the values that are combined with the parameters: the first state and batch.

    >>> import warnings, tinygrad_rnn as tr
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_if_mixed("f", {"W": tr.tensor([1.0], "float32", True)}, {"the state": np.zeros(2)})
    >>> print(caught[0].message)
    f: the model mixes float32 (W) and float64 (the state): results of both are float64, which takes twice the memory
    and time; give all of them one dtype
    """
    places: dict[str, list[str]] = {}
    for name, parameter in params.items():
        places.setdefault(str(parameter.dtype), []).append(name)
    for what, value in met.items():
        parts = [part for part in flatten(value) if isinstance(part, Tensor | np.ndarray)]
        for dtype in {str(part.dtype) for part in parts if part.dtype.kind == "f"}:
            places.setdefault(dtype, []).insert(0, what)
    if len(places) > 1:
        mixed = " and ".join(f"{dtype} ({_shortened(names)})" for dtype, names in sorted(places.items()))
        widest = np.result_type(*places)
        warn(
            f"{function}: the model mixes {mixed}: results of both are {widest}, which takes twice the "
            "memory and time; give all of them one dtype",
        )


def cause(params: Mapping[str, Tensor], batch: Batch, state: State) -> str:
    """Return why a loss or a gradient is not finite, as far as its inputs tell, and what to do.

    Args:
        params: name to parameter.
        batch: the batch, or a list of those that the update covers.
        state: before the first of them, if it is known.

    >>> cause({}, (np.array([[1.0, np.nan]]), np.array([[0, 1]])), None)
    'batch[0] holds 1 non-finite of 2 values, the first at [0, 1]; look at the data'
    """
    for name, part in _named(batch, "batch"):
        if found := _bad(part):
            return f"{name} holds {found}; look at the data"
    if found := _bad(state):
        return f"the state before this update holds {found}; start from a fresh one, or lower lr or clip"
    for name, parameter in params.items():
        if found := _bad(parameter):
            return f"the parameter {name} holds {found}; start from fresh weights, and lower lr or clip"
    return "batch, state and all parameters are finite; lower lr or clip, or find the operation with anomaly_mode()"


def _named(nest: Batch, name: str) -> Iterator[tuple[str, Batch]]:
    """Yield the leaves of a nesting with the expressions that lead to them."""
    if isinstance(nest, Mapping):
        for key, part in nest.items():
            yield from _named(part, f"{name}[{key!r}]")
    elif isinstance(nest, tuple | list):
        for place, part in enumerate(nest):
            yield from _named(part, f"{name}[{place}]")
    else:
        yield name, nest


def _bad(value: State) -> str:
    for part in flatten(value):
        array = part.data if isinstance(part, Tensor) else np.asarray(part)
        if array.dtype.kind in "fc" and not (finite := np.isfinite(array)).all():
            first = [int(n) for n in np.argwhere(~finite)[0]]
            return f"{np.count_nonzero(~finite)} non-finite of {array.size} values, the first at {first}"
    return ""


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def trouble_in(loss: float, lengths: Array, params: Mapping[str, Tensor]) -> str:
    """Return what is not finite in an update; "" if all of it is.

    Args:
        loss: its mean loss.
        lengths: norms of the gradients of the parameters, and of all together.
        params: name to parameter.
    """
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    for name, length in zip((*params, "all parameters together"), lengths, strict=True):
        if not math.isfinite(length):
            return f"the gradient of {name} has a length of {length}"
    return ""
