"""Settings of the whole suite."""

import gc
import os
from collections import Counter

import pytest
from chromium import Chromium, find_chromium
from hypothesis import Phase, settings

# `ci` draws the same examples each time; `dev` and `nightly` draw new ones. Choose with --hypothesis-profile.
# The phase `explain` runs a failing test hundreds of times more, which takes minutes where a gradient is checked.
phases = [phase for phase in Phase if phase is not Phase.explain]
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=20, print_blob=True, phases=phases)
settings.register_profile("dev", deadline=None, max_examples=20, phases=phases)
settings.register_profile("nightly", deadline=None, max_examples=2000, phases=phases)
settings.load_profile("ci")

# Under --cov a test takes two to three times as long. In the rooms with most cases, the first few of each test are
# traced: the others take other values through the same lines.
MANY_CASES = ("compiler", "credit", "graphs", "testing", "truncation")
TRACED = 5


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write the golden files of tests/graphs anew")


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked nightly, unless it is asked for with -m nightly; say which cases are traced by --cov."""
    cases = Counter()
    for item in items:
        test, room = item.nodeid.partition("[")[0], item.path.parent.name
        cases[test] += 1
        if room in MANY_CASES and cases[test] > TRACED:
            item.add_marker("no_cover")
    if "nightly" in config.option.markexpr:
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("nightly")])
    items[:] = [item for item in items if not item.get_closest_marker("nightly")]


@pytest.fixture
def no_collector():
    """Nothing but reference counting frees memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    program = find_chromium()
    if program is None:
        message = "no Chromium on the path (install chromium, or name one in the environment variable CHROMIUM)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    browser = Chromium(program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()
