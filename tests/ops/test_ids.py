"""Ids: integers that fit an index, and nothing else; none is turned into another one by a cast."""

import numpy as np
import pytest
from replay import executors

import tinygrad_rnn as tr
from tinygrad_rnn.training import evaluate

HUGE = np.array([0, 2**64 - 1], np.uint64)

TAKERS = {
    "take": lambda x, ids: np.take(x, ids, axis=0),
    "take, flat": lambda x, ids: tr.take(x, ids),
    "take_along_axis": lambda x, ids: tr.take_along_axis(x, ids.reshape(2, 1), axis=0),
    "getitem": lambda x, ids: x[ids],
    "getitem, two": lambda x, ids: x[ids, ids],
    "cross_entropy": tr.cross_entropy,
    "Embedding": lambda x, ids: tr.Embedding(2, 3, np.random.default_rng(0))(ids),
}


def leaf():
    return tr.tensor(np.random.default_rng(0).standard_normal((2, 3)), requires_grad=True)


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("too_large", [2**64 - 1, 2**63, 2**63 + 1])
def test_ids_that_do_not_fit(name, too_large):
    with pytest.raises(IndexError, match=rf"^{name.partition(',')[0]}: .*{too_large}"):
        TAKERS[name](leaf(), np.array([0, too_large], np.uint64))


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("setting", executors(), ids=lambda setting: setting["executor"])
def test_ids_that_do_not_fit_at_a_replay(name, setting):
    """The plan is recorded with good ids; those of a later call are looked at as the first were."""
    compiled = tr.compile(lambda x, ids: (TAKERS[name](x, ids), tr.grad(np.sum(TAKERS[name](x, ids)), x)), **setting)
    if name == "Embedding":
        compiled = tr.compile(TAKERS[name], **setting)
    compiled(leaf(), np.array([0, 1], np.uint64))
    with pytest.raises(IndexError, match=f"{2**64 - 1}"):
        compiled(leaf(), HUGE)


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.uint32, np.int32, np.uint64, np.int64])
def test_every_integer_dtype_names_the_same_rows(name, dtype):
    x, ids = leaf(), np.array([0, 1])
    got, want = (np.sum(TAKERS[name](x, part) ** 2) for part in (ids.astype(dtype), ids))
    assert got.item() == want.item()
    if name != "Embedding":
        assert np.array_equal(tr.grad(got, x), tr.grad(want, x))


@pytest.mark.parametrize("name", [name for name in TAKERS if not name.startswith("getitem")])
@pytest.mark.parametrize(
    "ids", [np.array([True, False]), np.array([0.0, 1.0]), np.array([0j, 1]), np.array(["0", "1"])]
)
def test_what_is_no_integer_is_no_id(name, ids):
    with pytest.raises(tr.DTypeError, match="integer"):
        TAKERS[name](leaf(), ids)


@pytest.mark.parametrize("ids", [np.array([0.0, 1.0]), [0.0, 1.0], np.array(["0"])])
def test_an_index_that_is_no_integer(ids):
    with pytest.raises(tr.DTypeError, match="^getitem: .*integers or booleans"):
        leaf()[ids]


@pytest.mark.parametrize("label", [-1.0, None, True, "0", np.float64(-1)])
def test_an_ignored_label_that_is_no_integer(label):
    with pytest.raises(tr.DTypeError, match="cross_entropy: ignore_label must be an integer"):
        tr.cross_entropy(leaf(), [0, 1], ignore_label=label)


@pytest.mark.parametrize("label", [2**53 + 1, -(2**63), 2**63 - 1, 2**64, np.int64(7)])
@pytest.mark.parametrize("setting", executors(), ids=lambda setting: setting["executor"])
def test_an_ignored_label_of_any_size_is_that_one(label, setting):
    def f(x, targets):
        loss = tr.cross_entropy(x, targets, ignore_label=label)
        return loss, tr.grad(loss, x)

    targets = np.array([label if -(2**63) <= label < 2**63 else 0, 1])
    loss, gradient = tr.compile(f, **setting)(leaf(), targets)
    expected, by_eager = f(leaf(), targets)
    assert loss == pytest.approx(expected.item(), rel=1e-13)
    assert np.allclose(gradient, by_eager, rtol=1e-13, atol=0)
    if label < 2**63:
        with pytest.raises(IndexError):
            tr.compile(f, **setting)(leaf(), np.array([label - 1 if label > 0 else label + 1, 1]))


@pytest.mark.parametrize("bad", [-1, 2**64 - 1])
def test_texts_with_an_id_that_is_none(bad):
    dtype = np.uint64 if bad > 0 else np.int64
    ids = np.array([0, 1, bad, 2, 3, 0, 1], dtype)
    model = tr.RNNLM(5, 2, 2, np.random.default_rng(0))
    with pytest.raises(tr.CorpusError, match=rf"evaluate: ids\[2\] is {bad}, outside 0 .."):
        evaluate(model, ids, batch_size=1, bptt=2)
    with pytest.raises(tr.CorpusError, match=rf"OffsetBatches: ids\[2\] is {bad}, outside 0 .."):
        tr.OffsetBatches(ids, batch_size=1, bptt=2)


@pytest.mark.parametrize("index", [2**64 - 1, np.uint64(2**64 - 1), -(2**63) - 1, 2**80])
def test_one_index_that_does_not_fit(index):
    for part in (index, (0, index), (Ellipsis, index)):
        with pytest.raises(IndexError, match=f"getitem: .*{index}"):
            leaf()[part]


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (np.array([[2, -1], [0, 0]]), "take"),
        *[([2, 0, 0], "take"), (np.array(1), "take"), ((np.array([1]),), "take"), (np.zeros((0, 2), int), "take")],
        ((slice(None), np.array([1, 1])), "take"),
        ((np.array([3]), slice(None)), "take"),
        ((slice(None), slice(None), np.array([0, 1, 0], np.uint8)), "take"),
        ((slice(2), np.array([1, 1])), "getitem"),
        ((np.array([3]), 0), "getitem"),
        ((np.array([3]), np.array([0])), "getitem"),
        (np.array([True, False, True, True]), "getitem"),
        ((None, np.array([1])), "getitem"),
        *[((), "getitem"), (slice(None), "getitem"), (-1, "getitem")],
    ],
)
def test_one_array_of_ids_among_colons_is_a_lookup(index, name):
    """E[ids] has the gradient, the kernels and the exports of take(E, ids, axis=0)."""
    x = tr.parameter(np.random.default_rng(0).standard_normal((4, 3, 2)))
    y = x[index]
    assert y.node.name == name
    np.testing.assert_array_equal(y.data, x.data[index])
    expected = np.zeros(x.shape)
    np.add.at(expected, index, 1.0)
    np.testing.assert_array_equal(tr.grad(np.sum(y), x), expected)
