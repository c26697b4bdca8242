"""Gradient checks for the operations, cells, models and truncation policies that users write.

`strategies`, which needs Hypothesis (the extra `[testing]`), is imported by its own name.
"""

from .gradients import check_grads as check_grads
from .handwritten import compare_handwritten as compare_handwritten
from .primitives import check_primitive as check_primitive
from .report import GradCheckError as GradCheckError
from .report import GradReport as GradReport
from .report import LeafResult as LeafResult
from .targets.build import Batch as Batch
