"""The training step of a page: truncated BPTT whose cuts are an input, and the gradient on every edge as a result."""

from __future__ import annotations

from typing import cast

import numpy as np

from ...engine.autograd import grad
from ...engine.tape import Array
from ...engine.tensor import Tensor, Value, tensor
from ...engine.tree import flatten, map_leaves
from ...errors import ConfigError
from ...nn.cells import Cell, State, initial_state
from ...nn.module import Module
from ...nn.scan import scan
from ...ops import cross_entropy, cut, reshape, sqrt
from ...ops import sum as total
from ...optim import Optimizer
from ...training.inference.stepper import one_step
from ..source import Source


def training_source(model: Module, optimizer: Optimizer, batch_size: int, bptt: int) -> Source:
    """Return one update of a language model on a window of N streams of T steps as a source; time is the first axis.

    update(params, moments, ids (T, N), targets (T, N), keep (T, 1), rates, state)
        -> (loss, logits (T, V), flow (T,), read (T,), params, moments, state); it carries the last three.

    `keep` is 1 where the edge that leads into a step is whole, and 0 where it is cut:
    h = keep * h + cut((1 - keep) * h) has the value of h, and a cotangent of keep times its own. `flow` is the norm of
    the cotangent that comes back along each of those edges, before the scissors; `read` that of the logits of each
    step; `logits` are those of the first stream. `rates` are what the optimizer's rule takes.

    Args:
        model: takes ids (N, T) and a state, and returns logits (N, T, V) and a state.
        optimizer: the rule of the update.
        batch_size: N.
        bptt: T, steps of a window.

    Raises:
        ConfigError: if the model has no state to send a gradient through.
    """
    params, state = model.parameters(), initial_state(model, batch_size, "export")
    if not flatten(state):
        raise ConfigError(f"export: {type(model).__name__} has no state, so there is no gradient to send back in time")
    moments, rates = optimizer.start(params)
    dtype = np.result_type(*(part.dtype for part in params.values()))
    ids, keep = np.zeros((bptt, batch_size), np.int64), np.ones((bptt, 1), dtype)
    time_axis: bool | None = getattr(model, "time_axis", None)
    size = int(getattr(model, "vocab_size", 0))

    def probes(like: Tensor | Array) -> Tensor:
        return tensor(np.zeros((bptt, *like.shape)), dtype, requires_grad=True)

    def step(given: tuple[Tensor, Tensor, State, Tensor], state: State) -> tuple[Value, State]:
        ids, keep, probe, read = given
        state = map_leaves(lambda h, zero: _snipped(h, keep) + zero, state, probe)
        logits, state = one_step(cast(Cell, model), time_axis, ids, state)
        return logits + read, state

    def update(
        params: dict[str, Tensor],
        moments: dict[str, dict[str, Array]],
        ids: Tensor,
        targets: Tensor,
        keep: Tensor,
        rates: object,
        state: State,
    ) -> tuple[object, ...]:
        entering = map_leaves(probes, state)
        reads = tensor(np.zeros((bptt, batch_size, size)), dtype, requires_grad=True)
        logits, after = scan(step, cut(state), (ids, keep, entering, reads), axis=0)
        loss = cast(Tensor, cross_entropy(logits, targets))
        *found, out = grad(loss, [*params.values(), *flatten(entering), reads])
        gradients = dict(zip(params, found, strict=False))
        new, kept = optimizer.updated(params, gradients, moments, rates)
        flow = sqrt(sum(_squares(part) for part in found[len(params) :]))
        return loss, logits[:, 0], flow, sqrt(_squares(out)), new, kept, after

    args = (params, moments, ids, ids, keep, map_leaves(np.asarray, rates), state)
    names = ("params", "moments", "ids", "targets", "keep", "rates", "state")
    return Source(update, args, names, ("params", "moments", "state"), model)


def _snipped(h: Tensor, keep: Tensor) -> Tensor:
    """Return h, and send back `keep` times its cotangent."""
    keep = reshape(keep, (1,) * h.ndim)
    return keep * h + cut((1 - keep) * h)


def _squares(part: Value) -> Value:
    """Return the sums of the squares of each step of (T, ...)."""
    return total(part * part, axis=tuple(range(1, part.ndim)))
