"""Drawn lines: products, scans, statistics, and the rest of the functions of NumPy."""

import numpy as np

from .writer import LENGTHS, Family, Writer

PRODUCTS = Family()


@PRODUCTS.operation
def product(w: Writer) -> str:
    a = w.value(least=1, most=3)
    shape = np.shape(w.of(a))
    n, (m, k) = len(shape), (w.one_of(LENGTHS), w.one_of(LENGTHS))
    texts = [f"{a} @ {w.constant((shape[-1], k))}", f"{a} @ {w.constant((shape[-1],))}"]
    texts.append(f"{w.constant((m, shape[-2] if n > 1 else shape[0]))} @ {a}")
    if n > 1:
        texts += [f"{a} @ np.swapaxes({a}, -1, -2)", f"{w.constant((shape[-2],))} @ {a}"]
        texts.append(f"{a} @ {w.constant((*shape[:-2], shape[-1], k))}")
    if n == 3:
        texts.append(f"{a} @ {w.constant((m, 1, shape[-1], k))}")
    if n == 1:
        texts.append(f"{a} @ {a}")
    return w.one_of(texts)


@PRODUCTS.operation
def arranged(w: Writer) -> str:
    a = w.value()
    n = np.ndim(w.of(a))
    texts = [f"np.roll({a}, {w.one_of([1, -2, 0])})", f"np.repeat({a}, {w.one_of([0, 1, 2])})", f"np.tile({a}, (2, 1))"]
    texts += [f"np.{name}({a})" for name in ("flip", "atleast_1d", "atleast_2d", "atleast_3d", "copy")]
    if n:
        axis = w.axis(n)
        texts += [f"np.roll({a}, {w.one_of([1, -2])}, axis={axis})", f"np.repeat({a}, 2, axis={axis})"]
        texts += [f"np.flip({a}, axis={axis})", f"np.diff({a}, axis={axis})", f"np.delete({a}, 0, axis={axis})"]
        texts += [f"np.sort({a}, axis={axis})", f"np.pad({a}, 1)", f"np.pad({a}, (0, 2), mode='edge')"]
        texts.append(f"np.array_split({a}, {w.one_of([1, 2, 3])}, axis={axis})")
    if n > 1 and np.shape(w.of(a))[-1] == np.shape(w.of(a))[-2]:
        side = np.shape(w.of(a))[-1]
        regular = f"(np.tanh({a}) + {side + 2} * np.eye({side}, dtype={a}.dtype))"
        texts += [f"np.linalg.inv({regular})", f"np.linalg.solve({regular}, {a})"]
    if n > 1:
        texts += [f"np.{name}({a})" for name in ("tril", "triu", "trace", "diagonal", "rot90", "fliplr", "flipud")]
        texts += [f"np.matrix_transpose({a})", f"np.rollaxis({a}, {w.axis(n)})"]
    if n in (1, 2):
        texts += [f"np.diag({a})", f"np.diag({a}, 1)", f"np.diagflat({a})"]
    return w.one_of(texts)


@PRODUCTS.operation
def side_by_side(w: Writer) -> str:
    a = w.value(most=3)
    b = w.constant(np.shape(w.of(a)))
    names = ("hstack", "vstack", "dstack", "column_stack", "block", "broadcast_arrays")
    name = w.one_of(names)
    return f"np.{name}({a}, {b})" if name == "broadcast_arrays" else f"np.{name}([{a}, {b}, {a}])"


@PRODUCTS.operation
def scanned(w: Writer) -> str:
    a = w.value()
    name = w.one_of(["cumsum", "cumprod", "prod", "cumulative_sum", "cumulative_prod", "trapezoid"])
    n = np.ndim(w.of(a))
    axis = w.axis(n) if n > 1 or name == "trapezoid" else w.one_of([None, w.axis(n)])
    return f"np.{name}({a}, axis={axis})"


@PRODUCTS.operation
def recurrence(w: Writer) -> str:
    a = w.value(least=1)
    axis = w.axis(np.ndim(w.of(a)))
    if not np.shape(w.of(a))[axis]:
        return f"np.cumsum({a}, axis={axis})"  # a recurrence has a step
    return f"tr.linear_scan({w.one_of(['0.5', a])}, {a}, axis={axis}, reverse={w.one_of([True, False])})"


@PRODUCTS.operation
def statistic(w: Writer) -> str:
    a = w.value()
    axis = w.one_of([None, w.axis(np.ndim(w.of(a)))])
    calls = ("np.std({}, axis={})", "np.var({}, axis={}, ddof=1)", "np.average({}, axis={})", "np.ptp({}, axis={})")
    calls += ("np.nansum({}, axis={})", "np.nanmean({}, axis={})", "np.median({}, axis={})")
    calls += ("np.linalg.norm({}, axis={})", "np.linalg.vector_norm({}, axis={})")
    keywords = (
        "np.sum({}, axis={}, initial=0.5)",
        "np.sum({0}, axis={1}, where={0} > 0)",
        "np.mean({0}, axis={1}, where={0} > 0)",
    )
    return str(w.one_of([*calls, *keywords])).format(a, axis)


@PRODUCTS.operation
def contraction(w: Writer) -> str:
    a = w.value(least=1, most=2)
    shape = np.shape(w.of(a))
    same = w.constant(shape)
    texts = [f"np.{name}({a}, {same})" for name in ("vdot", "inner", "outer", "kron", "vecdot")]
    texts += [f"np.tensordot({a}, {same}, axes={len(shape)})", f"np.dot({a}, {w.constant((shape[-1],))})"]
    if len(shape) == 2:
        texts += [
            f"np.einsum('ij,ij->j', {a}, {same})",
            f"np.einsum('ij,kj', {a}, {same})",
            f"np.linalg.multi_dot([{a}, {same}.T, {a}])",
        ]
        texts.append(f"np.einsum('...j->j...', {a})")
    else:
        texts += [f"np.einsum('i,j->ij', {a}, {same})", f"tr.vecmat({a}, {w.constant((shape[0], 2))})"]
    return w.one_of(texts)


@PRODUCTS.operation
def whole_parts(w: Writer) -> str:
    a = w.value()
    b = w.other(np.shape(w.of(a)))
    return w.one_of(
        [f"np.{name}({a}, {b})" for name in ("fmod", "floor_divide", "divmod", "remainder")]
        + [f"np.modf({a})", f"np.round({a}, 1)", f"np.trunc({a})", f"np.fix({a})"]
    )


@PRODUCTS.operation
def chosen(w: Writer) -> str:
    a = w.value()
    b = w.other(np.shape(w.of(a)))
    texts = [f"np.{name}({a}, {b})" for name in ("fmax", "fmin", "copysign", "heaviside")]
    texts += [f"np.select([{a} > 0.5, {a} > 0], [{a}, {b}], 0.25)", f"np.fabs({a})", f"np.nan_to_num({a}, nan=0.5)"]
    return w.one_of(texts)


@PRODUCTS.operation
def accumulated(w: Writer) -> str:
    a = w.value(least=1)
    name, axis = w.one_of(["cumulative_sum", "cumulative_prod", "trapezoid"]), w.axis(np.ndim(w.of(a)))
    return f"np.{name}({a}, axis={axis}{'' if name == 'trapezoid' else f', include_initial={w.chance(0.5)}'})"
