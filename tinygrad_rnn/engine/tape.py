"""The recorded graph, and the context that recording depends on.

A `Node` is one recorded operation (or a leaf). It points to the nodes of its inputs and holds the *arrays* that its
derivative rule needs, never the tensors: a parameter may be updated while a graph that used its old value is alive.
Edges point only to the past, so there are no reference cycles, and a dropped graph is freed at once. Node ids grow
with creation, so descending id is a topological order: the backward walk (in `walk`) needs no recursion.

This module knows nothing of Tensors.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..checks import integer
from ..errors import ConfigError, NonFiniteError
from .modes import Mode
from .sites import call_site, describe_site

Array: TypeAlias = NDArray[Any]

DType: TypeAlias = np.dtype[Any]
"""The dtype of an array."""

Attributes: TypeAlias = dict[str, Any]
"""The keyword arguments of an operation: axis, shape, indices. Each operation knows the types of its own arguments."""


class Spec(NamedTuple):
    """Shape and dtype of an array; stands in for an input that a rule did not ask to keep."""

    shape: tuple[int, ...]
    dtype: DType

    @property
    def ndim(self) -> int:
        """Return the number of axes."""
        return len(self.shape)


class Operation(Protocol):
    """The part of a primitive that its nodes need."""

    name: str
    multiple: bool

    @property
    def pull_all(self) -> Callable[[list[Array | None], list[bool]], Sequence[Array | None]] | None:
        """Return the function that is called in place of the rule, or None.

        It gets the cotangents of all outputs (None: zero), and for each input whether it needs one.
        """

    @property
    def pull(self) -> Callable[..., Sequence[Any]]:
        """Return the rule, a function of the cotangent, the output, the inputs and the attributes."""


class Node:
    """One recorded operation: its origin, and the values that its rule needs.

    Attributes:
        operation: the primitive, or None for a leaf.
        edges: for each input, the edge to what computed it, or None for a constant.
        inputs: for each input, the array or number kept for the rule, or its Spec.
        output: the array kept for the rule, or None.
        specs: shape and dtype of each output.
        attrs: keyword arguments of the operation (axis, indices, ...).
        id: creation order, unique in the process.
        step: time step it was recorded at, or None.
        scope: names of the modules it was recorded in, outermost first.
        site: (code object, line) of the call that recorded it.
        gradient: what `backward()` has accumulated; leaves only.
        past: weak reference to the node before a closed cut, or None.
        consumed: whether `backward()` has dropped what the rule needs.
        walked: whether a gradient has gone through its rule.
        windows: for a state that `unroll` returned, the number of uncut windows before it in which a gradient was
        taken.
        owner: weak reference to the Tensor of a leaf, or None; drawings and messages read its name and its values.
    """

    __slots__ = (
        "__weakref__",
        "attrs",
        "consumed",
        "edges",
        "gradient",
        "id",
        "inputs",
        "operation",
        "output",
        "owner",
        "past",
        "scope",
        "site",
        "specs",
        "step",
        "walked",
        "windows",
    )

    def __init__(
        self,
        operation: Operation | None,
        edges: tuple[Edge | None, ...],
        inputs: tuple[Kept, ...],
        output: Array | None,
        specs: tuple[Spec, ...],
        attrs: Attributes,
    ) -> None:
        context = _context.get()
        self.operation = operation
        self.edges = edges
        self.inputs = inputs
        self.output = output
        self.specs = specs
        self.attrs = attrs
        self.id = next(_ids)
        self.step = context.step
        self.scope = context.scope
        self.site = call_site()
        self.gradient: Array | None = None
        self.consumed = False
        self.walked = False
        self.windows = 0
        self.past: weakref.ref[Node] | None = None
        self.owner: weakref.ref[Any] | None = None

    @property
    def name(self) -> str:
        """Return the operation's name, or "leaf"."""
        return "leaf" if self.operation is None else self.operation.name

    def where(self) -> str:
        """Return where this node was recorded, as "file.py:12", with its time step and scope if it has them."""
        return describe_site(self.site, self.step, self.scope)


Edge: TypeAlias = tuple[Node, int]
"""A node and the number of one of its outputs: the origin of a value."""

Kept: TypeAlias = Array | np.generic | complex | Spec | None
"""An input as a node keeps it: the value that the rule reads, or its shape and dtype."""

_ids = itertools.count()


def node_count() -> int:
    """Return a number above the ids of all existing nodes, and below those of all future nodes."""
    return next(_ids)


Watcher = Callable[[Node, tuple[Array, ...]], None]
"""Called by `watching` with each node as it is recorded, and the arrays that it computed."""


LoopStep: TypeAlias = Callable[[Sequence[object], Sequence[object]], tuple[Sequence[object], Sequence[object]] | None]
"""`step(slices, carried) -> (outputs, carried)`, flat lists of Tensors; None if it cannot be recorded as a loop."""


class Tracer(Protocol):
    """The receiver of everything that is computed on Tensors within `tracing`, recorded for a gradient or not."""

    def record(self, operation: Operation, inputs: Sequence[object], attrs: Attributes, results: Sequence[Any]) -> None:
        """Note one operation: its operands (Tensors, arrays, numbers), and the Tensors that it made."""

    def abstract(self, operation: Operation, values: Sequence[object], attrs: Attributes) -> tuple[Array, ...] | None:
        """Return placeholders for the outputs of an operation, without computing them; None: compute them."""

    def computed(self, forward: Callable[..., object]) -> Callable[..., object]:
        """Return the function of an operation, as it is called on placeholders."""

    def abstracted(self, outputs: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return placeholders for outputs of which only shapes and dtypes matter."""

    def wanted(self, nodes: Sequence[Node]) -> None:
        """Note the nodes whose gradient is requested."""

    def fixed(self, array: Array) -> object:
        """Return a Tensor that is the same at each replay."""

    def alone(self, part: object, is_leaf: bool) -> object:
        """Return a value detached from its graph, as a leaf or as a constant for the gradient."""

    def lift(self, array: Array, edge: Edge) -> Any:
        """Return the Tensor that an edge leads to, for a recorded backward pass."""

    def looked_up(self, gradient: object) -> tuple[object, object] | None:
        """Return rows and ids, as Tensors, if a gradient is that of a single lookup along the first axis of a table."""

    def seen(self, array: Array) -> None:
        """Note an array of which a copy is used, so that a replay would not see later changes to it."""

    def accumulated(self, total: object, edge: Edge) -> None:
        """Note that a sum was not written by the user: it adds a term to the cotangent of this edge."""

    def constant(self, name: str, function: Callable[..., object], args: Sequence[object], repeatable: bool) -> object:
        """Call a function that has no gradient (a comparison, a check, a draw), now and at each replay."""

    def loop(
        self, step: LoopStep, carried: Sequence[object], slices: Sequence[object], steps: int, reverse: bool
    ) -> tuple[Sequence[object], Sequence[object]] | None:
        """Take note of a loop over time: (what its steps return, stacked, and the carried values after the last).

        None: it cannot be recorded as one, and the steps must be taken one by one.
        """


class Context(NamedTuple):
    """How operations are currently recorded, and how they were before (`outer`); one value per thread and task."""

    recording: bool = True
    anomaly: bool = False
    step: int | None = None
    scope: tuple[str, ...] = ()
    sliced: bool = False
    watcher: Watcher | None = None
    tracer: Tracer | None = None
    outer: Context | None = None


_context: ContextVar[Context] = ContextVar("tinygrad_rnn recording", default=Context())  # noqa: B039 (immutable)


def context() -> Context:
    """Return how operations are currently recorded."""
    return _context.get()


Recording: TypeAlias = Mode[Context]
"""A context manager, and a decorator, of how operations are recorded."""


class Changed(Mode[Context]):
    """A mode that changes the values of some fields of the context."""

    __slots__ = ("_fields",)

    def __init__(self, **fields: object) -> None:
        super().__init__(_context)
        self._fields = fields

    def changed(self, now: Context) -> Context:
        """Return the context with the other values."""
        return now._replace(outer=now, **self._fields)  # type: ignore[arg-type]  # each of its field's type


class _Scope(Mode[Context]):
    """A mode that adds one name to the scope."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        super().__init__(_context)
        self._name = name

    def changed(self, now: Context) -> Context:
        """Return the context with the longer scope."""
        return now._replace(outer=now, scope=(*now.scope, self._name))


def no_grad() -> Recording:
    """Return a context manager (or decorator) in which nothing is recorded.

    As a decorator of a function, generator or coroutine, it applies to each call.

    >>> import tinygrad_rnn as tr
    >>> x = tr.tensor([1.0], requires_grad=True)
    >>> with tr.no_grad():
    ...     (x * 2).requires_grad
    False
    """
    return Changed(recording=False)


def enable_grad() -> Recording:
    """Return a context manager (or decorator) in which operations are recorded, also inside `no_grad`."""
    return Changed(recording=True)


def anomaly_mode() -> Recording:
    """Return a context manager (or decorator) that checks every operation's output for NaN and infinity.

    It checks every cotangent, too. Slower by a pass over each array. The first non-finite value raises
    `NonFiniteError`, which names the operation and the line that recorded it.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([0.0], requires_grad=True)
    >>> with tr.anomaly_mode(), np.errstate(divide="ignore"):  # doctest: +ELLIPSIS
    ...     tr.log(x)
    Traceback (most recent call last):
    tinygrad_rnn.errors.NonFiniteError: log: output has 1 non-finite value of 1 (shape (1,)), recorded at ...
    """
    return Changed(anomaly=True)


def at_step(step: int | None) -> Recording:
    """Return a context manager (or decorator) that marks what is recorded in it with a time step.

    Raises:
        ConfigError: if the step is not an integer of 0 or more, or None.
    """
    return Changed(step=None if step is None else integer("at_step", "step", step, low=0))


def watching(watcher: Watcher) -> Recording:
    """Return a context manager that shows every recorded node, and the arrays that it computed, to `watcher`.

    A graph keeps only the arrays that its rules need; a drawing, which shows the others too, watches while it is
    recorded.
    """
    return Changed(watcher=watcher)


def tracing(tracer: Tracer) -> Recording:
    """Return a context manager in which `tracer` is shown everything computed on Tensors, and values cannot be read."""
    return Changed(tracer=tracer)


def slice_of_a_sequence() -> Recording:
    """Return a context manager that marks what is recorded in it as a slice of a longer sequence.

    Code that needs the whole sequence at once, such as a cell that reads from the end, refuses to run there.
    """
    return Changed(sliced=True)


def scope(name: str) -> Recording:
    """Return a context manager (or decorator) that marks what is recorded in it with the name of a module.

    It stands below the scopes already open.

    Raises:
        ConfigError: if the name is not a string.
    """
    if not isinstance(name, str):
        raise ConfigError(f"scope: name must be a str, got {name!r} ({type(name).__name__})")
    return _Scope(name)


def check_finite(value: Array, what: str, name: str, where: str) -> None:
    """Raise `NonFiniteError` if `value` has a NaN or an infinity; used in anomaly mode."""
    if value.dtype.kind in "fc" and not np.isfinite(value).all():
        bad = int(np.size(value) - np.count_nonzero(np.isfinite(value)))
        values = "value" if bad == 1 else "values"
        raise NonFiniteError(
            f"{name}: {what} has {bad} non-finite {values} of {value.size} (shape {value.shape}), recorded at {where}"
        )


def spec_of(array: Array) -> Spec:
    """Return the shape and dtype of an array."""
    return Spec(array.shape, array.dtype)


def is_differentiable(dtype: DTypeLike) -> bool:
    """Return whether arrays of this dtype can carry a gradient (real or complex floating point)."""
    return np.dtype(dtype).kind in "fc"
