"""Arrays that a function uses, but does not take as arguments.

A plan holds copies of such arrays. Those that somebody can still write to are checked before each replay
(`Outside.changed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import CellType, FunctionType, MemberDescriptorType, ModuleType
from typing import NamedTuple, cast
from weakref import ref

import numpy as np

from ...engine.arrays import is_fixed
from ...engine.tape import Array
from ..ir.arrays import DType, Shape
from ..plans.memory import address

_MANY = 4  # views of one array; if there are more, the whole array is compared first
_DEEP = 4  # levels of containers that are searched for arrays
WIDE = 64  # most elements of a list that are searched


class Layout(NamedTuple):
    """How a view lies in the memory of the array that owns it."""

    offset: int
    shape: Shape
    strides: Shape
    dtype: DType

    def of(self, owner: Array) -> Array:
        """Return the view of an owner, which it does not keep alive."""
        return np.asarray(_Interface(address(owner) + self.offset, self))


class _Interface:
    def __init__(self, start: int, layout: Layout) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (start, True),
            "shape": layout.shape,
            "strides": layout.strides,
            "typestr": layout.dtype.str,
        }


class _Memory:
    """An array that owns its elements, the views of it that were used, and the values they had.

    NumPy does not resize an array with weak references, so the views stay where they are.
    """

    def __init__(self, owner: Array) -> None:
        self.owner: Callable[[], Array | None]
        if owner.base is None:
            self.owner = ref(owner)
        else:  # a view of something else, such as a file in memory: it is kept
            self.owner = lambda: owner
        self.nbytes = owner.nbytes
        self.views: dict[Layout, Array | None] = {}
        self.whole: Array | None = None

    def settle(self, owner: Array) -> None:
        """Record what the views hold now."""
        self.views = {layout: _copied(layout.of(owner), known) for layout, known in self.views.items()}
        if len(self.views) > _MANY:
            self.whole = self._bytes(owner).copy()

    def changed(self, owner: Array) -> Shape | None:
        """Return the shape of a view whose values have changed, or None."""
        if self.whole is not None and np.array_equal(self.whole, self._bytes(owner)):
            return None
        for layout, known in self.views.items():
            if known is None or not same(layout.of(owner), known):
                return layout.shape
        if self.whole is not None:
            self.whole = self._bytes(owner).copy()
        return None

    def _bytes(self, owner: Array) -> Array:
        return Layout(0, (self.nbytes,), (1,), np.dtype(np.uint8)).of(owner)


class Variable(NamedTuple):
    """A variable of an enclosing function, a module or an object: where it is, and its name there."""

    where: CellType | Mapping[str, object]
    name: str | None = None

    @property
    def value(self) -> object:
        """Its value now; None if it has none."""
        if self.name is not None and not isinstance(self.where, CellType):
            return self.where.get(self.name)
        try:
            return cast(CellType, self.where).cell_contents
        except ValueError:  # it has no value yet
            return None


class Element(NamedTuple):
    """An element of a list or dict: where it is, and its number or key there."""

    where: list[object] | dict[object, object]
    key: object

    @property
    def value(self) -> object:
        """The element now; None if there is none."""
        if isinstance(self.where, dict):
            return self.where.get(self.key)
        number = cast(int, self.key)
        return self.where[number] if number < len(self.where) else None


class Attribute(NamedTuple):
    """An attribute that is not in the dict of its object: one of its class, or a slot.

    Attributes:
        owner: returns the object; it is not kept alive if it can be referred to weakly.
    """

    owner: Callable[[], object]
    name: str

    @property
    def value(self) -> object:
        """Its value now, without calling properties; None if it has none."""
        owner = self.owner()
        known = attributes_of(owner)
        if self.name in known:
            return known[self.name]
        classes = owner.__mro__ if isinstance(owner, type) else type(owner).__mro__
        found = next((vars(one)[self.name] for one in classes if self.name in vars(one)), None)
        if not isinstance(found, MemberDescriptorType):
            return found
        return None if isinstance(owner, type) else getattr(owner, self.name, None)


Place = Variable | Element | Attribute
"""Where a function finds something."""


class Outside:
    """The captured arrays of a function that can still be written to.

    Args:
        arrays: pairs of an array and the plan's copy of it, the newest last, or None. Arrays that are no longer
            referred to once the function has run are forgotten.
        variables: variables that the function reads, and elements of lists and dicts in them; another array in one of
            them, or another list, tuple or dict of arrays, is a change, too, and so is another number of elements.
    """

    def __init__(self, arrays: Iterable[tuple[Array, Array | None]], variables: Iterable[Place] = ()) -> None:
        self._variables = [variable for variable in variables if has_array(variable.value)]
        self._bound: list[Callable[[], object]] = []
        self._lengths: list[tuple[list[object] | dict[object, object], int, Shape]] = []
        self._memories: dict[int, _Memory] = {}
        for array, known in arrays:
            if is_fixed(array) or not array.size or array.dtype.kind not in "biufc":
                continue
            owner = array
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            memory = self._memories.setdefault(id(owner), _Memory(owner))
            layout = Layout(address(array) - address(owner), array.shape, array.strides, array.dtype)
            memory.views[layout] = memory.views.get(layout) if known is None else known

    def settle(self) -> None:
        """Record what the arrays that are still there hold now, and which arrays the variables have."""
        found = [(variable, value) for variable in self._variables if has_array(value := variable.value)]
        self._variables = [variable for variable, _ in found]
        self._bound = [ref(value) if isinstance(value, np.ndarray) else partial(_same, value) for _, value in found]
        held = {id(part.where): (part.where, _shape(value)) for part, value in found if isinstance(part, Element)}
        self._lengths = [(where, len(where), shape) for where, shape in held.values()]
        for memory, owner in self._alive():
            memory.settle(owner)

    @property
    def is_empty(self) -> bool:
        """Whether nothing can change."""
        return not (self._variables or self._memories)

    def changed(self) -> Shape | None:
        """Return the shape of an array that has changed, or None."""
        for variable, bound in zip(self._variables, self._bound, strict=True):
            now = variable.value
            if now is not bound():
                return _shape(now)
        for where, length, held in self._lengths:
            if len(where) != length:
                return held
        for memory, owner in self._alive():
            shape = memory.changed(owner)
            if shape is not None:
                return shape
        return None

    def _alive(self) -> Iterator[tuple[_Memory, Array]]:
        for key, memory in list(self._memories.items()):
            owner = memory.owner()
            if owner is None:
                del self._memories[key]
            else:
                yield memory, owner


def has_array(part: object, depth: int = _DEEP) -> bool:
    """Return whether something is an array, or a list, tuple or dict that has one, at any of so many levels."""
    return isinstance(part, np.ndarray) or (depth > 0 and any(has_array(one, depth - 1) for one in elements_of(part)))


def elements_of(part: object) -> list[object]:
    """Return the first elements of a list, tuple or dict; nothing of anything else."""
    if isinstance(part, dict):
        return list(part.values())[:WIDE]
    return list(part[:WIDE]) if isinstance(part, list | tuple) else []


def _shape(part: object) -> Shape:
    """Return the shape of an array, or of the first one in a list, tuple or dict; of anything else ()."""
    if isinstance(part, np.ndarray):
        return np.shape(part)
    return next((_shape(one) for one in elements_of(part) if has_array(one)), ())


def _same(part: object) -> object:
    return part


def _copied(array: Array, known: Array | None) -> Array:
    """Return `known` if the array has the same values, else a copy."""
    return array.copy() if known is None or not same(array, known) else known


def same(a: Array, b: Array) -> bool:
    """Return whether two arrays are bitwise equal: -0.0 is not 0.0, NaN is NaN."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    if a.dtype.kind == "c":
        return same(a.real, b.real) and same(a.imag, b.imag)
    if a.dtype.itemsize > 8:  # extended precision has padding bytes
        return bool(np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b)))
    bits = f"u{a.dtype.itemsize}"
    return bool(np.array_equal(a.view(bits), b.view(bits)))


def attributes_of(part: object) -> dict[str, object]:
    """Return the attributes that an object itself has, without those of its class."""
    return {} if isinstance(part, type | ModuleType | FunctionType) else getattr(part, "__dict__", {})
