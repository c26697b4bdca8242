from collections import namedtuple

import pytest

from tinygrad_rnn.engine.tree import flatten, map_leaves, structure

Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("nest", "leaves", "text"),
    [
        (1, [1], "*"),
        (None, [], "None"),
        ((1,), [1], "(*,)"),
        ((1, [2, {"c": 3}], None), [1, 2, 3], "(*, [*, {c: *}], None)"),
        (Pair(1, (2,)), [1, 2], "(*, (*,))"),
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
