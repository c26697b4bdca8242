"""Drawings of recorded graphs: unrolled, rolled, cut, with the gradient that flows back."""

from ..pictures.drawing import Drawing as Drawing
from .drawing import draw as draw
from .plot import plot_gradient_flow as plot_gradient_flow
