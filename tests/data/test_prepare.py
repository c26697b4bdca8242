"""Corpora that are prepared in parts: the same as in memory, whatever is cut, spilled or killed."""

import contextlib
import gzip
import io
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn.data import Corpus, Vocabulary, load_corpus, prepare_corpus, tokenize
from tinygrad_rnn.data.pieces import pieces
from tinygrad_rnn.data.prepared import read_prepared
from tinygrad_rnn.errors import ConfigError, CorpusError

LEVELS = ["word", "char", "byte", "token"]
PLAY = (
    "To be, or not to be:\n\n  that's the question \u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3!\r\n" * 6
    + "<unk> caf\u00e9 \u00a0\n\u00a0\n x\u00df"
)
# Signs that tell where a text may be cut: blanks, line ends of each kind, signs, an unknown token, letters of several
# bytes, a sigma, which is lowered by what is around it, and the apostrophe, past which that rule looks.
ALPHABET = [
    "a",
    "b",
    " ",
    "\n",
    "\r",
    "\r\n",
    ".",
    ",",
    "'",
    "\u2019",
    "<unk>",
    "\u03a3",
    "\u00e9",
    "\u00a0",
    "\U0001f600",
    "\t",
    "-",
    "(",
    "\x1c",
]


def in_memory(text, level, min_count=1, held_out=0.0):
    """Return the corpus that `load_corpus` makes, as a whole."""
    raw = text.encode() if level == "byte" else text.replace("\r\n", "\n").replace("\r", "\n")
    if not held_out:
        return Corpus.from_text(raw, level, min_count)
    train, valid = load_corpus(raw, level, min_count, held_out)
    return Corpus(np.concatenate([train.ids, valid.ids]), train.vocabulary, level)


def assert_same(found, expected):
    assert found.vocabulary == expected.vocabulary
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.level == expected.level


def tokens_of(found, level):
    return [token for one in found for token in (tokenize(one.text, level) if level == "byte" else one.tokens(level))]


@pytest.mark.parametrize("level", LEVELS)
@given(parts=st.lists(st.sampled_from(ALPHABET), max_size=60), size=st.integers(1, 9))
@settings(max_examples=examples(40))
def test_pieces_have_the_tokens_of_the_whole(level, parts, size, tmp_path_factory):
    path = tmp_path_factory.mktemp("pieces") / "text"
    path.write_bytes("".join(parts).encode())
    found = tokens_of(pieces([str(path)], level, size=size), level)
    expected = path.read_bytes() if level == "byte" else "".join(parts).replace("\r\n", "\n").replace("\r", "\n")
    assert found == tokenize(expected, level)


@pytest.mark.parametrize("level", LEVELS)
def test_reading_goes_on_at_every_position(level, tmp_path):
    """From a file, an unpacked one and a pipe alike."""
    paths = [str(tmp_path / name) for name in ("a", "b.gz", "c")]
    Path(paths[0]).write_bytes(PLAY.encode())
    Path(paths[1]).write_bytes(gzip.compress(PLAY.encode()))
    Path(paths[2]).write_bytes(b"\xef\xbb\xbf\n\nend")
    whole = [*pieces(paths, level, size=17)]
    for number in range(0, len(whole), 5):
        rest = [*pieces(paths, level, whole[number].after, size=17)]
        assert tokens_of(rest, level) == tokens_of(whole[number + 1 :], level)
        assert rest[-1].after == whole[-1].after
    assert sum(piece.size for piece in whole) == 2 * len(PLAY.encode()) + 8


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("most", "every"), [(1 << 19, 1 << 26), (5, 300), (2, 150)])
def test_the_ids_and_the_vocabulary_are_those_of_the_whole_in_memory(level, most, every, tmp_path):
    """Whatever tables hold; with a held-out part, and rare tokens."""
    (tmp_path / "play").write_bytes(PLAY.encode())
    for held_out in (0.0, 0.3):
        expected, full = in_memory(PLAY, level, 2, held_out), most < 100 and level != "byte"
        with pytest.warns(UserWarning, match="limited to the") if full else contextlib.nullcontext():
            found = prepare_corpus(
                [tmp_path / "play"],
                tmp_path / f"out{held_out}",
                level,
                min_count=2,
                held_out=held_out,
                most_tokens=most,
                every=every,
            )
        assert found.ids.dtype == np.uint8
        assert isinstance(found.ids, np.memmap)
        if full:
            assert found.vocabulary.tokens == expected.vocabulary.tokens[:most]
        else:
            assert_same(found, expected)


@given(
    words=st.lists(st.integers(0, 40), min_size=20, max_size=200),
    most=st.integers(4, 12),
    held_out=st.sampled_from([0.0, 0.2]),
)
@settings(max_examples=10)
def test_tables_that_are_spilled_lose_no_count(words, most, held_out, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spilled")
    text = " ".join(f"w{word}" for word in words)
    (folder / "text").write_text(text)
    expected = in_memory(text, "token", held_out=held_out)
    V = min(most, len(expected.vocabulary))
    found = prepare_corpus(
        [folder / "text"], folder / "out", "token", vocab_size=V, held_out=held_out, most_tokens=most, every=100
    )
    assert found.vocabulary.tokens == expected.vocabulary.tokens[:V]
    assert found.ids.tolist() == [i if i < V else 0 for i in expected.ids.tolist()]


@pytest.mark.sample(3)
@pytest.mark.parametrize(("V", "dtype"), [(200, "uint8"), (256, "uint8"), (257, "uint16"), (70_000, "uint32")])
def test_the_smallest_dtype_that_fits(V, dtype, tmp_path):
    text = " ".join(f"w{i}" for i in range(V - 1))
    (tmp_path / "text").write_text(text)
    found = prepare_corpus([tmp_path / "text"], tmp_path / "out", "token", held_out=0)
    assert len(found.vocabulary) == V
    assert found.ids.dtype == dtype
    assert found.vocabulary.decode(found.ids) == text.split()


def test_several_files_are_one_text(tmp_path, monkeypatch):
    """With a line end between two that lack one; stdin and packed files are files too."""
    (tmp_path / "a").write_text("a b")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"c\n"))
    (tmp_path / "empty").write_text("")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n\nd e")))
    files = [tmp_path / "a", tmp_path / "empty", tmp_path / "b.gz", "-"]
    found = prepare_corpus(files, tmp_path / "out", "word", held_out=0)
    assert found.vocabulary.decode(found.ids) == ["a", "b", "<eos>", "c", "<eos>", "d", "e"]
    assert read_prepared("f", tmp_path / "out").sources == [
        [str(f), n] for f, n in zip(files, (3, 0, 2, 5), strict=True)
    ]


def test_a_vocabulary_that_is_given(tmp_path):
    (tmp_path / "a").write_text("a b c a")
    known = Vocabulary(["<unk>", "c", "a"])
    found = prepare_corpus([tmp_path / "a"], tmp_path / "out", "word", vocabulary=known)
    assert found.ids.tolist() == [2, 0, 1, 2]
    assert found.vocabulary == known
    with pytest.raises(CorpusError, match="'b', which is not among the 2 tokens"):
        prepare_corpus([tmp_path / "a"], tmp_path / "closed", "word", vocabulary=Vocabulary(["a", "c"]))
    with pytest.raises(ConfigError, match="needs the vocabulary of bytes"):
        prepare_corpus([tmp_path / "a"], tmp_path / "bytes", "byte", vocabulary=known)


KILLED = """
import sys, time, pathlib
from tinygrad_rnn.data import prepare_corpus
def slow(done, tokens):
    time.sleep(0.01)
prepare_corpus(sys.argv[2:], sys.argv[1], "word", min_count=2, most_tokens=400, every=3000,
    vocab_size=300, on_progress=slow)
"""


def killed_preparations(folder, kills, rng):
    """Prepare a text in processes that are killed; return how many were killed before one was done."""
    words = rng.zipf(1.3, 40_000) % 3000
    text = "".join(f"w{word}" + (" " if number % 11 else "\n") for number, word in enumerate(words))
    (folder / "a").write_text(text)
    (folder / "b.gz").write_bytes(gzip.compress(text[:50_000].encode()))
    files = [str(folder / "a"), str(folder / "b.gz")]
    expected = prepare_corpus(files, folder / "whole", "word", min_count=2, vocab_size=300, most_tokens=400)
    killed = 0
    while True:
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder / "out"), *files])
        if killed < kills:
            time.sleep(0.15 + rng.uniform(0, 0.3))
            process.kill()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
        killed += 1
        if (folder / "out" / "corpus.json").exists() and not (folder / "out" / "preparing").exists():
            break  # it was done, and about to end
    assert_same(Corpus.open(folder / "out"), expected)
    for name in ("corpus.json", "ids.npy", "vocabulary.json"):
        found, wanted = ((folder / place / name).read_bytes() for place in ("out", "whole"))
        assert found == wanted
    return killed


@pytest.mark.parametrize("removed", range(4))
def test_one_that_is_killed_while_it_removes_its_files_is_done(removed, tmp_path, monkeypatch):
    """Whatever is left of them: the same call finds the corpus, and nothing else is left."""
    (tmp_path / "a").write_text("a b c a\n" * 50)
    unlink, left = Path.unlink, [removed]

    def killed(path, *arguments, **settings):
        if path.parent.name == "preparing" and not path.name.startswith("."):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        unlink(path, *arguments, **settings)

    monkeypatch.setattr(Path, "unlink", killed)
    monkeypatch.setattr("shutil.rmtree", lambda folder: killed(folder / "progress.json"))
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus([tmp_path / "a"], tmp_path / "out", "word", held_out=0)
    monkeypatch.undo()
    found = prepare_corpus([tmp_path / "a"], tmp_path / "out", "word", held_out=0)
    assert found.vocabulary.decode(found.ids) == ["a", "b", "c", "a", "<eos>"] * 50
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["corpus.json", "ids.npy", "vocabulary.json"]


def test_a_full_disk_is_an_error_with_a_name_and_is_gone_on_from(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a b c a\n" * 50)
    out = tmp_path / "out"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tinygrad_rnn.data.runs.Writer.flush", full)
    with pytest.raises(OSError, match=re.escape(f"No space left on device: '{out}")):
        prepare_corpus([tmp_path / "a"], out, "word", held_out=0)
    monkeypatch.undo()
    assert len(prepare_corpus([tmp_path / "a"], out, "word", held_out=0)) == 250


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device"), RuntimeError()])
def test_what_fails_before_its_first_point_leaves_nothing(there, error, tmp_path):
    (tmp_path / "a").write_text("a b c a\n" * 50)
    out = tmp_path / "some" / "out"
    if there:
        out.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))

    def fails(done, tokens):
        raise error

    with pytest.raises(type(error)):
        prepare_corpus([tmp_path / "a"], out, "word", held_out=0, on_progress=fails)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(prepare_corpus([tmp_path / "a"], out, "word", held_out=0, min_count=2)) == 250


def test_what_was_read_is_kept_unless_no_corpus_can_be_made_of_it(tmp_path):
    (tmp_path / "a").write_text("a b c a\n" * 50)
    out, files = tmp_path / "out", [tmp_path / "a"]

    def fails(done, tokens):
        if done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(files, out, "word", every=50, on_progress=fails)
    with pytest.raises(ConfigError, match="unfinished preparation of other files"):
        prepare_corpus(files, out, "word", min_count=1000)
    assert out.exists()
    assert len(prepare_corpus(files, out, "word", every=50)) == 250
    with pytest.raises(CorpusError, match="no token appears min_count = 1000 times"):
        prepare_corpus(files, tmp_path / "other", "word", min_count=1000, every=50)
    assert not (tmp_path / "other").exists()


def test_a_killed_preparation_goes_on(tmp_path):
    assert killed_preparations(tmp_path, 3, np.random.default_rng(0)) == 3


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(8))
def test_a_preparation_that_is_killed_many_times(seed, tmp_path):
    assert killed_preparations(tmp_path, 12, np.random.default_rng(seed)) > 3
