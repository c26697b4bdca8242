"""Programs drawn for the compiler's tests: lines of Python on Tensors, over all operations, shapes and attributes.

A program is text, so that one that fails can be read, and run by itself. It is made from a list of lines, each the name
of an entry of `OPERATIONS` and an integer that decides its operands and attributes, so Hypothesis can leave lines out.
Lines are tried on real arrays while a program is written: its shapes are known, and a line that NumPy refuses, or that
leaves the range in which values can be compared, is not taken.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinygrad_rnn as tr

LENGTHS = (0, 1, 1, 2, 3)  # of axes
NUMBERS = ("2", "-0.5", "3.0", "True", "np.float64(0.25)", "np.float32(-1.5)", "0.0", "1", "-0.0")
MAGNITUDES = ("1e30", "1e-30", "1e20", "1e-20", "7.0", "-0.3")  # a product of two is no float32
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
            name for name, v in self.known.items() if least <= np.ndim(v) <= most and _dtype(v).kind in kind
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
        fits = [n for n, v in self.known.items() if _dtype(v).kind == "f" and _broadcasts(np.shape(v), shape)]
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
                large = [not _tame(part) for part in parts]
            except (ValueError, IndexError, TypeError, OverflowError):
                return False
            if not parts or any(np.size(part) > 200 for part in parts):
                return False
            if any(large):
                if len(parts) > 1 or _dtype(parts[0]).kind != "f":
                    return False
                text = f"np.tanh({text})"
                parts = [eval(text, names)]
                if not _tame(parts[0]):
                    return False
        made_names = [f"v{self.count + n}" for n in range(len(parts))]
        self.count += len(parts)
        left = ", ".join(made_names) + ("," if isinstance(made, tuple | list) and len(parts) == 1 else "")
        self.lines.append(f"{self.indent}{left} = {text}")
        self.known.update(zip(made_names, parts, strict=True))
        return True


def _dtype(value: Any) -> np.dtype[Any]:
    return value.dtype if isinstance(value, tr.Tensor | np.ndarray) else np.asarray(value).dtype


def _tame(part: Any) -> bool:
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


def operation(entry: Entry) -> Entry:
    """Put an entry into the table under its name."""
    OPERATIONS[entry.__name__] = entry
    return entry


def _unary(*texts: str) -> None:
    for text in texts:
        OPERATIONS[text] = lambda w, text=text: text.format(w.value())


_unary(
    *(
        "np.tanh({})",
        "tr.sigmoid({})",
        "tr.softplus({})",
        "tr.log_sigmoid({})",
        "tr.relu({})",
        "np.exp({})",
        "-{}",
        "np.absolute({})",
        "np.square({})",
    ),
    *("np.log(1 + {0} * {0})", "np.sqrt({0} * {0} + 0.5)", "np.reciprocal({0} * {0} + 1.5)", "np.positive({})"),
    *("np.clip({}, -0.5, 0.5)", "np.clip({}, None, 0.25)", "{}**3", "{}**2", "{}**1", "({0} * {0} + 0.5)**0.5"),
    *("({0} * {0} + 1)**{0}", "2.0**{}", "np.astype({}, np.float64)", "np.astype({}, np.float32)", "{}.T"),
    *("np.ravel({})", "tr.cut({})", "tr.cut({}, scale=0.5)", "np.zeros_like({})", "np.ones_like({0}) * {0}"),
    *("np.sin({})", "np.cos({})", "np.tan(np.tanh({}))", "np.arctan({})", "np.arcsin(np.tanh({}))", "np.sinh({})"),
    *("np.arccos(np.tanh({}) * 0.9)", "np.cosh({})", "np.arcsinh({})", "np.arccosh({0} * {0} + 1.5)", "np.cbrt({})"),
    *("np.arctanh(np.tanh({}) * 0.9)", "np.log1p({0} * {0})", "np.expm1({})", "np.log2({0} * {0} + 1.5)"),
    *("np.fabs({})", "np.nan_to_num({})", "np.nan_to_num(np.log({}))"),
    *("np.log10({0} * {0} + 1.5)", "np.exp2({})", "np.floor({})", "np.ceil({})", "np.rint({})", "np.sign({})"),
    *("np.full_like({}, 2.0)", "{0} > 0", "np.isfinite({})", "np.astype({} * 3, int)", "{0} + {0}", "{0} * {0}"),
)


@operation
def arithmetic(w: Writer) -> str:
    a = w.value()
    b = w.other(np.shape(w.of(a)))
    a, b = (b, a) if w.chance(0.4) else (a, b)
    return f"{a} {w.one_of('+-*')} {b}"


@operation
def quotient(w: Writer) -> str:
    a = w.value()
    return f"{w.other(np.shape(w.of(a)))} / ({a} * {a} + 1.5)"


@operation
def chain(w: Writer) -> str:
    """Sums or products in a row: their order is the user's."""
    a, sign = w.value(), w.one_of("+*")
    parts = [w.other(np.shape(w.of(a))) for _ in range(3)]
    return f"{a} {sign} {parts[0]} {sign} {parts[1]} {sign} {parts[2]}"


@operation
def magnitudes(w: Writer) -> str:
    """Products and sums with numbers of which two together leave the range of float32."""
    text = w.value()
    for _ in range(int(w.rng.integers(2, 4))):
        text = f"({text} {w.one_of('*+*/')} {w.one_of(MAGNITUDES)})"
    return text


@operation
def cancellation(w: Writer) -> str:
    """A product of matrices, what takes it away again, and a rest that must be what it was."""
    a = w.value(least=2, most=2)
    c = w.constant((np.shape(w.of(a))[1], w.one_of(LENGTHS)))
    rest = w.constant((np.shape(w.names[c])[1],))
    return f"({a} @ {c} + -({a} @ {c})) + {rest}"


@operation
def of_two(w: Writer) -> str:
    a = w.value()
    name = w.one_of(
        [
            "maximum",
            "minimum",
            "arctan2",
            "hypot",
            "logaddexp",
            "logaddexp2",
            "mod",
            "fmax",
            "fmin",
            "copysign",
            "heaviside",
        ]
    )
    return f"np.{name}({a}, {w.other(np.shape(w.of(a)))})"


@operation
def choice(w: Writer) -> str:
    a = w.value()
    shape = np.shape(w.of(a))
    condition = w.one_of([f"{a} > 0.1", w.constant(shape, "b"), w.constant(shape[-1:], "b"), f"np.isnan({a})"])
    parts = [a, w.other(shape)] if w.chance(0.5) else [w.other(shape), a]
    if w.chance(0.2):
        return f"np.select([{condition}, {a} < -0.5], [{parts[0]}, {parts[1]}], 0.5)"
    return f"np.where({condition}, {parts[0]}, {parts[1]})"


@operation
def comparison(w: Writer) -> str:
    a = w.value(kind="fi")
    return f"{a} {w.one_of(['<', '<=', '>', '>=', '==', '!='])} {w.other(np.shape(w.of(a)))}"


@operation
def truth(w: Writer) -> str:
    a = w.value(kind="b")
    return w.one_of([f"np.logical_not({a})", f"np.logical_and({a}, {a})", f"{a} * {w.value()}", f"np.sum({a}, axis=0)"])


@operation
def whole_numbers(w: Writer) -> str:
    a = w.value(kind="iu")
    return w.one_of([f"{a} + 200 + 100", f"{a} * 3", f"-{a}", f"{a} / 2", f"np.maximum({a}, 1)", f"np.sum({a})"])


@operation
def reduction(w: Writer) -> str:
    a = w.value(kind="ffffi")
    name = w.one_of(["np.sum", "np.mean", "np.max", "np.min", "np.var", "tr.logsumexp"])
    return f"{name}({a}, axis={w.axes(np.ndim(w.of(a)))}, keepdims={w.chance(0.4)})"


@operation
def probabilities(w: Writer) -> str:
    a = w.value(least=1)
    return f"{w.one_of(['tr.softmax', 'tr.log_softmax'])}({a}, axis={w.axis(np.ndim(w.of(a)))})"


@operation
def position(w: Writer) -> str:
    a = w.value(least=1)
    return f"np.{w.one_of(['argmax', 'argmin', 'argsort'])}({a}, axis={w.axis(np.ndim(w.of(a)))})"


@operation
def loss(w: Writer) -> str:
    a = w.value(least=1)
    shape = np.shape(w.of(a))
    targets = w.constant(shape[:-1], "i", shape[-1])
    return f"tr.cross_entropy({a}, {targets}, ignore_label={w.one_of([-1, -1, 0])})"


@operation
def regression_loss(w: Writer) -> str:
    a = w.value(least=1)
    targets = w.constant(np.shape(w.of(a)))
    arguments = f"{a}, {targets}, reduction={w.one_of(['mean', 'sum', 'none'])!r}"
    calls = (f"tr.mse({arguments})", f"tr.mae({arguments})", f"tr.huber({arguments})")
    return w.one_of([*calls, f"tr.gaussian_nll({a}, np.tanh({a}), {targets})"])


@operation
def binary_loss(w: Writer) -> str:
    a = w.value(least=1)
    return f"tr.binary_cross_entropy({a}, {w.constant(np.shape(w.of(a)), 'i', 2)}, ignore_label={w.one_of([-1, 0])})"


@operation
def reshaped(w: Writer) -> str:
    a = w.value()
    size = math.prod(np.shape(w.of(a)))
    divisors = [n for n in range(1, size + 1) if size % n == 0] or [0]
    first = w.one_of(divisors)
    rest = size // first if first else 0
    return f"np.reshape({a}, {w.one_of([(first, rest), (rest, 1, first), (-1, first or 1), (size,), size])})"


@operation
def turned(w: Writer) -> str:
    a = w.value(least=1)
    n = np.ndim(w.of(a))
    axes = tuple(int(x) - (n if w.chance(0.3) else 0) for x in w.rng.permutation(n))
    texts = [f"np.transpose({a}, {axes})", f"np.swapaxes({a}, {w.axis(n)}, {w.axis(n)})"]
    return w.one_of([*texts, f"np.moveaxis({a}, {w.axis(n)}, {w.axis(n)})"])


@operation
def lengths_of_one(w: Writer) -> str:
    a = w.value()
    n = np.ndim(w.of(a))
    ones = tuple(axis for axis, length in enumerate(np.shape(w.of(a))) if length == 1)
    texts = [f"np.expand_dims({a}, {int(w.rng.integers(-n - 1, n + 1))})", f"np.expand_dims({a}, (0, -1))"]
    return w.one_of([*texts, f"np.squeeze({a})", f"np.squeeze({a}, {ones})"])


@operation
def broadcast(w: Writer) -> str:
    a = w.value()
    shape = [w.one_of(LENGTHS) if n == 1 else n for n in np.shape(w.of(a))]
    lead = [w.one_of(LENGTHS)] if w.chance(0.5) else []
    return f"np.broadcast_to({a}, {(*lead, *shape)})"


@operation
def joined(w: Writer) -> str:
    a = w.value(least=1)
    shape = list(np.shape(w.of(a)))
    axis = w.axis(len(shape))
    shape[axis] = w.one_of(LENGTHS)
    parts = w.rng.permutation([a, w.constant(tuple(shape)), a])[: w.one_of([1, 2, 3])]
    return f"np.concatenate([{', '.join(parts)}], axis={axis})"


@operation
def stacked(w: Writer) -> str:
    a = w.value(most=3)
    shape = np.shape(w.of(a))
    alike = [name for name, v in w.known.items() if np.shape(v) == shape and _dtype(v).kind == "f"]
    parts = [w.one_of([a, w.one_of(alike), w.constant(shape)]) for _ in range(w.one_of([1, 1, 2, 3]))]
    return f"np.stack([{', '.join(parts)}], axis={w.axis(len(shape) + 1)})"


@operation
def split(w: Writer) -> str:
    a = w.value(least=1)
    axis = w.axis(np.ndim(w.of(a)))
    length = np.shape(w.of(a))[axis]
    sections = w.one_of([n for n in range(1, length + 1) if length % n == 0] or [1])
    places = tuple(sorted(int(n) for n in w.rng.integers(-length, length + 2, w.one_of([0, 1, 2]))))
    return f"np.split({a}, {w.one_of([sections, 1, places])}, axis={axis})"


@operation
def unstacked(w: Writer) -> str:
    a = w.value(least=1)
    return f"np.unstack({a}, axis={w.axis(np.ndim(w.of(a)))})"


@operation
def constant_parts(w: Writer) -> str:
    """Views and parts of a constant: what constant folding must keep the shapes of."""
    a, shape = w.value(), (*w.shape(2), w.one_of([1, 1, 2]))
    c = w.constant(shape)
    parts = [f"np.unstack({c}, axis=-1)[0]", f"np.split({c}, 1, axis=-1)[0]", f"{c}[..., 0]", f"np.stack([{c}])"]
    return f"{w.one_of(parts)} * np.sum({a})"


@operation
def slices(w: Writer) -> str:
    a = w.value(least=1, kind="fffib")
    index = []
    for length in np.shape(w.of(a)):
        number = str(int(w.rng.integers(-length, length))) if length else ":"
        index.append(w.one_of([":", "::-1", "1:", ":-1", "::2", number, "None, :", "-1:", "0:1"]))
    kept = index[: int(w.rng.integers(1, len(index) + 1))]
    return f"{a}[{', '.join(['...', *kept[::-1]] if len(kept) == len(index) and w.chance(0.1) else kept)}]"


@operation
def picks(w: Writer) -> str:
    a = w.value(least=1)
    shape = np.shape(w.of(a))
    ids = w.constant(w.shape(2), "i", shape[0])
    mask = w.constant(shape[:1], "b")
    texts = [f"{a}[{ids}]", f"{a}[{mask}]", f"{a}[{ids}, None]", f"{a}[..., {w.constant((2,), 'i', shape[-1])}]"]
    if len(shape) > 1:
        texts.append(f"{a}[{ids}, {w.constant((1,), 'i', shape[1])}]")
    return w.one_of(texts)


@operation
def lookup(w: Writer) -> str:
    a = w.value(least=1)
    axis = w.one_of([None, w.axis(np.ndim(w.of(a)))])
    length = math.prod(np.shape(w.of(a))) if axis is None else np.shape(w.of(a))[axis]
    given = [name for name, v in w.known.items() if _dtype(v).kind in "iu"]
    ids = w.one_of(given) if given and w.chance(0.5) else w.constant(w.shape(2), "i", length)
    return f"tr.take({a}, {ids}, axis={axis})"


@operation
def along(w: Writer) -> str:
    a = w.value(least=1)
    axis = w.axis(np.ndim(w.of(a)))
    shape = list(np.shape(w.of(a)))
    length, shape[axis] = shape[axis], w.one_of(LENGTHS)
    return f"tr.take_along_axis({a}, {w.constant(tuple(shape), 'i', length)}, axis={axis})"


@operation
def product(w: Writer) -> str:
    a = w.value(least=1, most=3)
    shape = np.shape(w.of(a))
    n, (m, k) = len(shape), (w.one_of(LENGTHS), w.one_of(LENGTHS))
    texts = [f"{a} @ {w.constant((shape[-1], k))}", f"{a} @ {w.constant((shape[-1],))}"]
    texts.append(f"{w.constant((m, shape[-2] if n > 1 else shape[0]))} @ {a}")
    if n > 1:
        texts += [f"{a} @ np.swapaxes({a}, -1, -2)", f"{w.constant((shape[-2],))} @ {a}"]
        texts.append(f"{a} @ {w.constant((*shape[:-2], shape[-1], k))}")
    if n == 3:
        texts.append(f"{a} @ {w.constant((m, 1, shape[-1], k))}")
    if n == 1:
        texts.append(f"{a} @ {a}")
    return w.one_of(texts)


@operation
def arranged(w: Writer) -> str:
    a = w.value()
    n = np.ndim(w.of(a))
    texts = [f"np.roll({a}, {w.one_of([1, -2, 0])})", f"np.repeat({a}, {w.one_of([0, 1, 2])})", f"np.tile({a}, (2, 1))"]
    texts += [f"np.{name}({a})" for name in ("flip", "atleast_1d", "atleast_2d", "atleast_3d", "copy")]
    if n:
        axis = w.axis(n)
        texts += [f"np.roll({a}, {w.one_of([1, -2])}, axis={axis})", f"np.repeat({a}, 2, axis={axis})"]
        texts += [f"np.flip({a}, axis={axis})", f"np.diff({a}, axis={axis})", f"np.delete({a}, 0, axis={axis})"]
        texts += [f"np.sort({a}, axis={axis})", f"np.pad({a}, 1)", f"np.pad({a}, (0, 2), mode='edge')"]
        texts.append(f"np.array_split({a}, {w.one_of([1, 2, 3])}, axis={axis})")
    if n > 1:
        texts += [f"np.{name}({a})" for name in ("tril", "triu", "trace", "diagonal", "rot90", "fliplr", "flipud")]
        texts += [f"np.matrix_transpose({a})", f"np.rollaxis({a}, {w.axis(n)})"]
    if n in (1, 2):
        texts += [f"np.diag({a})", f"np.diag({a}, 1)", f"np.diagflat({a})"]
    return w.one_of(texts)


@operation
def side_by_side(w: Writer) -> str:
    a = w.value(most=3)
    b = w.constant(np.shape(w.of(a)))
    names = ("hstack", "vstack", "dstack", "column_stack", "block", "broadcast_arrays")
    name = w.one_of(names)
    return f"np.{name}({a}, {b})" if name == "broadcast_arrays" else f"np.{name}([{a}, {b}, {a}])"


@operation
def scanned(w: Writer) -> str:
    a = w.value()
    name = w.one_of(["cumsum", "cumprod", "prod", "cumulative_sum", "cumulative_prod", "trapezoid"])
    n = np.ndim(w.of(a))
    axis = w.axis(n) if n > 1 or name == "trapezoid" else w.one_of([None, w.axis(n)])
    return f"np.{name}({a}, axis={axis})"


@operation
def recurrence(w: Writer) -> str:
    a = w.value(least=1)
    axis = w.axis(np.ndim(w.of(a)))
    if not np.shape(w.of(a))[axis]:
        return f"np.cumsum({a}, axis={axis})"  # a recurrence has a step
    return f"tr.linear_scan({w.one_of(['0.5', a])}, {a}, axis={axis}, reverse={w.one_of([True, False])})"


@operation
def statistic(w: Writer) -> str:
    a = w.value()
    axis = w.one_of([None, w.axis(np.ndim(w.of(a)))])
    calls = ("np.std({}, axis={})", "np.var({}, axis={}, ddof=1)", "np.average({}, axis={})", "np.ptp({}, axis={})")
    calls += ("np.nansum({}, axis={})", "np.nanmean({}, axis={})", "np.median({}, axis={})")
    calls += ("np.linalg.norm({}, axis={})", "np.linalg.vector_norm({}, axis={})")
    keywords = (
        "np.sum({}, axis={}, initial=0.5)",
        "np.sum({0}, axis={1}, where={0} > 0)",
        "np.mean({0}, axis={1}, where={0} > 0)",
    )
    return str(w.one_of([*calls, *keywords])).format(a, axis)


@operation
def contraction(w: Writer) -> str:
    a = w.value(least=1, most=2)
    shape = np.shape(w.of(a))
    same = w.constant(shape)
    texts = [f"np.{name}({a}, {same})" for name in ("vdot", "inner", "outer", "kron", "vecdot")]
    texts += [f"np.tensordot({a}, {same}, axes={len(shape)})", f"np.dot({a}, {w.constant((shape[-1],))})"]
    if len(shape) == 2:
        texts += [
            f"np.einsum('ij,ij->j', {a}, {same})",
            f"np.einsum('ij,kj', {a}, {same})",
            f"np.linalg.multi_dot([{a}, {same}.T, {a}])",
        ]
        texts.append(f"np.einsum('...j->j...', {a})")
    else:
        texts += [f"np.einsum('i,j->ij', {a}, {same})", f"tr.vecmat({a}, {w.constant((shape[0], 2))})"]
    return w.one_of(texts)


@operation
def whole_parts(w: Writer) -> str:
    a = w.value()
    b = w.other(np.shape(w.of(a)))
    return w.one_of(
        [f"np.{name}({a}, {b})" for name in ("fmod", "floor_divide", "divmod", "remainder")]
        + [f"np.modf({a})", f"np.round({a}, 1)", f"np.trunc({a})", f"np.fix({a})"]
    )


@operation
def chosen(w: Writer) -> str:
    a = w.value()
    b = w.other(np.shape(w.of(a)))
    texts = [f"np.{name}({a}, {b})" for name in ("fmax", "fmin", "copysign", "heaviside")]
    texts += [f"np.select([{a} > 0.5, {a} > 0], [{a}, {b}], 0.25)", f"np.fabs({a})", f"np.nan_to_num({a}, nan=0.5)"]
    return w.one_of(texts)


@operation
def accumulated(w: Writer) -> str:
    a = w.value(least=1)
    name, axis = w.one_of(["cumulative_sum", "cumulative_prod", "trapezoid"]), w.axis(np.ndim(w.of(a)))
    return f"np.{name}({a}, axis={axis}{'' if name == 'trapezoid' else f', include_initial={w.chance(0.5)}'})"


lines = st.lists(st.tuples(st.sampled_from(list(OPERATIONS)), st.integers(0, 2**32 - 1)), min_size=1, max_size=7)
"""Lines of a program, as `write` takes them."""


def write(before: Any, body: Any, after: Any, steps: int, dtype: str, seed: int) -> Program:
    """Return a program: lines, a loop over time steps (0: none) with a body of lines and a state, and lines after it.

    Args:
        before, body, after: lists of (name of an operation, integer).
        steps: turns of the loop.
        dtype: of inputs and most constants.
        seed: of shapes and values.
    """
    w = Writer(dtype, np.random.default_rng(seed))
    shape, dtypes = w.shape(), [dtype, dtype, w.one_of(["float32", "float64"])]
    inputs: list[Any] = [tr.tensor(w.rng.standard_normal(shape), dtypes[0], True)]
    inputs.append(tr.tensor(w.rng.standard_normal(w.shape()), dtypes[1], w.chance(0.5)))
    inputs.append(w.rng.standard_normal(w.shape()).astype(dtypes[2]))
    inputs.append(w.rng.integers(0, 3, w.shape(2)).astype(w.one_of(["int64", "uint8", "int32"])))
    # A state and its inputs: what a loop carries, and a slice for each of its steps.
    N, H = w.one_of(LENGTHS[1:]), w.one_of(LENGTHS[1:])
    inputs.append(tr.tensor(w.rng.standard_normal((N, max(1, steps), H)), dtype, True))
    names = [f"x{number}" for number in range(len(inputs))]
    w.known.update(zip(names, inputs, strict=True))
    w.names["W"] = tr.tensor(w.rng.standard_normal((H, H)) / 2, dtype, True, name="W")
    w.parameters.append("W")
    _take(w, before)
    if steps:
        _loop(w, body, steps, names[-1])
    _take(w, after)
    results = [name for name in w.known if name not in names]
    kept = [name for name in results if w.chance(0.7)] or results
    repeated = kept[:1] if w.chance(0.3) else []
    source = "\n".join([f"def f({', '.join(names)}):", *w.lines, f"    return [{', '.join([*kept, *repeated])}]"])
    return Program(source, inputs, w.names, w.parameters)


def _take(w: Writer, given: Any) -> None:
    for name, seed in given:
        w.rng = np.random.default_rng(seed)
        try:
            w.add(OPERATIONS[name](w))
        except LookupError:  # no value that the operation could work on
            continue


def _loop(w: Writer, body: Any, steps: int, xs: str) -> None:
    """Write a loop: each turn takes a slice of xs (N, T, H) and the state h (N, H), which its last lines renew."""
    outer = dict(w.known)
    w.lines += [f"    h, outputs = np.tanh({xs}[:, 0]), []", f"    for t in range({steps}):"]
    w.lines += ["        with tr.at_step(t):", f"            x = {xs}[:, t]"]
    w.known["h"], w.known["x"] = np.tanh(w.of(xs)[:, 0]), w.of(xs)[:, 0]
    w.indent = " " * 12
    _take(w, body)
    made = [name for name in w.known if name not in outer and name not in "hx" and _dtype(w.of(name)).kind == "f"]
    w.indent = "    "
    alike = [name for name in made if np.shape(w.of(name)) == np.shape(w.of("h"))]
    terms = " + ".join(["x @ W", "h @ W.T", *alike[-2:], *(f"np.sum({name}) * 0.1" for name in made[-2:])])
    w.lines += [f"            h = np.astype(np.tanh({terms}), x.dtype)", "            outputs.append(h)"]
    h = w.of("h")
    w.known = outer
    w.known["h"] = h
    w.known["hs"] = np.stack([h] * steps, axis=1)
    w.lines.append("    hs = np.stack(outputs, axis=1)")
