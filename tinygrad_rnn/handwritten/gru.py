"""The gated recurrent unit, in both of its forms: one step, and the step unrolled over a window."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tinygrad_rnn.handwritten.base import Array, check_recurrent_weights, check_shape, sigmoid
from tinygrad_rnn.handwritten.time import Step, TimeLayer

Reset = Literal["after", "before"]


class GRU(Step):
    """Compute one step of the GRU (Cho et al., 2014).

    The columns of the weights are three blocks of H, in the order r, z, n. Forward, with x_r for block r of
    x @ Wx + b, and so on:

        r      = sigmoid(x_r + h_prev @ Wh_r)
        z      = sigmoid(x_z + h_prev @ Wh_z)
        n      = tanh(x_n + r * s),   s = h_prev @ Wh_n + bh      reset="after" the product (PyTorch, cuDNN)
        n      = tanh(x_n + q @ Wh_n),   q = r * h_prev           reset="before" the product (Cho et al.)
        h_next = (1 - z) * n + z * h_prev

    Backward. h_prev reaches h_next by the last line, by the gates and by n, and dh_prev adds these up:

        dz   = dh_next * (h_prev - n)       da_z = dz * z * (1 - z)
        dn   = dh_next * (1 - z)            da_n = dn * (1 - n^2)
        after:   dr = da_n * s              ds = da_n * r            dWh_n = h_prev' @ ds,  dbh = sum of ds
        before:  dq = da_n @ Wh_n'          dr = dq * h_prev         dWh_n = q' @ da_n
                                            da_r = dr * r * (1 - r)
        dh_prev = dh_next * z + da_r @ Wh_r' + da_z @ Wh_z' + (after: ds @ Wh_n'; before: dq * r)

    and with the blocks da_r, da_z, da_n side by side in da (sums run over the batch):

        dWx = x' @ da       db = sum of da      dx = da @ Wx'
        dWh_r = h_prev' @ da_r                  dWh_z = h_prev' @ da_z

    PyTorch's weights map exactly to reset="after": Wx = weight_ih', Wh = weight_hh', b = bias_ih with the r
    and z blocks of bias_hh added, and bh = the n block of bias_hh.

    Args:
        Wx: (D, 3H), float.
        Wh: (H, 3H), float.
        b: (3H,), float.
        bh: (H,), float: the bias inside the reset product. Needed for reset="after", refused for "before".
        reset: "after" or "before" the product with Wh_n.

    Raises:
        ValueError: the shapes do not fit each other, `reset` is unknown, or `bh` does not go with it.
        TypeError: a weight is of an integer type.

    Examples:
        >>> gru = GRU(np.zeros((3, 6)), np.zeros((2, 6)), np.zeros(6), np.zeros(2))
        >>> gru.forward(np.ones((1, 3)), np.ones((1, 2)))  # z = sigmoid(0), n = tanh(0)
        array([[0.5, 0.5]])
        >>> dx, dh_prev = gru.backward(np.ones((1, 2)))
        >>> dh_prev
        array([[0.5, 0.5]])
    """

    def __init__(self, Wx: Array, Wh: Array, b: Array, bh: Array | None = None, reset: Reset = "after") -> None:
        check_recurrent_weights("GRU", 3, Wx, Wh, b)
        if reset not in ("after", "before"):
            raise ValueError(f"GRU: reset must be 'after' or 'before', got {reset!r}; choose one of the two")
        if (reset == "after") != (bh is not None):
            raise ValueError(
                "GRU: bh of shape (H,) belongs to reset='after' and only to it; "
                f"got reset={reset!r} {'without' if bh is None else 'with'} bh, "
                f"so {'pass bh' if bh is None else 'leave bh out'} or change reset"
            )
        if bh is None:
            super().__init__(Wx, Wh, b)
        else:
            check_shape("GRU", "bh", bh, "H", (Wh.shape[0],))
            super().__init__(Wx, Wh, b, bh)
        self.reset = reset

    def forward(self, x: Array, h_prev: Array) -> Array:
        """Compute the next state by the equations of the class.

        Args:
            x: (N, D), the input of this step.
            h_prev: (N, H), the state before it.

        Returns:
            h_next, (N, H): the state after it.

        Raises:
            ValueError: a shape does not fit the weights.

        Examples:
            >>> gru = GRU(np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(3), reset="before")
            >>> gru.forward(np.ones((1, 1)), np.full((1, 1), 3.0))
            array([[1.5]])
        """
        Wx, Wh, b, *bh = self.params
        H = Wh.shape[0]
        check_shape("GRU.forward", "x", x, "N, D", (None, Wx.shape[0]))
        check_shape("GRU.forward", "h_prev", h_prev, "N, H", (x.shape[0], H))
        Wh_rz, Wh_n = Wh[:, : 2 * H], Wh[:, 2 * H :]
        ax = x @ Wx + b
        r, z = np.split(sigmoid(ax[:, : 2 * H] + h_prev @ Wh_rz), 2, axis=1)
        if self.reset == "after":
            inner = h_prev @ Wh_n + bh[0]
            n = np.tanh(ax[:, 2 * H :] + r * inner)
        else:
            inner = r * h_prev
            n = np.tanh(ax[:, 2 * H :] + inner @ Wh_n)
        self.cache = (x, h_prev, r, z, n, inner)
        h_next: Array = (1 - z) * n + z * h_prev
        return h_next

    def backward(self, dh_next: Array) -> tuple[Array, Array]:
        """Take the gradient back through the latest forward, by the equations of the class.

        Args:
            dh_next: (N, H), dL/dh_next.

        Returns:
            dx, (N, D), and dh_prev, (N, H). `grads` then holds dWx, dWh, db (and dbh) of this step.

        Raises:
            ValueError: there was no forward, or the shape is not that of h_next.

        Examples:
            >>> gru = GRU(np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(3), reset="before")
            >>> h_next = gru.forward(np.ones((1, 1)), np.full((1, 1), 4.0))
            >>> dx, dh_prev = gru.backward(np.ones((1, 1)))
            >>> gru.grads[2]  # da_z = 4 * 0.25, da_n = 0.5
            array([0. , 1. , 0.5])
        """
        Wx, Wh, *_ = self.params
        H = Wh.shape[0]
        Wh_rz, Wh_n = Wh[:, : 2 * H], Wh[:, 2 * H :]
        x, h_prev, r, z, n, inner = self._kept()
        check_shape("GRU.backward", "dh_next", dh_next, "N, H", n.shape)
        da_z = dh_next * (h_prev - n) * z * (1 - z)
        da_n = dh_next * (1 - z) * (1 - n**2)
        if self.reset == "after":
            dinner = da_n * r
            dr = da_n * inner
            dWh_n = h_prev.T @ dinner
            dh_by_n = dinner @ Wh_n.T
            dbh = [dinner.sum(axis=0)]
        else:
            dinner = da_n @ Wh_n.T
            dr = dinner * h_prev
            dWh_n = inner.T @ da_n
            dh_by_n = dinner * r
            dbh = []
        da_rz = np.concatenate([dr * r * (1 - r), da_z], axis=1)
        da = np.concatenate([da_rz, da_n], axis=1)
        dWh = np.concatenate([h_prev.T @ da_rz, dWh_n], axis=1)
        self._set_grads(x.T @ da, dWh, da.sum(axis=0), *dbh)
        return da @ Wx.T, dh_next * z + da_rz @ Wh_rz.T + dh_by_n


class TimeGRU(TimeLayer):
    """Unroll the GRU over a window of T steps.

    The step is `GRU`; the loop, the carried state and the cut at the window's border are `TimeLayer`'s.

    Args:
        Wx: (D, 3H), float; columns in the order r, z, n.
        Wh: (H, 3H), float.
        b: (3H,), float.
        bh: (H,), float. Needed for reset="after", refused for "before".
        reset: "after" or "before" the product with Wh_n.
        stateful: carry h from one window to the next.

    Raises:
        ValueError: the shapes do not fit each other, `reset` is unknown, or `bh` does not go with it.

    Examples:
        >>> layer = TimeGRU(np.zeros((3, 6)), np.zeros((2, 6)), np.zeros(6), reset="before")
        >>> hs = layer.forward(np.ones((4, 5, 3)))
        >>> hs.shape, layer.backward(np.ones_like(hs)).shape
        ((4, 5, 2), (4, 5, 3))
    """

    def __init__(
        self,
        Wx: Array,
        Wh: Array,
        b: Array,
        bh: Array | None = None,
        reset: Reset = "after",
        stateful: bool = False,
    ) -> None:
        super().__init__(GRU(Wx, Wh, b, bh, reset), stateful)
