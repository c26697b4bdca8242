"""Metrics: sums over the unmasked elements, which add up over batches, and the value computed from them.

Each takes arrays or Tensors, has no gradient, and (except for those of texts) can be used in a function that `compile`
records. The value over no elements is NaN.

    >>> import numpy as np
    >>> batches = [([1.0, 2.0], [1.0, 4.0]), ([3.0], [0.0])]
    >>> found = merged([rmse(np.array(y), np.array(t)) for y, t in batches])
    >>> round(found.value, 6)  # sqrt((0 + 4 + 9) / 3)
    2.081666
"""

from .metric import Bits as Bits
from .metric import Determination as Determination
from .metric import Metric as Metric
from .metric import Perplexity as Perplexity
from .metric import RootMean as RootMean
from .metric import merged as merged
from .predictions import accuracy as accuracy
from .predictions import bits as bits
from .predictions import mae as mae
from .predictions import nats as nats
from .predictions import perplexity as perplexity
from .predictions import r2 as r2
from .predictions import rmse as rmse
from .sequences import edit_distance as edit_distance
from .sequences import error_rate as error_rate
