"""Policies as one word of text, for the command line and for tables: `parse_policy` and its inverse."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ..errors import ConfigError
from .policies import Adaptive, Checkpointed, Chunked, Decay, Full, Policy, Randomized, Windowed

POLICY_FORMS = (
    "full",
    "chunked:35",
    "windowed:20",
    "windowed:70/35",
    "decay:0.95",
    "randomized:0.02",
    "randomized:mean=50",
    "randomized:mean=50,alpha=4",
    "adaptive",
    "adaptive:0.1",
    "adaptive:0.1/200",
    "checkpointed:50",
)
"""An example of each spelling: windowed is h/every, adaptive is tolerance/max_window, mean is steps between cuts."""

_WHOLE = r"([0-9]{1,9})"
_NUMBER = r"(-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?)"


def parse_policy(text: str, every: int | None = None, rng: int | np.random.Generator = 0) -> Policy:
    """Return the policy that a text names; `POLICY_FORMS` has an example of each spelling.

    Args:
        text: `name` or `name:numbers`.
        every: steps between backward passes (the training window), for the policies that do not say it themselves:
            full, decay, checkpointed, randomized, adaptive. None: one pass at the end (adaptive: behind each step).
        rng: generator or seed of the draws of `randomized`.

    Raises:
        ConfigError: if the text is none of the forms, which the message lists, or a number is out of range.

    >>> parse_policy("windowed:70/35")
    Windowed(h=70, every=35)
    >>> parse_policy("decay:0.95", every=35)
    Decay(g=0.95, every=35)
    >>> parse_policy("randomized:mean=50", rng=7)
    Randomized(c=None, mean_length=50, alpha=6.0, rng=7, every=None)
    """
    steps = 1 if every is None else every
    makers: dict[str, Callable[..., Policy]] = {
        "full": lambda: Full(every),
        f"chunked:{_WHOLE}": lambda n: Chunked(int(n)),
        f"windowed:{_WHOLE}(?:/{_WHOLE})?": lambda h, behind: Windowed(int(h), int(behind or 1)),
        f"decay:{_NUMBER}": lambda g: Decay(_number(g), every),
        f"randomized:{_NUMBER}": lambda c: Randomized(c=_number(c), rng=rng, every=every),
        f"randomized:mean={_NUMBER}(?:,alpha={_NUMBER})?": lambda mean, alpha: Randomized(
            mean_length=_number(mean), alpha=_number(alpha or "6.0"), rng=rng, every=every
        ),
        f"adaptive(?::{_NUMBER}(?:/{_WHOLE})?)?": lambda tolerance, longest: Adaptive(
            _number(tolerance or "0.1"), int(longest or max(200, 2 * steps)), steps
        ),
        f"checkpointed:{_WHOLE}": lambda segment: Checkpointed(int(segment), every),
    }
    for pattern, make in makers.items():
        found = re.fullmatch(pattern, text.strip())
        if found:
            try:
                return make(*found.groups())
            except ConfigError as error:
                raise ConfigError(f"parse_policy: {text!r}: {error}") from error
    raise ConfigError(
        f"parse_policy: {text!r} is not a policy; the forms are, with example numbers: {', '.join(POLICY_FORMS)}"
    )


def policy_text(policy: Policy) -> str:
    """Return the text that `parse_policy` reads back, given the policy's `every` and `rng` where it takes them.

    The window that an `Adaptive` has reached is not part of the text.

    Args:
        policy: one of this package.

    Raises:
        ConfigError: if it is a policy of your own, which has no spelling.

    >>> policy_text(Windowed(20)), policy_text(Adaptive(0.1, max_window=50)), policy_text(Full(every=35))
    ('windowed:20', 'adaptive:0.1/50', 'full')
    """
    match policy:
        case Full():
            return "full"
        case Chunked(n):
            return f"chunked:{n}"
        case Windowed(h, every):
            return f"windowed:{h}" if every == 1 else f"windowed:{h}/{every}"
        case Decay(g):
            return f"decay:{g}"
        case Randomized(c=None):
            alpha = "" if repr(policy.alpha) == "6.0" else f",alpha={policy.alpha}"
            return f"randomized:mean={policy.mean_length}{alpha}"
        case Randomized(c):
            return f"randomized:{c}"
        case Adaptive():
            return f"adaptive:{policy.tolerance}/{policy.max_window}"
        case Checkpointed(segment):
            return f"checkpointed:{segment}"
    raise ConfigError(f"policy_text: {policy!r} has no spelling; it is not a policy of this package")


def _number(text: str) -> float:
    # 50 is read back as 50, not as 50.0; whole numbers that no float can hold become infinite, and are refused
    return int(text) if re.fullmatch("-?[0-9]{1,15}", text) else float(text)
