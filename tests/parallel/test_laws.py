"""Laws of what several processes divide, send and join: rows, draws, vectors, smaller forms of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_rnn as tr
from tinygrad_rnn.launch import launched
from tinygrad_rnn.nn.draws import RowDraws
from tinygrad_rnn.parallel import Group, Share, group_of, joined_state, share_of
from tinygrad_rnn.parallel.exchange import BFloat16, TopK, as_bfloat16, as_float32, parse_exchange
from tinygrad_rnn.parallel.shares import own_rows
from tinygrad_rnn.training.loop.pieces import HeldRows
from tinygrad_rnn.training.loop.vectors import flat_of, places_of


class Several(Group):
    """The view of one of several processes, for what needs no others."""

    def __init__(self, rank, size):
        super().__init__()
        self._place = rank, size

    rank = property(lambda self: self._place[0])
    size = property(lambda self: self._place[1])


@given(count=st.integers(0, 50), size=st.integers(1, 9))
def test_each_row_is_held_once_and_parts_differ_by_one(count, size):
    parts = [Several(rank, size).rows(count) for rank in range(size)]
    assert [row for part in parts for row in range(count)[part]] == list(range(count))
    assert max(p.stop - p.start for p in parts) - min(p.stop - p.start for p in parts) <= 1


@given(count=st.integers(1, 9), size=st.integers(1, 12))
def test_shares_of_a_batch_and_of_its_state_are_rows_and_join_again(count, size):
    batch = {"x": np.arange(2 * count).reshape(count, 2), "y": np.arange(count)}
    state = (np.arange(3.0 * count).reshape(count, 3), {"clock": np.array(4)})
    shares = [share_of(batch, Several(rank, size)) for rank in range(size)]
    rows = np.concatenate([share.batch["y"] for share in shares if share.counts])
    assert rows.tolist() == list(range(count))
    assert all(len(share.batch["x"]) == share.stop - share.start >= 1 for share in shares)
    parts = [(share, share.rows_of(state)) for share in shares]
    whole = joined_state(parts)
    assert whole[0].tolist() == state[0].tolist()
    assert whole[1]["clock"] == 4


def test_rows_that_nobody_holds_begin_anew():
    held = [(Share(None, 0, 1, 4), np.ones((1, 2))), (Share(None, 3, 4, 4), np.ones((1, 2)))]
    assert joined_state(held, fresh=np.full((4, 2), 7.0))[:, 0].tolist() == [1, 7, 7, 1]


def test_a_state_of_its_own_rows_is_the_same_object():
    share = Share(None, 1, 3, 4)
    state = (np.zeros((2, 5)),)
    assert share.rows_of(state) is state
    assert share.rows_of((np.zeros((4, 5)),))[0].shape == (2, 5)


def test_streams_are_read_in_part():
    windows = tr.OffsetBatches(np.arange(41), batch_size=4, bptt=5)
    whole = [xs for xs, _ in windows]
    parts = [list(own_rows(windows, Several(rank, 3))) for rank in range(3)]
    for number, xs in enumerate(whole):
        assert np.array_equal(np.concatenate([part[number].batch[0] for part in parts]), xs)
    assert own_rows(windows, Several(0, 5)) is None
    assert own_rows([1, 2], Several(0, 2)) is None


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(tr.ShapeError, match=r"each array of it must be \(N, ...\)"):
        share_of((np.zeros((2, 3)), np.zeros(3)), Several(0, 2))


@given(seed=st.integers(0, 99), start=st.integers(0, 3), rows=st.integers(1, 3), k=st.integers(1, 3))
def test_draws_of_rows_are_those_of_the_whole_batch(seed, start, rows, k):
    total = start + rows + 1
    for draw in (
        lambda rng, n: rng.random((n, 2), dtype=np.float32),
        lambda rng, n: rng.standard_normal((n, 3)),
        lambda rng, n: rng.normal(1.0, 2.0, n),
        lambda rng, n: rng.uniform(-1, 1, size=(n, 1)),
        lambda rng, n: rng.integers(0, 9, (n, 4)),
    ):
        one, same = np.random.default_rng(seed), np.random.default_rng(seed)
        part = draw(RowDraws(one, start, start + rows, total), rows * k)
        assert np.array_equal(part, draw(same, total * k)[start * k : (start + rows) * k])
        assert one.random() == same.random()


def test_a_draw_without_rows_says_what_to_do():
    with pytest.raises(
        tr.ShapeError, match=r"draws arrays \(2, ...\), got size \(3, 1\); draw what is not of a sequence"
    ):
        RowDraws(np.random.default_rng(0), 0, 2, 4).random((3, 1))


@given(hnp.arrays(np.float32, 20, elements=st.floats(-(2.0**90), 2.0**90, width=32, allow_subnormal=False)))
def test_bfloat16_rounds_to_nearest(x):
    found = as_float32(as_bfloat16(x))
    assert np.all(np.abs(found - x) <= np.abs(x) * 2.0**-8)
    assert np.array_equal(as_bfloat16(found), as_bfloat16(x))


@given(
    st.lists(hnp.arrays(np.float64, 12, elements=st.integers(-99, 99).map(float)), min_size=1, max_size=6),
    st.sampled_from([0.1, 0.3, 1.0]),
)
def test_what_top_k_leaves_out_is_sent_later(gradients, share):
    reduce = TopK(share)
    sent = [reduce(Group(), "g", g.copy()) for g in gradients]
    assert all(np.count_nonzero(one) <= max(1, round(12 * share)) for one in sent)
    assert np.array_equal(sum(sent) + reduce._left["g"], sum(gradients))


def test_what_bfloat16_leaves_out_is_sent_later():
    reduce, g = BFloat16(), np.array([1.001], np.float32)
    assert sum(float(reduce(Group(), "g", g.copy())[0]) for _ in range(1000)) == pytest.approx(1001, abs=0.01)


@given(st.lists(hnp.array_shapes(max_dims=3, max_side=3), min_size=1, max_size=5))
def test_vectors_hold_each_gradient_in_its_place(shapes):
    rng = np.random.default_rng(0)
    dtypes = [("float64", "float32", "float16")[n % 3] for n in range(len(shapes))]
    params = {f"p{n}": tr.tensor(np.zeros(s), d) for n, (s, d) in enumerate(zip(shapes, dtypes, strict=True))}
    gradients = {name: rng.standard_normal(p.shape).astype(p.dtype) for name, p in params.items()}
    vectors = flat_of(gradients, 3)
    for name, place in places_of(params).items():
        part = vectors[place.vector][place.start : place.stop].reshape(place.shape)
        assert np.array_equal(part, np.asarray(gradients[name], place.vector) * 3)


@pytest.mark.parametrize("executor", ["numpy", "auto"])
def test_a_plan_makes_gradients_in_the_vector(executor):
    model = tr.RNNLM(9, 3, 4, np.random.default_rng(0), dtype=np.float64)
    ids = np.random.default_rng(1).integers(0, 9, (2, 5))

    def vector(params, ids, state):
        return flat_of(tr.grad(model.loss(ids, ids, state)[0], params), 1)

    step = tr.Compiled(vector, executor=executor)
    found = step(model.parameters(), ids, model.initial_state(2))["float64"]
    wanted = tr.grad(model.loss(ids, ids, model.initial_state(2))[0], model.parameters())
    for name, place in places_of(model.parameters()).items():
        assert np.allclose(place.of({"float64": found}), wanted[name], rtol=1e-12, atol=1e-15)
    made = [
        one for one, _ in step.plan.flat() if any(slot.buffer is step.plan.outputs[0].buffer for slot in one.outputs)
    ]
    assert {"matmul", "take_back"} <= {one.operator.name for one in made}
    copied = [np.prod(one.outputs[0].shape) for one in made if one.operator.name == "copy"]
    assert max(copied, default=0) <= 9  # a bias, and room before a matrix


def test_two_plans_read_each_others_results_where_they_lie():
    """Not from copies: a block of the one is bound in the other, and results that are kept never change."""
    one = tr.Compiled(lambda x: x * 2.0)
    other = tr.Compiled(lambda y: y + 1.0, beside=one)
    x, kept = np.zeros(5000), []
    for _ in range(12):
        x = other(one(x))
        kept.append((x, x[0]))
    assert x[0] == 2**12 - 1
    assert all(np.all(array == value) for array, value in kept)
    assert not any(copy is not None for one in other._plans.values() for copy in one.executor._copies.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topk:2", "topk"),
        ("topk:x", "got 'topk:x'"),
        ("local:0", "local"),
        ("bfloat16:3", "got"),
        ("", "exchange must be"),
    ],
)
def test_exchanges_that_are_refused(text, message):
    with pytest.raises(tr.ConfigError, match=message):
        parse_exchange(text)


@pytest.mark.parametrize("kind", [tr.UORO, tr.KroneckerFactored])
def test_policies_that_mix_the_rows_of_a_batch_draw_for_their_own(kind):
    dtype = np.dtype(np.float64)
    alone = kind(rng=4)
    signs, later = alone.signs((5, 3), dtype), alone.signs((9,), dtype)
    for start, stop in ((0, 2), (2, 5)):
        policy = kind(rng=4)
        held = policy.among(HeldRows(Share(None, start, stop, 5), Group()))
        assert np.array_equal(held.signs((stop - start, 3), dtype), signs[start:stop])
        assert np.array_equal(policy.signs((9,), dtype), later)  # the generator is that of the policy


def test_rows_that_do_not_count_add_nothing_to_a_total():
    values = [np.full((2, 3), 2.0), np.array(3.0), np.ones(2, np.float32)]
    for counts in (True, False):
        found = HeldRows(Share(None, 0, 1, 1, counts), Group()).total(values)
        assert [(one.shape, one.dtype) for one in found] == [(one.shape, one.dtype) for one in values]
        assert all(np.array_equal(one, counts * value) for one, value in zip(found, values, strict=True))


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ({"PMI_SIZE": "3"}, 3),
        ({"SLURM_STEP_NUM_TASKS": "8"}, 1),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_MPI_TYPE": "pmix"}, 8),
        ({"OMPI_COMM_WORLD_SIZE": "0"}, 1),
    ],
)
def test_launchers_are_seen_in_the_environment(said, size):
    assert launched(said) == size


def test_what_is_no_communicator_is_refused():
    with pytest.raises(tr.ConfigError, match="comm must be a communicator of mpi4py"):
        group_of("world")


def test_an_error_of_the_first_process_is_raised_as_it_is():
    with pytest.raises(OSError, match="disk"):
        Group().first(lambda: (_ for _ in ()).throw(OSError("disk")))
