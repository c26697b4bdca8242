"""The C library: the cache folder, the compiler that is taken, and what happens where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_rnn.compiler.native import build as native
from tinygrad_rnn.errors import NativeError

# What the package does with its own sources, with those of the first argument in their place.
LIBRARY = (
    "import sys; from pathlib import Path; from tinygrad_rnn.compiler.native import build;"
    "build._SOURCE = Path(sys.argv[1]); print(build.available()); print(build.library().path)"
)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TINYGRAD_RNN_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a/tinygrad_rnn"),
        ({"TINYGRAD_RNN_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/tinygrad_rnn"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/c"}, "/c/.cache/tinygrad_rnn"),
        ({"HOME": "/c"}, "/c/.cache/tinygrad_rnn"),
    ],
)
def test_where_the_cache_is(monkeypatch, environment, expected):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("TINYGRAD_RNN_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert native.cache_folder() == Path(expected)


def test_where_the_cache_is_on_a_mac(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delenv("TINYGRAD_RNN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/c")
    assert native.cache_folder() == Path("/c/Library/Caches/tinygrad_rnn")


def test_without_a_home_there_is_no_cache_folder(monkeypatch):
    monkeypatch.delenv("TINYGRAD_RNN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError("no home"))))
    with pytest.raises(OSError, match="no home"):
        native.cache_folder()


def test_which_compiler_is_taken(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native, "_carried_compiler", lambda: None)
    with pytest.raises(NativeError, match=r"no C compiler .*cc, gcc, clang.* Plans run without it"):
        native.find_compiler()
    for name in ("clang", "gcc", "cc"):
        found = script(name, "exit 0")
        assert native.find_compiler() == (found,)
    monkeypatch.setenv("CC", "")
    assert native.find_compiler() == (found,)
    monkeypatch.setenv("CC", "gcc -m32 '-DX=a b'")
    assert native.find_compiler() == (str(tmp_path / "gcc"), "-m32", "-DX=a b")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CC", "./clang")
    assert native.find_compiler() == (str(tmp_path / "clang"),)
    monkeypatch.setenv("CC", "icc -fast")
    with pytest.raises(NativeError, match="CC='icc -fast' names a compiler that was not found"):
        native.find_compiler()
    monkeypatch.setenv("CC", "gcc 'open")
    with pytest.raises(NativeError, match="is not a command line: No closing quotation"):
        native.find_compiler()


def test_on_windows(cc, source, monkeypatch, tmp_path):
    """What differs there: the folder, the ending, no modes of files. The compiler is this machine's."""
    monkeypatch.setattr(sys, "platform", "win32")
    for name in ("TINYGRAD_RNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    cache = native.cache_folder()
    assert cache == tmp_path / "local" / "tinygrad_rnn"
    path = native.build(source, cache, [cc])
    assert path.suffix == ".dll"
    cache.chmod(0o777)
    assert native.build(source, cache, [cc]) == path
    assert native.load(path).functions.add(2, 3) == 5


def run_library(source, **environment):
    return subprocess.run(
        [sys.executable, "-c", LIBRARY, source], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_the_library_is_kept_in_the_cache(cc, source, cache):
    runs = [run_library(source, TINYGRAD_RNN_CACHE=str(cache), CC=cc) for _ in range(2)]
    (path,) = (cache / "tinygrad_rnn").iterdir()
    assert [run.stdout for run in runs] == [f"True\n{path}\n"] * 2


def test_a_cache_that_cannot_be_written_to_is_replaced_for_the_process(cc, source, cache, tmp_path):
    cache.write_text("a file is in the way")
    (tmp_path / "temporary").mkdir()
    run = run_library(source, TINYGRAD_RNN_CACHE=str(cache), CC=cc, TMPDIR=str(tmp_path / "temporary"))
    works, path = run.stdout.splitlines()
    assert works == "True"
    assert Path(path).parent.parent == tmp_path / "temporary"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_read_only_cache_serves_what_is_there(cc, source, cache, tmp_path):
    folder = cache / "tinygrad_rnn"
    cache.mkdir()
    first = run_library(source, TINYGRAD_RNN_CACHE=str(cache), CC=cc)
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user, root, writes to every folder")
    try:
        assert run_library(source, TINYGRAD_RNN_CACHE=str(cache), CC=cc).stdout == first.stdout
        (source / "more.h").write_text("")
        path = Path(run_library(source, TINYGRAD_RNN_CACHE=str(cache), CC=cc).stdout.splitlines()[1])
    finally:
        folder.chmod(0o700)
    assert path.parent != folder


def test_no_folder_at_all(monkeypatch, source):
    def full(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(native, "_SOURCE", source)
    monkeypatch.setattr(native, "build", full)
    monkeypatch.setattr(native, "find_compiler", lambda: ("cc",))
    monkeypatch.setattr(native.tempfile, "mkdtemp", full)
    assert "neither the cache folder nor the temporary folder can be written to (disk full)" in str(
        native._outcome.__wrapped__()
    )


def test_the_outcome_is_remembered(monkeypatch):
    calls = []

    def none():
        calls.append(1)
        raise NativeError("native: none here")

    monkeypatch.setattr(native, "find_compiler", none)
    native._outcome.cache_clear()
    try:
        assert not native.available()
        for _ in range(2):
            with pytest.raises(NativeError, match="none here"):
                native.library()
        assert not native.available()
    finally:
        native._outcome.cache_clear()
    assert len(calls) == 1
