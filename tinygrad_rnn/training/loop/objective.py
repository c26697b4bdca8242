"""The loss function of a task, in one form for all that a user's function may take and return."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from inspect import Parameter
from typing import NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from ...engine.tape import Array
from ...engine.tensor import Tensor
from ...engine.tree import flatten
from ...errors import ConfigError, GradientError, ShapeError
from ...metrics import Metric
from ...nn.cells import State

Batch: TypeAlias = object
"""An array, or any nesting of tuples, lists and dicts of arrays, whose first axis is N; read by the loss alone.

Tensors of PyTorch and tables of pandas and Polars in it become arrays."""

Value: TypeAlias = Tensor | Array | float
Mean: TypeAlias = Value | Metric
"""A mean over a batch, or a `Metric`, whose sums add up over batches."""
Loss: TypeAlias = Callable[..., object]
"""`loss(model, batch, state, rng) -> (loss, state, metrics)`; see `Objective` for what may be left out."""

Window: TypeAlias = tuple[Array, Array]
"""Ids and targets, integers (N, T)."""

WEIGHT = "weight"
_OPTIONAL = ("state", "rng")


class LanguageModel(Protocol):
    """Anything with `initial_state(N)` and `loss(ids, targets, state) -> (loss, state)`, such as an `RNNLM`."""

    @property
    def initial_state(self) -> Callable[[int], State]:
        """The function that returns the state of N streams before their first token."""

    @property
    def loss(self) -> Callable[..., tuple[Tensor, State]]:
        """The function that returns the mean nats per token of a window, and the state after it."""


class Outcome(NamedTuple):
    """The results of a loss function for a batch.

    Attributes:
        loss: the mean over what the batch predicts, a single element.
        state: after the batch; None for a task without one.
        metrics: name to a mean, a single element; or to a `Metric`.
        weight: the number of elements that the means are taken over, which is the weight of the batch in a mean over
            several batches; None: not given.
    """

    loss: Value
    state: State
    metrics: dict[str, Mean]
    weight: Value | None


class Objective:
    """A loss function `loss(model, batch, state, rng) -> (loss, state, metrics)`.

    `state` and `rng` are optional: a parameter of either name gets it, and so do a third and a fourth parameter without
    a default, in this order. It may return the loss alone, or (loss, state). Metrics are a dict of means, or of
    values of `metrics`; "weight" among them is the number of elements that the loss and the metrics are means over.

    Args:
        function: the loss function.
        name: its name in messages; None: the function's own.

    Raises:
        ConfigError: if it is not callable, or does not take a model and a batch.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> objective = Objective(lambda model, batch: np.mean(model(batch) ** 2))
    >>> outcome = objective(tr.Linear(2, 1, np.random.default_rng(0)), np.ones((3, 2)), None, None)
    >>> outcome.loss.shape, outcome.state, outcome.metrics, outcome.weight
    ((), None, {}, None)
    """

    def __init__(self, function: Loss, name: str | None = None) -> None:
        if not callable(function):
            raise ConfigError(f"loss: expected a function loss(model, batch, ...), got {type(function).__name__}")
        self.function = function
        self.name = name or str(getattr(function, "__qualname__", type(function).__name__))
        self._by_place, self._by_name = _taken(function, self.name)

    def __call__(self, model: object, batch: Batch, state: State, rng: np.random.Generator | None) -> Outcome:
        """Return the results of the loss function for a batch, checked.

        Raises:
            ConfigError: if it returns anything but a loss, (loss, state) or (loss, state, metrics).
            ShapeError: if the loss is not a single element.
        """
        given = {"state": state, "rng": rng}
        found = self.function(
            model, batch, *(given[name] for name in self._by_place), **{name: given[name] for name in self._by_name}
        )
        loss, state, metrics = self._parts(found, state)
        if np.shape(loss) not in ((), (1,)):
            raise ShapeError(f"{self.name}: the loss must be a single element, got shape {np.shape(loss)}; reduce it")
        weight = metrics.pop(WEIGHT, None)
        if isinstance(weight, Metric):
            raise ConfigError(f'{self.name}: "weight" among the metrics is a number of elements, not a Metric')
        return Outcome(loss, state, metrics, weight)

    def recorded(
        self, model: object, batch: Batch, state: State, rng: np.random.Generator | None
    ) -> tuple[Tensor, Outcome]:
        """Return a loss that a gradient flows through, and all results of the loss function.

        Raises:
            GradientError: if no operation on a parameter was recorded for the loss.
        """
        found = self(model, batch, state, rng)
        if not isinstance(found.loss, Tensor) or not found.loss.requires_grad:
            kind = "a constant Tensor" if isinstance(found.loss, Tensor) else f"a {type(found.loss).__name__}"
            raise GradientError(
                f"{self.name}: the loss is {kind}, which no gradient flows through; compute it from the parameters "
                "with operations on Tensors, outside of no_grad()"
            )
        return found.loss, found

    def _parts(self, found: object, state: State) -> tuple[Value, State, dict[str, Mean]]:
        if not isinstance(found, tuple | list):
            return cast(Value, found), None, {}
        if len(found) == 2:
            return found[0], found[1], {}
        if len(found) != 3 or not isinstance(found[2], Mapping):
            kinds = ", ".join(type(part).__name__ for part in found)
            raise ConfigError(
                f"{self.name}: must return the loss, (loss, state) or (loss, state, metrics) with a dict of metrics, "
                f"got ({kinds})"
            )
        return found[0], found[1], dict(found[2])


def _taken(function: Loss, name: str) -> tuple[list[str], list[str]]:
    """Return which of state and rng a function takes by position, and which by name."""
    parameters = [*inspect.signature(function).parameters.values()]
    by_name = [p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY and p.name in _OPTIONAL]
    places = [p for p in parameters if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is Parameter.VAR_POSITIONAL for p in parameters):
        return list(_OPTIONAL), []
    if len(places) < 2:
        raise ConfigError(f"loss: {name} must take a model and a batch, as loss(model, batch, state, rng) does")
    by_place: list[str] = []
    for p, other in zip(places[2:], _OPTIONAL, strict=False):
        if p.name not in _OPTIONAL and p.default is not Parameter.empty:
            break
        by_place.append(p.name if p.name in _OPTIONAL else other)
    return by_place, by_name


def as_number(value: Mean) -> float | Metric:
    """Return a mean as a number, a `Metric` unchanged."""
    return value if isinstance(value, Metric) else float(np.asarray(value).item())


def mean_of(parts: Sequence[tuple[Value, Mean]]) -> Mean:
    """Return the mean of means with their weights, or the sum of metrics.

    >>> mean_of([(1.0, 2.0), (3.0, 6.0)])
    5.0
    """
    metrics = [mean for _, mean in parts if isinstance(mean, Metric)]
    if metrics:
        return type(metrics[0])(reduce(lambda total, metric: total + metric.sums, metrics[1:], metrics[0].sums))
    means = [(weight, mean) for weight, mean in parts if not isinstance(mean, Metric)]
    return sum(weight * mean for weight, mean in means) / divisor(sum(weight for weight, _ in means))


def divisor(weight: Value) -> Value:
    """Return a weight to divide by; 1 for a weight of 0, as of a step that is padding: what is divided is 0 then too.

    >>> divisor(3.0), divisor(0.0)
    (3.0, 1.0)
    """
    return weight + (weight == 0)


def size_of(batch: Batch) -> int:
    """Return N of a batch: the length of the first axis of its first array.

    Raises:
        ShapeError: if it holds no array with an axis.

    >>> size_of({"x": np.zeros((3, 5)), "y": np.zeros(3)})
    3
    """
    for part in flatten(batch):
        if isinstance(part, Tensor | np.ndarray) and part.ndim:
            return len(part)
    raise ShapeError("a batch must hold an array (N, ...); this one holds none")


def language_loss(
    model: LanguageModel, batch: Window, state: State, rng: np.random.Generator | None
) -> tuple[Tensor, State, dict[str, int]]:
    """Return `model.loss` of windows (ids, targets), the state after them, and the number of targets.

    Args:
        model: has `loss(ids, targets, state, rng=rng) -> (mean loss, state)`, as an `RNNLM` does.
        batch: ids and targets, integers (N, T).
        state: before the windows.
        rng: of dropout; None: nothing is dropped.

    >>> import tinygrad_rnn as tr
    >>> model, ids = tr.RNNLM(5, 4, 4, np.random.default_rng(0)), np.array([[1, 2, 3]])
    >>> loss, state, metrics = language_loss(model, (ids, ids), model.initial_state(1), None)
    >>> metrics
    {'weight': 3}
    """
    inputs, targets = batch
    found = model.loss(inputs, targets, state, rng=rng)
    if not isinstance(found, tuple) or len(found) != 2:
        raise ConfigError(
            f"{type(model).__name__}.loss: must return (loss, state), got {type(found).__name__}; without a state: "
            "(loss, ())"
        )
    return *found, {WEIGHT: int(np.prod(np.shape(targets)))}
