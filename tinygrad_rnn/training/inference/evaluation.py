"""Evaluation: how well a model predicts a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ...checks import instance
from ...data.arrays import as_batch
from ...data.heldout import HeldOutWindows
from ...engine.tape import Array, no_grad
from ...engine.tensor import Tensor
from ...errors import ConfigError, CorpusError
from ...nn.cells import State
from ...ops import log_softmax, take_along_axis
from ...parallel.group import Group
from ...parallel.shares import Share, share_of
from ..loop.epoch import Totals, summed
from ..loop.objective import WEIGHT, Batch, LanguageModel, Loss, Mean, Objective, Outcome, Window, as_number, size_of
from .replayed import Plan, Replayed


class LogitsModel(Protocol):
    """Anything with `initial_state(N)` and `model(ids, state) -> (logits, state)`, such as an `RNNLM`."""

    @property
    def initial_state(self) -> Callable[[int], State]:
        """The function that returns the state of N streams before their first token."""

    @property
    def __call__(self) -> Callable[..., tuple[Tensor, State]]:
        """The function from ids (N, T) and a state to logits (N, T, V) and the state after them."""


Ids: TypeAlias = npt.NDArray[np.int64]
OnBatch: TypeAlias = Callable[..., Mean]
"""`metric(model, batch)`, a mean over the batch or a `Metric`."""


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
        """exp(nats): the uncertainty of a choice among that many equally likely tokens."""
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


class Measure:
    """Mean loss and metrics of a model over batches, without gradients; its plan is kept from call to call.

    Args:
        model: a `Module`; its parameters are read anew at each call.
        loss: a loss function, as in `TrainStep`; it is given no generator.
        metrics: name to `function(model, batch)`, a mean over the batch or a `Metric`; called operation by operation.
        compiled: False: run all of it operation by operation.
        executor: the executor of the plan, as in `compile`.
        name: the function that the user called, for messages.
        group: processes that divide the rows of each batch; None: this process alone.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> measure = Measure(tr.Linear(2, 1, np.random.default_rng(0)), lambda model, x: np.mean(model(x)))
    >>> measure([np.zeros((3, 2)), np.zeros((5, 2))])
    ({'loss': 0.0}, 8.0)
    """

    def __init__(
        self,
        model: object,
        loss: Loss | Objective,
        metrics: Mapping[str, OnBatch] | None = None,
        *,
        compiled: bool = True,
        executor: str | None = None,
        name: str = "evaluate",
        group: Group | None = None,
    ) -> None:
        self._group = Group() if group is None else group
        self.model, self._metrics = model, dict(instance(name, "metrics", metrics or {}, Mapping))
        for key, metric in self._metrics.items():
            if not callable(metric):
                raise ConfigError(f"{name}: metrics[{key!r}] must be a function(model, batch), got {metric!r}")
        objective = loss if isinstance(loss, Objective) else Objective(loss)
        self.replayed = Replayed(name, partial(_outcome, objective, model), compiled=compiled, executor=executor)

    def __call__(self, batches: Iterable[Batch], state: State = None) -> tuple[dict[str, float], float]:
        """Return name to mean, the loss as "loss", and the weight of the means; batches hand on the state."""
        totals = Totals()
        for given in batches:
            if self._group.size == 1 and not isinstance(given, Share):
                state = self._add(totals, given, state)
                continue
            share = share_of(given, self._group)
            if share.counts:
                state = self._add(totals, share.batch, share.rows_of(state))
        totals = summed(self._group.gather(totals))
        if not totals.sums:
            raise CorpusError("evaluate: there are no batches; an iterator can be used for one pass only")
        return totals.means, totals.weight

    def _add(self, totals: Totals, batch: Batch, state: State) -> State:
        """Add the means over a batch, and return the state after it."""
        batch = as_batch(batch)
        found = self.replayed(batch, state)
        said = {"loss": found.loss, **found.metrics}
        with no_grad():
            said |= {name: metric(self.model, batch) for name, metric in self._metrics.items()}
        means = {name: as_number(mean) for name, mean in said.items()}
        totals.take(means, size_of(batch) if found.weight is None else float(found.weight))
        return found.state


def _outcome(objective: Objective, model: object, batch: Batch, state: State) -> Outcome:
    return objective(model, batch, state, None)


class Evaluator:
    """`evaluate` for one model, repeatedly: its plan is kept from call to call.

    Args:
        model: as in `evaluate`. Its parameters are read anew at each call.
        compiled: False: run the model operation by operation.
        executor: the executor of the plan, as in `compile`.

    Raises:
        ConfigError: if `model` is not a model, or there is no such executor.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> evaluator = Evaluator(tr.RNNLM(5, 4, 4, np.random.default_rng(0)))
    >>> evaluator(np.arange(30) % 5, batch_size=2, bptt=10).tokens
    29
    """

    def __init__(self, model: LanguageModel, *, compiled: bool = True, executor: str | None = None) -> None:
        if not all(callable(getattr(model, name, None)) for name in ("initial_state", "loss")):
            raise ConfigError(
                "evaluate: model must have initial_state(batch_size) and loss(ids, targets, state), got "
                f"{type(model).__name__}"
            )
        self.model = model
        self._measure = Measure(model, masked_language_loss, compiled=compiled, executor=executor)

    @property
    def compiled(self) -> Plan | None:
        """The compiled loss of a window, with its plans; None: it runs operation by operation."""
        return self._measure.replayed.compiled

    @property
    def reason(self) -> str | None:
        """Why the loss could not be compiled; None: it could, or was not tried yet."""
        return self._measure.replayed.reason

    def __call__(self, ids: npt.ArrayLike, batch_size: int, bptt: int) -> Evaluation:
        """Return the mean loss over a text; see `evaluate`."""
        windows = HeldOutWindows(ids, batch_size, bptt, whole=self.compiled is not None)
        means, weight = self._measure(windows, self.model.initial_state(windows.streams))
        return Evaluation(means["loss"], round(weight), windows.streams)


def masked_language_loss(model: LanguageModel, batch: Window, state: State) -> tuple[object, State, dict[str, object]]:
    """Return `model.loss` of windows (ids, targets), the state after them, and the number of targets other than -1."""
    ids, targets = batch
    loss, state = model.loss(ids, targets, state)
    return loss, state, {WEIGHT: np.sum(targets != -1)}


def token_nats(
    model: LogitsModel, ids: npt.ArrayLike, bptt: int, *, compiled: bool = True, executor: str | None = None
) -> Array:
    """Return the nats of each token but the first, given all tokens before it: (len(ids) - 1,) float64.

    Args:
        model: has `initial_state(N)`, and `model(ids, state) -> (logits, state)`.
        ids: the text, (len(ids),) integers in [0, V), 2 or more.
        bptt: steps at a time; it changes memory and speed, not the result.
        compiled, executor: as in `evaluate`.

    Raises:
        CorpusError, ConfigError, ShapeError, DTypeError: as `evaluate`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model, ids = tr.RNNLM(5, 4, 4, np.random.default_rng(0)), np.arange(30) % 5
    >>> nats = token_nats(model, ids, bptt=10)
    >>> bool(np.isclose(nats.mean(), evaluate(model, ids, batch_size=1, bptt=10).nats, rtol=1e-6))
    True
    """
    return np.concatenate([*nats_in_windows(model, ids, bptt, compiled=compiled, executor=executor)])


def nats_in_windows(
    model: LogitsModel, ids: npt.ArrayLike, bptt: int, *, compiled: bool = True, executor: str | None = None
) -> Iterator[Array]:
    """Yield the nats of `token_nats` window by window, for a text that is longer than what memory holds.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.RNNLM(5, 4, 4, np.random.default_rng(0))
    >>> [len(nats) for nats in nats_in_windows(model, np.arange(13) % 5, bptt=5)]
    [5, 5, 2]
    """
    replayed = Replayed("score", partial(_nats, model), compiled=compiled, executor=executor)
    state = model.initial_state(1)
    for xs, targets in HeldOutWindows(ids, 1, bptt):
        nats, state = replayed(xs, np.maximum(targets, 0), state)
        yield np.asarray(nats, np.float64)[targets >= 0]


def _nats(model: LogitsModel, ids: Ids, targets: Ids, state: State) -> tuple[Tensor, State]:
    logits, state = model(ids, state)
    return -take_along_axis(log_softmax(logits), targets[..., None], axis=-1)[..., 0], state


def evaluate(
    model: LanguageModel,
    ids: npt.ArrayLike,
    batch_size: int,
    bptt: int,
    *,
    compiled: bool = True,
    executor: str | None = None,
) -> Evaluation:
    """Return the mean loss of predicting each token of a text from those before it.

    The text is read as N streams side by side, each from a fresh state that is then carried through all its windows;
    without dropout or recording. Every token but the first is predicted exactly once and weighs the
    same, whatever N and T are. The first tokens of a stream are predicted without the context before them, so where
    `batch_size` streams would be shorter than `bptt` steps, fewer are used (down to one); `Evaluation.batch_size`
    is how many were used.

    The loss of a window runs compiled, as one plan that serves all windows: the last one is padded with id 0 and
    target -1. A model whose parameters change and that is evaluated again, as after each epoch of a
    `Trainer`, keeps its plan in an `Evaluator`.

    Args:
        model: anything with `initial_state(N)` and `loss(ids, targets, state) -> (loss, state)`, where targets of -1
            do not count.
        ids: the text, (len(ids),) integers in [0, V), 2 or more.
        batch_size: N, the most streams to read at once.
        bptt: T, steps in a window. It changes memory and speed, not the result.
        compiled: False: run the model operation by operation.
        executor: the executor of the plan, as in `compile`.

    Returns:
        The mean loss, in nats per token, and the count.

    Raises:
        CorpusError: if there are fewer than 2 tokens.
        ConfigError: if `batch_size` or `bptt` is not an integer of 1 or more, `model` is not a model, or there is
            no such executor.
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
