"""Sources and programs: the names of what goes in and out, what is carried, and what is refused."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.exports.program import program_of
from tinygrad_rnn.exports.source import source_of_function, source_of_module


def rng():
    return np.random.default_rng(0)


def names(ports):
    return {port.name: port.shape for port in ports}


def test_a_step_of_a_language_model():
    model = tr.RNNLM(10, 3, 4, rng(), cell="lstm")
    program = program_of(source_of_module(model, streams=2))
    assert names(program.inputs) == {"x": (2,), "state.0.0": (2, 4), "state.0.1": (2, 4)}
    assert names(program.outputs) == {"y": (2, 10), "state.0.0": (2, 4), "state.0.1": (2, 4)}
    assert {weight.name: weight.array.shape for weight in program.weights} == {
        name: part.shape for name, part in model.parameters().items()
    }
    assert [(one.input, one.output) for one in program.carried] == [(1, 1), (2, 2)]
    assert (program.given, program.results) == ((0,), (0,))


@pytest.mark.parametrize("module", [tr.RecurrentLayers("gru", 3, 4, rng()), tr.GRUCell(3, 4, rng())])
def test_a_window_is_a_loop(module):
    program = program_of(source_of_module(module, steps=5), passes=())
    assert names(program.inputs)["x"] == (1, 5, 3)
    assert names(program.outputs)["y"] == (1, 5, 4)
    assert [call.name for call in program.graph.calls].count("loop") == 1


def test_a_module_without_a_state():
    model = tr.SequenceModel("lstm", 3, 4, 2, rng(), last=True)
    program = program_of(source_of_module(model, steps=5, streams=2))
    assert (names(program.inputs), names(program.outputs)) == ({"x": (2, 5, 3)}, {"y": (2, 2)})
    assert program.carried == ()
    with pytest.raises(tr.ConfigError, match=r"SequenceModel has no initial_state, .* pass steps=T \(--steps T\)"):
        program_of(source_of_module(model))


def test_a_training_step_carries_its_parameters():
    model = tr.RNNLM(5, 3, 4, rng())

    def train(params, ids, targets, state):
        loss, state = model.loss(ids, targets, tr.cut(state))
        grads = tr.grad(loss, params)
        return loss, {name: p - 0.1 * grads[name] for name, p in params.items()}, state

    ids = np.zeros((1, 4), np.int64)
    source = source_of_function(train, (model.parameters(), ids, ids, model.initial_state(1)), ("params", "state"))
    program = program_of(source)
    assert program.weights == ()
    assert [program.inputs[number].name for number in program.given] == ["ids", "targets"]
    assert [program.outputs[number].name for number in program.results] == ["y"]
    for one in program.carried:
        assert program.inputs[one.input].name == program.outputs[one.output].name
    np.testing.assert_array_equal(program.carried[0].initial, model.embedding.W.data)


def test_weights_of_the_same_name_are_told_apart():
    cells = [tr.RNNCell(2, 2, rng()), tr.RNNCell(2, 2, rng())]

    def step(x):
        for cell in cells:
            x, _ = cell(x, x)
        return x

    program = program_of(source_of_function(step, (np.zeros((1, 2), np.float32),), ()))
    assert len({weight.name for weight in program.weights}) == len(program.weights) == 6


@pytest.mark.parametrize(
    ("function", "args", "carry", "message"),
    [
        (lambda x: x, (), (), "do not fit"),
        (lambda x: x, (np.zeros(2),), "h", r"carry must name arguments of the function \(x\), got \['h'\]"),
        (lambda x, h: x + h, (np.zeros(2), np.zeros(2)), ("x", "h"), "it returned 1 part"),
        (lambda x, h: (x, h[:1]), (np.zeros(2), np.zeros(2)), "h", r"argument h is \(2,\) .* returns \(1,\) float64"),
        (lambda x: (x, 3), (np.zeros(2),), (), "parts that are no arrays"),
    ],
)
def test_what_does_not_fit(function, args, carry, message):
    with pytest.raises((tr.ConfigError, tr.UnsupportedError), match=message):
        program_of(source_of_function(function, args, carry))


def test_draws_are_refused():
    generator = rng()
    dropout = tr.Dropout(0.5)
    with pytest.raises(tr.UnsupportedError, match="draws from a generator"):
        program_of(source_of_function(lambda x: dropout(x, generator), (np.zeros(2),), ()))


def test_a_module_that_does_not_say_what_its_input_is(tmp_path):
    class Odd(tr.Module):
        def initial_state(self, batch_size):
            return np.zeros((batch_size, 2))

        def __call__(self, x, state):
            return x + state, x + state

    with pytest.raises(tr.ConfigError, match="pass an example of its input"):
        program_of(source_of_module(Odd()))
    for path in ("step.onnx", "step.c", "step.py", "step.wasm", "step.html"):
        with pytest.raises(tr.ConfigError, match="pass an example of its input"):
            tr.export(Odd(), tmp_path / path)
    assert names(program_of(source_of_module(Odd(), np.zeros((1, 2)))).outputs) == {"y": (1, 2), "state": (1, 2)}


def test_formats_and_options(tmp_path):
    cell = tr.GRUCell(2, 3, rng())
    with pytest.raises(tr.ConfigError, match="has none of the suffixes"):
        tr.export(cell, tmp_path / "model.docx")
    with pytest.raises(tr.ConfigError, match="to must be one of"):
        tr.export(cell, tmp_path / "model", to="docx")
    with pytest.raises(tr.ConfigError, match="'speed' is not an option of safetensors"):
        tr.export(cell, tmp_path / "model.safetensors", speed=3)
    assert list(tmp_path.iterdir()) == []


def test_arguments_without_names_are_refused():
    def add(*parts):
        return sum(parts)

    with pytest.raises(tr.ConfigError, match=r"takes its arguments as \*parts; give each a name of its own"):
        source_of_function(add, [np.ones(2), np.ones(2)], ())
