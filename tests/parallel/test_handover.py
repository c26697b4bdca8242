"""Gradients that are there first are handed over while the rest of the backward pass is still to come."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.passes.early import HAND_OVER
from tinygrad_rnn.compiler.plans.instructions import Loop
from tinygrad_rnn.parallel import Group
from tinygrad_rnn.training.loop import handover
from tinygrad_rnn.training.loop.handover import Link, hand_over, made_before_the_end
from tinygrad_rnn.training.loop.vectors import flat_of, places_of

MODEL = tr.RNNLM(1500, 4, 24, np.random.default_rng(0), cell="rnn", layers=2, dtype=np.float64)
IDS = np.random.default_rng(1).integers(0, 1500, (2, 5))
EARLY = ("output.W", "output.b")


class Noting(Link):
    """A link that keeps copies of what it is given, at the moment at which it is."""

    def __init__(self):
        super().__init__(Group())
        self.given = []

    def begin(self, name, vector):
        self.given.append((name, vector.copy()))


def gradients(params, ids, state):
    return tr.grad(MODEL.loss(ids, ids, state)[0], params)


@pytest.mark.parametrize("executor", ["numpy", "auto"])
def test_a_vector_is_handed_over_before_the_last_loop_and_complete(executor):
    link = Noting()

    def handing(params, ids, state):
        vectors = flat_of(gradients(params, ids, state), 1, EARLY)
        return vectors, hand_over(vectors["early float64"], link, "early float64")

    step = tr.Compiled(handing, executor=executor)
    for _ in range(2):
        step(MODEL.parameters(), IDS, MODEL.initial_state(2))
    wanted = gradients(MODEL.parameters(), IDS, MODEL.initial_state(2))
    assert [name for name, _ in link.given] == ["early float64"] * 2  # in replays, and not while it was recorded
    for _, vector in link.given:
        assert np.allclose(vector, np.concatenate([wanted[name].ravel() for name in EARLY]), rtol=1e-12, atol=1e-15)
    order = ["loop" if isinstance(part, Loop) else part.operator.name for part in step.plan.instructions]
    loops = [number for number, name in enumerate(order) if name == "loop"]
    assert len(loops) == 4
    assert loops[1] < order.index(HAND_OVER) < loops[2]


def test_which_gradients_are_there_before_the_last_loop():
    params = MODEL.parameters()
    step = tr.Compiled(lambda params, ids, state: flat_of(gradients(params, ids, state), 1))
    step(params, IDS, MODEL.initial_state(2))
    spans = {name: (8 * place.start, 8 * place.stop) for name, place in places_of(params).items()}
    found = set(made_before_the_end(step.plan, 0, spans))
    assert {"output.W", "output.b", "layers.1.Wx"} <= found
    assert not any(name.startswith(("layers.0", "embedding")) for name in found)


@pytest.mark.parametrize("early", [(), EARLY])
def test_a_matrix_and_its_bias_are_made_in_the_vector(early):
    model, ids = tr.RNNLM(1500, 4, 24, np.random.default_rng(0), cell="rnn", layers=2), np.zeros((20, 10), int)
    step = tr.Compiled(lambda params, ids, state: flat_of(tr.grad(model.loss(ids, ids, state)[0], params), 1, early))
    step(model.parameters(), ids, model.initial_state(20))
    assert any(slot.shape == (24, 1500) for one, _ in step.plan.flat() for slot in one.outputs)
    copied = [one.outputs[0].shape for one, _ in step.plan.flat() if one.operator.name == "copy"]
    assert not [shape for shape in copied if np.prod(shape) >= 24 * 1500]


def test_small_vectors_wait_for_the_end(monkeypatch):
    params = MODEL.parameters()
    step = tr.Compiled(lambda params, ids, state: flat_of(gradients(params, ids, state), 1))
    step(params, IDS, MODEL.initial_state(2))
    monkeypatch.setattr(handover, "_LEAST", 1 << 30)
    assert made_before_the_end(step.plan, 0, {"output.W": (0, 1 << 29)}) == []


def test_an_error_begins_the_sums_that_others_wait_for():
    link = Noting()
    link.wanted = {"early float64": np.ones(3)}
    with pytest.raises(ZeroDivisionError):
        link.kept(lambda: 1 // 0)
    assert [(name, vector.tolist()) for name, vector in link.given] == [("early float64", [0, 0, 0])]
