import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from drawn import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinygrad_rnn.data import EOS, detokenize, embedded_text, read_text, tokenize
from tinygrad_rnn.data.text import read_bytes
from tinygrad_rnn.errors import ConfigError, CorpusError


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"to be\n", "to be\n"),
        (b"\xef\xbb\xbfto be", "to be"),
        (b"a\r\nb\rc\n\rd", "a\nb\nc\n\nd"),
        (b"\xef\xbb\xbf\xef\xbb\xbfa", "\ufeffa"),
        ("é\u2028ß\U0001f600".encode(), "é\u2028ß\U0001f600"),
        (b" ", " "),
    ],
)
def test_read_text_drops_the_bom_and_makes_line_ends_lf(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    assert read_text(path) == text
    assert read_text(str(path)) == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"abc\xff", "byte offset 3 .*save the file as utf-8"),
        (b"\xef\xbb\xbf\xc3\xa9\xe9", "byte offset 5 "),
        (b"\xed\xa0\x80", "byte offset 0 "),
        (b"a" * 1234 + b"\xc3", "byte offset 1234 .*save the file as utf-8"),
        ("hi".encode("utf-16"), "byte offset 0 "),
        ("hi".encode("utf-16-le"), "NUL byte at byte offset 1: a binary file, or utf-16"),
        (b"\xc3\xa9\0", "NUL byte at byte offset 2"),
    ],
)
def test_read_text_rejects_what_is_not_utf8_text(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        read_text(path)


def test_a_text_that_is_packed_is_read_like_any_other(tmp_path: Path) -> None:
    data = gzip.compress(b"\xef\xbb\xbfto be\r\n")
    (tmp_path / "text.txt.gz").write_bytes(data)
    assert read_text(tmp_path / "text.txt.gz") == "to be\n"
    assert read_text(tmp_path / "text.txt.gz", max_bytes=len(data)) == "to be\n"
    assert read_bytes(tmp_path / "text.txt.gz") == b"\xef\xbb\xbfto be\r\n"
    for name, content, message in (
        ("cut.gz", data[:-6], "cannot be read to its end: .*is it damaged"),
        ("no.gz", b"to be", "cannot be read to its end: Not a gzipped file"),
        ("empty.gz", gzip.compress(b""), "is empty"),
        ("large.gz", gzip.compress(bytes(300)), "holds more than 200 bytes when it is unpacked"),
        ("text.txt", data, "it is a gzip file: give it a name that ends with .gz"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorpusError, match=message):
            read_text(tmp_path / name, max_bytes=200)


def test_read_text_rejects_paths_that_lead_to_no_text(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere\.txt' does not exist"):
        read_text(tmp_path / "nowhere.txt")
    with pytest.raises(CorpusError, match="is a folder"):
        read_text(tmp_path)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_text(loop)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_text("a\0b")


def test_embedded_text_is_the_language_reference() -> None:
    text = embedded_text()
    assert 300_000 < len(text) < 1_000_000
    assert text == embedded_text()
    assert 'The "while" statement' in text
    assert "\r" not in text


def test_embedded_text_without_pydoc_data_asks_for_a_corpus_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)  # how Python marks a missing module
    with pytest.raises(CorpusError, match=r"without pydoc_data.*corpus file"):
        embedded_text()


def test_importing_the_package_does_not_load_the_embedded_text() -> None:
    code = "import sys, tinygrad_rnn.data; print('pydoc_data.topics' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("To be, or not!\n", ["to", "be", ",", "or", "not", "!", EOS]),
        ("no line end", ["no", "line", "end"]),
        ("\n \n a\n\n \t\nb\n\n", ["a", EOS, "b", EOS]),
        ("don't rock'n'roll", ["don't", "rock'n'roll"]),
        ("it\u2019s", ["it\u2019s"]),
        ("'tis the dogs' `x'", ["'", "tis", "the", "dogs", "'", "`", "x", "'"]),
        ("a''b", ["a", "'", "'", "b"]),
        ("x.__init__(3.5)", ["x", ".", "__init__", "(", "3", ".", "5", ")"]),
        ("the <unk> N <eos>", ["the", "<unk>", "n", "<", "eos", ">"]),
        ("ΑΣ ÉTÉ 東京", ["ας", "été", "東京"]),
        ("e\u0301", ["e", "\u0301"]),
        (" \t\n\u2028", []),
        ("", []),
    ],
)
def test_word_tokens(text: str, tokens: list[str]) -> None:
    assert tokenize(text, "word") == tokens


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["see", "(", "42", ")", ".", EOS, "bye", EOS], "see (42).\nbye\n"),
        (["wait", ",", "what", "?", "!"], "wait, what?!"),
        (["[", "{", "(", ")", "}", "]", ":", ";"], "[{()}]:;"),
        (["dogs", "'", "day"], "dogs' day"),
        ([EOS, EOS, "a"], "\n\na"),
        (["<unk>", "-", "<unk>", "."], "<unk> - <unk>."),
        ([], ""),
    ],
)
def test_word_tokens_join_to_readable_text(tokens: list[str], text: str) -> None:
    assert detokenize(tokens, "word") == text


@settings(max_examples=examples(50), deadline=None)
@given(text=st.text())
def test_char_tokens_join_to_the_same_text(text: str) -> None:
    assert detokenize(tokenize(text, "char"), "char") == text


# The second strategy writes the signs that the two directions treat specially far more often.
@settings(max_examples=examples(200), deadline=None)
@given(text=st.text() | st.text("aB_'\u2019<>unk()[]{}.,;:!?-\n\r\t \u2028İ"))
@example(text="\n\n(' <unk>' )\n'a'b' 'c\n")
def test_word_tokens_survive_joining_and_cutting_again(text: str) -> None:
    tokens = tokenize(text, "word")
    assert tokenize(detokenize(tokens, "word"), "word") == tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (" aer N n't <unk>\n a.m. U.S.\n", ["aer", "N", "n't", "<unk>", "<eos>", "a.m.", "U.S.", "<eos>"]),
        (" \n = Title = \n \n a @-@ b", ["<eos>", "=", "Title", "=", "<eos>", "<eos>", "a", "@-@", "b"]),
        ("\n", ["<eos>"]),
        ("  \t ", []),
    ],
)
def test_tokens_that_are_cut_already(text: str, tokens: list[str]) -> None:
    assert tokenize(text, "token") == tokens


@given(st.text(st.sampled_from("ab.' \t\n")))
def test_cut_tokens_survive_joining_and_cutting_again(text: str) -> None:
    tokens = tokenize(text, "token")
    assert tokenize(detokenize(tokens, "token"), "token") == tokens


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(ConfigError, match="tokenize: level must be 'word', 'char', 'byte' or 'token', got 'line'"):
        tokenize("a", "line")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="detokenize: level must be 'word', 'char', 'byte' or 'token', got 'line'"):
        detokenize(["a"], "line")  # type: ignore[arg-type]
