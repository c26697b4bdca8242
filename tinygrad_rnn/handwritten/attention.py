"""Attention by dot products: how much each state of the encoder counts, and the mean of these states."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.handwritten.base import Array, Layer, check_shape


class AttentionWeight(Layer):
    """Weigh the states of an encoder by how well they fit one query (Luong, Pham and Manning, 2015: dot).

        scores[n, s]  = keys[n, s] . query[n]
        weights[n, s] = exp(scores[n, s]) / sum over u of exp(scores[n, u])

    Backward. With the derivative of the softmax, dweights[s]/dscores[u] = weights[s] * ([s = u] - weights[u]):

        dscores[n, s] = weights[n, s] * (dweights[n, s] - sum over u of weights[n, u] * dweights[n, u])
        dquery[n]     = sum over s of dscores[n, s] * keys[n, s]
        dkeys[n, s]   = dscores[n, s] * query[n]

    Examples:
        >>> layer = AttentionWeight()
        >>> layer.forward(np.zeros((1, 1)), np.array([[[2.0], [4.0]]]))
        array([[0.5, 0.5]])
        >>> dquery, dkeys = layer.backward(np.array([[0.0, 1.0]]))
        >>> dquery  # the second weight grows with (4 - 2) * query / 4
        array([[0.5]])
    """

    def forward(self, query: Array, keys: Array) -> Array:
        """Compute the weights by the equations of the class.

        Args:
            query: (N, H), float, such as a state of the decoder.
            keys: (N, S, H), float, such as the states of the encoder.

        Returns:
            weights, (N, S), which add up to 1 for each n.

        Raises:
            ValueError: the shapes do not fit each other.

        Examples:
            >>> AttentionWeight().forward(np.ones((2, 3)), np.ones((2, 4, 3)))[0]
            array([0.25, 0.25, 0.25, 0.25])
        """
        check_shape("AttentionWeight.forward", "keys", keys, "N, S, H", (None, None, None))
        N, _, H = keys.shape
        check_shape("AttentionWeight.forward", "query", query, "N, H", (N, H))
        scores = (keys * query[:, None]).sum(axis=2)
        # The largest score is subtracted, which changes no weight and lets no exp overflow.
        exps = np.exp(scores - scores.real.max(axis=1, keepdims=True))
        weights: Array = exps / exps.sum(axis=1, keepdims=True)
        self.cache = (query, keys, weights)
        return weights

    def backward(self, dweights: Array) -> tuple[Array, Array]:
        """Take the gradient back through the latest forward, by the equations of the class.

        Args:
            dweights: (N, S), dL/dweights.

        Returns:
            dquery, (N, H), and dkeys, (N, S, H).

        Raises:
            ValueError: there was no forward, or the shape is not that of the weights.

        Examples:
            >>> layer = AttentionWeight()
            >>> weights = layer.forward(np.ones((2, 3)), np.ones((2, 4, 3)))
            >>> [grad.shape for grad in layer.backward(np.ones((2, 4)))]
            [(2, 3), (2, 4, 3)]
        """
        query, keys, weights = self._kept()
        check_shape("AttentionWeight.backward", "dweights", dweights, "N, S", weights.shape)
        dscores = weights * (dweights - (weights * dweights).sum(axis=1, keepdims=True))
        dquery = (dscores[:, :, None] * keys).sum(axis=1)
        dkeys = dscores[:, :, None] * query[:, None]
        return dquery, dkeys


class WeightSum(Layer):
    """Add up the states of an encoder by their weights.

        context[n] = sum over s of weights[n, s] * keys[n, s]

    Backward. Each weight and each key stands in one product:

        dweights[n, s] = keys[n, s] . dcontext[n]
        dkeys[n, s]    = weights[n, s] * dcontext[n]

    Examples:
        >>> layer = WeightSum()
        >>> layer.forward(np.array([[0.25, 0.75]]), np.array([[[4.0], [8.0]]]))
        array([[7.]])
        >>> dweights, dkeys = layer.backward(np.ones((1, 1)))
        >>> dweights
        array([[4., 8.]])
    """

    def forward(self, weights: Array, keys: Array) -> Array:
        """Compute the context by the equation of the class.

        Args:
            weights: (N, S), float.
            keys: (N, S, H), float.

        Returns:
            context, (N, H).

        Raises:
            ValueError: the shapes do not fit each other.

        Examples:
            >>> WeightSum().forward(np.full((2, 4), 0.25), np.ones((2, 4, 3))).shape
            (2, 3)
        """
        check_shape("WeightSum.forward", "keys", keys, "N, S, H", (None, None, None))
        check_shape("WeightSum.forward", "weights", weights, "N, S", keys.shape[:2])
        self.cache = (weights, keys)
        context: Array = (weights[:, :, None] * keys).sum(axis=1)
        return context

    def backward(self, dcontext: Array) -> tuple[Array, Array]:
        """Take the gradient back through the latest forward, by the equations of the class.

        Args:
            dcontext: (N, H), dL/dcontext.

        Returns:
            dweights, (N, S), and dkeys, (N, S, H).

        Raises:
            ValueError: there was no forward, or the shape is not that of the context.

        Examples:
            >>> layer = WeightSum()
            >>> context = layer.forward(np.full((2, 4), 0.25), np.ones((2, 4, 3)))
            >>> [grad.shape for grad in layer.backward(np.ones((2, 3)))]
            [(2, 4), (2, 4, 3)]
        """
        weights, keys = self._kept()
        N, _, H = keys.shape
        check_shape("WeightSum.backward", "dcontext", dcontext, "N, H", (N, H))
        dweights = (keys * dcontext[:, None]).sum(axis=2)
        dkeys = weights[:, :, None] * dcontext[:, None]
        return dweights, dkeys


class Attention(Layer):
    """Attend to the states of an encoder from one query: AttentionWeight, then WeightSum.

        weights = AttentionWeight(query, keys)
        context = WeightSum(weights, keys)

    Backward. The keys are used twice, in the weights and in the sum, so that dkeys is the sum of both parts.

    Examples:
        >>> layer = Attention()
        >>> layer.forward(np.zeros((1, 1)), np.array([[[2.0], [4.0]]]))
        array([[3.]])
        >>> dquery, dkeys = layer.backward(np.ones((1, 1)))
        >>> dquery, dkeys.ravel()  # the variance of the keys; their weights
        (array([[1.]]), array([0.5, 0.5]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = AttentionWeight()
        self.sum = WeightSum()

    def forward(self, query: Array, keys: Array) -> Array:
        """Compute the context of one query.

        Args:
            query: (N, H), float.
            keys: (N, S, H), float.

        Returns:
            context, (N, H).

        Raises:
            ValueError: the shapes do not fit each other.

        Examples:
            >>> Attention().forward(np.ones((2, 3)), np.ones((2, 4, 3))).shape
            (2, 3)
        """
        weights = self.weight.forward(query, keys)
        self.cache = (weights,)
        return self.sum.forward(weights, keys)

    def backward(self, dcontext: Array) -> tuple[Array, Array]:
        """Take the gradient back through the latest forward.

        Args:
            dcontext: (N, H), dL/dcontext.

        Returns:
            dquery, (N, H), and dkeys, (N, S, H).

        Raises:
            ValueError: there was no forward, or the shape is not that of the context.

        Examples:
            >>> layer = Attention()
            >>> context = layer.forward(np.ones((2, 3)), np.ones((2, 4, 3)))
            >>> [grad.shape for grad in layer.backward(np.ones((2, 3)))]
            [(2, 3), (2, 4, 3)]
        """
        dweights, dkeys_by_sum = self.sum.backward(dcontext)
        dquery, dkeys_by_weight = self.weight.backward(dweights)
        return dquery, dkeys_by_sum + dkeys_by_weight


class TimeAttention(Layer):
    """Attend to the states of an encoder from each step of a decoder.

        contexts[:, t] = Attention(queries[:, t], keys)        for t = 1 .. T

    Backward. All T steps share the keys, so that dkeys is the sum of what the steps give.

    Examples:
        >>> layer = TimeAttention()
        >>> layer.forward(np.zeros((1, 2, 1)), np.array([[[2.0], [4.0]]]))
        array([[[3.],
                [3.]]])
        >>> dqueries, dkeys = layer.backward(np.ones((1, 2, 1)))
        >>> dkeys.ravel()
        array([1., 1.])
    """

    def forward(self, queries: Array, keys: Array) -> Array:
        """Compute the context of each step.

        Args:
            queries: (N, T, H), float, such as the states of the decoder.
            keys: (N, S, H), float, such as those of the encoder.

        Returns:
            contexts, (N, T, H).

        Raises:
            ValueError: the shapes do not fit each other.

        Examples:
            >>> TimeAttention().forward(np.ones((2, 5, 3)), np.ones((2, 4, 3))).shape
            (2, 5, 3)
        """
        check_shape("TimeAttention.forward", "keys", keys, "N, S, H", (None, None, None))
        N, _, H = keys.shape
        check_shape("TimeAttention.forward", "queries", queries, "N, T, H", (N, None, H))
        steps = [Attention() for _ in range(queries.shape[1])]  # each keeps what its own backward will need
        self.cache = (queries.shape, steps)
        return np.stack([step.forward(queries[:, t], keys) for t, step in enumerate(steps)], axis=1)

    @property
    def weights(self) -> Array | None:
        """Return the weights of the latest forward, (N, T, S); None before the first.

        Examples:
            >>> layer = TimeAttention()
            >>> contexts = layer.forward(np.zeros((1, 2, 3)), np.ones((1, 4, 3)))
            >>> layer.weights
            array([[[0.25, 0.25, 0.25, 0.25],
                    [0.25, 0.25, 0.25, 0.25]]])
        """
        return None if self.cache is None else np.stack([step.cache[0] for step in self.cache[1]], axis=1)

    def backward(self, dcontexts: Array) -> tuple[Array, Array]:
        """Take the gradient back through the latest forward.

        Args:
            dcontexts: (N, T, H), dL/dcontexts.

        Returns:
            dqueries, (N, T, H), and dkeys, (N, S, H).

        Raises:
            ValueError: there was no forward, or the shape is not that of the contexts.

        Examples:
            >>> layer = TimeAttention()
            >>> contexts = layer.forward(np.ones((2, 5, 3)), np.ones((2, 4, 3)))
            >>> [grad.shape for grad in layer.backward(np.ones((2, 5, 3)))]
            [(2, 5, 3), (2, 4, 3)]
        """
        shape, steps = self._kept()
        check_shape("TimeAttention.backward", "dcontexts", dcontexts, "N, T, H", shape)
        dqueries, dkeys = zip(*[step.backward(dcontexts[:, t]) for t, step in enumerate(steps)], strict=True)
        return np.stack(dqueries, axis=1), np.sum(dkeys, axis=0)
