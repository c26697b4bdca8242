"""Exports: a recorded step, or a module's weights, in the formats of other places."""

from .api import export as export
from .formats import FORMATS as FORMATS
from .formats import Format as Format
from .source import Source as Source
from .source import source_of_module as source_of_module
