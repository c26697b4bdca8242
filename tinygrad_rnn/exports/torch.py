"""Weights as PyTorch names and arranges them, and back. PyTorch is not imported: state dicts are dicts of arrays.

| here | there |
| --- | --- |
| `LSTMCell` in a list of layers | `nn.LSTM`: columns i, f, o, g become rows i, f, g, o |
| `GRUCell(reset="after")` | `nn.GRU`: r, z, n; bh is the last third of its second bias |
| `RNNCell` | `nn.RNN` |
| `Linear`, `Embedding`, `LayerNorm` | `nn.Linear`, `nn.Embedding`, `nn.LayerNorm` |

Matrices are transposed. PyTorch has two biases for each gate, of which only the sum matters: b is their sum, and goes
to the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from ..checks import instance
from ..data.arrays import converted
from ..engine.tape import Array
from ..engine.tensor import Tensor
from ..errors import ConfigError, DTypeError, ShapeError
from ..nn.cells import GRUCell, LSTMCell, RNNCell
from ..nn.layers import Embedding, Linear
from ..nn.models import RNNLM
from ..nn.module import Module
from ..nn.normalization import LayerNorm
from ..nn.recurrent import RecurrentLayers


def to_torch(module: Module) -> dict[str, Array]:
    """Return the arrays of a module as PyTorch names and arranges them, contiguous, in the module's dtype.

    The names are those of an `nn.Module` with the same attributes: `layers.weight_ih_l0` for the first layer of an
    `RNNLM` or of `RecurrentLayers` at `layers`, `weight_ih` for a cell alone, `output.weight` for a `Linear`. With
    `_reverse` for the cell that reads backward. Tied weights stand under both names. In PyTorch
    `{name: torch.from_numpy(array) for name, array in ...}` is what `load_state_dict` takes.

    Args:
        module: an `RNNLM`, `SequenceModel`, `RecurrentLayers`, cell or layer, or a module made of these.

    Raises:
        ConfigError: if a part with parameters has no counterpart in PyTorch; it is named.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RecurrentLayers("lstm", 3, 4, np.random.default_rng(0))
    >>> {name: array.shape for name, array in tr.to_torch(cell).items()}
    {'weight_ih_l0': (16, 3), 'weight_hh_l0': (16, 4), 'bias_ih_l0': (16,), 'bias_hh_l0': (16,)}
    """
    instance("to_torch", "module", module, Module)
    found = {name: array for piece in _pieces(module) for name, array in piece.to_torch().items()}
    return {name: np.array(array, order="C") for name, array in found.items()}


def from_torch(module: Module, arrays: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Return arrays of PyTorch, renamed and rearranged for a module; `module.load` takes the result.

    Args:
        module: as for `to_torch`; it is not changed.
        arrays: by name, as `to_torch(module)` names them: a `state_dict()` of PyTorch on the CPU, what
            `safetensors.numpy.load_file` returns, or any other dict of arrays. `training.load` and PyTorch's own
            pickled checkpoints are different formats: convert those in PyTorch.

    Raises:
        ConfigError: as `to_torch`; or if the model is tied and the two arrays differ.
        ShapeError: if a name is missing or unknown, or a shape differs; the message says which.
        DTypeError: if an array has a dtype that NumPy has not, such as bfloat16.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> old, new = (tr.GRUCell(3, 4, np.random.default_rng(seed)) for seed in (0, 1))
    >>> new.load(tr.from_torch(new, tr.to_torch(old)))
    >>> bool(np.array_equal(new.Wx.data, old.Wx.data))
    True
    """
    instance("from_torch", "module", module, Module)
    expected = {name: array.shape for name, array in to_torch(module).items()}
    given = {name: _given(name, array) for name, array in arrays.items()}
    missing, unknown = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing or unknown:
        raise ShapeError(
            f"from_torch: missing {missing}, unknown {unknown}; make the {type(module).__name__} with the same layers, "
            "directions and biases, and rename what has another name: to_torch(module) shows the names"
        )
    for name, shape in expected.items():
        if given[name].shape != shape:
            raise ShapeError(f"from_torch: {name} has shape {given[name].shape}, expected {shape}")
    return {name: np.array(array) for piece in _pieces(module) for name, array in piece.from_torch(given).items()}


def _given(name: str, array: object) -> Array:
    try:
        return converted(array)
    except TypeError as error:  # bfloat16, for instance
        raise DTypeError(
            f"from_torch: {name} cannot be made an array: {error}; convert it in PyTorch, such as {name}.float()"
        ) from error


@dataclass(frozen=True)
class _Piece:
    """A part of a module that PyTorch has too.

    Attributes:
        module: the part.
        ours: what its names start with here.
        theirs: what its names start and end with in PyTorch.
    """

    module: Module
    ours: str
    theirs: tuple[str, str]

    def to_torch(self) -> dict[str, Array]:
        start, end = self.theirs
        there, _ = _COUNTERPARTS[type(self.module)]
        return {f"{start}{name}{end}": array for name, array in there(self.module.state_dict()).items()}

    def from_torch(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        start, end = self.theirs
        there, back = _COUNTERPARTS[type(self.module)]
        given = {name: arrays[f"{start}{name}{end}"] for name in there(self.module.state_dict())}
        return {self.ours + name: array for name, array in back(given).items()}


@dataclass(frozen=True)
class _Tied(_Piece):
    """The output of a language model that shares its table with the embedding."""

    def to_torch(self) -> dict[str, Array]:
        model = cast(RNNLM, self.module)
        bias = cast(Tensor, model.output).data
        return {f"{self.theirs[0]}weight": model.embedding.W.data, f"{self.theirs[0]}bias": bias}

    def from_torch(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        start = self.theirs[0]
        if not np.array_equal(arrays[f"{start}weight"], arrays[f"{start.removesuffix('output.')}embedding.weight"]):
            raise ConfigError(
                f"from_torch: the model is tied, but {start}weight differs from the embedding; make it with tied=False"
            )
        return {self.ours: arrays[f"{start}bias"]}


def _pieces(module: Module, ours: str = "", theirs: str = "") -> Iterator[_Piece]:
    """Yield the parts of a module, in its order."""
    if type(module) in _COUNTERPARTS:
        if isinstance(module, GRUCell) and module.reset == "before":
            raise ConfigError('to_torch: PyTorch has no GRU with reset="before"; its nn.GRU is reset="after"')
        yield _Piece(module, ours, (theirs, ""))
    elif type(module) is RNNLM:
        yield from _pieces(module.embedding, f"{ours}embedding.", f"{theirs}embedding.")
        yield from _stacked([[cell] for cell in module.layers], f"{ours}layers.{{}}.", f"{theirs}layers.")
        if isinstance(module.output, Linear):
            yield from _pieces(module.output, f"{ours}output.", f"{theirs}output.")
        else:
            yield _Tied(module, f"{ours}output", (f"{theirs}output.", ""))
    elif type(module) is RecurrentLayers:
        yield from _stacked(module.layers, f"{ours}layers.{{}}.{{}}.", theirs)
    else:
        yield from _contents(module, ours, theirs)


def _stacked(layers: Sequence[Sequence[object]], ours: str, theirs: str) -> Iterator[_Piece]:
    kinds = {type(cell) for cells in layers for cell in cells}
    for number, cells in enumerate(layers):
        for direction, cell in enumerate(cells):
            if not isinstance(cell, RNNCell | LSTMCell | GRUCell) or len(kinds) > 1:
                names = ", ".join(sorted(kind.__name__ for kind in kinds))
                raise ConfigError(f"to_torch: PyTorch has no layers of {names}; it has RNN, LSTM and GRU")
            (piece,) = _pieces(cell, ours.format(number, direction))
            yield _Piece(piece.module, piece.ours, (theirs, f"_l{number}{'_reverse' * direction}"))


def _contents(value: object, ours: str, theirs: str) -> Iterator[_Piece]:
    """Yield the parts of a module, list, tuple or dict that has none of its own in PyTorch."""
    if isinstance(value, Module | Mapping):
        parts = list((value if isinstance(value, Mapping) else vars(value)).items())
    else:
        parts = list(enumerate(cast(Sequence[object], value)))
    for key, part in parts:
        if isinstance(part, Module):
            yield from _pieces(part, f"{ours}{key}.", f"{theirs}{key}.")
        elif isinstance(part, list | tuple | Mapping):
            yield from _contents(part, f"{ours}{key}.", f"{theirs}{key}.")
        elif isinstance(part, Tensor):
            raise ConfigError(
                f"to_torch: {ours}{key} belongs to a {type(value).__name__}, which PyTorch does not have; "
                "`state_dict()` has the arrays as they are"
            )


_Rearranged = Callable[[Mapping[str, Array]], dict[str, Array]]


def _renamed(**names: str) -> tuple[_Rearranged, _Rearranged]:
    """Return both ways of a layer whose names alone differ; those of transposed matrices end with T."""

    def there(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {
            new.removesuffix("T"): arrays[old].T if new.endswith("T") else arrays[old]
            for old, new in names.items()
            if old in arrays
        }

    def back(arrays: Mapping[str, Array]) -> dict[str, Array]:
        plain = {old: new.removesuffix("T") for old, new in names.items()}
        return {
            old: arrays[new].T if names[old].endswith("T") else arrays[new]
            for old, new in plain.items()
            if new in arrays
        }

    return there, back


def _rnn_there(arrays: Mapping[str, Array]) -> dict[str, Array]:
    found = {"weight_ih": arrays["Wx"].T, "weight_hh": arrays["Wh"].T}
    if "b" in arrays:
        found |= {"bias_ih": arrays["b"], "bias_hh": np.zeros_like(arrays["b"])}
    return found


def _rnn_back(arrays: Mapping[str, Array]) -> dict[str, Array]:
    found = {"Wx": arrays["weight_ih"].T, "Wh": arrays["weight_hh"].T}
    return found | ({"b": arrays["bias_ih"] + arrays["bias_hh"]} if "bias_ih" in arrays else {})


def _swapped(array: Array) -> Array:
    """Return the columns of an LSTM's four gates with the last two in the other order: i, f, o, g or i, f, g, o."""
    i, f, third, last = np.split(array, 4, axis=-1)
    return np.concatenate([i, f, last, third], axis=-1)


def _lstm_there(arrays: Mapping[str, Array]) -> dict[str, Array]:
    found = _rnn_there({name: array if name == "Wp" else _swapped(array) for name, array in arrays.items()})
    return found | ({"weight_hr": arrays["Wp"].T} if "Wp" in arrays else {})


def _lstm_back(arrays: Mapping[str, Array]) -> dict[str, Array]:
    found = {name: _swapped(array) for name, array in _rnn_back(arrays).items()}
    return found | ({"Wp": arrays["weight_hr"].T} if "weight_hr" in arrays else {})


def _gru_there(arrays: Mapping[str, Array]) -> dict[str, Array]:
    found = _rnn_there(arrays)
    if "bh" in arrays:
        found["bias_hh"][-len(arrays["bh"]) :] = arrays["bh"]
    return found


def _gru_back(arrays: Mapping[str, Array]) -> dict[str, Array]:
    found = _rnn_back(arrays)
    if "bias_ih" in arrays:
        H = len(arrays["bias_ih"]) // 3
        found["b"][2 * H :] = arrays["bias_ih"][2 * H :]
        found["bh"] = arrays["bias_hh"][2 * H :]
    return found


_COUNTERPARTS: dict[type[Module], tuple[_Rearranged, _Rearranged]] = {
    Linear: _renamed(W="weightT", b="bias"),
    Embedding: _renamed(W="weight"),
    LayerNorm: _renamed(g="weight", b="bias"),
    RNNCell: (_rnn_there, _rnn_back),
    LSTMCell: (_lstm_there, _lstm_back),
    GRUCell: (_gru_there, _gru_back),
}
"""What PyTorch has too: arrays to PyTorch's, and back."""
