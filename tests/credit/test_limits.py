"""What forward credit needs, and what it refuses: memory, arguments, masks; and that a policy's text reads back."""

import gc
import itertools
import os
import sys
import tracemalloc

import numpy as np
import pytest
from credit.steps import recurrence

import tinygrad_rnn as tr
from tinygrad_rnn.credit import entries as credit_entries
from tinygrad_rnn.credit.terms import StepJacobian
from tinygrad_rnn.engine.tape import Node
from tinygrad_rnn.errors import ConfigError, GradientError

POLICIES = [
    tr.RTRL(),
    tr.SnAp(1),
    tr.UORO(),
    tr.KroneckerFactored(),
    tr.EProp(),
    tr.RFLO(),
    tr.ForwardGradient(),
]


def long_run(policy, T, make=tr.LSTMCell):
    """Yield the updates of T steps, whose inputs are made as they are needed."""
    cell = make(2, 4, np.random.default_rng(0))

    def step(xs, state):
        outputs, state = tr.unroll(cell, xs, state)
        return (outputs * outputs).sum(), state

    run = tr.Recurrence(step, cell.parameters(), policy, cell.initial_state(2))
    for t in range(T):
        yield from run.feed(np.full((2, 1, 2), np.sin(t), np.float32))


def long_compiled_run(policy, T):
    """Yield the losses of T steps of one compiled function."""
    cell = tr.LSTMCell(2, 4, np.random.default_rng(0))

    def step(xs, state):
        outputs, state = tr.unroll(cell, xs, state)
        return (outputs * outputs).sum(), state

    def online(params, xs, state, carry):
        run = tr.Recurrence(step, params, policy, state, carry=carry)
        (update,) = run.feed(xs)
        return update.loss, update.gradients, update.state, run.carry

    call, state, carry = tr.compile(online, donate=["carry"]), cell.initial_state(2), None
    for t in range(T):
        xs = np.full((2, 1, 2), np.sin(t), np.float32)
        loss, _, state, carry = call(cell.parameters(), xs, state, carry)
        yield loss


def peaks(run, T, first=20):
    """Return the most bytes that are held in 10 steps after the first ones, and in 10 steps after T more."""
    found = []
    tracemalloc.start()
    for warm in (first, T):
        for _ in itertools.islice(run, warm):
            pass
        gc.collect()
        tracemalloc.reset_peak()
        for _ in itertools.islice(run, 10):
            pass
        found.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    return found


SETTLED = 1000  # steps until NumPy, which keeps some freed blocks of each small size, has most of its 50 kB
LIKE_OTHERS = tr.RTRL, tr.RFLO  # they carry what SnAp and EProp carry: nightly


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "policy",
    [pytest.param(one, marks=pytest.mark.nightly if isinstance(one, LIKE_OTHERS) else ()) for one in POLICIES],
    ids=lambda policy: type(policy).__name__,
)
def test_memory_does_not_grow_with_the_length_of_the_stream(policy):
    first, later = peaks(long_run(policy, 70), 30)
    assert later < first + 30 * 1000  # a step's graph alone takes more than 20,000 bytes


@pytest.mark.nightly
@pytest.mark.parametrize("policy", [tr.RTRL(), tr.SnAp(1), tr.UORO()], ids=lambda policy: type(policy).__name__)
def test_memory_of_long_streams(policy):
    """Four bytes a step would be noticed: a number that is kept takes more."""
    first, later = peaks(long_run(policy, 5000 + SETTLED + 20), 5000, SETTLED)
    assert later < first + 4 * 5000


@pytest.mark.nightly
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_memory_of_very_long_streams(policy):
    """A tenth of a byte a step would be noticed."""
    first, later = peaks(long_compiled_run(policy, 100_000 + SETTLED + 20), 100_000, SETTLED)
    assert later < first + 10_000


@pytest.mark.sample(4)
@pytest.mark.parametrize("make", [tr.LSTMCell, tr.GRUCell])  # with links and without
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_no_step_stays_alive(policy, make, no_collector):
    counts = []
    for number, _ in enumerate(long_run(policy, 12, make)):
        if number in (5, 11):
            new = gc.get_objects(generation=0)  # all since `no_collector` stopped it
            counts.append(sum(type(thing) in (Node, StepJacobian) for thing in new))
    assert counts[0] == counts[1]


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [tr.RTRL(), tr.SnAp(1), tr.KroneckerFactored(), tr.EProp()], ids=repr)
def test_what_does_not_fit_into_memory_is_refused_before_it_is_made(policy, monkeypatch):
    sizes = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 64}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__, raising=False)
    with pytest.raises(ConfigError, match=r"take [\d,]+ bytes, twice within a step, and this machine has 64; use"):
        tr.bptt(*recurrence("plain", 1, 1, 0), policy)


def test_the_bytes_are_those_of_the_entries(monkeypatch):
    """2 streams, (9 + 9 + 3) elements that reach 3 units, 8 bytes each."""
    sizes = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 2 * 2 * 63 * 8 - 1}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__, raising=False)
    with pytest.raises(ConfigError, match=r"126 numbers of dh/dtheta for 2 streams take 1,008 bytes"):
        tr.bptt(*recurrence("plain", 2, 1, 0), tr.RTRL())
    sizes["SC_PHYS_PAGES"] += 1
    tr.bptt(*recurrence("plain", 2, 1, 0), tr.RTRL())


@pytest.mark.parametrize("policy", [tr.RTRL(), tr.SnAp(1), tr.EProp()], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bytes_are_those_that_are_taken(policy, dtype, monkeypatch):
    """In an LSTM h follows from c: the factors count too."""
    cell = tr.LSTMCell(2, 6, np.random.default_rng(0), dtype=dtype)

    def step(xs, state):
        outputs, state = tr.unroll(cell, xs, state)
        return np.sum(outputs), state

    def run(bytes_there):
        sizes = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": bytes_there}
        monkeypatch.setattr(os, "sysconf", sizes.__getitem__, raising=False)
        recurrence = tr.Recurrence(step, cell.parameters(), policy, cell.initial_state(3))
        list(recurrence.feed(np.ones((3, 2, 2), dtype)))
        return sum(part.nbytes for parts in recurrence.carry for part in parts)

    taken = run(1 << 30)
    with pytest.raises(ConfigError, match=f"numbers of dh/dtheta for 3 streams take {taken:,} bytes, twice"):
        run(2 * taken - 1)
    run(2 * taken)


def test_a_step_holds_the_influence_twice():
    """Of 4 MB: before and after it, and a piece that is taken at a time."""
    cell = tr.GRUCell(64, 48, np.random.default_rng(0), dtype=np.float64)

    def step(xs, state):
        outputs, state = tr.unroll(cell, xs, state)
        return np.sum(outputs), state

    run = tr.Recurrence(step, cell.parameters(), tr.RTRL(), cell.initial_state(1))
    inputs = np.ones((1, 1, 64))
    tracemalloc.start()
    for _ in range(3):
        list(run.feed(inputs))
    tracemalloc.reset_peak()
    list(run.feed(inputs))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    taken = sum(part.nbytes for parts in run.carry for part in parts)
    assert 2 * taken < peak < 2 * taken + 4 * 8 * credit_entries.LARGE


def test_a_system_that_does_not_tell_its_memory_is_not_asked(monkeypatch):
    monkeypatch.delattr(os, "sysconf", raising=False)
    tr.bptt(*recurrence("plain", 1, 1, 0), tr.RTRL())


def one_matrix_in_two_parts(state):
    """Each part of the state has one product with the same matrix, of other rows."""
    w = tr.tensor(np.eye(3), requires_grad=True, name="w")

    def step(xs, state):
        a, b = (tr.tanh(part @ w) + xs[:, 0] for part in state)
        return a.sum() + b.sum(), (a, b)

    return step, {"w": w}, np.ones((1, 2, 3)), state


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (recurrence("product of parameters", 1, 2, 0), "'[WV]'"),
        (one_matrix_in_two_parts((np.ones((1, 3)), np.zeros((1, 3)))), "'w'"),
    ],
    ids=["product", "two products"],
)
def test_kronecker_factors_name_the_parameter_that_has_none(arguments, name):
    with pytest.raises(ConfigError, match=f"parameter ({name}) does not enter the state as one product"):
        tr.bptt(*arguments, tr.KroneckerFactored())


@pytest.mark.parametrize("policy", [tr.SnAp(1), tr.EProp(), tr.RFLO()], ids=repr)
def test_what_leaves_out_entries_has_no_mask(policy):
    with pytest.raises(ConfigError, match="has no mask over steps"):
        policy.mask(3)


@pytest.mark.parametrize("policy", [tr.RTRL(), tr.UORO(), tr.KroneckerFactored(), tr.ForwardGradient()], ids=repr)
def test_the_mask_of_what_is_exact_in_the_mean_is_full(policy):
    assert policy.mask(3).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert policy.expected_mask(3).tolist() == policy.mask(3).tolist()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tr.RTRL(every=0), "RTRL: every"),
        (lambda: tr.RTRL(every=1.5), "RTRL: every"),
        (lambda: tr.SnAp(0), "SnAp: n"),
        (lambda: tr.SnAp(1, every="all"), "SnAp: every"),
        (lambda: tr.EProp("adaptive"), "EProp: feedback must be"),
        (lambda: tr.RFLO(rng="x"), "RFLO: rng"),
        (lambda: tr.UORO(rng=-1), "UORO: rng"),
        (lambda: tr.KroneckerFactored(rng=None), "KroneckerFactored: rng"),
        (lambda: tr.ForwardGradient(every=-3), "ForwardGradient: every"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize(
    "policy", [*POLICIES, tr.RTRL(None), tr.SnAp(3, 7), tr.EProp("random", 5, None), tr.UORO(9, 2)], ids=repr
)
def test_a_policy_reads_back_from_what_it_prints(policy):
    names = {name: getattr(tr, name) for name in tr.__all__}
    assert eval(repr(policy), names) == policy


def results():
    """Yield what holds many numbers, of a model of 2,178 parameters."""
    model, ids = tr.RNNLM(50, 16, 16, np.random.default_rng(0)), np.arange(4 * 31).reshape(4, 31) % 50
    xs, ys = ids[:, :-1], ids[:, 1:]
    sequence = model.parameters(), (xs, ys), model.initial_state(4)

    def step(inputs, state):
        return model.loss(*inputs, state)

    yield tr.bptt(step, *sequence, tr.Windowed(5))
    yield tr.influence_pattern(step, *sequence)
    yield tr.truncation_report(model, xs, ys, ["full", "chunked:5"], repeats=1)
    train = tr.TrainStep(model, lambda model, batch, state: model.loss(*batch, state), tr.SGD(0.1), policy="full")
    yield train((xs, ys), None)
    yield next(iter(tr.Sequences(list(ids)).batches(4)))


def test_what_holds_many_numbers_prints_their_shapes():
    printed = [repr(result) for result in results()]
    assert max(map(len, printed)) < 400
    assert not any("array(" in text for text in printed)
    assert "... 30 in all]" in printed[0]
    assert "layers.0.Wh: float32 (16, 16)" in printed[0]
    assert printed[1].startswith("<InfluencePattern after 1 step: 13,328 of 21,248 entries are kept, 53,312 bytes: ")
    assert printed[2].startswith("<TruncationReport of T = 30, N = 4: full, chunked:5; recommended_window=")
    assert "state=(float32 (4, 16),)" in printed[3]
    assert printed[4].startswith("Batch(inputs=int64 (4, 31), ")


def test_numbers_of_numpy_are_stored_as_integers():
    assert repr(tr.SnAp(np.int64(2), np.int32(3))) == "SnAp(n=2, every=3)"


@pytest.mark.parametrize("policy", [tr.RTRL(), tr.SnAp(1), tr.EProp()], ids=repr)
def test_a_batch_of_another_size_is_another_sequence(policy):
    step, parameters, inputs, state = recurrence("plain", 2, 2, 0)
    run = tr.Recurrence(step, parameters, policy, state)
    list(run.feed(inputs))
    with pytest.raises(
        GradientError, match=r"expected carry of shapes .* for 1 streams .* the state of one recurrence"
    ):
        list(tr.Recurrence(step, parameters, policy, run.state[:1], carry=run.carry).feed(inputs[:1]))


@pytest.mark.parametrize("policy", [tr.RTRL(), tr.UORO(), tr.ForwardGradient(), tr.KroneckerFactored()], ids=repr)
@pytest.mark.parametrize(
    ("first", "change", "words"),
    [
        (np.zeros((2, 3)), lambda m, h: m[:1] + h[:1], r"float64 \(2, 3\)\), and returned .* float64 \(1, 3\)\)"),
        (np.zeros((2, 3), int), lambda m, h: m + h, r"int64 \(2, 3\)\), and returned .* float64 \(2, 3\)\)"),
        (np.zeros((2, 3)), lambda m, h: np.ones((2, 3), int), r"float64 \(2, 3\)\), and returned .* int64 \(2, 3\)\)"),
        (0.0, lambda m, h: m + np.mean(h), r"0.0\), and returned"),  # a number is no array: no leaf is made of it
    ],
    ids=["shape", "integers become floats", "floats become integers", "a number becomes an array"],
)
def test_parts_of_a_state_keep_their_shapes_and_kinds(policy, first, change, words):
    cell = tr.RNNCell(2, 3, np.random.default_rng(0), np.float64)

    def step(xs, state):
        h, _ = cell(xs[:, 0], state[0])
        return np.sum(h), (h, change(state[1], h))

    run = tr.Recurrence(step, cell.parameters(), policy, (cell.initial_state(2), first))
    with pytest.raises(GradientError, match=rf"make the first one like those that step returns: it took .*{words}"):
        list(run.feed(np.ones((2, 1, 2))))


EVERY_KIND = [
    tr.RTRL(),
    tr.SnAp(1),
    tr.EProp(),
    tr.RFLO(),
    tr.UORO(),
    tr.ForwardGradient(),
    tr.KroneckerFactored(),
    tr.Windowed(2),
    tr.Full(),
]


@pytest.mark.parametrize("policy", EVERY_KIND, ids=repr)
@pytest.mark.parametrize(
    "state", [(), np.zeros(2, int), np.zeros((2, 0)), (3, np.ones(2, bool))], ids=["none", "int", "empty", "bool"]
)
def test_a_state_without_numbers_to_differentiate(policy, state):
    """A model without memory, to compare with: the gradient is that of each step."""
    W, xs = tr.tensor(np.ones((3, 2)), requires_grad=True), np.arange(24.0).reshape(2, 4, 3)
    found = tr.bptt(lambda xs, state: (np.sum(np.sin(xs @ W)), state), {"W": W}, xs, state, policy)
    np.testing.assert_allclose(found.gradients["W"], tr.grad(np.sum(np.sin(xs @ W)), W), rtol=1e-12)


@pytest.mark.parametrize("policy", EVERY_KIND, ids=repr)
def test_no_streams_one_element_and_mixed_dtypes(policy):
    cell = tr.RNNCell(2, 3, np.random.default_rng(0))

    def step(xs, h, shape=(1,)):
        outputs, h = tr.unroll(cell, xs, h)
        return np.sum(outputs * outputs).reshape(shape), h

    for N in (0, 2):
        found = tr.bptt(step, cell.parameters(), np.ones((N, 3, 2)), cell.initial_state(N), policy)
        assert {g.dtype for g in found.gradients.values()} == {np.dtype(np.float32)}
        assert any(g.any() for g in found.gradients.values()) == (N > 0)
        assert isinstance(found.loss, float)
    with pytest.raises(GradientError, match=r"expected a real loss, got complex128 \(1,\); take"):
        tr.bptt(lambda xs, h: (step(xs, h)[0] * 1j, h), cell.parameters(), np.ones((2, 3, 2)), np.ones((2, 3)), policy)


@pytest.mark.parametrize(
    "found",
    [tr.influence_pattern, lambda *recurrence: list(tr.credit_profile(*recurrence, tr.RTRL()))],
    ids=["influence_pattern", "credit_profile"],
)
def test_reports_name_a_part_that_becomes_floating_point(found):
    w = tr.tensor(np.ones(3), requires_grad=True)

    def step(xs, state):
        return np.sum(state[1] * w), (state[0] + state[1], state[1] * w)

    with pytest.raises(GradientError, match=r"int64 \(1, 3\), .* returned \(float64 \(1, 3\)"):
        found(step, {"w": w}, np.ones((1, 2, 3)), (np.zeros((1, 3), int), np.ones((1, 3))))


def test_without_matplotlib_the_pattern_names_the_extra(monkeypatch, tmp_path):
    cell = tr.RNNCell(2, 3, np.random.default_rng(0))

    def step(xs, h):
        outputs, h = tr.unroll(cell, xs, h)
        return np.sum(outputs), h

    pattern = tr.influence_pattern(step, cell.parameters(), np.ones((1, 2, 2)), np.ones((1, 3)))
    pattern.plot(tmp_path / "pattern.png")
    assert (tmp_path / "pattern.png").stat().st_size > 1000
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'InfluencePattern.plot: .* pip install "tinygrad_rnn\[plot\]"'):
        pattern.plot(tmp_path / "pattern.png")
