"""A new length: the function itself runs; backward passes of loops, plans and records follow from earlier lengths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay import array_of, assert_equal, need_library, normal, small_plans_shared

import tinygrad_rnn as tr
from tinygrad_rnn.compiler import api
from tinygrad_rnn.compiler.native import line as lines
from tinygrad_rnn.compiler.native.encode import encode
from tinygrad_rnn.compiler.native.line import program_of
from tinygrad_rnn.compiler.native.program import Repeated
from tinygrad_rnn.compiler.plans.skeleton import skeleton
from tinygrad_rnn.compiler.replay import executor
from tinygrad_rnn.engine.tree import map_leaves

pytestmark = pytest.mark.filterwarnings("ignore:compile. .* has been recorded:RuntimeWarning")

N, D, H, V = 3, 4, 8, 6
MODELS = {
    "rnn": {"cell": "rnn"},
    "lstm": {"cell": "lstm"},
    "lengths": {"cell": "lstm"},
    "dropout": {"cell": "lstm", "dropout": 0.3},
    "two layers": {"cell": "lstm", "layers": 2},
}


def train_step(name, H=H):
    """Return a training step, and its arguments for T steps."""
    model = tr.RNNLM(V, D, H, np.random.default_rng(0), dtype=np.float64, **MODELS[name])

    def step(params, ids, targets, state, rng, ends):
        loss, state = model.loss(ids, targets, state, rng=rng, lengths=ends)
        grads = tr.grad(loss, params)
        return loss, {name: p - 0.1 * grads[name] for name, p in params.items()}, state

    def arguments(T):
        draws = np.random.default_rng(T)
        ids = draws.integers(0, V, (N, T + 1))
        ends = draws.integers(1, T + 1, N) if name == "lengths" else None
        rng = np.random.default_rng(1) if name == "dropout" else None
        return model.parameters(), ids[:, :-1], ids[:, 1:], model.initial_state(N), rng, ends

    return step, arguments


def counting(monkeypatch, place, name):
    """Count the calls of a function, from now on."""
    calls, function = [], getattr(place, name)
    monkeypatch.setattr(place, name, lambda *args, **kwargs: (calls.append(1), function(*args, **kwargs))[1])
    return calls


@pytest.mark.sample(4)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_from_the_fourth_length_on_nothing_is_worked_out_again(name, threads, monkeypatch):
    need_library()
    monkeypatch.setattr(executor, "_SHARED", 0)  # small plans are shared, too
    step, arguments = train_step(name)
    compiled = tr.compile(step, executor="native", threads=threads)
    for T in (9, 14, 11):
        compiled(*arguments(T))
    passes, encoded = counting(monkeypatch, api, "run_passes"), counting(monkeypatch, lines, "encode")
    for T in (30, 7, 15, 8, 22, 100):
        alone = tr.compile(step, executor="native", threads=threads)
        expected = alone(*arguments(T))
        del passes[:], encoded[:]
        assert_equal(compiled(*arguments(T)), expected, 0)
        assert (len(passes), len(encoded)) == (0, 0), T


# -- backward passes of loops ------------------------------------------------------------------------------------------


def counted_rule():
    """Return tanh as a primitive, and a list that grows with each call of its rule."""
    calls = []

    @tr.primitive()
    def bent(x, /):
        return np.tanh(x)

    @bent.rule(keep="y")
    def _(g, y, x):
        calls.append(1)
        return (g * (1 - y * y),)

    return bent, calls


W = tr.tensor(normal(D, D, seed=1), requires_grad=True)


def of_lengths(f, lengths):
    """Call a compiled function with several lengths, compare it with the function itself; return it."""
    compiled = tr.compile(f)
    for T in lengths:
        xs = normal(N, T, D, seed=T)
        made = compiled(xs)
        assert_equal(made, map_leaves(array_of, f(xs)), 1e-12)
    return compiled


def test_the_rules_of_a_loop_run_once():
    bent, calls = counted_rule()

    def cell(x, h):
        h = bent(h @ W + x)
        return h, h

    def f(xs):
        outputs, _ = tr.unroll(cell, xs, np.zeros((N, D)))
        return tr.grad(np.sum(outputs * outputs), W)

    compiled = tr.compile(f)
    counts = []
    for T in (5, 9, 4, 7):
        compiled(normal(N, T, D))
        counts.append(len(calls))
    assert counts == [1, 1, 1, 1]


def test_a_gradient_that_goes_another_way_at_some_lengths():
    """The calls are the same at all lengths, the edges of the tape are not."""

    def f(xs):
        T = xs.shape[1]

        def cell(x, h):
            with tr.no_grad() if T > 6 else tr.enable_grad():
                twice = 2.0 * (h @ W)
            with tr.no_grad() if T <= 6 else tr.enable_grad():
                thrice = 3.0 * (h @ W)
            h = np.tanh(twice + thrice + x)
            return h, h

        outputs, _ = tr.unroll(cell, xs, np.zeros((N, D)))
        return tr.grad(np.sum(outputs * outputs), W)

    of_lengths(f, [4, 5, 8, 6, 9, 3, 7])


def test_what_is_wanted_of_a_gradient_differs():
    def f(xs):
        xs = tr.tensor(np.zeros((N, xs.shape[1], D)), requires_grad=True) + xs
        h0 = tr.tensor(np.ones((N, D)), requires_grad=True)

        def cell(x, h):
            return h * 2.0, np.tanh(h @ W + x)

        outputs, last = tr.unroll(cell, xs, h0)
        y = {0: np.sum(last), 1: np.sum(outputs * outputs), 2: np.sum(outputs) + np.sum(last * last)}[xs.shape[1] % 3]
        wanted = [W, h0, (xs, W), (h0, xs)][xs.shape[1] % 4]
        return tr.grad(y, wanted), tr.grad(np.sum(outputs) + np.sum(last), [W, h0])

    of_lengths(f, range(2, 15))


def test_a_rule_that_reads_an_array_which_changes():
    slope = np.full(D, 2.0)

    @tr.primitive()
    def steep(x, /):
        return np.tanh(x)

    @steep.rule()
    def _(g, y, x):
        return (g * slope,)

    def f(xs):
        outputs, _ = tr.unroll(lambda x, h: (h, steep(h @ W + x)), xs, np.zeros((N, D)))
        return tr.grad(np.sum(outputs * outputs), W)

    compiled = tr.compile(f)
    for T in (4, 5, 6, 7):
        slope[:] = T
        xs = normal(N, T, D, seed=T)
        assert_equal(compiled(xs), array_of(f(xs)), 1e-12)


def test_second_derivatives_of_several_lengths():
    def f(xs):
        outputs, _ = tr.unroll(lambda x, h: (h, np.tanh(h @ W + x)), xs, np.ones((N, D)))
        first = tr.grad(np.sum(outputs * outputs), W, create_graph=True)
        return tr.grad(np.sum(first * first), W), tr.grad(np.sum(outputs), W)

    of_lengths(f, [4, 5, 8, 6])


def test_passes_write_into_no_body_that_recordings_share():
    step, arguments = train_step("two layers")
    compiled = tr.compile(step, threads=1)
    for T in (5, 8, 11):
        compiled(*arguments(T))
    known = [pulled.body.graph for pulled in compiled._known._pulled.values()]
    params, ids, targets, _, *others = arguments(6)
    for rows in (1, 2):  # other sizes of a batch: the passes run again
        made = compiled(params, ids[:rows], targets[:rows], None, *others)
        assert_equal(made, map_leaves(array_of, step(params, ids[:rows], targets[:rows], None, *others)), 1e-11)
    assert known
    assert [graph.skeleton.form for graph in known] == [skeleton(graph).form for graph in known]


# -- records on a line -------------------------------------------------------------------------------------------------


def programs(compiled):
    """Return (program, what is encoded) of each plan."""
    return [(program_of(plan, compiled.threads), encode(plan, compiled.threads)) for plan in compiled.plans]


def rows(program):
    return [piece if isinstance(piece, int) else piece.array.tobytes() for piece in program.pieces]


@settings(max_examples=10, deadline=None)
@given(
    name=st.sampled_from([*MODELS]),
    threads=st.integers(1, 3),
    lengths=st.lists(st.integers(2, 90), min_size=3, max_size=8, unique=True),
)
def test_records_are_those_that_are_encoded(name, threads, lengths):
    need_library()
    step, arguments = train_step(name)
    compiled = tr.compile(step, executor="native", threads=threads)
    with small_plans_shared():
        for T in lengths:
            compiled(*arguments(T))
    for plan, (made, encoded) in zip(compiled.plans, programs(compiled), strict=True):
        coincides = plan.inputs[1].shape[1] in (N, D, H, V, 4 * H)  # then some axes may lie as if they were one
        assert coincides or rows(made) == rows(encoded)
        assert len(made.buffers) == len(encoded.buffers)
        assert all(a is b or a.kind == b.kind == "scratch" for a, b in zip(made.buffers, encoded.buffers, strict=True))


def large(T):
    """Return a plan with a chain, on a line, and the pair of programs that those of that line follow from."""
    need_library()

    def f(xs, w):
        a = np.tanh(w)
        b = a * w
        return xs @ a @ b @ (np.exp(b) - a)

    compiled = tr.compile(f, executor="native", threads=1)
    for n in (9, 14, 12, T):
        compiled(normal(n, 128), normal(128, 128))
    plan = compiled.plan
    (line,) = plan.place.line.programs.values()
    assert line.known.program(plan, plan.place) is not None
    return plan, line.known


def test_a_chain_whose_operands_come_to_overlap_is_encoded():
    plan, found = large(20)
    buffers = [None if number is None else plan.place.buffers[number] for number in found._one.numbers]
    pairs = [[buffers[found._one.memory[place]] for place in pair] for pair in found._overlaps.T]
    one, other = next(pair for pair in pairs if pair[0] is not pair[1] and pair[0].kind == pair[1].kind == "arena")
    other.offset = one.offset + 64
    assert found.program(plan, plan.place) is None


def test_records_that_would_reach_beyond_a_buffer_are_not_taken():
    plan, found = large(20)
    found._one.spans[1, next(n for n in range(len(found._one.row)) if n not in found._overlaps)] += 1 << 40
    assert found.program(plan, plan.place) is None


TABLE, WIDE = tr.tensor(normal(1000, 3), requires_grad=True), normal(128, 512)
OTHERS = {
    "numbers that follow from the length": (lambda xs, ids: np.mean(np.tanh(xs) * (1.0 / len(xs)), axis=0), 9),
    "chains of large arrays": (lambda xs, ids: np.exp(np.tanh(xs) * xs) - xs, 128),
    "columns of large products": (lambda xs, ids: xs.T @ np.tanh(xs @ WIDE), 256),
    "rows of a table": (lambda xs, ids: TABLE - 0.1 * tr.grad(np.sum(tr.take(TABLE, ids, axis=0) ** 2), TABLE), 60),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", OTHERS)
def test_records_that_differ_above_some_size_are_encoded_for_a_few_lengths(name, threads, monkeypatch):
    need_library()
    f, size = OTHERS[name]
    compiled = tr.compile(f, executor="native", threads=threads)
    encoded, counts = counting(monkeypatch, lines, "encode"), []
    with small_plans_shared():
        for T in size + np.array([-4, 5, -5, 4, -3, 9, -2, 2, 7, 40, 3, -6]):
            args = normal(T, 128), np.random.default_rng(T).integers(0, 300, T)
            del encoded[:]
            made = compiled(*args)
            counts.append(len(encoded))
            assert_equal(made, tr.compile(f, executor="native", threads=threads)(*args), 0)
    assert counts[5:] == [0] * 7


@pytest.mark.parametrize("first", [(100, 120), (300, 340)])
def test_what_is_left_to_numpy_above_some_size(first):
    need_library()

    def f(x):
        return np.log1p(x * x) + x

    compiled = tr.compile(f, executor="native", threads=1)
    for n in (*first, 140, 330, 200, 250, 270, 400, 256, 257, 300):
        x = normal(n)
        assert_equal(compiled(x), tr.compile(f, executor="native", threads=1)(x), 0)
        kinds = [type(piece) for piece in program_of(compiled.plan, 1).pieces]
        assert kinds == [type(piece) for piece in encode(compiled.plan, 1).pieces]


def test_loops_with_lengths_are_the_librarys():
    """The mask of a step is a view of that of all steps; once its copy for the backward pass was Python's at each."""
    need_library()
    step, arguments = train_step("lengths")
    compiled = tr.compile(step, executor="native", threads=1)
    compiled(*arguments(9))
    assert not any(isinstance(piece, Repeated) for piece in encode(compiled.plan, 1).pieces)
