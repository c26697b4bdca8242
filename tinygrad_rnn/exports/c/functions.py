"""The functions of C that a generated file brings along, each only if it is called: exp, tanh, log, sqrt and others.

They are arithmetic alone, so that a program of the usual cells links without libm, and gcc turns loops over exp, tanh,
sigmoid and sqrt into vector instructions. Each is written once, for REAL, which is float or double. Largest errors, in
units in the last place, over the normal numbers: exp 2, tanh 3, sigmoid 3, log 2, sqrt 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_LN2_BITS = {"f32": float.fromhex("0x1.62e4p-1"), "f64": float.fromhex("0x1.62e42feep-1")}
_TERMS = {"f32": 7, "f64": 13}  # of the series of exp
_LOG_TERMS = {"f32": 5, "f64": 11}  # of that of the logarithm


def _horner(coefficients: Iterable[float], suffix: str, variable: str) -> str:
    first, *rest = [f"{float(c)!r}{suffix}" for c in coefficients]
    return f"({first} + {variable} * {_horner_of(rest, variable)})" if rest else first


def _horner_of(rest: list[str], variable: str) -> str:
    return rest[0] if len(rest) == 1 else f"({rest[0]} + {variable} * {_horner_of(rest[1:], variable)})"


def _constants(kind: str) -> dict[str, str]:
    """Return what stands for the capital letters of a function for f32 or f64."""
    single, f = kind == "f32", "f" if kind == "f32" else ""
    numbers = {
        "LOG2_E": math.log2(math.e),
        "LN2": math.log(2),
        "LN2_HIGH": _LN2_BITS[kind],  # so few bits that k times it is exact
        "LN2_LOW": 1.428606820309417e-6 if single else 1.9082149292705877e-10,
        "MINUS_EXP_LEAST": 104.0 if single else 746.0,  # exp(-104) is 0
        "EXP_MOST": 89.0 if single else 710.0,  # and infinity there
        "SHIFT": 1.5 * 2.0**23 if single else 1.5 * 2.0**52,
        "TANH_ONE": 9.2 if single else 20.0,  # from there on it rounds to 1
        "SQRT_HALF": math.sqrt(0.5),
        "NORMAL": 2.0**-126 if single else 2.0**-1022,
        "LEAST_WHOLE": 1e-30 if single else 1e-300,  # so that 2^15 over it is finite
        "SCALED": 2.0**24 if single else 2.0**54,
    }
    found = {name: f"{value!r}{f}" for name, value in numbers.items()}
    found["EXP_TAIL"] = _horner([1 / math.factorial(n) for n in range(2, _TERMS[kind] + 1)], f, "r")
    found["LOG_TAIL"] = _horner([2 / (2 * n + 1) for n in range(1, _LOG_TERMS[kind])], f, "q")
    found |= {
        "REAL": "float" if single else "double",
        "BITS": "uint32_t" if single else "uint64_t",
        "BIAS": "127" if single else "1023",
        "SIGNED": "int32_t" if single else "int64_t",
        "SHIFT_BITS": "0x4b400000u" if single else "0x4338000000000000ull",
        "UP": "24" if single else "54",
        "MANTISSA": "23" if single else "52",
        "MASK": "0x7fffffu" if single else "0xfffffffffffffull",
        "SIGN": "0x80000000u" if single else "0x8000000000000000ull",
        "MAGIC": "0x5f375a86u" if single else "0x5fe6eb50c7b537a9ull",
        "F": f,
        "KIND": kind,
    }
    return found


_TEXTS = {
    "exp_part": """
/* x = k ln 2 + r, |r| <= ln(2) / 2: returns exp(r) - 1, and k in *power. */
static inline REAL exp_part_KIND(REAL x, SIGNED *power)
{
    union { REAL value; BITS bits; } shifted;
    shifted.value = x * LOG2_E + SHIFT; /* so large that it is rounded: k is its last bits */
    const REAL k = shifted.value - SHIFT;
    const REAL r = (x - k * LN2_HIGH) - k * LN2_LOW;
    *power = (SIGNED)(shifted.bits - SHIFT_BITS);
    return r + r * r * EXP_TAIL;
}""",
    "power_of_two": """
static inline REAL power_of_two_KIND(SIGNED k)
{
    union { BITS bits; REAL value; } power;
    power.bits = (BITS)(k + BIAS) << MANTISSA;
    return power.value;
}""",
    # Where gcc sees a choice between x and a constant, it makes two paths, one of them worked out beforehand; a loop
    # over paths stays scalar. It does not look through bits.
    "choose": """
/* x if `first` is 1, y if it is 0; by bits, so that loops over it become vector instructions. */
static inline REAL choose_KIND(BITS first, REAL x, REAL y)
{
    union { REAL value; BITS bits; } a, b;
    a.value = x;
    b.value = y;
    a.bits = (a.bits & ((BITS)0 - first)) | (b.bits & (first - 1));
    return a.value;
}""",
    "at_most": """
/* x, or `most` if x is above it; NaN stays. */
static inline REAL at_most_KIND(REAL x, REAL most) { return choose_KIND(x > most, most, x); }""",
    "exp": """
/* exp(x) = (1 + (exp(r) - 1)) 2^k, in two halves: so it goes down to the smallest number, and up to infinity. */
static inline REAL exp_KIND(REAL x)
{
    SIGNED k;
    const REAL p = exp_part_KIND(at_most_KIND(-at_most_KIND(-x, MINUS_EXP_LEAST), EXP_MOST), &k);
    const SIGNED half = k / 2;
    return (1.0F + p) * power_of_two_KIND(half) * power_of_two_KIND(k - half);
}""",
    "tanh": """
/* tanh(x) = -e / (2 + e) with e = exp(-2 |x|) - 1, which is exact to rounding near 0 too. */
static inline REAL tanh_KIND(REAL x)
{
    union { REAL value; BITS bits; } a, y;
    a.value = x;
    const BITS sign = a.bits & SIGN;
    a.bits ^= sign;
    SIGNED k;
    const REAL p = exp_part_KIND(-2.0F * at_most_KIND(a.value, TANH_ONE), &k);
    const REAL scale = power_of_two_KIND(k), e = scale * p + (scale - 1.0F);
    y.value = -e / (2.0F + e);
    y.bits |= sign;
    return y.value;
}""",
    "sigmoid": """
static inline REAL sigmoid_KIND(REAL x) { return 1.0F / (1.0F + exp_KIND(-x)); }""",
    "log": """
/* log(x) = k ln 2 + 2 artanh(s), s = (m - 1) / (m + 1), for x = 2^k m and m around 1. */
static inline REAL log_KIND(REAL x)
{
    union { REAL value; BITS bits; } part;
    const int small = x < NORMAL;
    part.value = small ? x * SCALED : x;
    int k = (int)(part.bits >> MANTISSA) - BIAS - (small ? UP : 0);
    part.bits = (part.bits & MASK) | (BITS)BIAS << MANTISSA;
    const int large = part.value > 2.0F * SQRT_HALF;
    const REAL m = large ? 0.5F * part.value : part.value;
    k += large;
    const REAL s = (m - 1.0F) / (m + 1.0F), q = s * s;
    REAL y = (REAL)k * LN2_HIGH + (2.0F * s + (s * q * LOG_TAIL + (REAL)k * LN2_LOW));
    y = x > 0 ? y : x == 0 ? -1.0F / 0.0F : 0.0F / 0.0F;
    return x == x && x < 1.0F / 0.0F ? y : x < 0 ? y : x;
}""",
    "log1p": """
/* log(1 + x): what rounding took from 1 + x is added again. */
static inline REAL log1p_KIND(REAL x)
{
    const REAL u = 1.0F + x;
    if (u == 1.0F) return x;
    return u > 0 && u < 1.0F / 0.0F ? log_KIND(u) + (x - (u - 1.0F)) / u : log_KIND(u);
}""",
    "sqrt": """
/* By Newton's method for 1 / sqrt(x), from a first guess by the exponent; the last step is exact to rounding. */
static inline REAL sqrt_KIND(REAL x)
{
    union { REAL value; BITS bits; } guess;
    const BITS small = x < NORMAL;
    const REAL a = choose_KIND(small, x * SCALED, x);
    guess.value = a;
    guess.bits = MAGIC - (guess.bits >> 1);
    REAL r = guess.value;
    r = r * (1.5F - 0.5F * a * r * r);
    r = r * (1.5F - 0.5F * a * r * r);
    r = r * (1.5F - 0.5F * a * r * r);
    r = r * (1.5F - 0.5F * a * r * r);
    REAL y = a * r;
    y = y + 0.5F * r * (a - y * y);
    y = choose_KIND(small, y * ROOT_OF_SCALED, y);
    y = choose_KIND(x < 0, 0.0F / 0.0F, y);
    return choose_KIND((x == 0) | (x == 1.0F / 0.0F) | (x != x), x, y); /* these are their own roots */
}""",
    "logaddexp": """
static inline REAL logaddexp_KIND(REAL a, REAL b)
{
    if (a == b) return a + LN2; /* equal infinities too */
    const REAL apart = a - b;
    return apart > 0 ? a + log1p_KIND(exp_KIND(-apart)) : apart <= 0 ? b + log1p_KIND(exp_KIND(apart)) : apart;
}""",
    "sign": """
static inline REAL sign_KIND(REAL x) { return x > 0 ? 1.0F : x < 0 ? -1.0F : x; }""",
    "copysign": """
static inline REAL copysign_KIND(REAL x, REAL y)
{
    union { REAL value; BITS bits; } a, b;
    a.value = x;
    b.value = y;
    a.bits = (a.bits & ~SIGN) | (b.bits & SIGN);
    return a.value;
}""",
    "remainder": """
/* a - floor(a / b) * b, with the sign of b, zero included */
static inline REAL remainder_KIND(REAL a, REAL b)
{
    const REAL left = LIBM_fmod(a, b);
    if (b == 0) return left; /* NaN */
    return left == 0 ? copysign_KIND(0.0F, b) : (b < 0) != (left < 0) ? left + b : left;
}""",
    "floor_divide": """
/* floor(a / b) by way of the remainder, which is exact where the quotient is rounded */
static inline REAL floor_divide_KIND(REAL a, REAL b)
{
    if (b == 0) return a / b;
    const REAL left = LIBM_fmod(a, b);
    REAL quotient = (a - left) / b;
    if (left != 0 && (b < 0) != (left < 0)) quotient -= 1.0F;
    const REAL whole = LIBM_floor(quotient);
    return quotient == 0 ? copysign_KIND(0.0F, a / b) : quotient - whole > 0.5F ? whole + 1.0F : whole;
}""",
    "maximum": """
static inline REAL maximum_KIND(REAL x, REAL y) { return x > y ? x : x != x ? x : y; }""",
    "minimum": """
static inline REAL minimum_KIND(REAL x, REAL y) { return x < y ? x : x != x ? x : y; }""",
    "whole": """
/* count numbers as whole ones from -most to most; returns what one stands for, NaN if one of them is not finite. */
static inline REAL whole_KIND(const REAL *x, long step, long count, REAL most, int16_t *to)
{
    union { REAL value; BITS bits; } top;
    top.bits = 0;
    for (long k = 0; k < count; k++) {
        union { REAL value; BITS bits; } one;
        one.value = x[k * step];
        one.bits &= ~SIGN; /* of positive numbers, the larger has the larger bits */
        top.bits = one.bits > top.bits ? one.bits : top.bits;
    }
    const int finite = top.value < 1.0F / 0.0F;
    const REAL per = finite && top.value > LEAST_WHOLE ? most / top.value : 0.0F;
    for (long k = 0; k < count; k++) {
        const REAL v = finite ? x[k * step] * per : 0.0F;
        to[k] = (int16_t)(v + (v < 0 ? -0.5F : 0.5F));
    }
    return finite ? top.value / most : 0.0F / 0.0F;
}""",
    "relu": """
static inline REAL relu_KIND(REAL x) { return x <= 0 ? 0.0F : x; }""",
}
_ROOTS = {"f32": "2.44140625e-4f", "f64": "7.450580596923828e-09"}  # 2^-12, 2^-27

_CALL = re.compile(r"\b([a-z]\w*?)_(f32|f64)\(")
_LIBM = re.compile(r"\bLIBM_(\w+)\(")


def function_name(name: str, kind: str) -> str | None:
    """Return the name of a function that the file brings along, for a type; None if there is none of this name."""
    return f"{name}_{kind}" if name in _TEXTS else None


def need_libm(used: Iterable[tuple[str, str]]) -> bool:
    """Return whether functions, given as for `with_needed`, call some of math.h."""
    return any(_LIBM.search(_TEXTS[name]) for name, _ in used)


def with_needed(used: Iterable[tuple[str, str]]) -> list[str]:
    """Return the texts of functions, given as (name, "f32" or "f64"), and of those that they call, callees first."""
    found: dict[tuple[str, str], str] = {}

    def add(name: str, kind: str) -> None:
        if (name, kind) in found:
            return
        text = _text(name, kind)
        for called, _ in _CALL.findall(text):
            if called != name:
                add(called, kind)
        found[name, kind] = text

    for name, kind in sorted(used):
        add(name, kind)
    return list(found.values())


def _text(name: str, kind: str) -> str:
    constants = {**_constants(kind), "ROOT_OF_SCALED": _ROOTS[kind]}
    text = _LIBM.sub(lambda call: f"{call[1]}{constants['F']}(", _TEXTS[name])
    text = re.sub(r"(?<=\d)F\b", constants["F"], text)
    text = re.sub(r"(\w+)_KIND\b", rf"\1_{kind}", text)
    for _ in range(2):  # constants within a series
        text = re.sub(r"\b[A-Z][A-Z0-9_]*\b", lambda word: constants.get(word[0], word[0]), text)
    return text.lstrip("\n")
