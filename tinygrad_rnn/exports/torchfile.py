"""A model as a file of PyTorch code, with its weights beside it; PyTorch is not imported here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .. import __version__
from ..compiler.ir.graph import Value
from ..engine.tape import Array
from ..errors import ConfigError
from ..files import write_atomically
from ..nn.cells import GRUCell, LSTMCell, RNNCell
from ..nn.layers import Linear
from ..nn.models import RNNLM
from ..training.files.safetensors import packed
from .program import Program, program_of
from .source import Source
from .torch import to_torch
from .torchcode import INDENT, Writer
from .torchnames import Names, dtype_of

_KINDS = {RNNCell: "RNN", LSTMCell: "LSTM", GRUCell: "GRU"}

_FILE = '''"""{title}

Written by tinygrad_rnn {version}. {usage}

The weights lie beside this file, in the file that WEIGHTS names. Needs torch and safetensors.
"""

import hashlib
{json}from pathlib import Path

import torch
{safe_open}from safetensors.torch import load_file
from torch import nn

WEIGHTS = Path(__file__).with_name({weights!r})
SHA256 = "{sha256}"


{model}

def load():
    """Return the model with its weights, for evaluation; a file of weights that has changed is refused."""
    if hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"{{WEIGHTS}} is damaged, or not what belongs to {{__file__}}: export both again")
    model = Model()
    weights = load_file(WEIGHTS)
{extra}    model.load_state_dict(weights)
    return model.eval()
'''

_TOKENS = '''

def vocabulary():
    """Return the token of each id."""
    with safe_open(WEIGHTS, framework="pt") as file:
        return json.loads(file.metadata()["tinygrad_rnn"])["vocabulary"]
'''

_LANGUAGE_USAGE = """
    model = load()                       # for evaluation; model.train() turns dropout on
    logits, state = model(ids)           # ids (N, T), logits (N, T, V) of the token after each position
    logits, state = model(ids, state)    # goes on where that ended"""

_LANGUAGE_MODEL = '''class Model(nn.Module):
    """P(the next token) = softmax(logits)."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding({V}, {D}{dtype})
        self.layers = nn.{kind}({D}, {H}{options}, batch_first=True{dtype})
        self.dropout = nn.Dropout({dropout})
        self.output = nn.Linear({width}, {V}{bias}{dtype})
{tie}
    def forward(self, ids, state=None):
        """Return the logits (N, T, V) of the token after each of the ids (N, T), and the state after the last one."""
        hs, state = self.layers(self.dropout(self.embedding(ids)), state)
        return self.output(self.dropout(hs)), state
'''

# Names that the code itself or a module of PyTorch has.
_RESERVED = """
    self state forward initial_state load Model add_module apply bfloat16 buffers call_super_init children compile
    cpu cuda double dump_patches eval extra_repr get_buffer get_extra_state get_parameter get_submodule half ipu
    load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters
    register_buffer register_backward_hook register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty
    train training type xpu zero_grad
"""


def write_torch(source: Source, path: Path) -> list[Path]:
    """Write a language model of layers that PyTorch has, or any other function as the calls that were recorded.

    Args:
        source: what is exported.
        path: the file of code, a .py; the weights go to NAME_weights.safetensors beside it.

    Raises:
        ConfigError: if the name does not end with .py.
        UnsupportedError: if there is nothing in PyTorch for an operation.
    """
    if path.suffix != ".py":
        raise ConfigError(f"export: PyTorch's code is a .py file, got {path.name!r}")
    weights = path.with_name(f"{path.stem}_weights.safetensors")
    code, arrays = _language_model(source) or _recorded(program_of(source, passes=("simplify",)), source)
    content = packed({} if source.saved is None else {"vocabulary": source.saved.vocabulary.to_list()}, arrays)
    has_tokens = source.saved is not None
    text = _FILE.format(
        version=__version__,
        weights=weights.name,
        sha256=hashlib.sha256(content).hexdigest(),
        json="import json\n" * has_tokens,
        safe_open="from safetensors import safe_open\n" * has_tokens,
        **code,
    )
    write_atomically(weights, content)
    write_atomically(path, text + _TOKENS * has_tokens)
    return [path, weights]


def _language_model(source: Source) -> tuple[dict[str, str], dict[str, Array]] | None:
    """Return the parts of the file and the weights of a language model; None if it is not made of PyTorch's layers."""
    model = source.module
    if type(model) is not RNNLM or type(model.layers[0]) not in _KINDS:
        return None
    try:
        arrays = to_torch(model)
    except ConfigError:  # cells of several kinds, or a GRU of the paper
        return None
    cell, count = model.layers[0], len(model.layers)
    assert isinstance(cell, RNNCell | LSTMCell | GRUCell)
    kind, V, D = _KINDS[type(cell)], model.vocab_size, cell.input_size
    H, width, tied = cell.hidden_size, cell.output_size, not isinstance(model.output, Linear)
    projected = isinstance(cell, LSTMCell) and cell.Wp is not None
    if projected and width >= H:  # which PyTorch refuses
        return None
    options: dict[str, object] = {
        "num_layers": count,
        "dropout": model.dropout.p if count > 1 else 0.0,
        "bias": cell.b is not None,
        "proj_size": width if projected else 0,
        "nonlinearity": getattr(cell, "nonlinearity", "tanh"),
    }
    usual: dict[str, object] = {"num_layers": 1, "dropout": 0.0, "bias": True, "proj_size": 0, "nonlinearity": "tanh"}
    given = "".join(f", {name}={value!r}" for name, value in options.items() if value != usual[name])
    dtype = "" if model.embedding.W.dtype == np.float32 else f", dtype={dtype_of(model.embedding.W.dtype)}"
    code = _LANGUAGE_MODEL.format(
        V=V,
        D=D,
        H=H,
        width=width,
        kind=kind,
        options=given,
        dtype=dtype,
        dropout=model.dropout.p,
        bias=", bias=False" if isinstance(model.output, Linear) and model.output.b is None else "",
        tie=f"{INDENT * 2}self.output.weight = self.embedding.weight\n" if tied else "",
    )
    if tied:
        del arrays["output.weight"]
    layers = f"{count} layer{'s' * (count > 1)} of {H} units"
    return {
        "title": f"{kind} language model: {V:,} tokens, embedding of {D}, {layers}{', tied weights' * tied}.",
        "usage": f"Use it as\n{_LANGUAGE_USAGE}",
        "model": code,
        "extra": f'{INDENT}weights["output.weight"] = weights["embedding.weight"]\n' if tied else "",
    }, arrays


def _recorded(program: Program, source: Source) -> tuple[dict[str, str], dict[str, Array]]:
    """Return the parts of the file and the weights of any function: its calls, line by line."""
    names = Names(_RESERVED.split())
    arrays: dict[str, Array] = {}
    known: dict[Value, str] = {}
    for weight in program.weights:
        name = names.new(weight.name)
        arrays[name], known[weight.value] = weight.array, f"self.{name}"
    trained = [name for name, array in arrays.items() if array.dtype.kind in "fc"]
    starts = []
    for one in program.carried:
        starts.append(names.new(f"initial.{program.inputs[one.input].name}"))
        arrays[starts[-1]] = one.initial
    inputs = [names.new(port.name) for port in program.inputs]
    known |= {port.value: name for port, name in zip(program.inputs, inputs, strict=True)}
    writer = Writer(names, known)
    lines = list(writer.lines(program.graph))
    results = [writer.text(program.outputs[number].value) for number in program.results]
    after = [writer.text(program.outputs[one.output].value) for one in program.carried]
    arrays |= writer.constants
    given = [inputs[number] for number in program.given]
    states = [inputs[one.input] for one in program.carried]
    model = ["class Model(nn.Module):", f'{INDENT}"""{_shapes(program, inputs)}"""', ""]
    model += [*_initial(arrays, trained), *(_start(starts) if states else []), *_heading(given, states)]
    model += [f"{INDENT * 2}{line}" for line in lines]
    model += [f"{INDENT * 2}return {', '.join([*results, *([_tuple(after)] if states else [])])}", ""]
    title = (
        "A recorded function" if source.module is None else f"A recorded {Names().new(type(source.module).__name__)}"
    )
    code = {"title": f"{title}, call by call.", "usage": _usage(given, bool(states)), "extra": ""}
    return {**code, "model": "\n".join(model)}, arrays


def _shapes(program: Program, inputs: Sequence[str]) -> str:
    """Return what goes in and out, in words."""
    ports = [f"{inputs[n]} {program.inputs[n].shape} {program.inputs[n].dtype}" for n in program.given]
    made = [f"{program.outputs[n].shape} {program.outputs[n].dtype}" for n in program.results]
    state = ", and the state after it" * bool(program.carried)
    return f"From {', '.join(ports) or 'nothing'} to {', '.join(made) or 'nothing'}{state}."


def _tuple(names: Sequence[str]) -> str:
    return f"({names[0]},)" if len(names) == 1 else f"({', '.join(names)})"


def _initial(arrays: Mapping[str, Array], trained: Sequence[str]) -> list[str]:
    """Return the lines of `__init__`: parameters, and buffers for what is not trained."""
    lines = [f"{INDENT}def __init__(self):", f"{INDENT * 2}super().__init__()"]
    for name, array in arrays.items():
        zeros = f"torch.zeros({tuple(array.shape)}, dtype={dtype_of(array.dtype)})"
        made = f"self.{name} = nn.Parameter({zeros})" if name in trained else f'self.register_buffer("{name}", {zeros})'
        lines.append(f"{INDENT * 2}{made}")
    return [*lines, ""]


def _start(names: Sequence[str]) -> list[str]:
    """Return the lines of `initial_state`."""
    return [
        f"{INDENT}def initial_state(self):",
        f'{INDENT * 2}"""Return the state before the first call: a tuple."""',
        f"{INDENT * 2}return {_tuple([f'self.{name}' for name in names])}",
        "",
    ]


def _heading(given: Sequence[str], states: Sequence[str]) -> list[str]:
    """Return the first lines of `forward`."""
    lines = [f"{INDENT}def forward({', '.join(['self', *given, *(['state=None'] if states else [])])}):"]
    if states:
        lines.append(f"{INDENT * 2}{_tuple(states)} = self.initial_state() if state is None else state")
    return lines


def _usage(given: Sequence[str], has_state: bool) -> str:
    lines = ["Use it as", "", "    model = load()"]
    if has_state:
        lines.append(f"    y, state = model({', '.join(given)})")
        lines.append(f"    y, state = model({', '.join([*given, 'state'])})    # goes on where that ended")
    else:
        lines.append(f"    y = model({', '.join(given)})")
    return "\n".join(lines)
