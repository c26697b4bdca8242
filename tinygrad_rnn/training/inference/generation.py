"""Generation: text from a model, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast, overload

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from ...checks import flag, generator, instance, integer, number
from ...data.vocabulary import Vocabulary, id_array
from ...engine.tape import Array
from ...engine.tensor import Tensor
from ...engine.tree import flatten, map_leaves, structure
from ...errors import ConfigError, CorpusError, ShapeError
from ...nn.cells import Cell, State
from .sampling import Sampler, other_size
from .stepper import Stepper

Ids = NDArray[np.int64]


@overload
def generate(
    model: Cell | Stepper,
    vocabulary: Vocabulary,
    prompt: Sequence[int],
    length: int,
    *,
    temperature: float = ...,
    top_k: int = ...,
    top_p: float = ...,
    rng: np.random.Generator | Sequence[np.random.Generator] | None = ...,
    allow_unknown: bool = ...,
    compiled: bool = ...,
    executor: str | None = ...,
) -> Iterator[int]: ...


@overload
def generate(
    model: Cell | Stepper,
    vocabulary: Vocabulary,
    prompt: Sequence[Sequence[int] | NDArray[np.integer]],
    length: int,
    *,
    temperature: float = ...,
    top_k: int = ...,
    top_p: float = ...,
    rng: np.random.Generator | Sequence[np.random.Generator] | None = ...,
    allow_unknown: bool = ...,
    compiled: bool = ...,
    executor: str | None = ...,
) -> Iterator[Ids]: ...


@overload
def generate(
    model: Cell | Stepper,
    vocabulary: Vocabulary,
    prompt: npt.ArrayLike,
    length: int,
    *,
    temperature: float = ...,
    top_k: int = ...,
    top_p: float = ...,
    rng: np.random.Generator | Sequence[np.random.Generator] | None = ...,
    allow_unknown: bool = ...,
    compiled: bool = ...,
    executor: str | None = ...,
) -> Iterator[int] | Iterator[Ids]: ...


def generate(
    model: Cell | Stepper,
    vocabulary: Vocabulary,
    prompt: npt.ArrayLike | Sequence[Sequence[int] | NDArray[np.integer]],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    rng: np.random.Generator | Sequence[np.random.Generator] | None = None,
    allow_unknown: bool = False,
    compiled: bool = True,
    executor: str | None = None,
) -> Iterator[int] | Iterator[Ids]:
    """Return an iterator over the ids with which a model continues a prompt, or N prompts at once.

    Each id is drawn from softmax(logits / temperature) over the `top_k` most likely tokens, and read by the model
    before the next. Temperature 0 always takes the most likely one. Of equally likely tokens the one with the lowest id
    comes first, at temperature 0 and among the `top_k`.

    The model runs compiled, as a `Stepper`, prompts included; parameters are read anew at each token. Each of several
    prompts, of whatever length, is continued as if it were alone: at each token one number is drawn for each, in the
    order of the prompts.

    Args:
        model: such as an `RNNLM`, with as many logits as the vocabulary has tokens; or a `Stepper` of one, which keeps
            its plan from call to call (it has settings of its own in place of `compiled` and `executor`).
        vocabulary: V tokens.
        prompt: ids (T,) in [0, V), at least one; or N of these: a list, or ids (N, T).
        length: ids to yield.
        temperature: 0 or more; below 1 sharpens the distribution, above 1 flattens it.
        top_k: how many of the most likely tokens may be drawn; 0: all.
        top_p: draw from the fewest tokens, the most likely first, whose probabilities add up to it (nucleus sampling,
            Holtzman et al. 2020); 1: all.
        rng: draws the tokens; only temperature 0 needs none. For N prompts, one generator or a list of N: with a list,
            each prompt is continued as it would be alone with its own generator.
        allow_unknown: whether "<unk>" may be drawn.
        compiled: False: run the model operation by operation.
        executor: the executor of the compiled step, as in `compile`.

    Returns:
        An iterator over `length` ids, of N prompts over `length` arrays of N ids.

    Raises:
        ConfigError: if a setting is out of range, `rng` is missing or not a generator, or the model has not one
            logit for each token of the vocabulary.
        CorpusError: if a prompt is empty or an id is outside [0, V), or no token may be drawn.
        DTypeError, ShapeError: if ids are not integers, or prompts have more than two axes.
        NonFiniteError: while iterating, if the logits do not define a distribution: one is NaN or +inf, or all that
            may be drawn are -inf.

    Warns:
        UserWarning: if the model cannot be compiled, and so runs operation by operation; see `Stepper`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.data import Vocabulary
    >>> vocabulary = Vocabulary(["<unk>", "to", "be"])
    >>> model = tr.RNNLM(3, 4, 4, np.random.default_rng(0))
    >>> ids = list(generate(model, vocabulary, [1], 5, temperature=0.8, rng=np.random.default_rng(0)))
    >>> len(ids), 0 in ids
    (5, False)
    >>> np.stack(list(generate(model, vocabulary, [[1], [2, 1], [2]], 5, temperature=0)), axis=1).shape  # three prompts
    (3, 5)
    """
    temperature = number("generate", "temperature", temperature, low=0)
    length, top_k = integer("generate", "length", length, low=0), integer("generate", "top_k", top_k, low=0)
    top_p = number("generate", "top_p", top_p, low=0, high=1, above=True)
    stepper = model if isinstance(model, Stepper) else Stepper(model, compiled=compiled, executor=executor)
    instance("generate", "vocabulary", vocabulary, Vocabulary)
    if getattr(stepper.model, "vocab_size", len(vocabulary)) != len(vocabulary):
        raise other_size(getattr(stepper.model, "vocab_size", 0), vocabulary)
    several = _is_several(prompt)
    given = cast(Sequence[npt.ArrayLike], prompt if several else [prompt])
    prompts = [_checked(ids, vocabulary, n if several else None) for n, ids in enumerate(given)]
    if not prompts:
        raise CorpusError("generate: there are no prompts; pass one or more, each of one id or more")
    rngs = _generators(rng, temperature, len(prompts))
    banned = None if flag("generate", "allow_unknown", allow_unknown) else vocabulary.unknown_id
    if banned is not None and len(vocabulary) == 1:
        raise CorpusError("generate: the vocabulary holds the unknown token only; pass allow_unknown=True")
    steps = _continue(stepper, prompts, length, Sampler(vocabulary, temperature, top_k, rngs, banned, top_p))
    return steps if several else (int(ids[0]) for ids in steps)


def _is_several(prompt: object) -> bool:
    """Return whether these are prompts, not the ids of one."""
    if isinstance(prompt, np.ndarray):
        return prompt.ndim == 2
    return isinstance(prompt, list | tuple) and any(
        isinstance(part, list | tuple | np.ndarray) and np.ndim(part) for part in prompt
    )


def _checked(prompt: npt.ArrayLike, vocabulary: Vocabulary, number: int | None) -> Ids:
    ids = id_array("generate" if number is None else f"generate: prompt {number}", prompt, len(vocabulary))
    if not len(ids):
        which = "prompt" if number is None else f"prompt {number}"
        raise CorpusError(f"generate: {which} is empty; pass one id or more, such as that of the line end")
    return ids.astype(np.int64)


def _generators(rng: object, temperature: float, N: int) -> list[np.random.Generator]:
    """Return the generators that draw: one for all, or one for each prompt."""
    if rng is None:
        if temperature > 0:
            raise ConfigError(
                "generate: rng is needed to draw at a temperature above 0; pass np.random.default_rng(seed)"
            )
        return []
    if not isinstance(rng, list | tuple):
        return [generator("generate", "rng", rng)]
    if len(rng) != N:
        raise ConfigError(f"generate: rng must be one generator, or one for each of the {N} prompts, got {len(rng)}")
    return [generator("generate", f"rng[{n}]", one) for n, one in enumerate(rng)]


def _continue(stepper: Stepper, prompts: list[Ids], length: int, sampler: Sampler) -> Iterator[Ids]:
    if not length:
        return
    logits, state = _read(stepper, prompts)
    for left in reversed(range(length)):
        ids = sampler(logits)
        yield ids.copy()  # the caller may write into it
        if left:
            logits, state = stepper(ids, state)


def _read(stepper: Stepper, prompts: list[Ids]) -> tuple[Array, State]:
    """Return the logits (N, V) after the last token of each prompt, and the state there.

    Prompts end together. Until a prompt begins, its stream reads its first token repeatedly; its state is then
    reset, so that one plan, that of N streams, reads all prompts.
    """
    T = max(map(len, prompts))
    begins = np.array([T - len(ids) for ids in prompts])
    columns = np.stack([np.pad(ids, (T - len(ids), 0), mode="edge") for ids in prompts], axis=1)
    fresh = state = stepper.initial_state(len(prompts))
    logits = np.zeros((len(prompts), 0))
    for t, ids in enumerate(columns):
        if stepper.compiled is None or (t and not _fit(state, fresh, len(prompts))):
            return _read_apart(stepper, prompts)
        if t and (begin := begins == t).any():
            state = map_leaves(partial(_begun, begin), state, fresh)
        logits, state = stepper(ids, state)
    return logits, state


def _fit(state: State, fresh: State, N: int) -> bool:
    """Return whether a state consists of arrays (N, ...), as a fresh one does."""
    parts = [*flatten(state), *flatten(fresh)]
    arrays = all(isinstance(part, Tensor | np.ndarray) and part.shape[:1] == (N,) for part in parts)
    return arrays and structure(state) == structure(fresh)


def _begun(begin: Array, now: Array, fresh: Tensor | Array) -> Array:
    first = fresh.data if isinstance(fresh, Tensor) else fresh
    return np.where(begin.reshape(-1, *(1,) * (now.ndim - 1)), first, now)


def _read_apart(stepper: Stepper, prompts: list[Ids]) -> tuple[Array, State]:
    """Return the same as `_read`, for prompts of each length in turn."""
    groups = [[n for n, ids in enumerate(prompts) if len(ids) == T] for T in sorted(set(map(len, prompts)))]
    made = [stepper.read(np.stack([prompts[n] for n in group])) for group in groups]
    if len(groups) == 1:
        return made[0]
    joined = partial(_joined, np.argsort(np.concatenate(groups)))
    logits = cast(Array, joined(*(logits for logits, _ in made)))
    return logits, map_leaves(joined, *(state for _, state in made))


def _joined(order: NDArray[np.intp], *parts: object) -> object:
    """Return the rows of all parts in order; a part without rows must be the same after every prompt."""
    arrays = [part for part in parts if isinstance(part, np.ndarray) and part.ndim]
    if len(arrays) == len(parts):
        return np.concatenate(arrays)[order]
    if any(np.any(part != parts[0]) for part in parts):
        raise ShapeError(
            "generate: the state after prompts of different lengths holds "
            f"{' and '.join(map(str, parts[:2]))}, and not an array with a row for each prompt; pass prompts of one "
            "length"
        )
    return parts[0]
