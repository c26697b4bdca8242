"""Drawn programs, compiled and eager: what differs, in words, and how much may differ."""

import warnings
from types import ModuleType

import numpy as np
import pytest
from liveness import assert_no_live_value_is_written_over
from replay import array_of, small_plans_shared
from sharing import faults

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.native.encode import encode
from tinygrad_rnn.compiler.native.numbers import NATIVE
from tinygrad_rnn.compiler.passes import PASSES
from tinygrad_rnn.engine.tree import flatten, map_leaves, structure
from tinygrad_rnn.engine.walk import _Cotangents
from tinygrad_rnn.ops import reduce

SETTINGS = [("numpy", 1), ("numpy", 2), ("native", 1), ("native", 2), ("native", 2)]
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


def difference(actual, expected, slack=None):
    """Return what differs between two nestings, in words, or None; `slack` has the error that each entry may have."""
    if structure(actual) != structure(expected):
        return f"nested {structure(actual)}, expected {structure(expected)}"
    pairs = zip(flatten(actual), flatten(expected), strict=True)
    for number, (got, want) in enumerate((array_of(a), array_of(b)) for a, b in pairs):
        if not isinstance(want, np.ndarray | np.generic):
            if got != want:
                return f"result {number}: {got!r}, expected {want!r}"
            continue
        if (np.shape(got), got.dtype) != (want.shape, want.dtype):
            return f"result {number}: {np.shape(got)} {got.dtype}, expected {want.shape} {want.dtype}"
        if want.dtype.kind not in "fc":
            if not np.array_equal(got, want):
                return f"result {number}: {got}, expected {want}"
            continue
        finite = np.isfinite(want)
        if not np.array_equal(got[~finite], want[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
            return f"result {number}: {got}, expected {want} (not finite)"
        bound = TOLERANCE[str(want.dtype)] * np.abs(want[finite]).max(initial=0)
        if slack is not None:
            bound = bound + slack[number]
        if not (np.abs(got[finite] - want[finite]) <= bound).all():
            return f"result {number}: {got}, expected {want}"
    return None


class Recording:
    """NumPy, whose functions see a Tensor in every array, so that those of plain arrays err, too."""

    def __getattr__(self, name):
        function = getattr(np, name)
        if isinstance(function, type | ModuleType) or not callable(function):
            return function
        return lambda *args, **kwargs: function(*map_leaves(as_tensor, args), **kwargs)


def as_tensor(part):
    return tr.tensor(part) if isinstance(part, np.ndarray) and part.dtype.kind == "f" else part


def rounding(program, order, expected):
    """Return for each result how far it moves when sums and functions err in their last bits, as they may.

    NumPy and the C library, and two kernels of BLAS, round differently. None: a result changes altogether (a comparison
    turns over), so that nothing can be compared.
    """
    moved = [0.0] * len(flatten(expected))
    for seed in range(4):
        with pytest.MonkeyPatch.context() as patch:
            for number, primitive in enumerate(ROUNDED):
                patch.setattr(primitive, "forward", noisy(primitive.forward, primitive in LINEAR, (seed, number)))
            patch.setattr(_Cotangents, "add", noisy_terms(_Cotangents.add, seed))
            result = program.function(order, Recording())(*map(as_tensor, program.arguments()))
        for number, (got, want) in enumerate(zip(flatten(result), flatten(expected), strict=True)):
            a, b = array_of(got), array_of(want)
            if not isinstance(b, np.ndarray | np.generic):
                continue
            if b.dtype.kind not in "fc":
                if not np.array_equal(a, b):
                    return None
                continue
            if not np.array_equal(np.isfinite(a), np.isfinite(b)):
                return None
            change = np.abs(a - b)
            moved[number] = max(moved[number], float(change[np.isfinite(change)].max(initial=0)))
    return [30 * part for part in moved]


LINEAR = [reduce.sum, reduce.mean, tr.matmul]
EXACT = {"add", "subtract", "multiply", "divide", "negative", "sqrt", "maximum", "minimum", "floor", "ceil", "sign"}
FUNCTIONS = [f for f in {*tr.supported().values()} if isinstance(f, tr.Primitive) and f.name in NATIVE - EXACT]
ROUNDED = [*LINEAR, *sorted(FUNCTIONS, key=lambda f: f.name), tr.sigmoid, tr.softplus, tr.logsumexp, tr.log_softmax]


def noisy(forward, linear, seed):
    """Return a function with the error of a few roundings; equal calls have equal errors, so differences stay exact."""

    def with_noise(*args, out=None, **attrs):
        result = np.asarray(forward(*args, **attrs))
        if result.dtype.kind != "f":
            return result
        size = np.abs(result) if not linear else np.abs(forward(*map(np.abs, args), **attrs))
        noise = np.random.default_rng(seed).uniform(-2, 2, result.shape) * np.finfo(result.dtype).eps
        return np.asarray(result + noise * size, result.dtype)

    return with_noise


def noisy_terms(add, seed):
    """Return what adds a term to a cotangent, with an error of its own: in which order they are added up is free."""
    rng = np.random.default_rng(seed)

    def with_noise(self, node, index, value):
        if value.dtype.kind == "f":
            noise = 1 + rng.uniform(-1, 1, value.shape) * np.finfo(value.dtype).eps
            value = value * noise.astype(value.dtype)
        add(self, node, index, value)

    return with_noise


def check(program, order, without, executor, threads):
    """Fail if a program, compiled, differs from itself; the message names the passes without which it does not."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means of nothing
        expected = program.function(order)(*program.arguments())
        wrong = fault(program, order, expected, without, executor, threads)
        if wrong is not None:
            culprits = [n for n in PASSES if fault(program, order, expected, [*without, n], executor, threads) is None]
            named = culprits or "no single pass: it is the recorder, the plan or the executor"
            setting = f"{executor}, {threads} threads, order {order}, without {without}"
            pytest.fail(f"{setting}: {wrong}\nright without each of: {named}\n{program!r}")


def fault(program, order, expected, without, executor, threads):
    """Return what is wrong with a program, compiled, in words, or None."""
    compiled = tr.compile(program.function(order), executor=executor, threads=threads, without=without)
    with small_plans_shared():  # the second call finds the memory that the first has left
        results = [compiled(*program.arguments()) for _ in range(2)]
    if any(difference(result, expected) for result in results):
        slack = rounding(program, order, expected)
        if slack is None:
            return None
        for result in results:
            if found := difference(result, expected, slack):
                return found
    plan = compiled.plan
    assert_no_live_value_is_written_over(plan)
    if executor == "native" and threads > 1 and faults(encode(plan, 2), plan.arena_bytes, 2):
        return "two workers get in each other's way"
    return None
