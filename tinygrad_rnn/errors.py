"""The errors that users meet, each with a name of its own.

Every message says the function, the argument, what was expected (shapes with their letters), what came,
and what to do. Each class also derives from the built-in error that a Python programmer would catch.
"""

from __future__ import annotations

import sys
import warnings


class ShapeError(ValueError):
    """An array whose shape does not fit: the message solves the letters T, N, D, H, V."""


class DTypeError(TypeError):
    """An array whose dtype cannot be used here, such as an integer tensor that asks for a gradient."""


class UnsupportedError(TypeError):
    """A NumPy function, or an argument of one, that has no derivative rule here."""


class GradientError(RuntimeError):
    """A backward pass that cannot be run: no graph, no seed, a graph already consumed, an unused input."""


class TraceError(RuntimeError):
    """A function that cannot be compiled: it reads a value, or uses something that would be frozen in the plan."""


class NonFiniteError(ArithmeticError):
    """A NaN or an infinity where a finite value is needed. Parameters have not been touched."""


class DivergedError(ArithmeticError):
    """A training run whose losses are finite, and far above that of guessing blindly. The best epoch is kept."""


class CorpusError(ValueError):
    """A text that cannot be used: missing, not utf-8 (with the byte offset), empty or too short."""


class ModelFileError(ValueError):
    """A file that is not a model of this project, or one that is damaged."""


class ConfigError(ValueError):
    """A configuration value that is unknown, of the wrong type or out of range."""


class DrawingError(ValueError):
    """A picture that cannot be drawn: too many boxes for this view, an unknown view or file type, a missing program."""


class NativeError(RuntimeError):
    """A native executor that is not available: no C compiler, one that fails, or a library that must not be loaded."""


class GradientWarning(UserWarning):
    """A gradient that is lost, where one may have been meant: a number read, a weight that is not trained."""


_PASSED = frozenset(["tinygrad_rnn", "contextlib", "functools", "importlib", "numpy"])


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's code that led here: the last one outside of this package.

    Python shows a warning once for each line, so that one of a loop, or of a function of the package that a program
    calls in several places, is shown once for each of these places.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _PASSED:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
