"""The C library: built once, loaded only if it is whole and nobody else could have written it."""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tinygrad_rnn.compiler.ir import table
from tinygrad_rnn.compiler.native import build as native
from tinygrad_rnn.compiler.native import numbers
from tinygrad_rnn.errors import NativeError

# Builds in a process of its own: program, source folder, cache folder, compiler.
BUILD = (
    "import sys; from pathlib import Path; from tinygrad_rnn.compiler.native.build import build, load;"
    "print(load(build(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])).functions.add(2, 3))"
)


def wait_for(path):
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.005)


def leftovers(cache):
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".so")


def test_builds_once_and_then_starts_no_compiler(cc, source, cache, script, tmp_path):
    log = tmp_path / "log"
    compiler = script("counting", f'echo run >> {log}\nexec {cc} "$@"')
    path = native.build(source, cache, [compiler])
    library = native.load(path)
    assert library.functions.add(2, 3) == 5
    assert library.path == path
    assert path.parent == cache
    assert path.name.startswith("replay-")
    assert "-O3" in library.flags
    version = subprocess.run([cc, "--version"], capture_output=True, text=True, env={"LC_ALL": "C"}).stdout
    assert library.compiler == version.splitlines()[0]
    assert leftovers(cache) == []
    runs = log.read_text()
    before = path.stat().st_mtime_ns
    assert native.build(source, cache, [compiler]) == path
    assert log.read_text() == runs
    assert path.stat().st_mtime_ns == before


@pytest.mark.sample(3)
@pytest.mark.parametrize("change", ["unit", "header", "new header", "compiler", "argument", "processor"])
def test_what_decides_the_result_is_in_the_name(cc, source, cache, script, monkeypatch, change):
    compiler = [script("compiler", f'exec {cc} "$@"')]
    first = native.build(source, cache, compiler)
    if change == "unit":
        (source / "replay.c").write_text('#include "part.h"\nint two(void) { return 2; }\n')
    elif change == "header":
        (source / "part.h").write_text("int add(int a, int b) { return a - b; }\n")
    elif change == "new header":
        (source / "more.h").write_text("")
    elif change == "compiler":
        script("compiler", f'# newer\nexec {cc} "$@"')
    elif change == "argument":
        compiler.append("-DMORE")
    else:
        monkeypatch.setattr(native, "processor", lambda: "another one")
    second = native.build(source, cache, compiler)
    assert first != second
    assert native.load(second).functions.add(2, 3) == (-1 if change == "header" else 5)


def test_a_program_behind_a_launcher_counts_too(cc, script):
    inner = script("inner", f'exec {cc} "$@"')
    compiler = [script("launcher", 'exec "$@"'), inner]
    before = native._identity(inner)
    script("inner", f'# newer\nexec {cc} "$@"')
    assert native._identity(inner) != before
    assert native._identity("-DMORE") == ("-DMORE",)
    assert len({str(native._identity(word)) for word in compiler}) == 2


@pytest.mark.parametrize(
    ("refused", "there", "gone"),
    [
        ("", ["-march=native", "-mprefer-vector-width=512"], ["-mcpu=native"]),
        ("-march=native", ["-mcpu=native", "-mprefer-vector-width=512"], ["-march=native"]),
        ("-march=native -mprefer-vector-width=512", ["-mcpu=native"], ["-mprefer-vector-width=512"]),
        ("-march=native -mcpu=native -mprefer-vector-width=512", ["-O3"], ["-mcpu=native"]),
    ],
)
def test_flags_that_a_compiler_does_not_take_are_left_out(cc, source, cache, script, refused, there, gone):
    # What it takes it does not hand on: the real compiler takes what its CPU has.
    compiler = script(
        "choosy",
        f"""for flag in "$@"; do
          shift
          for no in {refused}; do [ "$flag" = "$no" ] && exit 1; done
          case "$flag" in -m*) ;; *) set -- "$@" "$flag" ;; esac
        done
        exec {cc} "$@\"""",
    )
    library = native.load(native.build(source, cache, [compiler]))
    assert set(there) <= set(library.flags)
    assert not set(gone) & set(library.flags)


def test_a_wrong_program_is_an_error_with_the_compilers_words(cc, source, cache):
    (source / "replay.c").write_text("int f(void) { return the_missing_name; }\n")
    with pytest.raises(NativeError, match=r"did not compile .*replay\.c \(exit status 1\)") as caught:
        native.build(source, cache, [cc])
    assert "the_missing_name" in str(caught.value)
    assert "Plans run without it" in str(caught.value)
    assert list(cache.iterdir()) == []


def test_long_messages_are_shortened_to_their_end(source, cache, script):
    compiler = script("talking", "for n in $(seq 1 99); do echo line $n; done\nexit 3")
    with pytest.raises(NativeError) as caught:
        native.build(source, cache, [compiler])
    assert "(exit status 3):\nline 80\n" in str(caught.value)
    assert "line 99\n" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["exit 0", 'case "$*" in *probe.c*) echo probe > replay.so;; esac', "kill -9 $$"],
    ids=["writes nothing", "writes probes only", "is killed"],
)
def test_a_compiler_that_leaves_no_library(source, cache, script, text):
    with pytest.raises(NativeError, match="did not compile"):
        native.build(source, cache, [script("broken", text)])
    assert list(cache.iterdir()) == []


def test_a_compiler_that_cannot_be_started(source, cache):
    with pytest.raises(NativeError, match=r"/nowhere/cc cannot be started.* Plans run without it"):
        native.build(source, cache, ["/nowhere/cc"])
    assert list(cache.iterdir()) == []


def test_a_compiler_that_hangs_is_ended_with_all_it_started(source, cache, script, tmp_path, monkeypatch):
    monkeypatch.setattr(native, "_TIMEOUT", 0.5)
    os.mkfifo(tmp_path / "held")
    end = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(NativeError, match=r"did not end within 0\.5 seconds"):
            native.build(source, cache, [script("hanging", f"sleep 20 > {tmp_path}/held &\nwait")])
        assert select.select([end], [], [], 10)[0]  # the child, which held the other end, has gone
    finally:
        os.close(end)
    assert list(cache.iterdir()) == []


def test_missing_sources(tmp_path, cache):
    with pytest.raises(NativeError, match=r"replay\.c is missing"):
        native.build(tmp_path, cache, ["cc"])


def test_the_environment_of_the_compiler_is_plain(cc, source, cache, script, tmp_path, monkeypatch):
    monkeypatch.setenv("CPATH", "/elsewhere")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    native.build(source, cache, [script("telling", f'env > {tmp_path / "env"}\nexec {cc} "$@"')])
    lines = (tmp_path / "env").read_text().splitlines()
    assert "LC_ALL=C" in lines
    assert f"PATH={os.environ['PATH']}" in lines
    assert not any(line.startswith("CPATH") for line in lines)


def test_a_killed_build_leaves_nothing_that_is_loaded(cc, source, cache, script, tmp_path):
    # Where the sources are compiled it writes half a library, waits, and writes on though nobody is there any more.
    slow = script(
        "slow",
        f"""case "$*" in *note.c*)
          echo half > replay.so; touch {tmp_path}/started
          n=0; while [ ! -e {tmp_path}/gone ] && [ $n -lt 3000 ]; do sleep 0.01; n=$((n + 1)); done
          {cc} "$@"; touch {tmp_path}/ended; exit;;
        esac
        exec {cc} "$@\"""",
    )
    process = subprocess.Popen([sys.executable, "-c", BUILD, source, cache, slow])
    try:
        wait_for(tmp_path / "started")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        (tmp_path / "gone").touch()
    wait_for(tmp_path / "ended")
    (left,) = cache.iterdir()
    assert left.name.startswith("building-")
    assert native.load(native.build(source, cache, [cc])).functions.add(2, 3) == 5
    assert leftovers(cache) == [left.name]  # it could be at work still
    os.utime(left, (0, 0))
    (source / "more.h").write_text("")
    native.build(source, cache, [cc])
    assert leftovers(cache) == []


def test_processes_that_build_at_one_time(cc, source, cache, script, tmp_path):
    # Each waits, ten seconds at most, until the others compile too.
    compiler = script(
        "meeting",
        f"""touch {tmp_path}/met-$PPID; n=0
        while [ $(ls {tmp_path} | grep -c met-) -lt 3 ] && [ $n -lt 1000 ]; do sleep 0.01; n=$((n + 1)); done
        exec {cc} "$@\"""",
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", BUILD, source, cache, compiler], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == [b"5\n"] * 3
    assert len(list(cache.iterdir())) == 1


def test_files_are_the_users_alone_whatever_the_umask(cc, source, cache):
    before = os.umask(0)
    try:
        path = native.build(source, cache, [cc])
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o700
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_folder_that_others_can_write_to_is_refused(cc, source, cache, mode):
    native.build(source, cache, [cc])
    cache.chmod(mode)
    with pytest.raises(NativeError, match="others can write to it, so nothing is loaded"):
        native.build(source, cache, [cc])


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_library_that_others_can_write_to_is_built_anew(cc, source, cache, mode):
    path = native.build(source, cache, [cc])
    path.write_bytes(b"theirs")
    path.chmod(mode)
    assert native.load(native.build(source, cache, [cc])).functions.add(2, 3) == 5


def test_what_belongs_to_another_user_is_not_used(cc, source, cache, monkeypatch):
    path = native.build(source, cache, [cc])
    path.write_bytes(b"theirs")
    another = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    with pytest.raises(NativeError, match="belongs to another user"):
        native.build(source, cache, [cc])
    assert path.read_bytes() == b"theirs"


def test_a_library_that_is_a_link_is_built_anew(cc, source, cache):
    path = native.build(source, cache, [cc])
    elsewhere = cache.parent / "elsewhere.so"
    elsewhere.write_bytes(b"theirs")
    elsewhere.chmod(0o700)
    path.unlink()
    path.symlink_to(elsewhere)
    assert native.load(native.build(source, cache, [cc])).functions.add(2, 3) == 5
    assert not path.is_symlink()


@pytest.mark.parametrize("text", [None, "", "not a library"])
def test_a_file_that_does_not_load_is_named(tmp_path, text):
    path = tmp_path / "replay-0.so"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NativeError, match=r"replay-0\.so does not load .*delete it"):
        native.load(path)


def test_a_library_that_is_none_of_ours(cc, source, tmp_path):
    path = tmp_path / "other.so"
    subprocess.run([cc, "-shared", "-fPIC", source / "replay.c", "-o", path], check=True)
    with pytest.raises(NativeError, match="does not load"):
        native.load(path)


def test_an_operation_more_is_a_row_and_an_expression(cc, cache, script, tmp_path, monkeypatch):
    """Built with one more row in the table and one more line of C, the library has one more loop."""
    source = tmp_path / "source"
    shutil.copytree(native._SOURCE, source)
    row = table.Row("triple")
    own = [name for name in numbers.NAMES if name not in {one.name for one in numbers.LOOPS}]
    monkeypatch.setattr(numbers, "LOOPS", [row, *numbers.LOOPS])
    monkeypatch.setattr(numbers, "NAMES", [*(one.name for one in numbers.LOOPS), *own])
    with pytest.raises(NativeError, match="VALUE_triple"):
        native.build(source, cache, [cc])
    with (source / "elementwise.h").open("a") as file:
        file.write("#define VALUE_triple 3 * x\n")
    quick = script("quick", f'exec {cc} "$@" -O0')  # the last -O counts, and takes a fifth of the time
    built = native.load(native.build(source, cache, [quick]))
    built.functions.tinygrad_rnn_operations.restype = ctypes.c_char_p
    assert built.functions.tinygrad_rnn_operations().decode().split() == numbers.NAMES
