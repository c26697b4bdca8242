"""The plain recurrent layer: one step, and the step unrolled over a window."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.handwritten.base import Array, check_recurrent_weights, check_shape
from tinygrad_rnn.handwritten.time import Step, TimeLayer


class RNN(Step):
    """Compute one step of the plain recurrent network (Elman, 1990).

    Forward, with the pre-activation a:

        a      = x @ Wx + h_prev @ Wh + b
        h_next = tanh(a)

    Backward. Since d tanh(a) / da = 1 - tanh(a)^2, and a is a sum of two products and a bias:

        da      = dh_next * (1 - h_next^2)
        dWx     = x' @ da           dx      = da @ Wx'
        dWh     = h_prev' @ da      dh_prev = da @ Wh'
        db      = sum of da over the batch (b was broadcast over it)

    Args:
        Wx: (D, H), float.
        Wh: (H, H), float.
        b: (H,), float.

    Raises:
        ValueError: the shapes do not fit each other.
        TypeError: a weight is of an integer type.

    Examples:
        >>> rnn = RNN(np.ones((3, 4)), np.zeros((4, 4)), np.zeros(4))
        >>> rnn.forward(np.zeros((2, 3)), np.ones((2, 4))).shape
        (2, 4)
        >>> dx, dh_prev = rnn.backward(np.ones((2, 4)))
        >>> dx  # tanh'(0) = 1, so each input gets the sum of its row of Wx
        array([[4., 4., 4.],
               [4., 4., 4.]])
    """

    def __init__(self, Wx: Array, Wh: Array, b: Array) -> None:
        check_recurrent_weights("RNN", 1, Wx, Wh, b)
        super().__init__(Wx, Wh, b)

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Compute h_next = tanh(x @ Wx + h_prev @ Wh + b).

        Args:
            x: (N, D), the input of this step.
            h_prev: (N, H), the state before it.

        Returns:
            h_next, (N, H): the state after it.

        Raises:
            ValueError: a shape does not fit the weights.

        Examples:
            >>> RNN(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1)).forward(np.ones((1, 1)), -np.ones((1, 1)))
            array([[0.]])
        """
        Wx, Wh, b = self.params
        check_shape("RNN.forward", "x", x, "N, D", (None, Wx.shape[0]))
        check_shape("RNN.forward", "h_prev", h_prev, "N, H", (x.shape[0], Wh.shape[0]))
        h_next: Array = np.tanh(x @ Wx + h_prev @ Wh + b)
        self.cache = (x, h_prev, h_next)
        return h_next

    def backward(self, dh_next: Array) -> tuple[Array, Array]:
        """Take the gradient back through the latest forward, by the equations of the class.

        Args:
            dh_next: (N, H), dL/dh_next.

        Returns:
            dx, (N, D), and dh_prev, (N, H). `grads` then holds dWx, dWh and db of this step.

        Raises:
            ValueError: there was no forward, or the shape is not that of h_next.

        Examples:
            >>> rnn = RNN(np.ones((1, 1)), np.full((1, 1), 2.0), np.zeros(1))
            >>> h_next = rnn.forward(np.zeros((1, 1)), np.zeros((1, 1)))
            >>> rnn.backward(np.ones((1, 1)))
            (array([[1.]]), array([[2.]]))
        """
        Wx, Wh, _ = self.params
        x, h_prev, h_next = self._kept()
        check_shape("RNN.backward", "dh_next", dh_next, "N, H", h_next.shape)
        da = dh_next * (1 - h_next**2)
        self._set_grads(x.T @ da, h_prev.T @ da, da.sum(axis=0))
        return da @ Wx.T, da @ Wh.T


class TimeRNN(TimeLayer):
    """Unroll the plain recurrent network over a window of T steps.

    The step is `RNN`; the loop, the carried state and the cut at the window's border are `TimeLayer`'s.

    Args:
        Wx: (D, H), float.
        Wh: (H, H), float.
        b: (H,), float.
        stateful: carry h from one window to the next.

    Raises:
        ValueError: the shapes do not fit each other.

    Examples:
        >>> layer = TimeRNN(np.ones((3, 4)), np.zeros((4, 4)), np.zeros(4))
        >>> hs = layer.forward(np.zeros((2, 5, 3)))
        >>> layer.backward(np.ones_like(hs)).shape
        (2, 5, 3)
        >>> layer.grads[2]  # db: tanh'(0) = 1, summed over 2 sequences of 5 steps
        array([10., 10., 10., 10.])
    """

    def __init__(self, Wx: Array, Wh: Array, b: Array, stateful: bool = False) -> None:
        super().__init__(RNN(Wx, Wh, b), stateful)
