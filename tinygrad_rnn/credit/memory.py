"""The memory that a policy would need, before it takes it."""

from __future__ import annotations

import os

from ..errors import ConfigError
from .policy import Policy


def check_memory(policy: Policy, size: int, what: str) -> None:
    """Raise `ConfigError` if a policy would need more bytes than the machine has.

    Args:
        policy: the policy, for the message.
        size: bytes that it keeps; a step needs them twice.
        what: what they hold, for the message.
    """
    if not hasattr(os, "sysconf"):  # Windows does not tell
        return
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 2 * size > have:
        raise ConfigError(
            f"{policy!r}: {what} take {size:,} bytes, twice within a step, and this machine has {have:,}; use fewer "
            "streams, a smaller state, SnAp(1), or a policy whose memory does not depend on n * P, such as UORO"
        )
