"""Backpropagation through time, written once for every recurrent step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from tinygrad_rnn.handwritten.base import Array, Layer, check_shape


class Step(Layer, ABC):
    """Say what a time layer expects of one step of a recurrent network.

    `params` starts with Wx (D, ...) and Wh (H, ...). With the states named in `state_names`, h first:

        forward(x, *state)  -> the next state: one array, or a tuple where there are several
        backward(*dstate)   -> (dx, *dstate of the state before)

    Examples:
        >>> Step.state_names
        ('h',)
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Return the length of the last axis of each array of the state: H.

        Examples:
            >>> from tinygrad_rnn.handwritten import RNN
            >>> RNN(np.ones((3, 4)), np.ones((4, 4)), np.ones(4)).state_sizes
            (4,)
        """
        return (self.params[1].shape[0],) * len(self.state_names)

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Array | tuple[Array, ...]:
        """Compute the next state.

        Args:
            args: x, (N, D), and the arrays of the state, each (N, H).
            kwargs: the same by name.

        Returns:
            The array of the next state, (N, H), or a tuple of them.

        Examples:
            >>> from tinygrad_rnn.handwritten import RNN
            >>> RNN(np.ones((3, 4)), np.ones((4, 4)), np.ones(4)).forward(np.ones((2, 3)), np.ones((2, 4))).shape
            (2, 4)
        """

    @abstractmethod
    def backward(self, *args: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Take the gradient of the next state back to the input and to the earlier state.

        Args:
            args: the gradients of the next state's arrays, each (N, H).
            kwargs: the same by name.

        Returns:
            dx, (N, D), and the gradients of the earlier state's arrays, each (N, H).

        Examples:
            >>> from tinygrad_rnn.handwritten import RNN
            >>> rnn = RNN(np.ones((3, 4)), np.ones((4, 4)), np.ones(4))
            >>> h_next = rnn.forward(np.ones((2, 3)), np.ones((2, 4)))
            >>> [grad.shape for grad in rnn.backward(np.ones((2, 4)))]
            [(2, 3), (2, 4)]
        """


class TimeLayer(Layer):
    """Unroll one step over a window of T steps, and run backpropagation through time on it.

    Forward, from the window's first state h_0 (the same for c, where the step has one):

        h_t = step(x_t, h_{t-1})        for t = 1 .. T

    Backward (Werbos, 1990). h_t is used twice: it is an output of the layer, and it is an input of the next
    step. Its gradient is therefore a sum of two parts, and the loop runs from the last step to the first:

        dh_t    = dhs_t + (what step t+1 sends back to h_t; for t = T, `dstate`)
        dx_t, (what goes to h_{t-1}) = step backward(dh_t)
        dW      = sum over t of step t's dW, as all T steps share the weights

    A stateful layer starts a window from the state that the window before ended in, but it sends no gradient
    to that window: what arrives at the cut stays in `dh`. That is truncated backpropagation through time
    (Williams and Peng, 1990).

    Args:
        step: the step that is unrolled. One object serves all T steps: only its cache differs among them.
        stateful: start each window from the state that the one before ended in, not from zeros.

    Attributes:
        params: the step's parameters, the same arrays.
        grads: after `backward`, the sums over the window's T steps.
        stateful: as given.

    Examples:
        >>> from tinygrad_rnn.handwritten import TimeRNN
        >>> layer = TimeRNN(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), stateful=True)
        >>> isinstance(layer, TimeLayer), layer.h
        (True, None)
    """

    def __init__(self, step: Step, stateful: bool) -> None:
        super().__init__(*step.params)
        self.step = step
        self.stateful = stateful
        self._state: tuple[Array, ...] | None = None
        self._dstate: tuple[Array, ...] | None = None

    @property
    def h(self) -> Array | None:
        """Return the state after the latest step, (N, H); None before the first and after a reset.

        Examples:
            >>> from tinygrad_rnn.handwritten import TimeRNN
            >>> layer = TimeRNN(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1))
            >>> hs = layer.forward(np.zeros((1, 2, 1)))
            >>> layer.h
            array([[0.]])
        """
        return None if self._state is None else self._state[0]

    @property
    def dh(self) -> Array | None:
        """Return the gradient of the window's first state, (N, H): what arrives at the cut.

        Examples:
            >>> from tinygrad_rnn.handwritten import TimeRNN
            >>> layer = TimeRNN(np.ones((1, 1)), np.full((1, 1), 3.0), np.zeros(1))
            >>> hs = layer.forward(np.zeros((1, 2, 1)))
            >>> dxs = layer.backward(np.ones((1, 2, 1)))
            >>> layer.dh  # 3 from the first step, 3 * 3 from the second
            array([[12.]])
        """
        return None if self._dstate is None else self._dstate[0]

    def set_state(self, h: Array) -> None:
        """Start the next window from h.

        Args:
            h: (N, H), float. It is copied.

        Raises:
            ValueError: the shape does not fit, or the layer is not stateful and would ignore the state.

        Examples:
            >>> from tinygrad_rnn.handwritten import TimeRNN
            >>> layer = TimeRNN(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), stateful=True)
            >>> layer.set_state(np.array([[2.0]]))
            >>> layer.forward(np.full((1, 1, 1), -2.0))
            array([[[0.]]])
        """
        self._start_from(h)

    def _start_from(self, *state: Array) -> None:
        name = f"{type(self).__name__}.set_state"
        if not self.stateful:
            raise ValueError(f"{name}: this layer starts every window from zeros; build it with stateful=True")
        N = None  # the first state says what the batch is, the others must follow
        for state_name, array, H in zip(self.step.state_names, state, self.step.state_sizes, strict=True):
            check_shape(name, state_name, array, "N, H", (N, H))
            N = array.shape[0]
        self._state = tuple(array.copy() for array in state)

    def reset_state(self) -> None:
        """Forget the carried state: the next window starts from zeros.

        Examples:
            >>> from tinygrad_rnn.handwritten import TimeRNN
            >>> layer = TimeRNN(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), stateful=True)
            >>> hs = layer.forward(np.ones((1, 2, 1)))
            >>> layer.reset_state()
            >>> print(layer.h)
            None
        """
        self._state = None

    def _zero_state(self, N: int) -> tuple[Array, ...]:
        return tuple(np.zeros((N, H), dtype=self.params[1].dtype) for H in self.step.state_sizes)

    def forward(self, xs: Array) -> Array:
        """Run the step over a window.

        Args:
            xs: (N, T, D), float.

        Returns:
            hs, (N, T, H): the state h after each step.

        Raises:
            ValueError: the shape does not fit, or the batch is not that of the carried state.

        Examples:
            >>> from tinygrad_rnn.handwritten import TimeRNN
            >>> layer = TimeRNN(np.ones((3, 4)), np.zeros((4, 4)), np.zeros(4))
            >>> layer.forward(np.zeros((2, 5, 3))).shape
            (2, 5, 4)
        """
        name = f"{type(self).__name__}.forward"
        check_shape(name, "xs", xs, "N, T, D", (None, None, self.params[0].shape[0]))
        N, T, _ = xs.shape
        state = self._zero_state(N)
        if self.stateful and self._state is not None:
            state = self._state
            if state[0].shape[0] != N:
                raise ValueError(
                    f"{name}: xs has shape {xs.shape}, batch N={N}, but the carried state has "
                    f"N={state[0].shape[0]}; keep the batch size or call reset_state()"
                )
        hs, caches = [], []
        for t in range(T):
            result = self.step.forward(xs[:, t], *state)
            state = result if isinstance(result, tuple) else (result,)
            hs.append(state[0])
            caches.append(self.step.cache)
        self._state = state
        self.cache = tuple(caches)
        return np.stack(hs, axis=1)

    def backward(self, dhs: Array, dstate: tuple[Array, ...] | None = None) -> Array:
        """Run backpropagation through time over the latest window, by the equations of the class.

        Args:
            dhs: (N, T, H), dL/dhs.
            dstate: the gradients of the arrays of the state after the last step, each (N, H), without the part
                that goes through hs; needed where another layer starts from that state. None: zeros.

        Returns:
            dxs, (N, T, D). `grads` then holds the sums over the T steps and `dh` the gradient of the
            window's first state.

        Raises:
            ValueError: there was no forward, or a shape is not that of hs or of the state.

        Examples:
            >>> from tinygrad_rnn.handwritten import TimeRNN
            >>> layer = TimeRNN(np.ones((1, 1)), np.full((1, 1), 3.0), np.zeros(1))
            >>> hs = layer.forward(np.zeros((1, 2, 1)))
            >>> layer.backward(np.ones((1, 2, 1)))  # x_1 reaches h_1 and, through it, h_2
            array([[[4.],
                    [1.]]])
        """
        caches = self._kept()
        N, sizes, T = caches[0][0].shape[0], self.step.state_sizes, len(caches)
        name = f"{type(self).__name__}.backward"
        check_shape(name, "dhs", dhs, "N, T, H", (N, T, sizes[0]))
        following = list(self._zero_state(N) if dstate is None else dstate)
        for state_name, array, H in zip(self.step.state_names, following, sizes, strict=True):
            check_shape(name, f"dstate of {state_name}", array, "N, H", (N, H))
        for total in self.grads:
            total.fill(0)
        dxs = []
        for t in reversed(range(T)):
            self.step.cache = caches[t]
            following[0] = following[0] + dhs[:, t]
            dx, *following = self.step.backward(*following)
            dxs.append(dx)
            for total, part in zip(self.grads, self.step.grads, strict=True):
                total += part
        self._dstate = tuple(following)
        return np.stack(dxs[::-1], axis=1)
