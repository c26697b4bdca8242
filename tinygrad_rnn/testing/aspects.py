"""What `check_primitive` looks at: one function an aspect, which returns what it saw or raises `AspectError`."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..engine.autograd import grad
from ..engine.primitive import Primitive
from ..engine.tape import Array
from ..engine.tensor import Tensor, tensor
from ..ops import tanh
from .gradients import check_grads
from .oracles.complex_step import STEP

_CLOSE = 1e-12  # of values that differ in rounding only, relative to the largest
REFUSED = (ValueError, IndexError, TypeError, ArithmeticError)  # how a function says that it takes no such input


class AspectError(Exception):
    """An aspect that is wrong."""


class NotApplicableError(Exception):
    """An aspect that this primitive, or these inputs, do not have."""


@dataclass(frozen=True)
class Case:
    """A primitive and what it is checked with.

    Attributes:
        p: the primitive.
        inputs: arrays and Python numbers.
        attrs: attributes.
        reference: plain NumPy function of the same inputs and attributes, or None.
        seed: of directions and cotangents.
        rtol: allowed relative difference of derivatives.
        atol: allowed difference relative to the largest derivative.
    """

    p: Primitive[Any]
    inputs: Sequence[Any]
    attrs: dict[str, Any]
    reference: Callable[..., Any] | None
    seed: int
    rtol: float
    atol: float

    @property
    def checked(self) -> list[int]:
        """Numbers of the inputs that are differentiated: the floating point arrays."""
        return [i for i, value in enumerate(self.inputs) if isinstance(value, np.ndarray) and value.dtype.kind == "f"]

    @property
    def _names(self) -> list[str]:
        parameters = inspect.signature(self.p.forward).parameters.values()
        variadic = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
        if variadic:
            return [f"{variadic[0]}{number}" for number in range(len(self.inputs))]
        return [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]

    def forward(self, inputs: Sequence[Any] | None = None) -> list[Array]:
        """Return the outputs on plain arrays."""
        result = self.p(*(self.inputs if inputs is None else inputs), **self.attrs)
        return [np.asarray(part) for part in (result if self.p.multiple else (result,))]

    def expected(self, inputs: Sequence[Any]) -> list[Array]:
        """Return what the reference gives."""
        if self.reference is None:
            raise NotApplicableError("no reference=, and it stands for no NumPy function")
        result = self.reference(*inputs, **self.attrs)
        return [np.asarray(part) for part in (result if self.p.multiple else (result,))]

    def map(self, change: Callable[[Array], Any]) -> list[Any]:
        """Return the inputs with `change` applied to the arrays."""
        return [change(value) if isinstance(value, np.ndarray) else value for value in self.inputs]

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Return standard normal numbers."""
        return np.asarray(np.random.default_rng(self.seed).standard_normal(shape))

    def recorded(self, inputs: Sequence[Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the outputs and the leaves, with the floating point arrays as leaves."""
        leaves = {i: tensor(inputs[i], requires_grad=True) for i in self.checked}
        result = self.p(*[leaves.get(i, value) for i, value in enumerate(inputs)], **self.attrs)
        return list(result) if self.p.multiple else [result], list(leaves.values())

    def check_rule(self, order: int = 1, **changes: Any) -> str:
        """Run `check_grads` on the primitive; return what was seen, or raise what is wrong."""
        case = replace(self, **changes)
        where = case.checked

        def function(*leaves: Any) -> Any:
            inputs = list(case.inputs)
            for i, leaf in zip(where, leaves, strict=True):
                inputs[i] = leaf
            result = case.p(*inputs, **case.attrs)
            if order == 1:
                return result
            # A curved readout, so that the second derivative of a linear operation is not zero too.
            return tuple(tanh(part) for part in result) if case.p.multiple else tanh(result)

        names = [self._names[i] for i in where]
        # So that the report calls the leaves what the primitive calls them.
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
        )
        arrays = [case.inputs[i] for i in where]
        report = check_grads(
            function, *arrays, rtol=case.rtol, atol=case.atol, seed=case.seed, order=order, check=False
        )
        if not report.ok:
            shapes = ", ".join(str(np.shape(value)) for value in case.inputs)
            raise AspectError("\n".join(report.stories) + f"\n  (inputs of shape {shapes})")
        return "; ".join([", ".join(sorted({leaf.method for leaf in report.leaves if leaf.method})), *report.notes])


def agree(actual: Sequence[Array], expected: Sequence[Array], what: str) -> None:
    """Raise `AspectError` if shapes or values differ by more than rounding."""
    if len(actual) != len(expected):
        raise AspectError(f"{what}: expected {len(expected)} outputs, got {len(actual)}")
    for number, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        output = f" of output {number}" if len(expected) > 1 else ""
        if ours.shape != theirs.shape:
            raise AspectError(f"{what}: expected shape {theirs.shape}{output}, got {ours.shape}")
        finite = np.abs(theirs[np.isfinite(theirs)])
        allowed = _CLOSE * max(float(finite.max(initial=0.0)), 1.0)
        wrong = ~np.isclose(ours, theirs, rtol=0, atol=allowed, equal_nan=True)
        if wrong.any():
            index = tuple(map(int, np.argwhere(wrong)[0]))
            place = f"[{', '.join(map(str, index))}]" if index else ""
            raise AspectError(f"{what}: expected {theirs[index]:.12g} at y{place}{output}, got {ours[index]:.12g}")


def _name(reference: Any) -> str:
    name = getattr(reference, "__name__", "<")
    return "the reference" if name.startswith("<") else name


def values(case: Case) -> str:
    """Compare the outputs with the reference."""
    expected = case.expected(case.inputs)
    agree(case.forward(), expected, "value")
    return f"as {_name(case.reference)}"


def analytic(case: Case) -> str:
    """Compare complex step through the function with differences of it."""
    if not case.p.analytic:
        raise NotApplicableError("declared not analytic")
    directions = {i: case.normal(np.shape(case.inputs[i])) for i in case.checked}

    def moved(by: Any) -> list[Array]:
        return case.forward([v + by * directions[i] if i in directions else v for i, v in enumerate(case.inputs)])

    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        stepped = moved(1j * STEP)
    agree([y.real for y in stepped], case.forward(), "real part on complex inputs")
    h = np.longdouble(1e-3)
    points = [moved(by * h) for by in (-2, -1, 1, 2)]
    for y, *around in zip(stepped, *points, strict=True):
        slope = np.asarray((around[0] - 8 * around[1] + 8 * around[2] - around[3]) / (12 * h), np.float64)
        if not np.allclose(y.imag / STEP, slope, rtol=1e-5, atol=1e-6):
            raise AspectError("its complex step is not its derivative; declare it with primitive(analytic=False)")
    return "complex step is its derivative"


def rule(case: Case) -> str:
    """Check the first derivatives."""
    return case.check_rule()


def second_order(case: Case) -> str:
    """Check the second derivatives, which go through the rule on Tensors."""
    return case.check_rule(order=2)


def broadcasting(case: Case) -> str:
    """Give inputs axes of length 1, or fewer axes: the values and derivatives must be those of repeated inputs."""
    arrays = [i for i, value in enumerate(case.inputs) if isinstance(value, np.ndarray)]
    if len(case.inputs) < 2:
        raise NotApplicableError("one input")
    case = _same_shapes(case)
    seen: list[str] = []
    alone: dict[int, dict[int, Any]] = {i: {} for i in arrays}  # for each input, the axes that can be of length 1
    for i in arrays:
        value = case.inputs[i]
        for axis in range(value.ndim):
            shorter = value.take([0], axis)
            if _broadcasts(case, {i: shorter}, seen):
                alone[i][axis] = shorter
        for lead in range(1, value.ndim + 1):
            _broadcasts(case, {i: np.array(value[(0,) * lead])}, seen)
    for i, j in itertools.combinations(arrays, 2):
        for (one, first), (other, second) in itertools.product(alone[i].items(), alone[j].items()):
            if one != other:
                _broadcasts(case, {i: first, j: second}, seen)
    if not seen:
        raise NotApplicableError("it does not broadcast")
    return f"{len(seen)} shapes, such as {seen[-1]}"


def _same_shapes(case: Case) -> Case:
    """Return the case with inputs repeated to one shape, if that leaves the result what it was."""
    try:
        inputs = [np.array(value) for value in np.broadcast_arrays(*case.inputs)]
        agree(case.forward(inputs), case.forward(), "")
    except (*REFUSED, AspectError):
        return case
    return replace(case, inputs=inputs)


def _broadcasts(case: Case, changed: dict[int, Any], seen: list[str]) -> bool:
    """Return whether the function repeats the changed inputs as NumPy does, and check its values and derivatives."""
    inputs = [changed.get(i, value) for i, value in enumerate(case.inputs)]
    try:
        actual = case.forward(inputs)
    except REFUSED:
        return False
    repeated = [np.array(np.broadcast_to(new, np.shape(old))) for new, old in zip(inputs, case.inputs, strict=True)]
    expected = case.forward(repeated)
    if [y.shape for y in actual] != [y.shape for y in expected]:
        return False
    shapes = " with ".join(str(np.shape(value)) for value in inputs)
    agree(actual, expected, f"value of {shapes}")
    case.check_rule(inputs=inputs)
    seen.append(shapes)
    return True


def dtype(case: Case) -> str:
    """Expect float32 from float32, also next to a Python number."""
    # NumPy makes float64 of float32 and wide integers, but not of float32 and narrow ones.
    narrow = {"f": np.float32, "i": np.int16, "u": np.uint16}
    inputs = case.map(lambda value: value.astype(narrow.get(value.dtype.kind, value.dtype)))
    wanted = np.dtype(case.attrs.get("dtype", np.float32))
    _expect_dtype(case, inputs, wanted)
    numbers = 0
    for i in case.checked if len(case.checked) > 1 else []:
        mixed = [float(value.flat[0]) if j == i and value.size else value for j, value in enumerate(inputs)]
        try:
            case.forward(mixed)
        except REFUSED:
            continue
        _expect_dtype(replace(case, inputs=mixed), mixed, wanted)
        numbers += 1
    return f"float32 gives {wanted}" + (", also next to a Python float" if numbers else "")


def _expect_dtype(case: Case, inputs: Sequence[Any], wanted: np.dtype[Any]) -> None:
    kinds = ", ".join(str(v.dtype) if isinstance(v, np.ndarray) else type(v).__name__ for v in inputs)
    outputs, leaves = case.recorded(inputs)
    for found in [*(y.dtype for y in outputs), *(y.dtype for y in case.forward(inputs))]:
        if found != wanted:
            raise AspectError(f"expected {wanted} from {kinds}, got {found}")
    for leaf, gradient in zip(leaves, _gradients(outputs, leaves), strict=True):
        if gradient.dtype != leaf.dtype or gradient.shape != leaf.shape:
            raise AspectError(
                f"expected a gradient of {leaf.dtype} {leaf.shape}, got {gradient.dtype} {gradient.shape}"
            )


def _gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Array]:
    cotangents = [np.ones(y.shape, y.dtype) for y in outputs]
    gradients: list[Array] = grad(list(outputs), list(leaves), cotangent=cotangents)
    return gradients


def _taken(case: Case, inputs: Sequence[Any]) -> list[Array] | None:
    """Return the outputs, compared with the reference; None if the function does not take such inputs."""
    shapes = ", ".join(str(np.shape(value)) for value in inputs)
    expected = None
    if case.reference is not None:
        try:
            expected = case.expected(inputs)
        except REFUSED:
            return None
    try:
        actual = case.forward(inputs)
    except REFUSED as error:
        if expected is not None:
            raise AspectError(
                f"{shapes}: {_name(case.reference)} takes it, this raised {type(error).__name__}: {error}"
            ) from None
        return None
    if expected is not None:
        agree(actual, expected, f"value of {shapes}")
    return actual


def zero_size(case: Case) -> str:
    """Give inputs no elements, where the function takes that."""
    arrays = [i for i, value in enumerate(case.inputs) if isinstance(value, np.ndarray) and value.ndim]
    seen = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is nan
        for axes in itertools.product((None, 0, -1), repeat=len(arrays)):
            axis_of = {i: axis for i, axis in zip(arrays, axes, strict=True) if axis is not None}
            inputs = [v.take([], axis_of[i]) if i in axis_of else v for i, v in enumerate(case.inputs)]
            if not axis_of or not _taken(case, inputs):
                continue
            outputs, leaves = case.recorded(inputs)
            for leaf, gradient in zip(leaves, _gradients(outputs, leaves), strict=True):
                if gradient.shape != leaf.shape:
                    raise AspectError(f"expected a gradient of shape {leaf.shape}, got {gradient.shape}")
            seen.append(", ".join(str(np.shape(value)) for value in inputs))
    if not seen:
        raise NotApplicableError("it takes no array of size 0 here")
    return f"{len(seen)} shapes, such as {seen[0]}"


def zero_d(case: Case) -> str:
    """Give inputs no axes, where the function takes that."""
    inputs = case.map(lambda value: np.array(value.flat[0]) if value.size else value)
    if any(np.ndim(value) for value in inputs) or _taken(case, inputs) is None:
        raise NotApplicableError("it takes no 0-d arrays here")
    return case.check_rule(inputs=inputs)


def attributes(case: Case) -> str:
    """Pass attributes by keyword and by position, and leave those out that have a default."""
    if not case.attrs:
        raise NotApplicableError("called without attributes")
    expected, seen = case.forward(), ["by keyword"]
    parameters = inspect.signature(case.p.forward).parameters.values()
    ordered = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    leading = list(itertools.takewhile(case.attrs.__contains__, ordered))
    if leading:
        rest = {name: value for name, value in case.attrs.items() if name not in leading}
        result = case.p(*case.map(tensor), *(case.attrs[name] for name in leading), **rest)
        parts = result if case.p.multiple else (result,)
        agree([part.data for part in parts], expected, "value with attributes by position")
        seen.append("by position")
    optional = {p.name for p in parameters if p.default is not p.empty}
    fewer = replace(case, attrs={name: value for name, value in case.attrs.items() if name not in optional})
    if fewer.attrs != case.attrs and _taken(fewer, case.inputs) is not None:
        fewer.check_rule()
        seen.append("left out")
    return ", ".join(seen)
