"""The text form of policies: `parse_policy`, which reads every policy argument, and its inverse."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ..credit.forward import ForwardPolicy
from ..credit.patterned import RFLO, RTRL, EProp, SnAp
from ..credit.policy import Policy, check_steps
from ..credit.sampled import UORO, ForwardGradient, KroneckerFactored
from ..errors import ConfigError
from .deciding import Adaptive, Randomized
from .policies import Checkpointed, Chunked, Decay, Full, Windowed
from .sizes import SIZE, size_text

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
    "checkpointed:states=20",
    "checkpointed:50,states=20",
    "checkpointed:memory=64MB",
    "rtrl",
    "snap:1",
    "uoro",
    "kf",
    "eprop",
    "eprop:random",
    "rflo",
    "forward",
)
"""An example of each form: windowed is h/every, adaptive is tolerance/max_window, mean is the steps between cuts; the
last eight carry credit forward (kf: Kronecker factors; forward: forward gradients). After "checkpointed:" come the
steps of a segment (1 if left out), and states= or memory= or neither."""

_PLAIN: dict[type[Policy], str] = {
    RTRL: "rtrl",
    UORO: "uoro",
    KroneckerFactored: "kf",
    ForwardGradient: "forward",
}

_WHOLE = r"([0-9]{1,9})"
_NUMBER = r"(-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?)"


def parse_policy(
    policy: Policy | str,
    every: int | None = None,
    rng: int | np.random.Generator = 0,
    *,
    argument: str = "parse_policy: policy",
) -> Policy:
    """Return the policy that a text names, or a given policy; `POLICY_FORMS` has an example of each form.

    Every function that takes a policy also takes such a text, and reads it with this function.

    Args:
        policy: `name` or `name:numbers`, or a policy, which `every` and `rng` do not change.
        every: steps between backward passes (the training window), for the policies that do not set it themselves:
            full, decay, checkpointed, randomized, adaptive, and those that carry credit forward. None: one pass at the
            end (after each step for adaptive, and for those that carry credit forward).
        rng: generator or seed of the draws of the policies that draw.
        argument: name of the argument, for the message.

    Raises:
        ConfigError: if the text has none of the forms, which the message lists, or a number is out of range; if a
            policy's every, reach or grain is not a number of steps; or if it is neither a policy nor a text.

    >>> parse_policy("windowed:70/35")
    Windowed(h=70, every=35)
    >>> parse_policy("decay:0.95", every=35)
    Decay(g=0.95, every=35)
    >>> parse_policy("randomized:mean=50", rng=7)
    Randomized(c=None, mean_length=50.0, alpha=6.0, rng=7, every=None)
    """
    if isinstance(policy, Policy):
        return _checked(policy)
    if not isinstance(policy, str):
        kind = " (the class; make one of it)" if isinstance(policy, type) and issubclass(policy, Policy) else ""
        raise ConfigError(
            f'{argument} must be a truncation policy, such as Chunked(35), or its text, such as "chunked:35"; '
            f"got {policy!r}{kind}"
        )
    steps = 1 if every is None else every
    makers: dict[str, Callable[..., Policy]] = {
        "full": lambda: Full(every),
        f"chunked:{_WHOLE}": lambda n: Chunked(int(n)),
        f"windowed:{_WHOLE}(?:/{_WHOLE})?": lambda h, every: Windowed(int(h), int(every or 1)),
        f"decay:{_NUMBER}": lambda g: Decay(float(g), every),
        f"randomized:{_NUMBER}": lambda c: Randomized(c=float(c), rng=rng, every=every),
        f"randomized:mean={_NUMBER}(?:,alpha={_NUMBER})?": lambda mean, alpha: Randomized(
            mean_length=float(mean), alpha=float(alpha or "6.0"), rng=rng, every=every
        ),
        f"adaptive(?::{_NUMBER}(?:/{_WHOLE})?)?": lambda tolerance, longest: Adaptive(
            float(tolerance or "0.1"), int(longest or max(200, 2 * steps)), steps
        ),
        f"checkpointed:{_WHOLE}": lambda segment: Checkpointed(int(segment), every),
        f"checkpointed:(?:{_WHOLE},)?states={_WHOLE}": lambda segment, states: Checkpointed(
            int(segment or 1), every, int(states)
        ),
        f"checkpointed:(?:{_WHOLE},)?memory={SIZE}": lambda segment, memory: Checkpointed(
            int(segment or 1), every, memory=memory
        ),
        "rtrl": lambda: RTRL(steps),
        f"snap:{_WHOLE}": lambda n: SnAp(int(n), steps),
        "uoro": lambda: UORO(rng, steps),
        "kf": lambda: KroneckerFactored(rng, steps),
        "eprop(?::(random|symmetric))?": lambda feedback: EProp(feedback or "symmetric", rng, steps),
        "rflo": lambda: RFLO("random", rng, steps),
        "forward": lambda: ForwardGradient(rng, steps),
    }
    for pattern, make in makers.items():
        found = re.fullmatch(pattern, policy.strip())
        if found:
            try:
                return make(*found.groups())
            except ConfigError as error:
                raise ConfigError(f"{argument}: {policy!r}: {error}") from error
    raise ConfigError(
        f"{argument}: {policy!r} is not a policy; the forms are, with example numbers: {', '.join(POLICY_FORMS)}"
    )


def _checked(policy: Policy) -> Policy:
    """Check the steps of a user's own policy; the package's policies have checked theirs themselves."""
    if type(policy).__module__.rpartition(".")[0] != __package__:
        check_steps(policy)
    return policy


def policy_text(policy: Policy | str) -> str:
    """Return the text that `parse_policy` reads back, given the policy's `every` and `rng` where it takes them.

    The current window of an `Adaptive` policy is not part of the text.

    Args:
        policy: a policy of this package; or a text, of which the shortest form is returned.

    Raises:
        ConfigError: if it is not a policy, or is a policy of your own, which has no text form.

    >>> policy_text(Windowed(20)), policy_text(Adaptive(0.1, max_window=50)), policy_text(Full(every=35))
    ('windowed:20', 'adaptive:0.1/50', 'full')
    """
    policy = parse_policy(policy, argument="policy_text: policy")
    text = _forward_text(policy) if isinstance(policy, ForwardPolicy) else _truncation_text(policy)
    if text is None:
        raise ConfigError(f"policy_text: {policy!r} has no spelling; it is not a policy of this package")
    return text


def _truncation_text(policy: Policy) -> str | None:
    match policy:
        case Full():
            return "full"
        case Chunked(n):
            return f"chunked:{n}"
        case Windowed(h, every):
            return f"windowed:{h}" if every == 1 else f"windowed:{h}/{every}"
        case Decay(g):
            return f"decay:{_spelled(g)}"
        case Randomized(c=None):
            mean, alpha = _spelled(policy.mean_length), _spelled(policy.alpha)
            return f"randomized:mean={mean}" if alpha == "6" else f"randomized:mean={mean},alpha={alpha}"
        case Randomized(c):
            return f"randomized:{_spelled(c)}"
        case Adaptive():
            return f"adaptive:{_spelled(policy.tolerance)}/{policy.max_window}"
        case Checkpointed():
            return f"checkpointed:{_checkpointed(policy)}"
    return None


def _forward_text(policy: ForwardPolicy) -> str | None:
    match policy:
        case SnAp(n):
            return f"snap:{n}"
        case RFLO(feedback="random"):
            return "rflo"
        case EProp(feedback):
            return "eprop" if feedback == "symmetric" else f"eprop:{feedback}"
    return _PLAIN.get(type(policy))


def _checkpointed(policy: Checkpointed) -> str:
    if policy.states is None and policy.memory is None:
        return str(policy.segment)
    limit = f"memory={size_text(policy.budget or 0)}" if policy.states is None else f"states={policy.states}"
    return limit if policy.segment == 1 else f"{policy.segment},{limit}"


def _spelled(value: float | None) -> str:
    return repr(value).removesuffix(".0")
