"""How many examples a test draws that says their number itself."""

from hypothesis import settings


def examples(count):
    """Return a number of examples: by day a twelfth of `count`; all of them with --hypothesis-profile nightly."""
    return count if settings.get_current_profile_name() == "nightly" else max(4, count // 12)
