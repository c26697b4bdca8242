"""PyTorch with torch.compile: it compiles what stands around the recurrent layers, which stay calls of its library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import pytorch
from .pytorch import VERSION as VERSION
from .task import Config, Weights


def start(config: Config, weights: Weights) -> Callable[[Any, Any], float]:
    """Return the step; see `peers`."""
    return pytorch.start(config, weights, compiled=True)
