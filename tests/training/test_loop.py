"""train_epoch: the updates it makes, the state it carries, and what it refuses."""

import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.data import OffsetBatches
from tinygrad_rnn.engine.walk import ancestors
from tinygrad_rnn.errors import ConfigError, CorpusError, NonFiniteError
from tinygrad_rnn.optim import SGD, Adam, Cosine, clip_by_norm
from tinygrad_rnn.training import train_epoch

IDS = np.random.default_rng(0).integers(5, size=60)


def small_model(cell="lstm", **settings):
    return tr.RNNLM(5, 4, 4, np.random.default_rng(1), cell=cell, dtype=np.float64, **settings)


@pytest.mark.sample(2)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@given(clip=st.sampled_from([0.0, 0.1, 100.0]), seed=st.integers(0, 2**32 - 1))
def test_is_the_plain_loop(cell, clip, seed):
    windows = OffsetBatches(np.random.default_rng(seed).integers(5, size=40), batch_size=2, bptt=4)
    model, twin = small_model(cell), small_model(cell)
    result = train_epoch(model, windows, SGD(0.5), model.initial_state(2), clip=clip)

    state, total = twin.initial_state(2), 0.0
    for ids, targets in windows:
        # Detached by hand: the numbers of the state, in tensors of their own.
        state = tuple(tuple(tr.tensor(h.data) for h in s) if cell == "lstm" else tr.tensor(s.data) for s in state)
        loss, state = twin.loss(ids, targets, state)
        grads = tr.grad(loss, twin.parameters())
        if clip:
            grads, _ = clip_by_norm(grads, clip)
        for name, p in twin.parameters().items():
            p.data = p.data - 0.5 * grads[name]
        total += loss.item() * targets.size
    for name, p in twin.parameters().items():
        np.testing.assert_allclose(model.parameters()[name].data, p.data, rtol=1e-12, atol=1e-14)
    assert result.tokens == windows.tokens
    assert result.steps == len(windows)
    assert np.isclose(result.nats, total / windows.tokens, rtol=1e-12)
    assert not result.stopped


class Own(tr.Policy):
    """A policy of the user's without passes of its own."""

    grain = 1

    def scale(self, edge, end):
        return 0.5


# Without `every=`, the same with it, and the text.
WITHOUT = {
    "full": (tr.Full(), tr.Full(every=4), "full"),
    "decay": (tr.Decay(0.5), tr.Decay(0.5, every=4), "decay:0.5"),
    "checkpointed": (tr.Checkpointed(2), tr.Checkpointed(2, every=4), "checkpointed:2"),
    "states": (tr.Checkpointed(states=2), tr.Checkpointed(states=2, every=4), "checkpointed:states=2"),
    "memory": (tr.Checkpointed(memory="1 MB"), tr.Checkpointed(memory="1 MB", every=4), "checkpointed:memory=1MB"),
    "own": (Own(), tr.Decay(0.5, every=4)),
    "randomized": (tr.Randomized(c=0.3, rng=5),),
}


@pytest.mark.sample(5)
@pytest.mark.parametrize("kind", WITHOUT)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_policy_without_passes_of_its_own_makes_an_update_a_window(kind, compiled):
    windows, found = OffsetBatches(IDS, batch_size=2, bptt=4), []
    for policy in WITHOUT[kind]:
        model, sizes = small_model(), []
        train_epoch(
            model,
            windows,
            SGD(0.5),
            model.initial_state(2),
            policy=policy,
            compiled=compiled,
            on_window=lambda window, sizes=sizes: sizes.append(window.weight) or False,
        )
        assert sizes == [targets.size for _, targets in windows]
        found.append({name: p.data for name, p in model.parameters().items()})
    for other in found[1:]:
        for name, value in found[0].items():
            np.testing.assert_allclose(other[name], value, rtol=1e-12, atol=1e-14)


@pytest.mark.sample(2)
@pytest.mark.parametrize("policy", [tr.Full(), tr.Decay(0.9), tr.Checkpointed(3), tr.Randomized(c=0.1)], ids=repr)
def test_the_graph_of_a_window_is_all_that_is_held(policy, no_collector):
    """Whatever the length of the pass."""

    class Watched(tr.RNNLM):
        def loss(self, ids, targets, state=None, *, rng=None):
            loss, state = super().loss(ids, targets, state, rng=rng)
            nodes.extend(weakref.ref(node) for node in ancestors([loss.node]) if node.operation is not None)
            alive.append(sum(node() is not None for node in nodes))
            return loss, state

    most = []
    for length in (5, 60):
        nodes, alive = [], []
        model = Watched(5, 4, 4, np.random.default_rng(1), dtype=np.float64)
        ids = np.resize(IDS, 2 * 4 * length + 1)
        train_epoch(model, OffsetBatches(ids, 2, 4), SGD(0.1), model.initial_state(2), policy=policy)
        most.append(max(alive))
    assert most[0] == most[1]


def test_a_text_has_its_passes_once_a_window():
    """Adaptive is the one whose passes would fall behind each step otherwise."""
    windows, steps = OffsetBatches(IDS, batch_size=2, bptt=4), []
    for policy in ("adaptive", tr.Adaptive(0.1, 200, every=4), "windowed:4/2", tr.Windowed(4, every=2)):
        model = small_model()
        steps.append(train_epoch(model, iter(windows), SGD(0.1), model.initial_state(2), policy=policy).steps)
    assert steps == [len(windows)] * 2 + [15] * 2


def test_schedule_and_steps_go_on():
    model, schedule, seen = small_model(), Cosine(0.1, total_steps=30), []
    windows = OffsetBatches(IDS, batch_size=2, bptt=5)
    result = train_epoch(
        model,
        windows,
        SGD(9.0),
        model.initial_state(2),
        schedule=schedule,
        step=7,
        on_window=lambda window: seen.append(window) or False,
    )
    assert [window.step for window in seen] == list(range(7, 7 + len(windows)))
    assert [window.lr for window in seen] == [schedule.lr(step) for step in range(7, 7 + len(windows))]
    assert sum(window.weight for window in seen) == result.tokens
    assert np.isclose(result.gradient_norm, np.mean([window.gradient_norm for window in seen]))
    assert result.lr == seen[-1].lr


def test_on_window_ends_the_pass():
    model = small_model()
    windows = OffsetBatches(IDS, batch_size=2, bptt=5)
    result = train_epoch(model, windows, SGD(0.1), model.initial_state(2), on_window=lambda window: window.step == 2)
    assert (result.steps, result.tokens, result.stopped) == (3, 30, True)


def test_dropout_only_with_a_generator():
    models = [small_model(dropout=0.5) for _ in range(3)]
    rngs = [None, None, np.random.default_rng(0)]
    for model, rng in zip(models, rngs, strict=True):
        train_epoch(model, OffsetBatches(IDS, 2, 5), SGD(0.1), model.initial_state(2), rng=rng)
    a, b, c = (model.layers[0].Wx.data for model in models)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_no_windows():
    model = small_model()
    with pytest.raises(CorpusError, match=r"windows\) is empty"):
        train_epoch(model, iter([]), SGD(0.1), model.initial_state(2))


class Poisoned(tr.RNNLM):
    """A model whose loss, or one gradient of it, is not finite from the third window on."""

    calls = 0
    poison: str

    def loss(self, *args, **kwargs):
        loss, state = super().loss(*args, **kwargs)
        self.calls += 1
        if self.calls < 3:
            return loss, state
        if self.poison == "loss":
            return loss * np.inf, state
        # A finite loss with an infinite derivative: sqrt at 0.
        zero = (self.layers[0].Wh * 0.0).sum()
        return loss + tr.sqrt(zero), state


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        ("loss", r"update 2: the loss is inf: batch, state and all parameters are finite"),
        ("gradient", r"update 2: the gradient of layers\.0\.Wh has a length of (inf|nan)"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_is_not_finite_never_reaches_the_parameters(poison, message):
    model = Poisoned(5, 4, 4, np.random.default_rng(1))
    model.poison = poison
    kept = []
    with pytest.raises(NonFiniteError, match=message):
        train_epoch(
            model,
            OffsetBatches(IDS, 2, 5),
            Adam(0.1),
            model.initial_state(2),
            on_window=lambda _: kept.append({name: p.data for name, p in model.parameters().items()}) or False,
        )
    assert len(kept) == 2
    for name, p in model.parameters().items():
        assert p.data is kept[-1][name]


def test_bad_parameter_is_named():
    model = small_model()
    model.layers[0].b.data = np.full(16, np.nan)
    with pytest.raises(NonFiniteError, match=r"update 0: the loss is nan: the parameter layers\.0\.b holds"):
        train_epoch(model, OffsetBatches(IDS, 2, 5), SGD(0.1), model.initial_state(2))


class Shapeless(tr.Module):
    """A model that has nothing to train."""

    def loss(self, ids, targets, state, rng=None):
        return np.sum(tr.tensor(1.0, requires_grad=True)), state


@pytest.mark.parametrize("compiled", [True, False])
def test_a_model_without_parameters_is_refused(compiled):
    with pytest.raises(ConfigError, match="the model Shapeless has no parameters, so there is nothing to train"):
        train_epoch(Shapeless(), OffsetBatches(IDS, 2, 5), SGD(0.1), (), compiled=compiled)
    with pytest.raises(ConfigError, match="model must be a Module.* got str"):
        train_epoch("model", OffsetBatches(IDS, 2, 5), SGD(0.1), (), compiled=compiled)


class Regression(tr.Module):
    """A model that reads numbers: T steps of a cell, then the squared error."""

    def __init__(self):
        self.cell = tr.RNNCell(2, 3, np.random.default_rng(0), np.float64)

    def loss(self, xs, targets, state, rng=None):
        hs, state = tr.unroll(self.cell, xs, state)
        return np.mean((hs - targets) ** 2), state


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("policy", [None, tr.Chunked(2)])
@pytest.mark.parametrize("where", ["inputs", "targets", "state"])
def test_a_value_in_the_data_that_is_not_finite_is_found(compiled, policy, where):
    model = Regression()
    windows = [[np.ones((4, 2, 2)), np.zeros((4, 2, 3))] for _ in range(3)]
    state = np.zeros((4, 3))
    if where == "state":
        state[1, 2] = np.nan
        expected = r"the state before this update holds"
    else:
        windows[1][where == "targets"][3, 1, 0] = np.nan
        place, size = {"inputs": (0, 16), "targets": (1, 24)}[where]
        expected = rf"update 1: .*batch\[0\]\[{place}\] holds 1 non-finite of {size} values, the first at \[3, 1, 0\]"
    with pytest.raises(NonFiniteError, match=expected):
        train_epoch(model, windows, SGD(0.1), state, policy=policy, compiled=compiled)


@pytest.mark.parametrize("compiled", [True, False])
def test_mixed_dtypes_are_said_once_at_the_start(compiled):
    cell = tr.RNNCell(4, 4, np.random.default_rng(0), dtype=np.float64)
    model = tr.RNNLM(5, 4, 4, np.random.default_rng(1), cell=cell)
    windows, optimizer, state = OffsetBatches(IDS, 2, 5), SGD(0.1), model.initial_state(2)
    with pytest.warns(UserWarning, match=r"mixes float32 \(embedding.W, .*\) and float64 \(the state, layers.0.Wx"):
        first = train_epoch(model, windows, optimizer, state, compiled=compiled)
    train_epoch(model, windows, optimizer, state, step=first.steps, compiled=compiled)  # no second time


def test_a_mean_loss_of_half_precision_is_not_multiplied():
    class Half(tr.Module):
        def __init__(self):
            self.w = tr.tensor([60.0], np.float16, requires_grad=True)

        def loss(self, ids, targets, state, rng=None):
            return np.sum(self.w * 600.0), state

    found = train_epoch(Half(), [(np.zeros((4, 50), int), np.zeros((4, 50), int))], SGD(1e-3), ())
    assert np.isclose(found.nats, 36000, rtol=1e-3)


class Fixed(tr.Module):
    """A model with one weight, whose loss is what it is told."""

    def __init__(self, result):
        self.w = tr.tensor([1.0], requires_grad=True)
        self.result = result

    def loss(self, ids, targets, state, rng=None):
        return self.result(self.w, state)


def unrecorded(w, state):
    with tr.no_grad():
        return np.sum(w * w), state


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda w, state: np.sum(w * w), ConfigError, r"must return \(loss, state\), got Tensor"),
        (lambda w, state: (3.0, state), tr.GradientError, "the loss is a float, which no gradient flows through"),
        (lambda w, state: (tr.tensor(3.0), state), tr.GradientError, "the loss is a constant Tensor"),
        (unrecorded, tr.GradientError, "the loss is a constant Tensor, .* outside of no_grad"),
    ],
)
def test_a_loss_that_nothing_can_learn_from_is_refused(compiled, result, error, message):
    with pytest.raises(error, match=f"Fixed.loss: {message}"):
        train_epoch(Fixed(result), OffsetBatches(IDS, 2, 5), SGD(0.1), (), compiled=compiled)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adam"}, "optimizer must be of type Optimizer, got 'adam'"),
        ({"optimizer": Adam}, "optimizer must be of type Optimizer"),
        ({"schedule": "cosine"}, "schedule must be of type Schedule, got 'cosine'"),
        ({"schedule": 0.1}, "schedule must be of type Schedule, got 0.1"),
        ({"windows": 3}, "windows must be of type Iterable, got 3"),
        ({"windows": [IDS]}, r"windows\[0\] must be a pair \(inputs, targets\), got ndarray"),
        ({"compiled": "yes"}, "(compile|compiled) must be true or false, got 'yes'"),
        ({"rng": 0}, "rng must be a numpy.random.Generator, got 0"),
        ({"clip": np.inf}, "clip must be a finite number of 0 or more"),
        ({"step": -1}, "step must be an integer of 0 or more"),
    ],
)
def test_an_argument_of_the_wrong_kind(settings, message):
    model = small_model()
    arguments = {"windows": OffsetBatches(IDS, 2, 5), "optimizer": SGD(0.1), **settings}
    with pytest.raises(ValueError, match=f"(train_epoch|TrainStep): {message}"):
        train_epoch(model, state=model.initial_state(2), **arguments)


@pytest.mark.parametrize("compiled", [True, False])
def test_inputs_of_another_dtype_are_said(compiled):
    model, windows = Regression(), [(np.ones((4, 2, 2), np.float32), np.zeros((4, 2, 3)))]
    mixed = r"mixes float32 \(the batch\) and float64 \(the batch, the state, cell.Wx .*\)"
    with pytest.warns(UserWarning, match=mixed):
        train_epoch(model, windows, SGD(0.1), np.zeros((4, 3)), compiled=compiled)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("policy", [None, tr.Chunked(1)])
def test_windows_may_be_lists(compiled, policy):
    window, nats = ([[[1.0, 2.0], [3.0, 4.0]]], [[[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]]), []
    for kind in (list, np.array):
        pair = [kind(part) for part in window]
        found = train_epoch(Regression(), [pair], SGD(0.1), np.zeros((1, 3)), compiled=compiled, policy=policy)
        nats.append(found.nats)
    assert nats[0] == pytest.approx(nats[1], rel=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    "policy",
    [tr.RTRL(), tr.RTRL(None), tr.SnAp(9), tr.Windowed(9, every=3), tr.Decay(1.0, every=9), tr.Full()],
    ids=repr,
)
def test_a_step_in_which_nothing_counts(policy, compiled):
    """As in padding, and where answers come at the end: its weight of 0 divides nothing."""
    rng = np.random.default_rng(0)
    xs, ys, counts = rng.standard_normal((1, 9, 2)), rng.standard_normal((1, 9, 3)), np.zeros((1, 9))
    counts[:, [2, 3, 7]] = 1.0

    def loss(model, batch, state):
        xs, ys, counts = batch
        outputs, state = tr.unroll(model, xs, state)
        weight = np.sum(counts)
        return np.sum((outputs - ys) ** 2 * counts[:, :, None]) / np.maximum(weight, 1), state, {"weight": weight}

    model, twin = (tr.GRUCell(2, 3, np.random.default_rng(1), dtype=np.float64) for _ in range(2))
    result = tr.TrainStep(model, loss, SGD(0.1), policy=policy, compile=compiled)(
        (xs, ys, counts), model.initial_state(1)
    )
    expected, _, _ = loss(twin, (xs, ys, counts), twin.initial_state(1))
    assert (result.loss, result.weight) == (pytest.approx(expected.item(), rel=1e-12), 3.0)
    for name, g in tr.grad(expected, twin.parameters()).items():
        np.testing.assert_allclose(model.parameters()[name].data, twin.parameters()[name].data - 0.1 * g, rtol=1e-12)
