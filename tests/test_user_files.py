"""Every file that a user names is read only if it is one: no device, no pipe, nothing without an end."""

import io
import json
import os
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinygrad_rnn.cli import main
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.data import Vocabulary, read_text
from tinygrad_rnn.errors import ConfigError, CorpusError, ModelFileError
from tinygrad_rnn.files import read_whole
from tinygrad_rnn.training import load_model, make_model, save_model

READERS = {"text": (read_text, CorpusError), "config": (TrainConfig.from_toml, ConfigError)}
READERS["model"] = (load_model, ModelFileError)


def endless(folder):
    return Path("/dev/zero")


def pipe(folder):
    os.mkfifo(folder / "pipe")  # nobody will ever write to it
    return folder / "pipe"


def huge(folder):
    with (folder / "huge").open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no room
    return folder / "huge"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("make", [endless, pipe, huge])
def test_what_never_ends_is_refused_before_it_is_read(tmp_path, reader, make):
    read, error = READERS[reader]
    path = make(tmp_path)
    with pytest.raises(error, match=rf"{path.name}.*(is not a regular file|more than|starts with)"):
        read(path)


@pytest.mark.parametrize("reader", READERS)
def test_a_folder_or_nothing(tmp_path, reader):
    read, error = READERS[reader]
    for path in (tmp_path, tmp_path / "none", "a\0b"):
        with pytest.raises(error):
            read(path)


@pytest.fixture
def a_minute():
    """Fail what waits or reads without end."""

    def over(number, frame):
        raise TimeoutError("a minute is over")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "arguments",
    [
        "train /dev/zero",
        "train pipe",
        "train huge",
        "train --config /dev/zero",
        "train --config pipe",
        "train --config huge",
        "evaluate /dev/zero",
        "evaluate huge",
        "evaluate m.npz /dev/zero",
        "generate pipe",
        "truncation m.npz pipe",
        "graph m.npz /dev/zero",
    ],
)
def test_the_commands_refuse_it_in_one_line(tmp_path, arguments, monkeypatch, capsys, a_minute):
    pipe(tmp_path), huge(tmp_path)
    config, vocabulary = TrainConfig(hidden_size=2), Vocabulary(["a", "b"])
    save_model(tmp_path / "m.npz", make_model(config, 2), config, vocabulary)
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    found = capsys.readouterr()
    assert found.err.startswith("tinygrad-rnn: error: ")
    assert found.err.count("\n") == 1
    assert found.out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_read_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"PK12")
    assert read_whole(path, most=4, start=b"PK") == b"PK12"
    with pytest.raises(OSError, match="holds 4 bytes, more than 3"):
        read_whole(path, most=3)
    with pytest.raises(OSError, match="starts with"):
        read_whole(path, most=4, start=b"PQ")


def test_the_limit_of_a_text_can_be_raised(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be")
    assert read_text(path, max_bytes=5) == "to be"
    with pytest.raises(CorpusError, match="holds 5 bytes, more than 4; `tinygrad-rnn prepare` .* a larger max_bytes"):
        read_text(path, max_bytes=4)
    with pytest.raises(ConfigError, match="max_bytes must be an integer of 1 or more"):
        read_text(path, max_bytes=0)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = ", b"x = " + b"[" * 100_000])
def test_a_configuration_that_is_no_toml(tmp_path, content):
    path = tmp_path / "my.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"my\.toml: is not TOML"):
        TrainConfig.from_toml(path)


def archive_of(tmp_path, **claims):
    """Return a small model file whose manifest claims something else."""
    config = TrainConfig(hidden_size=2)
    save_model(tmp_path / "m.npz", make_model(config, 2), config, Vocabulary(["a", "b"]))
    with np.load(tmp_path / "m.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    manifest = json.loads(arrays["manifest"].tobytes())
    manifest["config"].update(claims)
    arrays["manifest"] = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
    return arrays


def test_a_model_file_that_claims_more_than_it_holds(tmp_path):
    np.savez(tmp_path / "liar.npz", **archive_of(tmp_path, hidden_size=1_000_000))
    with pytest.raises(ModelFileError, match="its configuration has 1,000,002,000,000 parameters or more"):
        load_model(tmp_path / "liar.npz")


def test_a_model_file_that_unpacks_to_far_more(tmp_path):
    arrays = archive_of(tmp_path)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{name}.npy", buffer.getvalue())
        archive.writestr("parameters/more.npy", b"\0" * (1 << 24))
    with pytest.raises(ModelFileError, match="its members are larger than the file"):
        load_model(tmp_path / "bomb.npz")
