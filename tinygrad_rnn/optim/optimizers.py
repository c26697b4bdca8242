"""Optimizers: from gradients to new parameters.

In the equations p is a parameter, g its gradient, lr the learning rate, t = 1, 2, ... the update. Weight decay leaves
out parameters with fewer than two axes: biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import flag, number
from ..errors import ConfigError
from .base import Optimizer


class SGD(Optimizer):
    """Gradient descent: p <- p - lr * g. Source: Robbins and Monro 1951.

    Args:
        lr: learning rate, above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([1.0], requires_grad=True)
    >>> SGD(lr=0.1).update({"x": x}, {"x": np.array([2.0])})
    >>> x.data
    array([0.8])
    """

    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return p - lr * g."""
        return p - lr * g


class Momentum(Optimizer):
    """Gradient descent with momentum: v <- momentum * v + g,  p <- p - lr * v.

    With `nesterov`, p <- p - lr * (g + momentum * v). Sources: Polyak 1964; Sutskever et al. 2013, On the importance
    of initialization and momentum, where lr stands inside v.

    Args:
        lr: learning rate, above 0.
        momentum: in [0, 1).
        nesterov: look ahead.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x, optimizer = tr.tensor([1.0], requires_grad=True), Momentum(lr=0.1, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.update({"x": x}, {"x": np.array([2.0])})
    >>> x.data  # 1 - 0.1 * 2 - 0.1 * 3
    array([0.5])
    """

    slots = ("v",)

    def __init__(self, lr: float, momentum: float = 0.9, nesterov: bool = False, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.momentum = number(self.name, "momentum", momentum, low=0, high=1, below=True)
        self.nesterov = flag(self.name, "nesterov", nesterov)

    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return p - lr * v, or p - lr * (g + momentum * v)."""
        v = state["v"] = self.momentum * state["v"] + g
        return p - lr * (g + self.momentum * v if self.nesterov else v)


class RMSprop(Optimizer):
    """Divide by a running size of the gradient: v <- alpha * v + (1 - alpha) * g^2,  p <- p - lr * g / (sqrt(v) + eps).

    Source: Tieleman and Hinton 2012, lecture 6.5.

    Args:
        lr: learning rate, above 0.
        alpha: how slowly v forgets, in [0, 1).
        eps: above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([1.0], requires_grad=True)
    >>> RMSprop(lr=0.1, alpha=0.75).update({"x": x}, {"x": np.array([2.0])})
    >>> x.data.round(6)  # 1 - 0.1 * 2 / sqrt(0.25 * 4)
    array([0.8])
    """

    slots = ("v",)

    def __init__(self, lr: float, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.alpha = number(self.name, "alpha", alpha, low=0, high=1, below=True)
        self.eps = number(self.name, "eps", eps, low=0, above=True)

    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return p - lr * g / (sqrt(v) + eps)."""
        v = state["v"] = self.alpha * state["v"] + (1 - self.alpha) * g * g
        return p - lr * g / (np.sqrt(v) + self.eps)


class Adam(Optimizer):
    """Adaptive moments, with bias correction. Source: Kingma and Ba 2015, algorithm 1.

    m <- beta1 * m + (1 - beta1) * g,  v <- beta2 * v + (1 - beta2) * g^2,
    p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Args:
        lr: learning rate, above 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([1.0], requires_grad=True)
    >>> Adam(lr=0.1).update({"x": x}, {"x": np.array([2.0])})
    >>> x.data.round(6)  # the first step is lr * sign(g)
    array([0.9])
    """

    slots = ("m", "v")

    def __init__(
        self,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ConfigError(f"{self.name}: betas must be two numbers, (beta1, beta2), got {betas!r}")
        first, second = (
            number(self.name, f"betas[{n}]", beta, low=0, high=1, below=True) for n, beta in enumerate(betas)
        )
        self.betas = first, second
        self.eps = number(self.name, "eps", eps, low=0, above=True)

    def rates(self, lr: float) -> tuple[float, ...]:
        """Return lr / (1 - beta1^t) and 1 / (1 - beta2^t)."""
        t = self.steps + 1
        return lr / (1 - self.betas[0] ** t), 1 / (1 - self.betas[1] ** t)

    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return p - lr * corrected m / (sqrt(corrected v) + eps)."""
        beta1, beta2 = self.betas
        m = state["m"] = beta1 * state["m"] + (1 - beta1) * g
        v = state["v"] = beta2 * state["v"] + (1 - beta2) * g * g
        corrected, correction = lr[:2]
        return p - corrected * m / (np.sqrt(v * correction) + self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay: Adam's step, and p <- p - lr * weight_decay * p beside it.

    The decay does not pass through the moments. Source: Loshchilov and Hutter 2019, algorithm 2.

    Args:
        lr: learning rate, above 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: above 0.
        weight_decay: decay, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> W = tr.tensor([[1.0]], requires_grad=True)
    >>> AdamW(lr=0.1, weight_decay=0.5).update({"W": W}, {"W": np.array([[2.0]])})
    >>> W.data.round(6)  # 1 - 0.1 - 0.1 * 0.5 * 1
    array([[0.85]])
    """

    def __init__(
        self,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay)

    def rates(self, lr: float) -> tuple[float, ...]:
        """Return Adam's rates and lr * weight_decay."""
        return *super().rates(lr), lr * self.weight_decay

    def rule(self, p: Any, g: Any, lr: Any, state: dict[str, Any]) -> Any:
        """Return Adam's new p, less lr * weight_decay * p."""
        new = super().rule(p, g, lr, state)
        return new - lr[2] * p if p.ndim > 1 else new

    def _decayed(self, p: Any, g: Any) -> Any:
        return g
