"""Fixtures of the compiler's tests: the executors, a C compiler, and a small library to build with it."""

import os
import shutil
from functools import partial

import pytest
from replay import executors

import tinygrad_rnn as tr

CC = shutil.which("cc")
SETTINGS = executors()


@pytest.fixture(params=SETTINGS, ids=[setting["executor"] for setting in SETTINGS])
def compiled(request):
    """Compile a function for one of the executors."""
    return partial(tr.compile, **request.param)


@pytest.fixture
def cc():
    """The compiler; where CI is set, one must be there."""
    if CC is None:
        message = "no C compiler `cc` on the path (install gcc and libc6-dev)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return CC


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "replay.c").write_text('#include "part.h"\n')
    (folder / "part.h").write_text("int add(int a, int b) { return a + b; }\n")
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def script(tmp_path):
    """Write a program that runs as a shell does."""

    def write(name, text):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return write
