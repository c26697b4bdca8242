"""save and load of any module: what comes back, what is refused, and that nothing is executed."""

import copy
import json
import pickle
import zipfile

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.optim import Adam
from tinygrad_rnn.training.files.archive import write_archive
from tinygrad_rnn.training.files.modules import MODULE
from tinygrad_rnn.training.language.modelfile import init_from

RNG = np.random.default_rng


class Encoder(tr.Module):
    """A module with all kinds of arguments and of attributes."""

    buffers = ("mean", "steps")

    def __init__(self, cell, size, *, kind=tr.RNNCell, dtype=np.float32, mean=None, names=("a", "b"), rng):
        self.cell = cell
        self.extra = {"one": kind(size, size, rng), "several": [tr.Linear(size, 2, rng, dtype) for _ in names]}
        self.mean = np.zeros(3) if mean is None else mean
        self.steps = np.array(7)


class Wrapped(tr.Module):
    def __init__(self, function):
        self.function, self.w = function, tr.parameter([1.0])


class Grows(tr.Module):
    def __init__(self):
        self.w = tr.parameter([1.0])


def encoder(seed=0):
    return Encoder(
        tr.LSTMCell(3, 4, RNG(seed)), 4, kind=tr.GRUCell, dtype=np.dtype("float64"), mean=np.arange(3.0),
        names=["x", "y", ("z", 1.5, None, True)], rng=RNG(seed + 1),
    )  # fmt: skip


def assert_same(one, other):
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    for name, array in a.items():
        assert array.dtype == b[name].dtype
        np.testing.assert_array_equal(array, b[name])


def test_any_module_comes_back(tmp_path):
    module = encoder()
    module.steps[...] = 11
    module.cell.b.requires_grad = False
    for p in module.parameters().values():
        p.data = p.data + 1
    tr.save(tmp_path / "m.npz", module)
    again = tr.load(tmp_path / "m.npz")
    assert type(again) is Encoder
    assert_same(again, module)
    assert list(again.parameters()) == list(module.parameters())
    assert again.cell.b.is_frozen
    tr.save(tmp_path / "again.npz", again)  # and can be saved again
    assert_same(tr.load(tmp_path / "again.npz"), module)


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell", "Linear"])
def test_what_is_built_in(tmp_path, name):
    module = getattr(tr, name)(3, 4, RNG(0))
    tr.save(tmp_path / "m.npz", module)
    assert_same(tr.load(tmp_path / "m.npz"), module)


def test_a_language_model_is_a_module_too(tmp_path):
    model = tr.RNNLM(7, 4, 4, RNG(0), cell="gru", layers=2, tied=True, dropout=0.5)
    tr.save(tmp_path / "m.npz", model)
    again = tr.load(tmp_path / "m.npz")
    assert_same(again, model)
    ids = np.array([[1, 2, 3]])
    np.testing.assert_array_equal(model(ids)[0].data, again(ids)[0].data)


def test_the_optimizer_goes_along(tmp_path):
    module, optimizer = tr.Linear(2, 1, RNG(0)), Adam(0.1)
    for _ in range(3):
        optimizer.update(module.parameters(), {"W": np.ones((2, 1)), "b": np.ones(1)})
    tr.save(tmp_path / "m.npz", module, optimizer=optimizer)
    other = Adam(0.1)
    tr.load(tmp_path / "m.npz", optimizer=other)
    assert other.steps == 3
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name])
    tr.save(tmp_path / "m.npz", module)
    with pytest.raises(tr.ModelFileError, match="holds no optimizer"):
        tr.load(tmp_path / "m.npz", optimizer=other)


def test_a_part_by_name(tmp_path):
    old, new = encoder(0), encoder(5)
    tr.save(tmp_path / "m.npz", old)
    before = new.state_dict()
    assert tr.load(tmp_path / "m.npz", into=new, names=["cell.*", "mean"]) is new
    for name, array in new.state_dict().items():
        expected = old.state_dict() if name.startswith("cell.") or name == "mean" else before
        np.testing.assert_array_equal(array, expected[name])
    for wrong in (["cell.*", "encoder.*"], "encoder.*"):  # of no array; one alone is no list of letters
        with pytest.raises(tr.ShapeError, match="among names match no array; there are"):
            tr.load(tmp_path / "m.npz", into=new, names=wrong)
    smaller = tr.LSTMCell(3, 4, RNG(0))
    with pytest.raises(tr.ShapeError, match="missing parameters .*unknown parameters"):
        smaller.load(old.state_dict())
    smaller.load(old.state_dict() | {"b": np.ones(16)}, strict=False)
    np.testing.assert_array_equal(smaller.b.data, 1)
    with pytest.raises(tr.ShapeError, match="b has shape"):
        smaller.load({"b": np.ones(3)}, strict=False)


def local():
    class Hidden(tr.Module):
        pass

    return Hidden()


def grown():
    module = Grows()
    module.more = tr.parameter([2.0])
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (local, "the class local.<locals>.Hidden must be a Module at the top of a Python module"),
        (
            lambda: Wrapped(print),
            "arguments.function is of type builtin_function_or_method, which cannot be written",
        ),
        (lambda: Wrapped(int), "the class int must be a Module"),
        (lambda: Wrapped({"a": [object()]}), "arguments.function.a.0 is of type object"),
        (lambda: Wrapped(np.array([object()])), "arguments.function is an array of objects"),
        (grown, r"made with the same arguments has other arrays \(more\)"),
    ],
)
def test_what_no_file_can_hold_is_named(tmp_path, module, message):
    with pytest.raises(tr.ConfigError, match=message):
        tr.save(tmp_path / "m.npz", module())
    assert list(tmp_path.iterdir()) == []


def test_arguments_can_be_given_by_hand(tmp_path):
    module = Wrapped(print)
    tr.save(tmp_path / "m.npz", module, arguments={"function": "print"})
    assert tr.load(tmp_path / "m.npz").function == "print"


def test_copies_and_pickles(tmp_path):
    module = encoder()
    again = copy.deepcopy(module)
    assert_same(again, module)
    again.cell.b.data = again.cell.b.data + 1
    assert not np.array_equal(again.cell.b.data, module.cell.b.data)
    assert_same(pickle.loads(pickle.dumps(module)), module)
    cell = pickle.loads(pickle.dumps(tr.GRUCell(2, 3, RNG(0))))  # made with what is plain: it can be saved too
    tr.save(tmp_path / "c.npz", cell)
    assert_same(tr.load(tmp_path / "c.npz"), cell)
    with pytest.raises(tr.ConfigError, match="the arguments that this Wrapped was made with are unknown"):
        tr.save(tmp_path / "m.npz", pickle.loads(pickle.dumps(Wrapped(print))))
    tr.save(tmp_path / "m.npz", again)
    assert_same(tr.load(tmp_path / "m.npz"), again)


def forged(path, change):
    """A file whose manifest says something else."""
    module = tr.Linear(2, 1, RNG(0))
    code = {"class": "tinygrad_rnn.nn.layers:Linear", "args": [2, 1], "kwargs": {}, "frozen": []}
    change(code)
    write_archive(path, MODULE, {"module": code, "optimizer": None, "state": ["W", "b"]}, module.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda code: code.__setitem__("class", "os:system"), "os:system is not a Module; other classes are not"),
        (lambda code: code.__setitem__("class", "no_such_module_here:X"), "importing 'no_such_module_here' raised"),
        (lambda code: code["args"].append({"class": "os:system"}), "os:system is not a Module"),
        (lambda code: code["args"].append({"pickle": "x"}), "holds a pickle, which this version does not know"),
        (lambda code: code["args"].append({"generator": {"dict": [["bit_generator", "seed"]]}}), "unknown generator"),
        (lambda code: code["args"].append(3), "could not be made with the arguments in the file"),
    ],
)
def test_a_file_calls_nothing_but_modules(tmp_path, change, message):
    forged(tmp_path / "m.npz", change)
    with pytest.raises(tr.ConfigError, match=message):
        tr.load(tmp_path / "m.npz")


def test_into_imports_nothing(tmp_path):
    forged(tmp_path / "m.npz", lambda code: code.__setitem__("class", "os:system"))
    module = tr.Linear(2, 1, RNG(3))
    tr.load(tmp_path / "m.npz", into=module)
    np.testing.assert_array_equal(module.W.data, tr.Linear(2, 1, RNG(0)).W.data)


def test_damage_is_found(tmp_path):
    tr.save(tmp_path / "m.npz", encoder())
    content = (tmp_path / "m.npz").read_bytes()
    rng = RNG(0)
    for _ in range(100):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        (tmp_path / "d.npz").write_bytes(damaged)
        try:
            again = tr.load(tmp_path / "d.npz")
        except tr.ModelFileError:
            continue
        assert_same(again, encoder())  # the bit is one that nobody reads
    (tmp_path / "d.npz").write_bytes(content[:-40])
    with pytest.raises(tr.ModelFileError, match="damaged"):
        tr.load(tmp_path / "d.npz")


def test_files_of_another_kind(tmp_path):
    train, _ = tr.load_corpus("to be or not to be\n" * 9, "word")
    config = tr.TrainConfig(hidden_size=4)
    model = tr.RNNLM(len(train.vocabulary), 4, 4, RNG(0), cell="lstm")
    tr.save_model(tmp_path / "lm.npz", model, config, train.vocabulary)
    with pytest.raises(tr.ModelFileError, match="use load_model"):
        tr.load(tmp_path / "lm.npz")
    other = tr.RNNLM(len(train.vocabulary), 4, 4, RNG(1), cell="lstm")
    assert_same(tr.load(tmp_path / "lm.npz", into=other), model)
    tr.save(tmp_path / "m.npz", model)
    with pytest.raises(tr.ModelFileError, match="its manifest is of another format"):
        tr.load_model(tmp_path / "m.npz")
    with zipfile.ZipFile(tmp_path / "m.npz") as archive:
        manifest = json.loads(np.lib.format.read_array(archive.open("manifest.npy")).tobytes())
    assert manifest["module"]["class"] == "tinygrad_rnn.nn.models:RNNLM"


@pytest.mark.parametrize("tied", [True, False])
def test_weights_follow_their_tokens_into_another_vocabulary(tmp_path, tied):
    old, _ = tr.load_corpus("to be or not to be that is\n" * 9, "word")
    new, _ = tr.load_corpus("that is what to be means\n" * 9, "word")
    config = tr.TrainConfig(hidden_size=4, tied=tied)
    source = tr.RNNLM(len(old.vocabulary), 4, 4, RNG(0), cell="lstm", tied=tied)
    for p in source.parameters().values():
        p.data = RNG(1).standard_normal(p.shape)
    tr.save_model(tmp_path / "lm.npz", source, config, old.vocabulary)
    model = tr.RNNLM(len(new.vocabulary), 4, 4, RNG(2), cell="lstm", tied=tied)
    before = model.embedding.W.data
    assert init_from(tmp_path / "lm.npz", model, new.vocabulary) == []
    np.testing.assert_array_equal(model.layers[0].Wh.data, source.layers[0].Wh.data)
    for place, token in enumerate(new.vocabulary.tokens):
        there = token in old.vocabulary
        expected = source.embedding.W.data[old.vocabulary.encode([token])[0]] if there else before[place]
        np.testing.assert_array_equal(model.embedding.W.data[place], expected)
        if there:
            column = old.vocabulary.encode([token])[0]
            if tied:
                assert model.output.data[place] == source.output.data[column]
            else:
                np.testing.assert_array_equal(model.output.W.data[:, place], source.output.W.data[:, column])
    larger = tr.RNNLM(len(new.vocabulary), 4, 8, RNG(2), cell="lstm")
    assert "layers.0.Wh" in init_from(tmp_path / "lm.npz", larger, new.vocabulary)
    with pytest.raises(tr.ModelFileError, match="holds no array with a name and shape"):
        init_from(tmp_path / "lm.npz", tr.Linear(99, 98, RNG(0)), new.vocabulary)
