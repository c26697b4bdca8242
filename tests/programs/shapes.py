"""Drawn lines: other shapes, joined and taken apart; indexing and lookups."""

import math

import numpy as np

from .writer import LENGTHS, Family, Writer, dtype_of

SHAPES = Family()


@SHAPES.operation
def reshaped(w: Writer) -> str:
    a = w.value()
    size = math.prod(np.shape(w.of(a)))
    divisors = [n for n in range(1, size + 1) if size % n == 0] or [0]
    first = w.one_of(divisors)
    rest = size // first if first else 0
    return f"np.reshape({a}, {w.one_of([(first, rest), (rest, 1, first), (-1, first or 1), (size,), size])})"


@SHAPES.operation
def turned(w: Writer) -> str:
    a = w.value(least=1)
    n = np.ndim(w.of(a))
    axes = tuple(int(x) - (n if w.chance(0.3) else 0) for x in w.rng.permutation(n))
    texts = [f"np.transpose({a}, {axes})", f"np.swapaxes({a}, {w.axis(n)}, {w.axis(n)})"]
    return w.one_of([*texts, f"np.moveaxis({a}, {w.axis(n)}, {w.axis(n)})"])


@SHAPES.operation
def lengths_of_one(w: Writer) -> str:
    a = w.value()
    n = np.ndim(w.of(a))
    ones = tuple(axis for axis, length in enumerate(np.shape(w.of(a))) if length == 1)
    texts = [f"np.expand_dims({a}, {int(w.rng.integers(-n - 1, n + 1))})", f"np.expand_dims({a}, (0, -1))"]
    return w.one_of([*texts, f"np.squeeze({a})", f"np.squeeze({a}, {ones})"])


@SHAPES.operation
def broadcast(w: Writer) -> str:
    a = w.value()
    shape = [w.one_of(LENGTHS) if n == 1 else n for n in np.shape(w.of(a))]
    lead = [w.one_of(LENGTHS)] if w.chance(0.5) else []
    return f"np.broadcast_to({a}, {(*lead, *shape)})"


@SHAPES.operation
def joined(w: Writer) -> str:
    a = w.value(least=1)
    shape = list(np.shape(w.of(a)))
    axis = w.axis(len(shape))
    shape[axis] = w.one_of(LENGTHS)
    parts = w.rng.permutation([a, w.constant(tuple(shape)), a])[: w.one_of([1, 2, 3])]
    return f"np.concatenate([{', '.join(parts)}], axis={axis})"


@SHAPES.operation
def stacked(w: Writer) -> str:
    a = w.value(most=3)
    shape = np.shape(w.of(a))
    alike = [name for name, v in w.known.items() if np.shape(v) == shape and dtype_of(v).kind == "f"]
    parts = [w.one_of([a, w.one_of(alike), w.constant(shape)]) for _ in range(w.one_of([1, 1, 2, 3]))]
    return f"np.stack([{', '.join(parts)}], axis={w.axis(len(shape) + 1)})"


@SHAPES.operation
def split(w: Writer) -> str:
    a = w.value(least=1)
    axis = w.axis(np.ndim(w.of(a)))
    length = np.shape(w.of(a))[axis]
    sections = w.one_of([n for n in range(1, length + 1) if length % n == 0] or [1])
    places = tuple(sorted(int(n) for n in w.rng.integers(-length, length + 2, w.one_of([0, 1, 2]))))
    return f"np.split({a}, {w.one_of([sections, 1, places])}, axis={axis})"


@SHAPES.operation
def unstacked(w: Writer) -> str:
    a = w.value(least=1)
    return f"np.unstack({a}, axis={w.axis(np.ndim(w.of(a)))})"


@SHAPES.operation
def constant_parts(w: Writer) -> str:
    """Views and parts of a constant: what constant folding must keep the shapes of."""
    a, shape = w.value(), (*w.shape(2), w.one_of([1, 1, 2]))
    c = w.constant(shape)
    parts = [f"np.unstack({c}, axis=-1)[0]", f"np.split({c}, 1, axis=-1)[0]", f"{c}[..., 0]", f"np.stack([{c}])"]
    return f"{w.one_of(parts)} * np.sum({a})"


@SHAPES.operation
def slices(w: Writer) -> str:
    a = w.value(least=1, kind="fffib")
    index = []
    for length in np.shape(w.of(a)):
        number = str(int(w.rng.integers(-length, length))) if length else ":"
        index.append(w.one_of([":", "::-1", "1:", ":-1", "::2", number, "None, :", "-1:", "0:1"]))
    kept = index[: int(w.rng.integers(1, len(index) + 1))]
    return f"{a}[{', '.join(['...', *kept[::-1]] if len(kept) == len(index) and w.chance(0.1) else kept)}]"


@SHAPES.operation
def picks(w: Writer) -> str:
    a = w.value(least=1)
    shape = np.shape(w.of(a))
    ids = w.constant(w.shape(2), "i", shape[0])
    mask = w.constant(shape[:1], "b")
    texts = [f"{a}[{ids}]", f"{a}[{mask}]", f"{a}[{ids}, None]", f"{a}[..., {w.constant((2,), 'i', shape[-1])}]"]
    if len(shape) > 1:
        texts.append(f"{a}[{ids}, {w.constant((1,), 'i', shape[1])}]")
    return w.one_of(texts)


@SHAPES.operation
def lookup(w: Writer) -> str:
    a = w.value(least=1)
    axis = w.one_of([None, w.axis(np.ndim(w.of(a)))])
    length = math.prod(np.shape(w.of(a))) if axis is None else np.shape(w.of(a))[axis]
    given = [name for name, v in w.known.items() if dtype_of(v).kind in "iu"]
    ids = w.one_of(given) if given and w.chance(0.5) else w.constant(w.shape(2), "i", length)
    return f"tr.take({a}, {ids}, axis={axis})"


@SHAPES.operation
def along(w: Writer) -> str:
    a = w.value(least=1)
    axis = w.axis(np.ndim(w.of(a)))
    shape = list(np.shape(w.of(a)))
    length, shape[axis] = shape[axis], w.one_of(LENGTHS)
    return f"tr.take_along_axis({a}, {w.constant(tuple(shape), 'i', length)}, axis={axis})"
