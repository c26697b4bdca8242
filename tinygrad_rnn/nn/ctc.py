"""The loss of a labelling without an alignment: a sum over all alignments, by a recursion over time."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..checks import integer
from ..engine.arrays import as_numbers
from ..engine.operands import as_value, without_gradient
from ..engine.signatures import unary
from ..engine.tape import Array
from ..engine.tensor import Operand, Value, shape_of
from ..engine.types import Numbers
from ..errors import DTypeError, ShapeError
from ..ops import concatenate, log_softmax, logsumexp, stack, take_along_axis
from ..ops.elementwise import narrowed, widened
from ..ops.masked import Reduction, check_floating, check_reduction, reduced_loss
from .base import batch_of_one
from .scan import scan

_NEVER = -1e30  # the logarithm of probability 0: finite, so that differences of two are numbers


@unary()
def ctc(
    logits: Operand,
    targets: Operand,
    lengths: Operand | None = None,
    target_lengths: Operand | None = None,
    *,
    blank: int = 0,
    reduction: Reduction = "mean",
) -> Value:
    """Return the connectionist temporal classification loss: the mean of -log p(labelling), in nats per sequence.

    An alignment gives each step a label or the blank; runs of one label are joined, then blanks dropped. p is the sum
    over all alignments that leave the labelling. With the labels l' = blank, l_1, blank, ..., l_L, blank and the
    log-probabilities y, the recursion is, in logarithms,

        alpha_t(s) = y_t(l'_s) + logaddexp(alpha_{t-1}(s), alpha_{t-1}(s - 1), alpha_{t-1}(s - 2)),

    the last term only where l'_s is neither the blank nor l'_{s-2}.
    Source: Graves et al. 2006, Connectionist temporal classification, equations 5 to 8.

    Args:
        logits: (N, T, V), floating point; the log-probabilities are their log_softmax.
        targets: (N, L) label ids in [0, V) without the blank; entries after `target_lengths` are ignored.
        lengths: (N,), steps of each sequence, 1 .. T; None: T.
        target_lengths: (N,), labels of each sequence, 0 .. L; None: L.
        blank: id of the blank, in [0, V).
        reduction: "mean" or "sum" over the sequences, or "none": (N,).

    Returns:
        A 0-d Tensor (a 0-d array if logits is an array), of the dtype of logits; with "none", of shape (N,).

    Raises:
        ShapeError: if shapes or lengths do not fit, or a sequence has fewer steps than its labels need: one for each,
            and one for a blank between two that are equal.
        DTypeError: if logits are not floating point, or ids or lengths not integers.
        IndexError: if a label is outside [0, V), or the blank.
        ConfigError: if blank or reduction is out of range.

    Steps after the end of a sequence get the gradient 0, whatever they contain.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> loss = tr.ctc(np.zeros((1, 2, 3)), [[1]])  # a1, 1a and 11, each of probability 1/9
    >>> round(float(np.exp(-loss)), 6)
    0.333333
    """
    check_floating("ctc", "logits", logits)
    check_reduction("ctc", reduction)
    shape = shape_of(logits)
    if len(shape) != 3 or 0 in shape:
        hint = batch_of_one("logits", as_value(logits), 2)
        raise ShapeError(f"ctc: expected logits of shape (N, T, V), none of them 0, got {shape}{hint}")
    blank = integer("ctc", "blank", blank, low=0, high=shape[2] - 1)
    N, T, _ = shape
    labels = without_gradient(
        "labels", partial(_labels, shape=shape, blank=blank), targets, lengths, target_lengths
    )  # (N, S)
    wide = widened(as_value(logits))
    real = np.empty(0, wide.dtype).real.dtype
    running = without_gradient("running", partial(_running, N=N, T=T), lengths)  # (N, T)
    skips = without_gradient("skips", partial(_skips, blank=blank), labels)
    ends = without_gradient("ends", _ends, labels, target_lengths)
    logs = log_softmax(np.where(running[..., None], wide, 0))
    index = without_gradient("index", partial(_at_each_step, T=T), labels)
    emitted = take_along_axis(logs, index, axis=2)
    S = shape_of(labels)[1]
    before = np.full((N, 2), _NEVER, real)

    def step(now: tuple[Value, Value], alpha: Value) -> tuple[None, Value]:
        y, runs = now
        one = concatenate([before[:, :1], alpha[:, :-1]], axis=1)
        two = concatenate([before, alpha[:, :-2]], axis=1) if S > 1 else one
        new = logsumexp(stack([alpha, one, np.where(skips, two, _NEVER)]), axis=0) + y
        return None, np.where(runs[:, None], new, alpha)

    # Before the first step all alignments are at the first blank, where they stay or continue to the first label.
    start = np.where(np.arange(S) == 0, 0.0, _NEVER).astype(real) * np.ones((N, 1), real)
    _, alpha = scan(step, start, (emitted, running))
    nats = -logsumexp(np.where(ends, alpha, _NEVER), axis=1)
    return narrowed(reduced_loss(nats, None, reduction, real), logits)


def _labels(
    targets: Numbers, lengths: Numbers | None, target_lengths: Numbers | None, shape: tuple[int, ...], blank: int
) -> Array:
    """Return the checked labels with blanks around each (N, 2L + 1), and blanks after the end of a labelling."""
    N, T, V = shape
    ids = as_numbers(targets, "ctc: targets")
    if ids.size == 0:
        ids = ids.astype(np.intp)
    if ids.dtype.kind not in "iu":
        raise DTypeError(f"ctc: expected integer targets, got dtype {ids.dtype}")
    if ids.ndim != 2 or len(ids) != N:
        raise ShapeError(
            f"ctc: expected targets of shape (N, L) = ({N}, L) for logits of shape {shape}, got {ids.shape}"
        )
    L = ids.shape[1]
    steps = _counts("lengths", lengths, N, 1, T)
    counts = _counts("target_lengths", target_lengths, N, 0, L)
    there = np.arange(L) < counts[:, None]
    wrong = there & ((ids < 0) | (ids >= V) | (ids == blank))
    if wrong.any():
        raise IndexError(f"ctc: label {int(ids[wrong][0])} is outside [0, V) with V={V}, or the blank {blank}")
    ids = np.where(there, ids, blank).astype(np.intp)
    equal = (ids[:, 1:] == ids[:, :-1]) & there[:, 1:]
    needed = counts + np.count_nonzero(equal, axis=1)
    if (needed > steps).any():
        n = int(np.argmax(needed > steps))
        raise ShapeError(
            f"ctc: sequence {n} has {steps[n]} steps, and its {counts[n]} labels need {needed[n]} (a blank stands "
            "between two that are equal); no alignment is possible"
        )
    labels = np.full((N, 2 * L + 1), blank, np.intp)
    labels[:, 1::2] = ids
    return labels


def _counts(name: str, given: Numbers | None, N: int, low: int, high: int) -> Array:
    if given is None:
        return np.full(N, high)
    found = as_numbers(given, f"ctc: {name}")
    if found.dtype.kind not in "iu":
        raise DTypeError(f"ctc: expected integer {name}, got dtype {found.dtype}")
    if found.shape != (N,) or found.min() < low or found.max() > high:
        raise ShapeError(f"ctc: expected {name} of shape (N,) = ({N},), each in {low} .. {high}, got {found.tolist()}")
    return found.astype(np.intp)


def _running(lengths: Numbers | None, N: int, T: int) -> Array:
    return np.arange(T) < _counts("lengths", lengths, N, 1, T)[:, None]


def _at_each_step(labels: Array, T: int) -> Array:
    return np.broadcast_to(labels[:, None], (len(labels), T, labels.shape[1]))


def _skips(labels: Array, blank: int) -> Array:
    """Return where an alignment may skip the blank between two labels (N, S)."""
    found = np.zeros(labels.shape, np.bool_)
    found[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return found


def _ends(labels: Array, target_lengths: Numbers | None) -> Array:
    """Return where an alignment may end: at the last label, and at the blank after it (N, S)."""
    N, S = labels.shape
    last = 2 * _counts("target_lengths", target_lengths, N, 0, S // 2)[:, None]
    places = np.arange(S)
    return np.asarray((places == last) | (places == last - 1))
