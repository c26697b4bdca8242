"""Generation: text from a model, token by token."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..data.vocabulary import Vocabulary, id_array
from ..engine.tape import Array, no_grad
from ..errors import ConfigError, CorpusError
from ..nn.models import RNNLM


def generate(
    model: RNNLM,
    vocabulary: Vocabulary,
    prompt: npt.ArrayLike,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    rng: np.random.Generator | None = None,
    allow_unknown: bool = False,
) -> Iterator[int]:
    """Return an iterator over the ids with which a model continues a prompt.

    Each is drawn from softmax(logits / temperature) over the `top_k` most likely tokens, and read by the model before
    the next. Temperature 0 takes the most likely one, without chance.

    Args:
        model: such as an `RNNLM`.
        vocabulary: V tokens.
        prompt: ids (T,) in [0, V), at least one.
        length: ids to yield.
        temperature: 0 or more; below 1 plays safe, above 1 takes risks.
        top_k: how many of the most likely tokens may be drawn; 0: all.
        rng: draws the tokens; only temperature 0 does without.
        allow_unknown: whether "<unk>" may be drawn.

    Raises:
        ConfigError: if a setting is out of range, or `rng` is missing.
        CorpusError: if the prompt is empty or an id is outside [0, V), or no token may be drawn.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.data import Vocabulary
    >>> vocabulary = Vocabulary(["<unk>", "to", "be"])
    >>> model = tr.RNNLM(3, 4, 4, np.random.default_rng(0))
    >>> ids = list(generate(model, vocabulary, [1], 5, temperature=0.8, rng=np.random.default_rng(0)))
    >>> len(ids), 0 in ids
    (5, False)
    """
    if not 0 <= temperature < np.inf:
        raise ConfigError(f"generate: temperature must be a finite number of 0 (greedy) or more, got {temperature}")
    for name, value in (("length", length), ("top_k", top_k)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ConfigError(f"generate: {name} must be an integer of 0 or more, got {value!r}")
    if temperature > 0 and rng is None:
        raise ConfigError("generate: rng is needed to draw at a temperature above 0; pass np.random.default_rng(seed)")
    ids = id_array("generate", prompt, len(vocabulary))
    if not len(ids):
        raise CorpusError("generate: prompt is empty; pass one id or more, such as that of the line end")
    banned = None if allow_unknown else vocabulary.unknown_id
    if banned is not None and len(vocabulary) == 1:
        raise CorpusError("generate: the vocabulary holds the unknown token only; pass allow_unknown=True")
    return _continue(model, ids.astype(np.int64), length, temperature, top_k, rng, banned)


def _continue(
    model: RNNLM,
    ids: npt.NDArray[np.int64],
    length: int,
    temperature: float,
    top_k: int,
    rng: np.random.Generator | None,
    banned: int | None,
) -> Iterator[int]:
    state = model.initial_state(1)
    for _ in range(length):
        with no_grad():  # closed before the yield: between two tokens the caller's own code must record
            output, state = model(ids[None], state)
        logits = output.data[0, -1].astype(np.float64)
        if banned is not None:
            logits[banned] = -np.inf
        token = int(np.argmax(logits)) if temperature == 0 or rng is None else _draw(logits, temperature, top_k, rng)
        yield token
        ids = np.array([token])


def _draw(logits: Array, temperature: float, top_k: int, rng: np.random.Generator) -> int:
    if 0 < top_k < len(logits):
        kept = np.argpartition(logits, -top_k)[-top_k:]
        logits = np.where(np.isin(np.arange(len(logits)), kept), logits, -np.inf)
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the largest to -inf, as it should
        weights = np.exp((logits - logits.max()) / temperature)
    return int(rng.choice(len(logits), p=weights / weights.sum()))
