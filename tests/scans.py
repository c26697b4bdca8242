"""Functions with `scan`, drawn: states and outputs of any nesting, scans in scans, scans of what scans return."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import strategies as st
from programs import OPERATIONS, lines, take
from programs.writer import Program, Writer, dtype_of, is_tame

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten

_NESTS = {
    1: ("{0}", "({0},)", "[{0}]", "{{'h': {0}}}"),
    2: ("({0}, {1})", "{{'h': {0}, 'c': [{1}]}}", "[({0},), {1}]"),
    3: ("({0}, {1}, {2})", "({0}, {{'b': {1}, 'a': {2}}})"),
    4: ("({0}, ({1}, [{2}, {3}]))",),
}
_DEPTH = 2


def write(before: Any, body: Any, after: Any, scans: int, steps: int, dtype: str, seed: int) -> Program:
    """Return a program: lines, so many scans with bodies of lines, and lines after them.

    Args:
        before, body, after: lists of (name of an operation, integer).
        scans: how many there are one after another; later ones may go over what earlier ones return.
        steps: T of the first inputs.
        dtype: of inputs and most constants.
        seed: of all else.
    """
    w = Writer(dtype, np.random.default_rng(seed))
    N, H, T = w.one_of([1, 2, 3]), w.one_of([1, 2, 3]), steps
    inputs: list[Any] = [tr.tensor(w.rng.standard_normal((N, T, H)), dtype, True)]
    inputs.append(tr.tensor(w.rng.standard_normal((N, H)), w.one_of([dtype, dtype, "float32"]), w.chance(0.6)))
    inputs.append(w.rng.standard_normal((N, T)).astype(w.one_of([dtype, "float32", "float64"])))
    inputs.append(w.rng.integers(0, H, (N, T)))
    inputs.append(tr.tensor(w.rng.standard_normal((T, N, H)), dtype, w.chance(0.5)))
    inputs.append(np.random.default_rng(seed))
    names = [f"x{number}" for number in range(len(inputs) - 1)]
    w.known.update(zip(names, inputs, strict=False))
    w.names["W"] = tr.tensor(w.rng.standard_normal((H, H)) / 2, dtype, True, name="W")
    w.names["b"] = tr.tensor(w.rng.standard_normal(H), dtype, True, name="b")
    w.parameters += ["W", "b"]
    w.names["flat"] = flatten
    w.known.update(W=w.names["W"], b=w.names["b"])
    take(w, before)
    for number in range(scans):
        w.rng = np.random.default_rng((seed, number))
        _scan(w, body if number == 0 else body[::-1], 0)
    take(w, after)
    results = [name for name in w.known if name not in names and name not in w.names]
    kept = [name for name in results if w.chance(0.7)] or results or names[:1]
    source = "\n".join([f"def f({', '.join(names)}, rng):", *w.lines, f"    return [{', '.join(kept)}]"])
    return Program(source, inputs, w.names, w.parameters, zeros=True)


def _scan(w: Writer, body: Any, depth: int) -> None:
    """Write a step and a scan; nothing at all where a later step is refused, or leaves the range of values."""
    kept = dict(w.known), list(w.lines), w.count, list(w.parameters), dict(w.names)
    indent, start = w.indent, len(w.lines)
    try:
        results, names = _written(w, body, depth)
        w.indent, w.known = indent, dict(kept[0])
        # A scan within a step is tried on what the first step has.
        text = ["def run():", *(f"    {line[len(indent) :]}" for line in w.lines[start:]), f"    return {results}"]
        values = _run("\n".join(text), {**w.names, **w.known})
        if len(values) != len(names) or not all(map(is_tame, values)) or any(np.size(v) > 200 for v in values):
            raise LookupError
        w.known.update(zip(names, values, strict=True))
    except (ValueError, IndexError, TypeError, OverflowError, LookupError):
        w.known, w.lines, w.count, w.parameters, w.names = kept
        w.indent = indent


def _run(text: str, names: dict[str, Any]) -> Any:
    names = {"np": np, "tr": tr, **names, "rng": np.random.default_rng(0)}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means of nothing
        exec(text, names)
        return names["run"]()


def _written(w: Writer, body: Any, depth: int) -> tuple[str, list[str]]:
    """Write a scan; return its leaves as an expression, and their names."""
    outer, number, indent = dict(w.known), w.count, w.indent
    w.count += 1
    axis = w.one_of([0, 1, 1])
    initial = [_initial(w, outer) for _ in range(w.one_of([1, 1, 2, 2, 3, 4]))]
    xs = _sequences(w, outer, axis)
    T = np.shape(outer[xs[0]])[axis] if xs else w.one_of([1, 2, 3, 4])
    old = [f"s{number}_{k}" for k in range(len(initial))]
    cut = [f"e{number}_{k}" for k in range(len(xs))]
    state, slices = w.one_of(_NESTS[len(old)]), w.one_of(_NESTS[len(xs)]) if xs else "None"
    w.lines.append(f"{indent}def step{number}(x, state):")
    w.indent = indent + "    "
    w.lines.append(f"{w.indent}{', '.join(old)}, = flat(state)")
    names = {"np": np, "tr": tr, **outer}
    w.known.update({name: eval(text, names) for name, text in zip(old, initial, strict=True)})
    if xs:
        w.lines.append(f"{w.indent}{', '.join(cut)}, = flat(x)")
        w.known.update({name: np.unstack(outer[x], axis=axis)[0] for name, x in zip(cut, xs, strict=True)})
    take(w, body)
    if depth + 1 < _DEPTH and w.chance(0.25):
        _scan(w, body[:2], depth + 1)
    if w.chance(0.2):
        name = w.value()
        w.lines.append(f"{w.indent}m{number} = tr.Dropout(0.5)({name}, rng)")
        w.known[f"m{number}"] = w.of(name)
    made = [name for name in w.known if name not in outer and name not in old]
    new = [_renewed(w, name, old, made) for name in old]
    results = [w.one_of([*made, *made, *old, *outer]) for _ in range(w.one_of([0, 1, 1, 2, 3]))]
    if results and w.chance(0.3):
        results[0] = w.one_of(old)
    output = w.one_of(_NESTS[len(results)]).format(*results) if results else w.one_of(["None", "()"])
    after = [f"n{number}_{k}" for k in range(len(new))]
    w.lines += [f"{w.indent}{name} = {text}" for name, text in zip(after, new, strict=True)]
    w.lines.append(f"{w.indent}return {output}, {state.format(*after)}")
    options = (", reverse=True" if w.chance(0.4) else "") + (f", axis={axis}" if axis == 0 else "")
    given = slices.format(*xs) if xs else f"None, steps={T}"
    w.lines.append(f"{indent}r{number} = tr.scan(step{number}, {state.format(*initial)}, {given}{options})")
    found = [*(f"o{number}_{k}" for k in range(len(results))), *(f"l{number}_{k}" for k in range(len(new)))]
    parts = f"[part for part in flat(r{number}) if part is not None]"
    w.lines.append(f"{indent}{', '.join(found)}, = {parts}")
    return parts, found


def _initial(w: Writer, outer: dict[str, Any]) -> str:
    """Return an expression of an initial state: a value, a view of one, zeros, a count."""
    a = w.one_of([n for n, v in outer.items() if dtype_of(v).kind == "f" and np.ndim(v) < 3] or ["b"])
    shape = np.shape(outer[a])
    return w.one_of(
        [a, a, f"{a}.T", f"np.zeros({shape}, np.{w.dtype})", f"np.zeros({shape}, np.float32)", f"np.tanh({a})"]
        + [
            "np.zeros((), int)",
            f"np.zeros((), np.{w.dtype})",
            f"tr.tensor(np.zeros({shape}, np.{w.dtype}))",
            f"{a}[None]",
        ]
        + (["x1[0]"] if "x1" in outer else [])
    )


def _sequences(w: Writer, outer: dict[str, Any], axis: int) -> list[str]:
    """Return names of arrays of the same length along an axis: none in one case of ten."""
    fits = [name for name, v in outer.items() if np.ndim(v) > axis and np.shape(v)[axis] in range(1, 7)]
    late = [name for name in fits if name.startswith("o")]
    if not fits or w.chance(0.1):
        return []
    first = w.one_of(late if late and w.chance(0.5) else fits)
    alike = [name for name in fits if np.shape(outer[name])[axis] == np.shape(outer[first])[axis]]
    return [first, *(w.one_of(alike) for _ in range(w.one_of([0, 0, 1, 2])))]


def _renewed(w: Writer, name: str, old: list[str], made: list[str]) -> str:
    """Return an expression of a state after a step: renewed, passed on, swapped, summed up, taken from elsewhere."""
    value = w.of(name)
    shape, dtype = np.shape(value), dtype_of(value)
    if dtype.kind != "f":
        return w.one_of([f"{name} + 1", name, f"np.maximum({name}, 2)"])
    alike = [n for n, v in w.known.items() if np.shape(v) == shape and dtype_of(v).kind == "f"]
    fits = [n for n in (*made, *old) if dtype_of(w.of(n)).kind == "f"]
    terms = [w.one_of(fits) for _ in range(2)]
    terms = [t if np.shape(w.of(t)) == shape else f"np.sum({t}) * 0.1" for t in terms]
    product = []
    if len(shape) == 2 and shape[-1] == np.shape(w.names["W"])[0]:
        product = [f"{name} @ W", f"{name} @ W.T"]
    whole = " + ".join([w.one_of([name, *product, *product]), *terms])
    options = [f"np.tanh({whole})"] * 3 + [f"0.5 * {name} + {terms[0]}", f"{name} + np.mean({w.one_of(fits)})"]
    options += [name, w.one_of(alike), w.one_of(alike), f"{name} * 1", f"np.zeros({shape}, np.{dtype})"]
    if len(shape) == 2 and shape[0] == shape[1]:
        options.append(f"{w.one_of(alike)}.T")
    if shape:
        options.append(f"{w.one_of(alike)}[::-1]")
    text = w.one_of(options)
    return text if w.chance(0.15) else f"np.astype({text}, np.{dtype})"


scans = st.builds(
    write,
    before=st.lists(st.tuples(st.sampled_from(list(OPERATIONS)), st.integers(0, 2**32 - 1)), max_size=3),
    body=lines,
    after=st.lists(st.tuples(st.sampled_from(list(OPERATIONS)), st.integers(0, 2**32 - 1)), max_size=3),
    scans=st.sampled_from([1, 1, 2, 3]),
    steps=st.integers(1, 6),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 2**32 - 1),
)
