"""Checks of settings: integers, numbers, flags and generators, with one wording of errors.

Standard library only, because the configuration and the command line are checked without NumPy. NumPy's integers and
floats are accepted like Python's; a bool never is, because `True` for a count is a mistake.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, TypeVar

from .errors import ConfigError

if TYPE_CHECKING:
    from numpy.random import Generator

Kind = TypeVar("Kind")


def integer(function: str, name: str, value: object, low: int = 1, high: int | None = None) -> int:
    """Return `value` as a Python int if it is an integer in [low, high].

    Args:
        function: what the user called, for the message; empty: the message starts with `name`.
        name: of the argument, for the message.
        value: what the user passed.
        low: smallest value.
        high: largest value; None: no limit.

    Raises:
        ConfigError: if the value is not an integer, or out of range. (A ConfigError is a ValueError.)

    >>> integer("train", "batch_size", 20)
    20
    >>> integer("train", "batch_size", 4.0)
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: train: batch_size must be an integer of 1 or more, got 4.0
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if low <= number and (high is None or number <= high):
            return number
    span = f"an integer of {low} or more" if high is None else f"an integer from {low} to {high}"
    raise _refused(function, name, span, value)


def number(
    function: str,
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    infinite: bool = False,
) -> float:
    """Return `value` as a Python float if it is a finite number in [low, high].

    Args:
        function: what the user called, for the message; empty: the message starts with `name`.
        name: of the argument, for the message.
        value: what the user passed.
        low: smallest value.
        high: largest value.
        above: the value must be above `low`.
        below: the value must be below `high`.
        infinite: +inf is allowed too.

    Raises:
        ConfigError: if the value is not a number, NaN, infinite or out of range.

    >>> number("Adam", "lr", 1, low=0, above=True)
    1.0
    >>> number("Adam", "lr", float("nan"), low=0, above=True)
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: Adam: lr must be a finite number above 0, got nan
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        found = _float(value)
        fits = (low < found if above else low <= found) and (found < high if below else found <= high)
        if fits and (infinite or math.isfinite(found)):  # NaN does not fit, whatever the limits
            return found
    raise _refused(function, name, _span(low, high, above, below, infinite), value)


def flag(function: str, name: str, value: object) -> bool:
    """Return `value` as a Python bool if it is True or False, of Python or NumPy.

    Args:
        function: what the user called, for the message; empty: the message starts with `name`.
        name: of the argument, for the message.
        value: what the user passed.

    Raises:
        ConfigError: if it is anything else, such as "no", which would count as true.

    >>> flag("RNNLM", "tied", "no")
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: RNNLM: tied must be true or false, got 'no' (str)
    """
    if isinstance(value, bool) or (str(getattr(value, "dtype", "")) == "bool" and getattr(value, "shape", None) == ()):
        return bool(value)
    raise _refused(function, name, "true or false", value)


def instance(function: str, name: str, value: object, kind: type[Kind], hint: str = "") -> Kind:
    """Return `value` if it is an instance of a class.

    Args:
        function: what the user called, for the message.
        name: of the argument, for the message.
        value: what the user passed.
        kind: the class.
        hint: how to make one, for the message.

    Raises:
        ConfigError: if it is anything else.

    >>> instance("tokenize", "text", None, str)
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: tokenize: text must be of type str, got None (NoneType)
    """
    if isinstance(value, kind):
        return value
    error = _refused(function, name, f"of type {kind.__name__}", value)
    raise ConfigError(f"{error}; {hint}") if hint else error


def generator(function: str, name: str, value: object) -> Generator:
    """Return `value` if it is a `numpy.random.Generator`.

    Args:
        function: what the user called, for the message.
        name: of the argument, for the message.
        value: what the user passed.

    Raises:
        ConfigError: if it is anything else, such as a seed.

    >>> generator("RNNLM", "rng", 0)
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: RNNLM: rng must be a numpy.random.Generator, got 0; pass np.random.default_rng(0)
    """
    # Imported here: checks of numbers do not need NumPy.
    from numpy.random import Generator

    if isinstance(value, Generator):
        return value
    seed = value if isinstance(value, int) and not isinstance(value, bool) else "seed"
    error = _refused(function, name, "a numpy.random.Generator", value)
    raise ConfigError(f"{error}; pass np.random.default_rng({seed})")


def texts(function: str, name: str, value: Collection[str]) -> tuple[str, ...]:
    """Return `value` as a tuple of texts; a single text is one, not a sequence of letters.

    Args:
        function: what the user called, for the message.
        name: of the argument, for the message.
        value: what the user passed.

    Raises:
        ConfigError: if it is anything but texts.

    >>> texts("WeightDrop", "names", "Wh"), texts("WeightDrop", "names", ["Wh", "Wx"])
    (('Wh',), ('Wh', 'Wx'))
    """
    found = (value,) if isinstance(value, str) else tuple(instance(function, name, value, Collection))
    for part in found:
        instance(function, f"each of {name}", part, str)
    return found


def fits(function: Callable[..., object], inputs: Sequence[object]) -> bool:
    """Return whether a function takes these inputs, as far as its signature shows.

    >>> fits(lambda model, batch: 0.0, [1]), fits(lambda model, batch, rng=None: 0.0, [1, 2])
    (False, True)
    """
    try:
        inspect.signature(function).bind(*inputs)
    except (TypeError, ValueError):
        return False
    return True


def spread(function: Callable[..., object], inputs: Sequence[object]) -> Sequence[object]:
    """Return the parts of a batch, if the function takes several inputs and was given one tuple of them.

    >>> spread(lambda ids, targets: 0.0, [(1, 2)])
    (1, 2)
    """
    if len(inputs) != 1 or not isinstance(inputs[0], tuple):
        return inputs
    return inputs[0] if not fits(function, inputs) and fits(function, inputs[0]) else inputs


def _float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond the largest float
        return -math.inf if value < 0 else math.inf


def _span(low: float, high: float, above: bool, below: bool, infinite: bool) -> str:
    kind = "a number" if infinite or high < math.inf else "a finite number"
    if high < math.inf:
        return f"{kind} in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"
    if low == -math.inf:
        return kind
    return f"{kind} above {low:g}" if above else f"{kind} of {low:g} or more"


def _refused(function: str, name: str, expected: str, value: object) -> ConfigError:
    where = f"{function}: " if function else ""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    kind = "" if type(value) in (int, float) else f" ({type(value).__name__})"
    return ConfigError(f"{where}{name} must be {expected}, got {shown}{kind}")
