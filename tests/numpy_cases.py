"""Calls of NumPy functions that record, as cases: gradients, dtypes and plans are checked over all of them."""

from __future__ import annotations

import numpy as np

import tinygrad_rnn as tr

INF = float("inf")

# name: (function, shapes of its inputs), or with a third entry the interval that inputs are drawn from
ELEMENTWISE = {
    "sin": (np.sin, [(2, 3)]),
    "cos": (np.cos, [(2, 3)]),
    "tan": (np.tan, [(2, 3)], (-1.2, 1.2)),
    "arcsin": (np.arcsin, [(2, 3)], (-0.9, 0.9)),
    "arccos": (np.arccos, [(2, 3)], (-0.9, 0.9)),
    "arctan": (np.arctan, [(2, 3)]),
    "arctan2": (np.arctan2, [(4, 3), (3,)]),
    "sinh": (np.sinh, [(2, 3)]),
    "cosh": (np.cosh, [(2, 3)]),
    "arcsinh": (np.arcsinh, [(2, 3)]),
    "arccosh": (np.arccosh, [(2, 3)], (1.2, 3)),
    "arctanh": (np.arctanh, [(2, 3)], (-0.9, 0.9)),
    "hypot": (np.hypot, [(2, 3), (3,)]),
    "hypot of a number": (lambda x: np.hypot(x, 2.0), [(3,)]),
    "deg2rad": (lambda x: np.deg2rad(x) * np.rad2deg(x), [(3,)]),
    "log1p": (np.log1p, [(2, 3)], (-0.8, 2)),
    "expm1": (np.expm1, [(2, 3)]),
    "log2": (np.log2, [(2, 3)], (0.3, 2)),
    "log10": (np.log10, [(2, 3)], (0.3, 2)),
    "exp2": (np.exp2, [(2, 3)]),
    "cbrt": (lambda x: np.cbrt(x) - np.cbrt(-x), [(2, 3)], (0.3, 2)),
    "logaddexp": (np.logaddexp, [(2, 3), (3,)]),
    "logaddexp of a number": (lambda x: np.logaddexp(x, 0.5), [(3,)]),
    "logaddexp2": (np.logaddexp2, [(2, 1), (3,)]),
}

IDS = np.array([[0, 2], [1, 1]])
MASK = np.array([[True, False, True], [False, True, True]])

SHAPES = {
    "roll": (lambda x: np.roll(x, 2), [(2, 3)]),
    "roll, axis": (lambda x: np.roll(x, -1, axis=1), [(2, 3)]),
    "roll, axes": (lambda x: np.roll(x, (1, 4), axis=(0, -1)), [(2, 3)]),
    "repeat": (lambda x: np.repeat(x, 2), [(2, 3)]),
    "repeat, axis": (lambda x: np.repeat(x, 3, axis=-1), [(2, 3)]),
    "repeat, counts": (lambda x: x.repeat([0, 2, 1], axis=1), [(2, 3)]),
    "tile": (lambda x: np.tile(x, 2), [(2, 3)]),
    "tile, more axes": (lambda x: np.tile(x, (2, 1, 3)), [(2, 3)]),
    "flip": (np.flip, [(2, 3)]),
    "flip, axis": (lambda x: np.flip(x, -1), [(2, 3)]),
    "fliplr, flipud": (lambda x: np.fliplr(x) * np.flipud(x), [(2, 3)]),
    "rot90": (lambda x: np.rot90(x) + np.rot90(x, 3).T @ np.rot90(x, 2)[:, :2].T @ x[:2, :2].T, [(2, 2)]),
    "pad": (lambda x: np.pad(x, 1), [(2, 3)]),
    "pad, constants": (lambda x: np.pad(x, ((0, 2), (1, 0)), constant_values=0.5), [(2, 3)]),
    "pad, edge": (lambda x: np.pad(x, (2, 1), mode="edge"), [(2, 3)]),
    "pad, reflect": (lambda x: np.pad(x, ((1, 0), (2, 2)), mode="reflect"), [(2, 3)]),
    "pad, wrap": (lambda x: np.pad(x, (1, 3), mode="wrap"), [(4,)]),
    "pad, symmetric": (lambda x: np.pad(x, (1, 3), mode="symmetric"), [(4,)]),
    "delete": (lambda x: np.delete(x, [0, -1], axis=1), [(2, 4)]),
    "sort": (lambda x: np.sort(x, axis=0), [(4, 3)]),
    "sort, flat": (lambda x: np.sort(x, axis=None), [(4, 3)]),
    "copy": (lambda x: np.copy(x) * x.copy(), [(2, 3)]),
    "rollaxis": (lambda x: np.rollaxis(x, -1, 1), [(2, 3, 4)]),
    "matrix_transpose": (lambda x: np.matrix_transpose(x) + x.mT, [(2, 3, 4)]),
    "atleast": (lambda x: np.atleast_1d(x) + np.atleast_2d(x) + np.atleast_3d(x), [(3,)]),
    "hstack": (lambda a, b: np.hstack([a, b]), [(2, 3), (2, 1)]),
    "hstack, vectors": (lambda a, b: np.hstack((a, b, a)), [(2,), (3,)]),
    "vstack": (lambda a, b: np.vstack([a, b]), [(2, 3), (3,)]),
    "dstack": (lambda a, b: np.dstack([a, b]), [(2, 3), (2, 3)]),
    "column_stack": (lambda a, b: np.column_stack([a, b]), [(2,), (2, 3)]),
    "append": (lambda a, b: np.append(a, b), [(2, 3), (2,)]),
    "append, axis": (lambda a, b: np.append(a, b, axis=1), [(2, 3), (2, 1)]),
    "block": (lambda a, b: np.block([[a, b], [b, a]]), [(2, 2), (2, 2)]),
    "array_split": (lambda x: np.array_split(x, 3)[1] * np.array_split(x, [2, 4])[0][0], [(7,)]),
    "hsplit, vsplit, dsplit": (
        lambda x: np.hsplit(x, 3)[1] * np.vsplit(x, 2)[0][:, :1] * np.dsplit(x, 2)[1],
        [(2, 3, 2)],
    ),
    "broadcast_arrays": (lambda a, b: (lambda x, y: x * y)(*np.broadcast_arrays(a, b)), [(2, 1), (3,)]),
    "diagonal": (lambda x: np.diagonal(x, 1), [(3, 4)]),
    "diagonal, axes": (lambda x: np.diagonal(x, -1, 2, 0), [(3, 2, 4)]),
    "trace": (lambda x: x.trace() * np.trace(x, -1), [(3, 4)]),
    "trace, axes": (lambda x: np.trace(x, 0, -1, 0), [(3, 2, 4)]),
    "diag, of a vector": (lambda x: np.diag(x) + np.diag(x[1:], 1) + np.diag(x[1:], -1), [(3,)]),
    "diag, of a matrix": (lambda x: np.diag(x, -1), [(3, 4)]),
    "diagflat": (np.diagflat, [(2, 2)]),
    "tril": (np.tril, [(3, 4)]),
    "triu": (lambda x: np.triu(x, 1) + np.triu(x[0, 0], -1)[..., :1, :], [(2, 3, 4)]),
}

REDUCTIONS = {
    "sum, where": (lambda x: np.sum(x, axis=1, where=MASK), [(2, 3)]),
    "sum, initial": (lambda x: np.sum(x, initial=2.0), [(2, 3)]),
    "prod": (np.prod, [(2, 3)]),
    "prod, axes": (lambda x: np.prod(x, axis=(0, -1), keepdims=True), [(2, 3, 2)]),
    "prod, where": (lambda x: x.prod(1, where=MASK, initial=0.5), [(2, 3)]),
    "max, where": (lambda x: np.max(x, axis=1, where=MASK, initial=-0.5), [(2, 3)]),
    "min, method": (lambda x: x.min(0), [(4, 3)]),
    "mean, where": (lambda x: np.mean(x, 0, where=MASK), [(2, 3)]),
    "var, ddof": (lambda x: x.var(axis=1, ddof=1), [(2, 3)]),
    "var, correction, mean": (lambda x: np.var(x, mean=np.mean(x, keepdims=True), correction=1), [(2, 3)]),
    "var, where": (lambda x: np.var(x, 1, ddof=0.5, where=MASK), [(2, 3)]),
    "std": (lambda x: np.std(x, axis=(0, 1)), [(2, 3)]),
    "std, ddof": (lambda x: x.std(0, ddof=1, keepdims=True), [(4, 3)]),
    "ptp": (lambda x: np.ptp(x, axis=0), [(4, 3)]),
    "average": (lambda x: np.average(x, 1), [(2, 3)]),
    "average, weights": (lambda x, w: np.average(x, axis=1, weights=w * w + 1), [(2, 3), (3,)]),
    "median": (lambda x: np.median(x, axis=0), [(4, 3)]),
    "median, odd": (lambda x: np.median(x, axis=(0, 2), keepdims=True), [(3, 2, 3)]),
    "nansum": (lambda x: np.nansum(x, 0) + np.nanmean(x) + np.nanvar(x, ddof=1) + np.nanstd(x, 0), [(2, 3)]),
    "cumsum": (np.cumsum, [(2, 3)]),
    "cumsum, axis": (lambda x: x.cumsum(-1), [(2, 3)]),
    "cumprod": (lambda x: np.cumprod(x), [(6,)]),
    "cumprod, axis": (lambda x: x.cumprod(0), [(5, 2)]),
    "diff": (lambda x: np.diff(x, n=2), [(2, 4)]),
    "diff, ends": (lambda x, y: np.diff(x, axis=0, prepend=y, append=y), [(2, 3), (1, 3)]),
    "norm": (np.linalg.norm, [(2, 3)]),
    "norm, axis": (lambda x: np.linalg.norm(x, axis=-1, keepdims=True), [(2, 3)]),
    "norm, 1": (lambda x: np.linalg.norm(x, 1, axis=0), [(2, 3)]),
    "norm, inf": (lambda x: np.linalg.norm(x, np.inf, axis=1) - np.linalg.norm(x, -np.inf, axis=1), [(2, 3)]),
    "norm, p": (lambda x: np.linalg.norm(x, 2.5, axis=1), [(2, 3)]),
    "norm, matrices": (lambda x: np.linalg.norm(x, axis=(0, 2)) * np.linalg.norm(x, 1, (1, 2)), [(2, 2, 3)]),
    "norm, rows": (lambda x: np.linalg.norm(x, np.inf), [(2, 3)]),
    "vector_norm": (lambda x: np.linalg.vector_norm(x) * np.linalg.matrix_norm(x), [(2, 3)]),
}

PRODUCTS = {
    "tensordot": (lambda a, b: np.tensordot(a, b, 1), [(2, 3), (3, 4)]),
    "tensordot, axes": (lambda a, b: np.tensordot(a, b, ((0, -1), (1, 0))), [(2, 5, 3), (3, 2, 4)]),
    "tensordot, none": (lambda a, b: np.tensordot(a, b, 0), [(2,), (3,)]),
    "outer": (np.outer, [(2, 2), (3,)]),
    "inner": (np.inner, [(2, 3), (4, 3)]),
    "inner, number": (lambda x: np.inner(x, x[0]), [(2,)]),
    "vdot": (np.vdot, [(2, 3), (6,)]),
    "vecdot": (lambda a, b: np.linalg.vecdot(a, b, axis=0), [(3, 2), (3, 1)]),
    "vecmat": (lambda a, b: tr.vecmat(a, b) + tr.matvec(np.matrix_transpose(b), a), [(3,), (2, 3, 4)]),
    "kron": (np.kron, [(2, 2), (3,)]),
    "cross": (np.cross, [(2, 3), (3,)]),
    "multi_dot": (lambda a, b: np.linalg.multi_dot([a, b, a]), [(2, 3), (3, 2)]),
    "einsum, product": (lambda a, b: np.einsum("ij,jk->ik", a, b), [(2, 3), (3, 4)]),
    "einsum, implicit": (lambda a, b: np.einsum("nth,hk", a, b), [(2, 3, 2), (2, 3)]),
    "einsum, batch": (lambda a, b: np.einsum("bij,bjk->kbi", a, b), [(2, 2, 3), (2, 3, 2)]),
    "einsum, elementwise": (lambda a, b: np.einsum("ij,j->ji", a, b), [(2, 3), (3,)]),
    "einsum, rows": (lambda a, b: np.einsum("ij,ij->i", a, b), [(2, 3), (2, 3)]),
    "einsum, outer": (lambda a, b: np.einsum("i,j->ij", a, b), [(2,), (3,)]),
    "einsum, sum": (lambda a: np.einsum("ijk->j", a), [(2, 3, 2)]),
    "einsum, all": (lambda a, b: np.einsum("ij,kl->", a, b), [(2, 3), (2, 2)]),
    "einsum, trace": (lambda a: np.einsum("ii", a), [(3, 3)]),
    "einsum, diagonal": (lambda a, b: np.einsum("iji,j->i", a, b), [(2, 3, 2), (3,)]),
    "einsum, ellipsis": (lambda a, b: np.einsum("...ij,...jk->...ik", a, b), [(2, 2, 3), (3, 2)]),
    "einsum, broadcast": (lambda a, b: np.einsum("ij,ij->j", a, b), [(2, 1), (2, 3)]),
    "einsum, summed broadcast": (lambda a, b: np.einsum("ij,kj->ik", a, b), [(2, 1), (2, 3)]),
    "einsum, three": (lambda a, b, c: np.einsum("ij,kl,jk->il", a, b, c), [(2, 3), (2, 3), (3, 2)]),
    "einsum, four": (lambda a, b, c: np.einsum("i,ij,jk,k", a, b, c, a), [(2,), (2, 2), (2, 2)]),
}

CASES = ELEMENTWISE | SHAPES | REDUCTIONS | PRODUCTS


def draw(case, seed: int) -> list[np.ndarray]:
    """Return the inputs of a case: standard normal numbers, or uniform ones from its interval."""
    rng = np.random.default_rng(seed)
    if len(case) == 2:
        return [rng.standard_normal(shape) for shape in case[1]]
    return [rng.uniform(*case[2], shape) for shape in case[1]]
