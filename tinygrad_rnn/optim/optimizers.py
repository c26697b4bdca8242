"""Optimizers: from gradients to new parameters.

In the equations p is a parameter, g its gradient, lr the learning rate, t = 1, 2, ... the number of the update. Weight
decay does not apply to biases, parameters with fewer than two axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..checks import flag, number
from ..errors import ConfigError
from ..ops import maximum
from .base import Rates, Rule, V


class SGD(Rule):
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

    @property
    def divisible(self) -> bool:
        """Whether parameters may be updated in parts; who derives another rule says so of it."""
        return type(self) is SGD

    def rule(self, p: V, g: V, lr: Rates, state: dict[str, V]) -> V:
        """Return p - lr * g."""
        new: V = p - lr * g
        return new


class Momentum(Rule):
    """Gradient descent with momentum: v <- momentum * v + g,  p <- p - lr * v.

    With `nesterov`, p <- p - lr * (g + momentum * v). Sources: Polyak 1964; Sutskever et al. 2013, On the importance
    of initialization and momentum, where lr is inside v.

    Args:
        lr: learning rate, above 0.
        momentum: in [0, 1).
        nesterov: use Nesterov's look-ahead.
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

    def rule(self, p: V, g: V, lr: Rates, state: dict[str, V]) -> V:
        """Return p - lr * v, or p - lr * (g + momentum * v)."""
        v = state["v"] = self.momentum * state["v"] + g
        new: V = p - lr * (g + self.momentum * v if self.nesterov else v)
        return new


class RMSprop(Rule):
    """Divide by a running size of the gradient: v <- alpha * v + (1 - alpha) * g^2,  p <- p - lr * g / (sqrt(v) + eps).

    With `centered`, v - m^2 stands for v, with the running mean m <- alpha * m + (1 - alpha) * g: the variance. With
    `momentum`, p <- p - lr * b, with b <- momentum * b + g / (sqrt(v) + eps). Sources: Tieleman and Hinton 2012,
    lecture 6.5; Graves 2013, Generating sequences with recurrent neural networks, equations 38 to 41, centered.

    Args:
        lr: learning rate, above 0.
        alpha: how slowly v forgets, in [0, 1).
        eps: above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.
        momentum: in [0, 1); 0 turns it off.
        centered: divide by the deviation.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([1.0], requires_grad=True)
    >>> RMSprop(lr=0.1, alpha=0.75).update({"x": x}, {"x": np.array([2.0])})
    >>> x.data.round(6)  # 1 - 0.1 * 2 / sqrt(0.25 * 4)
    array([0.8])
    """

    def __init__(
        self,
        lr: float,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay)
        self.alpha = number(self.name, "alpha", alpha, low=0, high=1, below=True)
        self.eps = number(self.name, "eps", eps, low=0, above=True)
        self.momentum = number(self.name, "momentum", momentum, low=0, high=1, below=True)
        self.centered = flag(self.name, "centered", centered)
        self.slots = ("v", *(("m",) if self.centered else ()), *(("b",) if self.momentum else ()))

    def rule(self, p: V, g: V, lr: Rates, state: dict[str, V]) -> V:
        """Return p - lr * g / (sqrt(v) + eps), or its variant with `centered` and `momentum`."""
        size = v = state["v"] = self.alpha * state["v"] + (1 - self.alpha) * g * g
        if self.centered:
            m = state["m"] = self.alpha * state["m"] + (1 - self.alpha) * g
            size = maximum(v - m * m, 0.0)  # rounding can leave it below 0
        step = g / (np.sqrt(size) + self.eps)
        if self.momentum:
            step = state["b"] = self.momentum * state["b"] + step
        new: V = p - lr * step
        return new


class Adagrad(Rule):
    """Divide by the size of all gradients so far.

    v <- v + g^2,  p <- p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(v + initial) + eps).
    Source: Duchi, Hazan and Singer 2011, Adaptive subgradient methods.

    Args:
        lr: learning rate, above 0.
        lr_decay: how fast the rate falls, 0 or more.
        initial: what v starts with, 0 or more.
        eps: above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x, optimizer = tr.tensor([1.0], requires_grad=True), Adagrad(lr=0.1)
    >>> for g in (3.0, 4.0):
    ...     optimizer.update({"x": x}, {"x": np.array([g])})
    >>> x.data.round(6)  # 1 - 0.1 * 3 / 3 - 0.1 * 4 / 5
    array([0.82])
    """

    slots = ("v",)

    def __init__(
        self, lr: float, lr_decay: float = 0.0, initial: float = 0.0, eps: float = 1e-10, weight_decay: float = 0.0
    ) -> None:
        super().__init__(lr, weight_decay)
        self.lr_decay = number(self.name, "lr_decay", lr_decay, low=0)
        self.initial = number(self.name, "initial", initial, low=0)
        self.eps = number(self.name, "eps", eps, low=0, above=True)

    def rates(self, lr: float) -> float:
        """Return lr / (1 + (t - 1) * lr_decay)."""
        return lr / (1 + self.steps * self.lr_decay)

    def rule(self, p: V, g: V, lr: Rates, state: dict[str, V]) -> V:
        """Return p - lr * g / (sqrt(v) + eps)."""
        v = state["v"] = state["v"] + g * g
        new: V = p - lr * g / (np.sqrt(v + self.initial) + self.eps)
        return new


class Lion(Rule):
    """Step by the sign of a momentum, with decoupled weight decay.

    p <- p - lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p),  m <- beta2 * m + (1 - beta2) * g.
    Its rate is 3 to 10 times smaller than Adam's, its weight decay as many times larger.
    Source: Chen et al. 2023, Symbolic discovery of optimization algorithms, algorithm 2.

    Args:
        lr: learning rate, above 0.
        betas: (beta1, beta2), each in [0, 1).
        weight_decay: decay, not for biases.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([1.0, 1.0, 1.0], requires_grad=True)
    >>> Lion(lr=0.1).update({"x": x}, {"x": np.array([2.0, -1e-3, 0.0])})
    >>> x.data
    array([0.9, 1.1, 1. ])
    """

    slots = ("m",)

    def __init__(self, lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)
        self.betas = _betas(self.name, betas)

    def rates(self, lr: float) -> tuple[float, float]:
        """Return lr and lr * weight_decay."""
        return lr, lr * self.weight_decay

    def rule(self, p: V, g: V, lr: Rates, state: dict[str, V]) -> V:
        """Return p minus a step of lr or -lr in each element, minus the decay."""
        (beta1, beta2), (step, decay) = self.betas, lr
        new: V = p - step * np.sign(beta1 * state["m"] + (1 - beta1) * g)
        state["m"] = beta2 * state["m"] + (1 - beta2) * g
        return new - decay * p if self.weight_decay and p.ndim > 1 else new

    def decayed(self, p: V, g: V) -> V:
        """Return g: the decay is separate from the momentum."""
        return g


class Adam(Rule):
    """Adaptive moments, with bias correction. Source: Kingma and Ba 2015, algorithm 1.

    m <- beta1 * m + (1 - beta1) * g,  v <- beta2 * v + (1 - beta2) * g^2,
    p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).
    With `amsgrad`, the largest v so far replaces v, so rates only fall. Source: Reddi, Kale and Kumar 2018, On the
    convergence of Adam and beyond.

    Args:
        lr: learning rate, above 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: above 0.
        weight_decay: L2 penalty, g <- g + weight_decay * p, not for biases.
        amsgrad: divide by the largest v so far.

    Raises:
        ConfigError: if a setting is out of range.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> x = tr.tensor([1.0], requires_grad=True)
    >>> Adam(lr=0.1).update({"x": x}, {"x": np.array([2.0])})
    >>> x.data.round(6)  # the first step is lr * sign(g)
    array([0.9])
    """

    def __init__(
        self,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay)
        self.betas = _betas(self.name, betas)
        self.eps = number(self.name, "eps", eps, low=0, above=True)
        self.amsgrad = flag(self.name, "amsgrad", amsgrad)
        self.slots = ("m", "v", "peak") if self.amsgrad else ("m", "v")

    def rates(self, lr: float) -> tuple[float, ...]:
        """Return lr / (1 - beta1^t) and 1 / (1 - beta2^t)."""
        t = self.steps + 1
        return lr / (1 - self.betas[0] ** t), 1 / (1 - self.betas[1] ** t)

    def rule(self, p: V, g: V, lr: Rates, state: dict[str, V]) -> V:
        """Return p - lr * corrected m / (sqrt(corrected v) + eps)."""
        beta1, beta2 = self.betas
        m = state["m"] = beta1 * state["m"] + (1 - beta1) * g
        v = state["v"] = beta2 * state["v"] + (1 - beta2) * g * g
        if self.amsgrad:
            v = state["peak"] = maximum(state["peak"], v)
        corrected, correction = lr[:2]
        new: V = p - corrected * m / (np.sqrt(v * correction) + self.eps)
        return new


class AdamW(Adam):
    """Adam with decoupled weight decay: Adam's step, and p <- p - lr * weight_decay * p beside it.

    The decay does not pass through the moments. Source: Loshchilov and Hutter 2019, algorithm 2.

    Args:
        lr: learning rate, above 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: above 0.
        weight_decay: decay, not for biases.
        amsgrad: divide by the largest v so far.

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
        amsgrad: bool = False,
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, amsgrad)

    def rates(self, lr: float) -> tuple[float, ...]:
        """Return Adam's rates and lr * weight_decay."""
        return *super().rates(lr), lr * self.weight_decay

    def rule(self, p: V, g: V, lr: Rates, state: dict[str, V]) -> V:
        """Return Adam's new p, less lr * weight_decay * p."""
        new = super().rule(p, g, lr, state)
        return new - lr[2] * p if p.ndim > 1 else new

    def decayed(self, p: V, g: V) -> V:
        """Return g: the decay is separate from the moments."""
        return g


def _betas(function: str, betas: Sequence[float]) -> tuple[float, float]:
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise ConfigError(f"{function}: betas must be two numbers, (beta1, beta2), got {betas!r}")
    first, second = (number(function, f"betas[{n}]", beta, low=0, high=1, below=True) for n, beta in enumerate(betas))
    return first, second
