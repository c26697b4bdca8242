from pathlib import Path

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn.data import (
    UNKNOWN,
    Corpus,
    Level,
    Vocabulary,
    detokenize,
    load_corpus,
    read_text,
    tokenize,
    unigram_nats,
)
from tinygrad_rnn.errors import ConfigError, CorpusError, DTypeError, ShapeError


def test_from_text_encodes_in_order_with_the_most_frequent_first() -> None:
    corpus = Corpus.from_text("a b b\nb c\n", "word")
    assert corpus.vocabulary.tokens == (UNKNOWN, "b", "<eos>", "a", "c")
    assert corpus.ids.tolist() == [3, 1, 1, 2, 1, 4, 2]
    assert corpus.ids.dtype == np.uint16
    assert len(corpus) == 7
    assert corpus.unknown_rate == 0.0


def test_from_text_options() -> None:
    rare = Corpus.from_text("a b a c", "word", min_count=2)
    assert rare.vocabulary.tokens == (UNKNOWN, "a")
    assert rare.ids.tolist() == [1, 0, 1, 0]
    assert rare.unknown_rate == 0.5
    short = Corpus.from_text("a b a c", "word", max_tokens=2)
    assert short.vocabulary.tokens == (UNKNOWN, "a", "b")
    assert len(short) == 2
    other = Corpus.from_text("c a d e", "word", vocabulary=short.vocabulary)
    assert other.vocabulary is short.vocabulary
    assert other.ids.tolist() == [0, 1, 0, 0]
    assert other.unknown_rate == 0.75
    closed = Corpus.from_text("ab", "char", vocabulary=Vocabulary(["a", "b"]))
    assert closed.unknown_rate == 0.0
    with pytest.raises(CorpusError, match=r"tokens\[1\] is 'c'"):
        Corpus.from_text("ac", "char", vocabulary=closed.vocabulary)


def test_a_corpus_cannot_be_changed() -> None:
    source = np.array([0, 1, 1], np.uint16)  # the dtype the corpus keeps, so that a cast would not copy
    corpus = Corpus(source, Vocabulary(["a", "b"]), "char")
    source[0] = 1
    assert corpus.ids.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        corpus.ids[0] = 1
    with pytest.raises(AttributeError):
        corpus.level = "word"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("ids", "level", "error", "message"),
    [
        ([0, 2], "char", CorpusError, r"Corpus: ids\[1\] is 2"),
        ([], "char", CorpusError, "ids is empty"),
        ([[0]], "char", ShapeError, r"\(1, 1\)"),
        ([0.5], "char", DTypeError, "float64"),
        ([0], "line", ConfigError, "'line'"),
    ],
)
def test_the_constructor_rejects(ids: list[int], level: Level, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Corpus(np.array(ids), Vocabulary(["a", "b"]), level)


@settings(max_examples=examples(25), deadline=None)
@given(length=st.integers(2, 60), held_out=st.floats(0.01, 0.99), level=st.sampled_from(["word", "char"]))
def test_both_ways_to_cut_keep_the_order_and_lose_nothing(length: int, held_out: float, level: Level) -> None:
    text = " ".join(str(i % 7) for i in range(length))
    whole = Corpus.from_text(text, level)
    n_held_out = round(len(whole) * held_out)
    if n_held_out in (0, len(whole)):
        with pytest.raises(CorpusError, match=f"{len(whole)} tokens leave one part empty"):
            whole.split(held_out)
        with pytest.raises(CorpusError, match=f"{len(whole)} tokens leave one part empty"):
            load_corpus(text, level, held_out=held_out)
        return
    train, valid = whole.split(held_out)
    assert len(valid) == n_held_out
    assert np.concatenate([train.ids, valid.ids]).tolist() == whole.ids.tolist()
    train, valid = load_corpus(text, level, held_out=held_out)
    assert len(valid) == n_held_out
    tokens = tokenize(text, level)
    assert train.vocabulary.decode(train.ids) == tokens[:-n_held_out]
    assert set(train.vocabulary.tokens) == {UNKNOWN, *tokens[:-n_held_out]}
    assert train.vocabulary is valid.vocabulary
    for got, token in zip(valid.vocabulary.decode(valid.ids), tokens[-n_held_out:], strict=True):
        assert got == (token if token in tokens[:-n_held_out] else UNKNOWN)


def test_the_vocabulary_comes_from_the_training_part_at_char_level_too() -> None:
    train, valid = load_corpus("aababbaaz!", "char", held_out=0.3)
    assert train.vocabulary.tokens == (UNKNOWN, "a", "b")
    assert valid.vocabulary.decode(valid.ids) == ["a", UNKNOWN, UNKNOWN]
    assert train.unknown_rate == 0.0
    assert valid.unknown_rate == pytest.approx(2 / 3)


def test_load_corpus_options() -> None:
    train, valid = load_corpus("a a b a a c a a", "word", min_count=2, held_out=0.5, max_tokens=6)
    assert train.vocabulary.tokens == (UNKNOWN, "a")
    assert train.ids.tolist() == [1, 1, 0]
    assert valid.ids.tolist() == [1, 1, 0]


@pytest.mark.parametrize("held_out", [0, 1, -0.1, 1.5, float("nan")])
def test_held_out_must_lie_between_0_and_1(held_out: float) -> None:
    with pytest.raises(ConfigError, match=r"held_out must be a number in \(0, 1\)"):
        load_corpus("a b c", "word", held_out=held_out)
    with pytest.raises(ConfigError, match=r"held_out must be a number in \(0, 1\)"):
        Corpus.from_text("a b c", "word").split(held_out)


@pytest.mark.parametrize("max_tokens", [0, -3, 2.0, True])
def test_max_tokens_must_be_a_positive_integer(max_tokens: int) -> None:
    with pytest.raises(ConfigError, match=r"Corpus\.from_text: max_tokens"):
        Corpus.from_text("a b c", "word", max_tokens=max_tokens)


def test_a_text_without_tokens_is_an_error() -> None:
    with pytest.raises(CorpusError, match=r"Corpus\.from_text: the text holds no tokens at level 'word'"):
        Corpus.from_text(" \n ", "word")
    with pytest.raises(CorpusError, match="load_corpus: the text holds no tokens at level 'char'"):
        load_corpus("", "char")


def test_unigram_nats_by_hand() -> None:
    train, valid = load_corpus("a a a b a z", "word", held_out=1 / 3)
    # Counts plus one: <unk> 1, a 4, b 2, of 4 + 3; held out are a and z, which is <unk>.
    assert unigram_nats(train, valid) == pytest.approx(-(np.log(4 / 7) + np.log(1 / 7)) / 2, rel=1e-14)


def test_unigram_nats_of_even_counts_is_the_log_of_the_vocabulary_size() -> None:
    corpus = Corpus([0, 1, 2, 3] * 5, Vocabulary(list("abcd")), "char")  # type: ignore[arg-type]
    assert unigram_nats(corpus, corpus) == pytest.approx(np.log(4), rel=1e-14)


def test_unigram_nats_rejects_two_vocabularies() -> None:
    with pytest.raises(CorpusError, match="encode both with one vocabulary"):
        unigram_nats(Corpus.from_text("ab", "char"), Corpus.from_text("cd", "char"))


@settings(max_examples=examples(100), deadline=None)
@given(data=st.binary() | st.text().map(str.encode) | st.text("\r\n\ufeffa\0é").map(str.encode))
def test_any_file_gives_its_text_back_or_a_corpus_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "any_bytes.txt"
    path.write_bytes(data)
    try:
        expected = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        expected = ""
    expected = "\n".join(part for line in expected.split("\r\n") for part in line.split("\r"))
    if not expected or b"\0" in data:
        with pytest.raises(CorpusError, match=r"any_bytes\.txt"):
            read_text(path)
        return
    text = read_text(path)
    assert text == expected
    corpus = Corpus.from_text(text, "char")
    assert detokenize(corpus.vocabulary.decode(corpus.ids), "char") == expected
    if text.isspace():
        with pytest.raises(CorpusError, match="no tokens"):
            Corpus.from_text(text, "word")
    else:
        words = Corpus.from_text(text, "word")
        assert words.vocabulary.decode(words.ids) == tokenize(text, "word")


DNA = "".join("ACGT"[n] for n in np.random.default_rng(0).integers(0, 4, 7000))
FEW = {
    "lines of letters": "\n".join(DNA[start : start + 70] for start in range(0, 7000, 70)),
    "words that occur once": " ".join(f"w{n} v{n} the" for n in range(500)),
    "two words for ever": "yes no " * 5000,
}


@pytest.mark.parametrize("name", FEW)
def test_a_text_that_is_hardly_one_of_words_is_said(name: str) -> None:
    with pytest.warns(UserWarning, match=r"load_corpus: \d+ words are very few for a text of .* wants level 'char'"):
        load_corpus(FEW[name], "word", min_count=2)
    load_corpus(FEW[name], "char", min_count=2)  # warnings are errors


def test_short_texts_of_few_words_are_nothing_to_speak_of() -> None:
    load_corpus("you say goodbye and i say hello . " * 40, "word")
    load_corpus("to be or not to be\n" * 500, "word")


def test_a_vocabulary_of_another_level_is_said() -> None:
    words = Vocabulary(["<unk>", "hello", "you"])
    with pytest.warns(UserWarning, match=r"no token of the text is in the vocabulary .*is the level 'char' that"):
        Corpus.from_text("hello you", "char", vocabulary=words)
    assert Corpus.from_text("hello you", "word", vocabulary=words).unknown_rate == 0
