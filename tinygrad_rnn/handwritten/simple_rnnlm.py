"""The textbook's first recurrent language model, from the hand-written layers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinygrad_rnn.handwritten.base import Array, Scalar, check_shape
from tinygrad_rnn.handwritten.layers import TimeAffine, TimeEmbedding, TimeSoftmaxWithLoss
from tinygrad_rnn.handwritten.rnn import TimeRNN


class SimpleRnnlm:
    """Predict the next id at every step: TimeEmbedding, TimeRNN, TimeAffine, TimeSoftmaxWithLoss.

    The initial weights are normal draws from `rng`, in this order: the embedding / 100, Wx / sqrt(D),
    Wh / sqrt(H), the output's W / sqrt(H). Biases are zero. Draws are made in float64 and then rounded to
    `dtype`, so that one seed gives the same model in both precisions.

    Args:
        vocab_size: V.
        embedding_size: D.
        hidden_size: H.
        rng: the generator of the initial weights.
        dtype: float32 or float64.
        stateful: carry the hidden state from one window to the next.

    Attributes:
        params: embedding (V, D), Wx (D, H), Wh (H, H), b (H,), W_out (H, V), b_out (V,): the arrays of the
            layers themselves, so that `p -= lr * g` in place trains the model.
        grads: list of arrays of the same shapes and order; `backward` overwrites them in place.

    Raises:
        ValueError: a size is below 1.

    Examples:
        >>> model = SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(0))
        >>> [param.shape for param in model.params]
        [(5, 3), (3, 4), (4, 4), (4,), (4, 5), (5,)]
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        rng: np.random.Generator,
        dtype: npt.DTypeLike = np.float32,
        stateful: bool = True,
    ) -> None:
        V, D, H = vocab_size, embedding_size, hidden_size
        if min(V, D, H) < 1:
            raise ValueError(
                f"SimpleRnnlm: vocab_size={V}, embedding_size={D} and hidden_size={H} must each be at least 1"
            )
        self._build(
            (rng.standard_normal((V, D)) / 100).astype(dtype),
            (rng.standard_normal((D, H)) / np.sqrt(D)).astype(dtype),
            (rng.standard_normal((H, H)) / np.sqrt(H)).astype(dtype),
            np.zeros(H, dtype=dtype),
            (rng.standard_normal((H, V)) / np.sqrt(H)).astype(dtype),
            np.zeros(V, dtype=dtype),
            stateful,
        )

    @classmethod
    def from_arrays(
        cls,
        *,
        embedding: Array,
        Wx: Array,
        Wh: Array,
        b: Array,
        W_out: Array,
        b_out: Array,
        stateful: bool = True,
    ) -> SimpleRnnlm:
        """Build the model from given weights, such as those of another model to compare with.

        Args:
            embedding: (V, D), float. This and the others are copied.
            Wx: (D, H), float.
            Wh: (H, H), float.
            b: (H,), float.
            W_out: (H, V), float.
            b_out: (V,), float.
            stateful: carry the hidden state from one window to the next.

        Returns:
            The model.

        Raises:
            ValueError: the shapes do not fit each other.

        Examples:
            >>> model = SimpleRnnlm.from_arrays(
            ...     embedding=np.ones((5, 3)), Wx=np.ones((3, 4)), Wh=np.ones((4, 4)), b=np.ones(4),
            ...     W_out=np.zeros((4, 5)), b_out=np.zeros(5))
            >>> model.predict(np.array([[0, 1]])).shape
            (1, 2, 5)
        """
        name = "SimpleRnnlm.from_arrays"
        check_shape(name, "embedding", embedding, "V, D", (None, None))
        V, D = embedding.shape
        check_shape(name, "Wx", Wx, "D, H", (D, None))
        H = Wx.shape[1]
        check_shape(name, "Wh", Wh, "H, H", (H, H))
        check_shape(name, "b", b, "H", (H,))
        check_shape(name, "W_out", W_out, "H, V", (H, V))
        check_shape(name, "b_out", b_out, "V", (V,))
        # Past __init__, which draws: copies, so that training one model leaves the other alone.
        model = cls.__new__(cls)
        model._build(embedding.copy(), Wx.copy(), Wh.copy(), b.copy(), W_out.copy(), b_out.copy(), stateful=stateful)
        return model

    def _build(
        self, embedding: Array, Wx: Array, Wh: Array, b: Array, W_out: Array, b_out: Array, stateful: bool
    ) -> None:
        self.embedding = TimeEmbedding(embedding)
        self.rnn = TimeRNN(Wx, Wh, b, stateful=stateful)
        self.affine = TimeAffine(W_out, b_out)
        self.loss_layer = TimeSoftmaxWithLoss()
        layers = (self.embedding, self.rnn, self.affine)
        self.params: list[Array] = [param for layer in layers for param in layer.params]
        self.grads: list[Array] = [grad for layer in layers for grad in layer.grads]

    def predict(self, ids: Array) -> Array:
        """Compute the logits of the next id at every step. The state of a stateful model moves on.

        Args:
            ids: (N, T), integers of 0..V-1.

        Returns:
            The logits, (N, T, V).

        Raises:
            ValueError: the shape does not fit, an id is out of range, or N is not that of the carried state.

        Examples:
            >>> SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(0)).predict(np.array([[0, 1]])).shape
            (1, 2, 5)
        """
        return self.affine.forward(self.rnn.forward(self.embedding.forward(ids)))

    def forward(self, ids: Array, targets: Array) -> Scalar:
        """Compute the mean loss of a window. The state of a stateful model moves on.

        Args:
            ids: (N, T), integers of 0..V-1.
            targets: (N, T), integers of 0..V-1, or -1 where a position does not count.

        Returns:
            The loss in nats for each position, a scalar of the weights' dtype.

        Raises:
            ValueError: a shape does not fit, an id is out of range, or N is not that of the carried state.

        Examples:
            >>> model = SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(0))
            >>> loss = model.forward(np.array([[0, 1]]), np.array([[1, 2]]))
            >>> round(float(loss), 1)  # an untrained model is near log(5) nats
            1.6
        """
        return self.loss_layer.forward(self.predict(ids), targets)

    def backward(self) -> None:
        """Write the gradient of the latest loss into `grads`; it stops at the window's first state.

        Call it right after `forward`: a `predict` in between would replace what the layers have kept.

        Raises:
            ValueError: there was no forward.

        Examples:
            >>> model = SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(0))
            >>> loss = model.forward(np.array([[0, 1]]), np.array([[1, 2]]))
            >>> model.backward()
            >>> bool(np.isclose(model.grads[5].sum(), 0, atol=1e-6))  # each position's p - onehot sums to 0
            True
        """
        self.embedding.backward(self.rnn.backward(self.affine.backward(self.loss_layer.backward())))

    def reset_state(self) -> None:
        """Forget the carried state: the next window starts from zeros.

        Examples:
            >>> model = SimpleRnnlm(5, 3, 4, rng=np.random.default_rng(0))
            >>> logits = model.predict(np.array([[0, 1]]))
            >>> model.reset_state()
            >>> bool(np.array_equal(model.predict(np.array([[0, 1]])), logits))
            True
        """
        self.rnn.reset_state()
