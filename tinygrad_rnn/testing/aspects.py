"""The aspects of `check_primitive`: one function each, which returns what it found or raises `AspectError`."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import DTypeLike

from ..compiler.api import compile
from ..credit.nests import value_of
from ..engine.autograd import grad
from ..engine.primitive import Primitive
from ..engine.tape import Array
from ..engine.tensor import Tensor, tensor
from ..ops import tanh
from .gradients import check_grads
from .judge import Options, largest_entry
from .oracles import STEP, Scalar, four_point_slope

_CLOSE = 1e-12  # of values that differ only by rounding, relative to the largest
_REFUSED = (ValueError, IndexError, TypeError, ArithmeticError)  # the errors by which a function rejects an input

Input: TypeAlias = "Array | Tensor | float"
"""An input of a primitive: an array, or a Python number."""


class AspectError(Exception):
    """Raised where an aspect is wrong."""

    verdict = "wrong"


class NotApplicableError(AspectError):
    """Raised where an aspect does not apply to a primitive or its inputs."""

    verdict = "not applicable"


@dataclass(frozen=True)
class Case:
    """A primitive with the inputs and settings of a check."""

    p: Primitive[..., object]
    inputs: Sequence[Input]
    attrs: Mapping[str, object]
    reference: Callable[..., object] | None  # plain NumPy function of the same inputs and attributes
    options: Options

    @property
    def arrays(self) -> dict[int, Array]:
        """The inputs that are arrays, by number."""
        return {i: value for i, value in enumerate(self.inputs) if isinstance(value, np.ndarray)}

    @property
    def checked(self) -> dict[int, Array]:
        """The inputs that are differentiated, by number: the floating point arrays."""
        return {i: value for i, value in self.arrays.items() if value.dtype.kind == "f"}

    def replaced(self, changed: Mapping[int, Input]) -> Case:
        """Return the case with some of its inputs changed."""
        return replace(self, inputs=[changed.get(i, value) for i, value in enumerate(self.inputs)])

    def map(self, change: Callable[[Array], Input]) -> Case:
        """Return the case with `change` applied to the arrays."""
        return self.replaced({i: change(value) for i, value in self.arrays.items()})

    def shapes(self, between: str = ", ") -> str:
        """Return the shapes of the inputs in words."""
        return between.join(str(np.shape(value)) for value in self.inputs)

    def outputs(self, result: object) -> list[Array | Tensor]:
        """Return the result of a call as a list of outputs."""
        return list(cast("Sequence[Array | Tensor]", result if self.p.multiple else [result]))

    def forward(self, function: Callable[..., object] | None = None) -> list[Array]:
        """Return the outputs of the primitive, or of another function, on plain arrays."""
        return list(map(np.asarray, self.outputs((function or self.p)(*self.inputs, **self.attrs))))

    def tried(self, function: Callable[..., object] | None = None) -> list[Array] | None:
        """Return what `forward` does, or None if the function refuses such inputs."""
        try:
            return self.forward(function)
        except _REFUSED:
            return None

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Return standard normal numbers."""
        return np.asarray(np.random.default_rng(self.options.seed).standard_normal(shape))

    def leaves(self) -> list[Tensor]:
        """Return the floating point arrays as leaves."""
        return [tensor(value, requires_grad=True) for value in self.checked.values()]

    def recorded(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs that are Tensors, with leaves in place of the floating point arrays."""
        inputs = self.replaced(dict(zip(self.checked, leaves, strict=True))).inputs
        return [y for y in self.outputs(self.p(*inputs, **self.attrs)) if isinstance(y, Tensor)]

    def name(self, number: int) -> str:
        """Return the primitive's name for an input."""
        parameters = inspect.signature(self.p.forward).parameters.values()
        inputs = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)]
        last = inputs[min(number, len(inputs) - 1)]
        return last.name if last.kind is last.POSITIONAL_ONLY else f"{last.name}{number}"


def agree(actual: Sequence[Array], expected: Sequence[Array], what: str) -> None:
    """Raise `AspectError` if shapes or values differ by more than rounding."""
    if len(actual) != len(expected):
        raise AspectError(f"{what}: expected {len(expected)} outputs, got {len(actual)}")
    for number, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        output = f" of output {number}" if len(expected) > 1 else ""
        if ours.shape != theirs.shape:
            raise AspectError(f"{what}: expected shape {theirs.shape}{output}, got {ours.shape}")
        allowed = _CLOSE * max(largest_entry(theirs), 1.0)
        wrong = np.argwhere(~np.isclose(ours, theirs, rtol=0, atol=allowed, equal_nan=True))
        if len(wrong):
            index = tuple(wrong[0].tolist())
            place = f"y{list(index) or ''}{output}"
            raise AspectError(f"{what}: expected {theirs[index]:.12g} at {place}, got {ours[index]:.12g}")


def _reference_name(case: Case) -> str:
    name = str(getattr(case.reference, "__name__", "<"))
    return "the reference" if name.startswith("<") else name


def values(case: Case) -> str:
    """Compare the outputs with the reference."""
    if case.reference is None:
        raise NotApplicableError("no reference=, and it implements no NumPy function")
    agree(case.forward(), case.forward(case.reference), "value")
    return f"as {_reference_name(case)}"


def analytic(case: Case) -> str:
    """Compare the complex step through the function with differences."""
    if not case.p.analytic:
        raise NotApplicableError("declared not analytic")
    outputs = case.forward()
    directions = {i: case.normal(value.shape) for i, value in case.checked.items()}

    def moved(number: int, by: Scalar) -> Array:
        return case.replaced({i: case.checked[i] + by * u for i, u in directions.items()}).forward()[number]

    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        stepped = [moved(number, 1j * STEP) for number in range(len(outputs))]
    agree([y.real for y in stepped], outputs, "real part on complex inputs")
    for number, y in enumerate(stepped):
        slope = four_point_slope(partial(moved, number), np.longdouble(1e-3))
        if not np.allclose(y.imag / STEP, np.asarray(slope, np.float64), rtol=1e-5, atol=1e-6):
            raise AspectError("its complex step is not its derivative; declare it with primitive(analytic=False)")
    return "complex step is its derivative"


def rule(case: Case, order: int = 1) -> str:
    """Check the first derivatives, or the second, which go through the rule on Tensors."""

    def function(*leaves: Tensor) -> object:
        outputs = case.recorded(leaves)
        # A curved readout, so that the second derivative of a linear operation is not zero too.
        return outputs if order == 1 else [tanh(y) for y in outputs]

    # So that the report uses the primitive's own names for the leaves.
    names = [inspect.Parameter(case.name(i), inspect.Parameter.POSITIONAL_ONLY) for i in case.checked]
    function.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
    seed, rtol, atol = case.options.seed, case.options.rtol, case.options.atol
    report = check_grads(function, *case.checked.values(), rtol=rtol, atol=atol, seed=seed, order=order, check=False)
    if not report.ok:
        raise AspectError("\n".join(report.findings) + f"\n  (inputs of shape {case.shapes()})")
    return "; ".join([", ".join(sorted({leaf.method for leaf in report.leaves if leaf.method})), *report.notes])


def broadcasting(case: Case) -> str:
    """Give inputs axes of length 1, or fewer axes: the values and derivatives must be those of repeated inputs."""
    if len(case.inputs) < 2:
        raise NotApplicableError("one input")
    case = same_shapes(case)
    seen: list[str] = []
    alone: dict[int, dict[int, Array]] = {}  # for each input, the axes that can be of length 1
    for i, value in case.arrays.items():
        shorter = {axis: value.take([0], axis) for axis in range(value.ndim)}
        alone[i] = {axis: short for axis, short in shorter.items() if _broadcasts(case, {i: short}, seen)}
        for lead in range(1, value.ndim + 1):
            _broadcasts(case, {i: np.array(value[(0,) * lead])}, seen)
    for i, j in itertools.combinations(alone, 2):
        for (one, first), (other, second) in itertools.product(alone[i].items(), alone[j].items()):
            if one != other:
                _broadcasts(case, {i: first, j: second}, seen)
    if not seen:
        raise NotApplicableError("it does not broadcast")
    return f"{len(seen)} shapes, such as {seen[-1]}"


def same_shapes(case: Case) -> Case:
    """Return the case with inputs repeated to one shape, if that does not change the result."""
    try:
        same = replace(case, inputs=[np.array(value) for value in np.broadcast_arrays(*case.inputs)])
        agree(same.forward(), case.forward(), "")
    except (*_REFUSED, AspectError):
        return case
    return same


def _broadcasts(case: Case, changed: Mapping[int, Array], seen: list[str]) -> bool:
    """Return whether the function repeats the changed inputs as NumPy does, and check its values and derivatives."""
    short = case.replaced(changed)
    actual = short.tried()
    like = {i: np.array(np.broadcast_to(new, np.shape(case.inputs[i]))) for i, new in enumerate(short.inputs)}
    expected = case.replaced(like).forward()
    if actual is None or [y.shape for y in actual] != [y.shape for y in expected]:
        return False
    agree(actual, expected, f"value of {short.shapes(' with ')}")
    rule(short)
    seen.append(short.shapes(" with "))
    return True


def dtype(case: Case) -> str:
    """Expect float32 from float32, also next to a Python number."""
    # NumPy promotes float32 and wide integers to float64, but not float32 and narrow integers.
    narrow = {"f": np.float32, "i": np.int16, "u": np.uint16}
    case = case.map(lambda value: value.astype(narrow.get(value.dtype.kind, value.dtype)))
    wanted = np.dtype(cast(DTypeLike, case.attrs.get("dtype", np.float32)))
    _expect_dtype(case, wanted)
    numbers = 0
    for i, value in case.checked.items() if len(case.checked) > 1 else ():
        mixed = case.replaced({i: float(value.flat[0])} if value.size else {})
        if mixed.tried() is not None:
            _expect_dtype(mixed, wanted)
            numbers += 1
    return f"float32 gives {wanted}" + (", also next to a Python float" if numbers else "")


def _expect_dtype(case: Case, wanted: np.dtype[np.generic]) -> None:
    kinds = ", ".join(str(v.dtype) if isinstance(v, np.ndarray) else type(v).__name__ for v in case.inputs)
    leaves = case.leaves()
    outputs = case.recorded(leaves)
    for found in [*(y.dtype for y in outputs), *(y.dtype for y in case.forward())]:
        if found != wanted:
            raise AspectError(f"expected {wanted} from {kinds}, got {found}")
    for leaf, g in zip(leaves, _gradients(outputs, leaves), strict=True):  # `grad` converts all but complex numbers
        if g.dtype != leaf.dtype:
            raise AspectError(f"expected a gradient of {leaf.dtype}, got {g.dtype}")


def _gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Array]:
    """Return the gradient of the sum of the outputs with respect to each leaf."""
    return grad(list(outputs), list(leaves), cotangent=[np.ones(y.shape, y.dtype) for y in outputs])


def _taken(case: Case) -> bool:
    """Return whether the function takes such inputs and has outputs for them, like those of the reference."""
    expected = case.tried(case.reference)
    if expected is None:
        return False
    try:
        actual = case.forward()
    except _REFUSED as error:
        raised = f"{type(error).__name__}: {error}"
        raise AspectError(f"{case.shapes()}: {_reference_name(case)} accepts this, but it raised {raised}") from None
    agree(actual, expected, f"value of {case.shapes()}")
    return bool(actual)


def zero_size(case: Case) -> str:
    """Give inputs without elements, where the function takes them."""
    arrays = {i: value for i, value in case.arrays.items() if value.ndim}
    seen = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is nan
        for axes in itertools.product((None, 0, -1), repeat=len(arrays)):
            pairs = zip(arrays.items(), axes, strict=True)
            empty = case.replaced({i: value.take([], axis) for (i, value), axis in pairs if axis is not None})
            if not any(axis is not None for axis in axes) or not _taken(empty):
                continue
            leaves = empty.leaves()
            _gradients(empty.recorded(leaves), leaves)  # the rule must run; `grad` sees to the shapes
            seen.append(empty.shapes())
    if not seen:
        raise NotApplicableError("it takes no array of size 0 here")
    return f"{len(seen)} shapes, such as {seen[0]}"


def zero_d(case: Case) -> str:
    """Give inputs without axes, where the function takes them."""
    case = case.map(lambda value: np.array(value.flat[0]) if value.size else value)
    if any(np.ndim(value) for value in case.inputs) or not _taken(case):
        raise NotApplicableError("it takes no 0-d arrays here")
    return rule(case)


def compiled(case: Case) -> str:
    """Record the function and its gradient with `compile`, and replay them on the same values in reverse order."""

    def both(*leaves: Tensor) -> list[Tensor | Array]:
        outputs = case.recorded(leaves)
        return [*outputs, *_gradients(outputs, leaves)]

    replayed = compile(both, executor="numpy")
    for change in (np.array, np.flip):
        leaves = [tensor(change(value), requires_grad=True) for value in case.checked.values()]
        actual, expected = (list(map(value_of, function(*leaves))) for function in (replayed, both))
        agree(actual, expected, "compiled function and gradient")
    return "function and rule"


def attributes(case: Case) -> str:
    """Pass attributes by keyword and by position, and leave out those that have a default."""
    if not case.attrs:
        raise NotApplicableError("called without attributes")
    expected, seen = case.forward(), ["by keyword"]
    parameters = inspect.signature(case.p.forward).parameters.values()
    ordered = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    leading = list(itertools.takewhile(case.attrs.__contains__, ordered))
    if leading:
        rest = {name: value for name, value in case.attrs.items() if name not in leading}
        result = case.p(*case.map(tensor).inputs, *(case.attrs[name] for name in leading), **rest)
        parts = [part.data for part in case.outputs(result) if isinstance(part, Tensor)]
        agree(parts, expected, "value with attributes by position")
        seen.append("by position")
    optional = {p.name for p in parameters if p.default is not p.empty}
    fewer = replace(case, attrs={name: value for name, value in case.attrs.items() if name not in optional})
    if fewer.attrs != case.attrs and _taken(fewer):
        rule(fewer)
        seen.append("left out")
    return ", ".join(seen)
