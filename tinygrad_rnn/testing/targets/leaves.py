"""The leaves of a check: parameters and inputs, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ...credit.nests import value_of
from ...engine.tape import Array, Node, enable_grad
from ...engine.tensor import Tensor, described
from ...engine.tree import flatten, named_leaves, rebuild
from ...engine.walk import ancestors
from ...errors import DTypeError, GradientError, NonFiniteError
from ...ops.masked import NoConstantError
from .base import arrays_in, holding


class Leaves:
    """Named leaves, each Tensor once, and the constants: arrays that must not change, each with its name and a copy."""

    def __init__(self, parameters: Mapping[str, object]) -> None:
        self.named: dict[str, Tensor] = {}
        self.constants: list[tuple[str, Array, Array]] = []
        self._made: list[Tensor] = []
        for name, parameter in parameters.items():
            if not isinstance(parameter, Tensor) or not parameter.requires_grad or not parameter.is_leaf:
                raise GradientError(
                    f"check_grads: parameter {name} must be a leaf Tensor with requires_grad, got "
                    f"{described(parameter)}; make it with tensor(..., requires_grad=True)"
                )
            self._add(name, parameter)

    def add_input(self, name: str, nest: object) -> object:
        """Return an input with leaves in place of its floating point parts."""
        if isinstance(nest, list) and nest and all(isinstance(part, int | float) for part in flatten(nest)):
            nest = np.asarray(nest)
        return rebuild(nest, iter([self._part(path, part) for path, part in named_leaves(name, nest)]))

    def _add(self, name: str, leaf: Tensor) -> Tensor:
        if leaf.dtype.kind == "c":
            raise DTypeError(f"check_grads: {name} is complex ({leaf.dtype}); check its real and imaginary parts")
        if not np.isfinite(leaf.data).all():
            raise NonFiniteError(f"check_grads: {name} {leaf.shape} has values that are not finite; pass others")
        if not any(leaf is other for other in self.named.values()):
            self.named[name if name not in self.named else f"input {name}"] = leaf
        return leaf

    def _part(self, path: str, part: object) -> object:
        if isinstance(part, float | np.floating):
            part = np.asarray(part)
        if isinstance(part, Tensor | np.ndarray) and part.dtype.kind in "fc":
            if isinstance(part, Tensor) and part.requires_grad and part.is_leaf:
                return self._add(part.name or path, part)
            self._made.append(Tensor(value_of(part), requires_grad=True, name=path))
            return self._add(path, self._made[-1])
        if isinstance(part, np.ndarray):
            self.constants.append((path, part, part.copy()))
        return part

    def keep_targets(self, function: Callable[[], object]) -> list[str]:
        """Make constants of inputs that a loss takes as its targets, which get no gradient; return a note on each.

        Raises:
            NoConstantError: if a target was computed from a parameter, or from a leaf that the user made.
        """
        notes: list[str] = []
        while True:
            try:
                with holding(self.named, arrays_in(np.float64, self.named), recorded=True), enable_grad():
                    function()
                return notes
            except NoConstantError as error:
                nodes = [node for node in ancestors(_nodes(error.operand)) if node.operation is None]
                found = [leaf for leaf in self._made if any(node.owner and node.owner() is leaf for node in nodes)]
                if len(found) < len(nodes):
                    raise
                notes += [self._keep(leaf, str(error).partition(":")[0]) for leaf in found]

    def leave_out(self, state: object, loss: object) -> list[str]:
        """Leave out parameters that a first state was computed from, and no loss: a recurrence cuts it there."""
        behind, used = ({*ancestors(_nodes(nest))} for nest in (state, loss))
        names = [name for name, leaf in self.named.items() if leaf.node in behind - used]
        for name in names:
            del self.named[name]
        return [f"not checked: {name}, which a learned first state alone is computed from" for name in names]

    def _keep(self, leaf: Tensor, loss: str) -> str:
        name = next(name for name, other in self.named.items() if other is leaf)
        del self.named[name]
        leaf.requires_grad = False
        self._made = [other for other in self._made if other is not leaf]
        self.constants.append((name, leaf.data, leaf.data.copy()))
        return f"not checked: {name}, as the targets of {loss} get no gradient"


def _nodes(nest: object) -> list[Node]:
    return [part.node for part in flatten(nest) if isinstance(part, Tensor) and part.node is not None]
