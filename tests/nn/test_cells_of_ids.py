"""A cell that reads ids (N,) says so with `time_axis = False`: it is unrolled, streamed, checked, drawn, exported."""

import c_programs as c
import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.testing import check_grads

V, N, T = 7, 2, 4
IDS = np.random.default_rng(1).integers(0, V, (N, T))


class Characters(tr.Module):
    """A language model that takes one step."""

    time_axis = False

    def __init__(self, dtype=np.float64):
        rng = np.random.default_rng(0)
        self.table = tr.parameter(rng.standard_normal((V, 3)), dtype)
        self.cell, self.output = tr.GRUCell(3, 5, rng, dtype), tr.Linear(5, V, rng, dtype)

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def __call__(self, ids, state):
        h, state = self.cell(self.table[ids], state)
        return self.output(h), state


class Guessed(Characters):
    time_axis = None


@pytest.fixture
def model():
    return Characters()


def by_hand(model, ids):
    state, outputs = model.initial_state(len(ids)), []
    for t in range(ids.shape[1]):
        output, state = model(ids[:, t], state)
        outputs.append(output.data)
    return np.stack(outputs, axis=1), state.data


def test_it_is_unrolled(model):
    outputs, state = by_hand(model, IDS)
    for run in (tr.unroll, tr.compile(tr.unroll)):
        found, last = run(model, IDS)
        np.testing.assert_allclose(found.data, outputs, rtol=1e-12)
        np.testing.assert_allclose(last.data, state, rtol=1e-12)
    found, last = tr.unroll(model, IDS[0])  # one sequence
    np.testing.assert_allclose(found.data, outputs[0], rtol=1e-12)
    np.testing.assert_allclose(last.data, state[0], rtol=1e-12)
    found, _ = tr.unroll(model, IDS, lengths=[T, 1])
    np.testing.assert_array_equal(found.data[1, 1:], 0)
    for ids in (IDS[0, 0], IDS[None], IDS[:, :0]):
        with pytest.raises(tr.ShapeError, match=r"unroll: expected xs of shape \(N, T\) with T >= 1, got"):
            tr.unroll(model, ids)


def test_it_is_streamed(model):
    step, state = tr.Stepper(model), None
    for t in range(T):
        logits, state = step(IDS[:, t], state)
    np.testing.assert_allclose(logits, by_hand(model, IDS)[0][:, -1], rtol=1e-12)


def test_it_is_checked(model):
    assert check_grads(model, IDS[:, 0]).ok
    assert check_grads(model, IDS).ok
    assert check_grads(model, IDS, truncation="chunked:2").ok


def test_it_is_drawn(model):
    text = tr.draw(model, IDS, truncation="chunked:2").svg()
    assert [text.count(f">t = {t}<") for t in range(T + 2)] == [0, *[1] * T, 0]
    assert "truncation chunked:2" in text


@pytest.mark.parametrize("steps", [None, 3])
def test_it_is_exported(steps, tmp_path):
    model = Characters(np.float32)
    example = IDS[:, 0] if steps is None else IDS[:, :steps]
    source = c.source_of_module(model, example)
    library = c.compiled(tmp_path, {"model": source})
    inputs = lambda number: (np.random.default_rng(number).integers(0, V, example.shape),)  # noqa: E731
    assert c.apart(c.CModel(library, "model", source), source, inputs, 20) <= 1e-5


@pytest.mark.parametrize(
    "run", [lambda model: tr.Stepper(model)(IDS[:, 0]), lambda model: tr.export(model, "a.c", IDS[:, 0])]
)
def test_a_model_that_does_not_say_so_gets_a_hint(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        tr.ShapeError, match=r"if Guessed takes one step at a time, ids \(N,\), say so: time_axis = False"
    ):
        run(Guessed())
