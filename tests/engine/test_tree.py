from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
from replay import executors

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import DEEPEST, flatten, map_leaves, rebuild, structure

Pair = namedtuple("Pair", "a b")


@dataclass(frozen=True, slots=True)
class State:
    h: object
    memory: object = None


@pytest.mark.parametrize(
    ("nest", "leaves", "text"),
    [
        (1, [1], "*"),
        (None, [], "None"),
        ((1,), [1], "(*,)"),
        ((1, [2, {"c": 3}], None), [1, 2, 3], "(*, [*, {c: *}], None)"),
        (Pair(1, (2,)), [1, 2], "(*, (*,))"),
        (State(1, (2, State(3))), [1, 2, 3], "State(h=*, memory=(*, State(h=*, memory=None)))"),
        ([], [], "[]"),
    ],
)
def test_nestings(nest, leaves, text):
    assert flatten(nest) == leaves
    assert structure(nest) == text
    doubled = map_leaves(lambda leaf: leaf * 2, nest)
    assert flatten(doubled) == [leaf * 2 for leaf in leaves]
    assert type(doubled) is type(nest) or nest == 1


def test_different_structures_are_named():
    with pytest.raises(ValueError, match=r"\(\*, \*\) and \*"):
        map_leaves(lambda a, b: a, (1, 2), 3)


def test_parts_of_dicts_belong_together_by_their_keys():
    assert map_leaves(lambda a, b: a + b, ({"a": 1, "b": [2]}, 3), ({"b": [20], "a": 10}, 30)) == (
        {"a": 11, "b": [22]},
        33,
    )
    with pytest.raises(tr.ShapeError, match=r"\{a: \*\} and \{b: \*\}"):
        map_leaves(lambda a, b: a, {"a": 1}, {"b": 1})


@pytest.mark.parametrize("nest", [{"a": 1, "b": 2}, (1, 2), [1, (2, 3)], Pair(1, 2), State(1, 2), {"a": (1, 2)}])
@pytest.mark.parametrize("other", [{"a": 1}, (1,), [1], State(1), None, 1, {"a": {"b": 1, "c": 2}}])
def test_nestings_of_other_sizes_differ(nest, other):
    for first, second in ((nest, other), (other, nest)):
        with pytest.raises(tr.ShapeError, match="nestings differ: "):
            map_leaves(lambda a, b: a, first, second)


def deep(levels, leaf=0):
    nest = leaf
    for level in range(levels):
        nest = ((nest,), [nest], {"part": nest})[level % 3]
    return nest


CYCLE: list = []
CYCLE.append(CYCLE)


def test_as_deep_as_is_said():
    nest = deep(DEEPEST)
    assert flatten(nest) == [0]
    assert rebuild(nest, iter([7])) == deep(DEEPEST, 7)
    assert map_leaves(lambda a, b: a + b + 1, nest, nest) == deep(DEEPEST, 1)


@pytest.mark.parametrize(
    "nest", [deep(DEEPEST + 1), deep(3000), deep(100_000), CYCLE], ids=["101", "3000", "1e5", "itself"]
)
@pytest.mark.parametrize(
    "use",
    [
        flatten,
        structure,
        lambda nest: rebuild(nest, iter([0])),
        lambda nest: map_leaves(abs, nest),
        tr.cut,
        lambda nest: tr.unroll(lambda x, h: (x, h), np.ones((1, 2, 3)), nest, cut_every=1),
        lambda nest: tr.grad(tr.tensor(1.0, requires_grad=True) * 1, nest),
        *(tr.compile(lambda x: None, **setting) for setting in executors()),
    ],
)
def test_deeper_is_an_error_that_says_so(use, nest):
    with pytest.raises(tr.ShapeError, match="at most 100 levels, got more, or one that contains itself"):
        use(nest)
