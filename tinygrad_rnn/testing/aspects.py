"""The aspects of `check_primitive`: one function each, which returns what it found or raises `AspectError`."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from ..compiler.api import compile
from ..credit.nests import value_of
from ..engine.autograd import grad
from ..engine.primitive import Primitive
from ..engine.tape import Array
from ..engine.tensor import Tensor, tensor
from ..ops import tanh
from .gradients import check_grads
from .oracles import STEP, Scalar, four_point_slope

_CLOSE = 1e-12  # of values that differ only by rounding, relative to the largest
REFUSED = (ValueError, IndexError, TypeError, ArithmeticError)  # the errors by which a function rejects an input

Input: TypeAlias = "Array | Tensor | float"
"""An input of a primitive: an array, or a Python number."""


class AspectError(Exception):
    """An aspect that is wrong."""


class NotApplicableError(Exception):
    """An aspect that does not apply to this primitive or these inputs."""


@dataclass(frozen=True)
class Case:
    """A primitive with the inputs and settings of a check."""

    p: Primitive[..., object]
    inputs: Sequence[Input]
    attrs: Mapping[str, Any]
    reference: Callable[..., object] | None  # plain NumPy function of the same inputs and attributes
    seed: int
    rtol: float
    atol: float

    @property
    def arrays(self) -> dict[int, Array]:
        """The inputs that are arrays, by number."""
        return {i: value for i, value in enumerate(self.inputs) if isinstance(value, np.ndarray)}

    @property
    def checked(self) -> dict[int, Array]:
        """The inputs that are differentiated, by number: the floating point arrays."""
        return {i: value for i, value in self.arrays.items() if value.dtype.kind == "f"}

    def replaced(self, changed: Mapping[int, Input]) -> list[Input]:
        """Return the inputs with some of them changed."""
        return [changed.get(i, value) for i, value in enumerate(self.inputs)]

    def map(self, change: Callable[[Array], Input]) -> list[Input]:
        """Return the inputs with `change` applied to the arrays."""
        return self.replaced({i: change(value) for i, value in self.arrays.items()})

    def outputs(self, result: Any) -> list[Array | Tensor]:
        """Return the result of a call as a list of outputs."""
        return list(result) if self.p.multiple else [result]

    def forward(self, inputs: Sequence[Input] | None = None) -> list[Array]:
        """Return the outputs on plain arrays."""
        return list(map(np.asarray, self.outputs(self.p(*(self.inputs if inputs is None else inputs), **self.attrs))))

    def expected(self, inputs: Sequence[Input]) -> list[Array]:
        """Return the result of the reference."""
        if self.reference is None:
            raise NotApplicableError("no reference=, and it stands for no NumPy function")
        return list(map(np.asarray, self.outputs(self.reference(*inputs, **self.attrs))))

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Return standard normal numbers."""
        return np.asarray(np.random.default_rng(self.seed).standard_normal(shape))

    def recorded(self, inputs: Sequence[Input]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the outputs and the leaves, with the floating point arrays as leaves."""
        leaves = {i: tensor(inputs[i], requires_grad=True) for i in self.checked}
        outputs = self.outputs(self.p(*[leaves.get(i, value) for i, value in enumerate(inputs)], **self.attrs))
        return [y for y in outputs if isinstance(y, Tensor)], list(leaves.values())

    def check_rule(self, order: int = 1) -> str:
        """Run `check_grads` on the primitive; return what was checked, or raise `AspectError`."""
        checked = self.checked

        def function(*leaves: Tensor) -> object:
            inputs = self.replaced(dict(zip(checked, leaves, strict=True)))
            outputs = self.outputs(self.p(*inputs, **self.attrs))
            # A curved readout, so that the second derivative of a linear operation is not zero too.
            return outputs if order == 1 else [tanh(y) for y in outputs]

        # So that the report uses the primitive's own names for the leaves.
        names = [inspect.Parameter(self._name(i), inspect.Parameter.POSITIONAL_ONLY) for i in checked]
        function.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
        report = check_grads(
            function, *checked.values(), rtol=self.rtol, atol=self.atol, seed=self.seed, order=order, check=False
        )
        if not report.ok:
            raise AspectError("\n".join(report.findings) + f"\n  (inputs of shape {shapes_of(self.inputs)})")
        return "; ".join([", ".join(sorted({leaf.method for leaf in report.leaves if leaf.method})), *report.notes])

    def _name(self, number: int) -> str:
        """Return the primitive's name for an input."""
        parameters = inspect.signature(self.p.forward).parameters.values()
        variadic = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
        if variadic:
            return f"{variadic[0]}{number}"
        return [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY][number]


def shapes_of(inputs: Sequence[Input], between: str = ", ") -> str:
    """Return the shapes of inputs in words."""
    return between.join(str(np.shape(value)) for value in inputs)


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


def _reference_name(case: Case) -> str:
    name = str(getattr(case.reference, "__name__", "<"))
    return "the reference" if name.startswith("<") else name


def values(case: Case) -> str:
    """Compare the outputs with the reference."""
    expected = case.expected(case.inputs)
    agree(case.forward(), expected, "value")
    return f"as {_reference_name(case)}"


def analytic(case: Case) -> str:
    """Compare the complex step through the function with differences."""
    if not case.p.analytic:
        raise NotApplicableError("declared not analytic")
    outputs = case.forward()
    directions = {i: case.normal(value.shape) for i, value in case.checked.items()}

    def moved(number: int, by: Scalar) -> Array:
        inputs = case.replaced({i: case.checked[i] + by * u for i, u in directions.items()})
        return case.forward(inputs)[number]

    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        stepped = [moved(number, 1j * STEP) for number in range(len(outputs))]
    agree([y.real for y in stepped], outputs, "real part on complex inputs")
    for number, y in enumerate(stepped):
        slope = four_point_slope(partial(moved, number), np.longdouble(1e-3))
        if not np.allclose(y.imag / STEP, np.asarray(slope, np.float64), rtol=1e-5, atol=1e-6):
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
    if len(case.inputs) < 2:
        raise NotApplicableError("one input")
    case = _same_shapes(case)
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


def _same_shapes(case: Case) -> Case:
    """Return the case with inputs repeated to one shape, if that does not change the result."""
    try:
        inputs = [np.array(value) for value in np.broadcast_arrays(*case.inputs)]
        agree(case.forward(inputs), case.forward(), "")
    except (*REFUSED, AspectError):
        return case
    return replace(case, inputs=inputs)


def _broadcasts(case: Case, changed: Mapping[int, Array], seen: list[str]) -> bool:
    """Return whether the function repeats the changed inputs as NumPy does, and check its values and derivatives."""
    inputs = case.replaced(changed)
    try:
        actual = case.forward(inputs)
    except REFUSED:
        return False
    repeated = [np.array(np.broadcast_to(new, np.shape(old))) for new, old in zip(inputs, case.inputs, strict=True)]
    expected = case.forward(repeated)
    if [y.shape for y in actual] != [y.shape for y in expected]:
        return False
    shapes = shapes_of(inputs, " with ")
    agree(actual, expected, f"value of {shapes}")
    replace(case, inputs=inputs).check_rule()
    seen.append(shapes)
    return True


def dtype(case: Case) -> str:
    """Expect float32 from float32, also next to a Python number."""
    # NumPy promotes float32 and wide integers to float64, but not float32 and narrow integers.
    narrow = {"f": np.float32, "i": np.int16, "u": np.uint16}
    inputs = case.map(lambda value: value.astype(narrow.get(value.dtype.kind, value.dtype)))
    case = replace(case, inputs=inputs)
    wanted = np.dtype(case.attrs.get("dtype", np.float32))
    _expect_dtype(case, wanted)
    numbers = 0
    for i, value in case.checked.items() if len(case.checked) > 1 else ():
        mixed = replace(case, inputs=case.replaced({i: float(value.flat[0])} if value.size else {}))
        try:
            mixed.forward()
        except REFUSED:
            continue
        _expect_dtype(mixed, wanted)
        numbers += 1
    return f"float32 gives {wanted}" + (", also next to a Python float" if numbers else "")


def _expect_dtype(case: Case, wanted: np.dtype[np.generic]) -> None:
    kinds = ", ".join(str(v.dtype) if isinstance(v, np.ndarray) else type(v).__name__ for v in case.inputs)
    outputs, leaves = case.recorded(case.inputs)
    for found in [*(y.dtype for y in outputs), *(y.dtype for y in case.forward())]:
        if found != wanted:
            raise AspectError(f"expected {wanted} from {kinds}, got {found}")
    for leaf, gradient in _gradients(outputs, leaves):
        if gradient.dtype != leaf.dtype or gradient.shape != leaf.shape:
            raise AspectError(
                f"expected a gradient of {leaf.dtype} {leaf.shape}, got {gradient.dtype} {gradient.shape}"
            )


def _gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> Iterator[tuple[Tensor, Array]]:
    """Return each leaf with its gradient."""
    cotangents = [np.ones(y.shape, y.dtype) for y in outputs]
    return zip(leaves, grad(list(outputs), list(leaves), cotangent=cotangents), strict=True)


def _taken(case: Case, inputs: Sequence[Input]) -> list[Array] | None:
    """Return the outputs, compared with the reference; None if the function does not take such inputs."""
    shapes = shapes_of(inputs)
    try:
        expected = None if case.reference is None else case.expected(inputs)
    except REFUSED:
        return None
    try:
        actual = case.forward(inputs)
    except REFUSED as error:
        if expected is None:
            return None
        raise AspectError(
            f"{shapes}: {_reference_name(case)} takes it, this raised {type(error).__name__}: {error}"
        ) from None
    if expected is not None:
        agree(actual, expected, f"value of {shapes}")
    return actual


def zero_size(case: Case) -> str:
    """Give inputs without elements, where the function takes them."""
    arrays = {i: value for i, value in case.arrays.items() if value.ndim}
    seen = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is nan
        for axes in itertools.product((None, 0, -1), repeat=len(arrays)):
            pairs = zip(arrays.items(), axes, strict=True)
            changed = {i: value.take([], axis) for (i, value), axis in pairs if axis is not None}
            inputs = case.replaced(changed)
            if not changed or not _taken(case, inputs):
                continue
            for leaf, gradient in _gradients(*case.recorded(inputs)):
                if gradient.shape != leaf.shape:
                    raise AspectError(f"expected a gradient of shape {leaf.shape}, got {gradient.shape}")
            seen.append(shapes_of(inputs))
    if not seen:
        raise NotApplicableError("it takes no array of size 0 here")
    return f"{len(seen)} shapes, such as {seen[0]}"


def zero_d(case: Case) -> str:
    """Give inputs without axes, where the function takes them."""
    inputs = case.map(lambda value: np.array(value.flat[0]) if value.size else value)
    if any(np.ndim(value) for value in inputs) or _taken(case, inputs) is None:
        raise NotApplicableError("it takes no 0-d arrays here")
    return replace(case, inputs=inputs).check_rule()


def compiled(case: Case) -> str:
    """Record the function and its gradient with `compile`, and replay them on the same values in reverse order."""

    def both(*leaves: Tensor) -> list[Tensor | Array]:
        outputs = case.outputs(case.p(*case.replaced(dict(zip(case.checked, leaves, strict=True))), **case.attrs))
        recorded = [y for y in outputs if isinstance(y, Tensor)]
        cotangents = [np.ones(y.shape, y.dtype) for y in recorded]
        return [*recorded, *grad(recorded, list(leaves), cotangent=cotangents)]

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
        result = case.p(*case.map(tensor), *(case.attrs[name] for name in leading), **rest)
        parts = [part.data for part in case.outputs(result) if isinstance(part, Tensor)]
        agree(parts, expected, "value with attributes by position")
        seen.append("by position")
    optional = {p.name for p in parameters if p.default is not p.empty}
    fewer = replace(case, attrs={name: value for name, value in case.attrs.items() if name not in optional})
    if fewer.attrs != case.attrs and _taken(fewer, case.inputs) is not None:
        fewer.check_rule()
        seen.append("left out")
    return ", ".join(seen)
