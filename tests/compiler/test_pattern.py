"""Patterns of calls: what they take for the same call has the same signature, and nearly all that has is taken."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.recording.pattern import Pattern
from tinygrad_rnn.compiler.recording.signature import signature
from tinygrad_rnn.engine.tape import context

LEAF, OTHER = (tr.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
RNG, OTHER_RNG = (np.random.default_rng(0) for _ in range(2))
PARTS = (
    *(np.zeros(2), np.ones(2), np.zeros(3), np.zeros(2, np.float32), np.float64(1.0), np.float64(2.0)),
    *(LEAF, OTHER, tr.tensor([1.0, 2.0]), LEAF * 2.0, np.zeros(2).view(np.recarray), RNG, OTHER_RNG),
    *(None, 1, True, 1.0, 0.0, -0.0, "a", b"a", (), [], {}, slice(1, 2), slice(1, 3)),
)
nests = st.recursive(
    st.sampled_from(PARTS),
    lambda inner: (
        st.tuples(inner)
        | st.tuples(inner, inner)
        | st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "b", 1, True]), inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=1).map(MappingProxyType)
    ),
    max_leaves=4,
)
calls = st.tuples(
    st.lists(nests, max_size=2).map(tuple), st.dictionaries(st.sampled_from(["p", "q"]), nests, max_size=2)
)


def is_rare(part):
    """Return whether a part has no place in a pattern."""
    if isinstance(part, tuple | list):
        return any(map(is_rare, part))
    if isinstance(part, dict):
        return not all(isinstance(name, str) for name in part) or any(map(is_rare, part.values()))
    if isinstance(part, tr.Tensor):
        return part.requires_grad and not part.is_leaf
    return isinstance(part, np.recarray | MappingProxyType)


@given(calls, calls, st.booleans())
def test_a_pattern_takes_what_has_the_same_signature(one, two, same):
    two = one if same else two
    (key, _), (other, leaves) = signature(one), signature(two)
    found = Pattern(one, context().recording).leaves(two, context().recording)
    assert (found is not None) == (key == other and not is_rare(one))
    if found is not None:
        assert list(map(id, found)) == list(map(id, leaves))


def test_whether_gradients_are_recorded_is_part_of_it():
    call = (np.zeros(2),), {}
    assert Pattern(call, True).leaves(call, True) is not None
    assert Pattern(call, True).leaves(call, False) is None


@pytest.mark.parametrize("executor", ["native", "numpy"])
def test_a_read_only_array_that_was_written_to_in_between_is_read_anew(executor):
    step = tr.compile(lambda x: np.sum(x), executor=executor)
    x = np.zeros(5000)
    for value in (1.0, 2.0, 3.0):
        x.flags.writeable = True
        x[:] = value
        x.flags.writeable = False
        assert step(x) == 5000 * value


def test_arguments_of_another_kind_after_many_alike():
    step = tr.compile(lambda x, state, scale=1.0: (x * scale, {"h": state["h"] + x}))
    x, state = np.ones(3), {"h": np.zeros(3)}
    for _ in range(3):
        _, state = step(x, state)
    assert state["h"].tolist() == [3.0, 3.0, 3.0]
    assert step(x, {"h": tr.tensor([1.0, 1.0, 1.0])})[1]["h"].tolist() == [2.0, 2.0, 2.0]
    assert step(x, state, scale=2.0)[0].tolist() == [2.0, 2.0, 2.0]
    assert step(x.astype(np.float32), state)[0].dtype == np.float32
    with pytest.raises(KeyError):
        step(x, {"c": np.zeros(3)})
    with pytest.raises(TypeError):
        step(x)
    assert step(x, state)[1]["h"].tolist() == [4.0, 4.0, 4.0]
