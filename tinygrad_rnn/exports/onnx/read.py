"""Recurrent layers from the RNN, LSTM and GRU nodes of an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from ...checks import texts
from ...engine.tape import Array
from ...errors import ConfigError
from ...nn.recurrent import RecurrentLayers
from .file import library
from .gates import ORDER, cell_weights
from .parse import File, Graph, parse

if TYPE_CHECKING:
    from onnx import NodeProto

_Options: TypeAlias = dict[str, str]

_STANDARD = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}


@dataclass(frozen=True)
class _Layer:
    """What a node computes.

    Attributes:
        name: of the node, for messages.
        kind: "RNN", "LSTM" or "GRU".
        xs: name of what it reads.
        directions: "forward", "reverse" or both, in the order of its weights.
        options: of the cell here: `nonlinearity`, `reset`.
        weights: of each direction, by name.
    """

    name: str
    kind: str
    xs: str
    directions: tuple[str, ...]
    options: _Options
    weights: tuple[dict[str, Array], ...]

    @property
    def sizes(self) -> tuple[int, int]:
        """D and H."""
        return self.weights[0]["Wx"].shape[0], self.weights[0]["Wh"].shape[0]

    def __str__(self) -> str:
        D, H = self.sizes
        options = "".join(f", {option}" for option in self.options.values())
        return f"{self.name} ({self.kind}, {' and '.join(self.directions)}, D={D}, H={H}{options})"


def from_onnx(path: str | os.PathLike[str], nodes: Sequence[str] | None = None) -> RecurrentLayers:
    """Return recurrent layers with the weights of the RNN, LSTM and GRU nodes of an ONNX file.

    It does not matter what wrote the file (PyTorch, `export`, a converter): each node is a layer, in the order of
    the file; one that reads forward and one that reads the same backward are one layer. What else is in the file is not
    read, and nothing in it is run.

    Args:
        path: the file; weights in files beside it are read too, from its folder alone.
        nodes: names of the nodes that are the layers, in order, or one alone; None: all there are.

    Returns:
        Layers of `RNNCell`, `LSTMCell` or `GRUCell`, in the dtype of the file: (N, T, D) to (N, T, H).

    Raises:
        ModelFileError: if the file is missing, damaged, or no ONNX.
        ConfigError: if the onnx library is missing; there is no such node; the nodes are no stack of equal layers (the
            message lists them); or a node computes what no cell here does: other activations, peepholes, clipping,
            a start from a state in the file.

    >>> import tempfile, os
    >>> import numpy as np, tinygrad_rnn as tr
    >>> layers = tr.RecurrentLayers("gru", 3, 4, np.random.default_rng(0), layers=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = tr.export(layers, os.path.join(folder, "a.onnx"), np.ones((2, 5, 3), np.float32))
    ...     again = tr.from_onnx(os.path.join(folder, "a.onnx"))
    >>> bool(np.array_equal(again.layers[1][0].Wh.data, layers.layers[1][0].Wh.data))
    True
    """
    file = parse(path)
    found = [
        (node.name or f"node {number}", graph, node)
        for graph in file.graphs
        for number, node in enumerate(graph.nodes)
        if node.op_type in ORDER and node.domain in ("", "ai.onnx")
    ]
    names = [name for name, _, _ in found]
    nodes = None if nodes is None else texts("from_onnx", "nodes", nodes)
    if not found or (missing := [name for name in nodes or () if name not in names]):
        wanted = f"no node {missing[0]!r}" if found else "no RNN, LSTM or GRU node"
        raise ConfigError(f"from_onnx: {file.path} has {wanted}" + (f"; it has {', '.join(names)}" if found else ""))
    if nodes is not None:
        found = [found[names.index(name)] for name in nodes]
    return _stack(file, _paired([_layer(file, *one) for one in found]))


# -- a node -----------------------------------------------------------------------------------------------------------


def _layer(file: File, name: str, graph: Graph, node: NodeProto) -> _Layer:
    """Return what a node computes."""
    kind = node.op_type
    attributes = {one.name: library().helper.get_attribute_value(one) for one in node.attribute}
    direction = _text(attributes.get("direction", "forward"))
    directions = ("forward", "reverse") if direction == "bidirectional" else (direction,)
    if not {*directions} <= {"forward", "reverse"}:
        raise file.damaged(f"{name} has direction {direction!r}")
    for refused in ("clip", "input_forget"):
        if attributes.get(refused):
            raise ConfigError(f"from_onnx: {name} has {refused}={attributes[refused]}, which no cell here has")
    options = _options(name, kind, attributes, len(directions))
    inputs = [*node.input, *[""] * 8]
    _check_start(file, graph, name, inputs)
    W, R = (_needed(file, graph, name, part, inputs[place]) for place, part in ((1, "W"), (2, "R")))
    B = _needed(file, graph, name, "B", inputs[3]) if inputs[3] else None
    _check_shapes(file, name, kind, len(directions), W, R, B)
    after = options.get("reset") == "after"
    weights = [cell_weights(kind, W[k], R[k], None if B is None else B[k], after) for k in range(len(directions))]
    return _Layer(name, kind, inputs[0], directions, options, tuple(weights))


def _text(part: object) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)


def _options(name: str, kind: str, attributes: dict[str, object], directions: int) -> _Options:
    """Return the options of the cell, checked to be one that there is."""
    given = [_text(part).lower() for part in cast("list[bytes]", attributes.get("activations", []))]
    standard = _STANDARD.get(kind, given[:1] or ["tanh"])
    if given not in ([], standard * directions) or standard[0] not in ("tanh", "relu", "sigmoid"):
        raise ConfigError(
            f"from_onnx: {name} has the activations {', '.join(given)}; {kind} here has "
            f"{', '.join(_STANDARD.get(kind, ['tanh or relu']))} in each direction"
        )
    if kind == "RNN":
        if standard == ["sigmoid"]:
            raise ConfigError(f"from_onnx: {name} has the activation sigmoid; RNN here has tanh or relu")
        return {"nonlinearity": standard[0]}
    return {"reset": "after" if attributes.get("linear_before_reset") else "before"} if kind == "GRU" else {}


def _check_start(file: File, graph: Graph, name: str, inputs: Sequence[str]) -> None:
    """Refuse a state in the file that a node starts from, and peepholes, unless they are zeros."""
    for place, what in ((5, "a start from a state"), (6, "a start from a state"), (7, "peepholes")):
        array = file.array(graph, inputs[place]) if inputs[place] else None
        if array is not None and array.any():
            raise ConfigError(
                f"from_onnx: {name} has {what}, which layers here have not; use the file's weights by hand"
            )


def _needed(file: File, graph: Graph, name: str, part: str, tensor: str) -> Array:
    array = file.array(graph, tensor)
    if array is None:
        raise ConfigError(
            f"from_onnx: {part} of {name} is no constant of the file, but computed from an input; export with the "
            "weights in the file, and with constants folded"
        )
    if array.dtype.kind != "f":
        raise file.damaged(f"{part} of {name} has dtype {array.dtype}")
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array


def _check_shapes(file: File, name: str, kind: str, directions: int, W: Array, R: Array, B: Array | None) -> None:
    gates = len(ORDER[kind])
    H = R.shape[-1] if R.ndim else 0
    wanted: dict[str, tuple[int, ...]] = {
        "W": (directions, gates * H, W.shape[-1] if W.ndim else 0),
        "R": (directions, gates * H, H),
    }
    given: dict[str, tuple[int, ...]] = {"W": W.shape, "R": R.shape}
    if B is not None:
        wanted["B"], given["B"] = (directions, 2 * gates * H), B.shape
    if given != wanted or 0 in W.shape:
        raise file.damaged(f"{name} has weights of shape {given}, expected {wanted}")


# -- the stack --------------------------------------------------------------------------------------------------------


def _paired(layers: Sequence[_Layer]) -> list[_Layer]:
    """Return the layers, those that read the same in two directions as one."""
    found: list[_Layer] = []
    for layer in layers:
        both = _both(found[-1], layer) if found else None
        if both is None:
            found.append(layer)
        else:
            found[-1] = both
    return found


def _both(one: _Layer, other: _Layer) -> _Layer | None:
    """Return a layer of two that read the same in two directions; None if these do not."""
    alike = (one.kind, one.options, one.xs) == (other.kind, other.options, other.xs)
    if not alike or {one.directions, other.directions} != {("forward",), ("reverse",)}:
        return None
    first, second = sorted((one, other), key=lambda layer: layer.directions)
    return replace(
        first,
        name=f"{first.name}, {second.name}",
        directions=("forward", "reverse"),
        weights=(first.weights[0], second.weights[0]),
    )


def _stack(file: File, layers: Sequence[_Layer]) -> RecurrentLayers:
    """Return layers as a module."""
    first = layers[0]
    D, H = first.sizes
    width = H * len(first.directions)
    fits = all(
        (layer.kind, layer.options, layer.directions) == (first.kind, first.options, first.directions)
        and layer.sizes == (width if number else D, H)
        and all(weights["Wh"].shape[0] == H for weights in layer.weights)
        for number, layer in enumerate(layers)
    )
    if not fits or first.directions == ("reverse",):
        raise ConfigError(
            f"from_onnx: the nodes of {file.path} are no stack of equal layers: {'; '.join(map(str, layers))}; choose "
            "some with nodes="
        )
    parts = [weights for layer in layers for weights in layer.weights]
    has_bias = any("b" in weights for weights in parts)
    make: Callable[..., RecurrentLayers] = partial(
        RecurrentLayers,
        first.kind.lower(),
        D,
        H,
        np.random.default_rng(0),
        layers=len(layers),
        bidirectional=len(first.directions) == 2,
        dtype=np.result_type(*(weights["Wx"] for weights in parts)),
        bias=has_bias,
    )
    module = make(**first.options)
    zeros = {name: np.zeros(array.shape) for name, array in module.state_dict().items()}
    held = {
        f"layers.{number}.{direction}.{name}": array
        for number, layer in enumerate(layers)
        for direction, weights in enumerate(layer.weights)
        for name, array in weights.items()
    }
    module.load({**zeros, **held})
    return module
