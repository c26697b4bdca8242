"""The layers around the recurrent one, each over a whole window of T steps: embedding, affine map, losses."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.handwritten.base import Array, Layer, Scalar, check_labels, check_shape, sigmoid


class TimeEmbedding(Layer):
    """Look up one row of W for every id.

        out[n, t] = W[ids[n, t]]

    Backward. A row that was looked up several times reached the loss by each of these ways, so that its
    gradient is their sum; a row that was not looked up gets zero:

        dW[v] = sum of dout[n, t] over all (n, t) with ids[n, t] = v

    Args:
        W: (V, D), float.

    Raises:
        ValueError: W has not two axes.
        TypeError: W is of an integer type.

    Examples:
        >>> embedding = TimeEmbedding(np.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> embedding.forward(np.array([[1, 1]]))
        array([[[3., 4.],
                [3., 4.]]])
        >>> embedding.backward(np.ones((1, 2, 2)))
        >>> embedding.grads[0]
        array([[0., 0.],
               [2., 2.]])
    """

    def __init__(self, W: Array) -> None:
        check_shape("TimeEmbedding", "W", W, "V, D", (None, None))
        super().__init__(W)

    def forward(self, ids: Array) -> Array:
        """Look up the rows.

        Args:
            ids: (N, T), integers of 0..V-1.

        Returns:
            (N, T, D), of W's dtype.

        Raises:
            ValueError: the shape does not fit, or an id is out of range.
            TypeError: the ids are not of an integer type.

        Examples:
            >>> TimeEmbedding(np.ones((5, 3))).forward(np.array([[0, 4]])).shape
            (1, 2, 3)
        """
        (W,) = self.params
        check_shape("TimeEmbedding.forward", "ids", ids, "N, T", (None, None))
        check_labels("TimeEmbedding.forward", "ids", ids, W.shape[0])
        self.cache = (ids,)
        out: Array = W[ids]
        return out

    def backward(self, dout: Array) -> None:
        """Write dW into `grads`. Ids have no gradient, so that nothing is returned.

        Args:
            dout: (N, T, D), dL/dout.

        Raises:
            ValueError: there was no forward, or the shape is not that of its output.

        Examples:
            >>> embedding = TimeEmbedding(np.ones((2, 1)))
            >>> out = embedding.forward(np.array([[0, 0, 0]]))
            >>> embedding.backward(np.ones((1, 3, 1)))
            >>> embedding.grads[0]
            array([[3.],
                   [0.]])
        """
        (ids,) = self._kept()
        (dW,) = self.grads
        check_shape("TimeEmbedding.backward", "dout", dout, "N, T, D", (*ids.shape, dW.shape[1]))
        dW.fill(0)
        # dW[ids] += dout would keep only one of the gradients of a repeated id.
        np.add.at(dW, ids, dout)


class TimeAffine(Layer):
    """Apply one affine map to every step.

        out[n, t] = xs[n, t] @ W + b

    Backward. All N * T positions share W and b, so that their gradients add up. With xs and dout flattened to
    N * T rows:

        dW  = xs' @ dout        db = sum of dout over the rows
        dxs = dout @ W'

    Args:
        W: (H, V), float.
        b: (V,), float.

    Raises:
        ValueError: the shapes do not fit each other.
        TypeError: a parameter is of an integer type.

    Examples:
        >>> affine = TimeAffine(np.full((2, 1), 3.0), np.ones(1))
        >>> affine.forward(np.ones((1, 2, 2)))
        array([[[7.],
                [7.]]])
        >>> affine.backward(np.ones((1, 2, 1)))
        array([[[3., 3.],
                [3., 3.]]])
        >>> affine.grads
        [array([[2.],
               [2.]]), array([2.])]
    """

    def __init__(self, W: Array, b: Array) -> None:
        check_shape("TimeAffine", "W", W, "H, V", (None, None))
        check_shape("TimeAffine", "b", b, "V", (W.shape[1],))
        super().__init__(W, b)

    def forward(self, xs: Array) -> Array:
        """Compute xs @ W + b at every step.

        Args:
            xs: (N, T, H), float.

        Returns:
            (N, T, V).

        Raises:
            ValueError: the shape does not fit W.

        Examples:
            >>> TimeAffine(np.ones((2, 5)), np.zeros(5)).forward(np.ones((3, 4, 2))).shape
            (3, 4, 5)
        """
        W, b = self.params
        check_shape("TimeAffine.forward", "xs", xs, "N, T, H", (None, None, W.shape[0]))
        self.cache = (xs,)
        out: Array = xs @ W + b
        return out

    def backward(self, dout: Array) -> Array:
        """Take the gradient back through the latest forward, by the equations of the class.

        Args:
            dout: (N, T, V), dL/dout.

        Returns:
            dxs, (N, T, H). `grads` then holds dW and db.

        Raises:
            ValueError: there was no forward, or the shape is not that of its output.

        Examples:
            >>> affine = TimeAffine(np.ones((2, 5)), np.zeros(5))
            >>> out = affine.forward(np.ones((3, 4, 2)))
            >>> affine.backward(np.ones((3, 4, 5))).shape
            (3, 4, 2)
        """
        W, _ = self.params
        (xs,) = self._kept()
        H, V = W.shape
        check_shape("TimeAffine.backward", "dout", dout, "N, T, V", (*xs.shape[:2], V))
        rows = dout.reshape(-1, V)
        self._set_grads(xs.reshape(-1, H).T @ rows, rows.sum(axis=0))
        dxs: Array = dout @ W.T
        return dxs


class TimeSoftmaxWithLoss(Layer):
    """Compute the mean cross-entropy, in nats, of the softmax of the logits.

    With M the number of positions whose target is not `ignore_label`, and the sums over these alone:

        p[n, t, v] = exp(logits[n, t, v]) / sum over u of exp(logits[n, t, u])
        loss       = -(1 / M) * sum of log p[n, t, targets[n, t]]

    It is computed with the row's largest logit subtracted, which changes no p and lets no exp overflow.

    Backward. With log p_k = y_k - log(sum of exp(y)) the derivative of -log p_k is d/dy_v = p_v - [v = k]:

        dlogits[n, t, v] = (dout / M) * (p[n, t, v] - [v = targets[n, t]]), and zero where ignored

    Args:
        ignore_label: the target that marks a position that does not count. It may be one of 0..V-1.

    Examples:
        >>> head = TimeSoftmaxWithLoss()
        >>> loss = head.forward(np.zeros((1, 2, 4)), np.array([[3, -1]]))
        >>> bool(np.isclose(loss, np.log(4)))
        True
        >>> head.backward()
        array([[[ 0.25,  0.25,  0.25, -0.75],
                [ 0.  ,  0.  ,  0.  ,  0.  ]]])
    """

    def __init__(self, ignore_label: int = -1) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def forward(self, logits: Array, targets: Array) -> Scalar:
        """Compute the mean loss over the positions that count.

        Args:
            logits: (N, T, V), float.
            targets: (N, T), integers of 0..V-1, or `ignore_label`.

        Returns:
            The loss in nats for each position, a scalar of the logits' dtype.

        Raises:
            ValueError: a shape does not fit, a target is out of range, or every position is ignored.
            TypeError: the targets are not of an integer type.

        Examples:
            >>> logits = np.array([[[1000.0, 0.0]]])
            >>> float(TimeSoftmaxWithLoss().forward(logits, np.array([[1]])))
            1000.0
        """
        name = "TimeSoftmaxWithLoss.forward"
        check_shape(name, "logits", logits, "N, T, V", (None, None, None))
        check_shape(name, "targets", targets, "N, T", logits.shape[:2])
        mask = targets != self.ignore_label
        rows, labels = logits[mask], targets[mask]  # (M, V) and (M,)
        M = len(labels)
        if M == 0:
            raise _nothing_counts(name, targets, self.ignore_label)
        check_labels(name, "targets", labels, logits.shape[2])
        # The real part: complex numbers, which a complex-step check sends through here, have no order.
        rows = rows - rows.real.max(axis=1, keepdims=True)
        log_p = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
        self.cache = (mask, labels, np.exp(log_p))
        loss: Scalar = -log_p[np.arange(M), labels].mean()
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """Compute dlogits by the equation of the class.

        Args:
            dout: dL/dloss, a number.

        Returns:
            dlogits, (N, T, V).

        Raises:
            ValueError: there was no forward.

        Examples:
            >>> head = TimeSoftmaxWithLoss()
            >>> loss = head.forward(np.zeros((1, 1, 2)), np.array([[0]]))
            >>> head.backward(2.0)
            array([[[-1.,  1.]]])
        """
        mask, labels, p = self._kept()
        M, V = p.shape
        rows = p.copy()
        rows[np.arange(M), labels] -= 1
        dlogits = np.zeros((*mask.shape, V), dtype=p.dtype)
        dlogits[mask] = rows * (dout / M)
        return dlogits


class TimeSigmoidWithLoss(Layer):
    """Compute the mean binary cross-entropy, in nats, of the sigmoid of the logits, one yes-or-no question per step.

    With z for logits[n, t] and t for targets[n, t], M the number of positions whose target is not
    `ignore_label`, and the sum over these alone:

        p    = sigmoid(z)
        loss = -(1 / M) * sum of t * log p + (1 - t) * log(1 - p)

    It is computed as max(z, 0) - t * z + log(1 + exp(-|z|)), in which no exp overflows and no log is of 0.

    Backward. With dp/dz = p * (1 - p) the two terms give -t * (1 - p) + (1 - t) * p = p - t:

        dlogits[n, t] = (dout / M) * (p - t), and zero where ignored

    Args:
        ignore_label: the target that marks a position that does not count.

    Examples:
        >>> head = TimeSigmoidWithLoss()
        >>> loss = head.forward(np.zeros((1, 3)), np.array([[1, 0, -1]]))
        >>> bool(np.isclose(loss, np.log(2)))
        True
        >>> head.backward()
        array([[-0.25,  0.25,  0.  ]])
    """

    def __init__(self, ignore_label: int = -1) -> None:
        super().__init__()
        self.ignore_label = ignore_label

    def forward(self, logits: Array, targets: Array) -> Scalar:
        """Compute the mean loss over the positions that count.

        Args:
            logits: (N, T), float.
            targets: (N, T), the probability of yes, in [0, 1] (so 0 and 1, or booleans), or `ignore_label`.

        Returns:
            The loss in nats for each position, a scalar of the logits' dtype.

        Raises:
            ValueError: a shape does not fit, a target is out of range, or every position is ignored.

        Examples:
            >>> float(TimeSigmoidWithLoss().forward(np.array([[1000.0, -1000.0]]), np.array([[0, 0]])))
            500.0
        """
        name = "TimeSigmoidWithLoss.forward"
        check_shape(name, "logits", logits, "N, T", (None, None))
        check_shape(name, "targets", targets, "N, T", logits.shape)
        mask = targets != self.ignore_label
        z, t = logits[mask], targets[mask].astype(logits.real.dtype)  # (M,) each
        if not t.size:
            raise _nothing_counts(name, targets, self.ignore_label)
        outside = t[~((t >= 0) & (t <= 1))]
        if outside.size:
            raise ValueError(f"{name}: targets must lie in [0, 1], got {outside[0]}; check the labels")
        # By the real part: complex numbers, which a complex-step check sends through here, have no order.
        positive = z.real > 0
        nats = np.where(positive, z, 0) - t * z + np.log1p(np.exp(np.where(positive, -z, z)))
        self.cache = (mask, sigmoid(z) - t)
        loss: Scalar = nats.mean()
        return loss

    def backward(self, dout: float = 1.0) -> Array:
        """Compute dlogits by the equation of the class.

        Args:
            dout: dL/dloss, a number.

        Returns:
            dlogits, (N, T).

        Raises:
            ValueError: there was no forward.

        Examples:
            >>> head = TimeSigmoidWithLoss()
            >>> loss = head.forward(np.zeros((1, 1)), np.array([[0]]))
            >>> head.backward(2.0)
            array([[1.]])
        """
        mask, difference = self._kept()
        dlogits = np.zeros(mask.shape, dtype=difference.dtype)
        dlogits[mask] = difference * (dout / difference.size)
        return dlogits


def _nothing_counts(function: str, targets: Array, ignore_label: int) -> ValueError:
    return ValueError(
        f"{function}: all {targets.size} targets are the ignored label {ignore_label}, "
        "so that the mean is over nothing; leave such a batch out"
    )
