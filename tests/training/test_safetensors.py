"""Modules and language models as .safetensors files: round trips, damage, files of others."""

import json
import struct
import sys

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.training import load_model, make_model, save_model
from tinygrad_rnn.training.files import safetensors as own
from tinygrad_rnn.training.language.modelfile import init_from

library = pytest.importorskip("safetensors.numpy", reason="the extra [safetensors]")
RNG = np.random.default_rng
WORDS = tr.Vocabulary(["<unk>", "a", "ü", '"', "\n", "\U0001f600"])
CONFIG = TrainConfig(hidden_size=3, cell="gru", tied=True, seed=5)
MODEL = make_model(CONFIG, len(WORDS))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, MODEL, CONFIG, WORDS)
    return path.read_bytes()


class Holder(tr.Module):
    """Arrays of every dtype that the format has, and of every order in memory."""

    buffers = ("arrays", "scale")

    def __init__(self):
        plain = RNG(0).integers(0, 100, (3, 4))
        kinds = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
        self.w = tr.parameter(np.ones(2), np.float32)
        self.arrays = {kind: plain.astype(kind) for kind in kinds}
        self.arrays |= {
            "transposed": plain.T,
            "strided": plain[::2, ::-1],
            "empty": np.zeros((0, 3)),
            "big": plain * 1.0,
        }
        self.scale = np.array(2.0)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert (array.dtype, array.shape) == (other[name].dtype, other[name].shape)
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_a_language_model(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    again, config, vocabulary = load_model(tmp_path / "model.safetensors")
    assert (config, vocabulary) == (CONFIG, WORDS)
    assert_same(MODEL.state_dict(), again.state_dict())
    other = make_model(CONFIG.replace(seed=7), len(WORDS))
    assert init_from(tmp_path / "model.safetensors", other, WORDS) == []
    assert_same(MODEL.state_dict(), other.state_dict())


def test_same_model_same_bytes(tmp_path, content):
    save_model(tmp_path / "again.safetensors", MODEL, CONFIG, WORDS)
    assert (tmp_path / "again.safetensors").read_bytes() == content


def test_every_dtype_and_order(tmp_path):
    holder = Holder()
    tr.save(tmp_path / "m.safetensors", holder)
    again = tr.load(tmp_path / "m.safetensors")
    assert_same(holder.state_dict(), again.state_dict())
    assert_same(holder.state_dict(), dict(library.load_file(tmp_path / "m.safetensors")))  # as others read it
    again.arrays["f4"][0, 0] = 5  # arrays of a module are its own


class Foreign(tr.Module):
    buffers = ("far",)

    def __init__(self):
        self.w, self.far = tr.parameter(np.ones(2)), np.arange(3, dtype=">f8")


def test_the_other_byte_order(tmp_path):
    tr.save(tmp_path / "m.safetensors", Foreign())
    again = tr.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.far, [0.0, 1.0, 2.0])


def test_arguments_generators_and_the_optimizer(tmp_path):
    module, optimizer = tr.Linear(2, 1, RNG(0), np.float64), tr.Adam(0.1)
    optimizer.update(module.parameters(), {"W": np.ones((2, 1)), "b": np.ones(1)})
    tr.save(tmp_path / "m.safetensors", module, optimizer=optimizer)
    other = tr.Adam(0.1)
    assert_same(tr.load(tmp_path / "m.safetensors", optimizer=other).state_dict(), module.state_dict())
    assert other.steps == 1
    tr.save(tmp_path / "m.npz", tr.load(tmp_path / "m.safetensors"))
    assert_same(tr.load(tmp_path / "m.npz").state_dict(), module.state_dict())


def flipped(content, place, bit):
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    return bytes(damaged)


def assert_found(path, damaged):
    path.write_bytes(damaged)
    with pytest.raises(tr.ModelFileError, match="^load_model: ") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_any_of_200_places(tmp_path, content):
    rng = RNG(0)
    for place in rng.integers(0, len(content), 200):
        assert_found(tmp_path / "m.safetensors", flipped(content, place, rng.integers(8)))


def test_a_bit_that_means_the_same_to_a_reader_of_json(tmp_path, content):
    assert_found(tmp_path / "m.safetensors", flipped(content, content.index(b"u00fc") + 3, 5))  # u00fC


@pytest.mark.nightly
def test_any_flipped_bit(tmp_path, content):
    for place in range(len(content)):
        for bit in range(8):
            assert_found(tmp_path / "m.safetensors", flipped(content, place, bit))


def test_cut_short_or_longer(tmp_path, content):
    for length in RNG(0).integers(0, len(content), 50):
        assert_found(tmp_path / "m.safetensors", content[:length])
    assert_found(tmp_path / "m.safetensors", content + b"\0")


def rewritten(content, change):
    """The file with another manifest and other arrays, its own digest made to fit."""
    manifest, arrays = own.unpacked(content)
    change(manifest, arrays)
    return own.packed(manifest, arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, a: m.update(version=2), "has format version 2"),
        (lambda m, a: m.update(format="other"), "its manifest is of another format"),
        (lambda m, a: m.pop("vocabulary"), "KeyError: 'vocabulary'"),
        (lambda m, a: m["config"].update(hidden_size=4), "expected"),
        (lambda m, a: a.update(output=a["output"] + 1), "sha256 of output does not fit"),
        (lambda m, a: a.pop("output"), r"parameters \['output'\] are missing or unknown"),
        (lambda m, a: a.update(more=np.zeros(1)), r"parameters \['more'\] are missing or unknown"),
    ],
)
def test_a_whole_file_that_is_not_the_model(tmp_path, content, change, message):
    (tmp_path / "m.safetensors").write_bytes(rewritten(content, change))
    with pytest.raises(tr.ModelFileError, match=message):
        load_model(tmp_path / "m.safetensors")


def header_of(text, data=b""):
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"to be or not to be",
        b"PK\x03\x04",
        header_of(b"{}"),
        header_of(b'{"__metadata__":{"tinygrad_rnn":"7"}}'),
        header_of(b'{"__metadata__":{"tinygrad_rnn":"[]"}}'),
        header_of(b'{"__metadata__":{"tinygrad_rnn":"{"}}'),
        struct.pack("<Q", 2**60) + b"{}",
        header_of(b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'),
        header_of(b"[" * 10_000),
    ],
)
def test_other_files(tmp_path, other):
    assert_found(tmp_path / "m.safetensors", other)


def test_arrays_of_another_program(tmp_path):
    library.save_file({"weight": np.ones((2, 3), np.float32)}, tmp_path / "theirs.safetensors", {"format": "pt"})
    with pytest.raises(tr.ModelFileError, match=r"no metadata of tinygrad_rnn.*load_file.*from_torch"):
        tr.load(tmp_path / "theirs.safetensors", into=tr.Linear(3, 2, RNG(0), bias=False))


def test_a_dtype_without_a_place(tmp_path):
    with pytest.raises(tr.ConfigError, match=r"cannot hold these arrays, of complex128.*save an \.npz file"):
        own.packed({}, {"z": np.zeros(2, np.complex128)})
    with pytest.raises(tr.ConfigError, match="cannot hold these arrays"):
        own.packed({}, {"z": np.array(["a"])})


def test_without_the_library(tmp_path, content, monkeypatch):
    (tmp_path / "m.safetensors").write_bytes(content)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setattr(own.importlib.util, "find_spec", lambda name: None)
    for call in (lambda: load_model(tmp_path / "m.safetensors"), lambda: tr.save(tmp_path / "n.safetensors", MODEL)):
        with pytest.raises(tr.ConfigError, match=r'pip install "tinygrad_rnn\[safetensors\]"'):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_the_metadata_are_json_that_others_can_read(content):
    (length,) = struct.unpack("<Q", content[:8])
    manifest = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["tinygrad_rnn"])
    assert manifest["config"]["cell"] == "gru"
    assert manifest["vocabulary"] == WORDS.to_list()
