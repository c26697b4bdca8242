"""A compiled update is the same update: optimizers, clipping, dropout, cells, dtypes, policies that can be compiled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay import assert_equal, need_library

import tinygrad_rnn as tr
from tinygrad_rnn import optim
from tinygrad_rnn.data import OffsetBatches
from tinygrad_rnn.testing import check_grads
from tinygrad_rnn.training.loop.epoch import run_epoch, train_epoch
from tinygrad_rnn.training.loop.objective import language_loss
from tinygrad_rnn.training.loop.step import TrainStep, is_compilable

OPTIMIZERS = {
    "sgd": lambda: optim.SGD(0.5, weight_decay=0.01),
    "momentum": lambda: optim.Momentum(0.1, nesterov=True),
    "rmsprop": lambda: optim.RMSprop(0.01, eps=1e-3),
    "adam": lambda: optim.Adam(0.01),
    "adamw": lambda: optim.AdamW(0.01),
    "amsgrad": lambda: optim.Adam(0.01, amsgrad=True),
    "centered": lambda: optim.RMSprop(0.01, eps=1e-3, momentum=0.5, centered=True),
    "adagrad": lambda: optim.Adagrad(0.1, lr_decay=0.01),
    "lion": lambda: optim.Lion(0.001, weight_decay=0.1),
}
COMBINED = {
    "ema": lambda: optim.Averaged(optim.Momentum(0.1), decay=0.9),
    "mean": lambda: optim.Averaged(optim.SGD(0.5), decay=None, start=2),
    "groups": lambda: optim.Averaged(optim.Grouped({"embed*": optim.Adam(0.01), "*": optim.SGD(0.5)})),
}


def trained(compiled, optimizer="adam", cell="lstm", clip=0.3, dropout=0.0, policy=None, dtype=np.float64, layers=2):
    """Train for two passes; return what train_epoch says, the parameters and the optimizer's state."""
    ids = np.random.default_rng(1).integers(0, 11, 103)
    model = tr.RNNLM(11, 6, 6, np.random.default_rng(0), cell=cell, layers=layers, dropout=dropout, dtype=dtype)
    rule = (OPTIMIZERS | COMBINED)[optimizer]()
    windows, rng = OffsetBatches(ids, 3, 7), np.random.default_rng(2) if dropout else None
    found = [
        train_epoch(model, windows, rule, model.initial_state(3), policy=policy, clip=clip, rng=rng, compiled=compiled)
        for _ in range(2)
    ]
    return found, {name: p.data for name, p in model.parameters().items()}, rule.state_dict()


def assert_same(one, other, rtol):
    for a, b in zip(one[0], other[0], strict=True):
        assert (a.tokens, a.steps) == (b.tokens, b.steps)
        np.testing.assert_allclose([a.nats, a.gradient_norm], [b.nats, b.gradient_norm], rtol=rtol)
    for part in (1, 2):
        assert one[part].keys() == other[part].keys()
        for name, array in one[part].items():
            assert array.dtype == other[part][name].dtype
            np.testing.assert_allclose(array, other[part][name], rtol=rtol, atol=rtol)


@pytest.mark.sample(3)
@pytest.mark.parametrize("optimizer", OPTIMIZERS | COMBINED)
def test_every_optimizer(optimizer):
    assert_same(*(trained(compiled, optimizer, cell="rnn") for compiled in (True, False)), 1e-10)


@pytest.mark.sample(2)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_cells_and_clipping(cell, clip):
    assert_same(trained(True, cell=cell, clip=clip), trained(False, cell=cell, clip=clip), 1e-10)


def test_dropout_draws_the_same():
    assert_same(trained(True, dropout=0.4), trained(False, dropout=0.4), 1e-10)


def test_float32_stays_float32_and_close():
    assert_same(trained(True, "sgd", dtype=np.float32), trained(False, "sgd", dtype=np.float32), 1e-4)


POLICIES = [tr.Chunked(3), tr.Full(every=7), tr.Decay(0.5, every=4), tr.Checkpointed(2, every=6), tr.Windowed(5, 5)]
POLICIES += [tr.Full(), tr.Decay(0.5), tr.Checkpointed(2), "chunked:3"]
POLICIES += [tr.Checkpointed(states=2), tr.Checkpointed(states=3, every=5)]


@pytest.mark.sample(2)
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_policies_whose_passes_do_not_overlap(policy):
    assert is_compilable(policy)
    assert_same(*(trained(compiled, policy=policy, cell="gru", layers=1) for compiled in (True, False)), 1e-10)


@pytest.mark.parametrize(
    "policy", [tr.Windowed(6, 2), tr.Randomized(0.3, every=7), tr.Adaptive(0.1, 8, every=4), "randomized:0.3"], ids=repr
)
def test_others_are_recorded_anew_and_give_the_same(policy):
    assert not is_compilable(policy)


@pytest.mark.sample(6)
@pytest.mark.parametrize("policy", ["windowed:8/5", "windowed:5/1", "chunked:5", tr.Randomized(0.3, every=5)], ids=repr)
@pytest.mark.parametrize("length", [3, 5, 12])
def test_an_update_covers_the_batch_that_it_is_given(policy, length):
    """Whatever the policy's own period is: the loss, the weight, the state and the gradient are those of all steps."""
    model = tr.RNNLM(11, 6, 6, np.random.default_rng(0), cell="gru", dtype=np.float64)
    ids = np.random.default_rng(1).integers(0, 11, (2, 25))
    step, state = TrainStep(model, language_loss, optim.SGD(1e-30), policy=policy), model.initial_state(2)
    for start in range(0, 24, length):
        inputs, targets = (ids[:, start + shift : min(start + length, 24) + shift] for shift in (0, 1))
        loss, after = model.loss(inputs, targets, state)
        found = step((inputs, targets), state)
        state = found.state
        assert found.weight == inputs.size
        np.testing.assert_allclose(found.loss, loss.item(), rtol=1e-12)
        np.testing.assert_allclose(state[0], after[0].data, rtol=1e-12)


def test_the_gradient_of_passes_within_a_batch_is_their_mean():
    model = tr.RNNLM(11, 6, 6, np.random.default_rng(0), cell="gru", dtype=np.float64)
    ids = np.random.default_rng(1).integers(0, 11, (2, 13))
    batch, state, before = (ids[:, :-1], ids[:, 1:]), model.initial_state(2), model.state_dict()

    def losses(batch, state):
        loss, state = model.loss(*batch, state)
        return loss * batch[0].size, state

    expected = tr.bptt(losses, model.parameters(), batch, state, "windowed:8/5").gradients
    TrainStep(model, language_loss, optim.SGD(1.0), policy="windowed:8/5")(batch, state)
    for name, g in expected.items():
        np.testing.assert_allclose(before[name] - model.parameters()[name].data, g / 24, rtol=1e-10, atol=1e-13)


class Uneven(tr.Policy):
    """Passes every 3 steps, cut there; which other edge is scaled depends on the place in the sequence."""

    every, grain = 3, 1

    def scale(self, edge, end):
        return 0.0 if edge % 3 == 0 else 0.5 if edge == 4 else 1.0


def test_passes_that_differ_are_no_plan():
    assert not is_compilable(Uneven())
    assert_same(*(trained(compiled, policy=Uneven(), layers=1) for compiled in (True, False)), 1e-10)


def test_recomputation_with_dropout_is_not_compiled():
    assert not is_compilable(tr.Checkpointed(2, every=6), draws=True)
    assert not is_compilable(tr.Checkpointed(states=2), draws=True)


def test_one_plan_serves_all_windows_and_a_short_one_makes_a_second():
    ids = np.random.default_rng(1).integers(0, 11, 3 * 24 + 1)
    model, rule = tr.RNNLM(11, 6, 6, np.random.default_rng(0)), optim.Adam(0.01)
    step = TrainStep(model, language_loss, rule)
    for _ in range(2):
        run_epoch(step, OffsetBatches(ids, 3, 7), model.initial_state(3))
    assert step.plans == 2


def test_parameters_are_the_models_own_after_training():
    model = tr.RNNLM(5, 200, 200, np.random.default_rng(0))
    train_epoch(
        model,
        OffsetBatches(np.arange(60) % 5, 2, 5),
        optim.SGD(0.1),
        model.initial_state(2),
        compiled=True,
    )
    for parameter in model.parameters().values():
        assert not parameter.data.flags.writeable
        assert parameter.data.base is None


def test_what_is_not_finite_changes_nothing():
    model, rule = tr.RNNLM(5, 4, 4, np.random.default_rng(0), dtype=np.float64), optim.Adam(1.0)
    step, state = TrainStep(model, language_loss, rule), model.initial_state(2)
    ids = np.array([[0, 1, 2], [2, 3, 4]])
    state = step((ids, ids), state, lr=0.1).state
    weights = model.parameters()["layers.0.Wh"]
    weights.data = np.full(weights.shape, np.nan)
    before, slots = {name: p.data for name, p in model.parameters().items()}, rule.state_dict()
    with pytest.raises(
        tr.NonFiniteError, match=r"the loss is nan: the parameter layers\.0\.Wh holds 16 non-finite of 16 values"
    ):
        step((ids, ids), state, lr=0.1)
    assert all(p.data is before[name] for name, p in model.parameters().items())
    assert all(np.array_equal(array, slots[name]) for name, array in rule.state_dict().items())


class Weighted(tr.Module):
    """A model whose gradients are known: the loss is the sum of parameters times weights of any magnitude."""

    buffers = ("weights",)

    def __init__(self, seed, dtypes, magnitudes):
        rng = np.random.default_rng(seed)
        shapes = [(3, 4), (4,), ()]
        self.weights = [
            (rng.standard_normal(shape) * magnitude).astype(dtype)
            for shape, dtype, magnitude in zip(shapes, dtypes, magnitudes, strict=True)
        ]
        self.values = [
            tr.tensor(rng.standard_normal(shape), dtype, requires_grad=True)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        ]

    def loss(self, ids, targets, state, rng=None):
        terms = [np.sum(w * (p * 0.5 + p)) for p, w in zip(self.values, self.weights, strict=True)]
        return sum(tr.astype(term, np.float64) for term in terms), state


MAGNITUDES = {np.float16: [1e-3, 1.0, 1e3], np.float32: [1e-30, 1.0, 1e20], np.float64: [1e-200, 1.0, 1e200]}
WINDOW = [(np.zeros((2, 3), int), np.zeros((2, 3), int))]


@pytest.mark.sample(4)
@pytest.mark.filterwarnings("ignore:train_epoch. the model mixes")
@pytest.mark.parametrize("executor", ["numpy", "native"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@settings(max_examples=8)
@given(data=st.data())
def test_compiled_is_eager_whatever_the_dtypes_and_magnitudes(executor, optimizer, data):
    if executor == "native":
        need_library()
    dtypes = data.draw(st.lists(st.sampled_from(list(MAGNITUDES)), min_size=3, max_size=3))
    magnitudes = [data.draw(st.sampled_from(MAGNITUDES[dtype])) for dtype in dtypes]
    clip = data.draw(st.sampled_from([0.0, 1e-3, 2.0]))
    slots = data.draw(st.sampled_from([None, np.float32, np.float64]))
    seed = data.draw(st.integers(0, 2**32 - 1))
    found = []
    for compiled in (True, False):
        model, rule = Weighted(seed, dtypes, magnitudes), OPTIMIZERS[optimizer]()
        if slots is not None:  # the state of an earlier run, in a dtype of its own
            names = [f"{slot}.{name}" for slot in rule.slots for name in model.parameters()]
            shapes = [model.parameters()[name.partition(".")[2]].shape for name in names]
            rule.load_state_dict(
                {"steps": 3} | {name: np.ones(s, slots) for name, s in zip(names, shapes, strict=True)}
            )
        step = TrainStep(model, language_loss, rule, clip=clip, compile=compiled, executor=executor)
        with np.errstate(all="ignore"):
            norms = [
                run_epoch(step, WINDOW, ()).gradient_norm
                for _ in range(2 if clip else 1)  # unclipped, a second loss would overflow
            ]
        found.append((norms, [p.data for p in model.values], rule.state_dict()))
    for norms, arrays, state in found:
        assert [array.dtype for array in arrays] == dtypes
        expected = [np.promote_types(dtype, np.float32) for dtype in dtypes for _ in rule.slots]
        assert [a.dtype for name, a in state.items() if name != "steps"] == expected
        whole = np.linalg.norm([1.5 * np.linalg.norm(np.float64(w) / max(magnitudes)) for w in model.weights])
        np.testing.assert_allclose(norms, whole * max(magnitudes), rtol=2e-3 if np.float16 in dtypes else 1e-6)
    one, other = found
    rtol = 5e-3 if np.float16 in dtypes else 1e-5 if np.float32 in dtypes else 1e-12
    for a, b in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    for name, a in one[2].items():
        np.testing.assert_allclose(a, other[2][name], rtol=rtol, atol=0)


@pytest.mark.parametrize(
    ("dtype", "magnitude"), [(np.float32, 1e20), (np.float32, 1e-30), (np.float64, 1e200), (np.float64, 1e-200)]
)
@pytest.mark.parametrize("compiled", [True, False])
def test_a_gradient_of_any_magnitude_is_measured_and_clipped(dtype, magnitude, compiled):
    model = Weighted(0, [dtype] * 3, [magnitude] * 3)
    before = [p.data for p in model.values]
    gradients = [1.5 * np.float64(w) for w in model.weights]
    norm = magnitude * np.linalg.norm([np.linalg.norm(g / magnitude) for g in gradients])
    found = train_epoch(model, WINDOW, optim.SGD(1.0), (), clip=1e-3, compiled=compiled)
    np.testing.assert_allclose(found.gradient_norm, norm, rtol=1e-6)
    for p, old, g in zip(model.values, before, gradients, strict=True):
        np.testing.assert_allclose(p.data, old - g * min(1.0, 1e-3 / norm), rtol=1e-6)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("lr", [np.nan, np.inf, -1.0, "0.1", True])
def test_a_rate_that_is_none_changes_nothing(compiled, lr):
    class Bad(optim.Constant):
        def lr(self, step):
            return lr

    model = Weighted(0, [np.float32] * 3, [1.0] * 3)
    before = [p.data for p in model.values]
    with pytest.raises(tr.ConfigError, match="SGD: lr must be a finite number of 0 or more"):
        train_epoch(model, WINDOW, optim.SGD(0.1), (), schedule=Bad(0.1), compiled=compiled)
    assert all(p.data is old for p, old in zip(model.values, before, strict=True))


@pytest.mark.filterwarnings("ignore:train_epoch. the model mixes")
@pytest.mark.parametrize("compiled", [True, False])
def test_a_rate_beyond_the_dtype_is_named(compiled):
    model = Weighted(0, [np.float64, np.float32, np.float64], [1.0] * 3)
    with pytest.raises(
        tr.ConfigError, match=r"Adam: lr = 1e\+300 gives a rate of 1e\+301, above the largest float32; lower it"
    ):
        train_epoch(model, WINDOW, optim.Adam(1e300), (), compiled=compiled)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("clip", [-1, np.nan, np.inf, True, "1"])
def test_every_setting_is_checked_before_either_way_is_taken(compiled, clip):
    model = Weighted(0, [np.float32] * 3, [1.0] * 3)
    before = [p.data for p in model.values]
    with pytest.raises(tr.ConfigError, match=r"clip must be a finite number of 0 or more"):
        train_epoch(model, WINDOW, optim.SGD(0.1), (), clip=clip, compiled=compiled)
    with pytest.raises(tr.ConfigError, match="step must be an integer of 0 or more"):
        train_epoch(model, WINDOW, optim.SGD(0.1), (), step=0.5, compiled=compiled)
    assert all(p.data is old for p, old in zip(model.values, before, strict=True))


@pytest.mark.parametrize("executor", ["numpy", "native"])
def test_clipping_inside_a_compiled_function(executor):
    if executor == "native":
        need_library()

    def step(params, x):
        loss = np.sum(tr.astype(params["a"] * x, np.float64)) + np.sum(params["b"] * params["b"])
        gradients, norm = tr.clip_by_norm(tr.grad(loss, params), 0.5)
        return gradients, norm, tr.clip_by_value(gradients, 0.1)

    params = {"a": tr.tensor([1.0, 2.0], np.float32, True), "b": tr.tensor([3.0, -4.0], requires_grad=True)}
    fast = tr.compile(step, executor=executor)
    for factor in (1.0, 1e-3, 1e20):
        x = np.array([factor, -factor], np.float32)
        assert_equal(fast(params, x), step(params, x), 1e-6)
    assert len(fast.plans) == 1
    with pytest.raises(tr.NonFiniteError, match="clip_by_norm: the gradient of a has 1 non-finite of 2 values"):
        fast(params, np.array([1.0, np.inf], np.float32))


def test_the_norm_of_recorded_gradients_has_a_gradient():
    def squared_norm(p):
        gradient = tr.grad(np.sum(p**3), p, create_graph=True)  # 3 p^2
        return tr.optim.global_norm({"p": gradient}) ** 2

    p = tr.tensor([1.0, -2.0, 0.5], requires_grad=True)
    np.testing.assert_allclose(tr.grad(squared_norm(p), p), 36 * p.data**3, rtol=1e-12)
    report = check_grads(lambda p: tr.clip_by_norm({"p": p**2, "q": tr.exp(p)}, 0.3)[0]["p"], p.data)
    assert report.ok, report
