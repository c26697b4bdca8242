"""The entry point of Hypothesis, so that `from_type(Tensor)` works by itself; HYPOTHESIS_NO_PLUGINS=1 leaves it out."""

from __future__ import annotations

from importlib import import_module

from ..engine.tensor import Tensor


def register() -> None:
    """Tell Hypothesis how to draw a Tensor; the strategies themselves are imported when one is asked for.

    >>> from hypothesis import find, strategies
    >>> register()
    >>> find(strategies.from_type(Tensor), lambda x: x.ndim == 2).shape
    (1, 1)
    """
    # Imported here: Hypothesis loads this module while it is itself only partly imported.
    from hypothesis.strategies import register_type_strategy

    register_type_strategy(Tensor, lambda _: import_module(".strategies", __package__).tensors())
