"""Evaluation: how well a model predicts a text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import integer
from ..compiler.api import Compiled
from ..data.vocabulary import id_array
from ..errors import ConfigError, CorpusError
from .replayed import Replayed


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


class Evaluator:
    """`evaluate` for one model, again and again: its plan is kept from call to call.

    Args:
        model: as in `evaluate`. Its parameters are read anew at each call.
        compiled: False: run the model operation by operation.
        executor: what replays the plan, as in `compile`.

    Raises:
        ConfigError: if `model` is no model, or there is no such executor.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> evaluator = Evaluator(tr.RNNLM(5, 4, 4, np.random.default_rng(0)))
    >>> evaluator(np.arange(30) % 5, batch_size=2, bptt=10).tokens
    29
    """

    def __init__(self, model: Any, *, compiled: bool = True, executor: str | None = None) -> None:
        if not all(callable(getattr(model, name, None)) for name in ("initial_state", "loss")):
            raise ConfigError(
                "evaluate: model must have initial_state(batch_size) and loss(ids, targets, state), got "
                f"{type(model).__name__}"
            )
        self.model = model
        self._loss = Replayed("evaluate", model.loss, compiled=compiled, executor=executor)

    @property
    def compiled(self) -> Compiled | None:
        """What replays the loss of a window, with its plans; None: nothing does, it runs operation by operation."""
        return self._loss.compiled

    @property
    def reason(self) -> str | None:
        """Why the loss could not be compiled; None: it could, or was not tried yet."""
        return self._loss.reason

    def __call__(self, ids: npt.ArrayLike, batch_size: int, bptt: int) -> Evaluation:
        """Return the mean loss over a text; see `evaluate`."""
        batch_size = integer("evaluate", "batch_size", batch_size)
        bptt = integer("evaluate", "bptt", bptt)
        array = id_array("evaluate", ids)
        tokens = len(array) - 1
        if tokens < 1:
            raise CorpusError(f"evaluate: expected 2 tokens or more, to predict one from another; got {len(array)}")
        N = min(batch_size, max(1, tokens // bptt))
        length = -(-tokens // N)
        T = min(bptt, length)
        # The last streams may end early, and so may the last window: a target of -1 does not count.
        after = (0, N * length - tokens)
        last = ((0, 0), (0, 0 if self._loss.compiled is None else -length % T))
        xs = np.pad(np.pad(array[:-1].astype(np.int64), after).reshape(N, length), last)
        targets = np.pad(array[1:].astype(np.int64), after, constant_values=-1).reshape(N, length)
        targets = np.pad(targets, last, constant_values=-1)

        nats, state = 0.0, self.model.initial_state(N)
        for start in range(0, length, T):
            window = np.s_[:, start : start + T]
            loss, state = self._loss(xs[window], targets[window], state)
            nats += float(loss.item()) * np.count_nonzero(targets[window] != -1)
        return Evaluation(nats / tokens, tokens, N)


def evaluate(
    model: Any,
    ids: npt.ArrayLike,
    batch_size: int,
    bptt: int,
    *,
    compiled: bool = True,
    executor: str | None = None,
) -> Evaluation:
    """Return the mean loss of predicting each token of a text from those before it.

    The text is read as N streams side by side, each from a fresh state that is then carried through all its windows;
    nothing is dropped out and nothing is recorded. Every token but the first is predicted exactly once and weighs the
    same, whatever N and T are. The first tokens of a stream are predicted without the context before them, so where
    `batch_size` streams would be shorter than `bptt` steps, fewer are used (down to one); `Evaluation.batch_size`
    says how many.

    The loss of a window runs compiled, as one plan that serves all windows: what is missing in the last one is padded
    with id 0 and target -1. A model whose parameters change and that is evaluated again, as after each epoch of a
    `Trainer`, keeps its plan in an `Evaluator`.

    Args:
        model: anything with `initial_state(N)` and `loss(ids, targets, state) -> (loss, state)`, where targets of -1
            do not count.
        ids: the text, (len(ids),) integers in [0, V), 2 or more.
        batch_size: N, the most streams to read at once.
        bptt: T, steps in a window. It changes memory and speed, not the result.
        compiled: False: run the model operation by operation.
        executor: what replays the plan, as in `compile`.

    Returns:
        The mean loss, in nats per token, and the count.

    Raises:
        CorpusError: if there are fewer than 2 tokens.
        ConfigError: if `batch_size` or `bptt` is not an integer of 1 or more, `model` is no model, or there is no
            such executor.
        ShapeError, DTypeError: if `ids` is not a one-dimensional integer array.
        NativeError: if executor="native" and the C library cannot be built.

    Warns:
        UserWarning: if the loss cannot be compiled (it decides from values, or counts its calls in the state), and so
            runs operation by operation.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.RNNLM(5, 4, 4, np.random.default_rng(0), tied=True)
    >>> found = evaluate(model, np.arange(30) % 5, batch_size=8, bptt=10)
    >>> found.tokens, found.batch_size
    (29, 2)
    """
    return Evaluator(model, compiled=compiled, executor=executor)(ids, batch_size, bptt)
