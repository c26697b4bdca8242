"""Credit carried forward in compiled functions and in training steps: the same numbers as recorded anew each time."""

import copy

import numpy as np
import pytest
from credit.steps import an_lstm

import tinygrad_rnn as tr
from tinygrad_rnn.credit import record
from tinygrad_rnn.credit.jacobian import step_jacobian
from tinygrad_rnn.engine.tree import flatten

POLICIES = [
    tr.RTRL(),
    tr.SnAp(1),
    tr.EProp(),
    tr.RFLO(rng=3),
    tr.KroneckerFactored(rng=3),
    tr.UORO(rng=3),
    tr.ForwardGradient(rng=3),
]
CELLS = [tr.RNNCell, tr.LSTMCell, tr.GRUCell, tr.IndRNNCell]


def made_step(cell, output):
    def step(inputs, state):
        xs, ys = inputs
        h, state = cell(xs[:, 0], state)
        return np.sum((output(h) - ys[:, 0]) ** 2), state

    return step


def run(call, params, inputs, state, steps):
    """Return what some online steps find, without an update, so that the two runs cannot drift apart."""
    found, carry = [], None
    for t in range(steps):
        loss, gradients, state, carry = call(params, inputs[0][:, t : t + 1], inputs[1][:, t : t + 1], state, carry)
        found.append((float(loss), {name: np.array(g) for name, g in gradients.items()}))
    return found


@pytest.mark.sample(14)
@pytest.mark.parametrize("make", CELLS)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("N", [1, 3])
def test_a_compiled_online_step_finds_what_the_eager_one_finds(make, policy, N):
    rng = np.random.default_rng(0)
    cell, output = make(3, 4, rng, np.float64), tr.Linear(4, 2, rng, np.float64)
    params = {f"cell.{name}": p for name, p in cell.parameters().items()}
    params |= {f"output.{name}": p for name, p in output.parameters().items()}
    step, inputs = made_step(cell, output), (rng.standard_normal((N, 6, 3)), rng.standard_normal((N, 6, 2)))

    def online(policy):
        def call(params, xs, ys, state, carry):
            going = tr.Recurrence(step, params, policy, state, carry=carry)
            (update,) = going.feed((xs, ys))
            return update.losses[0], update.gradients, update.state, going.carry

        return call

    def fresh():  # a copy that draws the same signs
        return type(policy)(**{name: value for name, value in vars(policy).items() if not name.startswith("_")})

    compiled = tr.compile(online(fresh()), executor="numpy")
    eager = run(online(fresh()), params, inputs, cell.initial_state(N), 6)
    for (loss, gradients), (wanted, full) in zip(
        run(compiled, params, inputs, cell.initial_state(N), 6), eager, strict=True
    ):
        assert loss == pytest.approx(wanted, rel=1e-12)
        for name, g in gradients.items():
            np.testing.assert_allclose(g, full[name], rtol=1e-9, atol=1e-12, err_msg=name)
    assert len(compiled.plans) == 2  # without a carry, and with one


@pytest.mark.parametrize("policy", POLICIES[:5], ids=lambda policy: type(policy).__name__)
def test_the_jacobian_of_a_step_is_walked_once(policy, monkeypatch):
    """Also of an LSTM, whose h follows from its c: what has links is multiplied out, not found anew."""
    walks = []
    monkeypatch.setattr(record, "step_jacobian", lambda *args: walks.append(1) or step_jacobian(*args))
    step, parameters, inputs, state = an_lstm(2, 5, 3)
    tr.bptt(step, parameters, inputs, state, policy)
    assert len(walks) == 5


def trained(policy, compile, every=4, dtype=np.float64):
    model = tr.RNNLM(9, 5, 6, np.random.default_rng(0), cell="gru", dtype=dtype)
    ids = np.arange(121) * 7 % 9
    optimizer = tr.SGD(0.1)
    step = tr.TrainStep(
        model,
        lambda model, batch, state: model.loss(batch[0], batch[1], state),
        optimizer,
        policy=tr.parse_policy(policy, every=every, rng=5),
        compile=compile,
    )
    state, losses = None, []
    for start in range(0, 36, 4):
        batch = tuple(np.stack([ids[at + o : at + o + 4] for at in (start, start + 40)]) for o in (0, 1))
        result = step(batch, state)
        state = result.state
        losses.append(result.loss)
    return losses, {name: p.data for name, p in model.parameters().items()}, step


@pytest.mark.sample(2)
@pytest.mark.parametrize("policy", ["rtrl", "snap:1", "eprop", "uoro", "kf"])
def test_training_steps_are_the_same_compiled_and_not(policy):
    losses, params, step = trained(policy, True)
    wanted, others, _ = trained(policy, False)
    np.testing.assert_allclose(losses, wanted, rtol=1e-10)
    for name, value in params.items():
        np.testing.assert_allclose(value, others[name], rtol=1e-8, atol=1e-12)
    assert step.plans == 1


def test_what_is_carried_goes_on_from_batch_to_batch():
    """With parameters that hardly move, the gradient of RTRL has the credit that chunks of the same length cut off."""
    gradients = {}
    for policy in ("rtrl", "chunked:4"):
        model = tr.RNNLM(9, 5, 6, np.random.default_rng(0), dtype=np.float64)
        before = {name: p.data.copy() for name, p in model.parameters().items()}
        step = tr.TrainStep(
            model,
            lambda model, batch, state: model.loss(batch[0], batch[1], state),
            tr.SGD(1e-9),
            policy=tr.parse_policy(policy, every=4),
        )
        ids, state = np.arange(13)[None] * 7 % 9, None
        for start in (0, 4, 8):
            state = step((ids[:, start : start + 4], ids[:, start + 1 : start + 5]), state).state
        gradients[policy] = {name: (before[name] - p.data) * 1e9 for name, p in model.parameters().items()}
    model = tr.RNNLM(9, 5, 6, np.random.default_rng(0), dtype=np.float64)

    def whole(inputs, state):
        loss, state = model.loss(*inputs, state)
        return loss * np.size(inputs[0]), state

    inputs = (ids[:, :12], ids[:, 1:13])
    full = tr.bptt(whole, model.parameters(), inputs, model.initial_state(1), tr.Full()).gradients
    for name, g in gradients["rtrl"].items():
        np.testing.assert_allclose(4 * g, full[name], rtol=1e-4, atol=1e-5)
    assert np.abs(4 * gradients["chunked:4"]["layers.0.Wh"] - full["layers.0.Wh"]).max() > 1e-3


def test_a_new_sequence_starts_without_a_carry():
    _, _, step = trained("rtrl", True)
    batch = np.arange(8).reshape(2, 4), np.arange(1, 9).reshape(2, 4)
    other = tr.TrainStep(copy.deepcopy(step.model), step.objective, tr.SGD(0.1), policy="rtrl", compile=False)
    assert step(batch, None).gradient_norm == pytest.approx(other(batch, None).gradient_norm, rel=1e-9)


def test_the_state_before_the_first_step_must_be_given():
    cell = tr.RNNCell(3, 4, np.random.default_rng(0))

    def step(xs, state):
        output, state = tr.unroll(cell, xs, state)
        return np.sum(output), state

    with pytest.raises(tr.errors.GradientError, match=r"RTRL\(every=1\) needs a state .* it took None"):
        tr.bptt(step, cell.parameters(), np.ones((2, 3, 3), np.float32), None, tr.RTRL())


@pytest.mark.parametrize("policy", [tr.RTRL(), tr.SnAp(2)], ids=repr)
def test_a_step_may_hold_a_loop_of_its_own(policy):
    """Compiled, the sequence within each step is a loop, whose rule runs once for each unit."""
    rng = np.random.default_rng(0)
    inner = tr.RNNCell(2, 3, rng, dtype=np.float64)
    params = {**inner.parameters(), "W": tr.tensor(rng.standard_normal((3, 3)), requires_grad=True)}

    def gradients(params, xs, policy):
        def step(x, h):
            total = 0.0
            for t in range(x.shape[1]):
                words, _ = tr.unroll(inner, x[:, t])
                h = np.tanh(words[:, -1] @ params["W"] + h @ params["W"])
                total = total + np.sum(h * h)
            return total, h

        return tr.bptt(step, params, xs, np.zeros((2, 3)), policy).gradients

    xs = rng.standard_normal((2, 3, 5, 2))
    found = tr.compile(lambda params, xs: gradients(params, xs, policy))(params, xs)
    for name, expected in gradients(params, xs, tr.Full()).items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.sample(4)
@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("policy", ["rtrl", "snap:1", "eprop:random", "uoro", "kf"])
def test_batches_of_other_sizes_start_sequences_of_their_own(policy, compile):
    """The last batch of an epoch is often smaller; the plan of the larger one is still right after it."""
    _, _, step = trained(policy, compile)
    ids = np.arange(40) * 7 % 9
    for N in (3, 2, 3):
        batch = tuple(np.stack([ids[o + n : o + n + 4] for n in range(N)]) for o in (0, 1))
        other = tr.TrainStep(
            copy.deepcopy(step.model), step.objective, tr.SGD(0.1), policy=copy.deepcopy(step.policy), compile=False
        )
        found, wanted = step(batch, None), other(batch, None)
        assert found.loss == pytest.approx(wanted.loss, rel=1e-9)
        if policy not in ("uoro", "kf"):  # the others go on drawing
            assert found.gradient_norm == pytest.approx(wanted.gradient_norm, rel=1e-9)


def test_a_batch_that_fails_takes_what_was_carried_with_it():
    """A state never meets what later steps carried: the next batch starts with the credit of nothing."""
    _, _, step = trained("rtrl", True)
    ids = np.arange(40) * 7 % 9
    state = step((ids[None, :4], ids[None, 1:5]), None).state
    wrong = ids[None, 5:9].copy()
    wrong[0, 2] = 99  # no such token: the third step fails
    with pytest.raises(IndexError):
        step((ids[None, 4:8], wrong), state)
    other = tr.TrainStep(copy.deepcopy(step.model), step.objective, tr.SGD(0.1), policy="rtrl", compile=False)
    batch = ids[None, 4:8], ids[None, 5:9]
    assert step(batch, state).gradient_norm == pytest.approx(other(batch, state).gradient_norm, rel=1e-9)


@pytest.mark.parametrize("policy", [tr.RTRL(), tr.SnAp(1), tr.EProp(), tr.UORO(), tr.KroneckerFactored()], ids=repr)
def test_what_is_carried_has_the_dtype_of_the_model(policy):
    """In a stack some of D is zero, and has no term that could tell its dtype."""
    rng = np.random.default_rng(0)
    cell = tr.Stacked([tr.LSTMCell(3, 8, rng), tr.LSTMCell(8, 8, rng)])

    def step(xs, state):
        outputs, state = tr.unroll(cell, xs, state)
        return np.sum(outputs), state

    run = tr.Recurrence(step, cell.parameters(), policy, cell.initial_state(2))
    for update in run.feed(np.ones((2, 3, 3), np.float32)):
        assert {g.dtype for g in update.gradients.values()} == {np.dtype(np.float32)}
    assert {part.dtype for part in flatten(run.carry)} == {np.dtype(np.float32)}
