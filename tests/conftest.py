"""Settings of the whole suite."""

import gc

import pytest
from hypothesis import settings

# `ci` draws the same examples each time; `dev` and `nightly` draw new ones. Choose with --hypothesis-profile.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=25, print_blob=True)
settings.register_profile("dev", deadline=None, max_examples=20)
settings.register_profile("nightly", deadline=None, max_examples=2000)
settings.load_profile("ci")


@pytest.fixture
def no_collector():
    """Nothing but reference counting frees memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
