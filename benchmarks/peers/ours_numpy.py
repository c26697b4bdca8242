"""The same plan as `ours_compiled`, replayed by NumPy instead of the C library."""

from __future__ import annotations

from functools import partial

from .ours_compiled import VERSION as VERSION
from .ours_compiled import start as start_compiled

start = partial(start_compiled, executor="numpy")
