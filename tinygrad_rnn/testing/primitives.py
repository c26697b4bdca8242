"""`check_primitive`: everything that an operation of your own must do, in one call, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from ..engine.primitive import Primitive
from ..engine.table import supported
from . import aspects, memory
from .aspects import AspectError, Case, Input
from .judge import Options
from .report import Report, Result

Domain: TypeAlias = tuple[float, float]
"""Bounds between which an input is drawn uniformly."""

_ASPECTS: dict[str, Callable[[Case], str]] = {
    "values": aspects.values,
    "analytic": aspects.analytic,
    "rule": aspects.rule,
    "second order": partial(aspects.rule, order=2),
    "broadcasting": aspects.broadcasting,
    "dtype": aspects.dtype,
    "zero-size": aspects.zero_size,
    "0-d": aspects.zero_d,
    "layout": memory.layout,
    "read-only": memory.read_only,
    "no mutation": memory.no_mutation,
    "out=": memory.out,
    "compiled": aspects.compiled,
    "attributes": aspects.attributes,
}


@dataclass(frozen=True)
class AspectResult(Result):
    """The result of one aspect."""

    name: str
    verdict: str  # "ok", "wrong" or "not applicable"
    detail: str  # what was checked, what is wrong, or why it does not apply

    @property
    def cells(self) -> dict[str, str]:
        """The row of the table, by column."""
        return {"aspect": self.name, "verdict": self.verdict, "what was seen": self.detail.partition("\n")[0]}

    @property
    def finding(self) -> str:
        """What is wrong, in words; "" if nothing is."""
        return "" if self.ok else f"{self.name}: {self.detail}"


@dataclass(frozen=True)
class PrimitiveReport(Report[AspectResult]):
    """The outcome of `check_primitive`."""

    @property
    def aspects(self) -> tuple[AspectResult, ...]:
        """One result per aspect."""
        return self.results


def check_primitive(
    p: Primitive[..., object],
    *inputs: ArrayLike,
    shapes: Sequence[tuple[int, ...]] | None = None,
    attrs: Mapping[str, object] | None = None,
    reference: Callable[..., object] | None = None,
    domain: Domain | Sequence[Domain | None] | None = None,
    seed: int = 0,
    rtol: float = 1e-10,
    atol: float = 1e-13,
    check: bool = True,
) -> PrimitiveReport:
    """Check everything about a primitive that the engine and its users rely on.

    There are separate verdicts on these aspects: values (compared with a plain NumPy function), analytic (whether the
    complex step may be used), rule (first derivatives), second order, broadcasting, dtype, zero-size, 0-d, layout
    (strided, transposed, reversed, broadcast arrays), read-only, no mutation, out=, compiled, and attributes. An aspect
    that does not apply, such as 0-d arrays with an axis, is reported as "not applicable".

    Args:
        p: the primitive.
        inputs: example inputs; floating point arrays are differentiated, others (integers, booleans, Python numbers)
            are constants. Small arrays are best, because every entry of the gradient is compared.
        shapes: shapes of floating point inputs to be drawn, instead of inputs.
        attrs: attributes to call it with, such as {"axis": 1}.
        reference: a plain NumPy function of the same inputs and attributes; None: the NumPy function that the primitive
            implements, if there is one.
        domain: (low, high) to draw inputs from, uniformly, or one such pair per input; None: standard normal numbers.
        seed: seed of everything that is drawn.
        rtol, atol: allowed difference of derivatives, as in `check_grads`.
        check: raise an error if something is wrong; otherwise only report it.

    Returns:
        A `PrimitiveReport`; printed, it is a table of the aspects.

    Raises:
        GradCheckError: if something is wrong; its `report` holds everything found.
        ValueError: if not exactly one of `inputs` and `shapes` is given, nothing among them is floating point, or
            `domain` does not fit `shapes`.
        TypeError: if `p` is not a primitive.
        ConfigError: if a tolerance is not a finite number of 0 or more. (It is a ValueError.)

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.testing import check_primitive
    >>> @tr.primitive()
    ... def arctan(x, /, *, out=None):
    ...     return np.arctan(x, out=out)
    >>> @arctan.rule(keep="x")
    ... def _(g, y, x):
    ...     return (g / (1 + x * x),)
    >>> report = check_primitive(arctan, shapes=[(2, 3)], reference=np.arctan)
    >>> report.ok, [aspect.name for aspect in report.aspects if aspect.verdict == "not applicable"]
    (True, ['broadcasting', 'attributes'])
    """
    if not isinstance(p, Primitive):
        raise TypeError(
            f"check_primitive: expected a primitive, made by @tr.primitive(), got {p!r}; check_grads checks a function "
            "that is written with primitives"
        )
    if bool(inputs) == (shapes is not None):
        raise ValueError("check_primitive: pass example inputs, or shapes= of inputs to draw, and not both")
    options = Options(seed, rtol=rtol, atol=atol, function="check_primitive")
    drawn = _drawn(np.random.default_rng(seed), shapes or (), domain)
    values = drawn or [value if isinstance(value, bool | int | float) else np.array(value) for value in inputs]
    values = [v.astype(np.float64) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v for v in values]
    reference = reference or next((f for f, implementation in supported().items() if implementation is p), None)
    case = Case(p, values, dict(attrs or {}), reference, options)
    if not case.checked:
        raise ValueError(f"check_primitive: no input of {p.name} is a floating point array: nothing to differentiate")

    results = []
    for name, look in _ASPECTS.items():
        try:
            verdict, detail = "ok", look(case)
        except AspectError as found:
            verdict, detail = found.verdict, str(found)
        except Exception as error:  # any error of a user's function is a finding
            verdict, detail = "wrong", f"raised {type(error).__name__}: {error}"
        results.append(AspectResult(name, verdict, detail))

    given = "*inputs" if shapes is None else f"shapes={list(shapes)}" + (f", domain={domain}" if domain else "")
    given += f", attrs={' '.join(repr(case.attrs).split())}" if case.attrs else ""
    shown = [*map(_shown, values), *(f"{name}={_shown(value)}" for name, value in case.attrs.items())]
    return PrimitiveReport(
        target=f"primitive {p.name} on {', '.join(shown)}",
        results=tuple(results),
        seed=seed,
        reproducer=f"check_primitive({p.name}, {given}, seed={seed})",
    ).or_raised(check)


def _shown(value: object) -> str:
    return str(value.shape) if isinstance(value, np.ndarray) else repr(value)


def _drawn(
    rng: np.random.Generator, shapes: Sequence[tuple[int, ...]], domain: Domain | Sequence[Domain | None] | None
) -> list[Input]:
    """Return inputs of these shapes, uniform in their domain, or normal without one."""
    is_one = domain is None or (len(domain) == 2 and all(isinstance(limit, int | float) for limit in domain))
    limits = cast("Sequence[Domain | None]", [domain] * len(shapes) if is_one else domain)
    if len(limits) != len(shapes):
        raise ValueError(f"check_primitive: domain: expected (low, high), or one pair for each shape, got {domain}")
    return [
        np.asarray(rng.standard_normal(shape) if limit is None else rng.uniform(limit[0], limit[1], shape))
        for shape, limit in zip(shapes, limits, strict=True)
    ]
