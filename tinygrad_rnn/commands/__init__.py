"""The commands; `cli` has their parser."""

from .export import export as export
from .generation import generate as generate
from .lesson import lesson as lesson
from .look import check as check
from .look import graph as graph
from .measure import evaluate as evaluate
from .measure import score as score
from .measure import truncation as truncation
from .prepare import prepare as prepare
from .sweep import sweep as sweep
from .train import train as train
