"""Names of earlier versions, which warn, and will be removed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from ...data.corpus import Corpus
from ...errors import warn
from .trainer import LanguageTrainer

if TYPE_CHECKING:
    from ..runs.trainer import Trainer as Trainer
else:
    from ..runs.trainer import Trainer as _Trainer

    class Trainer(_Trainer):  # noqa: D101 (it has that of its base)
        __doc__ = _Trainer.__doc__
        __signature__ = inspect.signature(_Trainer)

        def __new__(cls, *args, **settings):
            """Make a LanguageTrainer of texts and a configuration, as `Trainer` did in version 0.1."""
            if "held_out" not in settings and not (args and isinstance(args[0], Corpus)):
                return super().__new__(cls)
            warn(
                "Trainer(train, held_out, config) is LanguageTrainer(train, held_out, config) now; Trainer takes a "
                "model, a loss and batches",
                DeprecationWarning,
            )
            return LanguageTrainer(*args, **settings)
