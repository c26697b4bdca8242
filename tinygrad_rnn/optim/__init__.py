"""Optimizers, gradient clipping and learning-rate schedules."""

from .base import Optimizer as Optimizer
from .clipping import clip_by_norm as clip_by_norm
from .clipping import clip_by_value as clip_by_value
from .clipping import global_norm as global_norm
from .optimizers import SGD as SGD
from .optimizers import Adam as Adam
from .optimizers import AdamW as AdamW
from .optimizers import Momentum as Momentum
from .optimizers import RMSprop as RMSprop
from .schedules import Constant as Constant
from .schedules import Cosine as Cosine
from .schedules import Halving as Halving
from .schedules import Schedule as Schedule
from .schedules import Warmup as Warmup
