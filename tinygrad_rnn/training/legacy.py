"""Names of earlier versions, which warn once and go."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ..data.corpus import Corpus
from .language import LanguageTrainer

if TYPE_CHECKING:
    from .trainer import Trainer as Trainer
else:
    from .trainer import Trainer as _Trainer

    class Trainer(_Trainer):  # noqa: D101 (it has that of its base)
        __doc__ = _Trainer.__doc__

        def __new__(cls, *args, **settings):
            """Make a LanguageTrainer of texts and a configuration, as `Trainer` did before it took any task."""
            if "held_out" not in settings and not (args and isinstance(args[0], Corpus)):
                return super().__new__(cls)
            warnings.warn(
                "Trainer(train, held_out, config) is LanguageTrainer(train, held_out, config) now; Trainer takes a "
                "model, a loss and batches",
                DeprecationWarning,
                stacklevel=2,
            )
            return LanguageTrainer(*args, **settings)
