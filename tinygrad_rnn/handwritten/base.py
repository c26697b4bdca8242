"""The base of hand-written layers: parameters, gradients, a cache, and checks of arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Scalar = np.inexact[Any]


class Layer:
    """Hold the parameters of a layer, their gradients, and what forward keeps for backward.

    Args:
        params: the parameters, float32 or float64 (or complex, for a complex-step check of the forward).
            They are held, not copied, so that `p -= lr * g` on them trains the layer.

    Attributes:
        params: list of arrays.
        grads: list of arrays of the same shapes and order. `backward` writes into them in place, and
            overwrites what an earlier `backward` left.
        cache: what the latest `forward` kept for `backward`; None before the first.

    Raises:
        TypeError: a parameter is of an integer type, in which a gradient would be truncated.

    Examples:
        >>> layer = Layer(np.ones((2, 3)))
        >>> [grad.shape for grad in layer.grads], layer.cache
        ([(2, 3)], None)
    """

    def __init__(self, *params: Array) -> None:
        for position, param in enumerate(params):
            if not np.issubdtype(param.dtype, np.inexact):
                raise TypeError(
                    f"{type(self).__name__}: params[{position}] of shape {param.shape} has dtype "
                    f"{param.dtype}; convert it to float32 or float64"
                )
        self.params: list[Array] = list(params)
        self.grads: list[Array] = [np.zeros_like(param) for param in params]
        self.cache: tuple[Any, ...] | None = None

    def _kept(self) -> tuple[Any, ...]:
        if self.cache is None:
            raise ValueError(f"{type(self).__name__}.backward: nothing to differentiate; call forward first")
        return self.cache

    def _set_grads(self, *grads: Array) -> None:
        # In place: other holders of `grads` (an optimizer, a model's flat list) must see the new values.
        for held, new in zip(self.grads, grads, strict=True):
            held[...] = new


def sigmoid(z: Array) -> Array:
    """Compute the logistic function, which squashes to (0, 1).

        sigmoid(z) = 1 / (1 + exp(-z)) = 0.5 * (tanh(z / 2) + 1)

    The form with tanh cannot overflow, and it is analytic, so that it passes a complex step. Its error is
    absolute, one rounding near 1: a gate below that comes out as 0. With s = sigmoid(z) the derivative is
    ds/dz = s * (1 - s).

    Args:
        z: array of any shape, float or complex.

    Returns:
        An array of z's shape and dtype.

    Examples:
        >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
        array([0. , 0.5, 1. ])
    """
    s: Array = 0.5 * (np.tanh(0.5 * z) + 1)
    return s


def check_shape(function: str, argument: str, array: Array, letters: str, sizes: tuple[int | None, ...]) -> None:
    """Refuse an array whose shape does not fit, with the letters solved in the message.

    Args:
        function: name that the message starts with.
        argument: name of the argument.
        array: the array to look at.
        letters: one name for each axis, such as "N, T, D".
        sizes: the length of each axis; None where any length from 1 on will do.

    Raises:
        ValueError: the shape does not fit.
        TypeError: `array` is not a NumPy array.

    Examples:
        >>> check_shape("RNN.forward", "x", np.ones((2, 5)), "N, D", (None, 3))
        Traceback (most recent call last):
        ...
        ValueError: RNN.forward: x must have shape (N, D=3), got (2, 5); make axis 1 (D) 3 long
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{function}: {argument} must be a NumPy array, got {type(array).__name__}; use np.asarray")
    names = letters.split(", ")
    solved = ", ".join(name if size is None else f"{name}={size}" for name, size in zip(names, sizes, strict=True))
    message = f"{function}: {argument} must have shape ({solved}), got {array.shape}"
    if array.ndim != len(sizes):
        raise ValueError(f"{message}; give it {len(sizes)} axes, not {array.ndim}")
    for axis, (name, size, actual) in enumerate(zip(names, sizes, array.shape, strict=True)):
        if size is None and actual == 0:
            raise ValueError(f"{message}; axis {axis} ({name}) is empty, make it at least 1 long")
        if size is not None and actual != size:
            raise ValueError(f"{message}; make axis {axis} ({name}) {size} long")


def check_recurrent_weights(function: str, gates: int, Wx: Array, Wh: Array, b: Array, Wp: Array | None = None) -> None:
    """Refuse weights of a recurrent step whose shapes do not fit each other.

    Args:
        function: name that the message starts with.
        gates: how many blocks of H columns lie side by side (RNN 1, GRU 3, LSTM 4).
        Wx: (D, gates * H).
        Wh: (H, gates * H); its rows say what H is.
        b: (gates * H,).
        Wp: (H, P), a projection of the state, with which Wh is (P, gates * H); None: there is none.

    Raises:
        ValueError: a shape does not fit.

    Examples:
        >>> check_recurrent_weights("GRU", 3, np.ones((2, 12)), np.ones((4, 12)), np.ones(4))
        Traceback (most recent call last):
        ...
        ValueError: GRU: b must have shape (3H=12), got (4,); make axis 0 (3H) 12 long
    """
    columns = "H" if gates == 1 else f"{gates}H"
    check_shape(function, "Wh", Wh, f"H, {columns}", (None, None))
    H = Wh.shape[0]
    if Wp is not None:
        check_shape(function, "Wp", Wp, "H, P", (None, None))
        H = Wp.shape[0]
    rows, width = ("H", H) if Wp is None else ("P", Wp.shape[1]), gates * H
    check_shape(function, "Wh", Wh, f"{rows[0]}, {columns}", (rows[1], width))
    check_shape(function, "Wx", Wx, f"D, {columns}", (None, width))
    check_shape(function, "b", b, columns, (width,))


def check_labels(function: str, argument: str, labels: Array, vocab_size: int) -> None:
    """Refuse labels that are not integers of range(vocab_size).

    Args:
        function: name that the message starts with.
        argument: name of the argument.
        labels: array of any shape.
        vocab_size: V, how many labels there are.

    Raises:
        ValueError: a label is out of range; a negative one is, too, for it must not count from the end.
        TypeError: the labels are not of an integer type.

    Examples:
        >>> check_labels("TimeEmbedding.forward", "ids", np.array([[0, 7]]), 5)
        Traceback (most recent call last):
        ...
        ValueError: TimeEmbedding.forward: ids must lie in 0..4 (V=5), got 7; check the vocabulary
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{function}: {argument} must be of an integer type, got {labels.dtype}; use .astype(np.int64)")
    outside = labels[(labels < 0) | (labels >= vocab_size)]
    if outside.size:
        raise ValueError(
            f"{function}: {argument} must lie in 0..{vocab_size - 1} (V={vocab_size}), got {outside[0]}; "
            "check the vocabulary"
        )
