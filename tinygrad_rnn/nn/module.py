"""Module: an object with named parameters."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from types import MemberDescriptorType, ModuleType
from typing import ClassVar, NamedTuple, Self, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from ..checks import flag, texts
from ..engine.arrays import fitting_copy
from ..engine.tape import Array, is_differentiable
from ..engine.tensor import Tensor
from ..errors import GradientWarning, ShapeError


class _OfInit:
    """The signature of a class: that of its `__init__`, also where `__new__` takes anything.

    Python 3.11.2 shows that of an inherited `__new__` for a class without an `__init__` of its own.
    """

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:  # an object that is called has its own
            raise AttributeError("__signature__")
        found = inspect.signature(owner.__init__)  # type: ignore[misc]  # whatever the class takes is shown
        return found.replace(parameters=[*found.parameters.values()][1:])


class Module:
    """Base of all objects that hold parameters. It adds only names: no hidden state, no modes.

    Parameters are the attributes that are Tensors with `requires_grad` (`parameter` makes them), and those of
    attributes that are modules, or lists, tuples and dicts of them, in the order in which they were set.

    A Tensor or a floating point array among the attributes that is not a parameter is never trained, nor is a parameter
    of the class, in a set, or in an object that is no Module, and `parameters` says so in a `GradientWarning`, once per
    class. If that is intended, name the attribute in `buffers`, or freeze a weight: `module.W.requires_grad = False`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> class Scale(tr.Module):
    ...     buffers = ("mean",)
    ...     def __init__(self):
    ...         self.a = tr.parameter([2.0])
    ...         self.mean = np.array([0.5])
    >>> list(Scale().parameters())
    ['a']
    """

    __slots__ = ("__dict__", "__weakref__", "_made_with")

    buffers: ClassVar[tuple[str, ...]] = ()
    """Names of attributes that are not trained: statistics, masks, a state."""

    _made_with: MadeWith
    __signature__ = _OfInit()

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Note the arguments, from which a saved module is reconstructed."""
        new = super().__new__(cls)
        new._made_with = MadeWith(args, kwargs)
        return new

    def parameters(self) -> dict[str, Tensor]:
        """Return the parameters by name ("layers.0.Wx"), in a fixed order; a shared one only under its first name."""
        found, untrained, _ = _look_through(self)
        for owner, attribute, what in untrained:
            _warn_of_untrained(owner, attribute, what)
        return found

    def parameter_count(self) -> int:
        """Return the number of elements of all parameters."""
        return sum(parameter.size for parameter in _look_through(self)[0].values())

    def state_dict(self) -> dict[str, Array]:
        """Return the arrays of all parameters, of frozen weights and of buffers, by name; `load` takes them.

        >>> import numpy as np, tinygrad_rnn as tr
        >>> layer = tr.Linear(2, 1, np.random.default_rng(0))
        >>> layer.b.requires_grad = False  # frozen
        >>> list(layer.parameters()), list(layer.state_dict())
        (['W'], ['W', 'b'])
        """
        return {name: np.asarray(_values(part.value)) for name, part in _look_through(self, every=True)[2].items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return all leaf Tensors by name, including those frozen by `tensor.requires_grad = False`."""
        return {
            name: part.value
            for name, part in _look_through(self, every=True)[2].items()
            if isinstance(part.value, Tensor)
        }

    def load(self, arrays: Mapping[str, ArrayLike], *, strict: bool = True, names: Sequence[str] | None = None) -> None:
        """Give every parameter a new array; all or nothing.

        Args:
            arrays: name to array (or Tensor), as `parameters()` or `state_dict()` names them; converted to each
                parameter's dtype.
            strict: every parameter must be present, and no unknown name.
            names: patterns of names to load, such as ["embedding.*"], or one alone; a star matches anything; None: all.

        Raises:
            ShapeError: if a name is missing or unknown, a pattern matches none, or a shape differs; nothing has been
                changed then.
            DTypeError: if an array does not fit the dtype of its parameter: complex numbers, strings; likewise.

        >>> import numpy as np, tinygrad_rnn as tr
        >>> old, new = (tr.Linear(2, 1, np.random.default_rng(seed)) for seed in (0, 1))
        >>> new.load(old.state_dict(), names=["W"])
        >>> bool(np.array_equal(new.W.data, old.W.data))
        True
        """
        called = f"{type(self).__name__}.load"
        if not isinstance(arrays, Mapping):
            raise ShapeError(f"{called}: expected a dict of arrays by name, got a {type(arrays).__name__}")
        strict = flag(called, "strict", strict)
        names = None if names is None else texts(called, "names", names)
        parameters, _, held = _look_through(self, every=True)
        if idle := [one for one in names or () if not any(fnmatchcase(name, one) for name in (*held, *arrays))]:
            raise ShapeError(f"{called}: {idle} among names match no array; there are {sorted({*held, *arrays})}")
        arrays = {name: part for name, part in arrays.items() if _is_wanted(name, names)}
        missing = sorted(name for name in parameters.keys() - arrays.keys() if _is_wanted(name, names))
        unknown = sorted(arrays.keys() - held.keys())
        if strict and (missing or unknown):
            raise ShapeError(f"{called}: missing parameters {missing}, unknown parameters {unknown}")
        new = {}
        for name in arrays.keys() & held.keys():
            old = np.asarray(_values(held[name].value))
            new[name] = fitting_copy(_values(arrays[name]), old.dtype, f"{called}: {name}")
            if new[name].shape != old.shape:
                raise ShapeError(f"{called}: {name} has shape {new[name].shape}, expected {old.shape}")
        for name, array in new.items():
            held[name].replace(array)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {parameter.shape}" for name, parameter in _look_through(self)[0].items())
        return f"{type(self).__name__}({self.parameter_count():,} parameters: {shapes})"


class MadeWith:
    """The arguments that a module was made with. Copies of the module share them."""

    __slots__ = ("args", "kwargs")

    def __init__(self, args: tuple[object, ...] | None = None, kwargs: dict[str, object] | None = None) -> None:
        self.args, self.kwargs = args, kwargs  # None: not known

    def __copy__(self) -> MadeWith:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> MadeWith:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle only plain arguments: a function among them must not keep the module from being pickled."""
        plain = (bool, int, float, str, type(None), np.random.Generator)
        given = [*(self.args or ()), *(self.kwargs or {}).values()]
        return (MadeWith, (self.args, self.kwargs) if all(isinstance(part, plain) for part in given) else ())


class Held(NamedTuple):
    """A Tensor or an array that a module holds, and its location: an attribute, or an item of a list or a dict."""

    value: Tensor | Array
    owner: object
    key: object

    def replace(self, array: Array) -> None:
        """Replace it by another array of the same shape and dtype."""
        if isinstance(self.value, Tensor):
            self.value.data = array
        elif self.value.flags.writeable:
            self.value[...] = array
        elif isinstance(self.owner, Module):
            setattr(self.owner, str(self.key), array)
        else:
            cast(MutableMapping[object, object], self.owner)[self.key] = array


Untrained: TypeAlias = tuple["Module", str, str]
"""A module, the name of an attribute, and its value."""


def _is_wanted(name: str, patterns: Sequence[str] | None) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


def _values(part: Tensor | ArrayLike) -> ArrayLike:
    return part.data if isinstance(part, Tensor) else part


_NAMED = frozenset({Tensor, np.ndarray, int, float, bool, str, type(None), list, tuple, dict})
"""Types whose parts all have names."""


def _look_through(module: Module, every: bool = False) -> tuple[dict[str, Tensor], list[Untrained], dict[str, Held]]:
    """Return the parameters of a module, its Tensors and arrays that are unintentionally untrained, and all of them."""
    found: dict[str, Tensor] = {}
    held: dict[str, Held] = {}
    untrained: list[Untrained] = []
    seen: set[int] = set()  # a module may refer to the one that holds it
    names: dict[str, object] = {}
    lost: list[tuple[Untrained, Tensor]] = []
    waiting: list[tuple[object, str, Module, str, object, object]] = [(module, "", module, "", None, None)]
    while waiting:
        value, name, owner, attribute, container, place = waiting.pop()
        lost += _without_a_name(value, owner, attribute)
        if isinstance(value, Tensor | np.ndarray):
            if names.setdefault(name, value) is not value:
                raise ShapeError(
                    f"{type(module).__name__}: two arrays have the name {name!r}, as from keys 1 and '1' of a dict, so "
                    "one of them would be lost; choose other keys"
                )
            if every and id(value) not in seen and not value.dtype.hasobject and getattr(value, "is_leaf", True):
                held[name] = Held(value, container, place)
            if isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
                if id(value) not in seen:
                    seen.add(id(value))
                    found[name] = value
            elif attribute not in type(owner).buffers and (what := _untrained(value)):
                untrained.append((owner, attribute, what))
        elif (parts := _parts(value)) and id(value) not in seen:
            seen.add(id(value))
            for key, part in reversed(parts):
                held_by = (value, str(key)) if isinstance(value, Module) else (owner, attribute)
                waiting.append((part, f"{name}.{key}" if name else str(key), *held_by, value, key))
    untrained += [one for one, parameter in lost if id(parameter) not in seen and one[1] not in type(one[0]).buffers]
    return found, untrained, held


def _without_a_name(value: object, owner: Module, attribute: str) -> Iterator[tuple[Untrained, Tensor]]:
    """Yield the parameters that a part of a module holds where none is looked for."""
    if type(value) in _NAMED:  # nearly all of them
        return
    parts: Iterable[tuple[str, object]] = ()
    what = "an attribute of the class"
    if isinstance(value, Module):
        owner, parts = value, [(name, getattr(value, name, None)) for name in _in_class(cast(type, type(value)))]
    elif isinstance(value, set | frozenset | deque):
        what, parts = f"a parameter in a {type(value).__name__}", (("", part) for part in value)
    elif hasattr(value, "__dict__") and not isinstance(value, type | ModuleType | Tensor | Mapping):
        what, parts = f"a {type(value).__name__} with parameters, but no Module", vars(value).items()
    for name, part in parts:
        if isinstance(part, Tensor) and part.requires_grad and part.is_leaf:
            yield (owner, name if owner is value else attribute, what), part


@lru_cache(maxsize=256)
def _in_class(kind: type) -> tuple[str, ...]:
    """Return the names of Tensors that a class holds, and of its slots, in which there may be some."""
    parts = [part for base in kind.__mro__ if base not in (Module, object) for part in vars(base).items()]
    return tuple(name for name, part in parts if isinstance(part, Tensor | MemberDescriptorType))


def _parts(value: object) -> list[tuple[object, object]]:
    """Return the contents of a container, by name or number; nothing for anything else."""
    if isinstance(value, Module):
        value = vars(value)
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _untrained(value: Tensor | Array) -> str:
    """Describe a value that looks like an untrained weight; else return an empty string."""
    if not is_differentiable(value.dtype):
        return ""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if value.node is not None:
        return f"a result of shape {value.shape} (of {value.node.name}), no leaf"
    return "" if value.is_frozen else f"a Tensor of shape {value.shape} without requires_grad"


def _warn_of_untrained(owner: Module, attribute: str, what: str) -> None:
    """Warn once per class; the location of the warning is its `__init__`, wherever the parameters are requested."""
    kind = type(owner)
    code = getattr(kind.__init__, "__code__", None)
    file, line = (code.co_filename, code.co_firstlineno) if code else (kind.__module__, 1)
    registry: dict[str | tuple[str, type[Warning], int], int] = vars(sys.modules[kind.__module__]).setdefault(
        "__warningregistry__", {}
    )
    warnings.warn_explicit(
        f"{kind.__name__}.{attribute} is {what}: nothing trains it. Make a weight with parameter(...); if it is meant "
        f"to stay, say so in the class: buffers = ({attribute!r},)",
        GradientWarning,
        file,
        line,
        kind.__module__,
        registry,
    )
