"""Programs drawn for the compiler's tests: lines of Python on Tensors, over all operations, shapes and attributes.

A program is text, so that one that fails can be read, and run by itself. It is made from a list of lines, each the name
of an entry of `OPERATIONS` and an integer that decides its operands and attributes, so Hypothesis can leave lines out.
Lines are tried on real arrays while a program is written: its shapes are known, and a line that NumPy refuses, or that
leaves the range in which values can be compared, is not taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinygrad_rnn as tr

from .elementwise import ELEMENTWISE
from .products import PRODUCTS
from .reductions import REDUCTIONS
from .shapes import SHAPES
from .writer import LENGTHS, Program, Writer, dtype_of

OPERATIONS = {**ELEMENTWISE, **REDUCTIONS, **SHAPES, **PRODUCTS}

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
    take(w, before)
    if steps:
        _loop(w, body, steps, names[-1])
    take(w, after)
    results = [name for name in w.known if name not in names]
    kept = [name for name in results if w.chance(0.7)] or results
    repeated = kept[:1] if w.chance(0.3) else []
    source = "\n".join([f"def f({', '.join(names)}):", *w.lines, f"    return [{', '.join([*kept, *repeated])}]"])
    return Program(source, inputs, w.names, w.parameters)


def take(w: Writer, given: Any) -> None:
    """Write the lines of a list of (name of an operation, integer)."""
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
    take(w, body)
    made = [name for name in w.known if name not in outer and name not in "hx" and dtype_of(w.of(name)).kind == "f"]
    w.indent = "    "
    alike = [name for name in made if np.shape(w.of(name)) == np.shape(w.of("h"))]
    terms = " + ".join(["x @ W", "h @ W.T", *alike[-2:], *(f"np.sum({name}) * 0.1" for name in made[-2:])])
    w.lines += [f"            h = np.astype(np.tanh({terms}), x.dtype)", "            outputs.append(h)"]
    h = w.of("h")
    w.known = outer
    w.known["h"] = h
    w.known["hs"] = np.stack([h] * steps, axis=1)
    w.lines.append("    hs = np.stack(outputs, axis=1)")
