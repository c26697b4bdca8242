"""Evaluation: how well a model predicts a text."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..checks import integer
from ..data.vocabulary import id_array
from ..engine.tape import no_grad
from ..errors import ConfigError, CorpusError
from ..nn.models import RNNLM


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        nats: mean loss in nats per token.
        tokens: tokens predicted: all but the first.
        batch_size: N, the streams that the text was read in; below what was asked for in a short text.

    >>> Evaluation(nats=0.6931471805599453, tokens=9, batch_size=1).perplexity
    2.0
    """

    nats: float
    tokens: int
    batch_size: int

    @property
    def perplexity(self) -> float:
        """exp(nats): as unsure as a choice among that many equally likely tokens."""
        return perplexity(self.nats)

    @property
    def bits(self) -> float:
        """Bits per token, nats / ln 2; at the character level, bits per character."""
        return self.nats / math.log(2)


def perplexity(nats: float) -> float:
    """Return exp(nats), infinity where that is too large for a float.

    Args:
        nats: mean loss in nats per token.

    >>> perplexity(0.0), perplexity(1000.0)
    (1.0, inf)
    """
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def written(value: float, digits: int) -> str:
    """Return a loss or a perplexity as text, of some ten characters however large it is.

    Args:
        value: the number.
        digits: after the point.

    >>> written(163.24, 1), written(2.5e27, 1)
    ('163.2', '2.5e+27')
    """
    return f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.{digits}e}"


def evaluate(model: RNNLM, ids: npt.ArrayLike, batch_size: int, bptt: int) -> Evaluation:
    """Return the mean loss of predicting each token of a text from those before it.

    The text is read as N streams side by side, each from a fresh state that is then carried through all its windows;
    nothing is dropped out and nothing is recorded. Every token but the first is predicted exactly once and weighs the
    same, whatever N and T are. The first tokens of a stream are predicted without the context before them, so where
    `batch_size` streams would be shorter than `bptt` steps, fewer are used (down to one); `Evaluation.batch_size`
    says how many.

    Args:
        model: anything with `initial_state(N)` and `loss(ids, targets, state) -> (loss, state)`, where targets of -1
            do not count.
        ids: the text, (len(ids),) integers in [0, V), 2 or more.
        batch_size: N, the most streams to read at once.
        bptt: T, steps in a window; the last may be shorter. It changes memory and speed, not the result.

    Returns:
        The mean loss, in nats per token, and the count.

    Raises:
        CorpusError: if there are fewer than 2 tokens.
        ConfigError: if `batch_size` or `bptt` is not an integer of 1 or more, or `model` is no model.
        ShapeError, DTypeError: if `ids` is not a one-dimensional integer array.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.RNNLM(5, 4, 4, np.random.default_rng(0), tied=True)
    >>> found = evaluate(model, np.arange(30) % 5, batch_size=8, bptt=10)
    >>> found.tokens, found.batch_size
    (29, 2)
    """
    batch_size = integer("evaluate", "batch_size", batch_size)
    bptt = integer("evaluate", "bptt", bptt)
    if not all(callable(getattr(model, name, None)) for name in ("initial_state", "loss")):
        raise ConfigError(
            "evaluate: model must have initial_state(batch_size) and loss(ids, targets, state), got "
            f"{type(model).__name__}"
        )
    array = id_array("evaluate", ids)
    tokens = len(array) - 1
    if tokens < 1:
        raise CorpusError(f"evaluate: expected 2 tokens or more, to predict one from another; got {len(array)}")
    N = min(batch_size, max(1, tokens // bptt))
    length = -(-tokens // N)
    behind = (0, N * length - tokens)  # the last streams may end early; a target of -1 does not count
    xs = np.pad(array[:-1].astype(np.int64), behind).reshape(N, length)
    targets = np.pad(array[1:].astype(np.int64), behind, constant_values=-1).reshape(N, length)

    nats = 0.0
    with no_grad():
        state = model.initial_state(N)
        for start in range(0, length, bptt):
            window = np.s_[:, start : start + bptt]
            loss, state = model.loss(xs[window], targets[window], state)
            nats += float(loss.item()) * np.count_nonzero(targets[window] != -1)
    return Evaluation(nats / tokens, tokens, N)
