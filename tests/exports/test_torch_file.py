"""Files of PyTorch code: run by PyTorch, they compute what the executor computes."""

import importlib.util
import keyword

import numpy as np
import pytest
from c_programs import LeakyCell

import tinygrad_rnn as tr
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.exports.torchnames import Names
from tinygrad_rnn.training import SavedModel, make_model

pytest.importorskip("safetensors")
RNG = np.random.default_rng
V, D, H = 9, 5, 8


MODELS = {
    "rnn": lambda: tr.RNNLM(V, D, H, RNG(0)),
    "relu": lambda: tr.RNNLM(V, D, H, RNG(0), nonlinearity="relu", bias=False),
    "lstm": lambda: tr.RNNLM(V, D, H, RNG(0), cell="lstm"),
    "gru": lambda: tr.RNNLM(V, D, H, RNG(0), cell="gru"),
    "two layers": lambda: tr.RNNLM(V, H, H, RNG(0), cell="lstm", layers=2, tied=True, dropout=0.5),
    "projected": lambda: tr.RNNLM(V, D, H, RNG(0), cell="lstm", layers=2, proj_size=3),
    "projected to as many": lambda: tr.RNNLM(V, D, H, RNG(0), cell="lstm", proj_size=H),
    "float64": lambda: tr.RNNLM(V, D, H, RNG(0), cell="gru", dtype=np.float64),
    "a user's cell": lambda: tr.RNNLM(V, D, H, RNG(0), cell=LeakyCell),
    "lru": lambda: tr.RNNLM(V, D, H, RNG(0), cell=tr.LRUCell, layers=2),
    "gru of the paper": lambda: tr.RNNLM(V, D, H, RNG(0), cell="gru", reset="before"),
    "normalized": lambda: tr.RNNLM(V, D, H, RNG(0), cell=tr.LayerNormLSTMCell, dtype=np.float64),
}
LAYERS = ("rnn", "relu", "lstm", "gru", "two layers", "projected", "float64")
STREAMED = ("rnn", "lstm", "gru", "two layers", "a user's cell", "lru")


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch", reason="PyTorch is for development only")
    torch.set_num_threads(1)  # two wait for each other on a busy machine
    return torch


def imported(path):
    spec = importlib.util.spec_from_file_location("exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shuffled(model):
    rng = RNG(3)
    for p in model.parameters().values():
        p.data = p.data + 0.1 * rng.standard_normal(p.shape)
    return model


def streamed(torch, name, path, steps):
    """Return the largest difference over so many steps, one at a time, relative to the largest logit."""
    model = shuffled(MODELS[name]())
    code, _ = tr.export(model, path)
    theirs, stepper, before, state = imported(code).load(), tr.Stepper(model), None, None
    ids = RNG(1).integers(0, V, steps)
    worst = largest = 0.0
    with torch.no_grad():
        for i in ids:
            ours, before = stepper(np.array([i]), before)
            x = torch.tensor([[i]] if name in LAYERS else [i])
            y, state = theirs(x, state)
            worst = max(worst, np.abs(ours - y.numpy().reshape(ours.shape)).max())
            largest = max(largest, np.abs(ours).max())
    return worst / largest


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", MODELS)
def test_streamed_steps(torch, tmp_path, name):
    assert streamed(torch, name, tmp_path / "lm.py", 100) < {"float64": 1e-12, "normalized": 1e-10}.get(name, 1e-5)


@pytest.mark.nightly
@pytest.mark.parametrize("name", STREAMED)
def test_ten_thousand_streamed_steps(torch, tmp_path, name):
    assert streamed(torch, name, tmp_path / "lm.py", 10_000) < 1e-5


@pytest.mark.parametrize("name", ["a user's cell", "lru"])
def test_a_window_with_its_loop_over_time(torch, tmp_path, name):
    model = shuffled(MODELS[name]())
    code, _ = tr.export(model, tmp_path / "lm.py", streams=2, steps=4)
    ids = RNG(1).integers(0, V, (2, 8))
    ours, _ = model(ids)
    theirs = imported(code).load()
    first, state = theirs(torch.tensor(ids[:, :4]))
    second, _ = theirs(torch.tensor(ids[:, 4:]), state)
    np.testing.assert_allclose(torch.cat((first, second), 1).detach().numpy(), ours.data, atol=1e-5)


def test_pytorch_trains_what_was_recorded(torch, tmp_path):
    model = shuffled(MODELS["a user's cell"]())
    code, _ = tr.export(model, tmp_path / "lm.py", streams=2, steps=4)
    ids, targets = RNG(1).integers(0, V, (2, 2, 4))
    theirs = imported(code).load()
    logits, _ = theirs(torch.tensor(ids))
    torch.nn.functional.cross_entropy(logits.reshape(-1, V), torch.tensor(targets).reshape(-1)).backward()
    found = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    for name, gradient in tr.grad(model.loss(ids, targets)[0], model.parameters()).items():
        np.testing.assert_allclose(found[name.replace(".", "_")], gradient, atol=1e-6, err_msg=name)


# fmt: off
def every_function(x, i, m):
    """Functions of each kind, from which the calls of a cell are made."""
    positive = np.abs(x) + 0.5
    return (
        np.reshape(x, (6, -1)) @ np.ones((4, 2), np.float32), np.transpose(x, (1, 0, 2)), np.squeeze(x[:, :1], 1),
        np.concatenate([x, x], 1), np.stack([x, x], -1), np.sum(x, axis=(0, 1)), np.mean(x, axis=-1, keepdims=True),
        np.max(x, axis=1), np.min(x), np.prod(x, 1), np.cumsum(x, axis=1), np.cumprod(x, axis=1), tr.softmax(x),
        tr.logsumexp(x, axis=-1), tr.log_softmax(x), tr.take(x, i, axis=1), np.take_along_axis(x, i[:, :, None], 1),
        x[..., ::2], x[i], np.where(m, x, 0), tr.where(m, 1.0, 0.0), np.clip(x, 0, 1), np.maximum(x, x[0]), x**2, 2**x,
        x / 3 - 1, tr.einsum("nij,nkj->nik", x, x), np.tile(x, 2), np.roll(x, 1, 0), tr.unstack(x)[1], np.sign(x),
        np.split(x, (1, 3), axis=2)[1], tr.softplus(30 * x), np.sqrt(positive), np.log1p(positive), np.log2(positive),
        np.exp(x), np.expm1(x), np.rint(3 * x), np.floor(x), np.arctan2(x, positive), np.hypot(x, positive), np.cbrt(x),
        np.arcsinh(x), np.fmod(x, positive), np.remainder(x, positive), np.logaddexp(x, 0), tr.relu(x), tr.sigmoid(x),
        tr.astype(x, np.float64) / 3, np.linalg.norm(x), np.std(x), x * np.inf > 1, np.isfinite(x), i / 3,
        np.logical_and(x > 0, x < 1), x + np.arange(4.0), tr.linear_scan(x, x), np.flip(x), x[::-2, None, ..., 2:0:-1],
        x[..., 0:3:-1, :], x[i, ::-1], x[np.array([1, 0])], x.T, np.transpose(x) * 2, np.pad(x, (1, 2)),
        np.pad(x, ((0, 0), (2, 0), (0, 0)), constant_values=-1), np.diag(x[0, 0], 1), np.diag(x[0, :, 0]) @ x[1],
    )
# fmt: on


def test_every_function(torch, tmp_path):
    x = RNG(0).standard_normal((2, 3, 4)).astype(np.float32)
    i, m = np.array([[0, 1], [1, 0]]), RNG(1).random((3, 4)) > 0.5
    code, _ = tr.export(every_function, tmp_path / "f.py", x, i, m)
    found = imported(code).load()(*map(torch.tensor, (x, i, m)))
    expected = tr.compile(every_function, executor="numpy")(x, i, m)
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert (a.detach().numpy().dtype, tuple(a.shape)) == (b.dtype, b.shape), number
        np.testing.assert_allclose(a.detach().numpy(), b, rtol=2e-6, atol=2e-6, err_msg=str(number))


def ends(x, i, m):
    """Python numbers as operands, and values for which PyTorch's own functions are others."""
    loss = np.sum(np.heaviside(x, 0.5)) + np.sum(np.logaddexp(x, 0))
    return (-2.0) ** x, -(2.0**x), (-2) ** np.abs(i), np.sign(x), np.heaviside(x, 0.5), np.cbrt(x), tr.grad(loss, x)


def whole(x, i, m):
    """Functions of bits and of truth values."""
    return i & 3, i | 1, ~i, 5 ^ i, m & 3, m | 4, m ^ 3, m ^ m, ~m, np.logical_and(i, 2), np.floor(m), np.rint(i)


def of_no_axes(x, i, m):
    """Reductions over no axes at all; PyTorch takes dim=() for all of them."""
    kept = [np.sum(x, axis=()), np.mean(x, axis=(), keepdims=True), np.max(x, axis=()), tr.logsumexp(x, axis=())]
    return *kept, np.sum(m, axis=()), np.var(x, axis=())


def unused_state(x, i, m):
    """A loop of which nothing is needed."""
    return tr.scan(lambda x, total: (x, total + x), np.zeros(()), x, axis=0)[0]


def two_dtypes(x, i, m):
    """Comparisons of whole numbers with real ones, and logarithms of probabilities of whole numbers."""
    narrow, large = np.astype(x, np.float32) * 0 + 2**24, np.astype(i, np.int32) + 2**24
    return large == narrow, large <= narrow, large > 2.0**24, tr.log_softmax(i), tr.softmax(i), m == i


@pytest.mark.parametrize("f", [ends, whole, of_no_axes, unused_state, two_dtypes])
def test_numbers_as_operands_and_values_at_the_ends(torch, tmp_path, f):
    x = np.array([0, -0.0, 3, -2, np.nan, np.inf, -np.inf])
    i, m = np.array([0, 1, -1, 2, 5, -6, 7]), np.array([1, 0, 1, 1, 0, 0, 1], bool)
    code, _ = tr.export(f, tmp_path / "f.py", tr.tensor(x, requires_grad=True), i, m)
    found = imported(code).load()(*map(torch.tensor, (x, i, m)))
    with np.errstate(invalid="ignore"):
        expected = tr.compile(f, executor="numpy")(tr.tensor(x, requires_grad=True), i, m)
    found, expected = ([x] if isinstance(x, np.ndarray | torch.Tensor) else x for x in (found, expected))
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-14, err_msg=str(number), strict=True)


def test_gradients_of_indices(torch, tmp_path):
    def f(x):
        rows = np.array([[0, 2, 0], [1, 1, 2]])
        loss = (
            np.sum(x[1, 1:] ** 2)
            + np.sum(np.tanh(x[::2, ::-1]))
            + np.sum(x[rows, rows - 1] ** 3)
            + np.sum(x[None, ..., 0] ** 4)
        )
        return tr.grad(loss, x)

    x = tr.tensor(RNG(0).standard_normal((3, 4)), requires_grad=True)
    code, _ = tr.export(f, tmp_path / "f.py", x)
    np.testing.assert_allclose(imported(code).load()(torch.tensor(x.data)).numpy(), f(x), rtol=1e-12)


def test_the_gradient_of_an_index_that_is_an_input_is_refused(tmp_path):
    def f(x, i):
        return tr.grad(np.sum(x[i, i] ** 2), x)

    x = tr.tensor(np.ones((3, 4)), requires_grad=True)
    with pytest.raises(
        tr.UnsupportedError, match="PyTorch's code has the gradient of an index only where the index is"
    ):
        tr.export(f, tmp_path / "f.py", x, np.array([0, 2]))


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_sequences_of_different_lengths(torch, tmp_path, dtype):
    model = shuffled(tr.SequenceModel("gru", D, H, 2, RNG(0), last=True, bidirectional=True))

    def read(xs, lengths):
        return model(xs, lengths=lengths)

    xs = RNG(1).standard_normal((3, 6, D)).astype(np.float32)
    code, _ = tr.export(read, tmp_path / "read.py", xs, np.array([6, 1, 4], dtype))
    theirs = imported(code).load()
    for lengths in ([6, 1, 4], [2, 3, 5], [1, 1, 1]):
        ours = read(xs, np.array(lengths, dtype))
        found = theirs(torch.tensor(xs), torch.tensor(np.array(lengths, dtype)))
        np.testing.assert_allclose(found.detach().numpy(), ours.data, atol=1e-6)


class Awkward(tr.Module):
    """A cell whose parameters have names that code or PyTorch uses."""

    output_size = input_size = 2
    names = ('";drop', "int", "forward", "state_dict", "v1", "class", "x\ny", "x", "'''", '"""\nimport os\n"""', "é")

    def __init__(self):
        for number, name in enumerate(self.names):
            setattr(self, name, tr.parameter(np.full(2, number + 1.0, np.float32)))

    def initial_state(self, batch_size):
        return {'"]): pass #': np.zeros((batch_size, 2), np.float32)}

    def __call__(self, x, state):
        ((key, h),) = state.items()
        for name in self.names:
            h = h + x * getattr(self, name)
        return h, {key: h}


def test_names_are_escaped(tmp_path):
    code, weights = tr.export(Awkward(), tmp_path / 'it\'s """ {a} \\n.py')
    text = code.read_text(encoding="utf-8")
    compile(text, code, "exec")
    assert text.isascii()
    assert weights.is_file()
    torch = pytest.importorskip("torch", reason="PyTorch is for development only")
    y, (state,) = imported(code).load()(torch.ones(1, 2))
    np.testing.assert_array_equal(y.detach().numpy(), np.full((1, 2), 66.0))
    np.testing.assert_array_equal(state.detach().numpy(), y.detach().numpy())


def test_identifiers():
    names = Names()
    made = [names.new(name) for name in ["a.b", "a_b", "a b", "1", "", "None", "self", "print", "v1", "für"]]
    assert len(set(made)) == len(made)
    assert all(name.isidentifier() and not keyword.iskeyword(name) for name in made)
    assert not {"None", "print"} & set(made)
    assert names.result() == "v1_2"


def test_a_language_model_brings_its_vocabulary(torch, tmp_path):
    vocabulary = tr.Vocabulary(["<unk>", '"', "\n", "ü"])
    config = TrainConfig(hidden_size=3, cell="lstm")
    code, _ = tr.export(SavedModel(make_model(config, 4), config, vocabulary), tmp_path / "lm.py")
    assert imported(code).vocabulary() == vocabulary.to_list()


def test_damaged_weights_are_refused(torch, tmp_path):
    code, weights = tr.export(MODELS["rnn"](), tmp_path / "lm.py")
    module, content, rng = imported(code), weights.read_bytes(), RNG(0)
    module.load()
    for place in rng.integers(0, len(content), 200):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        weights.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged, or not what belongs"):
            module.load()


def sorted_up(x):
    return np.sort(x)


@tr.primitive()
def doubled(x, /):
    return 2 * x


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (sorted_up, "nothing for 'argsort'"),
        (doubled, r"nothing for '.*doubled'"),
    ],
)
def test_what_it_does_not_write(tmp_path, function, message):
    with pytest.raises(tr.UnsupportedError, match=message):
        tr.export(function, tmp_path / "f.py", np.ones(3))
    assert list(tmp_path.iterdir()) == []


def test_another_ending(tmp_path):
    with pytest.raises(tr.ConfigError, match=r"is a \.py file, got 'f\.txt'"):
        tr.export(doubled, tmp_path / "f.txt", np.ones(3), to="torch")
