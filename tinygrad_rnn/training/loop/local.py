"""Updates that each process makes alone, and after some of them one step of all towards the mean of what they found."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...engine.tape import Array
from ...engine.tensor import Tensor
from ...optim import SGD, Momentum, Optimizer
from ...parallel.exchange import Exchange
from ...parallel.group import Group
from .vectors import flat_of, places_of


class Local:
    """Local SGD, or DiLoCo: weights are sent after some updates, instead of gradients at each.

    With p the weights after the last sum and p_r those of process r now, the outer gradient is the mean of p - p_r,
    weighted by what the updates of each process were made from; an outer optimizer makes one update of p by it. Under
    "local" that is SGD with a rate of 1, so that p becomes the mean of p_r; under "diloco" Nesterov's momentum, with
    lr 0.7 and momentum 0.9. Sources: Stich 2019, Local SGD converges fast and communicates little; Douillard et al.
    2023, DiLoCo: distributed low-communication training of language models.

    Args:
        exchange: the updates between two sums.
        group: the processes.
        params: name to parameter.
    """

    def __init__(self, exchange: Exchange, group: Group, params: Mapping[str, Tensor]) -> None:
        self._group, self._every = group, exchange.steps
        self.outer: Optimizer = SGD(lr=1.0) if exchange.kind == "local" else Momentum(0.7, 0.9, nesterov=True)
        self._anchor = _copies(params)
        self._steps, self._weight = 0, 0.0

    def made(self, params: Mapping[str, Tensor], weight: float) -> None:
        """Take note of an update of this process; if it is the last before a sum, make that."""
        self._steps += 1
        self._weight += weight
        if self._steps == self._every:
            self.settle(params)

    def settle(self, params: Mapping[str, Tensor]) -> None:
        """Give all processes the same parameters, unless they have them already; all call it together."""
        if not self._steps:
            return
        moved = flat_of({name: self._anchor[name] - p.data for name, p in params.items()}, self._weight)
        total = np.array([self._weight])
        self._group.add(total)
        for vector in moved.values():
            self._group.add(vector)
            vector /= total[0]
        for name, p in params.items():
            p.data = self._anchor[name]
        self.outer.update(
            params,
            {name: place.of(moved) for name, place in places_of(params).items()},
        )
        self._anchor = _copies(params)
        self._steps, self._weight = 0, 0.0

    def start_from(self, params: Mapping[str, Tensor]) -> None:
        """Go on from these parameters, which all processes have."""
        self._anchor, self._steps, self._weight = _copies(params), 0, 0.0


def mean_state(group: Group, optimizer: Optimizer) -> None:
    """Give the optimizer of each process the mean of the states of all."""
    state = {name: np.array(array) for name, array in optimizer.state_dict().items()}
    for name, array in sorted(state.items()):  # in the same order in each process, whatever it was loaded in
        if name != "steps" and array.size:
            group.add(array)
            array /= group.size
    optimizer.load_state_dict(state)


def _copies(params: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: np.array(p.data) for name, p in params.items()}
