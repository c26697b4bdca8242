"""Model files: round trip, damage, and a killed save."""

import io
import json
import pickle
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.errors import ConfigError, ModelFileError
from tinygrad_rnn.training import load_model, make_model, save_model

WORDS = Vocabulary(["<unk>", "a", "ü", '"', "\n"])
CONFIG = TrainConfig(hidden_size=3, cell="gru", tied=True, seed=5)
MODEL = make_model(CONFIG, len(WORDS))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.npz"
    save_model(path, MODEL, CONFIG, WORDS)
    return path.read_bytes()


def assert_same(saved):
    assert saved.config == CONFIG
    assert saved.vocabulary == WORDS
    for name, parameter in MODEL.parameters().items():
        np.testing.assert_array_equal(saved.model.parameters()[name].data, parameter.data)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        CONFIG.replace(cell="rnn", tied=False, embedding_size=2, layers=2),
        CONFIG.replace(cell="lstm", dtype="float64", dropout=0.5),
    ],
)
def test_round_trip(tmp_path, config):
    model = make_model(config.replace(seed=9), len(WORDS))
    save_model(tmp_path / "model.npz", model, config, WORDS)
    for place in (tmp_path, tmp_path / "model.npz", str(tmp_path)):
        loaded, loaded_config, vocabulary = load_model(place)
        assert (loaded_config, vocabulary) == (config, WORDS)
        for name, parameter in model.parameters().items():
            assert loaded.parameters()[name].dtype == parameter.dtype
            np.testing.assert_array_equal(loaded.parameters()[name].data, parameter.data)


def test_same_model_same_bytes(tmp_path, content):
    save_model(tmp_path / "again.npz", MODEL, CONFIG, WORDS)
    assert (tmp_path / "again.npz").read_bytes() == content


def test_a_model_that_could_not_be_loaded_is_not_saved(tmp_path):
    with pytest.raises(ConfigError, match="a model file can hold only what make_model"):
        save_model(tmp_path / "model.npz", MODEL, CONFIG.replace(hidden_size=4), WORDS)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=examples(60))
@given(data=st.data())
def test_a_flipped_bit(tmp_path_factory, content, data):
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("flip") / "model.npz"
    path.write_bytes(damaged)
    try:
        saved = load_model(path)
    except ModelFileError:
        return
    assert_same(saved)  # a bit that carries nothing, such as one of a date


@settings(max_examples=examples(60))
@given(data=st.data())
def test_a_file_cut_short(tmp_path_factory, content, data):
    path = tmp_path_factory.mktemp("cut") / "model.npz"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ModelFileError, match="damaged"):
        load_model(path)


def rewritten(content, change):
    """The file with a changed manifest and changed arrays, as a valid npz."""
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    manifest = json.loads(arrays["manifest"].tobytes())
    manifest = change(manifest, arrays) or manifest
    arrays["manifest"] = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, a: m.update(version=2), r"has format version 2; this tinygrad_rnn .* reads up to 1"),
        (lambda m, a: m.update(version="1"), "has format version '1'"),
        (lambda m, a: m.update(format="other"), "its manifest is of another format"),
        (lambda m, a: [m], "its manifest is of another format"),
        (lambda m, a: [m.pop("vocabulary"), None][1], "KeyError: 'vocabulary'"),
        (lambda m, a: m["vocabulary"].append("a"), "the same as"),
        (lambda m, a: m["config"].update(cell="gnu"), "cell must be one of"),
        (lambda m, a: m["config"].update(colour=1), "unknown setting 'colour'"),
        (lambda m, a: m["config"].update(hidden_size=4), "expected"),
        (lambda m, a: a.update({"parameters/output": a["parameters/output"] + 1}), "sha256 of output does not fit"),
        (lambda m, a: [a.pop("parameters/output"), None][1], r"parameters \['output'\] are missing or unknown"),
        (lambda m, a: a.update({"parameters/more": np.zeros(1)}), r"parameters \['more'\] are missing or unknown"),
    ],
)
def test_a_whole_npz_that_is_not_the_model(tmp_path, content, change, message):
    path = tmp_path / "model.npz"
    path.write_bytes(rewritten(content, change))
    with pytest.raises(ModelFileError, match=message):
        load_model(path)


class Payload:
    """Unpickled, it would write a file."""

    def __reduce__(self):
        return exec, ("open('executed', 'w')",)


def test_nothing_is_unpickled(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.npz").write_bytes(rewritten(content, lambda m, a: a.update({"parameters/output": object_array()})))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Payload()))
    (tmp_path / "c.npz").write_bytes(npy(object_array()))
    for name in ("a.npz", "b.npz", "c.npz"):
        with pytest.raises(ModelFileError, match=name):
            load_model(name)
    assert not (tmp_path / "executed").exists()


def object_array():
    return np.array([Payload()], dtype=object)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zip_of(text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", text)
    return buffer.getvalue()


@pytest.mark.parametrize("other", [b"", b"to be or not to be", b"\x93NUMPY", npy(np.ones(3)), zip_of("x"), b"\0" * 99])
def test_other_files(tmp_path, other):
    path = tmp_path / "other.npz"
    path.write_bytes(other)
    with pytest.raises(ModelFileError, match=r"^load_model: '.*other\.npz' is not a model of tinygrad_rnn"):
        load_model(path)


def test_missing_files(tmp_path):
    for path in (tmp_path, tmp_path / "none.npz", "nul\0"):
        with pytest.raises(ModelFileError, match="load_model"):
            load_model(path)


SAVER = """
import sys
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.training import make_model, save_model
config, words = TrainConfig(hidden_size=48), Vocabulary([str(i) for i in range(2000)])
models = [make_model(config.replace(seed=seed), len(words)) for seed in (0, 1)]
while True:
    for model in models:
        save_model(sys.argv[1], model, config, words)
        print("saved", flush=True)
"""


@pytest.mark.nightly
def test_a_killed_save_never_damages_the_file(tmp_path):
    path = tmp_path / "model.npz"
    config, rng = TrainConfig(hidden_size=48), np.random.default_rng(0)
    known = [make_model(config.replace(seed=seed), 2000).embedding.W.data for seed in (0, 1)]
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", SAVER, str(path)], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
        table = load_model(path).model.embedding.W.data
        assert any(np.array_equal(table, each) for each in known)
