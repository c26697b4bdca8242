"""Random numbers that a user's loss or model draws by itself: a plan would freeze them, so they are refused."""

from functools import partial

import numpy as np
import pytest

import tinygrad_rnn as tr

XS = np.random.default_rng(0).standard_normal((8, 5, 2))
BATCHES = [(XS, XS.sum(axis=(1, 2))[:, None])]
GENERATOR = np.random.default_rng(1)
OLD = np.random.RandomState(1)


def model():
    return tr.SequenceModel("gru", 2, 4, 1, np.random.default_rng(0), last=True, dtype=np.float64)


def plain(net, batch):
    return tr.mse(net(batch[0]), batch[1])


def with_noise(net, batch, source):
    return tr.mse(net(batch[0] + source.standard_normal(batch[0].shape)), batch[1])


def closure():
    own = {"noise": [np.random.default_rng(1)]}
    return lambda net, batch: with_noise(net, batch, own["noise"][0])


class Loss:
    def __init__(self):
        self.source = np.random.default_rng(1)

    def __call__(self, net, batch):
        return with_noise(net, batch, self.source)


class Noisy(tr.Module):
    """A model that adds noise to its inputs, from a generator of its own."""

    def __init__(self, source):
        self.inner, self.sources = model(), [source]

    def __call__(self, xs):
        return self.inner(xs + self.sources[0].standard_normal(xs.shape))


class Wrapped(tr.Module):
    def __init__(self):
        self.cells = {"first": Noisy(np.random.default_rng(1))}

    def __call__(self, xs):
        return self.cells["first"](xs)


CASES = {
    "global": lambda: (model(), lambda net, batch: with_noise(net, batch, GENERATOR)),
    "RandomState": lambda: (model(), lambda net, batch: with_noise(net, batch, OLD)),
    "closure": lambda: (model(), closure()),
    "partial": lambda: (model(), partial(with_noise, source=np.random.default_rng(1))),
    "object": lambda: (model(), Loss()),
    "module": lambda: (Noisy(np.random.default_rng(1)), plain),
    "module, RandomState": lambda: (Noisy(np.random.RandomState(1)), plain),
    "module in a module": lambda: (Wrapped(), plain),
}


@pytest.mark.parametrize("case", CASES)
def test_a_plan_refuses_them(case):
    net, loss = CASES[case]()
    run = tr.Trainer(net, loss, BATCHES, epochs=2, optimizer=tr.SGD(1e-9), progress=False)
    with pytest.raises(tr.TraceError, match=r"draws from a (generator|np.random.RandomState) by itself.*compile=False"):
        run.fit()


@pytest.mark.parametrize("case", CASES)
def test_without_plans_each_batch_has_draws_of_its_own(case):
    net, loss = CASES[case]()
    run = tr.Trainer(net, loss, BATCHES, epochs=3, optimizer=tr.SGD(1e-9), progress=False, compile=False)
    assert len({record.train["loss"] for record in run.fit().records}) == 3
