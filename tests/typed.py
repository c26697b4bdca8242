"""What type checkers say of the public functions: mypy in `make types`, pyright in `test_types.py`. It runs, too."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, assert_type

import numpy as np
from numpy.typing import NDArray

import tinygrad_rnn as tr

if TYPE_CHECKING:
    Array = NDArray[Any]

rng = np.random.default_rng(0)
x = tr.parameter(np.ones((2, 3)))
w = tr.parameter(np.ones((3, 3)))
a = np.ones((2, 3))


def operations(either: "tr.Tensor | Array") -> None:
    """A Tensor for Tensors, an array for arrays, a Tensor where they meet."""
    assert_type(tr.tanh(x), tr.Tensor)
    assert_type(tr.tanh(a), "Array")
    assert_type(tr.tanh(0.5), "Array")
    assert_type(tr.tanh(np.float32(0.5)), "Array")
    assert_type(tr.tanh([[0.5, 1.0], [2.0, 3.0]]), "Array")
    assert_type(tr.tanh(either), "tr.Tensor | Array")
    assert_type(tr.add(x, a), tr.Tensor)
    assert_type(tr.add(a, x), tr.Tensor)
    assert_type(tr.add(a, 1), "Array")
    assert_type(tr.add(1.0, x), tr.Tensor)
    assert_type(tr.maximum(either, 0.0), "tr.Tensor | Array")
    assert_type(tr.where(a > 0, x, 0), tr.Tensor)
    assert_type(tr.where(a > 0, 0, x), tr.Tensor)
    assert_type(tr.where(a > 0, a, 0), "Array")
    assert_type(tr.sum(x, axis=0, keepdims=True), tr.Tensor)
    assert_type(tr.sum(a, 0), "Array")
    assert_type(tr.softmax(x, axis=-1), tr.Tensor)
    assert_type(tr.matmul(a, w), tr.Tensor)
    assert_type(tr.reshape(x, (3, 2)), tr.Tensor)
    assert_type(tr.square(x), tr.Tensor)
    assert_type(tr.outer(a, a), "Array")
    assert_type(tr.split(x, 3, axis=1), tuple[tr.Tensor, ...])
    assert_type(tr.split(a, 3, axis=1), "tuple[Array, ...]")
    assert_type(tr.array_split(x, 2), tuple[tr.Tensor, ...])
    assert_type(tr.divmod(x, 2), tuple[tr.Tensor, tr.Tensor])
    assert_type(tr.concatenate([x, x]), tr.Tensor)
    assert_type(tr.concatenate([a, a]), "Array")
    assert_type(tr.einsum("nd,dh->nh", x, w), tr.Tensor)
    assert_type(tr.cross_entropy(x, [0, 1]), tr.Tensor)
    assert_type(tr.cross_entropy(a, [0, 1]), "Array")


def tensors() -> None:
    """Operators, methods and indices of a Tensor give Tensors; comparisons give arrays."""
    assert_type(x + 1, tr.Tensor)
    assert_type(2.0 * x - x / 3, tr.Tensor)
    assert_type(x @ w, tr.Tensor)
    assert_type(x[:, 1:], tr.Tensor)
    assert_type(x[np.array([0, 1])], tr.Tensor)
    assert_type(x.mean(axis=0), tr.Tensor)
    assert_type(x.reshape(3, 2).T, tr.Tensor)
    assert_type(x > 0, "Array")
    assert_type(x.data, "Array")
    assert_type(x.grad, "Array | None")
    assert_type(tr.parameter([1.0]), tr.Tensor)


def gradients() -> None:
    """`grad` keeps the nesting of what it differentiates by."""
    loss = tr.sum(tr.tanh(tr.matmul(x, w)))
    assert_type(tr.grad(loss, x), "Array")
    assert_type(tr.grad(loss, [x, w]), "list[Array]")
    assert_type(tr.grad(loss, (x, w)), "tuple[Array, ...]")
    assert_type(tr.grad(loss, {"x": x, "w": w}), "dict[str, Array]")
    assert_type(tr.grad(loss, x, create_graph=True), tr.Tensor)
    assert_type(tr.grad(loss, {"x": x}, create_graph=True), dict[str, tr.Tensor])
    cut = tr.cut((x, {"w": w}), scale=0.5)
    assert_type(cut, "tuple[tr.Tensor, dict[str, tr.Tensor]]")


def compiled() -> None:
    """A compiled function has the parameters of the function, and returns arrays for its Tensors."""

    def loss(x: tr.Tensor, scale: float = 1.0) -> tr.Tensor:
        return tr.sum(x * scale)

    def step(x: tr.Tensor) -> "tuple[tr.Tensor, dict[str, Array]]":
        total = tr.sum(x)
        return total, tr.grad(total, {"x": x})

    fast = tr.compile(loss, executor="numpy")
    assert_type(fast(x, scale=2.0), "Array")
    assert_type(tr.compile(step, executor="numpy")(x), "tuple[Array, dict[str, Array]]")
    if TYPE_CHECKING:
        fast(x, scale="2")  # type: ignore[call-overload]


@tr.primitive(np.sinc)
def sinc(x: "Array", /) -> "Array":
    """A primitive of one's own."""
    return np.asarray(np.sinc(x))


def primitives() -> None:
    """A primitive has the parameters of its function."""
    typed: Callable[[tr.Tensor], tr.Tensor] = sinc
    assert_type(typed(tr.tensor([0.5])), tr.Tensor)
    assert_type(sinc(a), "Array")
    if TYPE_CHECKING:
        sinc(a, a)  # pyright: ignore[reportCallIssue]  # mypy lets more arguments pass
        tr.sum(x, axis="rows")  # type: ignore[call-overload]


def recurrences() -> None:
    """`unroll` and `scan` return the output and the state of the cell."""
    xs = np.ones((2, 4, 3))
    outputs, state = tr.unroll(tr.LSTMCell(3, 5, rng), xs)
    assert_type(outputs, tr.Tensor)
    assert_type(state, tuple[tr.Tensor, tr.Tensor])
    cell = tr.RNNCell(3, 5, rng)
    assert_type(tr.unroll(cell, xs, cell.initial_state(2)), tuple[tr.Tensor, tr.Tensor])
    assert_type(tr.unroll(cell, xs, np.zeros((2, 5))), tuple[tr.Tensor, tr.Tensor])

    def running(x: "Array", total: "Array") -> "tuple[Array, Array]":
        return total, total + x

    assert_type(tr.scan(running, np.zeros((2, 3)), xs), "tuple[Array, Array]")
    logits, _ = tr.RNNLM(7, 3, 5, rng)(np.zeros((2, 4), int))
    assert_type(logits, tr.Tensor)
    assert_type(tr.Linear(3, 2, rng)(a), tr.Tensor)
    assert_type(tr.Dropout(0.5)(a), "Array")
