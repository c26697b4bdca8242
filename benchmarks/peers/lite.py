"""One step of an LSTM in TensorFlow Lite and in its version for microcontrollers, whose file is written here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_rnn as tr


def lite_model(cell: tr.LSTMCell, N: int) -> bytes:
    """Return one step of the cell as a model of TensorFlow Lite: (x, h, c) -> (h', c')."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    H = cell.Wh.shape[0]
    W = np.concatenate([cell.Wx.data, cell.Wh.data]).T  # rows: the gates i, f, o, g
    constants = {"W": W, "b": cell.b.data, "axis": np.array(1, np.int32)}
    shapes = dict.fromkeys(["x", "h", "c", "i", "f", "o", "g", "kept", "added", "tanh_c", "h_next", "c_next"], (N, H))
    shapes |= {"xh": (N, 2 * H), "gates": (N, 4 * H), "i_": (N, H), "f_": (N, H), "o_": (N, H), "g_": (N, H)}
    shapes |= {name: array.shape for name, array in constants.items()}
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [schema.BufferT()], []
    numbers, codes = {name: number for number, name in enumerate(shapes)}, {}
    graph.tensors, graph.operators = [], []
    for name, shape in shapes.items():
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), 0
        tensor.type = schema.TensorType.INT32 if name == "axis" else schema.TensorType.FLOAT32
        if name in constants:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(constants[name]).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)

    def add(kind: str, inputs: str, outputs: str, **settings: int) -> None:
        if kind not in codes:
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
            code.version, codes[kind] = 1, len(codes)
            model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = codes[kind]
        operator.inputs, operator.outputs = ([numbers[name] for name in names.split()] for names in (inputs, outputs))
        title = "".join(part.capitalize() for part in kind.split("_"))
        if hasattr(schema, f"{title}OptionsT"):
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{title}Options")
            operator.builtinOptions = getattr(schema, f"{title}OptionsT")()
            for key, value in settings.items():
                setattr(operator.builtinOptions, key, value)
        graph.operators.append(operator)

    add("CONCATENATION", "x h", "xh", axis=1)
    add("FULLY_CONNECTED", "xh W b", "gates")
    add("SPLIT", "axis gates", "i_ f_ o_ g_", numSplits=4)
    for name in "ifo":
        add("LOGISTIC", f"{name}_", name)
    add("TANH", "g_", "g")
    add("MUL", "f c", "kept")
    add("MUL", "i g", "added")
    add("ADD", "kept added", "c_next")
    add("TANH", "c_next", "tanh_c")
    add("MUL", "o tanh_c", "h_next")
    graph.inputs = [numbers[name] for name in ("x", "h", "c")]
    graph.outputs = [numbers[name] for name in ("h_next", "c_next")]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def in_lite(cell: tr.LSTMCell, N: int) -> Callable[[], object]:
    """Return a call of the interpreter with XNNPACK, on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=lite_model(cell, N), num_threads=1)
    interpreter.allocate_tensors()
    places = [one["index"] for one in interpreter.get_input_details()]
    results = [one["index"] for one in interpreter.get_output_details()]
    given = _given(cell, N)

    def call() -> list[Any]:
        for place, array in zip(places, given, strict=True):
            interpreter.set_tensor(place, array)
        interpreter.invoke()
        return [interpreter.get_tensor(place) for place in results]

    return _compared(cell, given, call)


def in_micro(cell: tr.LSTMCell, N: int) -> Callable[[], object]:
    """Return a call of the interpreter for microcontrollers, with its kernels for any machine."""
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(lite_model(cell, N))
    given = _given(cell, N)

    def call() -> list[Any]:
        for number, array in enumerate(given):
            interpreter.set_input(array, number)
        interpreter.invoke()
        return [interpreter.get_output(number) for number in range(2)]

    return _compared(cell, given, call)


def _given(cell: tr.LSTMCell, N: int) -> list[Any]:
    return list(np.random.default_rng(0).standard_normal((3, N, cell.Wh.shape[0])).astype(np.float32))


def _compared(cell: tr.LSTMCell, given: list[Any], call: Callable[[], list[Any]]) -> Callable[[], object]:
    """Return a call whose results are those of the cell."""
    _, state = cell(given[0], (given[1], given[2]))
    for got, want in zip(call(), state, strict=True):
        np.testing.assert_allclose(got, want.data, rtol=1e-4, atol=1e-5)
    return call
