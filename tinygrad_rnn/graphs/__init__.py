"""Graphs worth looking at: unrolled, rolled, cut, with the gradient flowing."""

from .drawing import Drawing as Drawing
from .drawing import draw as draw
