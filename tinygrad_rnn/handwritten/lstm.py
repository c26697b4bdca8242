"""The long short-term memory: one step, and the step unrolled over a window."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tinygrad_rnn.handwritten.base import Array, check_recurrent_weights, check_shape, sigmoid
from tinygrad_rnn.handwritten.time import Step, TimeLayer


class LSTM(Step):
    """Compute one step of the LSTM (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000).

    The columns of the weights are four blocks of H, in the order i, f, o, g: the three gates with a sigmoid
    lie side by side. Forward:

        a          = x @ Wx + h_prev @ Wh + b       four blocks a_i, a_f, a_o, a_g
        i, f, o, g = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o), tanh(a_g)
        c_next     = f * c_prev + i * g
        h_next     = o * tanh(c_next)

    Backward. c_next reaches the loss by two ways, directly and through h_next:

        dc      = dc_next + dh_next * o * (1 - tanh(c_next)^2)
        di      = dc * g            da_i = di * i * (1 - i)
        df      = dc * c_prev       da_f = df * f * (1 - f)
        do      = dh_next * tanh(c_next)
                                    da_o = do * o * (1 - o)
        dg      = dc * i            da_g = dg * (1 - g^2)
        dc_prev = dc * f

    and with the blocks da_i, da_f, da_o, da_g side by side in da, as in the plain recurrent network:

        dWx = x' @ da       dWh = h_prev' @ da      db = sum of da over the batch
        dx  = da @ Wx'      dh_prev = da @ Wh'

    With a projection (Sak, Senior and Beaufays, 2014), h_next = m @ Wp, where m = o * tanh(c_next), and Wh has P rows.
    Then dWp = m' @ dh_next, and dm = dh_next @ Wp' takes the place of dh_next in the equations above.

    Args:
        Wx: (D, 4H), float.
        Wh: (H, 4H), float; (P, 4H) with a projection.
        b: (4H,), float.
        Wp: (H, P), float, the projection; None: there is none, and P is H.

    Raises:
        ValueError: the shapes do not fit each other.
        TypeError: a weight is of an integer type.

    Examples:
        >>> lstm = LSTM(np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8))
        >>> h, c = lstm.forward(np.ones((1, 3)), np.zeros((1, 2)), np.ones((1, 2)))
        >>> c  # the forget gate is sigmoid(0)
        array([[0.5, 0.5]])
        >>> dx, dh_prev, dc_prev = lstm.backward(np.zeros((1, 2)), np.ones((1, 2)))
        >>> dc_prev
        array([[0.5, 0.5]])
    """

    state_names: ClassVar[tuple[str, ...]] = ("h", "c")

    def __init__(self, Wx: Array, Wh: Array, b: Array, Wp: Array | None = None) -> None:
        check_recurrent_weights("LSTM", 4, Wx, Wh, b, Wp)
        super().__init__(Wx, Wh, b, *([] if Wp is None else [Wp]))

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Return P and H, the lengths of h and of c.

        Examples:
            >>> LSTM(np.zeros((3, 8)), np.zeros((1, 8)), np.zeros(8), np.zeros((2, 1))).state_sizes
            (1, 2)
        """
        return self.params[1].shape[0], self.params[2].shape[0] // 4

    def forward(self, x: Array, h_prev: Array, c_prev: Array) -> tuple[Array, Array]:
        """Compute the next state by the equations of the class.

        Args:
            x: (N, D), the input of this step.
            h_prev: (N, P), the hidden state before it.
            c_prev: (N, H), the memory cell before it.

        Returns:
            h_next, (N, P), and c_next, (N, H).

        Raises:
            ValueError: a shape does not fit the weights.

        Examples:
            >>> lstm = LSTM(np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(4))
            >>> lstm.forward(np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1)))
            (array([[0.]]), array([[0.]]))
        """
        Wx, Wh, b, *Wp = self.params
        P, H = self.state_sizes
        check_shape("LSTM.forward", "x", x, "N, D", (None, Wx.shape[0]))
        check_shape("LSTM.forward", "h_prev", h_prev, "N, P" if Wp else "N, H", (x.shape[0], P))
        check_shape("LSTM.forward", "c_prev", c_prev, "N, H", (x.shape[0], H))
        a = x @ Wx + h_prev @ Wh + b
        i, f, o = np.split(sigmoid(a[:, : 3 * H]), 3, axis=1)
        g = np.tanh(a[:, 3 * H :])
        c_next = f * c_prev + i * g
        tanh_c = np.tanh(c_next)
        self.cache = (x, h_prev, c_prev, i, f, o, g, tanh_c)
        m = o * tanh_c
        return (m @ Wp[0] if Wp else m), c_next

    def backward(self, dh_next: Array, dc_next: Array) -> tuple[Array, Array, Array]:
        """Take the gradient back through the latest forward, by the equations of the class.

        Args:
            dh_next: (N, P), dL/dh_next.
            dc_next: (N, H), dL/dc_next, without the part that goes through h_next.

        Returns:
            dx, (N, D), dh_prev, (N, P), and dc_prev, (N, H). `grads` then holds dWx, dWh and db of this step, and dWp
            where there is a projection.

        Raises:
            ValueError: there was no forward, or a shape is not that of h_next.

        Examples:
            >>> lstm = LSTM(np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(4))
            >>> h, c = lstm.forward(np.ones((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)))
            >>> lstm.backward(np.ones((1, 1)), np.zeros((1, 1)))[2]  # through h: o * f
            array([[0.25]])
        """
        Wx, Wh, _, *Wp = self.params
        x, h_prev, c_prev, i, f, o, g, tanh_c = self._kept()
        check_shape("LSTM.backward", "dh_next", dh_next, "N, P" if Wp else "N, H", h_prev.shape)
        check_shape("LSTM.backward", "dc_next", dc_next, "N, H", tanh_c.shape)
        dm = dh_next @ Wp[0].T if Wp else dh_next
        dc = dc_next + dm * o * (1 - tanh_c**2)
        da_i = dc * g * i * (1 - i)
        da_f = dc * c_prev * f * (1 - f)
        da_o = dm * tanh_c * o * (1 - o)
        da_g = dc * i * (1 - g**2)
        da = np.concatenate([da_i, da_f, da_o, da_g], axis=1)
        dWp = [(o * tanh_c).T @ dh_next] if Wp else []
        self._set_grads(x.T @ da, h_prev.T @ da, da.sum(axis=0), *dWp)
        return da @ Wx.T, da @ Wh.T, dc * f


class TimeLSTM(TimeLayer):
    """Unroll the LSTM over a window of T steps.

    The step is `LSTM`; the loop, the carried state and the cut at the window's border are `TimeLayer`'s. The
    memory cell c is carried and cut like h, but it is no output of the layer.

    Args:
        Wx: (D, 4H), float; columns in the order i, f, o, g.
        Wh: (H, 4H), float; (P, 4H) with a projection.
        b: (4H,), float.
        Wp: (H, P), float, the projection, as in `LSTM`; None: there is none.
        stateful: carry h and c from one window to the next.

    Raises:
        ValueError: the shapes do not fit each other.

    Examples:
        >>> layer = TimeLSTM(np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8))
        >>> hs = layer.forward(np.ones((4, 5, 3)))
        >>> hs.shape, layer.backward(np.ones_like(hs)).shape
        ((4, 5, 2), (4, 5, 3))
    """

    def __init__(self, Wx: Array, Wh: Array, b: Array, Wp: Array | None = None, *, stateful: bool = False) -> None:
        super().__init__(LSTM(Wx, Wh, b, Wp), stateful)

    @property
    def c(self) -> Array | None:
        """Return the memory cell after the latest step, (N, H); None before the first and after a reset.

        Examples:
            >>> layer = TimeLSTM(np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(4))
            >>> hs = layer.forward(np.ones((1, 2, 1)))
            >>> layer.c
            array([[0.]])
        """
        return None if self._state is None else self._state[1]

    @property
    def dc(self) -> Array | None:
        """Return the gradient of the window's first memory cell, (N, H): what arrives at the cut.

        Examples:
            >>> layer = TimeLSTM(np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(4))
            >>> hs = layer.forward(np.ones((1, 1, 1)))
            >>> dxs = layer.backward(np.ones((1, 1, 1)))
            >>> layer.dc
            array([[0.25]])
        """
        return None if self._dstate is None else self._dstate[1]

    def set_state(self, h: Array, c: Array | None = None) -> None:
        """Start the next window from h and c.

        Args:
            h: (N, P), float. It is copied.
            c: (N, H), float. It is copied; without it the memory cell starts from zeros.

        Raises:
            ValueError: a shape does not fit, or the layer is not stateful and would ignore the state.

        Examples:
            >>> layer = TimeLSTM(np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(4), stateful=True)
            >>> layer.set_state(np.zeros((1, 1)), np.ones((1, 1)))
            >>> hs = layer.forward(np.ones((1, 1, 1)))
            >>> layer.c
            array([[0.5]])
        """
        if c is None:
            c = np.zeros((len(h), self.step.state_sizes[1]), h.dtype)
        self._start_from(h, c)
