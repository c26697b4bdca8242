"""Tables are sent as rows, and updates made in parts: by one process that takes itself for two that share nothing."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.recording.trace import trace
from tinygrad_rnn.parallel import Group
from tinygrad_rnn.training.loop.tables import rows_of, sparse_tables

V, N, T = 1200, 4, 6


class Lone(Group):
    """One process that holds all rows, and does what one of two would do."""

    size = property(lambda self: 2)

    def rows(self, count):
        return slice(0, count)


def step_of(comm=None, optimizer=None, executor=None, **how):
    model = tr.RNNLM(V, 8, 32, np.random.default_rng(0), cell="lstm", dtype=np.float64, **how)
    rule = tr.SGD(0.3) if optimizer is None else optimizer
    return tr.TrainStep(
        model, lambda model, batch, state: model.loss(*batch, state), rule, clip=0.5, comm=comm, executor=executor
    )


def windows(count):
    rng = np.random.default_rng(1)
    return [(rng.integers(0, V, (N, T)), rng.integers(0, V, (N, T))) for _ in range(count)]


def trained(step, count):
    state = step.model.initial_state(N)
    for batch in windows(count):
        state = step(batch, state).state
    return step.model.state_dict()


@pytest.mark.parametrize("executor", ["numpy", "auto"])
@pytest.mark.parametrize("rule", [tr.SGD, tr.Adam, tr.Momentum], ids=lambda rule: rule.__name__)
def test_rows_and_parts_give_the_update_of_one_process(rule, executor):
    alone = trained(step_of(optimizer=rule(0.05), executor=executor), 12)
    parted = trained(step_of(Lone(), rule(0.05), executor), 12)
    for name, array in alone.items():
        np.testing.assert_allclose(parted[name], array, rtol=0, atol=1e-13)


def test_the_gradient_of_the_embedding_is_made_as_rows_and_updated_where_it_lies():
    step = step_of(Lone())
    trained(step, 4)
    (gradients, update) = step.every_plan
    assert not [slot for one, _ in gradients.flat() for slot in one.outputs if slot.shape == (V, 8)]
    names = [one.operator.name for one, _ in update.flat()]
    assert "subtract_rows" in names
    assert "take_back" not in names
    table = step.model.embedding.W
    before = table.data.__array_interface__["data"][0]
    trained(step, 3)
    assert table.data.__array_interface__["data"][0] == before


@pytest.mark.parametrize("name", ["embedding.W", "output.W", "layers.0.Wh"])
def test_arrays_that_others_hold_do_not_change(name):
    step = step_of(Lone())
    trained(step, 3)
    held = []
    state = step.model.initial_state(N)
    for batch in windows(5):
        held.append((step.model.state_dict()[name], step.model.state_dict()[name].copy()))
        state = step(batch, state).state
    assert all(np.array_equal(array, copy) for array, copy in held)
    assert not np.array_equal(held[0][1], held[1][1])


@pytest.mark.parametrize("bad", ["embedding.W", "output.W"])
def test_nothing_is_touched_where_a_gradient_is_not_finite(bad):
    model = tr.RNNLM(V, 8, 32, np.random.default_rng(0), cell="lstm", dtype=np.float64)

    def loss(model, batch):
        """What is added is 0 where the factor is, and its gradient, infinity times 0, is not a number."""
        ids, targets, factor = batch
        part = np.take(model.embedding.W, ids, axis=0) if bad == "embedding.W" else model.output.W
        return model.loss(ids, targets, model.initial_state(N))[0] + np.sqrt(np.mean(factor) * np.sum(part**2))

    step = tr.TrainStep(model, loss, tr.SGD(0.1), comm=Lone())
    for batch in windows(3):
        step((*batch, np.ones(N)))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with np.errstate(all="ignore"), pytest.raises(tr.NonFiniteError, match=f"gradient of {bad} has a length of nan"):
        step((*windows(1)[0], np.zeros(N)))
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    step((*windows(1)[0], np.ones(N)))


def test_which_tables_are_sent_as_rows():
    """A single lookup of few rows; not one of many rows, and not what is used in another way as well."""
    rng = np.random.default_rng(0)
    params = {name: tr.tensor(rng.standard_normal((40, 2)), requires_grad=True) for name in ("few", "many", "tied")}
    few, many = rng.integers(0, 40, (2, 3)), rng.integers(0, 40, (4, 6))

    def gradients(params, few, many):
        looked_up = np.sum(np.take(params["few"], few, axis=0) ** 2) + np.sum(
            np.take(params["many"], many, axis=0) ** 3
        )
        return tr.grad(looked_up + np.sum(np.take(params["tied"], few, axis=0) @ params["tied"].T), params)

    assert sparse_tables(gradients, (params, few, many), 2) == ["few"]
    assert sparse_tables(gradients, (params, few, many), 4) == []
    assert trace(gradients, ((params, few, many), {})).graph.outputs

    found = tr.compile(lambda *given: {name: rows_of(g) for name, g in gradients(*given).items()})(params, few, many)
    for name, wanted in gradients(params, few, many).items():
        assert np.allclose(found[name].dense((40, 2)), wanted, rtol=1e-13)
    assert {name: len(part.ids) for name, part in found.items()} == {"few": 6, "many": 24, "tied": 40}


def test_a_user_s_rule_is_not_taken_apart():
    class Normalised(tr.SGD):
        def rule(self, p, g, lr, state):
            return p - lr * g / np.sqrt(np.sum(g * g))

    assert tr.SGD(0.1).divisible
    assert not Normalised(0.1).divisible
    alone, parted = trained(step_of(optimizer=Normalised(0.05)), 6), trained(step_of(Lone(), Normalised(0.05)), 6)
    for name, array in alone.items():
        np.testing.assert_allclose(parted[name], array, rtol=0, atol=1e-13)
