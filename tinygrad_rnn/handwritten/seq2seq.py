"""An encoder, a decoder with or without attention and peek, and the model of both."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.handwritten.attention import TimeAttention
from tinygrad_rnn.handwritten.base import Array, Layer, Scalar, check_shape
from tinygrad_rnn.handwritten.layers import TimeAffine, TimeEmbedding, TimeSoftmaxWithLoss
from tinygrad_rnn.handwritten.lstm import TimeLSTM


class Encoder(Layer):
    """Read a source: TimeEmbedding, then TimeLSTM from zeros (Sutskever, Vinyals and Le, 2014).

    It returns the states hs of all steps, the last of which is the decoder's first h, and the last memory cell c.
    Backward, the gradients of both go through the LSTM and into the embedding.

    Args:
        embedding: (V, D), float.
        Wx: (D, 4H), float; columns in the order i, f, o, g.
        Wh: (H, 4H), float.
        b: (4H,), float.

    Attributes:
        params: the four of the arguments, the same arrays.
        grads: list of arrays of the same shapes and order, those of the layers.

    Raises:
        ValueError: the shapes do not fit each other.

    Examples:
        >>> encoder = Encoder(np.ones((5, 3)), np.ones((3, 8)), np.ones((2, 8)), np.zeros(8))
        >>> hs, c = encoder.forward(np.array([[1, 4, 0]]))
        >>> hs.shape, c.shape
        ((1, 3, 2), (1, 2))
        >>> encoder.backward(np.ones_like(hs), np.zeros_like(c))
        >>> [grad.shape for grad in encoder.grads]
        [(5, 3), (3, 8), (2, 8), (8,)]
    """

    def __init__(self, embedding: Array, Wx: Array, Wh: Array, b: Array) -> None:
        self.embedding = TimeEmbedding(embedding)
        self.lstm = TimeLSTM(Wx, Wh, b)
        check_shape("Encoder", "Wx", Wx, "D, 4H", (embedding.shape[1], Wx.shape[1]))
        super().__init__(*self.embedding.params, *self.lstm.params)
        self.grads: list[Array] = [*self.embedding.grads, *self.lstm.grads]

    def forward(self, ids: Array) -> tuple[Array, Array]:
        """Read the sources.

        Args:
            ids: (N, S), integers of 0..V-1.

        Returns:
            hs, (N, S, H), the state after each step, and c, (N, H), the memory cell after the last.

        Raises:
            ValueError: the shape does not fit, or an id is out of range.

        Examples:
            >>> encoder = Encoder(np.ones((5, 3)), np.zeros((3, 8)), np.zeros((2, 8)), np.zeros(8))
            >>> encoder.forward(np.array([[1, 4]]))[1]
            array([[0., 0.]])
        """
        hs = self.lstm.forward(self.embedding.forward(ids))
        c = self.lstm.c
        assert c is not None  # it is, after a forward
        return hs, c

    def backward(self, dhs: Array, dc: Array) -> None:
        """Write the gradients into `grads`. Ids have no gradient, so that nothing is returned.

        Args:
            dhs: (N, S, H), dL/dhs.
            dc: (N, H), dL/dc, without the part that goes through hs.

        Raises:
            ValueError: there was no forward, or a shape is not that of its outputs.

        Examples:
            >>> encoder = Encoder(np.ones((1, 1)), np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(4))
            >>> hs, c = encoder.forward(np.array([[0]]))
            >>> encoder.backward(np.zeros((1, 1, 1)), np.ones((1, 1)))
            >>> encoder.grads[3]  # c = i * g with i = 0.5 and g = tanh(0)
            array([0. , 0. , 0. , 0.5])
        """
        self.embedding.backward(self.lstm.backward(dhs, (np.zeros_like(dc), dc)))


class Decoder(Layer):
    """Predict a target step by step, from the states (keys) and the last memory cell (c) of an encoder.

    With last = keys[:, -1], and y_t the id before the one that step t predicts:

        x_t      = embedding[y_t]                               peek: with last beside it (Cho et al., 2014)
        h_t      = LSTM(x_t, h_{t-1}, c_{t-1})                  h_0 = last, c_0 = c
        logits_t = [h_t, context_t, last] @ W_out + b_out       context_t = Attention(h_t, keys)

    The logits depend on context_t only with attention, and on last only with peek.

    Backward. The gradient of the affine map's input splits into parts for h_t, context_t and last, and with peek
    that of the LSTM's input into parts for the embedding and last. h_t and last are used in several places, so that
    their gradients are sums:

        dh_t  = the affine map's part + the attention's dquery
        dkeys = the attention's dkeys (zero without attention), plus dlast at the last step
        dlast = dh_0 + sum over t of the affine map's and the LSTM's parts
        dc    = dc_0

    Args:
        embedding: (V, D), float.
        Wx: (D, 4H), float; with peek (D + H, 4H). Columns in the order i, f, o, g.
        Wh: (H, 4H), float.
        b: (4H,), float.
        W_out: (H, V), float; H rows more with attention, and H more with peek.
        b_out: (V,), float.
        attention: whether each step attends to the encoder's states, by dot products.
        peek: whether each step sees the encoder's last state, beside its input and beside h_t.

    Attributes:
        params: the six of the arguments, the same arrays.
        grads: list of arrays of the same shapes and order, those of the layers.

    Raises:
        ValueError: the shapes do not fit each other.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> weights = [rng.standard_normal(shape) for shape in [(5, 3), (3, 8), (2, 8), (8,), (4, 5), (5,)]]
        >>> decoder = Decoder(*weights, attention=True)
        >>> keys, c = rng.standard_normal((1, 6, 2)), rng.standard_normal((1, 2))
        >>> logits = decoder.forward(np.array([[1, 4, 0]]), keys, c)
        >>> dkeys, dc = decoder.backward(np.ones_like(logits))
        >>> logits.shape, dkeys.shape, dc.shape
        ((1, 3, 5), (1, 6, 2), (1, 2))
    """

    def __init__(
        self,
        embedding: Array,
        Wx: Array,
        Wh: Array,
        b: Array,
        W_out: Array,
        b_out: Array,
        attention: bool = False,
        peek: bool = False,
    ) -> None:
        self.embedding = TimeEmbedding(embedding)
        self.lstm = TimeLSTM(Wx, Wh, b, stateful=True)
        self.attention = TimeAttention() if attention else None
        self.peek = peek
        self.affine = TimeAffine(W_out, b_out)
        D, H = embedding.shape[1], Wh.shape[0]
        check_shape("Decoder", "Wx", Wx, f"{'D+H' if peek else 'D'}, 4H", (D + H * peek, Wx.shape[1]))
        parts = 1 + attention + peek
        check_shape("Decoder", "W_out", W_out, f"{parts}H, V", (parts * H, W_out.shape[1]))
        super().__init__(*self.embedding.params, *self.lstm.params, *self.affine.params)
        self.grads: list[Array] = [*self.embedding.grads, *self.lstm.grads, *self.affine.grads]

    def forward(self, ids: Array, keys: Array, c: Array) -> Array:
        """Compute the logits of the id after each of these, by the equations of the class.

        Args:
            ids: (N, T), integers of 0..V-1.
            keys: (N, S, H), the states of the encoder.
            c: (N, H), its last memory cell.

        Returns:
            The logits, (N, T, V).

        Raises:
            ValueError: a shape does not fit, or an id is out of range.

        Examples:
            >>> shapes = [(5, 3), (5, 8), (2, 8), (8,), (4, 5), (5,)]
            >>> decoder = Decoder(*[np.ones(shape) for shape in shapes], peek=True)
            >>> decoder.forward(np.array([[1, 4, 0]]), np.ones((1, 6, 2)), np.ones((1, 2))).shape
            (1, 3, 5)
        """
        xs = self.embedding.forward(ids)
        N, T, H = *ids.shape, self.lstm.params[1].shape[0]
        check_shape("Decoder.forward", "keys", keys, "N, S, H", (N, None, H))
        check_shape("Decoder.forward", "c", c, "N, H", (N, H))
        last = keys[:, -1]
        repeated = np.repeat(last[:, None], T, axis=1)
        self.lstm.set_state(last, c)
        hs = self.lstm.forward(np.concatenate([xs, repeated], axis=2) if self.peek else xs)
        parts = [hs]
        if self.attention is not None:
            parts.append(self.attention.forward(hs, keys))
        if self.peek:
            parts.append(repeated)
        self.cache = (keys,)
        return self.affine.forward(np.concatenate(parts, axis=2))

    def backward(self, dlogits: Array) -> tuple[Array, Array]:
        """Take the gradient back through the latest forward, by the equations of the class.

        Args:
            dlogits: (N, T, V), dL/dlogits.

        Returns:
            dkeys, (N, S, H), and dc, (N, H). `grads` then holds those of the parameters.

        Raises:
            ValueError: there was no forward, or the shape is not that of the logits.

        Examples:
            >>> shapes = [(5, 3), (3, 8), (2, 8), (8,), (2, 5), (5,)]
            >>> decoder = Decoder(*[np.ones(shape) for shape in shapes])
            >>> logits = decoder.forward(np.array([[1, 4]]), np.ones((1, 3, 2)), np.ones((1, 2)))
            >>> dkeys, dc = decoder.backward(np.ones_like(logits))
            >>> bool(dkeys[:, :2].any())  # without attention the last state alone is used
            False
        """
        (keys,) = self._kept()
        D, H = self.params[0].shape[1], keys.shape[2]
        dinputs = self.affine.backward(dlogits)
        dhs, dkeys = dinputs[:, :, :H], np.zeros_like(keys)
        if self.attention is not None:
            dqueries, dkeys = self.attention.backward(dinputs[:, :, H : 2 * H])
            dhs = dhs + dqueries
        dxs = self.lstm.backward(dhs)
        self.embedding.backward(dxs[:, :, :D])
        dlast, dc = self.lstm.dh, self.lstm.dc
        assert dlast is not None  # they are, after a backward
        assert dc is not None
        if self.peek:
            dlast = dlast + (dxs[:, :, D:] + dinputs[:, :, -H:]).sum(axis=1)
        dkeys[:, -1] += dlast
        return dkeys, dc


class Seq2Seq(Layer):
    """Translate sequences: Encoder, Decoder, TimeSoftmaxWithLoss.

    In training the decoder reads the true ids (teacher forcing): of a target y_0 .. y_T it reads y_0 .. y_{T-1} and
    predicts y_1 .. y_T. Backward, the decoder's dkeys and dc are the gradients of the encoder's outputs.

    Args:
        encoder: reads the sources.
        decoder: predicts the targets.
        ignore_label: the target that marks a position that does not count, after the end of a target.

    Attributes:
        params: the encoder's, then the decoder's, the same arrays.
        grads: list of arrays of the same shapes and order; `backward` overwrites them in place.

    Raises:
        ValueError: the encoder and the decoder differ in H.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> encoder = Encoder(*[rng.standard_normal(shape) for shape in [(5, 3), (3, 8), (2, 8), (8,)]])
        >>> shapes = [(6, 3), (3, 8), (2, 8), (8,), (4, 6), (6,)]
        >>> model = Seq2Seq(encoder, Decoder(*[rng.standard_normal(shape) for shape in shapes], attention=True))
        >>> sources, targets = np.array([[1, 4, 2]]), np.array([[0, 5, 3]])
        >>> before = model.forward(sources, targets)
        >>> model.backward()
        >>> for param, grad in zip(model.params, model.grads):
        ...     param -= 0.1 * grad
        >>> bool(model.forward(sources, targets) < before)
        True
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, ignore_label: int = -1) -> None:
        ours, theirs = (part.lstm.params[1].shape[0] for part in (encoder, decoder))
        if ours != theirs:
            raise ValueError(f"Seq2Seq: the encoder has H={ours}, the decoder H={theirs}; give both the same H")
        super().__init__(*encoder.params, *decoder.params)
        self.grads: list[Array] = [*encoder.grads, *decoder.grads]
        self.encoder, self.decoder = encoder, decoder
        self.loss_layer = TimeSoftmaxWithLoss(ignore_label)

    def predict(self, sources: Array, ids: Array) -> Array:
        """Compute the logits of the id after each of these.

        Args:
            sources: (N, S), integers of 0..V-1 of the encoder.
            ids: (N, T), integers of 0..V-1 of the decoder, the one that begins a target first.

        Returns:
            The logits, (N, T, V).

        Raises:
            ValueError: a shape does not fit, or an id is out of range.

        Examples:
            >>> encoder = Encoder(np.ones((5, 3)), np.ones((3, 8)), np.ones((2, 8)), np.ones(8))
            >>> shapes = [(6, 3), (3, 8), (2, 8), (8,), (2, 6), (6,)]
            >>> model = Seq2Seq(encoder, Decoder(*[np.ones(shape) for shape in shapes]))
            >>> model.predict(np.array([[1, 4, 2]]), np.array([[0, 5]])).shape
            (1, 2, 6)
        """
        return self.decoder.forward(ids, *self.encoder.forward(sources))

    def forward(self, sources: Array, targets: Array) -> Scalar:
        """Compute the mean loss of the targets, each id predicted from those before it.

        Args:
            sources: (N, S), integers of 0..V-1 of the encoder.
            targets: (N, T + 1), integers of 0..V-1 of the decoder, or `ignore_label` after the end of a target.
                The first column begins the targets and is not predicted.

        Returns:
            The loss in nats for each position, a scalar of the weights' dtype.

        Raises:
            ValueError: a shape does not fit, or an id is out of range.

        Examples:
            >>> encoder = Encoder(np.ones((5, 3)), np.ones((3, 8)), np.ones((2, 8)), np.ones(8))
            >>> shapes = [(6, 3), (3, 8), (2, 8), (8,), (2, 6), (6,)]
            >>> model = Seq2Seq(encoder, Decoder(*[np.ones(shape) for shape in shapes]))
            >>> loss = model.forward(np.array([[1, 4, 2]]), np.array([[0, 5, 3]]))
            >>> bool(np.isclose(loss, np.log(6)))  # equal weights make equal logits
            True
        """
        check_shape("Seq2Seq.forward", "targets", targets, "N, T+1", (None, None))
        # What follows an ignored id is ignored, too, so that the decoder may read any id in its place.
        ids = np.where(targets == self.loss_layer.ignore_label, 0, targets)[:, :-1]
        return self.loss_layer.forward(self.predict(sources, ids), targets[:, 1:])

    def backward(self) -> None:
        """Write the gradient of the latest loss into `grads`.

        Call it right after `forward`: a `predict` in between would replace what the layers have kept.

        Raises:
            ValueError: there was no forward.

        Examples:
            >>> encoder = Encoder(np.ones((5, 3)), np.ones((3, 8)), np.ones((2, 8)), np.ones(8))
            >>> shapes = [(6, 3), (3, 8), (2, 8), (8,), (2, 6), (6,)]
            >>> model = Seq2Seq(encoder, Decoder(*[np.ones(shape) for shape in shapes]))
            >>> loss = model.forward(np.array([[1, 4, 2]]), np.array([[0, 5, 3]]))
            >>> model.backward()
            >>> bool(np.isclose(model.grads[-1].sum(), 0))  # each position's p - onehot sums to 0
            True
        """
        self.encoder.backward(*self.decoder.backward(self.loss_layer.backward()))
