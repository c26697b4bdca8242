"""From a block to a file: the only module that the onnx library is used in to write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, cast

import numpy as np

from ...engine.tape import Array
from ...errors import ConfigError, UnsupportedError
from .blocks import Attribute, Block, Info, Node
from .scope import code

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

OPSET = 17
"""Version of the standard's operators; each newer one has them too."""

IR_VERSION = 8
"""Version of the file format, that of the release that brought the opset."""

_LARGEST = 2**31 - 2**20  # of one message of protobuf, less what is not weights
_LITTLE = 1024  # bytes of a constant that stays in the file where others lie beside it


def library() -> ModuleType:
    """Return the onnx library.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.shape_inference
    except ImportError as error:
        raise ConfigError(f"onnx: the library is missing ({error}); pip install tinygrad_rnn[onnx]") from error
    return cast(ModuleType, onnx)


def model_of(block: Block, title: str, notes: Mapping[str, str], beside: str | None) -> tuple[ModelProto, bytes]:
    """Return the message of a file, checked, and the content of the file beside it (empty: there is none).

    Args:
        block: its graph.
        title: doc string.
        notes: metadata.
        beside: name of the file beside it, which holds all constants but the little ones; None: there is none, unless
            the constants are too many for one file.
    """
    onnx = library()
    model: ModelProto = onnx.helper.make_model(
        _graph(block),
        producer_name="tinygrad_rnn",
        doc_string=title,
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_operatorsetid("", OPSET)],
    )
    onnx.helper.set_model_props(model, dict(notes))
    content = sum(array.nbytes for array in block.constants.values())
    if content < _LARGEST:
        model.graph.initializer.extend(_tensor(name, array) for name, array in block.constants.items())
        _check(model)
        if beside is None:
            return model, b""
        del model.graph.initializer[:]
    elif beside is None:
        raise ConfigError(
            f'export: {content:,} bytes of weights do not fit into one file of ONNX; pass weights="blob", which '
            "writes them into a file beside it"
        )
    return model, _put_beside(model, block.constants, beside)


def _check(model: ModelProto) -> None:
    """Raise `UnsupportedError` if the standard has an operation, but not for these dtypes."""
    onnx = library()
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedError(f"export: what was recorded is not valid in ONNX: {error}") from error


def _put_beside(model: ModelProto, constants: Mapping[str, Array], beside: str) -> bytes:
    """Append constants whose bytes lie in another file; return those bytes."""
    onnx = library()
    data = bytearray()
    for name, array in constants.items():
        if array.nbytes < _LITTLE:
            model.graph.initializer.append(_tensor(name, array))
            continue
        data += bytes(-len(data) % 64)  # readers may map the file into memory
        tensor = onnx.TensorProto(name=name, data_type=code(array.dtype), dims=array.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", beside), ("offset", len(data)), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(tensor)
        data += _little(array).tobytes()
    return bytes(data)


def _little(array: Array) -> Array:
    """Return an array in the byte order of the format."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _tensor(name: str, array: Array) -> TensorProto:
    onnx = library()
    tensor: TensorProto = onnx.TensorProto(name=name, data_type=code(array.dtype), dims=array.shape)
    tensor.raw_data = _little(array).tobytes()
    return tensor


def _graph(block: Block) -> GraphProto:
    graph: GraphProto = library().helper.make_graph(
        [_node(node) for node in block.nodes],
        block.name,
        [*map(_info, block.inputs)],
        [*map(_info, block.outputs)],
    )
    return graph


def _node(node: Node) -> NodeProto:
    made: NodeProto = library().helper.make_node(
        node.kind, node.inputs, node.outputs, name=node.name, doc_string=node.note or None
    )
    made.attribute.extend(_attributes(node.attributes))
    return made


def _attributes(attributes: Mapping[str, Attribute]) -> Iterable[AttributeProto]:
    for name, value in attributes.items():
        yield library().helper.make_attribute(name, _graph(value) if isinstance(value, Block) else value)


def _info(info: Info) -> ValueInfoProto:
    shape = [length if isinstance(length, int) else str(length) for length in info.shape]
    made: ValueInfoProto = library().helper.make_tensor_value_info(info.name, code(info.dtype), shape)
    return made
