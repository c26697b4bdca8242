"""Settings: every integer, number, flag and generator of every constructor is checked by one checker."""

import math
from fractions import Fraction

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn import metrics, optim
from tinygrad_rnn.checks import flag, generator, integer, number
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.data import Vocabulary, load_corpus
from tinygrad_rnn.errors import ConfigError, DTypeError
from tinygrad_rnn.exports.source import source_of_function
from tinygrad_rnn.testing import check_grads, check_primitive


def rng():
    return np.random.default_rng(0)


INTEGERS = {
    "RNNCell input_size": lambda n: tr.RNNCell(n, 4, rng()),
    "LSTMCell hidden_size": lambda n: tr.LSTMCell(3, n, rng()),
    "GRUCell hidden_size": lambda n: tr.GRUCell(3, n, rng()),
    "Linear input_size": lambda n: tr.Linear(n, 4, rng()),
    "Linear output_size": lambda n: tr.Linear(3, n, rng()),
    "Embedding vocab_size": lambda n: tr.Embedding(n, 4, rng()),
    "Embedding embedding_size": lambda n: tr.Embedding(3, n, rng()),
    "RNNLM vocab_size": lambda n: tr.RNNLM(n, 4, 4, rng()),
    "RNNLM embedding_size": lambda n: tr.RNNLM(5, n, 4, rng()),
    "RNNLM hidden_size": lambda n: tr.RNNLM(5, 4, n, rng()),
    "RNNLM layers": lambda n: tr.RNNLM(5, 4, 4, rng(), layers=n),
    "CBOW vocab_size": lambda n: tr.CBOW(n, 4, 2, rng()),
    "CBOW embedding_size": lambda n: tr.CBOW(5, n, 2, rng()),
    "CBOW window": lambda n: tr.CBOW(5, 4, n, rng()),
    "OffsetBatches batch_size": lambda n: tr.OffsetBatches(np.arange(99), n, 2),
    "OffsetBatches bptt": lambda n: tr.OffsetBatches(np.arange(99), 2, n),
    "from_tokens min_count": lambda n: Vocabulary.from_tokens(["a", "b"], n),
    "load_corpus min_count": lambda n: load_corpus("a b a b a b", "word", min_count=n),
    "load_corpus max_tokens": lambda n: load_corpus("a b a b a b", "word", max_tokens=n),
    "evaluate batch_size": lambda n: tr.evaluate(tr.RNNLM(5, 2, 2, rng()), [1, 2, 3], n, 2),
    "evaluate bptt": lambda n: tr.evaluate(tr.RNNLM(5, 2, 2, rng()), [1, 2, 3], 1, n),
    "compile max_plans": lambda n: tr.compile(lambda x: x, max_plans=n),
    "compile threads": lambda n: tr.compile(lambda x: x, threads=n),
    "Cosine total_steps": lambda n: optim.Cosine(0.1, n),
    "Warmup steps": lambda n: optim.Warmup(optim.Constant(0.1), n),
    **{
        f"TrainConfig {name}": lambda n, name=name: TrainConfig(**{name: n})
        for name in ("min_count", "hidden_size", "layers", "batch_size", "bptt", "epochs")
    },
}


NAMES = {
    "compile without": ("simplify", lambda names: tr.compile(lambda x: x, without=names).without == {"simplify"}),
    "WeightDrop names": ("Wh", lambda names: tr.WeightDrop(tr.RNNCell(3, 4, rng()), 0.5, names).names == ("Wh",)),
    "RNNCell.load names": (
        "W*",
        lambda names: tr.RNNCell(3, 4, rng()).load({"Wh": np.eye(4), "Wx": np.ones((3, 4))}, names=names),
    ),
    "export carry": (
        "state",
        lambda names: source_of_function(lambda x, state: state, (1, 2), names).carried == ("state",),
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_text_where_names_are_wanted_is_one_name(name):
    one, setting = NAMES[name]
    assert setting(one) in (True, None)
    assert setting([one]) in (True, None)
    argument = name.split()[1]
    for value, message in ((3, f"{argument} must be of type Collection, got 3"), ([3], f"each of {argument} must be")):
        with pytest.raises(ConfigError, match=message):
            setting(value)


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [0, -1, 4.0, math.nan, True, "4", None, np.float32(4), np.array([4])], ids=repr)
def test_an_integer_setting_is_an_integer_of_1_or_more(name, value):
    if name in ("load_corpus max_tokens", "compile threads") and value is None:
        return  # all tokens, and as many threads as there are cores
    with pytest.raises(ConfigError, match=rf"{name.split()[1]} must be an integer (of 1 or more|from 1 to)"):
        INTEGERS[name](value)


@pytest.mark.parametrize("name", [name for name in INTEGERS if name not in ("load_corpus max_tokens",)])
def test_numpy_integers_will_do(name):
    INTEGERS[name](np.int16(1))


NUMBERS = {
    **{
        f"{kind.__name__} {setting}": lambda x, kind=kind, setting=setting: kind(**{"lr": 0.1, setting: x})
        for kind in (optim.SGD, optim.Momentum, optim.RMSprop, optim.Adam, optim.AdamW)
        for setting in ("lr", "weight_decay")
    },
    "Momentum momentum": lambda x: optim.Momentum(0.1, x),
    "RMSprop alpha": lambda x: optim.RMSprop(0.1, alpha=x),
    "RMSprop eps": lambda x: optim.RMSprop(0.1, eps=x),
    "Adam betas[0]": lambda x: optim.Adam(0.1, betas=(x, 0.9)),
    "AdamW betas[1]": lambda x: optim.AdamW(0.1, betas=(0.9, x)),
    "Adam eps": lambda x: optim.Adam(0.1, eps=x),
    "Constant lr": lambda x: optim.Constant(x),
    "Plateau lr": lambda x: optim.Plateau(x),
    "Plateau factor": lambda x: optim.Plateau(0.1, x),
    "Cosine lr": lambda x: optim.Cosine(x, 10),
    "Cosine floor": lambda x: optim.Cosine(0.1, 10, x),
    "Dropout p": lambda x: tr.Dropout(x),
    "RNNLM p": lambda x: tr.RNNLM(5, 4, 4, rng(), dropout=x),
    "Embedding scale": lambda x: tr.Embedding(5, 4, rng(), scale=x),
    "load_corpus held_out": lambda x: load_corpus("a b " * 40, "word", held_out=x),
    **{
        f"TrainConfig {name}": lambda x, name=name: TrainConfig(**{name: x})
        for name in ("held_out", "dropout", "lr", "weight_decay", "clip")
    },
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "0.1", None, 10**400, 1j, np.array([0.1])], ids=repr)
def test_a_number_is_finite_and_in_range(name, value):
    setting = name.split()[1].replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ConfigError, match=rf"{setting} must be a (finite )?number"):
        NUMBERS[name](value)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [np.float32(0.0625), np.float64(0.0625), Fraction(1, 16)])
def test_every_kind_of_real_number_will_do(name, value):
    NUMBERS[name](value)


MAKERS = {
    "RNNCell": lambda r: tr.RNNCell(3, 4, r),
    "Linear": lambda r: tr.Linear(3, 4, r),
    "Embedding": lambda r: tr.Embedding(3, 4, r),
    "RNNLM": lambda r: tr.RNNLM(5, 4, 4, r),
    "Dropout": lambda r: tr.Dropout(0.5)(np.ones(3), r),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("value", [0, "seed", np.random, np.random.RandomState(0)], ids=lambda v: type(v).__name__)
def test_a_seed_is_not_a_generator(name, value):
    with pytest.raises(ConfigError, match=rf"{name}: rng must be a numpy.random.Generator.*default_rng\("):
        MAKERS[name](value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.Momentum(0.1, nesterov="no"),
        lambda: tr.RNNLM(5, 4, 4, rng(), tied="false"),
        lambda: tr.Linear(3, 4, rng(), bias="false"),
        lambda: tr.OffsetBatches(np.arange(9), 1, 2, drop_last="no"),
        lambda: TrainConfig(tied=1),
    ],
)
def test_a_text_is_not_a_flag(make):
    with pytest.raises(ConfigError, match="must be true or false, got"):
        make()


def test_what_the_checkers_return():
    found = integer("f", "n", np.uint8(3)), number("f", "x", 3), number("f", "x", math.inf, infinite=True)
    assert found == (3, 3.0, math.inf)
    assert [type(part) for part in found] == [int, float, float]
    assert flag("f", "on", False) is False
    assert flag("f", "on", np.True_) is True
    assert generator("f", "rng", own := rng()) is own


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: integer("f", "n", 0), "f: n must be an integer of 1 or more, got 0"),
        (lambda: integer("f", "n", 9, 0, 3), "f: n must be an integer from 0 to 3, got 9"),
        (lambda: integer("", "n", "3"), "n must be an integer of 1 or more, got '3' (str)"),
        (lambda: number("f", "x", math.nan), "f: x must be a finite number, got nan"),
        (lambda: number("f", "x", 0.0, low=0, above=True), "f: x must be a finite number above 0, got 0.0"),
        (lambda: number("f", "x", 1, low=0, high=1, below=True), "f: x must be a number in [0, 1), got 1"),
        (lambda: number("f", "x", -math.inf, infinite=True, low=0), "f: x must be a number of 0 or more, got -inf"),
    ],
)
def test_the_message_says_what_is_allowed(call, message):
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value) == message


X = np.ones((2, 3))


def a_sum(x):
    return tr.sum(x * x)


def a_leaf():
    return tr.parameter(X)


def a_loss():
    return a_sum(a_leaf())


def a_trainer(**given):
    model = tr.SequenceModel("rnn", 3, 4, 2, rng())
    return tr.Trainer(model, lambda model, batch: None, [], optimizer=tr.SGD(0.1), epochs=1, **given)


def an_assignment(requires_grad):
    tr.tensor(X).requires_grad = requires_grad


def differentiated(**given):
    leaf = a_leaf()
    return tr.grad(a_sum(leaf), leaf, **given)


# A function of one argument, its name, and values of a wrong kind that would otherwise count as something else.
OTHERS = {
    "at_step": (tr.at_step, "step", ["1", 1.5, True, -1]),
    "grad": (differentiated, "create_graph", ["no", 1, None]),
    "grad of leaves that are not used": (differentiated, "allow_unused", ["no", 1, None]),
    "vjp": (lambda **given: tr.vjp(a_sum, X, **given), "create_graph", ["no", 1]),
    "jvp": (lambda **given: tr.jvp(a_sum, (X,), (X,), **given), "create_graph", ["no", 1]),
    "hvp": (lambda **given: tr.hvp(a_sum, (X,), (X,), **given), "create_graph", ["no", 1]),
    "jacobian": (lambda **given: tr.jacobian(a_sum, X, **given), "create_graph", ["no", 1]),
    "tensor": (lambda **given: tr.tensor(X, **given), "requires_grad", ["no", 1, None]),
    "requires_grad": (an_assignment, "requires_grad", ["no", 1, None]),
    "a name": (lambda **given: tr.parameter(X, **given), "name", [5, b"x"]),
    "backward": (lambda **given: a_loss().backward(**given), "retain_graph", ["no", 1, None]),
    "primitive": (lambda **given: tr.primitive(**given)(lambda x, /: x), "analytic", ["no", 1, None]),
    "several outputs": (lambda **given: tr.primitive(**given)(lambda x, /: x), "multiple", ["no", 1, None]),
    "rule": (tr.primitive()(lambda x, /: x).rule, "keep", [5, None]),
    "compile": (lambda **given: tr.compile(a_sum, **given), "without", [5, True]),
    "load": (lambda **given: tr.Linear(2, 1, rng()).load({}, **given), "strict", ["no", 1, None]),
    "some names": (lambda **given: tr.Linear(2, 1, rng()).load({}, **given), "names", [5, True]),
    "scan": (lambda **given: tr.scan(lambda x, s: (x, s), X, X, **given), "axis", ["1", 1.5, True]),
    "cross entropy of yes": (
        lambda **given: tr.binary_cross_entropy(X, X, **given),
        "ignore_label",
        ["1", True, None, math.nan],
    ),
    "accuracy": (lambda **given: metrics.accuracy(X, [0, 1], **given), "ignore_label", ["1", 1.5, True]),
    "pad_sequences": (lambda **given: tr.pad_sequences([[1], [1, 2]], **given), "value", ["1", None, 1j]),
    "check_grads": (lambda **given: check_grads(a_sum, X, **given), "seed", ["1", 1.5, True, -1]),
    "check_grads of all": (lambda **given: check_grads(a_sum, X, **given), "full", [1, "x"]),
    "check_grads twice": (lambda **given: check_grads(a_sum, X, **given), "order", ["1", True, 3]),
    "check_grads unused": (lambda **given: check_grads(a_sum, X, **given), "allow_unused", ["no", 1]),
    "check_primitive": (lambda **given: check_primitive(tr.tanh, X, **given), "seed", ["1", 1.5, True]),
    "Trainer": (a_trainer, "maximize", ["no", 1, None]),
    "Trainer's monitor": (a_trainer, "monitor", [5, None]),
    "Trainer's bar": (a_trainer, "progress", ["no", 1, None]),
    "Trainer's metrics": (a_trainer, "metrics", [5, [1]]),
    "plot_gradient_flow": (lambda **given: tr.plot_gradient_flow(a_loss(), **given), "losses", ["first", 5]),
    "grade": (lambda number: tr.grade(number, {}), "number", ["1", 1.5, True]),
}


@pytest.mark.parametrize(
    ("function", "argument", "wrong"),
    [(function, argument, wrong) for function, argument, values in OTHERS.values() for wrong in values],
    ids=[f"{name}-{wrong!r}" for name, (_, _, values) in OTHERS.items() for wrong in values],
)
def test_an_argument_of_a_wrong_kind_is_named(function, argument, wrong):
    """Without a check True would be step 1, "no" would count as yes, and 5 would fail far from its call."""
    with pytest.raises((ConfigError, DTypeError), match=rf"\b{argument} must be .*, (the axis of time, )?got"):
        function(**{argument: wrong})
