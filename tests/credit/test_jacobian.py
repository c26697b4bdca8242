"""The Jacobian of a recorded step: what its terms say, that its pattern holds all of it, what is found of a cell."""

import numpy as np
import pytest
from credit.steps import STEPS, D, of_cell, recorded, recurrence
from hypothesis import given, settings
from hypothesis import strategies as hst

import tinygrad_rnn as tr
import tinygrad_rnn.testing.strategies as st
from tinygrad_rnn.credit.entries import whole_state_jacobian
from tinygrad_rnn.credit.jacobian import step_jacobian
from tinygrad_rnn.credit.moves import Moves
from tinygrad_rnn.credit.pattern import StepPattern, immediate_pattern, unit_pattern
from tinygrad_rnn.credit.terms import Dense, Diagonal, Lookup, Outer, Through
from tinygrad_rnn.engine.tape import slice_of_a_sequence
from tinygrad_rnn.engine.walk import pull_back

OTHERS = (tr.PeepholeLSTMCell, tr.CoupledLSTMCell, tr.IndRNNCell, tr.MinGRUCell, tr.MinLSTMCell, tr.LRUCell)


class Step:
    """One step with its Jacobian, and the same derivatives by one product with a cotangent for each unit."""

    def __init__(self, step, parameters, inputs, state, N):
        self.before, self.after = recorded(step, parameters, inputs, state)
        self.parameters, self.N = parameters, N
        self.shapes = {name: p.shape for name, p in parameters.items()}
        places = [(part.node, 0) for part in self.before]
        edges = {name: (p.node, p.index) for name, p in parameters.items()}
        after = [(part.node, part.index) if part.node else None for part in self.after]
        self.linked = step_jacobian(after, places, edges, N, Moves())
        self.jacobian = self.linked.whole
        self.sources = {**dict(enumerate(places)), **edges}

    def rows(self, part):
        """Return, for each source, the derivatives of a part of the state: (K, N, *shape), unit by unit."""
        J, edge = self.jacobian, (self.after[part].node, self.after[part].index)
        K, found = J.sizes[part], {}
        for k in range(K):
            for n in range(J.N):
                seed = np.zeros((J.N, K))
                seed[n, k] = 1
                cotangents = pull_back([(edge, seed.reshape(self.after[part].shape))], self.sources.values())
                for name, source in self.sources.items():
                    shape = source[0].specs[source[1]].shape
                    place = found.setdefault(name, np.zeros((K, J.N, *shape)))
                    place[k, n] = cotangents.get(source, 0)
        return found

    def multiplied_out(self, part, source):
        """Return the same from the Jacobian with links."""
        J, K = self.linked, self.linked.sizes[part]
        total = self.dense(part, source, J)
        for root, links in enumerate(J.links[part]):
            for link in links:
                factors = link.dense(K).reshape(K, J.N, J.sizes[root])
                total = total + np.einsum("knr,rn...->kn...", factors, self.dense(root, source, J))
        return total

    def dense(self, part, source, J=None):
        """Return what the terms say of a part of the state and a source, in the shape of `rows`."""
        J = self.jacobian if J is None else J
        K = J.sizes[part]
        if isinstance(source, str):
            terms, shape = J.parameters[part].get(source, []), self.shapes[source]
            return sum((term.dense(K).reshape(K, J.N, *shape) for term in terms), np.zeros((K, J.N, *shape)))
        size = J.sizes[source]
        own = sum((t.dense(K).reshape(K, J.N, size) for t in J.states[part][source]), np.zeros((K, J.N, size)))
        spread = np.einsum("knr,nm->knmr", own, np.eye(J.N))
        return spread.reshape(K, J.N, *self.before[source].shape)


def assert_right(step):
    """The terms are the derivatives; their entries are those of the dense form; their pattern covers them."""
    J = step.jacobian
    for part, K in enumerate(J.sizes):
        for source, expected in step.rows(part).items():
            for found in (step.dense(part, source), step.multiplied_out(part, source)):
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13, err_msg=f"part {part} by {source}")
            terms = J.parameters[part].get(source, []) if isinstance(source, str) else J.states[part][source]
            for term in terms:
                assert_entries(term, K)
    immediate, through = immediate_pattern(J, step.shapes), unit_pattern(J.sizes, J.states)
    assert not ((whole_state_jacobian(J) != 0).any(axis=0) & ~through).any()
    start = np.cumsum([0, *J.sizes])
    for name, shape in step.shapes.items():
        known = np.broadcast_to(immediate[name], (start[-1], *shape))
        for part in range(len(J.sizes)):
            reached = (step.rows(part)[name] != 0).any(axis=1)
            assert not (reached & ~known[start[part] : start[part + 1]]).any()


def assert_entries(term, K):
    dense = term.dense(K)
    N, shape = dense.shape[1], dense.shape[2:]
    flat = np.swapaxes(dense.reshape(K, N, -1), 0, 1)
    rows, columns = np.meshgrid(np.arange(-1, K), np.arange(flat.shape[2]), indexing="ij")
    expected = np.concatenate([np.zeros((N, 1, flat.shape[2])), flat], axis=1)
    np.testing.assert_array_equal(term.entries(rows, columns), expected)
    pattern = np.broadcast_to(term.pattern(K), (K, *shape))
    assert not ((dense != 0).any(axis=1) & ~pattern).any()


@given(cell=st.cells() | st.cells("stacked") | st.cells(*OTHERS), N=hst.integers(1, 3), seed=st.SEEDS)
def test_terms_of_every_cell(cell, N, seed):
    assert_right(Step(*of_cell(cell, N, 1, seed), N))


@pytest.mark.sample(10)
@pytest.mark.parametrize("name", STEPS)
@settings(max_examples=4)
@given(N=hst.integers(1, 3), seed=st.SEEDS)
def test_terms_of_steps_of_a_user(name, N, seed):
    assert_right(Step(*recurrence(name, N, 1, seed), N))


# every operation on elements that a step may hold, with broadcasting, where streams are kept apart and where they meet
def _operations():
    positive = lambda f: lambda h, b: f(tr.sigmoid(h) + 0.1 + b * b)  # noqa: E731
    unary = [
        "exp",
        "expm1",
        "log1p",
        "sqrt",
        "sin",
        "cos",
        "tanh",
        "sigmoid",
        "relu",
        "softplus",
        "abs",
        "cbrt",
        "log2",
    ]
    found = {name: positive(getattr(tr, name, None) or getattr(np, name)) for name in unary}
    found |= {name: positive(getattr(np, name)) for name in ("floor", "rint", "sign", "arctan", "sinh", "reciprocal")}
    for name in ("maximum", "minimum", "hypot", "logaddexp", "arctan2", "fmod", "divide", "subtract"):
        found[name] = lambda h, b, name=name: getattr(np, name)(h, b * b + 0.3)
    return found | {
        "power": lambda h, b: (tr.sigmoid(h) + 0.1) ** b,
        "where": lambda h, b: np.where(np.arange(D) > 0, h * b, b),
        "clip": lambda h, b: np.clip(h * b, -0.2, 0.2),
        "broadcast_to": lambda h, b: h * np.broadcast_to(b, h.shape) + np.broadcast_to(h[:, :1], h.shape),
        "astype": lambda h, b: (h * b).astype(np.float64),
        "a column": lambda h, b: h * h[:, :1] + b[0],
        "expanded": lambda h, b: (h[:, :, None] * b)[:, :, 0],
        "rows of rows": lambda h, b: (h[:, :, None] * h[:, None, :]).sum(axis=2) * b,
        "prod": lambda h, b: h * b + np.prod(h, axis=1, keepdims=True),
        "roll, pad": lambda h, b: np.roll(h, 1, axis=1) * b + np.pad(h[:, 1:], ((0, 0), (1, 0))),
        "swapped axes": lambda h, b: np.swapaxes(h[:, :, None] * b, 1, 2)[:, 0],
        "squeezed, stacked": lambda h, b: np.stack([h * b, h], axis=1)[:, 0],
        "split": lambda h, b: np.concatenate(np.split(h * b, [1], axis=1)[::-1], axis=1),
        "einsum": lambda h, b: np.einsum("nd,d,e->ne", h, b, b),
        "a constant matrix": lambda h, b: h @ np.triu(np.ones((D, D))) * b,
        "nothing of the state": lambda h, b: np.ones(h.shape) * b,
        "nothing of the parameter": lambda h, b: tr.tanh(h),
    }


@pytest.mark.parametrize("meet", [False, True], ids=["apart", "streams meet"])
@pytest.mark.parametrize("name", _operations())
def test_terms_of_every_operation(name, meet):
    function = _operations()[name]
    rng = np.random.default_rng(0)
    b = tr.tensor(rng.standard_normal(D), requires_grad=True)

    def step(xs, h):
        new = function(h, b) + xs[:, 0]
        return None, new + np.mean(h) if meet else new

    for N in (1, 2, 3):
        assert_right(Step(step, {"b": b}, rng.standard_normal((N, 1, D)), rng.standard_normal((N, D)), N))


def kinds(step, parameters, inputs, state, N=2):
    J = Step(step, parameters, inputs, state, N).jacobian
    return J, [[[type(term) for term in terms] for terms in row] for row in J.states]


def test_what_is_found_of_an_lstm():
    """c reaches c by the forget gate alone; everything else goes through Wh."""
    cell = tr.LSTMCell(2, 3, np.random.default_rng(0), dtype=np.float64)
    J, states = kinds(*of_cell(cell, 2, 1, 0))
    assert J.N == 2
    assert states == [[[Through], [Diagonal]], [[Through], [Diagonal]]]
    assert [{name: [type(t) for t in terms] for name, terms in row.items()} for row in J.parameters] == [
        {"Wx": [Outer], "Wh": [Outer], "b": [Diagonal]}
    ] * 2


@pytest.mark.parametrize("make", [tr.IndRNNCell, tr.MinGRUCell, tr.MinLSTMCell, tr.LRUCell])
def test_light_cells_are_diagonal(make):
    cell = make(2, 3, np.random.default_rng(0), dtype=np.float64)
    _, states = kinds(*of_cell(cell, 2, 1, 0))
    assert {kind for row in states for terms in row for kind in terms} == {Diagonal}


def test_streams_that_meet_are_one():
    for name, streams in {"plain": 2, "batch mean too": 1, "batch mean alone": 1, "rows of parameters": 2}.items():
        assert streams == kinds(*recurrence(name, 2, 1, 0))[0].N


def test_an_embedding_is_a_lookup():
    W, V = (tr.tensor(np.random.default_rng(0).standard_normal((4, 4)), requires_grad=True) for _ in range(2))

    def step(ids, h):
        h = tr.tanh(W[ids[:, 0]] + h @ V)
        return h.sum(), h

    J, _ = kinds(step, {"W": W, "V": V}, np.array([[1], [3]]), np.zeros((2, 4)))
    (term,) = J.parameters[0]["W"]
    assert isinstance(term, Lookup)
    assert_entries(term, 4)


def test_an_operation_of_the_users_own_is_dense_and_one_with_the_same_name_too():
    @tr.primitive()
    def tanh(a, /):
        return np.cumsum(a, axis=-1)

    @tanh.rule()
    def _(g, y, a):
        return (lambda: np.flip(np.cumsum(np.flip(g, -1), axis=-1), -1),)

    def step(xs, h):
        return None, tanh(h) * b

    b = tr.tensor(np.ones(3), requires_grad=True)
    found = Step(step, {"b": b}, np.zeros((1, 1, 3)), np.ones((1, 3)), 1)
    assert [[type(t) for t in terms] for terms in found.jacobian.states[0]] == [[Dense]]
    assert_right(found)


def test_a_compiled_function_keeps_the_pattern_of_its_constants_alone():
    """A mask that is an argument is data: a plan made with one must be right with another."""
    cell = tr.RNNCell(3, 3, np.random.default_rng(0), dtype=np.float64)
    xs, masks = np.random.default_rng(1).standard_normal((2, 4, 3)), [np.eye(3), 1 - np.eye(3), np.ones((3, 3))]

    def gradient(parameters, xs, mask, policy):
        def step(inputs, h):
            total = 0.0
            for t in range(inputs.shape[1]):
                h = tr.tanh(inputs[:, t] @ parameters["Wx"] + h @ (parameters["Wh"] * mask))
                total = total + (h * h).sum()
            return total, h

        return tr.bptt(step, parameters, xs, np.zeros((2, 3)), policy).gradients

    compiled = tr.compile(lambda parameters, xs, mask: gradient(parameters, xs, mask, tr.RTRL()))
    for mask in masks:
        expected = gradient(cell.parameters(), xs, mask, tr.Full())
        for name, value in compiled(cell.parameters(), xs, mask).items():
            np.testing.assert_allclose(value, expected[name], atol=1e-12)


# -- patterns ----------------------------------------------------------------------------------------------------------


def test_the_pattern_of_a_masked_matrix_spreads_step_by_step():
    """On a chain of units, a parameter reaches one unit more with each step."""
    w, n = tr.tensor(np.ones((4, 4)), requires_grad=True), 4

    def step(xs, h):
        with slice_of_a_sequence():
            return None, tr.tanh(h @ (w * np.eye(4, k=1)) + xs[:, 0])

    J = Step(step, {"w": w}, np.zeros((1, 1, n)), np.ones((1, n)), 1).jacobian
    pattern = StepPattern.of(J, {"w": (n, n)})
    assert pattern.through.astype(int).tolist() == np.eye(4, k=-1).astype(int).tolist()
    counts = [sum(block.entries for block in pattern.blocks(k)) for k in (1, 2, 3, 4, None)]
    assert counts == [3, 5, 6, 6, 6]
