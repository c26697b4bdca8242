"""PyTorch: the same, drawn by searching the cumulated probabilities, which is quicker than its `multinomial`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from .generate_pytorch import VERSION as VERSION
from .generate_pytorch import start as start_with


def search(p: Any) -> Any:
    """Return ids (N,) drawn from probabilities (N, V)."""
    ends = p.cumsum(-1)
    return torch.searchsorted(ends, torch.rand(len(p), 1) * ends[:, -1:], right=True)[:, 0].clamp_(max=p.shape[1] - 1)


start: Callable[..., Callable[[Any, Any], float]] = partial(start_with, draw=search)
