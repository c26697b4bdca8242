"""ONNX files as data: their nodes, and the constants that these read. Nothing in a file is run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, cast

import numpy as np

from ...engine.tape import Array
from ...errors import ModelFileError
from ...files import read_whole
from .file import library

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_LARGEST = 2**31  # bytes of one message of protobuf
_DEEPEST = 20  # graphs inside of nodes
_MOVES = frozenset(["Identity", "Transpose", "Unsqueeze", "Squeeze", "Reshape", "Concat", "Slice", "Split", "Cast"])


@dataclass
class Graph:
    """A graph of a file, and what it may read: constants by name, and the nodes that make values."""

    nodes: Sequence[NodeProto]
    tensors: Mapping[str, TensorProto]
    makers: Mapping[str, NodeProto]


@dataclass
class File:
    """A file that was read.

    Attributes:
        path: of the file.
        opset: version of its operators.
        graphs: its graph, and those inside of its nodes.
    """

    path: Path
    opset: int
    graphs: list[Graph] = field(default_factory=list)

    def damaged(self, why: str) -> ModelFileError:
        """Return an error that names the file."""
        return ModelFileError(f"{self.path}: {why}")

    def array(self, graph: Graph, name: str, depth: int = 0) -> Array | None:
        """Return a constant; None if a value is none, or is computed by more than moving elements.

        Raises:
            ModelFileError: if it is damaged, or lies in a file outside of the folder.
        """
        if name in graph.tensors:
            return self._tensor(graph.tensors[name])
        node = graph.makers.get(name)
        if node is None or depth > _DEEPEST:
            return None
        if node.op_type == "Constant":
            return self._constant(node)
        if node.op_type not in _MOVES:
            return None
        parts = {part: self.array(graph, part, depth + 1) for part in node.input if part}
        if any(part is None for part in parts.values()):
            return None
        from onnx.reference import ReferenceEvaluator

        try:
            made = ReferenceEvaluator(node, opsets={"": self.opset}).run(None, parts)
        except Exception as error:  # whatever a wrong shape makes it raise
            raise self.damaged(f"{node.op_type} {node.name!r} cannot be computed: {error}") from error
        return np.asarray(made[[*node.output].index(name)])

    def _constant(self, node: NodeProto) -> Array | None:
        for attribute in node.attribute:
            if attribute.name == "value":
                return self._tensor(attribute.t)
            if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
                return np.asarray(library().helper.get_attribute_value(attribute))
        return None

    def _tensor(self, tensor: TensorProto) -> Array:
        onnx = library()
        try:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
                return np.frombuffer(self._beside(tensor, dtype), dtype.newbyteorder("<")).reshape(tensor.dims)
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            raise self.damaged(f"the tensor {tensor.name!r} is damaged: {error}") from error

    def _beside(self, tensor: TensorProto, dtype: np.dtype[np.generic]) -> bytes:
        """Return the bytes of a tensor in another file, which must lie in the folder of this one."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        ways = PurePosixPath(location), PureWindowsPath(location)
        folder = self.path.resolve().parent
        beside = (folder / location).resolve()
        if not location or any(way.anchor or ".." in way.parts for way in ways) or folder not in beside.parents:
            raise self.damaged(
                f"the tensor {tensor.name!r} lies in {location!r}, outside of the folder; it is not read"
            )
        start, size = int(entries.get("offset", 0)), math.prod(tensor.dims) * dtype.itemsize
        if start < 0 or size < 0 or int(entries.get("length", size)) != size:
            raise self.damaged(f"the tensor {tensor.name!r} has {entries} of {size} bytes")
        try:
            if not beside.is_file():
                raise FileNotFoundError(2, os.strerror(2))
            with beside.open("rb") as file:
                file.seek(start)
                data: bytes = file.read(size)
        except OSError as error:
            raise self.damaged(f"the tensor {tensor.name!r} lies in {location!r}: {error.strerror}") from error
        if len(data) != size:
            raise self.damaged(f"the tensor {tensor.name!r} needs {size} bytes of {location!r}, there are {len(data)}")
        return data


def parse(path: str | os.PathLike[str]) -> File:
    """Read an ONNX file.

    Raises:
        ConfigError: if the onnx library is missing.
        ModelFileError: if there is no such file, or it is no ONNX.
    """
    onnx = library()
    try:
        content = read_whole(path, _LARGEST)
    except OSError as error:
        raise ModelFileError(f"{os.fspath(path)}: {error.strerror}") from error
    try:
        model: ModelProto = onnx.ModelProto.FromString(content)
    except Exception as error:  # whatever protobuf raises
        raise ModelFileError(f"{os.fspath(path)}: is no ONNX file, or a damaged one ({error})") from error
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if not model.graph.node or opset < 1:
        raise ModelFileError(f"{os.fspath(path)}: is no ONNX file, or a damaged one: there is no graph in it")
    file = File(Path(path), opset)
    file.graphs.extend(_graphs(file, model.graph, {}, {}, 0))
    return file


def _graphs(
    file: File, proto: GraphProto, tensors: Mapping[str, TensorProto], makers: Mapping[str, NodeProto], depth: int
) -> Iterator[Graph]:
    """Yield a graph, and those inside of its nodes, which read its values too."""
    if depth > _DEEPEST:
        raise file.damaged(f"graphs are nested deeper than {_DEEPEST} levels")
    tensors = {**tensors, **{tensor.name: tensor for tensor in proto.initializer}}
    makers = {**makers, **{name: node for node in proto.node for name in node.output if name}}
    yield Graph(proto.node, tensors, makers)
    for node in proto.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(file, cast("GraphProto", inner), tensors, makers, depth + 1)
