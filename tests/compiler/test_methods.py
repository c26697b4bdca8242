"""Methods that are compiled: in an object, and in a class for all of its objects."""

import copy
import gc
import pickle
import weakref

import numpy as np
from replay import leaf

import tinygrad_rnn as tr


class Counter:
    """An object that has compiled one of its methods."""

    def __init__(self):
        self.w = leaf(3)
        self.step = tr.compile(self.compute)

    def compute(self, x):
        return x * self.w


def test_a_copy_of_an_object_compiles_its_own_method():
    one = Counter()
    one.step(np.ones(3))
    two = copy.deepcopy(one)
    two.w.data = np.full(3, 5.0)
    assert np.array_equal(two.step(np.ones(3)), np.full(3, 5.0))
    assert np.array_equal(one.step(np.ones(3)), one.w.data)


class Scaled(tr.Module):
    """A module with a method that is compiled where it is defined."""

    buffers = ("offset",)

    def __init__(self, factor):
        self.w, self.offset = leaf(3), np.zeros(3)
        self.w.data = np.full(3, factor)

    @tr.compile
    def __call__(self, x, *, times=1.0):
        return self.w * x * times + self.offset


def test_a_method_compiled_in_its_class():
    one, two, x = Scaled(2.0), Scaled(5.0), np.ones(3)
    for _ in range(6):  # more often than it takes to have a shortcut
        assert [one(x)[0], two(x)[0], one(x, times=3.0)[0]] == [2, 5, 6]
    one.w.data = np.full(3, 4.0)
    one.offset[:] = 1
    assert [one(x)[0], two(x)[0]] == [5, 5]
    one.offset = np.full(3, -4.0)
    again = pickle.loads(pickle.dumps(one))
    again.w.data = np.ones(3)
    assert [one(x)[0], copy.deepcopy(one)(x)[0], again(x)[0], two(x)[0]] == [0, 0, -3, 5]
    assert isinstance(Scaled.__call__, tr.Compiled)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
