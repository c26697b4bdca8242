import json

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn.data import UNKNOWN, Vocabulary
from tinygrad_rnn.errors import ConfigError, CorpusError, DTypeError, ShapeError

# Surrogates (category Cs) too: JSON must carry whatever a Python string can hold.
any_text = st.text(st.characters(codec=None), max_size=5)


@settings(max_examples=examples(25), deadline=None)
@given(tokens=st.lists(any_text, min_size=1, max_size=20))
def test_ids_decode_back_and_the_json_list_rebuilds_the_vocabulary(tokens: list[str]) -> None:
    vocabulary = Vocabulary.from_tokens(tokens)
    assert vocabulary.decode(vocabulary.encode(tokens)) == tokens
    assert Vocabulary(json.loads(json.dumps(vocabulary.to_list()))) == vocabulary
    assert [vocabulary.tokens[i] for i in vocabulary.encode(vocabulary.tokens)] == list(vocabulary.tokens)


@pytest.mark.parametrize("token", ["\0", "\ufeff", "\u2028", "\ud800", "\U0010ffff", "\u0301", "\r\n", ""])
def test_rare_code_points_survive_json(token: str) -> None:
    vocabulary = Vocabulary([token, "a"])
    again = Vocabulary(json.loads(json.dumps(vocabulary.to_list())))
    assert again.tokens == (token, "a")
    assert again.encode([token]).tolist() == [0]


@pytest.mark.parametrize(
    ("text", "min_count", "unknown", "expected"),
    [
        ("b a c a", 1, None, ("a", "b", "c")),
        ("b a c a", 1, "<unk>", ("<unk>", "a", "b", "c")),
        ("b a c a c", 2, "<unk>", ("<unk>", "a", "c")),
        ("a <unk> <unk> b", 1, "<unk>", ("<unk>", "a", "b")),
        ("<unk>", 1, "<unk>", ("<unk>",)),
        ("z y x", 1, None, ("z", "y", "x")),
        ("b a b", 1, "?", ("?", "b", "a")),
    ],
)
def test_from_tokens_orders_by_count_then_first_appearance(
    text: str, min_count: int, unknown: str | None, expected: tuple[str, ...]
) -> None:
    assert Vocabulary.from_tokens(text.split(), min_count, unknown).tokens == expected


@pytest.mark.parametrize(("size", "dtype"), [(65536, np.uint16), (65537, np.uint32)])
def test_ids_take_the_smaller_dtype_that_holds_them(size: int, dtype: type) -> None:
    vocabulary = Vocabulary([str(i) for i in range(size)])
    ids = vocabulary.encode([str(size - 1)])
    assert ids.dtype == dtype
    assert ids.tolist() == [size - 1]


def test_no_tokens_encode_to_an_empty_array_and_back() -> None:
    vocabulary = Vocabulary(["a"])
    assert vocabulary.encode([]).shape == (0,)
    assert vocabulary.encode([]).dtype == np.uint16
    assert vocabulary.decode([]) == []


def test_a_token_outside_the_vocabulary_becomes_unknown() -> None:
    vocabulary = Vocabulary(["a", UNKNOWN])
    assert vocabulary.unknown_id == 1
    assert vocabulary.encode(["a", "zebra"]).tolist() == [0, 1]


def test_a_token_outside_a_vocabulary_without_unknown_is_named_with_its_position() -> None:
    vocabulary = Vocabulary(["a", "b"])
    assert vocabulary.unknown_id is None
    with pytest.raises(CorpusError, match=r"tokens\[2\] is 'zebra'.*2 tokens.*unknown='<unk>'"):
        vocabulary.encode(["a", "b", "zebra"])


def test_unknown_none_makes_the_unknown_token_an_ordinary_one() -> None:
    vocabulary = Vocabulary([UNKNOWN, "a"], unknown=None)
    assert vocabulary.unknown_id is None
    assert vocabulary != Vocabulary([UNKNOWN, "a"])
    with pytest.raises(CorpusError):
        vocabulary.encode(["b"])


@pytest.mark.parametrize(
    ("tokens", "unknown", "message"),
    [
        ([], UNKNOWN, "tokens is empty"),
        (["a", "b", "a"], UNKNOWN, r"tokens\[2\] is 'a', the same as tokens\[0\]"),
        (["a", 3], UNKNOWN, r"tokens\[1\] is 3 \(int\)"),
        (["a", ["b"]], UNKNOWN, r"tokens\[1\] is \['b'\] \(list\)"),
        (["a"], "?", r"unknown is '\?'.*add it"),
    ],
)
def test_the_constructor_rejects(tokens: list[str], unknown: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        Vocabulary(tokens, unknown)


@pytest.mark.parametrize("min_count", [0, -1, 1.0, True, "1"])
def test_from_tokens_rejects_a_min_count_that_is_no_positive_integer(min_count: int) -> None:
    with pytest.raises(ConfigError, match=r"Vocabulary.from_tokens: min_count"):
        Vocabulary.from_tokens(["a"], min_count)


def test_from_tokens_says_when_nothing_is_frequent_enough() -> None:
    with pytest.raises(CorpusError, match=r"none of the 2 different tokens appears min_count = 3"):
        Vocabulary.from_tokens(["a", "b", "a"], min_count=3)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([0, 2], CorpusError, r"ids\[1\] is 2, outside 0 .. V-1 = 1"),
        ([0, 1, -1], CorpusError, r"ids\[2\] is -1"),
        ([[0, 1]], ShapeError, r"\(T,\), got \(1, 2\)"),
        (0, ShapeError, r"got \(\)"),
        ([0.0], DTypeError, "float64"),
        ([True], DTypeError, "bool"),
    ],
)
def test_decode_rejects(ids: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Vocabulary(["a", "b"]).decode(ids)  # type: ignore[arg-type]


def test_a_vocabulary_is_immutable_and_compares_by_value() -> None:
    vocabulary = Vocabulary(["a", "b"])
    with pytest.raises(AttributeError):
        vocabulary.tokens = ("c",)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        vocabulary.more = 1  # type: ignore[attr-defined]
    vocabulary.to_list().append("c")
    assert len(vocabulary) == 2
    assert vocabulary == Vocabulary(("a", "b"))
    assert hash(vocabulary) == hash(Vocabulary(("a", "b")))
    assert vocabulary != Vocabulary(["b", "a"])
    assert vocabulary != ["a", "b"]
    assert "a" in vocabulary
    assert "c" not in vocabulary
    assert repr(vocabulary) == "Vocabulary(2 tokens: 'a', 'b')"
    assert repr(Vocabulary(list("abcdef"))) == "Vocabulary(6 tokens: 'a', 'b', 'c', 'd', 'e', ...)"


def test_a_text_is_not_taken_for_words() -> None:
    words = Vocabulary.from_tokens(["you", "say", "hello", "and", "i", "say", "goodbye"])
    with pytest.raises(CorpusError, match=r"tokens is the text 'hello', but this is a vocabulary of words.*tokenize"):
        words.encode("hello")
    assert words.encode(["hello"]).tolist() == [words.tokens.index("hello")]
    characters = Vocabulary.from_tokens("hello")
    assert characters.encode("hello").tolist() == characters.encode(list("hello")).tolist()
    assert characters.decode(characters.encode("hole")) == list("hole")


@pytest.mark.parametrize("tokens", [[1, 2], np.array([1, 2]), b"ab", 3, None, ["a", None], [["a"]]])
def test_only_strings_are_tokens(tokens: object) -> None:
    vocabulary = Vocabulary(["<unk>", "a", "b"])
    with pytest.raises(CorpusError, match=r"Vocabulary.encode: tokens.* (must be|is) "):
        vocabulary.encode(tokens)  # type: ignore[arg-type]
