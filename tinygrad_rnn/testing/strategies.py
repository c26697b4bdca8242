"""Hypothesis strategies for checks of the gradients of a network.

    import tinygrad_rnn.testing.strategies as st

    @given(model=st.models(), batch=st.sequences(), policy=st.truncations())
    def test_mine(model, batch, policy):
        check_grads(model, batch, truncation=policy)

They draw a *shape* and an integer *seed*; the values are standard normal numbers of `default_rng(seed)`. A fault in a
derivative usually depends on a shape (a third step, a broadcast axis, an id that occurs twice), hardly ever on a value,
and a counter-example shrinks to the smallest shape that shows it, printed as the call that makes it. For a fault that
does depend on a value, `elements=` draws value by value.

Needs Hypothesis: `pip install "tinygrad_rnn[testing]"`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike

from ..credit.patterned import RTRL
from ..engine.tape import Array
from ..engine.tensor import Tensor, tensor
from ..nn.cells import CELLS, Cell, Stacked
from ..nn.models import RNNLM
from ..nn.module import Module
from ..optim import SGD, Adagrad, Adam, AdamW, Lion, Momentum, Optimizer, RMSprop
from ..truncation import Adaptive, Checkpointed, Chunked, Decay, Full, Policy, Randomized, Windowed
from .targets.build import Batch

try:
    from hypothesis import strategies as st
    from hypothesis.extra.numpy import array_shapes, arrays
except ModuleNotFoundError as error:
    raise ImportError(
        'tinygrad_rnn.testing.strategies needs Hypothesis: pip install "tinygrad_rnn[testing]"'
    ) from error


M = TypeVar("M", bound=Module)
T = TypeVar("T")

Shapes: TypeAlias = "st.SearchStrategy[tuple[int, ...]]"

Elements: TypeAlias = "st.SearchStrategy[float] | None"
"""A strategy for each number of an array, instead of normal numbers."""

Size: TypeAlias = "int | st.SearchStrategy[int]"
"""A length, or a strategy that draws one; share it (`hypothesis.strategies.shared`) where two things must agree."""

SEEDS = st.integers(0, 2**16 - 1)

SIZES = st.integers(1, 3)
_STEPS = st.integers(1, 6)
_RATES = st.sampled_from([0.01, 0.1, 1.0])
_DECAYS = st.sampled_from([0.0, 0.1])
_EVERY = st.none() | _STEPS


def normal(shape: tuple[int, ...], seed: int, dtype: DTypeLike = np.float64) -> Array:
    """Return standard normal numbers of a seed, in a real floating point dtype.

    >>> normal((2,), 0)
    array([ 0.12573022, -0.13210486])
    """
    return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def token_batch(vocab_size: int, batch: int, steps: int, seed: int) -> Batch:
    """Return ids and targets (N, T) of a seed, each in [0, V) and independent of the others.

    >>> token_batch(5, 1, 3, 0)
    Batch(inputs=array([[4, 3, 2]]), targets=array([[1, 1, 0]]))
    """
    return Batch(*np.random.default_rng(seed).integers(vocab_size, size=(2, batch, steps)))


def with_noise(module: M, seed: int, scale: float = 0.5) -> M:
    """Return a copy of a module (or cell) with normal noise of standard deviation `scale` added to each parameter.

    Biases start at zero, which hides many faults: anything times 0 is right.

    >>> import tinygrad_rnn as tr
    >>> with_noise(tr.RNNCell(1, 2, np.random.default_rng(0), dtype="float64"), 0).b.data.round(2)
    array([0.65, 0.47])
    """
    new = copy.deepcopy(module)
    rng = np.random.default_rng(seed)
    for parameter in new.parameters().values():
        parameter.data = parameter.data + scale * rng.standard_normal(parameter.shape)
    return new


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 1, max_side: int = 4) -> Shapes:
    """Return a strategy for shapes, tuples of lengths; `min_side=0` draws empty arrays too.

    >>> from hypothesis import find
    >>> find(shapes(min_dims=2), lambda shape: shape[0] > 2)
    (3, 1)
    """
    return array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def tensors(
    shape: tuple[int, ...] | Shapes | None = None,
    dtype: DTypeLike = np.float64,
    requires_grad: bool = True,
    elements: Elements = None,
) -> st.SearchStrategy[Tensor]:
    """Return a strategy for leaf Tensors of standard normal numbers.

    Args:
        shape: a shape, or a strategy for shapes; None: `shapes()`.
        dtype: real floating point.
        requires_grad: whether operations on them are recorded.
        elements: strategy for each value, instead of normal numbers.

    >>> from hypothesis import find
    >>> find(tensors((2,)), lambda x: True)
    tensor([ 0.12573022, -0.13210486], dtype=float64, requires_grad=True)
    """
    settings = {"requires_grad": st.just(True)} if requires_grad else {}
    return st.builds(tensor, _values(shapes() if shape is None else shape, dtype, elements), **settings)


@overload
def sequences(
    vocab_size: Size = ..., *, features: None = ..., batch: Size = ..., steps: Size = ...
) -> st.SearchStrategy[Batch]: ...


@overload
def sequences(
    *, features: Size, batch: Size = ..., steps: Size = ..., dtype: DTypeLike = ..., elements: Elements = ...
) -> st.SearchStrategy[Array]: ...


def sequences(
    vocab_size: Size = 5,
    *,
    features: Size | None = None,
    batch: Size = SIZES,
    steps: Size = _STEPS,
    dtype: DTypeLike = np.float64,
    elements: Elements = None,
) -> st.SearchStrategy[Batch] | st.SearchStrategy[Array]:
    """Return a strategy for sequences: of ids and targets, for a model; with `features`, of vectors, for a cell.

    Args:
        vocab_size: V; ids and targets lie in [0, V).
        features: D; given, float arrays (N, T, D) are drawn, and otherwise a `Batch` of inputs and targets (N, T).
        batch, steps: N and T.
        dtype: of the vectors.
        elements: strategy for each number of the vectors, instead of normal numbers.

    >>> from hypothesis import find
    >>> find(sequences(steps=3), lambda batch: True)
    Batch(inputs=array([[4, 3, 2]]), targets=array([[1, 1, 0]]))
    """
    if features is None:
        return st.builds(token_batch, *map(_drawn, (vocab_size, batch, steps)), SEEDS)
    return _values(st.tuples(*map(_drawn, (batch, steps, features))), dtype, elements)


def modules(make: Callable[..., M], *sizes: Size, **settings: object) -> st.SearchStrategy[M]:
    """Return a strategy for modules of one kind, with float64 parameters, none of them zero.

    `make` is a class or function `f(*sizes, rng, **settings)`, with sizes such as D and H; it is passed `dtype` if it
    takes that.

    >>> import tinygrad_rnn as tr
    >>> from hypothesis import find
    >>> find(modules(tr.Linear, 3, st.integers(1, 4), bias=False), lambda layer: True)
    Linear(3 parameters: W (3, 1))
    """
    return st.builds(with_noise, _made(make, sizes, settings), SEEDS)


def cells(
    *makes: str | Callable[..., Module], input_size: Size = 2, hidden_size: Size = SIZES
) -> st.SearchStrategy[Module]:
    """Return a strategy for cells with float64 parameters, none of them zero.

    Args:
        makes: what to draw from: names of `CELL_NAMES` ("gru before" is the GRU's other form, "stacked" is two of the
            others on top of each other), or classes or functions `f(input_size, hidden_size, rng)` of your own. None
            given: all the names.
        input_size, hidden_size: D and H.

    Raises:
        KeyError: if a name is none of these.

    >>> from hypothesis import find
    >>> find(cells("lstm"), lambda cell: cell.hidden_size > 1)
    LSTMCell(40 parameters: Wx (2, 8), Wh (2, 8), b (8,))
    """
    made = st.one_of([_cell(make, input_size, hidden_size) for make in makes or CELL_NAMES])
    return st.builds(with_noise, made, SEEDS)


@st.composite
def models(
    draw: st.DrawFn, vocab_size: Size = 5, cell: str | Callable[..., Cell] | None = None, max_layers: int = 2
) -> RNNLM:
    """Return a strategy for recurrent language models with float64 parameters, none of them zero.

    Args:
        vocab_size: V.
        cell: as `RNNLM` takes it; None: each built-in one.
        max_layers: most recurrent layers.

    >>> from hypothesis import find
    >>> list(find(models(cell="gru"), lambda model: model.tied).parameters())
    ['embedding.W', 'layers.0.Wx', 'layers.0.Wh', 'layers.0.b', 'layers.0.bh', 'output']
    """
    # All are drawn, even if unused: a shorter draw would count as simpler, and every counter-example would be tied.
    layers, H, D, tied = draw(st.tuples(st.integers(1, max_layers), SIZES, SIZES, st.booleans()))
    kind = cell or draw(st.sampled_from(list(CELLS)))
    settings = {"cell": kind, "layers": layers, **({"tied": True} if tied else {})}
    return draw(modules(RNNLM, vocab_size, H if tied else D, H, **settings))


def truncations(*kinds: type[Policy], max_steps: int = 3) -> st.SearchStrategy[Policy]:
    """Return a strategy for policies of the given classes; none given: all of this package whose gradient is exact.

    `max_steps` is the longest window, chunk or segment.

    Raises:
        KeyError: if a kind is not among these.

    >>> from hypothesis import find
    >>> find(truncations(Windowed), lambda policy: policy.h > 1)
    Windowed(h=2, every=1)
    """
    known = _policies(st.integers(1, max_steps))
    return st.one_of([known[kind] for kind in kinds or known])


def _policies(steps: st.SearchStrategy[int]) -> dict[type[Policy], st.SearchStrategy[Policy]]:
    windows = steps.flatmap(lambda h: st.tuples(st.just(h), st.integers(1, h)))
    return {
        Full: st.builds(Full, _EVERY),
        Chunked: st.builds(Chunked, steps),
        Windowed: windows.flatmap(lambda window: st.builds(Windowed, *map(st.just, window))),
        Decay: st.builds(Decay, st.sampled_from([0.5, 0.0, 0.9, 1.0, -2.0]), _EVERY),
        Checkpointed: st.builds(Checkpointed, steps, _EVERY, st.none() | steps),
        RTRL: st.builds(RTRL, _EVERY),
        Randomized: st.builds(Randomized, c=st.sampled_from([0.5, 0.0, 0.2]), rng=SEEDS, every=_EVERY)
        | st.builds(Randomized, mean_length=st.sampled_from([2, 5]), rng=SEEDS),
        Adaptive: windows.flatmap(
            lambda w: st.builds(Adaptive, st.sampled_from([0.1, 1.0]), max_window=st.just(w[0]), every=st.just(w[1]))
        ),
    }


POLICIES = tuple(_policies(SIZES))
"""The classes that `truncations` draws."""


def optimizers() -> st.SearchStrategy[Optimizer]:
    """Return a strategy for optimizers, of every kind.

    >>> from hypothesis import find
    >>> find(optimizers(), lambda optimizer: "v" in optimizer.slots).lr
    0.01
    """
    kinds = {SGD: "", Momentum: "nesterov", RMSprop: "centered", Adam: "amsgrad", AdamW: "", Adagrad: "", Lion: ""}
    flags = {kind: {name: st.booleans()} if name else {} for kind, name in kinds.items()}
    return st.one_of([st.builds(kind, lr=_RATES, weight_decay=_DECAYS, **flag) for kind, flag in flags.items()])


def generators() -> st.SearchStrategy[np.random.Generator]:
    """Return a strategy for generators of random numbers, such as dropout takes.

    >>> from hypothesis import find
    >>> int(find(generators(), lambda rng: True).integers(100))
    85
    """
    return st.builds(np.random.default_rng, SEEDS)


# Everything is made with `builds`, from calls that Hypothesis can print, so a counter-example is a line to paste.


def _drawn(value: T | st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    return value if isinstance(value, st.SearchStrategy) else st.just(value)


def _values(shape: tuple[int, ...] | Shapes, dtype: DTypeLike, elements: Elements) -> st.SearchStrategy[Array]:
    if elements is not None:
        return arrays(dtype, shape, elements=elements, fill=st.nothing())
    extra = {} if dtype == np.float64 else {"dtype": st.just(np.dtype(dtype).name)}
    return st.builds(normal, _drawn(shape), SEEDS, **extra)


def _made(make: Callable[..., M], sizes: tuple[Size, ...], settings: dict[str, object]) -> st.SearchStrategy[M]:
    if "dtype" in inspect.signature(make).parameters:
        settings = {**settings, "dtype": "float64"}
    keywords = {name: st.just(value) for name, value in settings.items()}
    return st.builds(make, *map(_drawn, sizes), generators(), **keywords)


_CELLS: dict[str, tuple[Callable[..., Module], dict[str, object]]] = {
    **{name: (make, {}) for name, make in CELLS.items()},
    "gru before": (CELLS["gru"], {"reset": "before"}),
}
CELL_NAMES = (*_CELLS, "stacked")


def _cell(make: str | Callable[..., Module], D: Size, H: Size) -> st.SearchStrategy[Module]:
    if make == "stacked":
        return _stacked(D, H)
    factory, settings = _CELLS[make] if isinstance(make, str) else (make, {})
    return _made(factory, (D, H), settings)


@st.composite
def _stacked(draw: st.DrawFn, D: Size, H: Size) -> Stacked:
    between, names = draw(SIZES), st.sampled_from(list(_CELLS))
    layers = st.tuples(_cell(draw(names), D, between), _cell(draw(names), between, H))
    return draw(st.builds(Stacked, layers))
