"""PyTorch with torch.compile: it compiles what stands around the recurrent layers, which stay calls of its library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from . import pytorch
from .pytorch import VERSION as VERSION
from .task import Config, Weights


def warm_up() -> None:
    """Load the compiler of PyTorch; see `peers`."""
    pytorch.warm_up()
    x = torch.ones(2, 2, requires_grad=True)
    torch.compile(lambda x: (x @ x).sum())(x).backward()


def start(config: Config, weights: Weights, carry: bool = True) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    return pytorch.start(config, weights, compiled=True, carry=carry)
