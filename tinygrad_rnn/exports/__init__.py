"""Exports: a recorded step, or a module's weights, in the formats of other places."""

from .api import FORMATS as FORMATS
from .api import export as export
from .source import Source as Source
