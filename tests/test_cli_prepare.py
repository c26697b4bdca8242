"""The command prepare, and the others on what it made."""

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import refused

from tinygrad_rnn.cli import main
from tinygrad_rnn.data import Corpus, prepare_corpus
from tinygrad_rnn.training import load_model
from tinygrad_rnn.training.files.archive import digest

TEXT = "To be or not to be,\nthat is the question.\n" * 40
LATER = ("char", "token")
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--bptt", "5", "--epochs", "1", "--no-progress"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with texts in it."""
    monkeypatch.chdir(tmp_path)
    Path("play.txt").write_text(TEXT)
    Path("other.txt").write_text("that is not the question to be\nis it?\n" * 5)
    return tmp_path


def arrays(path):
    return {name: digest(p.data) for name, p in load_model(path).model.parameters().items()}


@pytest.mark.sample(1)
@pytest.mark.parametrize("level", ["word", "byte", *(pytest.param(one, marks=pytest.mark.nightly) for one in LATER)])
def test_a_prepared_folder_does_what_its_file_does(level, folder, capsys):
    """In training, with the same bits, evaluation, scores and the other commands."""
    assert main(["prepare", "play.txt", "--level", level, "--out", "play"]) == 0
    assert f"play, {level} level" in capsys.readouterr().out
    assert main(["train", "play.txt", "--level", level, *SMALL, "--save", "file"]) == 0
    assert main(["train", "play", *SMALL, "--save", "prepared", "--test", "play", "--valid", ""]) == 0
    assert load_model("prepared").config.level == level
    assert arrays("file") == arrays("prepared")
    assert main(["prepare", "other.txt", "--vocabulary", "file", "--out", "other"]) == 0
    for command in (
        ["evaluate", "file", "{}", "--held-out", "--baseline", "{}"],
        ["score", "file", "{}"],
        ["score", "file", "{}", "--json"],
    ):
        for name in ("play", "other")[: 1 + ("score" in command)]:
            printed = []
            for path in (f"{name}.txt", name):
                capsys.readouterr()
                assert main([argument.format(path) for argument in command]) == 0
                printed.append(capsys.readouterr().out.replace(path, "TEXT"))
            assert printed[0] == printed[1], command
    assert main(["truncation", "file", "play", "--steps", "5", "--policies", "full"]) == 0
    assert main(["generate", "prepared", "--length", "5", "--prompt", "to "]) == 0


def test_a_run_on_a_prepared_folder_is_resumed(folder):
    assert main(["prepare", "play.txt", "--out", "play"]) == 0
    assert main(["train", "play", *SMALL, "--epochs", "2", "--save", "whole"]) == 0
    assert main(["train", "play", *SMALL, "--save", "part"]) == 0
    assert main(["train", "--resume", "part", "--epochs", "2", "--no-progress"]) == 0
    assert arrays("part") == arrays("whole")


def test_settings_that_a_prepared_folder_has(folder, capsys):
    assert (
        main(["prepare", "play.txt", "--out", "play", "--level", "char", "--min-count", "3", "--held-out", "0.2"]) == 0
    )
    assert "was prepared with level = 'char', not 'word'" in refused(capsys, "train", "play", "--level", "word", *SMALL)
    assert "with min_count = 3, not 2" in refused(capsys, "train", "play", "--min-count", "2", *SMALL)
    assert main(["train", "play", *SMALL, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "held_out = 0.2" in out
    assert 'level = "char"' in out
    assert main(["train", "play.txt", *SMALL, "--save", "words"]) == 0
    assert "with another vocabulary (char level" in refused(capsys, "evaluate", "words", "play")
    assert "another vocabulary" in refused(capsys, "train", "play.txt", *SMALL, "--valid", "play")


def test_stdin_several_files_and_the_most_frequent(folder, capsys, monkeypatch):
    Path("more.txt.gz").write_bytes(gzip.compress(b"question question"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"be be be")))
    assert (
        main(["prepare", "other.txt", "more.txt.gz", "-", "--out", "all", "--vocab-size", "4", "--held-out", "0"]) == 0
    )
    corpus = Corpus.open("all")
    assert corpus.vocabulary.tokens == ("<unk>", "<eos>", "is", "be")
    assert corpus.vocabulary.decode(corpus.ids[-7:]) == ["<eos>", "<unk>", "<unk>", "<eos>", "be", "be", "be"]


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", [], "the texts hold no tokens at level 'word'"),
        (b"\n \n", [], "the texts hold no tokens"),
        (b"caf\xe9", [], "not utf-8 at byte offset 3"),
        (b"a" * 2_000_000 + b" \xff", [], "not utf-8 at byte offset 2000001"),
        (b"a\0b", ["--level", "char"], "holds a NUL byte at byte offset 1"),
        ("to be".encode("utf-16"), [], "not utf-8 at byte offset 0"),
        (b"x" * 5_000_000, [], "more than 4 MiB without white space, from byte offset 0"),
        (b"one two three " * 4, ["--min-count", "5"], "no token appears min_count = 5 times"),
        (b"one two", ["--held-out", "1"], "held_out must be"),
        (b"one two", ["--vocab-size", "1"], "vocab_size must be"),
        (b"one two", ["--vocabulary", "nothing"], "'nothing' does not exist"),
        (b"one two", ["--vocabulary", "."], "is not a prepared corpus: it has no corpus.json"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(content, arguments, message, folder, capsys):
    Path("bad").write_bytes(content)
    assert message in refused(capsys, "prepare", "bad", "--out", "new/out", *arguments)
    assert not Path("new").exists()
    assert main(["prepare", "play.txt", "--out", "new/out"]) == 0  # the corrected command


def test_files_that_cannot_be_read(folder, capsys):
    packed = gzip.compress(os.urandom(30_000))
    Path("cut.gz").write_bytes(packed[:-5000])
    Path("no.gz").write_bytes(b"not packed")
    os.mkfifo("pipe")
    for path, message in (
        ("missing", "'missing' cannot be read: No such file"),
        (".", "'.' is a folder"),
        ("/dev/zero", "is a device"),
        ("cut.gz", "cannot be read to its end"),
        ("no.gz", "cannot be read to its end: Not a gzipped file"),
        ("a\0b", "no NUL character"),
    ):
        assert message in refused(capsys, "prepare", path, "--out", "out", "--level", "byte", "--force")
    assert "--out" in refused(capsys, "prepare", "play.txt")
    assert "more than once" in refused(capsys, "prepare", "-", "-", "--out", "twice")
    assert not Path("twice").exists()


def test_a_folder_that_is_taken(folder, capsys):
    assert main(["prepare", "play.txt", "--out", "play"]) == 0
    before = {path.name: path.read_bytes() for path in Path("play").iterdir()}
    assert "is a corpus already" in refused(capsys, "prepare", "other.txt", "--out", "play")
    assert "holds other files" in refused(capsys, "prepare", "other.txt", "--out", ".")
    Path("bad.txt").write_bytes(b"\xff")
    assert "not utf-8" in refused(capsys, "prepare", "bad.txt", "--out", "play", "--force")
    assert {path.name: path.read_bytes() for path in Path("play").iterdir()} == before
    assert main(["prepare", "other.txt", "--out", "play", "--force"]) == 0
    assert len(Corpus.open("play")) < 100


def test_a_text_that_changed_while_its_preparation_was_stopped(folder, capsys, monkeypatch):
    Path("bad.txt").write_bytes(TEXT.encode() * 80 + b"\xff")
    monkeypatch.setattr(prepare_corpus, "__kwdefaults__", prepare_corpus.__kwdefaults__ | {"every": 1000})
    assert "not utf-8" in refused(capsys, "prepare", "bad.txt", "--out", "out")
    before = Path("out/preparing/progress.json").read_bytes()
    assert json.loads(before)["position"]["offset"] > 0
    for file in ("other.txt", "play.txt"):
        assert "unfinished preparation of other files" in refused(capsys, "prepare", file, "--out", "out")
    Path("bad.txt").write_bytes(b"!" + Path("bad.txt").read_bytes())
    assert "is not the text that was read before" in refused(capsys, "prepare", "bad.txt", "--out", "out")
    assert Path("out/preparing/progress.json").read_bytes() == before
    Path("bad.txt").write_bytes(TEXT.encode() * 80)
    assert main(["prepare", "bad.txt", "--out", "out"]) == 0
    assert len(Corpus.open("out")) == 80 * len(Corpus.from_text(TEXT, "word"))


def test_damage_is_found(folder, capsys):
    assert main(["prepare", "play.txt", "--out", "play"]) == 0
    assert main(["prepare", "play", "--check"]) == 0
    assert "nothing is damaged" in capsys.readouterr().out

    def damaged(name, change):
        path = Path("play", name)
        whole = path.read_bytes()
        path.write_bytes(change(bytearray(whole)))
        message = refused(capsys, "prepare", "play", "--check")
        path.write_bytes(whole)
        return message

    def flipped(data):
        data[-3] ^= 1
        return data

    for name in ("ids.npy", "vocabulary.json", "corpus.json"):
        for change in (lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""):
            if name != "corpus.json" or change(bytearray(b"{}")) != b"{":
                assert "damaged" in damaged(name, change)
    assert "sha256 does not fit" in damaged("ids.npy", flipped)
    assert "sha256 does not fit" in damaged("vocabulary.json", flipped)
    for old, new in (
        (b'"version": 1', b'"version": 2'),
        (b'"tokens": ', b'"tokens": 1'),
        (b'"uint8"', b'"uint16"'),
        (b'"uint8"', b'"object"'),
        (b'"level": "word"', b'"level": "line"'),
        (b'"tinygrad_rnn corpus"', b'"other"'),
    ):
        message = damaged("corpus.json", lambda data, old=old, new=new: data.replace(old, new))
        assert any(word in message for word in ("damaged", "newer", "another format")), message
    Path("play/ids.npy").unlink()
    assert "damaged" in refused(capsys, "train", "play", *SMALL)


def test_two_preparations_do_not_write_to_one_folder(folder, capsys):
    """The second is told who is writing there."""
    os.mkfifo("slow")
    command = [sys.executable, "-m", "tinygrad_rnn", "prepare", "slow", "--out", "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        with Path("slow").open("wb") as pipe:
            pipe.write(TEXT.encode())
            pipe.flush()
            while not Path("out/preparing/progress.json").exists():
                pass
            assert "is writing there" in refused(capsys, "prepare", "play.txt", "--out", "out")
        assert process.wait() == 0, process.stderr.read()
    expected = Corpus.from_text(TEXT, "word", 2).vocabulary
    assert np.array_equal(Corpus.open("out").vocabulary.tokens, expected.tokens)
