"""Combinations of optimizers: one optimizer per group of parameters, and averaging of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase

import numpy as np

from ..checks import instance, integer, number
from ..engine.saved import Saved
from ..engine.tape import Array
from ..engine.tensor import Tensor
from ..errors import ConfigError
from .base import Optimizer, Rates, V


class Grouped(Optimizer):
    """Update each group of parameters with its own optimizer, which has its own rate and weight decay.

    A parameter belongs to the first pattern that its name matches (`*` matches any text, as in file names). A learning
    rate passed to an update, such as that of a schedule, applies to the last group; the rates of the other groups
    follow in proportion.

    Args:
        groups: pattern to optimizer, such as `{"embedding.*": SGD(1.0), "*": Adam(0.001)}`.

    Raises:
        ConfigError: if there are no groups, or a member is not an optimizer, averages, or has made updates; at an
            update, if a parameter matches no pattern, or a pattern no parameter.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.optim import SGD
    >>> params = {name: tr.tensor([1.0], requires_grad=True) for name in ("embedding.W", "head.b")}
    >>> optimizer = Grouped({"embedding.*": SGD(lr=0.1), "*": SGD(lr=0.5)})
    >>> optimizer.update(params, {name: np.ones(1) for name in params})
    >>> optimizer.update(params, {name: np.ones(1) for name in params}, lr=0.25)
    >>> [float(p.data[0]) for p in params.values()]
    [0.85, 0.25]
    """

    def __init__(self, groups: Mapping[str, Optimizer]) -> None:
        instance("Grouped", "groups", groups, Mapping, 'such as {"embedding.*": SGD(1.0), "*": Adam(0.001)}')
        if not groups:
            raise ConfigError('Grouped: groups is empty; pass one optimizer or more, such as {"*": Adam(0.001)}')
        for pattern, member in groups.items():
            if isinstance(_fresh("Grouped", f"groups[{pattern!r}]", member), Averaged):
                raise ConfigError(f"Grouped: groups[{pattern!r}] averages; average all groups: Averaged(Grouped(...))")
        self.groups = dict(groups)
        super().__init__(list(groups.values())[-1].lr)

    def rates(self, lr: float) -> Rates:
        """Return the rates of each group."""
        found = []
        for member in self.groups.values():
            member.steps = self.steps
            found.append(member.rates(lr * (member.lr / self.lr)))
        return tuple(found)

    def slots_of(self, name: str) -> tuple[str, ...]:
        """Return the slots of the parameter's group."""
        return self._member(name)[1].slots_of(name)

    def changed(self, name: str, p: V, g: V, rates: Rates, state: dict[str, V]) -> V:
        """Return the parameter's new value from its group's optimizer."""
        place, member = self._member(name)
        return member.changed(name, p, g, rates[place], state)

    def start(self, params: Mapping[str, Tensor], lr: float | None = None) -> tuple[dict[str, dict[str, Array]], Rates]:
        """Return the state and the rates; see `Optimizer.start`.

        Raises:
            ConfigError: also if a parameter matches no pattern, or a pattern no parameter.
        """
        used = {self._member(name)[0] for name in params}
        for place, pattern in enumerate(self.groups):
            if place not in used and params:
                raise ConfigError(f"Grouped: no parameter belongs to {pattern!r}; there are {sorted(params)}")
        return super().start(params, lr)

    def _member(self, name: str) -> tuple[int, Optimizer]:
        for place, (pattern, member) in enumerate(self.groups.items()):
            if fnmatchcase(name, pattern):
                return place, member
        raise ConfigError(f"Grouped: the parameter {name} fits none of {list(self.groups)}; add a group '*' at the end")


class Averaged(Optimizer):
    """Keep an average of the trained weights, for evaluation.

    After update t, average <- (1 - w) * average + w * p. With a `decay`, w = (1 - decay) / (1 - decay^n), where n
    counts the updates since averaging began: the exponential moving average, without the bias of its start (Kingma and
    Ba 2015, section 7.2). With None, w = 1 / n: the mean of all weights (Polyak and Juditsky 1992). Before averaging
    begins, the average equals the weights.

    Args:
        optimizer: the optimizer that trains the weights.
        decay: how slowly the average forgets, in [0, 1); None: never.
        start: updates before averaging begins, 0 or more; None: averaging begins with `begin()`, for instance when the
            held-out loss stops improving (Merity, Keskar and Socher 2018, algorithm 1).

    Raises:
        ConfigError: if a setting is out of range, or the optimizer has made updates.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.optim import SGD
    >>> x, optimizer = tr.tensor([0.0], requires_grad=True), Averaged(SGD(lr=1.0), decay=None)
    >>> for _ in range(3):
    ...     optimizer.update({"x": x}, {"x": np.array([-1.0])})
    >>> with optimizer.averaged({"x": x}):
    ...     print(x.data)  # (1 + 2 + 3) / 3
    [2.]
    >>> x.data
    array([3.])
    """

    def __init__(self, optimizer: Optimizer, decay: float | None = 0.999, start: int | None = 0) -> None:
        self.optimizer: Optimizer = _fresh("Averaged", "optimizer", optimizer)
        super().__init__(optimizer.lr)
        self.decay = None if decay is None else number(self.name, "decay", decay, low=0, high=1, below=True)
        self.since = None if start is None else integer(self.name, "start", start, low=0)
        self.slots = (*optimizer.slots, "average")

    def begin(self) -> None:
        """Begin to average with the next update, unless averaging has begun."""
        self.since = self.steps if self.since is None else min(self.since, self.steps)

    def averages(self) -> dict[str, Array]:
        """Return copies of the averages, by parameter name; {} before the first update."""
        return {name: slots["average"].copy() for name, slots in self._state.items()}

    @contextmanager
    def averaged(self, params: Mapping[str, Tensor]) -> Iterator[None]:
        """Give the parameters their averages within a `with` block; before the first update, change nothing.

        Args:
            params: name to leaf Tensor, the parameters of the updates.
        """
        before = {name: parameter.data for name, parameter in params.items()}
        try:
            for name, average in self.averages().items():
                params[name].data = average.astype(params[name].dtype)
            yield
        finally:
            for name, parameter in params.items():
                parameter.data = before[name]

    def rates(self, lr: float) -> Rates:
        """Return the optimizer's rates, and the weight of the new parameters in the average."""
        self.optimizer.steps = self.steps
        count = 0 if self.since is None else self.steps + 1 - self.since
        weight = 1.0
        if count > 1:
            weight = 1 / count if self.decay is None else (1 - self.decay) / (1 - self.decay**count)
        return self.optimizer.rates(lr), weight

    def slots_of(self, name: str) -> tuple[str, ...]:
        """Return the optimizer's slots, and "average"."""
        return (*self.optimizer.slots_of(name), "average")

    def changed(self, name: str, p: V, g: V, rates: Rates, state: dict[str, V]) -> V:
        """Return the parameter's new value from the optimizer, and average it."""
        inner, weight = rates
        new = self.optimizer.changed(name, p, g, inner, state)
        state["average"] = (1 - weight) * state["average"] + weight * new
        return new

    def state_dict(self) -> dict[str, Array]:
        """Return the state of the optimizer with the averages, and "since": -1 while averaging has not begun."""
        return {"since": np.array(-1 if self.since is None else self.since), **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Saved]) -> None:
        """Take what `state_dict` returned; see `Optimizer.load_state_dict`.

        Raises:
            ConfigError: also if "since" is missing or not an integer.
        """
        if "since" not in state:
            raise ConfigError("Averaged.load_state_dict: 'since' is missing; the state is that of another optimizer")
        since = integer("Averaged.load_state_dict", "since", np.asarray(state["since"]).item(), low=-1)
        super().load_state_dict({key: value for key, value in state.items() if key != "since"})
        self.since = None if since < 0 else since


def _fresh(function: str, name: str, optimizer: object) -> Optimizer:
    found = instance(function, name, optimizer, Optimizer, "such as Adam(0.001)")
    if found.steps:
        raise ConfigError(f"{function}: {name} has made {found.steps} updates already; pass a new {found.name}")
    return found
