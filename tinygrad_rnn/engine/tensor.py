"""Tensor: an array and its node in the recorded graph.

Its operators are in `operators`, its array methods in `methods`, its conversions to numbers, text and arrays in
`conversions`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from typing import NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..checks import flag, instance
from ..errors import DTypeError, GradientError, ShapeError, TraceError, UnsupportedError
from .arrays import check_plain, fitting_copy, frozen_copy
from .conversions import Conversions
from .methods import ArrayMethods
from .table import TABLE
from .tape import Array, DType, Node, context, is_differentiable, spec_of
from .types import Numbers
from .walk import own, pull_back


class Tensor(Conversions, ArrayMethods):
    """An n-dimensional array that takes part in a recorded graph.

    The array is copied and cannot be written to: a live graph may hold it. A leaf (a tensor that no operation made)
    may be given a new array, `x.data = array`; graphs recorded before keep the old one.

    Args:
        data: anything that `np.array` takes; bool, integer, float or complex. The dtype is NumPy's choice
            (Python floats become float64) unless `dtype` says otherwise. A Tensor gives its values to a new leaf.
        dtype: dtype to convert to.
        requires_grad: record operations on this tensor, so that gradients with respect to it exist.
        name: a name for drawings and messages.

    Raises:
        DTypeError: if the dtype is not numeric, or not floating point while `requires_grad` is set.
        UnsupportedError: if data is recorded and the new tensor is not, so that its gradient would be lost.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.Tensor([1.0, 2.0], requires_grad=True)
    >>> y = np.sum(x * x)
    >>> y.backward()
    >>> x.grad
    array([2., 4.])
    """

    __slots__ = ("__weakref__", "_array", "_frozen", "_index", "_node", "name")

    _array: Array
    _frozen: bool  # set on leaves that were switched off, and absent elsewhere
    _node: Node | None
    _index: int
    name: str | None

    def __init__(
        self,
        data: ArrayLike | Tensor,
        dtype: DTypeLike | None = None,
        requires_grad: bool = False,
        name: str | None = None,
    ) -> None:
        if isinstance(data, Tensor) and (requires_grad or not data._may_need_gradient()):
            data = data.data
        self._array = frozen_copy(data, dtype)
        self._node = None
        self._index = 0
        self.name = name if name is None else instance("Tensor", "name", name, str)
        if requires_grad is not False:
            self.requires_grad = requires_grad

    # -- the array ------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The array, read-only. Assign a new array of the same shape to a leaf; the dtype is kept.

        Raises:
            DTypeError: if the assigned values do not fit the dtype, such as complex numbers for a real one.
            TraceError: while `compile` records a function: the values read then would be the same at each replay.
        """
        return self._values()

    @data.setter
    def data(self, value: ArrayLike) -> None:
        self._refuse_while_traced("assigning .data")
        if not self.is_leaf:
            raise GradientError(f"Tensor.data: only a leaf can be given a new array; this is the result of {self._op}")
        new = fitting_copy(value, self._array.dtype, f"Tensor.data{self._label}")
        if new.shape != self._array.shape:
            raise ShapeError(
                f"Tensor.data{self._label}: expected an array of shape {self.shape}, got shape {new.shape}"
            )
        self._array = new

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._array.shape

    @property
    def dtype(self) -> DType:
        """The array's dtype."""
        return self._array.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._array.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._array.size

    # -- the graph ------------------------------------------------------------------------------------------------

    @property
    def node(self) -> Node | None:
        """Node in the graph, or None for a constant."""
        return self._node

    @property
    def index(self) -> int:
        """The number of this output of its node; 0 except for operations with several outputs (split, unstack)."""
        return self._index

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this tensor."""
        return self._node is None or self._node.operation is None

    @property
    def is_frozen(self) -> bool:
        """Whether this is a leaf whose `requires_grad` was set to False, so that it is not to be trained."""
        return getattr(self, "_frozen", False)

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded. Can be set on a leaf."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not self.is_leaf:
            raise GradientError(
                f"Tensor.requires_grad: can be set on a leaf only; this is the result of {self._op}. "
                "To end the graph here use cut(x), to start a new one tensor(x.data, requires_grad=True)"
            )
        self._frozen = not flag("Tensor", "requires_grad", value)
        if not value:
            self._node = None
        elif self._node is None:
            if not is_differentiable(self.dtype):
                raise DTypeError(
                    f"Tensor.requires_grad{self._label}: expected a floating point dtype, got {self.dtype} of shape "
                    f"{self.shape}; convert first, for instance tensor(x, dtype=np.float32)"
                )
            self._node = Node(None, (), (), None, (spec_of(self._array),), {})
            self._node.owner = weakref.ref(self)

    @property
    def grad(self) -> Array | None:
        """The gradient that `backward()` has accumulated for this leaf: an array of its shape and dtype, or None."""
        return None if self._node is None else self._node.gradient

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        self._refuse_while_traced("assigning .grad")
        if self._node is None or not self.is_leaf:
            raise GradientError(f"Tensor.grad{self._label}: can be set on a leaf with requires_grad only")
        if value is None:
            self._node.gradient = None
            return
        new = np.array(fitting_copy(value, self.dtype, f"Tensor.grad{self._label}"))
        if new.shape != self.shape:
            raise ShapeError(f"Tensor.grad{self._label}: expected shape {self.shape}, got {new.shape}")
        self._node.gradient = new

    def backward(self, cotangent: Operand | None = None, *, retain_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to the `.grad` of every leaf that this tensor depends on.

        The graph is consumed: the arrays that it kept for its rules are dropped on the way, so memory falls during
        the pass.

        Args:
            cotangent: weight of each element, of this tensor's shape; may be left out for a single element (1).
            retain_graph: keep the graph, so that another pass over it is possible.

        Raises:
            GradientError: if nothing was recorded, a cotangent is missing, or the graph was consumed before.
            ShapeError: if the cotangent's shape differs from this tensor's.
        """
        retain_graph = flag("Tensor.backward", "retain_graph", retain_graph)
        self._refuse_while_traced("backward()")
        seed = seed_for(self, cotangent, "Tensor.backward")
        assert self._node is not None
        found = pull_back([((self._node, self._index), seed)], consume=not retain_graph)
        for (leaf, _), value in zip(found, own(found.values()), strict=True):
            leaf.gradient = value if leaf.gradient is None else leaf.gradient + value

    def _refuse_while_traced(self, what: str) -> None:
        if context().tracer is not None:
            raise TraceError(
                f"{what}{self._label}: would happen once, while compile() records the function, and at no replay; "
                "return new values (gradients with grad()), and assign them outside"
            )

    # -- NumPy ----------------------------------------------------------------------------------------------------

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise UnsupportedError(
            "Tensor: writing into a tensor would change what a live graph holds; build a new one with np.where or "
            "np.concatenate, or give a leaf a new array with x.data = array"
        )

    def __len__(self) -> int:
        if self.ndim == 0:
            raise ShapeError("len: a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise ShapeError("iter: a 0-d tensor cannot be iterated over")
        return iter(TABLE[np.unstack](self, axis=0))

    # -- the rest ---------------------------------------------------------------------------------------------------

    @property
    def _op(self) -> str:
        return "nothing" if self._node is None else self._node.name

    @property
    def _label(self) -> str:
        return f" ({self.name})" if self.name else ""

    def __repr__(self) -> str:
        if context().tracer is not None:  # values mean nothing while compile() records
            return f"tensor(shape={self.shape}, dtype={self.dtype}, not yet computed)"
        body = np.array2string(self._array, separator=", ", prefix="tensor(", threshold=200)
        tail = f", dtype={self.dtype}"
        if self.name:
            tail += f", name={self.name!r}"
        if self._node is not None:
            tail += ", requires_grad=True" if self.is_leaf else f", op={self._op}"
        return f"tensor({body}{tail})"

    def __copy__(self) -> Tensor:
        return self._copied("copy.copy")

    def __deepcopy__(self, memo: dict[int, object]) -> Tensor:
        new = memo[id(self)] = self._copied("copy.deepcopy")
        return new

    def _copied(self, function: str) -> Tensor:
        if not self.is_leaf:
            raise GradientError(
                f"{function}: only leaves can be copied; this is the result of {self._op}, of shape {self.shape}; its "
                "array cannot be written to, so it can be shared as it is"
            )
        new = Tensor(self._array, requires_grad=self.requires_grad, name=self.name)
        if self.is_frozen:
            new.requires_grad = False
        if self.grad is not None:
            new.grad = self.grad
        return new

    def __reduce__(self) -> tuple[object, ...]:
        if not self.is_leaf:
            raise GradientError(
                f"pickle: only leaves can be pickled; this is the result of {self._op}, of shape {self.shape}; pickle "
                "its .data"
            )
        return _unpickled, (self._array, self.requires_grad, self.is_frozen, self.name, self.grad)


def _unpickled(array: Array, requires_grad: bool, is_frozen: bool, name: str | None, gradient: Array | None) -> Tensor:
    new = Tensor(array, requires_grad=requires_grad, name=name)
    if is_frozen:
        new.requires_grad = False
    if gradient is not None:
        new.grad = gradient
    return new


Operand: TypeAlias = "Tensor | Numbers"
"""An operand of an operation."""
Value: TypeAlias = Tensor | Array
"""The result of an operation: a Tensor if one of its operands is one, else an array."""


def tensor(
    data: ArrayLike | Tensor,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
    name: str | None = None,
) -> Tensor:
    """Return a new leaf `Tensor` with a copy of `data`; see `Tensor` for the arguments and errors.

    >>> import tinygrad_rnn as tr
    >>> tr.tensor([1, 2], dtype="float32")
    tensor([1., 2.], dtype=float32)
    """
    return Tensor(data, dtype=dtype, requires_grad=requires_grad, name=name)


def parameter(data: ArrayLike, dtype: DTypeLike | None = None, name: str | None = None) -> Tensor:
    """Return a weight: a new leaf `Tensor` that requires a gradient, so that a `Module` counts it as a parameter.

    Args:
        data: initial values, floating point numbers.
        dtype: dtype to convert to; None: the dtype of the data (float64 for draws of a generator).
        name: a name for drawings and messages.

    Raises:
        DTypeError: if the dtype is not floating point.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> rng = np.random.default_rng(0)
    >>> tr.parameter(rng.standard_normal((3, 4)) / np.sqrt(3), np.float32).requires_grad
    True
    """
    return Tensor(data, dtype=dtype, requires_grad=True, name=name)


def wrap(array: Array, node: Node | None = None, index: int = 0) -> Tensor:
    """Return a Tensor around `array` without a copy, and make the array read-only; for the engine, which owns it."""
    array.flags.writeable = False
    new = Tensor.__new__(Tensor)
    new._array = array
    new._node = node
    new._index = index
    new.name = None
    return new


def adopt(leaf: Tensor, array: Array) -> None:
    """Give a leaf an array without a copy; the caller promises not to write to it."""
    view = array.view()
    view.flags.writeable = False
    leaf._array = view


def is_held(leaf: Tensor) -> bool:
    """Return whether anything other than a leaf refers to its array."""
    return _references(leaf) > _ALONE


def _references(leaf: Tensor) -> int:
    return sys.getrefcount(leaf._array)


_ALONE = _references(Tensor(np.zeros(1)))


def shape_of(value: object) -> tuple[int, ...]:
    """Return the shape of a Tensor, an array, or nested lists of numbers (quicker than `np.shape` on a Tensor)."""
    return value.shape if isinstance(value, Tensor | np.ndarray) else np.shape(value)  # type: ignore[call-overload]


def described(value: object) -> str:
    """Return what a value is, in words for a message: "a float", "a constant of shape (3,)"."""
    if isinstance(value, Tensor):
        return f"a {'constant' if value.node is None else 'recorded Tensor'} of shape {value.shape}"
    name = type(value).__name__
    article = "an" if name[:1].lower() in "aeiou" or name == "ndarray" else "a"
    return f"{article} {name}" + (f" of shape {value.shape}" if isinstance(value, np.ndarray) else "")


def seed_for(y: Tensor, cotangent: object, function: str) -> Array:
    """Return the cotangent that starts a backward pass at `y`: checked, in its shape and dtype.

    Raises:
        GradientError: if `y` was not recorded, or is not a single element and `cotangent` is None.
        ShapeError: if the cotangent's shape is not that of `y`.
    """
    if not isinstance(y, Tensor) or y.node is None:
        raise GradientError(
            f"{function}: no graph was recorded for y ({described(y)}): no input has requires_grad, or it was computed "
            "inside no_grad()"
        )
    if not is_differentiable(y.dtype):
        raise DTypeError(f"{function}: y has dtype {y.dtype}, which has no gradient")
    if cotangent is None:
        if y.size != 1:
            raise GradientError(
                f"{function}: y has shape {y.shape}, not a single element; reduce it (y.sum(), y.mean()) or pass a "
                f"cotangent of shape {y.shape}"
            )
        return frozen_copy(np.ones_like(y._array))
    check_plain(cotangent, f"{function}: cotangent")
    seed = cotangent._array if isinstance(cotangent, Tensor) else np.asarray(cotangent)
    if seed.shape != y.shape:
        raise ShapeError(f"{function}: expected a cotangent of shape {y.shape}, that of y, got {seed.shape}")
    return frozen_copy(seed, None if seed.dtype.kind == "c" else y.dtype, f"{function}: cotangent")
