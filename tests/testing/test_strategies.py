"""Strategies: what they draw, what a counter-example shrinks to, and how it is printed."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hst
from testing import mutants

import tinygrad_rnn as tr
import tinygrad_rnn.testing.strategies as st
from tinygrad_rnn.testing import Batch, check_grads
from tinygrad_rnn.testing.entry import register

ROOT = Path(tr.__file__).parents[1]
N, T, D, H = (hst.shared(hst.integers(1, 5), key=key) for key in "NTDH")


class Leaky(tr.Module):
    def __init__(self, input_size, hidden_size, rng):
        self.W = tr.tensor(rng.standard_normal((input_size, hidden_size)), requires_grad=True)

    def initial_state(self, batch_size):
        return np.zeros((batch_size, self.W.shape[1]))

    def __call__(self, x, h):
        h = 0.5 * h + np.tanh(x @ self.W)
        return h, h


def counter_example(test):
    """Return what Hypothesis prints of the failure of a test, on one line."""
    with pytest.raises(AssertionError) as caught:
        test()
    text = "\n".join(caught.value.__notes__)
    (call,) = ast.parse(text[text.index("(") + 1 : text.rindex(")")].join(["dict(", ")"])).body
    return ast.unparse(call)


@given(x=st.tensors(), y=st.tensors((2, 3), dtype=np.float32, requires_grad=False), z=st.tensors(st.shapes(2, 2, 0)))
def test_tensors(x, y, z):
    assert x.requires_grad
    assert x.dtype == z.dtype == np.float64
    assert x.ndim <= 3
    assert z.ndim == 2
    assert (y.shape, y.dtype, y.requires_grad) == ((2, 3), np.float32, False)
    assert np.abs(x.data).max() < 7  # normal numbers of a seed, none of the extreme ones that floats() loves


@given(x=st.tensors((3,), elements=hst.sampled_from([1.5, -2.0])), xs=st.sequences(features=2, elements=hst.just(7.0)))
def test_elements_are_drawn_one_by_one(x, xs):
    assert set(x.data) <= {1.5, -2.0}
    assert (xs == 7).all()


@given(batch=st.sequences(7), xs=st.sequences(features=D, batch=2, steps=hst.integers(4, 6)), D=D)
def test_sequences(batch, xs, D):
    assert isinstance(batch, Batch)
    assert batch.inputs.shape == batch.targets.shape
    assert batch.inputs.ndim == 2
    assert 0 <= min(batch.inputs.min(), batch.targets.min()) <= max(batch.inputs.max(), batch.targets.max()) < 7
    assert (xs.shape[0], xs.shape[2], xs.dtype) == (2, D, np.float64)
    assert 4 <= xs.shape[1] <= 6


@given(cell=st.cells(input_size=D, hidden_size=3), own=st.cells(Leaky, input_size=D), D=D)
def test_cells_run_and_no_parameter_is_zero(cell, own, D):
    outputs, _ = tr.unroll(cell, np.ones((2, 4, D)))
    assert outputs.shape == (2, 4, 3)
    assert isinstance(own, Leaky)
    for parameter in (*cell.parameters().values(), *own.parameters().values()):
        assert parameter.dtype == np.float64
        assert parameter.data.all()


@given(model=st.models(vocab_size=4), own=st.models(cell=Leaky, max_layers=1), batch=st.sequences(4))
def test_models_take_the_sequences_of_their_vocabulary(model, own, batch):
    loss, _ = model.loss(*batch)
    assert np.isfinite(loss.item())
    assert isinstance(own.layers[0], Leaky)
    assert len(own.layers) == 1
    assert all(parameter.data.all() for parameter in model.parameters().values())


@pytest.mark.nightly
def test_everything_of_a_kind_is_drawn():
    drawn = set()

    @settings(max_examples=300)
    @given(cell=st.cells(), model=st.models(), policy=st.truncations(), optimizer=st.optimizers())
    def draw(cell, model, policy, optimizer):
        drawn.update({type(cell), (len(model.layers), model.tied), type(policy), type(optimizer)})
        assert policy.mask(4).shape == (4, 4)

    draw()
    assert drawn == {
        *(tr.RNNCell, tr.LSTMCell, tr.GRUCell, tr.Stacked),
        *((1, False), (1, True), (2, False), (2, True)),
        *(tr.Full, tr.Chunked, tr.Windowed, tr.Decay, tr.Checkpointed, tr.RTRL, tr.Randomized, tr.Adaptive),
        *(tr.SGD, tr.Momentum, tr.RMSprop, tr.Adam, tr.AdamW, tr.Adagrad, tr.Lion),
    }


@given(policy=st.truncations(tr.Chunked, tr.Windowed, max_steps=3), module=st.modules(tr.Linear, 2, H, bias=False), H=H)
def test_a_part_of_them_can_be_asked_for(policy, module, H):
    assert isinstance(policy, tr.Chunked | tr.Windowed)
    assert policy.every <= 3
    assert module.W.shape == (2, H)
    assert module.b is None


def test_noise_is_added_to_a_copy():
    cell = tr.LSTMCell(2, 3, np.random.default_rng(0))
    noisy = st.with_noise(cell, seed=1)
    assert not cell.b.data.any()
    assert noisy.b.data.all()
    assert noisy.b.dtype == np.float32
    assert np.array_equal(noisy.Wx.data, st.with_noise(cell, seed=1).Wx.data)


def test_a_counter_example_is_the_call_that_makes_it():
    @settings(max_examples=100, database=None, print_blob=False)
    @given(model=st.models(), batch=st.sequences(), policy=st.truncations(tr.Windowed))
    def four_steps(model, batch, policy):
        assert batch.inputs.shape[1] < 4

    @settings(max_examples=100, database=None, print_blob=False)
    @given(x=st.tensors(), cell=st.cells("stacked", Leaky), xs=st.sequences(features=2))
    def matrix(x, cell, xs):
        assert x.ndim < 2

    printed = counter_example(four_steps)
    assert "with_noise(RNNLM(5, 1, 1, default_rng(0), cell='rnn', layers=1, dtype='float64'), 0)" in printed
    assert "token_batch(5, 1, 4, 0)" in printed
    assert "Windowed(1, 1)" in printed
    assert "x=tensor(normal((1, 1), 0), requires_grad=True)" in counter_example(matrix)


def test_a_fault_behind_three_steps_shrinks_to_four_steps_of_size_one():
    @settings(max_examples=100, database=None)
    @given(
        xs=st.tensors(hst.tuples(N, T, D)),
        h=st.tensors(hst.tuples(N, H)),
        c=st.tensors(hst.tuples(N, H)),
        Wx=st.tensors(hst.tuples(D, H.map(lambda H: 4 * H))),
        Wh=st.tensors(hst.tuples(H, H.map(lambda H: 4 * H))),
        b=st.tensors(hst.tuples(H.map(lambda H: 4 * H))),
    )
    def check(**tensors):
        shapes.append(tensors["xs"].shape + tensors["h"].shape)
        check_grads(mutants.lstm("dh lost after 3 steps"), *tensors.values())

    shapes = []
    with pytest.raises(AssertionError):
        check()
    assert shapes[-1] == (1, 4, 1, 1, 1)


def test_from_type_knows_tensors_once_registered():
    register()

    @given(x=hst.from_type(tr.Tensor), xs=...)
    def draw(x, xs: list[tr.Tensor]):
        assert isinstance(x, tr.Tensor)
        assert all(isinstance(each, tr.Tensor) for each in xs)

    draw()


@pytest.mark.sample(1)
@pytest.mark.parametrize("order", ["import hypothesis, tinygrad_rnn", "import tinygrad_rnn, hypothesis"])
def test_hypothesis_calls_the_entry_point_of_the_project(tmp_path, order):
    """The entry point of pyproject.toml, installed for one process only."""
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["hypothesis"]
    info = tmp_path / "hook-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hook\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[hypothesis]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()))
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
{order}
from hypothesis import given, settings
print("tinygrad_rnn.testing.strategies" in sys.modules)

@settings(database=None, deadline=None, max_examples=5)
@given(...)
def check(x: tinygrad_rnn.Tensor):
    assert isinstance(x, tinygrad_rnn.Tensor)

check()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_without_hypothesis_the_error_names_the_extra():
    code = """
import sys; sys.modules["hypothesis"] = None
import tinygrad_rnn.testing  # this much works
import tinygrad_rnn.testing.strategies
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'ImportError: tinygrad_rnn.testing.strategies needs Hypothesis: pip install "tinygrad_rnn[testing]"'
    )
