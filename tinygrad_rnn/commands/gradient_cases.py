"""The cases of the command `check`: everything built in; a user's cell, model or policy; or a saved model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as hst

from ..engine.tape import Array
from ..errors import ConfigError
from ..imports import import_object
from ..nn.cells import CELLS
from ..nn.layers import Dropout, Embedding, Linear
from ..nn.models import CBOW, RNNLM
from ..ops import cross_entropy
from ..testing import strategies as st
from ..training.language.modelfile import load_model
from ..truncation import Policy


@dataclass(frozen=True)
class Case:
    """One row of the table: `check_grads(f, *inputs, truncation=truncation)` on drawn examples.

    f and truncation are strategies or values; `source` is Python code for the one that is a value.
    """

    name: str
    f: object
    inputs: Mapping[str, hst.SearchStrategy[object]]
    truncation: hst.SearchStrategy[Policy] | Policy | None = None
    source: str = ""
    module: str = ""  # the user's module that its names come from


def builtin_cases() -> Iterator[Case]:
    """Yield a case for each cell, layer, model, loss and truncation policy of the package.

    >>> [case.name for case in builtin_cases()][:3]
    ['cell rnn', 'cell lstm', 'cell gru']
    """
    for name in st.CELL_NAMES:
        yield Case(f"cell {name}", st.cells(name, input_size=_D), _VECTORS)
    yield Case("Linear", st.modules(Linear, _D, st.SIZES), _VECTORS)
    yield Case("Embedding", st.modules(Embedding, 5, st.SIZES), {"ids": _ids(_T)})
    yield Case("Dropout", hst.builds(Dropout, hst.just(0.5)), {**_VECTORS, "rng": st.generators()})
    for name in CELLS:
        yield Case(f"RNNLM {name}", st.models(cell=name), _TOKENS)
    for combine in ("sum", "concat"):
        yield Case(
            f"CBOW {combine}", st.modules(CBOW, 5, st.SIZES, 2, combine=combine), {"contexts": _ids(hst.just(2))}
        )
    yield Case(
        "cross_entropy",
        hst.just(cross_entropy),
        {"logits": st.sequences(features=5, batch=_N, steps=_T), "targets": _ids(_T)},
    )
    for policy in st.POLICIES:
        yield Case(policy.__name__, st.models(), _TOKENS, st.truncations(policy))


def cases_of(target: str) -> Iterator[Case]:
    """Yield the cases for a model file or for "mymodule:name": a cell, a function that makes one, a model or a policy.

    A cell that can be made in any size is checked twice: in full and truncated.

    Raises:
        ConfigError: if there is no such name, or nothing can be made of it.
        ModelFileError: if the file is not a model.

    >>> [case.name for case in cases_of("tinygrad_rnn:GRUCell")]
    ['tinygrad_rnn:GRUCell', 'tinygrad_rnn:GRUCell, truncated']
    """
    module_name, colon, name = target.partition(":")
    if not colon or Path(target).exists():
        yield _model_case(target, load_model(target).model, f"load_model({target!r}).model", "")
        return
    value = import_object("check", target)
    if isinstance(value, RNNLM):
        yield _model_case(target, value, name, module_name)
    elif isinstance(value, Policy):
        # A small model is enough: a policy acts only on the edges between steps.
        model = st.models(cell="rnn", max_layers=1)
        yield Case(target, model, _TOKENS, value, source=name, module=module_name)
    elif hasattr(value, "initial_state") and not isinstance(value, type):
        _check_cell(target, value)
        xs = st.sequences(features=_input_size(target, value))
        yield Case(target, value, {"xs": xs}, source=name, module=module_name)
    else:
        _check_cell(target, _made(target, value))
        yield Case(target, st.cells(value, input_size=_D), _VECTORS, module=module_name)
        yield Case(
            f"{target}, truncated", st.cells(value, input_size=_D), _VECTORS, st.truncations(), module=module_name
        )


# Lengths that several arguments of one check have to agree on.
_D, _N, _T = (hst.shared(st.SIZES, key=f"tinygrad_rnn {letter}") for letter in "DNT")
_VECTORS = {"xs": st.sequences(features=_D)}
_TOKENS = {"batch": st.sequences(5)}


def _ids(steps: hst.SearchStrategy[int]) -> hst.SearchStrategy[Array]:
    return st.sequences(5, batch=_N, steps=steps).map(lambda batch: batch.inputs)


def _model_case(name: str, model: RNNLM, source: str, module: str) -> Case:
    # A trained model is large: little text, so that an example takes a fraction of a second.
    batch = st.sequences(model.vocab_size, batch=hst.integers(1, 2), steps=hst.integers(1, 4))
    return Case(name, model, {"batch": batch}, source=source, module=module)


def _made(target: str, make: object) -> object:
    expected = "a cell, a class or function f(input_size, hidden_size, rng) that makes one, an RNNLM or a policy"
    if not callable(make) or (isinstance(make, type) and issubclass(make, Policy | RNNLM)):
        raise ConfigError(f"check: {target} is {make!r}; expected {expected}")
    try:
        function: Callable[..., object] = make
        return function(2, 3, np.random.default_rng(0))
    except Exception as error:
        raise ConfigError(
            f"check: {target}(2, 3, rng) raised {type(error).__name__}: {error}; expected {expected}"
        ) from error


def _check_cell(target: str, cell: object) -> None:
    missing = [name for name in ("__call__", "initial_state", "parameters") if not hasattr(cell, name)]
    if missing:
        raise ConfigError(
            f"check: {target} gives {cell!r}, which has no {' and no '.join(missing)}; a cell is a tinygrad_rnn.Module "
            "with cell(x, state) -> (output, state) and initial_state(batch_size)"
        )


def _input_size(target: str, cell: object) -> int:
    """Return D of an existing cell."""
    size = getattr(cell, "input_size", None)
    if not isinstance(size, int):
        raise ConfigError(
            f"check: {target} is a cell without input_size; give it that attribute, or pass the class "
            "or a function f(input_size, hidden_size, rng)"
        )
    return size
