"""Policies that carry the influence J = dh/dtheta on a pattern: RTRL, SnAp, e-prop and RFLO."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np

from ..checks import integer
from ..engine.tape import Array
from ..engine.tensor import Value
from ..errors import ConfigError, GradientError, GradientWarning, warn
from .feedback import Feedback
from .forward import Carrier, ForwardPolicy, is_zero, joined, summed
from .influence import Carried, Influence
from .memory import check_memory
from .pattern import StepPattern
from .policy import set_steps
from .record import Gradients, StepRecord
from .terms import Dense, Diagonal, Lookup, Outer, StepJacobian, Term, Through


@dataclass(frozen=True)
class RTRL(ForwardPolicy):
    """Real-time recurrent learning: the full gradient, after every step, from a memory that does not grow.

    J[t] = D[t] J[t-1] + I[t],  gradient = delta[t] J[t], with J = dh/dtheta for each stream, D = dh[t]/dh[t-1],
    I = dh[t]/dtheta with h[t-1] held. Source: Williams and Zipser 1989, A learning algorithm for continually running
    fully recurrent neural networks.

    Bias: none while the parameters stay; variance: none. J is kept on its pattern, the entries that can ever be other
    than zero, which follow from the recorded step. With n numbers of state and P parameters a stream: memory at most
    n * P, a step n^2 * P. For a recurrence on elements alone (IndRNN, LRU, minGRU) each parameter reaches one unit of
    each part of the state: memory and a step cost P for each part, and it is exact all the same.

    Args:
        every: steps between updates; None: one at the end.

    Raises:
        ConfigError: if `every` is below 1; on the first step, if J does not fit into memory, with its size in bytes.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> w = tr.tensor(2.0, requires_grad=True)
    >>> def step(xs, h):
    ...     h = h * w + xs[:, 0]
    ...     return h.sum(), h
    >>> [float(update.gradients["w"]) for update in tr.stream(step, {"w": w}, [np.ones((1, 3))], np.ones(1), tr.RTRL())]
    [1.0, 5.0, 17.0]
    """

    every: int | None = 1

    def __post_init__(self) -> None:
        set_steps(self, "every")

    def carrier(self) -> Carrier[Carried]:
        """Return a carrier for a new sequence."""
        return PatternCarrier(self, None)


@dataclass(frozen=True)
class SnAp(ForwardPolicy):
    """The sparse n-step approximation: of the influence, only entries that can be other than zero after n steps.

    J[t] = M * (D[t] J[t-1] + I[t]), M the pattern of n steps, found from the recorded step; gradient = delta[t] J[t].
    Source: Menick et al. 2020, Practical real time recurrent learning with a sparse approximation. Where a part of the
    new state is computed from another one by operations on elements, h = o * tanh(c), entries that an element has by
    way of c alone are not kept: J_h = dh/dc * J_c, with one factor dh/dc for each unit.

    Bias: credit through entries outside of M is lost; it falls with n, and there is none once M holds all entries.
    Variance: none. Memory: the entries of M. With n = 1 these are the units that a parameter enters directly: for an
    RNN or GRU P numbers a stream, for an LSTM P + H, its H factors too, which are in general not a function of the
    other P numbers and the state. A step costs about as much as one backward pass.
    With n = 2 and a dense recurrent matrix M holds all entries, and this is RTRL.

    Args:
        n: steps, 1 or more.
        every: steps between updates; None: one at the end.

    Raises:
        ConfigError: as for `RTRL`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    >>> def step(xs, state):
    ...     outputs, state = tr.unroll(cell, xs, state)
    ...     return np.sum(outputs * outputs), state
    >>> found = tr.bptt(step, cell.parameters(), np.ones((2, 9, 3)), cell.initial_state(2), tr.SnAp(1))
    >>> found.gradients["Wh"].shape
    (4, 4)
    """

    n: int
    every: int | None = 1
    exact = False

    def __post_init__(self) -> None:
        set_steps(self, "n", "every")

    def carrier(self) -> Carrier[Carried]:
        """Return a carrier for a new sequence."""
        return PatternCarrier(self, self.n)


@dataclass(frozen=True)
class EProp(ForwardPolicy):
    """Eligibility propagation: a local trace for each parameter, and a learning signal for each unit.

    e[t] = d * e[t-1] + i[t]: of D only the operations on elements, d, by which a unit remembers (the forget gate, a
    leak), and of I only the unit that the parameter enters; gradient = L[t] e[t]. The learning signal L is the
    cotangent of the state within the step ("symmetric"), or what arrives when each matrix on its way from the loss is
    replaced by a fixed random one ("random"). Source: Bellec et al. 2020, A solution to the learning dilemma for
    recurrent networks of spiking neurons.

    In a stack of layers, the signal of a layer comes through those above it within the step. A parameter without a
    trace (an embedding) gets the gradient within the step; those of an output layer their exact one. An operation of
    your own counts as one on elements if it says so, `primitive(elementwise=True)`.

    Bias: credit through other units is lost at every distance. Variance: none. Memory and a step: P for each part of
    the state that does not follow from another, as the h of an LSTM does from its c.

    Args:
        feedback: "symmetric" or "random".
        rng: generator or seed of the random matrices; a sequence has the same ones from start to end.
        every: steps between updates; None: one at the end.

    Raises:
        ConfigError: as for `RTRL`, and if `feedback` is unknown.

    Warns:
        GradientWarning: on the first step, if the state comes through an operation of your own that does not say so.

    >>> import tinygrad_rnn as tr
    >>> tr.EProp(feedback="random", rng=3)
    EProp(feedback='random', rng=3, every=1)
    """

    feedback: Literal["symmetric", "random"] = "symmetric"
    rng: int | np.random.Generator = 0
    every: int | None = 1
    exact = False

    def __post_init__(self) -> None:
        set_steps(self, "every")
        name = type(self).__name__
        if self.feedback not in ("symmetric", "random"):
            raise ConfigError(f'{name}: feedback must be "symmetric" or "random", got {self.feedback!r}')
        if not isinstance(self.rng, np.random.Generator):
            object.__setattr__(self, "rng", integer(name, "rng, if it is no numpy Generator,", self.rng, 0))

    def carrier(self) -> Carrier[Carried]:
        """Return a carrier for a new sequence."""
        feedback = Feedback(np.random.default_rng(self.rng)) if self.feedback == "random" else None
        return LocalCarrier(self, feedback)


@dataclass(frozen=True)
class RFLO(EProp):
    """Random feedback local online learning: `EProp` with random feedback, as first given for a leaky RNN.

    h[t] = (1 - a) h[t-1] + a tanh(u[t]);  e[t] = (1 - a) e[t-1] + a tanh'(u[t]) x[t]. Source: Murray 2019, Local online
    learning in recurrent networks with random feedback.

    >>> import tinygrad_rnn as tr
    >>> tr.RFLO(rng=1)
    RFLO(feedback='random', rng=1, every=1)
    """

    feedback: Literal["symmetric", "random"] = "random"


class PatternCarrier(Carrier[Carried]):
    """Carries J on the pattern of some steps (None: of all)."""

    def __init__(self, policy: ForwardPolicy, steps: int | None) -> None:
        self._layout = _Layout(policy, steps)

    def state_dict(self) -> dict[str, object]:
        """Return the pattern of the steps so far."""
        return self._layout.state_dict()

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take what `state_dict` returned."""
        self._layout.load_state_dict(state)

    def advance(self, record: StepRecord, carry: Carried | None) -> tuple[Gradients, Carried]:
        """Return the gradient of the step's loss, delta J, and J after the step."""
        jacobian = record.jacobian.added
        influence, before = self._layout.fitted(jacobian, record, carry)
        direct, deltas, past = record.loss_terms()
        after, through = influence.advance(jacobian, before, _cotangent(deltas, influence.N))
        delta = _cotangent(past, influence.N)
        return summed(direct, through, {} if delta is None else influence.gradient(delta, before)), after


class LocalCarrier(Carrier[Carried]):
    """Carries the traces of e-prop: J through operations on elements alone."""

    def __init__(self, policy: ForwardPolicy, feedback: Feedback | None) -> None:
        self._layout, self._feedback, self._policy = _Layout(policy, None), feedback, policy
        self._looked = False

    def state_dict(self) -> dict[str, object]:
        """Return the pattern of the steps so far, and the random matrices of the feedback."""
        feedback = None if self._feedback is None else self._feedback.state_dict()
        return {"layout": self._layout.state_dict(), "feedback": feedback}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take what `state_dict` returned."""
        self._layout.load_state_dict(cast("Mapping[str, object]", state["layout"]))
        if self._feedback is not None:
            self._feedback.load_state_dict(cast("Mapping[str, object]", state["feedback"]))

    def advance(self, record: StepRecord, carry: Carried | None) -> tuple[Gradients, Carried]:
        """Return the learning signals times the traces, and the traces after the step."""
        self._warn_once(record)
        jacobian = local(record.jacobian)
        influence, before = self._layout.fitted(jacobian, record, carry)
        pull: Callable[..., tuple[Gradients, list[Value], list[Value]]] = record.loss_terms
        if self._feedback is not None:
            pull = self._feedback.bound(record)
        direct, deltas, _ = pull()
        traced = {block.name for block in influence.blocks}
        if without := [name for name in record.reaching if name not in traced]:  # they get the gradient within the step
            within, _, _ = pull(())
            direct = direct | {name: within[name] for name in without if name in within}
        groups = layers(jacobian)
        for layer in groups if len(groups) > 1 else ():  # its signal, through the layers above it
            _, signals, _ = pull(layer)
            deltas = [signals[part] if part in layer else delta for part, delta in enumerate(deltas)]
        after, through = influence.advance(jacobian, before, _cotangent(deltas, influence.N))
        return summed(direct, through), after

    def _warn_once(self, record: StepRecord) -> None:
        """Warn of an operation of the user's, which may act on elements, and then should say so."""
        unknown, self._looked = [] if self._looked else record.unknown, True
        if unknown:
            warn(
                f"{self._policy!r}: no credit of earlier steps comes through {', '.join(unknown)}, of which nothing is "
                "known; if it acts on elements, make it with @tr.primitive(elementwise=True)",
                GradientWarning,
            )


def _cotangent(parts: Sequence[Value], N: int) -> Value | None:
    """Return the cotangents of the parts of a state as one array (N, n); None if they are zero."""
    return None if is_zero(parts) else joined(parts, N)


class _Layout:
    """The pattern of the steps so far. A step that reaches other units than those before it widens the pattern."""

    def __init__(self, policy: ForwardPolicy, steps: int | None) -> None:
        self._policy, self._steps = policy, steps
        self._form: object = None
        self._pattern: StepPattern | None = None
        self._influence: Influence | None = None

    def state_dict(self) -> dict[str, object]:
        """Return the pattern of one step, and what it is of; nothing before the first step."""
        if self._influence is None or self._pattern is None:
            return {}
        sizes = [int(size) for size in self._influence.sizes]
        return {**vars(self._pattern), "sizes": sizes, "N": self._influence.N}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take what `state_dict` returned; what the pattern follows from is found again in the next step."""
        self._form = self._influence = None
        if state:
            pattern = {name: part for name, part in state.items() if name not in ("sizes", "N")}
            self._pattern = StepPattern(**pattern)  # type: ignore[arg-type]
            self._influence = self._spread(self._pattern, cast("list[int]", state["sizes"]), cast(int, state["N"]))

    def _spread(self, pattern: StepPattern, sizes: Sequence[int], N: int) -> Influence:
        return Influence(pattern.blocks(self._steps), pattern.shapes, sizes, N)

    def fitted(self, jacobian: StepJacobian, record: StepRecord, carry: Carried | None) -> tuple[Influence, Carried]:
        """Return the influence of this step, and what is carried, on its pattern.

        Raises:
            GradientError: if what is carried is that of another recurrence.
            ConfigError: if the influence does not fit into memory.
        """
        known, form = self._influence, _form(jacobian)
        if carry is None and known is not None and (known.N, known.sizes) != (jacobian.N, jacobian.sizes):
            known = self._influence = None  # a sequence of other sizes starts
        influence = known if known is not None and form == self._form else self._widened(jacobian, record)
        self._form, self._influence = form, influence
        if carry is not None and known is None:
            self._check(influence, carry)
        if carry is not None and (known is None or known is influence):
            return influence, carry
        zeros = influence.zeros({name: part.dtype for name, part in record.parameters.items()})
        return influence, zeros if carry is None or known is None else influence.taken_over(known, carry, zeros)

    def _check(self, influence: Influence, carry: Carried) -> None:
        """Raise `GradientError` if what is carried is not of the pattern of this step."""
        shapes = [[part.shape for part in parts] for parts in carry]
        if shapes != influence.shapes():
            raise GradientError(
                f"{self._policy!r}: expected carry of shapes {influence.shapes()} for {influence.N} streams with "
                f"{influence.sizes} numbers of state, got {shapes}; pass the carry and the state of one recurrence, or "
                "neither"
            )

    def _widened(self, jacobian: StepJacobian, record: StepRecord) -> Influence:
        shapes = {name: parameter.shape for name, parameter in record.parameters.items()}
        pattern, known = StepPattern.of(jacobian, shapes), self._influence
        if known is not None and self._pattern is not None:
            pattern = pattern.joined(self._pattern)
            if pattern is self._pattern:
                return known
        self._pattern = pattern
        influence = self._spread(pattern, jacobian.sizes, jacobian.N)
        size = influence.nbytes({name: parameter.dtype for name, parameter in record.parameters.items()})
        check_memory(self._policy, size, f"{influence.numbers:,} numbers of dh/dtheta for {jacobian.N} streams")
        return influence


def _form(jacobian: StepJacobian) -> object:
    """Return what the pattern follows from: the kinds of all terms, and which units each reaches."""
    between = [
        [[[_reach(term) for term in terms] for terms in row] for row in table]
        for table in (jacobian.states, jacobian.links)
    ]
    parameters = [
        {name: [_reach(term) for term in terms] for name, terms in row.items()} for row in jacobian.parameters
    ]
    return jacobian.sizes, jacobian.N, between, parameters


def _reach(term: Term) -> tuple[object, ...]:
    if isinstance(term, Diagonal):
        return Diagonal, term.units.tobytes()
    if isinstance(term, Dense):
        return (Dense,)
    support = None if not isinstance(term, Through) or term.support is None else term.support.tobytes()
    return type(term), support, *_reach(term.after)


def local(jacobian: StepJacobian) -> StepJacobian:
    """Return a Jacobian with its operations on elements alone."""
    return replace(
        jacobian,
        states=[[[term for term in terms if isinstance(term, Diagonal)] for terms in row] for row in jacobian.states],
        parameters=[
            {name: kept for name, terms in row.items() if (kept := [term for term in terms if _is_local(term)])}
            for row in jacobian.parameters
        ],
    )


def _is_local(term: Term) -> bool:
    return isinstance(term, Diagonal) or (isinstance(term, Outer | Lookup) and isinstance(term.after, Diagonal))


def layers(jacobian: StepJacobian) -> list[Sequence[int]]:
    """Return the parts of the state in groups: those that depend on one another through elements, directly or not."""
    count = len(jacobian.sizes)
    joins: Array = np.eye(count, dtype=bool)
    for table in (jacobian.states, jacobian.links):
        joins |= [[bool(terms) for terms in row] for row in table]
    joins = joins | joins.T
    for _ in range(count):
        joins = joins @ joins
    return [np.flatnonzero(row).tolist() for number, row in enumerate(joins) if row.argmax() == number]
