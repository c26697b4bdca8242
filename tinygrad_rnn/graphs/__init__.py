"""Drawings of recorded graphs: unrolled, rolled, or as single operations, with cuts and the flow of the gradient."""

from ..pictures.drawing import Drawing as Drawing
from .drawing import draw as draw
from .plot import plot_gradient_flow as plot_gradient_flow
