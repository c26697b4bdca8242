"""What a drawn program is, and what writes it: values so far, by name, and lines that were tried on them."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tinygrad_rnn as tr

LENGTHS = (0, 1, 1, 2, 3)  # of axes
NUMBERS = ("2", "-0.5", "3.0", "True", "np.float64(0.25)", "np.float32(-1.5)", "0.0", "1", "-0.0")
_MOST = 1e3  # a larger value goes through tanh


@dataclass
class Program:
    """A drawn function.

    Attributes:
        source: text of `f(*inputs)`, which returns a list of values.
        inputs: arguments: Tensors that require gradients, arrays, ids.
        names: what closed-over names in the source mean: constants, parameters.
        parameters: names of the closed-over parameters; gradients are wanted for them and some inputs.
        zeros: whether a gradient that is None counts as zeros. A compiled loop has one body for all steps: what
            depends on a leaf only after more steps than there are is taken to depend on it.
    """

    source: str
    inputs: list[Any]
    names: dict[str, Any]
    parameters: list[str]
    zeros: bool = False

    def arguments(self) -> list[Any]:
        """Return the inputs, generators as copies, which draw the same each time."""
        return [copy.deepcopy(part) if isinstance(part, np.random.Generator) else part for part in self.inputs]

    def function(self, order: int, numpy: Any = np) -> Callable[..., Any]:
        """Return the function: of its values, gradients of a weighted sum of them (order 1), and theirs (order 2).

        Its lines take `numpy` for NumPy.
        """
        names = {"np": numpy, "tr": tr, **self.names}
        exec(self.source, names)
        parameters = [self.names[name] for name in self.parameters]

        def f(*inputs: Any) -> Any:
            values = names["f"](*inputs)
            leaves = [x for x in inputs if isinstance(x, tr.Tensor) and x.requires_grad] + parameters
            if order == 0:
                return values
            total = _weighted(values, 1)
            if total is None and not self.zeros:
                return values
            grads = [None] * len(leaves)
            if total is not None:
                grads = tr.grad(total, leaves, create_graph=order > 1, allow_unused=True)
            second = None if order == 1 else _weighted(grads, 2)
            again = None if second is None else tr.grad(second, leaves, allow_unused=True)
            if self.zeros:
                grads, again = (_filled(parts or [None] * len(leaves), leaves) for parts in (grads, again))
            return values, grads, again

        return f

    def __repr__(self) -> str:
        described = [f"{type(x).__name__} {getattr(x, 'shape', '')} {getattr(x, 'dtype', '')}" for x in self.inputs]
        constants = {name: getattr(value, "shape", value) for name, value in self.names.items()}
        return f"{self.source}\n# inputs: {described}\n# closed over: {constants}"


def _filled(parts: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
    """Return gradients, zeros in place of None."""
    pairs = zip(parts, leaves, strict=True)
    return [np.zeros(leaf.shape, leaf.dtype) if part is None else part for part, leaf in pairs]


def _weighted(values: Sequence[Any], seed: int) -> Any:
    """Return the sum of all recorded values with weights of their own; None if nothing is recorded."""
    total = None
    for number, value in enumerate(values):
        if isinstance(value, tr.Tensor) and value.requires_grad and value.dtype.kind == "f":
            weights = np.random.default_rng((seed, number)).standard_normal(value.shape).astype(value.dtype)
            part = np.sum(value * weights)
            total = part if total is None else total + part
    return total


@dataclass
class Writer:
    """Writes lines; knows the values that there are so far, by name."""

    dtype: str
    rng: np.random.Generator
    known: dict[str, Any] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    count: int = 0
    indent: str = "    "

    # -- choices ------------------------------------------------------------------------------------------------------

    def one_of(self, options: Sequence[Any]) -> Any:
        """Return one of some options."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return bool(self.rng.random() < probability)

    def shape(self, most: int = 3) -> tuple[int, ...]:
        """Return a shape of up to so many axes."""
        return tuple(self.one_of(LENGTHS) for _ in range(int(self.rng.integers(0, most + 1))))

    def value(self, least: int = 0, most: int = 4, kind: str = "f") -> str:
        """Return the name of a value with so many axes, often a late one.

        Raises:
            LookupError: if there is none.
        """
        fits = [
            name for name, v in self.known.items() if least <= np.ndim(v) <= most and dtype_of(v).kind in kind
        ]  # fmt: skip
        if not fits:
            raise LookupError
        return fits[-1 - min(len(fits) - 1, int(self.rng.exponential(2.0)))]

    def of(self, name: str) -> Any:
        """Return the array or Tensor of a name."""
        return self.known[name]

    def axis(self, ndim: int) -> int:
        """Return an axis, perhaps counted from the end."""
        if ndim == 0:
            raise LookupError
        return int(self.rng.integers(-ndim, ndim))

    def axes(self, ndim: int) -> Any:
        """Return what a reduction takes as axis: None, one, or some."""
        if ndim == 0 or self.chance(0.2):
            return None
        if self.chance(0.5):
            return self.axis(ndim)
        count = int(self.rng.integers(0, ndim + 1))
        return tuple(
            int(a) - (ndim if self.chance(0.3) else 0) for a in self.rng.permutation(ndim)[:count]
        )  # fmt: skip

    def constant(self, shape: tuple[int, ...], kind: str = "f", upper: int = 0) -> str:
        """Return the name of a closed-over array: numbers, truth values, or ids below `upper`; or of a parameter."""
        name = f"c{len(self.names)}"
        if kind == "b":
            self.names[name] = self.rng.random(shape) < 0.5
        elif kind == "i":
            if upper < 1 and math.prod(shape):
                raise LookupError
            self.names[name] = self.rng.integers(0, max(1, upper), shape)
        else:
            array = self.rng.standard_normal(shape).astype(self.one_of([self.dtype, self.dtype, self.dtype, "f4"]))
            if self.chance(0.1):
                array = np.ones_like(array)
            if self.chance(0.3):
                self.names[name] = tr.tensor(array, requires_grad=True, name=name)
                self.parameters.append(name)
            else:
                self.names[name] = array
        return name

    def other(self, shape: tuple[int, ...]) -> str:
        """Return something that broadcasts with a shape: a value, a number, or a constant with axes of length 1."""
        fits = [n for n, v in self.known.items() if dtype_of(v).kind == "f" and _broadcasts(np.shape(v), shape)]
        if fits and self.chance(0.5):
            return str(self.one_of(fits))
        if self.chance(0.3):
            return str(self.one_of(NUMBERS))
        kept = shape[int(self.rng.integers(0, len(shape) + 1)) :]
        return self.constant(tuple(1 if self.chance(0.25) else n for n in kept))

    # -- lines --------------------------------------------------------------------------------------------------------

    def add(self, text: str) -> bool:
        """Try a line whose value is an expression (or a tuple of them); take it if it works."""
        names = {"np": np, "tr": tr, **self.names, **self.known}
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of means of nothing
            try:
                made = eval(text, names)
                parts = list(made) if isinstance(made, tuple | list) else [made]
                large = [not is_tame(part) for part in parts]
            except (ValueError, IndexError, TypeError, OverflowError):
                return False
            if not parts or any(np.size(part) > 200 for part in parts):
                return False
            if any(large):
                if len(parts) > 1 or dtype_of(parts[0]).kind != "f":
                    return False
                text = f"np.tanh({text})"
                parts = [eval(text, names)]
                if not is_tame(parts[0]):
                    return False
        made_names = [f"v{self.count + n}" for n in range(len(parts))]
        self.count += len(parts)
        left = ", ".join(made_names) + ("," if isinstance(made, tuple | list) and len(parts) == 1 else "")
        self.lines.append(f"{self.indent}{left} = {text}")
        self.known.update(zip(made_names, parts, strict=True))
        return True


def dtype_of(value: Any) -> np.dtype[Any]:
    return value.dtype if isinstance(value, tr.Tensor | np.ndarray) else np.asarray(value).dtype


def is_tame(part: Any) -> bool:
    array = part.data if isinstance(part, tr.Tensor) else np.asarray(part)
    if array.dtype.kind not in "fc":
        return True
    return bool(np.isfinite(array).all() and (np.abs(array) <= _MOST).all())


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return math.prod(np.broadcast_shapes(shape, to)) <= 200
    except ValueError:
        return False


Entry = Callable[[Writer], str]
OPERATIONS: dict[str, Entry] = {}


Entry = Callable[[Writer], str]


class Family(dict[str, Entry]):
    """Operations by name, each with what writes a call of it: an expression, on values that the writer knows."""

    def operation(self, entry: Entry) -> Entry:
        """Add an entry under its own name."""
        self[entry.__name__] = entry
        return entry

    def unary(self, *texts: str) -> None:
        """Add operations on one value; each is its own name."""
        for text in texts:
            self[text] = lambda w, text=text: text.format(w.value())
