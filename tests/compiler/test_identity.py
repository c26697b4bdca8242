"""Functions and attributes of all kinds in what is recorded: told apart, and never in the way."""

from functools import partial

import numpy as np
import pytest
from replay import assert_equal

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.identity import code_and_captures
from tinygrad_rnn.compiler.plans.skeleton import skeleton
from tinygrad_rnn.compiler.recording.trace import trace
from tinygrad_rnn.engine.operands import without_gradient


@tr.primitive()
def scaled(x, /, *, by):
    return x * (by["factor"] if isinstance(by, dict) else float(np.real(by)))


@scaled.rule()
def _(g, y, x, *, by):
    return (scaled(g, by=by),)


class Unhashable:
    """An object that is equal to all others, and has no hash."""

    __hash__ = None

    def __eq__(self, other):
        return True


class Masks:
    def positive(self, x):
        return (x > 0).astype(float)


def with_empty_cell():
    def function(x):
        return x * later if x.size < 0 else np.abs(x)

    if function is None:
        later = 2
    return function


def with_closure(part):
    return lambda x: np.abs(x) * (1 if part is not None else 0)


FUNCTIONS = {
    "a cell without contents": with_empty_cell,
    "an object without a hash": lambda: with_closure(Unhashable()),
    "a dict": lambda: with_closure({"a": [1]}),
    "a method of an object": lambda: Masks().positive,
    "a partial of a partial": lambda: partial(partial(np.multiply, 2.0), dtype=float),
    "keyword defaults": lambda: eval("lambda x, *, by={'n': 2.0}: x * by['n']"),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_without_a_gradient_may_hold_anything(kind):
    def function(x):
        return x * without_gradient("mask", FUNCTIONS[kind](), x)

    compiled = tr.compile(function)
    for size in (3, 4, 5, 3):
        x = tr.tensor(np.linspace(-1, 1, size))
        assert_equal(compiled(x), function(x), 1e-12)


@pytest.mark.parametrize("by", [{"factor": 2.0}, np.float64(2.0), 2.0, 2 + 0j], ids=repr)
def test_attributes_may_be_anything(by):
    compiled = tr.compile(lambda x: scaled(x, by=by))
    assert compiled(tr.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]


@pytest.mark.parametrize(("one", "other"), [(np.float64(0.0), np.float64(-0.0)), (0j, complex(0.0, -0.0)), (1, True)])
def test_attributes_that_are_equal_but_not_the_same_are_told_apart(one, other):
    forms = [skeleton(trace(lambda x, by=by: scaled(x, by=by), ((tr.tensor([1.0]),), {})).graph) for by in (one, other)]
    assert (forms[0].form, forms[0].numbers.tolist()) != (forms[1].form, forms[1].numbers.tolist())


def test_functions_that_are_made_anew_are_known_by_what_they_hold():
    def made(n, extra=()):
        return lambda x: (x * n, extra)

    assert code_and_captures(made(2)) == code_and_captures(made(2))
    assert code_and_captures(made(2)) != code_and_captures(made(3))
    masks = Masks()
    assert code_and_captures(masks.positive) == code_and_captures(masks.positive)
    assert code_and_captures(masks.positive) != code_and_captures(Masks().positive)
    assert code_and_captures(np.add) is None
