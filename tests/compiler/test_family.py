"""Plans for any length: whatever the lengths and their order, results are those of the function itself."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from replay import assert_equal, need_library, normal, small_plans_shared
from scans import scans
from verdict import difference, rounding

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.plans.family import Family
from tinygrad_rnn.compiler.replay import executor
from tinygrad_rnn.engine.tree import flatten, map_leaves

pytestmark = pytest.mark.filterwarnings("ignore:compile. .* has been recorded:RuntimeWarning")

N, D, H, V = 2, 3, 4, 6
SETTINGS = [("numpy", 1), ("native", 1), ("native", 2)]
sizes = st.lists(st.integers(1, 9), min_size=3, max_size=8)


@pytest.fixture(autouse=True)
def small_plans():
    with small_plans_shared():
        yield


def copied(part):
    return copy.deepcopy(part) if isinstance(part, np.random.Generator | np.ndarray) else part


class Twins:
    """A function and its compiled twins: one that is called with all lengths, one that is new for each call."""

    def __init__(self, f, setting, tolerance=1e-12):
        name, self.threads = setting
        if name == "native":
            need_library()
        self.options = {"executor": name, "threads": self.threads}
        self.f, self.compiled, self.tolerance, self.kept = f, tr.compile(f, **self.options), tolerance, []
        self.same = 0

    def call(self, *args, expected=None):
        """Call all of them, compare, and keep the results."""
        given_args = [map_leaves(copied, args) for _ in range(3)]
        result = self.compiled(*given_args[0])
        assert_equal(result, self.f(*given_args[1]), self.tolerance)
        self.same_plan(result, given_args[2])
        self.keep(result)

    def same_plan(self, result, args):
        """Compare with what the passes make of these arguments."""
        alone = tr.compile(self.f, **self.options)
        expected = alone(*args)
        plans = self.compiled.plan, alone.plan
        names = [[one.operator.name for one, _ in plan.flat()] for plan in plans]
        is_same = names[0] == names[1]  # short arrays may be laid out in a way that spares a copy
        assert_equal(expected, result, 0 if is_same else self.tolerance)
        self.same += is_same
        if is_same:
            assert plans[0].arena_bytes == plans[1].arena_bytes

    def keep(self, result):
        self.kept.append((result, map_leaves(copied, result)))

    def done(self):
        """No result has changed since."""
        for result, before in self.kept:
            assert_equal(result, before, 0)


# -- drawn ---------------------------------------------------------------------------------------------------------


def of_length(program, T, seed):
    """Return a program with inputs of another length; some of them are drawn anew."""
    rng = np.random.default_rng(seed)
    inputs = []
    for number, part in enumerate(program.inputs):
        axis = {0: 1, 2: 1, 3: 1, 4: 0}.get(number)
        if axis is not None:
            shape = (*part.shape[:axis], T, *part.shape[axis + 1 :])
            if number == 3:
                part = rng.integers(0, 1 + np.max(part), shape)
            elif isinstance(part, tr.Tensor):
                part = tr.tensor(rng.standard_normal(shape).astype(part.dtype), requires_grad=part.requires_grad)
            else:
                part = rng.standard_normal(shape).astype(part.dtype)
        inputs.append(part)
    return replace(program, inputs=inputs)


def check(program, lengths, order, setting):
    """Return how many lengths there were that the function can be called with."""
    name, threads = setting
    f = program.function(order)
    compiled = tr.compile(f, executor=name, threads=threads)
    kept, count = [], 0
    for seed, T in enumerate(lengths):
        now = of_length(program, T, seed)
        with np.errstate(all="ignore"):
            try:
                expected = f(*now.arguments())
            except (ValueError, IndexError, TypeError, tr.GradientError):
                continue  # there is a length in the program
            result = compiled(*now.arguments())
            count += 1
            if difference(result, expected):
                slack = rounding(now, order, expected)
                wrong = None if slack is None else difference(result, expected, slack)
                assert wrong is None, f"{setting}, order {order}, T={T} of {lengths}: {wrong}\n{now!r}"
        kept.append((result, map_leaves(copied, result)))
    for result, before in kept:
        assert_equal(result, before, 0)
    return count


@settings(max_examples=4, suppress_health_check=list(HealthCheck))
@given(program=scans, lengths=sizes, order=st.integers(0, 2), setting=st.sampled_from(SETTINGS))
def test_drawn_scans(program, lengths, order, setting):
    need_library()
    check(program, lengths, order, setting)


# -- models --------------------------------------------------------------------------------------------------------


def language_model(cell, **options):
    return tr.RNNLM(V, D, H, np.random.default_rng(0), cell=cell, dtype=np.float64, **options)


drawn_models = given(
    setting=st.sampled_from(SETTINGS),
    cell=st.sampled_from(["rnn", "lstm", "gru"]),
    layers=st.integers(1, 2),
    dropout=st.sampled_from([0.0, 0.3]),
    lengths=sizes,
    batches=st.booleans(),
)


@settings(max_examples=4)
@drawn_models
def test_language_models(setting, cell, layers, dropout, lengths, batches):
    check_model(setting, cell, layers, dropout, lengths, batches)


@pytest.mark.nightly
@settings(max_examples=300, derandomize=False)
@drawn_models
def test_many_language_models(setting, cell, layers, dropout, lengths, batches):
    check_model(setting, cell, layers, dropout, lengths, batches)


def check_model(setting, cell, layers, dropout, lengths, batches):
    model = language_model(cell, layers=layers, dropout=dropout)

    def step(params, ids, targets, state, rng):
        loss, state = model.loss(ids, targets, tr.cut(state), rng=rng)
        grads = tr.grad(loss, params)
        return loss, {name: p - 0.1 * grads[name] for name, p in params.items()}, state

    twins, params = Twins(step, setting, 1e-11), model.parameters()
    for seed, size in enumerate(lengths):
        shape = (size, 3) if batches else (N, size)  # a batch size of N or H, a length of N: coincidences
        ids = np.random.default_rng(seed).integers(0, V, (shape[0], shape[1] + 1))
        twins.call(params, ids[:, :-1], ids[:, 1:], model.initial_state(shape[0]), np.random.default_rng(seed))
    twins.done()


drawn_cells = given(
    setting=st.sampled_from(SETTINGS),
    cell=st.sampled_from([tr.RNNCell, tr.LSTMCell, tr.GRUCell]),
    both=st.booleans(),
    cut_every=st.sampled_from([None, 1, 2, 3]),
    with_lengths=st.booleans(),
    lengths=sizes,
)


@settings(max_examples=4)
@drawn_cells
def test_unrolled_cells(setting, cell, both, cut_every, with_lengths, lengths):
    check_cells(setting, cell, both, cut_every, with_lengths, lengths)


@pytest.mark.nightly
@settings(max_examples=300, derandomize=False)
@drawn_cells
def test_many_unrolled_cells(setting, cell, both, cut_every, with_lengths, lengths):
    check_cells(setting, cell, both, cut_every, with_lengths, lengths)


def check_cells(setting, cell, both, cut_every, with_lengths, lengths):
    rng = np.random.default_rng(0)
    cells = [cell(D, H, rng, np.float64) for _ in range(2)]

    def f(xs, ends):
        options = {"cut_every": cut_every, "lengths": ends if with_lengths else None}
        outputs, state = tr.unroll(cells[0], xs, **options)
        parts = [outputs]
        if both:
            parts.append(tr.unroll(cells[1], xs[:, ::-1], **options)[0][:, ::-1])
        y = np.concatenate(parts, axis=-1)
        loss = np.mean(y * y) + np.sum(y) / xs.shape[1]
        return loss, state, tr.grad(loss, [c.parameters() for c in cells[: len(parts)]])

    twins = Twins(f, setting, 1e-11)
    for seed, T in enumerate(lengths):
        ends = np.random.default_rng(seed).integers(1, T + 1, N)
        twins.call(normal(N, T, D, seed=seed), ends)
    twins.done()


# -- functions that do something else at some lengths --------------------------------------------------------------


def frozen_mask(xs):
    mask = (np.arange(xs.shape[1]) < 4).astype(float)
    return np.sum(np.tanh(xs) * mask[:, None])


def frozen_number(xs):
    return np.sum(np.tanh(xs) * (np.float64(1) if xs.shape[1] < 5 else np.float64(2)))


def branch(xs):
    y = np.tanh(xs)
    return np.sum(y * y) if xs.shape[1] > 5 else np.sum(y)


def frozen_python_number(xs):
    return np.tanh(xs) * (3 if xs.shape[1] > 5 else 2) * (0.25 if xs.shape[1] == 4 else 0.5)


def windows(xs):
    return np.sum(xs[:, -3:] * 2, axis=1) + np.mean(xs[:, : xs.shape[1] // 2 + 1], axis=1)


def positions(xs):
    T = xs.shape[1]
    return tr.scan(lambda x, s: (s * 2, s + x), np.zeros((N, D)), xs * np.arange(T)[:, None] / T)


def frozen_start(xs):
    start = np.maximum(np.arange(D) + xs.shape[1] - 6.0, 0)
    return tr.scan(lambda x, s: (s + x, np.zeros(D)), start, xs)


def attention(xs):
    scores = tr.softmax(xs @ np.swapaxes(xs, 1, 2), axis=-1)
    return scores @ xs


def by_hand(xs):
    h, out = xs[:, 0], []
    for t in range(xs.shape[1]):
        h = np.tanh(h + xs[:, t])
        out.append(h)
    return np.stack(out, axis=1), h


def two_lengths(xs):
    y = np.concatenate([xs, xs[:, :-1] * 2], axis=1)
    return tr.scan(lambda x, s: (s, np.tanh(s + x)), y[:, 0], y)


def same_bytes(xs):
    number, row = np.asarray(2.0), np.asarray([2.0])
    return np.sum(xs * number * row) + tr.grad(np.sum(tr.stack([xs * row[0]]) * row), xs)[:, :1] * number[None][0]


FUNCTIONS = [
    *(same_bytes, frozen_mask, frozen_number, branch, frozen_python_number, windows, positions),
    *(frozen_start, attention, by_hand, two_lengths),
]


@settings(max_examples=4)
@pytest.mark.sample(5)
@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
@given(lengths=sizes, setting=st.sampled_from(SETTINGS))
def test_functions_that_look_at_the_length(f, lengths, setting):
    def with_gradient(xs):
        made = f(xs)
        total = sum(np.sum(part * part) for part in flatten(made))
        return made, tr.grad(total, xs)

    twins = Twins(with_gradient, setting)
    for seed, T in enumerate([2, 3, *lengths] if seed_first(lengths) else lengths):
        twins.call(tr.tensor(normal(N, T, D, seed=seed), requires_grad=True))
    twins.done()


def seed_first(lengths):
    return lengths[0] % 2


# -- memory that lengths share -------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS)
@settings(max_examples=4)
@given(lengths=st.lists(st.integers(1, 40), min_size=4, max_size=12), held=st.lists(st.booleans(), min_size=12))
def test_large_results_that_are_kept_or_given_back(setting, lengths, held):
    """The states of all steps are large results, and go back in as arguments of another length, or of the same."""
    cell = tr.RNNCell(8, 8, np.random.default_rng(0), np.float64)

    def f(xs, w):
        outputs, _ = tr.unroll(cell, xs + w[:, :1])
        return outputs, np.tanh(w) + outputs[:, :1], np.sum(outputs, axis=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "_LARGE", 64)
        twins, w = Twins(f, setting), normal(16, 3, 8)
        before = None
        for seed, (T, hold) in enumerate(zip(lengths, held, strict=False)):
            xs = before if before is not None and seed % 3 == 2 else normal(16, T, 8, seed=seed)
            expected = [part.data for part in f(xs, w)]
            result = twins.compiled(xs, w)
            assert_equal(list(result), expected, 1e-12)
            if hold:
                twins.keep(result)
            before, w = result[0], result[1]
        twins.done()


@pytest.mark.parametrize("setting", SETTINGS)
def test_updates_of_different_lengths(setting):
    if setting[0] == "native":
        need_library()
    models = [language_model("lstm") for _ in range(2)]

    def step(model):
        def update(params, ids, targets):
            loss, _ = model.loss(ids, targets)
            grads = tr.grad(loss, params)
            return loss, {name: p - 0.1 * grads[name] for name, p in params.items()}

        return update

    fast, slow = tr.compile(step(models[0]), executor=setting[0], threads=setting[1]), step(models[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "_LARGE", 64)
        for seed, T in enumerate([3, 7, 5, 5, 9, 2, 1, 4, 9, 9, 3, 6]):
            ids = np.random.default_rng(seed).integers(0, V, (N, T + 1))
            losses = []
            for f, model in zip((fast, slow), models, strict=True):
                params = model.parameters()
                loss, new = f(params, ids[:, :-1], ids[:, 1:])
                for name, p in params.items():
                    p.data = np.asarray(new[name].data if isinstance(new[name], tr.Tensor) else new[name])
                losses.append(float(loss.item()))
            assert losses[0] == pytest.approx(losses[1], rel=1e-11)


# -- how many passes run, and what is kept -------------------------------------------------------------------------


def counted(monkeypatch):
    made = []
    add = Family.add
    monkeypatch.setattr(Family, "add", lambda self, *args: (made.append(1), add(self, *args))[1])
    return made


def test_from_the_third_length_on_no_pass_runs(monkeypatch):
    made = counted(monkeypatch)
    model = language_model("lstm", layers=2)

    def step(ids):
        loss, _ = model.loss(ids[:, :-1], ids[:, 1:])
        return loss, tr.grad(loss, model.parameters())

    compiled = tr.compile(step)
    for T in range(6, 17):  # so long that all look up at least twice as many rows as the table has
        compiled(np.zeros((N, T + 1), int))
    assert len(made) == 2


def test_more_lengths_than_are_kept():
    compiled = tr.compile(lambda x: np.tanh(x) @ np.ones((3, 3)), executor="numpy")
    kept = []
    for n in [*range(2, 90), *range(2, 90, 7), 70, 3]:
        result = compiled(normal(n, 3, seed=n))
        kept.append((n, result))
    assert len(compiled.plans) == 64
    for n, result in kept:
        np.testing.assert_allclose(result, np.tanh(normal(n, 3, seed=n)) @ np.ones((3, 3)), rtol=1e-12, atol=1e-14)


def test_families_that_come_and_go():
    compiled = tr.compile(lambda x: np.tanh(x) * 2, max_plans=2)
    for shape in [(n, *more) for n in (2, 3, 4) for more in 2 * ((), (2,))]:
        np.testing.assert_allclose(compiled(normal(*shape)), np.tanh(normal(*shape)) * 2, rtol=1e-12)
    assert len(compiled.plans) == 6
