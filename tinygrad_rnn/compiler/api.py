"""`compile`: functions that are recorded once and replayed as plans."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from types import MethodType
from typing import TYPE_CHECKING, Generic, NoReturn, ParamSpec, TypeVar, overload

import numpy as np

from ..checks import integer, texts
from ..engine.collector import collector_paused
from ..engine.tape import Array, context
from ..engine.tensor import Tensor, described
from ..engine.tree import map_leaves
from ..errors import ConfigError, TraceError, UnsupportedError
from .ir.graph import Graph
from .passes import run as run_passes
from .plans.explain import Explanation, explain
from .plans.family import Family
from .plans.layout import make_plan
from .plans.memory import Beside, Memory
from .plans.plan import Plan
from .plans.skeleton import skeleton
from .recording.anew import Recordings
from .recording.arguments import Arguments, checked, donated_leaves, parameters_of
from .recording.known import Known, own
from .recording.signature import Key, is_over, references, signature
from .recording.trace import trace
from .replay.executor import Executor
from .replay.ready import INPUTS, ForkSafeLock, Ready
from .replay.shortcut import OTHER
from .settings import chosen_executor, default_threads, named_executor

if TYPE_CHECKING:
    from ..pictures.drawing import Drawing

_SIZES = 64  # plans of one family that are kept, one for each combination of sizes; they share their memory

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
First = TypeVar("First")
Second = TypeVar("Second")


class Compiled(Generic[P, R_co]):
    """A compiled function; call it like the function itself.

    P stands for the parameters of the function, R for its result. A call returns arrays in place of Tensors. Its type
    says so for a Tensor, a pair of results, and tuples, lists and dicts of Tensors; in other nestings it says Tensor.

    Attributes:
        function: the function that was compiled.
        without: names of the passes that are switched off.
        max_plans: how many plans are kept, those that differ only in sizes counted as one.
        threads: how many workers share a replay.
        executor: what replays plans, "native" or "numpy"; "auto" until the first plan is made.
        donate: arguments whose memory results may overwrite, by name or position.

    `beside` is another compiled function that exchanges arrays with this one: each reads the results of the other
    without a copy, and only one of them runs at a time.
    """

    def __init__(
        self,
        function: Callable[P, R_co],
        without: Collection[str] = (),
        max_plans: int = 8,
        threads: int | None = None,
        executor: str | None = None,
        donate: Collection[str | int] = (),
        beside: Compiled[..., object] | None = None,
    ) -> None:
        if not callable(function):
            raise ConfigError(f"compile: function must be a callable, such as a lambda, got {described(function)}")
        self.without: frozenset[str] = frozenset(texts("compile", "without", without))
        list(run_passes(Graph([], [], []), self.without))  # raises now if a name is wrong
        self.threads: int = default_threads() if threads is None else integer("compile", "threads", threads)
        self.executor: str = named_executor(executor)
        self.function: Callable[P, R_co] = function
        self.donate: frozenset[str | int] = checked(function, donate)
        self._parameters = parameters_of(function)
        self.max_plans: int = integer("compile", "max_plans", max_plans)
        self._plans: dict[Key, Ready] = {}  # in the order of use; an OrderedDict would hash each key that it yields
        self._newest: Ready | None = None  # the plan of the last call
        self._known = Known(shares=True)  # of the loops that were recorded
        self._families: dict[object, Family] = {}  # by the form of the recorded graph
        self.memories: Beside = Beside() if beside is None else beside.memories
        self._lock: ForkSafeLock = ForkSafeLock() if beside is None else beside._lock  # an arena serves one replay
        self._recordings = Recordings(function, self.max_plans)
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    @overload
    def __call__(self: Compiled[P, Tensor], *args: P.args, **kwargs: P.kwargs) -> Array: ...
    @overload
    def __call__(
        self: Compiled[P, tuple[Tensor, Tensor]], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Array, Array]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # the first overload that fits wins
        self: Compiled[P, tuple[Tensor, Second]], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[Array, Second]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self: Compiled[P, tuple[First, Tensor]], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[First, Array]: ...
    @overload
    def __call__(self: Compiled[P, tuple[Tensor, ...]], *args: P.args, **kwargs: P.kwargs) -> tuple[Array, ...]: ...
    @overload
    def __call__(self: Compiled[P, list[Tensor]], *args: P.args, **kwargs: P.kwargs) -> list[Array]: ...
    @overload
    def __call__(self: Compiled[P, dict[First, Tensor]], *args: P.args, **kwargs: P.kwargs) -> dict[First, Array]: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> object:
        """Return what the function returns, with arrays for its Tensors; see `compile`."""
        how = context()
        if how.tracer is not None:  # called while another function is recorded: part of its plan
            return self.function(*args, **kwargs)
        if how.anomaly:  # anomaly mode checks every operation, so it runs eagerly
            return map_leaves(_own_array, self.function(*args, **kwargs))
        newest = self._newest
        if newest is not None and newest.shortcut is not None:
            made = newest.shortcut(args, kwargs, how.recording, newest.run)
            if made is not OTHER:
                return made
        with self._lock:
            ready, leaves = self._ready((args, kwargs))
            return ready.replayed((args, kwargs), leaves, self._lock)

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., object]:
        """Return itself as a method of an object of the class in which a method was compiled, `@tr.compile`."""
        return self if instance is None else MethodType(self, instance)

    @property
    def plan(self) -> Plan:
        """The most recently used plan.

        Raises:
            TraceError: if the function has not been called yet.
        """
        plans = self.plans
        if not plans:
            raise TraceError("Compiled.plan: the function has not been called yet, so there is no plan; call it first")
        return plans[-1]

    @property
    def plans(self) -> list[Plan]:
        """The plans that are kept, the most recently used one last."""
        with self._lock:
            return [ready.executor.plan for ready in self._plans.values()]

    def stages(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[tuple[str, Graph]]:
        """Record the function anew; yield ("recorded", graph), then (name, graph after it) for each pass.

        A loop is one call; its body is a graph, `call.attrs["body"].graph`, and `print(graph)` shows both. Read each
        graph before asking for the next: passes modify it in place.
        """
        graph = trace(self.function, (args, kwargs)).graph
        yield "recorded", graph
        yield from run_passes(graph, self.without)

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Return the costs of the plan for these arguments, with the time of each kind of call, measured now.

        A call in a loop counts once for each step. The arguments do not change. `Plan.explain` has the costs alone.
        """
        with self._lock:
            ready, leaves = self._ready((args, kwargs))
            executor = self._executor(ready.executor.plan)
            times = executor.seconds(ready.arrays(leaves))
            return explain(
                executor.plan, times, f"{self.executor}, {executor.threads} thread{'s'[: executor.threads > 1]}"
            )

    def draw(self, *args: object, stage: str | None = None, **kwargs: object) -> Drawing:
        """Return a drawing of the graph for these arguments, after a pass.

        Args:
            args, kwargs: arguments of the function.
            stage: name of a pass, or "recorded" for the graph before the first; None is the graph after the last one.

        Raises:
            ConfigError: if there is no such pass, or it is switched off.
        """
        from .picture import prepared  # what only draws is loaded once something is drawn

        stages = self.stages(*args, **kwargs)  # type: ignore[arg-type]  # those of P, without `stage`
        drawn = {name: prepared(graph, name) for name, graph in stages}
        if stage is not None and stage not in drawn:
            raise ConfigError(f"Compiled.draw: stage must be one of {', '.join(drawn)}, got {stage!r}")
        return drawn[stage or next(reversed(drawn))]()

    def __copy__(self) -> Compiled[P, R_co]:
        """Return the same function, compiled with the same settings and without plans."""
        return self._again(self.function)

    def __deepcopy__(self, memo: dict[int, object]) -> Compiled[P, R_co]:
        """Return a copy of the function (for a method, of its object too), compiled without plans."""
        return self._again(copy.deepcopy(self.function, memo))

    def __reduce__(self) -> NoReturn:
        raise UnsupportedError(
            "compile: a compiled function cannot be pickled, because its plans are bound to memory; pickle the "
            "function or model that it was made from, and compile again"
        )

    def _again(self, function: Callable[P, R_co]) -> Compiled[P, R_co]:
        return Compiled(function, self.without, self.max_plans, self.threads, self.executor, self.donate)

    def _ready(self, args: Arguments) -> tuple[Ready, list[object]]:
        """Return the plan for a call, recording the function if there is none, and the leaves of its arguments."""
        newest, self._newest = self._newest, None
        key, leaves = signature(args)
        ready = self._plans.get(key)
        if ready is not None and (shape := ready.outside.changed()) is not None:
            self._recordings.outside(shape)
            ready = None
        if ready is None:
            for old in [old for old, kept in self._plans.items() if kept.references and is_over(kept.references)]:
                self._drop(old)
            if key in self._plans:
                self._drop(key)
            ready = self._plans[key] = self._record(args, leaves)
            ready.references = references(key)
            self._make_room(ready.family)
            if ready.is_first:
                self._recordings.recorded(args)
        elif ready is not newest:
            self._plans[key] = self._plans.pop(key)
        self._newest = ready
        return ready, leaves

    def _make_room(self, newest: Family) -> None:
        """Drop what was used least recently: sizes of the newest family, and whole families."""
        if len(self._plans) > _SIZES:
            sizes = [key for key, ready in self._plans.items() if ready.family is newest]
            for key in sizes[:-_SIZES]:
                self._drop(key)
        if len(self._families) > self.max_plans:
            recent = [*dict.fromkeys(ready.family for ready in reversed(self._plans.values()))][: self.max_plans]
            for key in [key for key, ready in self._plans.items() if ready.family not in recent]:
                self._drop(key)
            self._families = {form: family for form, family in self._families.items() if family in recent}

    def _drop(self, key: Key) -> None:
        self._plans.pop(key).executor.close()

    @collector_paused()
    def _record(self, args: Arguments, leaves: list[object]) -> Ready:
        recorded = trace(self.function, args, self._known)
        found = skeleton(recorded.graph)
        inputs = [number for number, leaf in enumerate(leaves) if isinstance(leaf, INPUTS)]
        given = donated_leaves(self._parameters, self.donate, args)
        donated = frozenset(place for place, number in enumerate(inputs) if number in given)
        form = found.form, donated
        family = self._families.get(form) or Family(self.memories)
        self._families[form] = family
        plan = family.plan_for(found)
        is_first = plan is None
        if plan is None:
            plan = self._planned(own(recorded.graph), donated)
            family.add(found, plan)
        else:
            recorded.graph.release()
        recorded.outside.settle()
        return Ready(recorded, self._executor(plan, family.memory), args, family, is_first)

    def _planned(self, graph: Graph, donated: Collection[int]) -> Plan:
        """Run the passes on a graph, and return the plan for the result."""
        names = []
        for name, rewritten in run_passes(graph, self.without):
            graph = rewritten
            names.append(name)
        plan = make_plan(graph, donated)
        plan.passes = names
        return plan

    def _executor(self, plan: Plan, memory: Memory | None = None) -> Executor:
        self.executor = chosen_executor(self.executor)
        return Executor(plan, self.threads, native=self.executor == "native", memory=memory)


def _own_array(part: object) -> object:
    return np.array(part.data if isinstance(part, Tensor) else part) if isinstance(part, Tensor | np.ndarray) else part


def compile(
    function: Callable[P, R],
    *,
    without: Collection[str] = (),
    max_plans: int = 8,
    threads: int | None = None,
    executor: str | None = None,
    donate: Collection[str | int] = (),
) -> Compiled[P, R]:
    """Return a function that computes the same, recorded once for each signature and replayed as a plan.

    The first call with given shapes and dtypes runs the function and records everything that it computes on Tensors,
    the backward passes of `grad` included. Passes rewrite the recorded graph, and it becomes a plan: a list of calls on
    memory that is allocated once. Later calls replay the plan, in C if there is a C compiler. `scan` and `unroll` are
    recorded as loops whose body is one step, and so is their backward pass. Where only sizes differ, such as T, the
    third and later plans are derived from two earlier ones in milliseconds. Python's own loops are recorded iteration
    by iteration, and rolled up where iterations repeat. Other control flow is frozen, and so are arguments that are not
    arrays (numbers, strings, modules): another value makes another plan.

    Args:
        function: takes and returns Tensors, arrays, generators and other values, in any nesting of tuples, lists and
            dicts. Parameters may be passed or captured (those of a model): they are read anew at each call.
        without: names of passes to switch off (or one alone), to locate a fault or to measure the gain of a pass.
        max_plans: how many plans are kept, where those that differ only in sizes count as one (64 sizes of each are
            kept); the least recently used is dropped.
        threads: workers that share the rows of each call, or under "numpy" the blocks of the loss; results are the same
            each time for one setting. None: OPENBLAS_NUM_THREADS if that is set, else one for each core, up to 4.
        executor: "native" replays plans with a C library, which is compiled at its first use on a machine; "numpy"
            calls NumPy for each instruction; "auto" is native if there is a C compiler. None: TINYGRAD_RNN_EXECUTOR if
            that is set, else "auto".
        donate: names or positions of arguments (arrays, Tensors, nestings of them), or one alone, that the caller no
            longer needs once they are updated. A result that is an elementwise update of one, such as `p - lr * g`,
            with its shape and dtype, overwrites it if nothing reads the old value afterwards: parameters then take
            memory once, not twice. An array that the caller made is never overwritten: it is copied once, and the
            result lies in the copy, which is overwritten when it is passed again. So **an updated array that an earlier
            call returned, passed as a donated argument, shows the new value afterwards**, as does every view of it (the
            old value if it had to be copied: below 16 KiB, or if a plan of another form had made it). If a call raises
            an error, donated arrays keep their values, because updates in place are done last, after ids have been
            checked and functions of yours have been called; only an error in an update itself (a Ctrl-C, or
            np.errstate(all="raise") under "numpy") may leave some of them done and others not.

    Returns:
        A `Compiled`: call it like the function. It returns arrays in place of Tensors. They belong to the caller: no
        later call changes them, unless they are donated to it.

    Raises:
        ConfigError: if `function` is not callable, `without` or `executor` is an unknown name, `max_plans` or `threads`
            is below 1, or `donate` names an argument that the function does not have.
        NativeError: when called, if executor="native" and the library cannot be built; the message says why.
        TraceError: when called, if the function reads the value of a Tensor (float(x), if x > 0) or differentiates
            what was recorded before the call.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> w = tr.tensor([1.0, 2.0], requires_grad=True)
    >>> step = tr.compile(lambda w, x: tr.grad(np.sum(np.tanh(w * x)), w))
    >>> step(w, np.ones(2)).round(3), len(step.plan.instructions)
    (array([0.42 , 0.071]), 5)
    >>> update = tr.compile(lambda w, g: w - 0.5 * g, donate=["w"])
    >>> one = update(np.ones(3000), np.ones(3000))
    >>> two = update(one, np.ones(3000))
    >>> float(two[0]), float(one[0])
    (0.0, 0.0)
    """
    return Compiled(function, without, max_plans, threads, executor, donate)
