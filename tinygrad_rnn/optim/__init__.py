"""Optimizers, gradient clipping and learning-rate schedules."""

from ..errors import warn
from .base import Optimizer as Optimizer
from .base import Rule as Rule
from .clipping import clip_by_norm as clip_by_norm
from .clipping import clip_by_value as clip_by_value
from .clipping import global_norm as global_norm
from .combined import Averaged as Averaged
from .combined import Grouped as Grouped
from .optimizers import SGD as SGD
from .optimizers import Adagrad as Adagrad
from .optimizers import Adam as Adam
from .optimizers import AdamW as AdamW
from .optimizers import Lion as Lion
from .optimizers import Momentum as Momentum
from .optimizers import RMSprop as RMSprop
from .schedules import Constant as Constant
from .schedules import Cosine as Cosine
from .schedules import Exponential as Exponential
from .schedules import OneCycle as OneCycle
from .schedules import Plateau as Plateau
from .schedules import Schedule as Schedule
from .schedules import StepDecay as StepDecay
from .schedules import Warmup as Warmup


def __getattr__(name: str) -> type[Plateau]:
    if name != "Halving":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn("optim.Halving is optim.Plateau now", DeprecationWarning)
    return Plateau
