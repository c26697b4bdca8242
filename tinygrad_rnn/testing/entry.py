"""What Hypothesis calls when it is imported, so that `from_type(Tensor)` works wherever this package is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..engine.tensor import Tensor

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def register() -> None:
    """Tell Hypothesis how to draw a Tensor; the strategies themselves are imported when one is asked for.

    It is the entry point `tinygrad_rnn` of the group "hypothesis". To leave all such entry points out, set
    HYPOTHESIS_NO_PLUGINS=1.

    >>> from hypothesis import find, strategies
    >>> register()
    >>> find(strategies.from_type(Tensor), lambda x: x.ndim == 2).shape
    (1, 1)
    """
    # Imported here: this module is loaded by Hypothesis itself, when it is half imported.
    from hypothesis.strategies import register_type_strategy

    register_type_strategy(Tensor, _tensors)


def _tensors(_: type[Tensor]) -> SearchStrategy[Tensor]:
    from . import strategies

    return strategies.tensors()
