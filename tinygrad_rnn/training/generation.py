"""Generation: text from a model, token by token."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..checks import flag, generator, instance, integer, number
from ..data.vocabulary import Vocabulary, id_array
from ..engine.tape import Array, no_grad
from ..errors import ConfigError, CorpusError, NonFiniteError
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
    the next. Temperature 0 takes the most likely one, without chance. Of tokens that are equally likely the one with
    the lowest id counts as the likelier, at temperature 0 and among the `top_k`.

    Args:
        model: such as an `RNNLM`, with as many logits as the vocabulary has tokens.
        vocabulary: V tokens.
        prompt: ids (T,) in [0, V), at least one.
        length: ids to yield.
        temperature: 0 or more; below 1 plays safe, above 1 takes risks.
        top_k: how many of the most likely tokens may be drawn; 0: all.
        rng: draws the tokens; only temperature 0 does without.
        allow_unknown: whether "<unk>" may be drawn.

    Raises:
        ConfigError: if a setting is out of range, `rng` is missing or no generator, or the model's logits are not one
            for each token of the vocabulary.
        CorpusError: if the prompt is empty or an id is outside [0, V), or no token may be drawn.
        NonFiniteError: while iterating, if the logits are no distribution: one is NaN or +inf, or all that may be
            drawn are -inf.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.data import Vocabulary
    >>> vocabulary = Vocabulary(["<unk>", "to", "be"])
    >>> model = tr.RNNLM(3, 4, 4, np.random.default_rng(0))
    >>> ids = list(generate(model, vocabulary, [1], 5, temperature=0.8, rng=np.random.default_rng(0)))
    >>> len(ids), 0 in ids
    (5, False)
    """
    temperature = number("generate", "temperature", temperature, low=0)
    length, top_k = integer("generate", "length", length, low=0), integer("generate", "top_k", top_k, low=0)
    if rng is not None:
        generator("generate", "rng", rng)
    elif temperature > 0:
        raise ConfigError("generate: rng is needed to draw at a temperature above 0; pass np.random.default_rng(seed)")
    instance("generate", "vocabulary", vocabulary, Vocabulary)
    if getattr(model, "vocab_size", len(vocabulary)) != len(vocabulary):
        raise _other_size(model.vocab_size, vocabulary)
    ids = id_array("generate", prompt, len(vocabulary))
    if not len(ids):
        raise CorpusError("generate: prompt is empty; pass one id or more, such as that of the line end")
    banned = None if flag("generate", "allow_unknown", allow_unknown) else vocabulary.unknown_id
    if banned is not None and len(vocabulary) == 1:
        raise CorpusError("generate: the vocabulary holds the unknown token only; pass allow_unknown=True")
    return _continue(model, vocabulary, ids.astype(np.int64), length, temperature, top_k, rng, banned)


def _continue(
    model: RNNLM,
    vocabulary: Vocabulary,
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
        if len(logits) != len(vocabulary):
            raise _other_size(len(logits), vocabulary)
        _check_distribution(logits, vocabulary, banned)
        if banned is not None:
            logits[banned] = -np.inf
        token = int(np.argmax(logits)) if temperature == 0 or rng is None else _draw(logits, temperature, top_k, rng)
        yield token
        ids = np.array([token])


def _check_distribution(logits: Array, vocabulary: Vocabulary, banned: int | None) -> None:
    bad = np.flatnonzero(np.isnan(logits) | (logits == np.inf))
    if len(bad):
        raise NonFiniteError(
            f"generate: the model's logits are no distribution: {len(bad)} of {len(logits)} are NaN or +inf, the first "
            f"that of {vocabulary.tokens[bad[0]]!r}; it holds weights that are not finite, or its state has overflowed"
        )
    allowed = logits if banned is None else np.delete(logits, banned)
    if (allowed == -np.inf).all():
        raise NonFiniteError("generate: the model's logits are no distribution: all that may be drawn are -inf")


def _other_size(size: int, vocabulary: Vocabulary) -> ConfigError:
    return ConfigError(
        f"generate: the model has logits for {size} tokens, but the vocabulary has V={len(vocabulary)}; pass the "
        "vocabulary that the model was trained with"
    )


def _draw(logits: Array, temperature: float, top_k: int, rng: np.random.Generator) -> int:
    if 0 < top_k < len(logits):
        kept = np.argsort(-logits, kind="stable")[:top_k]
        logits = np.where(np.isin(np.arange(len(logits)), kept), logits, -np.inf)
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the largest to -inf, as it should
        weights = np.exp((logits - logits.max()) / temperature)
    return int(rng.choice(len(logits), p=weights / weights.sum()))
