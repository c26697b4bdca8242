"""Arrays in mapped files: the same windows as from memory, and memory that does not grow with the file."""

import subprocess
import sys

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn.data import Corpus, OffsetBatches, Vocabulary, load_corpus, prepare_corpus, unigram_nats
from tinygrad_rnn.data.heldout import HeldOutWindows
from tinygrad_rnn.data.mapped import blocks, mapping_of, release
from tinygrad_rnn.errors import CorpusError
from tinygrad_rnn.training.files.archive import digest


def mapped(folder, array, mode="r"):
    path = folder / f"{array.dtype}{array.shape}.npy"
    np.save(path, array)
    return np.load(path, mmap_mode=mode)


def same(one, other):
    one, other = [*one], [*other]
    assert len(one) == len(other) > 0
    for found, expected in zip(one, other, strict=True):
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int64", "float32", "float64"])
@pytest.mark.parametrize("shape", [(101,), (101, 3)])
def test_offset_windows_of_a_file_are_those_of_the_array(dtype, shape, tmp_path):
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    file = mapped(tmp_path, values)
    for given_targets in (None, values.astype("int16") - 3):
        targets = None if given_targets is None else mapped(tmp_path, given_targets)
        batches = OffsetBatches(file, 4, 6, targets=targets)
        same(batches, OffsetBatches(values, 4, 6, targets=given_targets))
        same(batches.rows(1, 3), [(xs[1:3], ts[1:3]) for xs, ts in OffsetBatches(values, 4, 6, targets=given_targets)])
    assert mapping_of(batches._inputs) is not None


@given(
    length=st.integers(2, 60),
    batch_size=st.integers(1, 9),
    bptt=st.integers(1, 9),
    whole=st.booleans(),
    cut=st.floats(0, 1),
)
@settings(max_examples=examples(60))
def test_each_held_out_token_but_the_first_is_a_target_once(length, batch_size, bptt, whole, cut):
    """After the tokens before it in its stream; and the rows alone are those of all."""
    ids = np.arange(length, dtype=np.uint16)
    windows = HeldOutWindows(ids, batch_size, bptt, whole)
    xs, targets = (np.concatenate(parts, axis=1) for parts in zip(*windows, strict=True))
    assert len(windows) == -(-xs.shape[1] // min(bptt, xs.shape[1]))
    assert windows.streams == len(xs) <= batch_size
    assert sorted(targets[targets >= 0].tolist()) == [*range(1, length)]
    assert (xs[targets >= 0] + 1 == targets[targets >= 0]).all()
    assert not xs[targets < 0].any()
    start = int(cut * (windows.streams - 1))
    same(windows.rows(start, windows.streams), [(x[start:], t[start:]) for x, t in windows])


def test_held_out_windows_of_a_file(tmp_path):
    ids = np.arange(100, dtype=np.uint8)
    same(HeldOutWindows(mapped(tmp_path, ids), 3, 7), HeldOutWindows(ids, 3, 7))


def test_release_keeps_what_was_read_and_what_was_written(tmp_path):
    values = np.arange(5000)
    for mode in ("r", "r+", "c"):
        file = mapped(tmp_path, values, mode)
        view = file[10:20].reshape(2, 5)
        if mode != "r":
            file[12] = -1
        release(view, values)
        assert view[0, 2] == (12 if mode == "r" else -1)
        assert (mapping_of(view) is None) == (mode == "c")
    assert [len(block) for block in blocks(file, 3000)] == [3000, 2000]


def test_a_negative_id_in_a_file_is_found_when_it_is_read(tmp_path):
    ids = np.arange(40)
    ids[33] = -1
    batches = iter(OffsetBatches(mapped(tmp_path, ids), 1, 20))
    next(batches)
    with pytest.raises(CorpusError, match="the id -1"):
        next(batches)


def test_digests_of_files_are_those_of_arrays(tmp_path):
    for array in (np.arange(300_000), np.zeros((2, 3), bool), np.zeros(0), np.float32(2) * np.ones((3, 2))[:, ::-1]):
        assert digest(mapped(tmp_path, array)) == digest(array)


def test_a_corpus_of_a_file_is_not_copied(tmp_path):
    ids = np.array([0, 1, 2, 1, 0, 2, 2, 1], np.uint8)
    vocabulary = Vocabulary(["<unk>", "a", "b"])
    file = mapped(tmp_path, ids)
    corpus, copy = Corpus(file, vocabulary, "char"), Corpus(ids, vocabulary, "char")
    assert corpus.ids is file
    train, valid = corpus.split(0.25)
    assert mapping_of(train.ids) is mapping_of(valid.ids) is mapping_of(file)
    for one, other in ((corpus, copy), *zip((train, valid), copy.split(0.25), strict=True)):
        assert one.unknown_rate == other.unknown_rate
        assert one.counts.tolist() == other.counts.tolist()
    assert unigram_nats(train, valid) == unigram_nats(*copy.split(0.25))
    with pytest.raises(CorpusError, match=r"damaged: it holds the id 2, outside 0 .. V-1 = 1"):
        _ = Corpus(file, Vocabulary(["a", "b"]), "char").counts


def test_load_corpus_of_a_folder(tmp_path):
    text = "the cat sat on the mat\n" * 30
    (tmp_path / "text").write_text(text)
    prepare_corpus([tmp_path / "text"], tmp_path / "out", "word", min_count=2, held_out=0.2)
    for held_out, most in ((0.2, None), (0.3, 50)):
        found = load_corpus(tmp_path / "out", "word", held_out=held_out, max_tokens=most)
        expected = load_corpus(text, "word", 2, held_out, most)
        for one, other in zip(found, expected, strict=True):
            assert one.ids.tolist() == other.ids.tolist()
            assert one.vocabulary == other.vocabulary


MEMORY = """
import resource, sys, numpy as np
from tinygrad_rnn.data import OffsetBatches
from tinygrad_rnn.data.heldout import HeldOutWindows
from tinygrad_rnn.training.files.archive import digest
from tinygrad_rnn.data import Corpus, Vocabulary
ids = np.load(sys.argv[1], mmap_mode="r")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
digest(ids)
Corpus(ids, Vocabulary.of_bytes(), "byte").counts
for windows in (OffsetBatches(ids, 8, 5000), HeldOutWindows(ids, 8, 5000)):
    for _ in windows:
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """A file of 64 MiB is read to its end, four times; a block is 1 MiB of ids, of which windows of int64 are made."""
    path = tmp_path / "ids.npy"
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(64 << 20,))
    del file
    found = subprocess.run([sys.executable, "-c", MEMORY, str(path)], check=True, capture_output=True, text=True)
    assert float(found.stdout) < 45
