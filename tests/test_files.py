"""Files that are written whole or not at all, whatever fails, and that every writer of the package does it this way."""

import os
import re
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn import files
from tinygrad_rnn.files import append_whole, write_atomically, write_figure
from tinygrad_rnn.training.language.records import EpochRecord
from tinygrad_rnn.training.language.runfiles import TakenFiles, save_curve

OLD = b"what was there before"


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def record(epoch):
    return EpochRecord(epoch, 10, 2.0, 7.4, 2.1, 8.2, 3.0, 0.01, 1.5, 100, 50.0, 2.0, interrupted=False)


def drawing():
    return tr.draw(tr.RNNCell(2, 3, np.random.default_rng(0)), np.ones((1, 3, 2), np.float32))


def report():
    model = tr.RNNLM(5, 3, 3, np.random.default_rng(0))
    text = np.arange(10).reshape(2, 5) % 5
    return tr.truncation_report(model, text[:, :-1], text[:, 1:], [tr.Full()], repeats=1)


def flow(path):
    cell = tr.RNNCell(2, 3, np.random.default_rng(0))
    tr.plot_gradient_flow(cell, np.ones((1, 4, 2), np.float32), path=path)


# Everything that the package writes for a user but the model file, whose tests are those of training/.
WRITERS = {
    "drawing.svg": lambda path: drawing().save(path),
    "drawing.dot": lambda path: drawing().save(path),
    "drawing.html": lambda path: drawing().save(path),
    "page.htm": lambda path: drawing().html(path),
    "drawing.png": lambda path: drawing().save(path),
    "drawing.pdf": lambda path: drawing().save(path),
    "flow.png": flow,
    "report.pdf": lambda path: report().plot(path),
    "curve.png": lambda path: save_curve([record(1), record(2)], path),
    "metrics.jsonl": lambda path: TakenFiles(path.with_name("model.npz"), force=True).append(record(2)),
}


@pytest.fixture(params=WRITERS)
def writer(request, tmp_path):
    """Return a file that is there, and what writes it."""
    path = tmp_path / request.param
    path.write_bytes(OLD)
    if request.param in ("drawing.png", "drawing.pdf"):
        try:
            drawing().save(tmp_path / "tried.png")
        except tr.DrawingError as error:
            pytest.skip(str(error))
        (tmp_path / "tried.png").unlink()
    return path, lambda: WRITERS[request.param](path)


@pytest.mark.parametrize("write", [write_atomically, append_whole])
def test_a_full_disk_leaves_the_old_file(write, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(OLD)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)  # all bytes are written, and the disk does not take them
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{path}'")):
        write(path, "new")
    assert content(tmp_path) == {"a": OLD}


def test_half_a_write_leaves_the_old_file(writer, monkeypatch):
    """A limit of the system ends the write in its middle."""
    path, write = writer
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python would keep half of what it compiles meanwhile
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, hard))
    try:
        with pytest.raises(OSError, match=r"File too large|No space left"):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert content(path.parent) == {path.name: OLD}


@pytest.mark.parametrize("name", ["drawing.svg", "drawing.dot", "drawing.html", "metrics.jsonl", "curve.png"])
def test_a_write_replaces_the_old_file(name, tmp_path):
    (tmp_path / name).write_bytes(OLD)
    WRITERS[name](tmp_path / name)
    assert content(tmp_path).keys() == {name}
    assert (tmp_path / name).read_bytes() != OLD
    assert (OLD in (tmp_path / name).read_bytes()) == (name == "metrics.jsonl")  # which is added to


KILLED = """
import os, sys
from tinygrad_rnn import files
files.os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
files.write_atomically(sys.argv[1], "new")
"""


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(OLD)
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -9
    assert path.read_bytes() == OLD


def test_a_new_file_is_not_there_if_it_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a", "new")
    with pytest.raises(ZeroDivisionError):
        append_whole(tmp_path / "b", "new")
    assert content(tmp_path) == {"b": b""}


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "nowhere" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(path, b"one")
    assert caught.value.filename == str(path)
    assert caught.value.strerror == f"there is no folder {str(path.parent)!r}; make it first"
    assert list(tmp_path.iterdir()) == []


def test_links_permissions_and_long_names_are_kept(tmp_path):
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / ("é" * 127)  # 254 bytes, one less than a name can have
    target.write_bytes(OLD)
    target.chmod(0o640)
    (tmp_path / "link").symlink_to(target)
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "folder") == {target.name: b"new"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_what_is_no_file_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=write_atomically, args=(pipe, "new"))
    thread.start()
    assert pipe.read_text() == "new"
    thread.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_atomically(os.devnull, "new")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, "new")


def test_several_threads_write_one_file(tmp_path):
    texts = [str(number) * 100_000 for number in range(4)]
    threads = [threading.Thread(target=write_atomically, args=(tmp_path / "a", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(tmp_path).keys() == {"a"}
    assert (tmp_path / "a").read_text() in texts


def test_the_ending_chooses_the_format_of_a_figure(tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    for name, start in {"a.svg": b"<?xml", "a.PNG": b"\x89PNG", "a": b"\x89PNG", "a.pdf": b"%PDF"}.items():
        write_figure(tmp_path / name, figure, dpi=50)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(ValueError, match="xyz"):
        write_figure(tmp_path / "a.xyz", figure, dpi=50)
    assert content(tmp_path).keys() == {"a.svg", "a.PNG", "a", "a.pdf"}
