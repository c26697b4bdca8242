"""Drawn lines: reductions, positions, and losses."""

import numpy as np

from .writer import Family, Writer

REDUCTIONS = Family()


@REDUCTIONS.operation
def reduction(w: Writer) -> str:
    a = w.value(kind="ffffi")
    name = w.one_of(["np.sum", "np.mean", "np.max", "np.min", "np.var", "tr.logsumexp"])
    return f"{name}({a}, axis={w.axes(np.ndim(w.of(a)))}, keepdims={w.chance(0.4)})"


@REDUCTIONS.operation
def probabilities(w: Writer) -> str:
    a = w.value(least=1)
    return f"{w.one_of(['tr.softmax', 'tr.log_softmax'])}({a}, axis={w.axis(np.ndim(w.of(a)))})"


@REDUCTIONS.operation
def position(w: Writer) -> str:
    a = w.value(least=1)
    return f"np.{w.one_of(['argmax', 'argmin', 'argsort'])}({a}, axis={w.axis(np.ndim(w.of(a)))})"


@REDUCTIONS.operation
def loss(w: Writer) -> str:
    a = w.value(least=1)
    shape = np.shape(w.of(a))
    targets = w.constant(shape[:-1], "i", shape[-1])
    return f"tr.cross_entropy({a}, {targets}, ignore_label={w.one_of([-1, -1, 0])})"


@REDUCTIONS.operation
def regression_loss(w: Writer) -> str:
    a = w.value(least=1)
    targets = w.constant(np.shape(w.of(a)))
    arguments = f"{a}, {targets}, reduction={w.one_of(['mean', 'sum', 'none'])!r}"
    calls = (f"tr.mse({arguments})", f"tr.mae({arguments})", f"tr.huber({arguments})")
    return w.one_of([*calls, f"tr.gaussian_nll({a}, np.tanh({a}), {targets})"])


@REDUCTIONS.operation
def binary_loss(w: Writer) -> str:
    a = w.value(least=1)
    return f"tr.binary_cross_entropy({a}, {w.constant(np.shape(w.of(a)), 'i', 2)}, ignore_label={w.one_of([-1, 0])})"
