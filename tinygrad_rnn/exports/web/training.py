"""The training step of a page: truncated BPTT whose cuts are an input, and the gradient on every edge as a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from ...engine.autograd import grad
from ...engine.tape import Array
from ...engine.tensor import Operand, Tensor, Value, tensor
from ...engine.tree import flatten, map_leaves
from ...errors import ConfigError
from ...nn.cells import Cell, State, initial_state
from ...nn.module import Module
from ...nn.scan import scan
from ...ops import cross_entropy, cut, mse, reshape, sqrt
from ...ops import sum as total
from ...optim import Optimizer
from ...training.inference.stepper import one_step
from ..source import Source

LOSSES: dict[str, Callable[[Operand, Operand], Value]] = {"cross_entropy": cross_entropy, "mse": mse}
"""Losses of a page, by name."""


def training_source(model: Module, optimizer: Optimizer, inputs: Array, targets: Array, size: int, loss: str) -> Source:
    """Return one update of a model on a window of N streams of T steps as a source; time is the first axis.

    update(params, moments, inputs (T, N, ...), targets (T, N, ...), keep (T, 1), rates, state)
        -> (loss, outputs (T, K), flow (T,), read (T,), params, moments, state); it carries the last three.

    `keep` is 1 where the edge that leads into a step is whole, and 0 where it is cut:
    h = keep * h + cut((1 - keep) * h) has the value of h, and a cotangent of keep times its own. `flow` is the norm of
    the cotangent that comes back along each of those edges, before the scissors; `read` that of the outputs of each
    step; `outputs` are those of the first stream. `rates` are what the optimizer's rule takes.

    Args:
        model: a model or a cell that takes what a `Stepper` gives it, and returns outputs (N, K) of a step.
        optimizer: the rule of the update.
        inputs: an example of a window: ids (T, N), or vectors (T, N, D).
        targets: classes (T, N), or vectors (T, N, K).
        size: K.
        loss: a name of `LOSSES`.

    Raises:
        ConfigError: if the model has no state to send a gradient through.
    """
    params, state = model.parameters(), initial_state(model, inputs.shape[1], "export")
    if not flatten(state):
        raise ConfigError(f"export: {type(model).__name__} has no state, so there is no gradient to send back in time")
    moments, rates = optimizer.start(params)
    dtype = np.result_type(*(part.dtype for part in params.values()))
    bptt, batch_size = inputs.shape[:2]
    keep = np.ones((bptt, 1), dtype)
    time_axis: bool | None = getattr(model, "time_axis", None)

    def probes(like: Tensor | Array) -> Tensor:
        return tensor(np.zeros((bptt, *like.shape)), dtype, requires_grad=True)

    def step(given: tuple[Tensor, Tensor, State, Tensor], state: State) -> tuple[Value, State]:
        x, keep, probe, read = given
        state = map_leaves(lambda h, zero: _snipped(h, keep) + zero, state, probe)
        output, state = one_step(cast(Cell, model), time_axis, x, state)
        return output + read, state

    def update(
        params: dict[str, Tensor],
        moments: dict[str, dict[str, Array]],
        inputs: Tensor,
        targets: Tensor,
        keep: Tensor,
        rates: object,
        state: State,
    ) -> tuple[object, ...]:
        entering = map_leaves(probes, state)
        reads = tensor(np.zeros((bptt, batch_size, size)), dtype, requires_grad=True)
        outputs, after = scan(step, cut(state), (inputs, keep, entering, reads), axis=0)
        error = cast(Tensor, LOSSES[loss](outputs, targets))
        *found, out = grad(error, [*params.values(), *flatten(entering), reads])
        gradients = dict(zip(params, found, strict=False))
        new, kept = optimizer.updated(params, gradients, moments, rates)
        flow = sqrt(sum(_squares(part) for part in found[len(params) :]))
        return error, outputs[:, 0], flow, sqrt(_squares(out)), new, kept, after

    args = (params, moments, inputs, targets, keep, map_leaves(np.asarray, rates), state)
    names = ("params", "moments", "inputs", "targets", "keep", "rates", "state")
    return Source(update, args, names, ("params", "moments", "state"), model)


def _snipped(h: Tensor, keep: Tensor) -> Tensor:
    """Return h, and send back `keep` times its cotangent."""
    keep = reshape(keep, (1,) * h.ndim)
    return keep * h + cut((1 - keep) * h)


def _squares(part: Value) -> Value:
    """Return the sums of the squares of each step of (T, ...)."""
    return total(part * part, axis=tuple(range(1, part.ndim)))
