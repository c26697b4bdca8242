"""Parameters by name, and a warning that names what looks like one and is not trained."""

import copy
import warnings
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_rnn as tr


def module(**attributes):
    made = type("Made", (tr.Module,), {"__init__": lambda self: None})()
    vars(made).update(attributes)
    return made


def heard(made):
    """Return what `parameters` warns of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        made.parameters()
    assert all(one.category is tr.GradientWarning for one in found)
    return [str(one.message) for one in found]


def test_a_parameter_is_a_leaf_that_requires_a_gradient():
    w = tr.parameter(np.ones((2, 3)), np.float32, "w")
    assert (w.requires_grad, w.is_leaf, w.dtype, w.name, w.shape) == (True, True, np.float32, "w", (2, 3))
    assert tr.parameter([1.0]).dtype == np.float64
    with pytest.raises(tr.DTypeError, match="expected a floating point dtype, got int64"):
        tr.parameter([1, 2])


class InSlots(tr.Module):
    __slots__ = ("a",)

    def __init__(self):
        self.a = tr.parameter([1.0])


class OfClass(tr.Module):
    a = tr.parameter([1.0])


@pytest.mark.parametrize(
    "value",
    [
        {1: tr.parameter([1.0]), "1": tr.parameter([2.0])},
        {"a.b": tr.parameter([1.0]), "a": {"b": tr.parameter([2.0])}},
        {1: np.ones(2), "1": np.ones(3)},
    ],
)
def test_two_of_one_name_are_an_error(value):
    for use in (tr.Module.parameters, tr.Module.state_dict, tr.Module.parameter_count):
        with pytest.raises(tr.ShapeError, match=r"Made: two arrays have the name 'W\.(1|a\.b)'.*choose other keys"):
            use(module(W=value))


def test_a_parameter_that_is_found_elsewhere_is_not_named():
    w = tr.parameter([1.0])
    assert heard(module(a=SimpleNamespace(w=w), b={w}, w=w)) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.ones((2, 3)), r"Made.W is an array of shape \(2, 3\): nothing trains it. Make a weight with parameter"),
        (np.ones(2, np.float16), "is an array"),
        (np.ones(2, complex), "is an array"),
        (tr.tensor([1.0]), r"Made.W is a Tensor of shape \(1,\) without requires_grad: .*buffers = \('W',\)"),
        (tr.parameter([1.0]) * 0.1, r"Made.W is a result of shape \(1,\) \(of multiply\), no leaf"),
        ([tr.parameter([1.0]), tr.tensor([1.0])], "Made.W is a Tensor"),
        ({"a": (np.ones(3),)}, "Made.W is an array"),
        (module(b=module(c=np.ones(3))), "Made.c is an array"),
        ({tr.parameter([1.0])}, "Made.W is a parameter in a set: nothing trains it"),
        ([deque([tr.parameter([1.0])])], "Made.W is a parameter in a deque"),
        (SimpleNamespace(a=1, b=tr.parameter([1.0])), "Made.W is a SimpleNamespace with parameters, but no Module"),
        (InSlots(), "InSlots.a is an attribute of the class: nothing trains it. Make a weight with parameter"),
        (OfClass(), "OfClass.a is an attribute of the class"),
    ],
)
def test_what_nothing_trains_is_named(value, words):
    made = module(V=tr.parameter([1.0]), W=value)
    with pytest.warns(tr.GradientWarning, match=words):
        assert "V" in made.parameters()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repr(made)
        made.parameter_count()
        with tr.no_grad():
            copy.deepcopy(module(V=made.V))


@pytest.mark.parametrize(
    "value",
    [
        *(tr.parameter([1.0]), np.arange(3), np.ones(3, bool), tr.tensor([1, 2]), 0.5, np.float32(0.5), None, "text"),
        tr.Dropout(0.5),
        tr.RNNLM(5, 3, 4, np.random.default_rng(0), cell="gru", layers=2, tied=False, dropout=0.1),
        tr.CBOW(5, 3, 2, np.random.default_rng(0)),
        tr.Stacked([tr.LSTMCell(3, 4, np.random.default_rng(0))]),
    ],
)
def test_what_is_no_weight_is_not_named(value):
    assert heard(module(W=value)) == []


def test_what_is_meant_is_not_named():
    class Normalised(tr.Module):
        buffers = ("mean", "history")

        def __init__(self):
            self.W = tr.parameter([1.0])
            self.mean, self.history = np.zeros(3), [np.zeros(3)]

    class Derived(Normalised):
        pass

    assert heard(Normalised()) == heard(Derived()) == []
    of_its_own = module(V=tr.parameter([1.0]), buffers=[np.zeros(3)])  # an attribute of that name is one like others
    assert heard(of_its_own)[0].startswith("Made.buffers is an array of shape (3,)")
    model = tr.RNNLM(5, 3, 4, np.random.default_rng(0))
    model.embedding.W.requires_grad = False  # frozen, as in fine-tuning
    assert model.embedding.W.is_frozen
    assert heard(model) == heard(copy.deepcopy(model)) == []
    assert "embedding.W" not in model.parameters()
    model.embedding.W.requires_grad = True
    assert "embedding.W" in model.parameters()


def test_the_warning_comes_once_for_a_class_from_where_it_is_made():
    class Forgetful(tr.Module):
        def __init__(self):
            self.V, self.W = tr.parameter([1.0]), tr.tensor([1.0])

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        for _ in range(3):
            Forgetful().parameters()
            list(Forgetful().parameters())
    assert len(found) == 1
    assert found[0].filename == __file__
    assert found[0].lineno == Forgetful.__init__.__code__.co_firstlineno


def test_names_and_their_order():
    shared = tr.parameter([1.0])
    made = module(b=shared, a=[module(x=tr.parameter([2.0])), shared], d={"k": (tr.parameter([3.0]),)})
    assert list(made.parameters()) == ["b", "a.0.x", "d.k.0"]


def test_modules_that_know_each_other_and_deep_ones():
    parent = module(W=tr.parameter([1.0]))
    parent.child = module(parent=parent, V=tr.parameter([2.0]), loop=[])
    parent.child.loop.append(parent.child.loop)
    assert list(parent.parameters()) == ["W", "child.V"]
    nest = tr.parameter([1.0])
    for _ in range(3000):
        nest = [nest]
    assert list(module(deep=nest).parameters()) == ["deep" + ".0" * 3000]
