"""Exported C, compiled and called from Python, and compared step by step with the executor."""

import ctypes
import inspect
import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from leaky import LeakyCell

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten, rebuild
from tinygrad_rnn.exports.c.write import write
from tinygrad_rnn.exports.program import program_of
from tinygrad_rnn.exports.source import source_of_function, source_of_module

STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
_NUMBERS = itertools.count()
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}  # of the largest entry


def compilers():
    """Return the C compilers that are there."""
    return [name for name in ("gcc", "clang") if shutil.which(name)]


def need_compiler():
    if not compilers():
        pytest.skip("there is no C compiler")
    return compilers()[0]


def compiled(folder, sources, compiler=None, flags=("-O1",), **options):
    """Write sources by name into a folder and compile all of them at once; return the library."""
    compiler = compiler or need_compiler()
    files = [str(write(source, Path(folder) / f"{name}.c", **options)[0]) for name, source in sources.items()]
    library = Path(folder) / f"{compiler}_{next(_NUMBERS)}.so"  # a library of the same name would not be loaded again
    run(compiler, *STRICT, *flags, "-shared", "-fPIC", *files, "-o", str(library), "-lm")
    return ctypes.CDLL(str(library))


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(command[:8])} ...\n{done.stdout}{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


class CModel:
    """A step in C with its state.

    Args:
        library: that it is in.
        name: prefix of its functions.
        source: that it was written from.
        before, after: more arguments of the step, before and after its own.
    """

    def __init__(self, library, name, source, before=(), after=()):
        self.program = program_of(source)
        self._step, self._before, self._after = getattr(library, f"{name}_step"), before, after
        carried = [one.initial for one in self.program.carried]
        self.state = np.full(sum(part.size for part in carried), np.nan, carried[0].dtype if carried else np.float32)
        if carried:
            getattr(library, f"{name}_init")(pointer(self.state))

    def step(self, *given):
        """Return (what the function returned, the results)."""
        program = self.program
        inputs = [_as_c(x, program.inputs[number].dtype) for x, number in zip(given, program.given, strict=True)]
        results = [np.zeros(program.outputs[number].shape, program.outputs[number].dtype) for number in program.results]
        arrays = [*inputs, *([self.state] if program.carried else []), *results]
        arguments = [*self._before, *arrays, *self._after]
        return self._step(*map(pointer, arguments)), results

    def leaves(self):
        """Return the carried leaves, views of the state."""
        sizes = [one.initial.size for one in self.program.carried]
        parts = np.split(self.state, np.cumsum(sizes)[:-1]) if sizes else []
        return [part.reshape(one.initial.shape) for part, one in zip(parts, self.program.carried, strict=True)]


def _as_c(x, dtype):
    return np.array(x, np.int32 if dtype == np.int64 else dtype)


def apart(model, source, given, steps):
    """Return the largest difference from the executor over a stream, relative to the largest entry of each array.

    Args:
        model: the C model.
        source: that it was written from; its parameters are overwritten by what it carries.
        given: a function of the number of the step that returns the arguments that are not carried.
        steps: of the stream.
    """
    fast, arguments, worst = tr.compile(source.function), list(source.args), 0.0
    for number in range(steps):
        new = iter(given(number))
        arguments = [
            old if name in source.carried else next(new) for name, old in zip(source.names, arguments, strict=True)
        ]
        given_leaves = [
            leaf
            for name, x in zip(source.names, arguments, strict=True)
            if name not in source.carried
            for leaf in flatten(x)
        ]
        code, results = model.step(*given_leaves)
        assert code == 0
        made = fast(*arguments)
        made = made if isinstance(made, tuple) else (made,)
        for want, got in zip(map(np.asarray, flatten(made)), [*results, *model.leaves()], strict=True):
            assert want.shape == got.shape
            if want.size:
                difference = np.abs(np.subtract(want, got, dtype=np.float64)).max()
                worst = max(worst, float(difference / max(np.abs(want).max(), 1e-2)))
        after = dict(zip(source.carried, made[len(made) - len(source.carried) :], strict=True))
        arguments = [
            _renewed(old, after[name]) if name in after else old
            for name, old in zip(source.names, arguments, strict=True)
        ]
    return worst


def _renewed(old, new):
    """Return a nest of new values; what was a leaf Tensor is the same Tensor with the new value."""
    leaves = []
    for before, after in zip(flatten(old), flatten(new), strict=True):
        if isinstance(before, tr.Tensor):
            before.data = after
        leaves.append(before if isinstance(before, tr.Tensor) else after)
    return rebuild(new, iter(leaves))


V = 11


def language_model(cell, layers=1, dtype=np.float32, hidden_size=13):
    return tr.RNNLM(V, 9, hidden_size, np.random.default_rng(0), cell=cell, layers=layers, dtype=dtype)


def ids(*shape):
    """Return a function of the number of a step: ids of this shape."""
    return lambda number: (np.random.default_rng(number).integers(0, V, shape),)


def streamed(hidden_size=13):
    """Return (source, inputs, tolerance) of single steps by name."""
    models = {
        "rnn": language_model("rnn", hidden_size=hidden_size),
        "lstm": language_model("lstm", hidden_size=hidden_size),
        "gru": language_model("gru", hidden_size=hidden_size),
        "two_layers": language_model("lstm", 2, hidden_size=hidden_size),
        "leaky": language_model(LeakyCell, hidden_size=hidden_size),
        "lru": language_model(tr.LRUCell, hidden_size=hidden_size),
        "double": language_model("gru", dtype=np.float64, hidden_size=hidden_size),
    }
    return {name: (source_of_module(model), ids(1), TOLERANCE[_dtype(model)]) for name, model in models.items()}


def _dtype(model):
    return next(iter(model.parameters().values())).dtype.name


def sgd(model):
    """Return a training step: some steps of truncated BPTT and an update of the parameters."""

    def train(params, inputs, targets, state, rate):
        loss, state = model.loss(inputs, targets, state)
        gradients = tr.grad(loss, params)
        return loss, {name: p - rate * gradients[name] for name, p in params.items()}, state

    return train


def sgd_source(model, steps=5, streams=1):
    example = np.zeros((streams, steps), np.int64)
    dtype = _dtype(model)
    arguments = (model.parameters(), example, example, model.initial_state(streams), np.asarray(0.1, dtype))
    return source_of_function(sgd(model), arguments, ("params", "state"))


def batches(steps=5, streams=1, dtype=np.float32, rate=0.1):
    def given(number):
        text = np.random.default_rng(number).integers(0, V, (streams, steps + 1))
        return text[:, :-1], text[:, 1:], np.asarray(rate, dtype)

    return given


def online_source(model, policy):
    """Return a step that learns at once, with the influence that the policy carries."""

    def step(inputs, state):
        return model.loss(*inputs, state)

    def learn(params, carry, state, inputs, targets):
        run = tr.Recurrence(step, params, policy, state, carry=carry)
        (update,) = run.feed((inputs, targets))
        new = {name: p - np.float32(0.05) * update.gradients[name] for name, p in params.items()}
        return update.losses[0], new, run.carry, update.state

    example = np.zeros((1, 1), np.int64)
    run = tr.Recurrence(step, model.parameters(), policy, model.initial_state(1))
    list(run.feed((example, example)))
    carry = rebuild(run.carry, iter([np.zeros_like(part) for part in flatten(run.carry)]))
    arguments = (model.parameters(), carry, model.initial_state(1), example, example)
    return source_of_function(learn, arguments, ("params", "carry", "state"))


def function_source(function, *arguments, carry=()):
    return source_of_function(function, arguments, carry)


def source_of_program(program, order):
    """Return a drawn program (tests/programs) as a source."""
    f = program.function(order)
    names = [f"x{number}" for number in range(len(program.inputs))]

    def called(*inputs):
        return f(*inputs)

    called.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )
    return source_of_function(called, tuple(program.inputs), ())
