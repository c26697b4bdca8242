import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn.data import Corpus, OffsetBatches
from tinygrad_rnn.errors import ConfigError, CorpusError, DTypeError, ShapeError


@settings(max_examples=examples(50), deadline=None)
@given(
    batch_size=st.integers(1, 6),
    bptt=st.integers(1, 7),
    extra=st.integers(0, 40),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_windows_join_to_streams_and_streams_tile_the_corpus(
    batch_size: int, bptt: int, extra: int, drop_last: bool, seed: int
) -> None:
    length = batch_size * bptt + 1 + extra
    ids = np.random.default_rng(seed).integers(0, 1000, length).astype(np.uint16)
    batches = OffsetBatches(ids, batch_size, bptt, drop_last)
    windows = list(batches)

    stream_length = (length - 1) // batch_size
    used = stream_length // bptt * bptt if drop_last else stream_length
    assert batches.stream_length == stream_length
    assert batches.tokens == batch_size * used
    assert len(batches) == len(windows)
    for xs, ts in windows[:-1]:
        assert xs.shape == ts.shape == (batch_size, bptt)
    assert windows[-1][0].shape == windows[-1][1].shape == (batch_size, used - (len(windows) - 1) * bptt)

    inputs = np.concatenate([xs for xs, _ in windows], axis=1)
    targets = np.concatenate([ts for _, ts in windows], axis=1)
    assert inputs.dtype == targets.dtype == np.int64
    for stream in range(batch_size):
        start = stream * stream_length
        np.testing.assert_array_equal(inputs[stream], ids[start : start + used])
        np.testing.assert_array_equal(targets[stream], ids[start + 1 : start + 1 + used])
    if not drop_last:
        np.testing.assert_array_equal(inputs.ravel(), ids[: batch_size * stream_length])
        assert length - 1 - inputs.size < batch_size


@pytest.mark.parametrize(
    ("drop_last", "expected"),
    [
        (False, [[[0, 1], [5, 6]], [[2, 3], [7, 8]], [[4], [9]]]),
        (True, [[[0, 1], [5, 6]], [[2, 3], [7, 8]]]),
    ],
)
def test_windows_by_hand(drop_last: bool, expected: list[list[list[int]]]) -> None:
    batches = OffsetBatches(np.arange(12), 2, 2, drop_last)
    assert [xs.tolist() for xs, _ in batches] == expected
    assert [(ts - 1).tolist() for _, ts in batches] == expected
    assert len(batches) == len(expected)


def test_each_pass_starts_at_the_start() -> None:
    batches = OffsetBatches(np.arange(20), 3, 2)
    first, _ = next(iter(batches))
    once = [xs.tolist() for xs, _ in batches]
    again = [xs.tolist() for xs, _ in batches]
    assert once == again
    assert once[0] == first.tolist()


def test_a_window_is_a_copy_of_a_read_only_corpus() -> None:
    corpus = Corpus.from_text("abcabcabc", "char")
    xs, ts = next(iter(OffsetBatches(corpus.ids, 2, 2)))
    xs[:] = 0
    ts[:] = 0
    assert corpus.vocabulary.decode(corpus.ids) == list("abcabcabc")


def test_the_shortest_corpus_gives_one_window() -> None:
    assert [xs.shape for xs, _ in OffsetBatches(np.arange(7), 2, 3)] == [(2, 3)]
    with pytest.raises(
        CorpusError, match=r"at least batch_size \* bptt \+ 1 = 2 \* 3 \+ 1 = 7 values, got 6; .*longer corpus"
    ):
        OffsetBatches(np.arange(6), 2, 3)


@pytest.mark.parametrize("value", [0, -1, 2.0, "2", None, True])
def test_batch_size_and_bptt_must_be_positive_integers(value: int) -> None:
    with pytest.raises(ConfigError, match="OffsetBatches: batch_size must be an integer of 1 or more"):
        OffsetBatches(np.arange(20), value, 2)
    with pytest.raises(ConfigError, match="OffsetBatches: bptt must be an integer of 1 or more"):
        OffsetBatches(np.arange(20), 2, value)


def test_numpy_integers_count_as_integers() -> None:
    batches = OffsetBatches(np.arange(601), np.int8(100), np.uint8(3))  # type: ignore[arg-type]
    assert (batches.tokens, len(batches)) == (600, 2)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (np.int64(3), ShapeError, "got a single number"),
        (["a"] * 20, DTypeError, "expected values of real numbers, got dtype <U1"),
        (np.zeros(20, complex), DTypeError, "complex128"),
        ([], CorpusError, "values, got 0; pass a longer corpus"),
    ],
)
def test_ids_of_the_wrong_kind_are_rejected(ids: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        OffsetBatches(ids, 2, 2)  # type: ignore[arg-type]


@given(
    shape=st.lists(st.integers(1, 3), max_size=2),
    lengths=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 9)),
    own=st.booleans(),
)
def test_streams_of_any_numbers(shape: list[int], lengths: tuple[int, int, int], own: bool) -> None:
    """Joined, the windows of stream i are values[i * L :][:L], and the targets those of one step later, or as given."""
    N, bptt, more = lengths
    M = N * bptt + 1 + more
    values = np.random.default_rng(M).standard_normal((M, *shape))
    targets = np.arange(M) - 5 if own else None
    batches = OffsetBatches(values, N, bptt, targets=targets, dtype=None)
    L = batches.stream_length
    xs, ts = (np.concatenate(parts, axis=1) for parts in zip(*batches, strict=True))
    for i in range(N):
        np.testing.assert_array_equal(xs[i], values[i * L :][:L])
        np.testing.assert_array_equal(ts[i], (values[1:] if targets is None else targets)[i * L :][:L])


def test_floats_come_in_the_dtype_of_the_model() -> None:
    assert {part.dtype for part in next(iter(OffsetBatches(np.ones(9), 2, 2)))} == {np.dtype(np.float32)}
    xs, ts = next(iter(OffsetBatches(np.ones((9, 2), np.uint8), 2, 2, targets=np.ones(9, bool))))
    assert (xs.dtype, ts.dtype) == (np.int64, np.bool_)


def test_as_many_targets_as_values() -> None:
    with pytest.raises(ShapeError, match="as many targets as values, 9, got 8"):
        OffsetBatches(np.ones(9), 2, 2, targets=np.ones(8))
