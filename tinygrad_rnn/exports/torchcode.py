"""The calls of a recorded function as lines of Python for PyTorch: what `forward` does."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..compiler.ir.graph import Body, Call, Graph, Value
from ..engine.tape import Array
from ..errors import UnsupportedError
from .around import bounds, places
from .checks import BACKWARD_ORDER, CHECK_OF_IDS, CHECK_OF_LENGTHS, full_name, setting
from .torchnames import Names, dtype_of

INDENT = "    "


class Writer:
    """Writes calls as lines; what they read and make has a name each.

    Args:
        names: makes the names of values.
        known: the names of the values that are there before.

    Attributes:
        constants: arrays that the lines read as `self.NAME`, by that name, beside those in `known`.
    """

    def __init__(self, names: Names, known: dict[Value, str]) -> None:
        self._names, self._known = names, dict(known)
        self.constants: dict[str, Array] = {}
        self._place: tuple[str, ...] = ()

    def lines(self, graph: Graph) -> Iterator[str]:
        """Yield the lines of a graph's calls; above those of another module a comment says which."""
        for call in graph.calls:
            if call.place[1] and call.place[1] != self._place:
                self._place = call.place[1]
                yield f"# {re.sub(r'[^ -~]', '?', '.'.join(self._place))}"
            if call.name == "loop":
                yield from self._loop(call)
            elif full_name(call.operator.compute) in _CHECKS:
                self._known[call.output] = self.text(call.inputs[0], call.output.dtype)
            else:
                yield self._call(call)

    def text(self, part: object, dtype: np.dtype[np.generic] | None = None) -> str:
        """Return an operand: a name, or a number; as an array of a dtype, if there is one."""
        if isinstance(part, Value):
            found = self._name(part)
            return found if dtype is None or part.dtype == dtype else f"{found}.to({dtype_of(dtype)})"
        number = part.item() if isinstance(part, np.generic) else part
        if isinstance(number, float) and not math.isfinite(number):
            return f'float("{number}")'
        if isinstance(number, bool | int | float):
            return repr(number)
        raise UnsupportedError(f"export: PyTorch's code has no operand {part!r}")

    def tensor(self, part: object, dtype: np.dtype[np.generic]) -> str:
        """Return an operand of a function that takes no Python numbers."""
        found = self.text(part, dtype)
        return found if isinstance(part, Value) else f"torch.tensor({found}, dtype={dtype_of(dtype)})"

    def index(self, part: object) -> str:
        """Return what stands between brackets."""
        parts = part if isinstance(part, tuple) else (part,)
        return ", ".join(map(self._index, parts)) or "()"

    def _index(self, part: object) -> str:
        if part is None or part is Ellipsis:
            return "None" if part is None else "..."
        if isinstance(part, np.ndarray):
            name = self._names.new("constant")
            self.constants[name] = part
            return f"self.{name}"
        if not isinstance(part, slice):
            return self.text(part)
        ends = ["" if end is None else str(int(end)) for end in (part.start, part.stop)]
        return ":".join([*ends, *([] if part.step is None else [str(int(part.step))])])

    def _name(self, value: Value) -> str:
        if value not in self._known:
            assert value.constant is not None, value
            name = self._names.new("constant")
            self.constants[name], self._known[value] = np.asarray(value.constant), f"self.{name}"
        return self._known[value]

    def _new(self, value: Value) -> str:
        self._known[value] = self._names.result()
        return self._known[value]

    def _call(self, call: Call) -> str:
        own = call.operator.key == call.name
        written = _KNOWN.get(call.name) if own else _FUNCTIONS.get(full_name(call.operator.compute))
        if written is None:
            raise UnsupportedError(
                f"export: PyTorch's code has nothing for {call.name!r}; write it with other functions"
            )
        text = written(self, call)
        results = ", ".join(self._new(value) for value in call.outputs)
        return f"{results}{',' * (call.operator.multiple and len(call.outputs) == 1)} = {text}"

    def _loop(self, call: Call) -> Iterator[str]:
        body: Body = call.attrs["body"]
        if not call.outputs:  # nothing of it is needed
            return
        n, m = body.carried, body.carried + body.sliced
        inner = body.graph.inputs
        for before, value in zip(call.inputs[:n], inner[:n], strict=True):
            yield f"{self._new(value)} = {self.text(before, value.dtype)}"
        stacks = [self._names.new("steps") for _ in call.outputs[n:]]
        yield from (f"{name} = []" for name in stacks)
        for outer, value in zip(call.inputs[m:], inner[m:], strict=True):
            self._known[value] = self.text(outer)
        sliced = [self.text(outer) for outer in call.inputs[n:m]]
        yield f"for t in {f'reversed(range({body.steps}))' if body.reverse else f'range({body.steps})'}:"
        for outer_name, value in zip(sliced, inner[n:m], strict=True):
            yield f"{INDENT}{self._new(value)} = {outer_name}[t]"
        yield from (INDENT + line for line in self.lines(body.graph))
        for name, value in zip(stacks, body.graph.outputs[n:], strict=True):
            yield f"{INDENT}{name}.append({self.text(value)})"
        if n:
            after = ", ".join(self.text(value) for value in body.graph.outputs[:n])
            yield f"{INDENT}{', '.join(self._known[value] for value in inner[:n])} = {after}"
        for carried, last in zip(inner[:n], call.outputs[:n], strict=True):
            self._known[last] = self._known[carried]
        for value, stack in zip(call.outputs[n:], stacks, strict=True):
            yield f"{self._new(value)} = torch.stack({stack}{'[::-1]' * body.reverse})"


_Expression = Callable[[Writer, Call], str]


def _infix(sign: str) -> _Expression:
    def written(to: Writer, call: Call) -> str:
        a, b = (to.text(part, call.output.dtype) for part in call.inputs)
        return f"{a} {sign} {b}"

    return written


def _power(to: Writer, call: Call) -> str:
    a, b = (to.text(part, call.output.dtype) for part in call.inputs)
    return f"({a}) ** {b}" if a.startswith("-") else f"{a} ** {b}"


def _compared(sign: str) -> _Expression:
    """Return the writer of a comparison, in the dtype in which NumPy compares: PyTorch rounds int32 to float32."""

    def written(to: Writer, call: Call) -> str:
        given = {part.dtype if isinstance(part, Value) else type(part) for part in call.inputs}
        dtypes = given - {bool, int}  # which take that of the array
        dtype = np.result_type(*(0.5 if one is float else one for one in dtypes)) if len(dtypes) > 1 else None
        return f" {sign} ".join(to.text(part, dtype) for part in call.inputs)

    return written


def _function(name: str) -> _Expression:
    """Return the writer of a function of arrays."""

    def written(to: Writer, call: Call) -> str:
        return f"{name}({', '.join(to.tensor(part, call.output.dtype) for part in call.inputs)})"

    return written


def _condition(to: Writer, part: object) -> str:
    """Return an operand that is taken for truth values; a number is an array too."""
    return to.text(part) if isinstance(part, Value) else f"torch.tensor({bool(part)})"


def _truth(name: str) -> _Expression:
    return lambda to, call: f"{name}({', '.join(_condition(to, part) for part in call.inputs)})"


def _where(to: Writer, call: Call) -> str:
    condition, *branches = call.inputs
    yes, no = (to.tensor(part, call.output.dtype) for part in branches)
    return f"torch.where({_condition(to, condition)}, {yes}, {no})"


def _sign(to: Writer, call: Call) -> str:  # PyTorch's own is 0 for NaN
    x = to.tensor(call.inputs[0], call.output.dtype)
    return f"torch.where({x} == {x}, torch.sign({x}), {x})" if call.output.dtype.kind == "f" else f"torch.sign({x})"


def _rounded(name: str) -> _Expression:
    """Return the writer of a function that leaves whole numbers as they are; PyTorch has it of no truth values."""
    function = _function(name)
    return lambda to, call: (
        function(to, call) if call.output.dtype.kind == "f" else to.tensor(call.inputs[0], call.output.dtype)
    )


def _softplus(to: Writer, call: Call) -> str:  # PyTorch's own is x above 20
    x = to.tensor(call.inputs[0], call.output.dtype)
    return f"torch.logaddexp({x}, torch.zeros_like({x}))"


def _cbrt(to: Writer, call: Call) -> str:
    x = to.tensor(call.inputs[0], call.output.dtype)
    return f"torch.sign({x}) * torch.abs({x}) ** (1 / 3)"


def _axes(call: Call) -> tuple[int, ...]:
    axis = call.attrs.get("axis")
    if axis is None:
        return tuple(range(call.inputs[0].ndim))
    return tuple(int(one) for one in axis) if isinstance(axis, tuple) else (int(axis),)


def _reduced(name: str) -> _Expression:
    def written(to: Writer, call: Call) -> str:
        x, keep = to.text(call.inputs[0], call.output.dtype), bool(call.attrs.get("keepdims"))
        return f"{name}({x}, dim={axes}, keepdim={keep})" if (axes := _axes(call)) else x  # dim=() is all of them

    return written


def _along(name: str) -> _Expression:
    """Return the writer of a function along one axis."""

    def written(to: Writer, call: Call) -> str:
        (axis,) = _axes(call)
        keep = f", keepdim={bool(call.attrs['keepdims'])}" if "keepdims" in call.attrs else ""
        real = call.outputs[0].dtype if call.outputs[0].dtype.kind == "f" else None
        return f"{name}({to.text(call.inputs[0], real)}, dim={axis}{keep})"

    return written


def _joined(name: str) -> _Expression:
    def written(to: Writer, call: Call) -> str:
        parts = ", ".join(to.text(part, call.output.dtype) for part in call.inputs)
        return f"{name}(({parts},), dim={int(call.attrs.get('axis', 0))})"

    return written


def _numbers(attribute: str) -> Callable[[Call], tuple[int, ...]]:
    return lambda call: tuple(int(one) for one in np.atleast_1d(call.attrs[attribute]))


def _shaped(name: str, attribute: str) -> _Expression:
    numbers = _numbers(attribute)
    return lambda to, call: f"{name}({to.text(call.inputs[0])}, {numbers(call)})"


def _order(call: Call) -> tuple[int, ...]:
    return tuple(map(int, call.attrs["axes"] or range(call.output.ndim)[::-1]))


def _split(to: Writer, call: Call) -> str:
    where = call.attrs["indices_or_sections"]
    sections = int(where) if np.ndim(where) == 0 else _numbers("indices_or_sections")(call)
    return f"torch.tensor_split({to.text(call.inputs[0])}, {sections}, dim={int(call.attrs['axis'])})"


def _getitem(to: Writer, call: Call) -> str:
    """Write an index; PyTorch has no slices that go backward, so an axis is flipped before one."""
    x, index = call.inputs[0], call.attrs["index"]
    parts = [*index] if isinstance(index, tuple) else [index]
    axis, flipped = 0, []
    for place, part in enumerate(parts):
        if part is ...:
            axis = x.ndim - _taken_axes(parts[place + 1 :])
        elif isinstance(part, slice) and (part.step or 1) < 0:
            taken = range(*part.indices(x.shape[axis]))
            first = x.shape[axis] - 1 - taken[0] if taken else 0
            parts[place] = slice(first, first - taken.step * len(taken), -taken.step)
            flipped.append(axis)
        axis += 0 if part is ... else _taken_axes([part])
    turned = f".flip({flipped})" if flipped else ""
    return f"{to.text(x)}{turned}[{to.index(tuple(parts))}]"


def _taken_axes(parts: Sequence[object]) -> int:
    """Return how many axes parts of an index take."""
    masks = (Value, np.ndarray)
    return sum(part.ndim if isinstance(part, masks) and part.dtype == bool else 1 for part in parts if part is not None)


def _take(to: Writer, call: Call) -> str:
    x, ids, axis = call.inputs[0], to.text(call.attrs["indices"]), int(call.attrs["axis"])
    if axis == 0 and x.ndim == 2:
        return f"nn.functional.embedding({ids}, {to.text(x)})"
    return f"{to.text(x)}[{':, ' * (axis % x.ndim)}{ids}]"


def _take_along(to: Writer, call: Call) -> str:
    indices = to.text(call.attrs["indices"])
    return f"torch.take_along_dim({to.text(call.inputs[0])}, {indices}, dim={int(call.attrs['axis'])})"


def _scatter(to: Writer, call: Call) -> str:
    """Write zeros around an array; where there are some between its elements, by the place of each in one axis."""
    index, shape, x = call.attrs["index"], call.output.shape, to.tensor(call.inputs[0], call.output.dtype)
    parts = [*index] if isinstance(index, tuple) else [index]
    parts += [slice(None)] * (len(shape) - len(parts))
    around = [bounds(part, length) for part, length in zip(parts, shape, strict=False)]
    if len(parts) == len(shape) and None not in around:
        gone = "".join(f".unsqueeze({axis})" for axis, part in enumerate(parts) if isinstance(part, int))
        return f"nn.functional.pad({x}{gone}, {tuple(n for pair in reversed(around) for n in pair or ())})"
    zeros = f"torch.zeros({call.output.size}, dtype={dtype_of(call.output.dtype)})"
    chosen = to.index(places(index, shape, "PyTorch's code"))
    return f"{zeros}.index_add(0, {chosen}, {x}.reshape(-1)).reshape({shape})"


def _backward_order(to: Writer, call: Call) -> str:
    """Write the steps (N, T, 1) of each sequence, reversed within its own length; see `nn.unroll.backward_order`."""
    last = f"{to.text(call.inputs[0], call.output.dtype)}[:, None, None]"
    t = f"torch.arange({call.output.shape[1]})[None, :, None]"
    return f"torch.where({t} < {last}, {last} - 1 - {t}, {t})"


def _position(name: str) -> _Expression:
    def written(to: Writer, call: Call) -> str:
        axis, keep = setting(call, 1, "axis"), bool(setting(call, 3, "keepdims"))
        return f"{name}({to.text(call.inputs[0])}, dim={axis}, keepdim={keep})"

    return written


_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "matmul": "@"}
_INFIX |= {"bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^"}
_COMPARED = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!="}
_SAME = "sqrt exp tanh relu sigmoid log sin cos tan sinh cosh log1p expm1 log2 log10 exp2 maximum "
_SAME += "minimum hypot fmod logaddexp remainder floor_divide"
_ROUNDED = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "round"}
_RENAMED = {"negative": "neg", "arctan2": "atan2"} | {
    f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")
}
_TRUTH = "isfinite isnan logical_and logical_or logical_not"

_KNOWN: dict[str, _Expression] = {
    **{name: _infix(sign) for name, sign in _INFIX.items()},
    **{name: _compared(sign) for name, sign in _COMPARED.items()},
    **{name: _function(f"torch.{name}") for name in _SAME.split()},
    **{name: _function(f"torch.{there}") for name, there in _RENAMED.items()},
    **{name: _rounded(f"torch.{there}") for name, there in _ROUNDED.items()},
    **{name: _truth(f"torch.{name}") for name in _TRUTH.split()},
    **{name: _reduced(f"torch.{name}") for name in ("sum", "mean", "logsumexp")},
    **{name: _reduced(f"torch.a{name}") for name in ("max", "min")},
    **{name: _along(f"torch.{name}") for name in ("cumsum", "cumprod", "prod", "log_softmax")},
    "unstack": _along("torch.unbind"),
    "power": _power,
    "invert": lambda to, call: f"~{to.text(call.inputs[0], call.output.dtype)}",
    "sign": _sign,
    "where": _where,
    "softplus": _softplus,
    "cbrt": _cbrt,
    "astype": lambda to, call: f"{to.text(call.inputs[0])}.to({dtype_of(call.output.dtype)})",
    "reshape": _shaped("torch.reshape", "shape"),
    "transpose": lambda to, call: f"torch.permute({to.text(call.inputs[0])}, {_order(call)})",
    "broadcast_to": _shaped("torch.broadcast_to", "shape"),
    "concatenate": _joined("torch.cat"),
    "stack": _joined("torch.stack"),
    "split": _split,
    "getitem": _getitem,
    "scatter": _scatter,
    "take": _take,
    "take_along": _take_along,
}
"""What is written for an operator of the package."""

_FUNCTIONS: dict[str, _Expression] = {
    BACKWARD_ORDER: _backward_order,
    "numpy.argmax": _position("torch.argmax"),
    "numpy.argmin": _position("torch.argmin"),
}
"""What is written for functions without a gradient, by their full name."""

_CHECKS = {
    CHECK_OF_IDS,
    CHECK_OF_LENGTHS,
    "tinygrad_rnn.ops.index._plain_part",
    "tinygrad_rnn.ops.index._checked_ids",
    "tinygrad_rnn.ops.masked._numbers_like",
}
"""Functions of the package that check their argument and return it: PyTorch checks ids and positions itself."""
