"""Data sets of sequences: batches, padding, order, resuming, splits, windows, tables, arrays of other libraries."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.errors import ConfigError, DTypeError, ShapeError

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=20)
TARGETS = ("none", "class", "vector", "steps", "translation")


def dataset(lengths, kind="class"):
    """Return sequences whose every value is the number of its sequence, plus a hundredth of its time."""
    inputs = [n + 1 + np.arange(T)[:, None] / 100 for n, T in enumerate(lengths)]
    targets = {
        "none": None,
        "class": list(range(len(lengths))),
        "vector": [np.array([n, n + 0.5]) for n in range(len(lengths))],
        "steps": [np.full(T, n) for n, T in enumerate(lengths)],
        "translation": [np.full(1 + (n + T) % 4, n) for n, T in enumerate(lengths)],
    }[kind]
    return tr.Sequences(inputs, targets, steps=kind in ("steps", "translation"))


def numbers(batch):
    return (np.floor(batch.inputs[:, 0, 0]) - 1).astype(int).tolist()


@pytest.mark.parametrize("kind", TARGETS)
@given(
    lengths=LENGTHS,
    N=st.integers(1, 6),
    seed=st.none() | st.integers(0, 99),
    pool=st.integers(1, 3),
    by=st.integers(1, 4),
)
def test_a_pass_yields_every_sequence_once_as_it_is(kind, lengths, N, seed, pool, by):
    data = dataset(lengths, kind)
    rng = None if seed is None else np.random.default_rng(seed)
    batches = data.batches(N, rng, pool=pool, multiple=by)
    assert len(batches) == -(-len(lengths) // N)
    for _ in range(2):
        seen = []
        for batch in batches:
            rows = numbers(batch)
            seen += rows
            assert batch.inputs.dtype == np.float32
            T = batch.inputs.shape[1]
            assert T % by == 0
            assert max(lengths[n] for n in rows) <= T < max(lengths[n] for n in rows) + by
            np.testing.assert_array_equal(batch.lengths, [lengths[n] for n in rows])
            np.testing.assert_array_equal(batch.mask.sum(axis=1), batch.lengths)
            assert not batch.inputs[~batch.mask].any()
            for row, n in enumerate(rows):
                np.testing.assert_array_equal(batch.inputs[row][batch.mask[row]], data.inputs[n])
            if kind in ("steps", "translation"):
                for row, n in enumerate(rows):
                    np.testing.assert_array_equal(batch.targets[row][batch.target_mask[row]], data.targets[n])
                assert (batch.targets[~batch.target_mask] == -1).all()
                np.testing.assert_array_equal(batch.target_mask.sum(axis=1), batch.target_lengths)
            else:
                assert batch.target_mask is batch.target_lengths is None
                expected = None if kind == "none" else np.stack([data.targets[n] for n in rows])
                np.testing.assert_array_equal(batch.targets, expected)
        assert sorted(seen) == list(range(len(lengths)))
        assert seed is not None or pool > 1 or seen == sorted(seen)


@given(lengths=st.lists(st.integers(1, 50), min_size=24, max_size=40), seed=st.integers(0, 99))
def test_a_pool_leaves_less_padding(lengths, seed):
    def padding(pool):
        batches = dataset(lengths).batches(4, np.random.default_rng(seed), pool=pool)
        return sum(int((~batch.mask).sum()) for batch in batches)

    assert padding(100) <= padding(1)


def test_each_pass_is_in_another_order_and_a_seed_says_which():
    def passes():
        batches = dataset([1] * 20).batches(7, np.random.default_rng(5))
        return [[n for batch in batches for n in numbers(batch)] for _ in range(3)]

    one, two, three = passes()
    assert passes() == [one, two, three]
    assert one != two != three


@pytest.mark.parametrize("stop", range(7))
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("pool", [1, 2])
def test_batches_go_on_where_they_stopped(stop, seed, pool):
    """Five batches a pass; stopped after `stop` of them in the second pass, or right after a whole pass."""

    def make():
        rng = None if seed is None else np.random.default_rng(seed)
        return dataset([1, 4, 2, 3, 5, 1, 2, 6, 3, 1]).batches(2, rng, pool=pool)

    straight = make()
    expected = [numbers(batch) for _ in range(4) for batch in straight]
    first, found = make(), []
    stream = (batch for _ in range(4) for batch in first)
    for batch in itertools.islice(stream, 4 + stop):
        found.append(numbers(batch))
    state = json.loads(json.dumps(first.state_dict()))
    second = make()
    second.load_state_dict(state)
    rest = [numbers(batch) for _ in range(4) for batch in second]
    assert (found + rest)[: len(expected)] == expected


def test_a_pass_that_is_left_is_over():
    """Whoever looks at a batch, or leaves a loop, starts anew; several passes at a time do not disturb each other."""
    batches = dataset(range(1, 7)).batches(2)
    assert numbers(next(iter(batches))) == [0, 1]
    assert batches.state_dict()["position"] == 0
    one, two = iter(batches), iter(batches)
    found = [numbers(next(each)) for each in (one, two, one, two, two, one)]
    assert found == [[0, 1], [0, 1], [2, 3], [2, 3], [4, 5], [4, 5]]
    assert batches.state_dict()["position"] == 0


@pytest.mark.filterwarnings("ignore:resume")
def test_a_resumed_training_run_has_the_same_batches(tmp_path):
    """Killed in the middle of its second epoch."""

    def trainer(folder, updates, stop=0):
        rng = np.random.default_rng(3)
        data = dataset([3, 1, 4, 1, 5, 2, 6, 5])
        model = tr.Linear(1, 1, np.random.default_rng(0))

        def loss(model, batch):
            return tr.mse(model(batch.inputs)[..., 0], np.zeros(batch.mask.shape), batch.mask)

        return tr.Trainer(
            model,
            loss,
            data.batches(2, rng, pool=2),
            updates=updates,
            checkpoints=folder,
            progress=False,
            callbacks=[Stop(stop)],
        )

    class Stop(tr.Callback):
        def __init__(self, update):
            self.update = update

        def on_update(self, trainer, result):
            if trainer.run.updates == self.update:
                raise KeyboardInterrupt

    straight = trainer(tmp_path / "a", 12)
    straight.fit()
    with pytest.raises(KeyboardInterrupt):
        trainer(tr.Checkpoints(tmp_path / "b", every=1), 12, stop=7).fit()
    resumed = trainer(tr.Checkpoints(tmp_path / "b", every=1), 12).resume()
    resumed.fit()
    for name, p in straight.model.parameters().items():
        np.testing.assert_array_equal(resumed.model.parameters()[name].data, p.data)


def test_the_last_short_batch_can_be_left_out():
    batches = dataset([1] * 7).batches(3, np.random.default_rng(0), drop_last=True)
    assert [len(batch.lengths) for batch in batches] == [3, 3]
    with pytest.raises(ConfigError, match="7 sequences make no batch of 8; lower batch_size"):
        dataset([1] * 7).batches(8, drop_last=True)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"position": 0}, "expected a state with"),
        ({"position": 9, "rng": None}, "position must be an integer from 0 to 0"),
        ({"position": 0, "rng": None}, "one of both has no generator"),
        ({"position": 0, "rng": {"bit_generator": "MT19937"}}, "the state of another kind of generator"),
    ],
)
def test_the_state_of_other_batches_is_refused(state, message):
    batches = dataset([1]).batches(1, np.random.default_rng(0))
    before = batches.state_dict()
    with pytest.raises(ConfigError, match=message):
        batches.load_state_dict(state)
    assert batches.state_dict() == before


@pytest.mark.parametrize(("dtype", "expected"), [(np.float32, "float32"), (np.float64, "float64"), (None, "float64")])
def test_whole_numbers_among_others_are_numbers_like_them(dtype, expected):
    data = tr.Sequences([[1, 2, 3], [1.5], [2, 2]], [[1, 2, 3], [0.5], [1, 1]], dtype=dtype)
    for N in (1, 2, 3):  # in whichever batch they are
        assert {(str(b.inputs.dtype), str(b.targets.dtype)) for b in data.batches(N)} == {(expected, expected)}
    assert next(iter(data.batches(3))).targets.tolist() == [[1, 2, 3], [0.5, 0, 0], [1, 1, 0]]
    values = tr.Sequences([[1], [2]], [1, 2.5], dtype=dtype)
    assert {(str(b.inputs.dtype), str(b.targets.dtype)) for b in values.batches(1)} == {("int64", expected)}
    words = tr.Sequences([[1, 2], [3]], [[1, 2], []], steps=True, dtype=dtype)
    assert words.targets[0].dtype == np.int64


@given(count=st.integers(3, 60), seed=st.none() | st.integers(0, 9))
def test_a_split_is_a_partition(count, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    parts = dataset([1] * count).split(1 / 3, 1 / 3, rng=rng)
    assert [len(part) for part in parts[1:]] == [round(count / 3)] * 2
    found = [int(t) for part in parts for t in part.targets]
    assert sorted(found) == list(range(count))
    assert seed is not None or found == sorted(found)


def test_some_of_the_sequences():
    data = dataset([1, 2, 3, 4], "steps")
    assert [len(x) for x in data[1:3].inputs] == [2, 3]
    assert [len(x) for x in data[[3, 0]].inputs] == [4, 1]
    assert [len(t) for t in data[data.lengths > 2].targets] == [3, 4]
    assert len(data[2]) == 1


@given(
    T=st.integers(2, 30),
    length=st.integers(1, 10),
    horizon=st.integers(1, 5),
    stride=st.integers(1, 4),
    steps=st.booleans(),
)
def test_windows_hold_what_the_series_says(T, length, horizon, stride, steps):
    series = np.arange(T, dtype=np.float64)
    if length + horizon > T:
        with pytest.raises(ShapeError, match=rf"the series has {T} steps, but length \+ horizon"):
            tr.sliding_windows(series, length, horizon=horizon)
        return
    data = tr.sliding_windows(series, length, horizon=horizon, stride=stride, steps=steps)
    assert len(data) == (T - length - horizon) // stride + 1
    for n, (x, t) in enumerate(zip(data.inputs, data.targets, strict=True)):
        start = n * stride
        assert x[:, 0].tolist() == list(range(start, start + length))
        after = np.arange(start + horizon, start + horizon + length) if steps else start + length + np.arange(horizon)
        assert t.ravel().tolist() == after.tolist()
        assert t.shape == ((length, 1) if steps else (horizon,))


def test_windows_of_several_features_can_predict_another_series():
    data = tr.sliding_windows(np.ones((9, 3)), 4, targets=np.arange(9))
    assert data.inputs[0].shape == (4, 3)
    assert [int(t[0]) for t in data.targets] == [4, 5, 6, 7, 8]
    assert data.targets[0].dtype == np.arange(9).dtype


class Column:
    """What pandas and Polars call a column."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return np.asarray(self.values)


class Device:
    """What PyTorch calls a tensor: NumPy cannot read it until it is detached and on the host."""

    def __init__(self, values, steps=("detach", "cpu")):
        self.values, self.steps = values, steps

    def detach(self):
        return Device(self.values, self.steps[1:])

    def cpu(self):
        return Device(self.values, () if self.steps == ("cpu",) else self.steps)

    def numpy(self):
        assert not self.steps
        return np.asarray(self.values)


@pytest.mark.parametrize("kind", [np.asarray, list, Column, Device, lambda x: Column(np.asarray(x, object))])
def test_arrays_of_other_libraries_are_taken_as_they_are(kind):
    data = tr.Sequences([kind([1.0, 2.0]), kind([3.0])], kind([0, 1]))
    assert [x.tolist() for x in data.inputs] == [[1.0, 2.0], [3.0]]
    assert len(tr.sliding_windows(kind([1.0, 2.0, 3.0]), 2)) == 1
    assert next(iter(tr.OffsetBatches(kind([1, 2, 3, 4, 5]), 2, 2)))[1].tolist() == [[2, 3], [4, 5]]


def test_pandas_and_pytorch_themselves():
    torch = pytest.importorskip("torch", reason="PyTorch is for development only")
    x = torch.arange(6.0, requires_grad=True).reshape(2, 3)
    assert tr.Sequences(x, torch.tensor([0, 1])).lengths.tolist() == [3, 3]


def test_rows_of_a_table_become_sequences():
    data = tr.group_rows(Column(["b", "a", "b"]), np.eye(3), [1, 0, 1])
    assert [x.shape for x in data.inputs] == [(2, 3), (1, 3)]
    assert [int(t) for t in data.targets] == [1, 0]
    data = tr.group_rows([7, 7, 3], [1.0, 2.0, 3.0], [0, 1, 1], steps=True)
    assert [t.tolist() for t in data.targets] == [[0, 1], [1]]
    with pytest.raises(ShapeError, match="the targets of 7 differ; steps=True"):
        tr.group_rows([7, 7], [1.0, 2.0], [0, 1])


def test_padding_of_ones_own():
    array, lengths = tr.pad_sequences([np.ones((2, 3)), np.ones((1, 3))], value=np.nan, multiple=4)
    assert array.shape == (2, 4, 3)
    assert np.isnan(array).sum() == 15
    assert lengths.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tr.Sequences([]), ShapeError, "there are no sequences"),
        (lambda: tr.Sequences([[1], []]), ShapeError, r"inputs\[1\] is empty"),
        (lambda: tr.Sequences([1, 2]), ShapeError, r"shapes \(T_n, ...\)"),
        (lambda: tr.Sequences([np.ones((2, 3)), np.ones((2, 4))]), ShapeError, r"\(2, 3\) for the first and \(2, 4\)"),
        (lambda: tr.Sequences([[1]], [1, 2]), ShapeError, "a target for each of 1 inputs, got 2"),
        (
            lambda: tr.Sequences([[1], [2]], [[1, 2], [1, 2, 3]]),
            ShapeError,
            "targets of one shape, or with a time axis",
        ),
        (lambda: tr.Sequences([["a"]]), DTypeError, r"inputs\[0\] of real numbers, got dtype <U1"),
        (lambda: tr.Sequences([[[1], [1, 2]]]), ShapeError, r"inputs\[0\] is not an array"),
        (lambda: tr.Sequences([[1], [2]], steps=1), ConfigError, "steps must be true or false"),
        (lambda: dataset([1] * 5).split(0.5, 0.5), ConfigError, "together above 0 and below 1"),
        (lambda: dataset([1] * 5).split(), ConfigError, "together above 0 and below 1"),
        (lambda: dataset([1] * 5).split(0.01), ShapeError, "leave a part of"),
        (lambda: dataset([1] * 5).split(0.2, rng=3), ConfigError, "must be a numpy.random.Generator"),
        (lambda: dataset([1]).batches(0), ConfigError, "batch_size must be"),
        (lambda: dataset([1]).batches(1, 0), ConfigError, "must be a numpy.random.Generator"),
        (lambda: dataset([1]).batches(1, pool=0), ConfigError, "pool must be"),
        (lambda: tr.pad_sequences([]), ShapeError, "there are no rows"),
        (lambda: tr.sliding_windows(np.ones((2, 2, 2)), 1), ShapeError, r"series of shape \(T,\) or \(T, D\)"),
        (lambda: tr.sliding_windows(np.ones(5), 2, targets=np.ones(4)), ShapeError, "targets as long"),
        (lambda: tr.group_rows([1, 2], [1.0]), ShapeError, "as many rows"),
    ],
)
def test_what_does_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        make()
