"""Settings of the whole suite."""

import gc
import importlib
import math
import os
import sys
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from chromium import Chromium, find_chromium
from hypothesis import Phase, settings

# `ci` draws the same few examples each time; `dev` and `nightly` draw new ones. Choose with --hypothesis-profile.
# The phase `explain` runs a failing test hundreds of times more, which takes minutes where a gradient is checked.
phases = [phase for phase in Phase if phase is not Phase.explain]
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=5, print_blob=True, phases=phases)
settings.register_profile("dev", deadline=None, max_examples=20, phases=phases)
settings.register_profile("nightly", deadline=None, max_examples=2000, phases=phases)
settings.load_profile("ci")

# Under --cov a test takes two to three times as long. In the rooms with most cases, the first few of each test are
# traced, and of those with the marker sample(n) the first: the others take other values through the same lines.
MANY_CASES = ("compiler", "credit", "graphs", "testing", "truncation")
TRACED = 3

# Files that are not traced: other tests reach all of their lines and branches but 0.4 % of the total, and these took a
# third of the time. (--cov-context=test says which tests reach a line, for whoever chooses anew.)
UNTRACED = {
    *("compiler/test_equal_to_eager.py", "compiler/test_family.py", "compiler/test_native_life.py"),
    *("compiler/test_native_products.py", "compiler/test_native_sharing.py", "compiler/test_plan.py"),
    *("compiler/test_replay.py", "compiler/test_roll.py", "compiler/test_scans.py", "compiler/test_sizes.py"),
    *("credit/test_exact.py", "credit/test_sampled.py", "graphs/test_backward.py", "graphs/test_rolling.py"),
    *("nn/test_against_handwritten.py", "nn/test_lengths.py", "nn/test_sequence_model.py", "ops/test_cut.py"),
    *("testing/test_everything.py", "testing/test_false_alarms.py", "testing/test_strategies.py"),
    *("test_cli.py", "test_cli_runs.py", "test_numpy_page.py", "test_structure.py"),
    *("training/test_compiled_update.py", "training/test_language.py", "training/test_resume.py"),
    *("truncation/test_long_memory_example.py", "truncation/test_oracle.py", "truncation/test_policies.py"),
}


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write the golden files of tests/graphs anew")


def pytest_collection_modifyitems(config, items):
    """Leave the night's tests and cases to the night (-m nightly), and say which cases are traced by --cov.

    A test that is asked for by name runs in all its cases.
    """
    if not any("::" in argument for argument in config.args):
        for item in cases_of_the_night(items):
            item.add_marker("nightly")
    if "nightly" not in config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("nightly")])
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    cases = Counter()
    for item in items:
        test, room = item.nodeid.partition("[")[0], item.path.parent.name
        cases[test] += 1
        traced = 1 if item.get_closest_marker("sample") else TRACED if room in MANY_CASES else math.inf
        if cases[test] > traced or str(item.path.relative_to(Path(__file__).parent)) in UNTRACED:
            item.add_marker("no_cover")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item):
    """Trace nothing in tests marked with no_cover: in processes of xdist, pytest-cov pauses one of two collectors."""
    tracer = sys.gettrace()
    if item.get_closest_marker("no_cover"):
        sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


def pytest_collection_finish():
    """Leave what was collected and imported out of later collections of garbage, which take most of a second else."""
    gc.freeze()


def cases_of_the_night(items):
    """Return the cases that add a combination alone: by day, each row of each table of a test occurs in one case.

    A test with the marker sample(n) runs in n of these. Which ones is chosen by a digest of their names, so that no
    step through a product of tables meets one row alone.
    """
    seen, counts, left = defaultdict(set), Counter(), []
    for item in sorted(items, key=lambda item: zlib.crc32(item.nodeid.encode())):
        test, mark, rows = item.nodeid.partition("[")[0], item.get_closest_marker("sample"), set(rows_of(item))
        most = mark.args[0] if mark else math.inf
        if counts[test] >= most or (rows and rows <= seen[test]):
            left.append(item)
        else:
            counts[test] += 1
            seen[test] |= rows
    return left


def rows_of(item):
    """Yield what a case has of each table: names of arguments, and which values."""
    if not hasattr(item, "callspec"):
        return
    values = dict(item.callspec.params)
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs["argnames"]
        names = tuple(names.replace(",", " ").split()) if isinstance(names, str) else tuple(names)
        yield names, tuple(id(values.pop(name)) for name in names if name in values)
    for name, value in values.items():
        yield (name,), (id(value),)


@pytest.fixture(autouse=True)
def quick_curve(request, monkeypatch):
    """Let commands write an empty picture of the learning curve: to draw it takes longer than most of their runs.

    A test with the marker curve draws it.
    """
    if request.path.name.startswith("test_cli") and not request.node.get_closest_marker("curve"):

        def empty(records, path, baseline=None):
            path.write_bytes(b"")
            return True

        monkeypatch.setattr(importlib.import_module("tinygrad_rnn.commands.train"), "save_curve", empty)


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
