"""What the code of a function names: arrays, and sources of random numbers, that are not among its arguments."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dis import get_instructions
from functools import lru_cache, partial
from types import CodeType, FunctionType, MethodType, ModuleType, NoneType
from weakref import ref

import numpy as np

from ...engine.tensor import Tensor
from .outside import WIDE, Attribute, Element, Place, Variable, attributes_of, elements_of, has_array

_DEEP = 4  # levels of objects inside objects that are searched
_MOST = 2000  # objects that are searched
_PASSED = (np.ndarray, np.generic, Tensor, str, bytes, int, float, complex, set, frozenset, type, ModuleType, NoneType)
_OWN = __package__.partition(".")[0]
_COMPILER = __package__.rpartition(".")[0]  # its objects hold plans


def named_by(function: object, objects: Iterable[object] = ()) -> tuple[list[object], list[Place]]:
    """Return arrays and sources of random numbers that a function's code names, and the variables they are in.

    They are found in variables of enclosing functions and of the module, in attributes that the function mentions, also
    of objects that it takes as arguments, in lists and dicts of them, and in the same way in the functions that it
    names, but not in those of libraries. Of an object of this library, such as a step that is trained, all is searched
    that it holds, except arrays, which are its own.
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
        if id(part) in seen or depth > _DEEP or len(seen) > _MOST:
            continue
        seen[id(part)] = part
        if isinstance(part, np.ndarray | np.random.Generator | np.random.RandomState | random.Random):
            found[id(part)] = part
        else:
            waiting += [(inner, depth + (not _is_own(part))) for inner in _inside(part)]
    return list(found.values()), variables


def _inside(part: object) -> list[object]:
    if isinstance(part, partial):
        return [part.func, *part.args, *part.keywords.values()]
    if isinstance(part, MethodType):
        return _used(part.__func__, part.__self__)
    if isinstance(part, FunctionType):
        return _used(part)
    if isinstance(part, list):
        return [Element(part, number) for number in range(min(len(part), WIDE))]
    if isinstance(part, tuple):
        return list(part[:WIDE])
    if isinstance(part, dict):
        return [Element(part, key) for key in list(part)[:WIDE]]
    if isinstance(part, Mapping):
        return list(part.values())[:WIDE]
    if _is_own(part):
        return _held(part)
    wrapped = attributes_of(part).get("__wrapped__")
    return _used(vars(type(part)).get("__call__"), part) if wrapped is None else [wrapped]


def _used(function: object, owner: object = None) -> list[object]:
    """Return the variables that a function captures, its defaults, and the attributes that it mentions."""
    if not isinstance(function, FunctionType) or (function.__module__ or "").partition(".")[0] == "numpy":
        return _held(owner)
    if _is_own(function):
        return [*_held(owner), *_searched(variable.value for variable in map(Variable, function.__closure__ or ()))]
    names, attributes = _names(function.__code__)
    variables = [*map(Variable, function.__closure__ or ())]
    variables += [Variable(function.__globals__, name) for name in names if name in function.__globals__]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    inner: list[object] = []
    values = [*(variable.value for variable in variables), *defaults, owner]
    seen: set[int] = set()
    for value in values:  # it grows: the code may mention attributes of attributes
        if id(value) in seen or len(seen) > WIDE:
            continue
        seen.add(id(value))
        places = [place for name in attributes if (place := _place(value, name)) is not None]
        inner += places
        inner += [method for name in attributes if (method := _method(value, name)) is not None]
        values += [place.value for place in places]
    return [*variables, *defaults, *inner]


def _is_own(part: object) -> bool:
    """Return whether this is a function or an object of the library."""
    part = part.__func__ if isinstance(part, MethodType) else part
    home = part if isinstance(part, FunctionType) else type(part)
    return (home.__module__ or "").partition(".")[0] == _OWN


def _held(owner: object) -> list[object]:
    """Return what an object holds whose code is not searched."""
    return _searched(attributes_of(owner).values())


def _searched(parts: Iterable[object]) -> list[object]:
    """Return those parts, and elements of containers among them, in which sources of random numbers may be."""
    found, waiting = [], list(parts)
    for _ in range(_MOST):  # a list may contain itself
        if not waiting:
            break
        part = waiting.pop()
        if isinstance(part, dict | list | tuple):
            waiting += elements_of(part)
        elif not isinstance(part, _PASSED) and not type(part).__module__.startswith(_COMPILER):
            found.append(part)
    return found


def _place(part: object, name: str) -> Place | None:
    """Return where an attribute of an object or a class is; None if it has none, or if that is a method or the like."""
    known = attributes_of(part)
    if name in known:
        return Variable(known, name)
    home = part if isinstance(part, type) else type(part)
    if home.__module__.partition(".")[0] in (_OWN, "numpy", "builtins", "types"):
        return None
    weak = getattr(home, "__weakrefoffset__", 0) or isinstance(part, type)
    place = Attribute(ref(part) if weak else partial(_itself, part), name)
    return place if has_array(value := place.value) or (hasattr(value, "__dict__") and not callable(value)) else None


def _itself(part: object) -> object:
    return part


def _method(part: object, name: str) -> MethodType | None:
    """Return the method of an object if it is written in Python, else None."""
    found = None if isinstance(part, type | ModuleType | np.ndarray) else getattr(type(part), name, None)
    return MethodType(found, part) if isinstance(found, FunctionType) else None


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
