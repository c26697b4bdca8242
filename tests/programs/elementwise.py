"""Drawn lines: elementwise operations, comparisons, and whole numbers."""

import numpy as np

from .writer import LENGTHS, Family, Writer

MAGNITUDES = ("1e30", "1e-30", "1e20", "1e-20", "7.0", "-0.3")  # a product of two is no float32
ELEMENTWISE = Family()
ELEMENTWISE.unary(
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


@ELEMENTWISE.operation
def arithmetic(w: Writer) -> str:
    a = w.value()
    b = w.other(np.shape(w.of(a)))
    a, b = (b, a) if w.chance(0.4) else (a, b)
    return f"{a} {w.one_of('+-*')} {b}"


@ELEMENTWISE.operation
def quotient(w: Writer) -> str:
    a = w.value()
    return f"{w.other(np.shape(w.of(a)))} / ({a} * {a} + 1.5)"


@ELEMENTWISE.operation
def chain(w: Writer) -> str:
    """Sums or products in a row: their order is the user's."""
    a, sign = w.value(), w.one_of("+*")
    parts = [w.other(np.shape(w.of(a))) for _ in range(3)]
    return f"{a} {sign} {parts[0]} {sign} {parts[1]} {sign} {parts[2]}"


@ELEMENTWISE.operation
def magnitudes(w: Writer) -> str:
    """Products and sums with numbers of which two together leave the range of float32."""
    text = w.value()
    for _ in range(int(w.rng.integers(2, 4))):
        text = f"({text} {w.one_of('*+*/')} {w.one_of(MAGNITUDES)})"
    return text


@ELEMENTWISE.operation
def cancellation(w: Writer) -> str:
    """A product of matrices, what takes it away again, and a rest that must be what it was."""
    a = w.value(least=2, most=2)
    c = w.constant((np.shape(w.of(a))[1], w.one_of(LENGTHS)))
    rest = w.constant((np.shape(w.names[c])[1],))
    return f"({a} @ {c} + -({a} @ {c})) + {rest}"


@ELEMENTWISE.operation
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


@ELEMENTWISE.operation
def choice(w: Writer) -> str:
    a = w.value()
    shape = np.shape(w.of(a))
    condition = w.one_of([f"{a} > 0.1", w.constant(shape, "b"), w.constant(shape[-1:], "b"), f"np.isnan({a})"])
    parts = [a, w.other(shape)] if w.chance(0.5) else [w.other(shape), a]
    if w.chance(0.2):
        return f"np.select([{condition}, {a} < -0.5], [{parts[0]}, {parts[1]}], 0.5)"
    return f"np.where({condition}, {parts[0]}, {parts[1]})"


@ELEMENTWISE.operation
def comparison(w: Writer) -> str:
    a = w.value(kind="fi")
    return f"{a} {w.one_of(['<', '<=', '>', '>=', '==', '!='])} {w.other(np.shape(w.of(a)))}"


@ELEMENTWISE.operation
def truth(w: Writer) -> str:
    a = w.value(kind="b")
    return w.one_of([f"np.logical_not({a})", f"np.logical_and({a}, {a})", f"{a} * {w.value()}", f"np.sum({a}, axis=0)"])


@ELEMENTWISE.operation
def whole_numbers(w: Writer) -> str:
    a = w.value(kind="iu")
    return w.one_of([f"{a} + 200 + 100", f"{a} * 3", f"-{a}", f"{a} / 2", f"np.maximum({a}, 1)", f"np.sum({a})"])
