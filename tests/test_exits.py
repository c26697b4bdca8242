"""How commands end: by signals, and by an error in one process of several."""

import fcntl
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from tinygrad_rnn.cli import main
from tinygrad_rnn.exits import TerminatedError, interrupted_by, terminable

TEXT = "to be or not to be that is the question\n" * 30


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a text and a model of it."""
    folder = tmp_path_factory.mktemp("exits")
    (folder / "play.txt").write_text(TEXT)
    flags = ["--hidden-size", "8", "--batch-size", "4", "--bptt", "5", "--epochs", "1", "--no-progress"]
    assert main(["train", str(folder / "play.txt"), *flags, "--save", str(folder / "model")]) == 0
    return folder


READERS = {
    "evaluate": ["model", "-"],
    "score": ["model", "-"],
    "generate": ["model", "--prompts", "-"],
    "truncation": ["model", "-"],
    "graph": ["model", "-"],
    "prepare": ["-", "--out", "corpus"],
    "train": ["-", "--save", "run"],
    "sweep": ["-", "--search", "lr=log:0.01:0.1", "--out", "sweep"],
}


def wait_until_it_waits(process):
    """Wait until a process has read all that it was sent, and sleeps: a signal amid a long read is seen after it."""
    deadline = time.monotonic() + 60
    while True:
        (unread,) = struct.unpack("i", fcntl.ioctl(process.stdin, termios.FIONREAD, b"    "))
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if not unread and state == "S":
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.sample(3)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGTERM, 143, "tinygrad-rnn: terminated\n"),
        pytest.param(signal.SIGINT, 130, "tinygrad-rnn: interrupted\n", marks=pytest.mark.nightly),
    ],
)
def test_a_signal_ends_every_command_with_one_line(place, name, number, code, said):
    command = [sys.executable, "-m", "tinygrad_rnn", name, *READERS[name]]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=place, text=True, **pipes) as process:
        process.stdin.write("to be " * 40_000)  # more than a pipe holds: it is written when the command reads
        process.stdin.flush()
        wait_until_it_waits(process)
        process.send_signal(number)
        assert (process.wait(60), process.stdout.read(), process.stderr.read()) == (code, "", said)
        process.stdin.close()
    assert not [path for path in ("run", "sweep") if Path(place, path).exists()]


def test_sigterm_is_an_interrupt_meanwhile_and_is_as_before_afterwards():
    with pytest.raises(TerminatedError), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert type(interrupted_by(signal.SIGINT)) is KeyboardInterrupt


def test_a_handler_of_the_program_that_calls_is_kept(place):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        with terminable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [1]
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["generate", str(place / "model"), "--length", "1"])))
    thread.start()
    thread.join()
    assert codes == [0]
