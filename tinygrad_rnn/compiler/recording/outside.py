"""Arrays and generators that a function uses, but does not take as arguments.

A plan holds copies of such arrays. Those that somebody can still write to are checked before each replay
(`Outside.changed`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dis import get_instructions
from functools import lru_cache, partial
from types import CellType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import NamedTuple, cast
from weakref import ref

import numpy as np

from ...engine.arrays import is_fixed
from ...engine.tape import Array
from ..ir.arrays import DType, Shape
from ..plans.memory import address

_MANY = 4  # views of one array; if there are more, the whole array is compared first
_DEEP = 4  # levels of objects inside objects that are searched
_WIDE = 64  # most elements of a list that are searched
_OWN = __package__.partition(".")[0]


# -- arrays -----------------------------------------------------------------------------------------------------------


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
        known = _attributes(owner)
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
        self._variables = [variable for variable in variables if _has_array(variable.value)]
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
        found = [(variable, value) for variable in self._variables if _has_array(value := variable.value)]
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


def _has_array(part: object, depth: int = _DEEP) -> bool:
    """Return whether something is an array, or a list, tuple or dict that has one, at any of so many levels."""
    return isinstance(part, np.ndarray) or (depth > 0 and any(_has_array(one, depth - 1) for one in _elements(part)))


def _elements(part: object) -> list[object]:
    """Return the first elements of a list, tuple or dict; nothing of anything else."""
    if isinstance(part, dict):
        return list(part.values())[:_WIDE]
    return list(part[:_WIDE]) if isinstance(part, list | tuple) else []


def _shape(part: object) -> Shape:
    """Return the shape of an array, or of the first one in a list, tuple or dict; of anything else ()."""
    if isinstance(part, np.ndarray):
        return np.shape(part)
    return next((_shape(one) for one in _elements(part) if _has_array(one)), ())


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


# -- what a function names --------------------------------------------------------------------------------------------


def named_by(function: object, objects: Iterable[object] = ()) -> tuple[list[object], list[Place]]:
    """Return arrays and sources of random numbers that a function's code names, and the variables they are in.

    They are found in variables of enclosing functions and of the module, in attributes that the function mentions, also
    of objects that it takes as arguments, in lists and dicts of them, and in the same way in the functions that it
    names, but not in those of libraries.
    """
    found: dict[int, object] = {}
    variables: list[Place] = []
    seen: dict[int, object] = {}  # by id; kept alive, so that no id is used again
    waiting: list[tuple[object, int]] = [(function, 0)]
    waiting += [(MethodType(function, one), 0) for one in objects if isinstance(function, FunctionType)]
    while waiting:
        part, depth = waiting.pop()
        if isinstance(part, Place):
            variables.append(part)
            part = part.value
        if id(part) in seen or depth > _DEEP:
            continue
        seen[id(part)] = part
        if isinstance(part, np.ndarray | np.random.Generator | np.random.RandomState | random.Random):
            found[id(part)] = part
        else:
            waiting += [(inner, depth + 1) for inner in _inside(part)]
    return list(found.values()), variables


def _inside(part: object) -> list[object]:
    if isinstance(part, partial):
        return [part.func, *part.args, *part.keywords.values()]
    if isinstance(part, MethodType):
        return _used(part.__func__, part.__self__)
    if isinstance(part, FunctionType):
        return _used(part)
    if isinstance(part, list):
        return [Element(part, number) for number in range(min(len(part), _WIDE))]
    if isinstance(part, tuple):
        return list(part[:_WIDE])
    if isinstance(part, dict):
        return [Element(part, key) for key in list(part)[:_WIDE]]
    if isinstance(part, Mapping):
        return list(part.values())[:_WIDE]
    wrapped = _attributes(part).get("__wrapped__")
    return _used(vars(type(part)).get("__call__"), part) if wrapped is None else [wrapped]


def _used(function: object, owner: object = None) -> list[object]:
    """Return the variables that a function captures, its defaults, and the attributes that it mentions."""
    if not isinstance(function, FunctionType) or (function.__module__ or "").partition(".")[0] in (_OWN, "numpy"):
        return []
    names, attributes = _names(function.__code__)
    variables = [*map(Variable, function.__closure__ or ())]
    variables += [Variable(function.__globals__, name) for name in names if name in function.__globals__]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    inner: list[object] = []
    values = [*(variable.value for variable in variables), *defaults, owner]
    seen: set[int] = set()
    for value in values:  # it grows: the code may mention attributes of attributes
        if id(value) in seen or len(seen) > _WIDE:
            continue
        seen.add(id(value))
        places = [place for name in attributes if (place := _place(value, name)) is not None]
        inner += places
        inner += [method for name in attributes if (method := _method(value, name)) is not None]
        values += [place.value for place in places]
    return [*variables, *defaults, *inner]


def _place(part: object, name: str) -> Place | None:
    """Return where an attribute of an object or a class is; None if it has none, or if that is a method or the like."""
    known = _attributes(part)
    if name in known:
        return Variable(known, name)
    home = part if isinstance(part, type) else type(part)
    if home.__module__.partition(".")[0] in (_OWN, "numpy", "builtins", "types"):
        return None
    weak = getattr(home, "__weakrefoffset__", 0) or isinstance(part, type)
    place = Attribute(ref(part) if weak else partial(_same, part), name)
    return place if _has_array(value := place.value) or (hasattr(value, "__dict__") and not callable(value)) else None


def _method(part: object, name: str) -> MethodType | None:
    """Return the method of an object if it is written in Python, else None."""
    found = None if isinstance(part, type | ModuleType | np.ndarray) else getattr(type(part), name, None)
    return MethodType(found, part) if isinstance(found, FunctionType) else None


def _attributes(part: object) -> dict[str, object]:
    return {} if isinstance(part, type | ModuleType | FunctionType) else getattr(part, "__dict__", {})


@lru_cache(maxsize=256)
def _names(code: CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the global names and the attributes that code mentions, functions inside it included."""
    names: list[str] = []
    attributes: list[str] = []
    for instruction in get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.append(instruction.argval)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.append(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            for found, more in zip((names, attributes), _names(constant), strict=True):
                found += more
    return tuple(names), tuple(attributes)
