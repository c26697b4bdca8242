"""What the tests of the compiler compare with: the function itself, and graphs run call by call."""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from interpret import interpret
from oracle import relative_error

import tinygrad_rnn as tr
from tinygrad_rnn.compiler.ir.graph import Graph, Operator
from tinygrad_rnn.compiler.native.build import available, library
from tinygrad_rnn.compiler.native.encode import encode
from tinygrad_rnn.compiler.native.program import Records
from tinygrad_rnn.compiler.native.workers import Replay
from tinygrad_rnn.compiler.passes.rolling.roll import roll
from tinygrad_rnn.compiler.plans.instructions import Buffer, Instruction, Slot
from tinygrad_rnn.compiler.plans.layout import make_plan
from tinygrad_rnn.compiler.plans.plan import Plan
from tinygrad_rnn.compiler.recording.trace import Recorded, trace
from tinygrad_rnn.compiler.replay import executor
from tinygrad_rnn.engine.tree import flatten, map_leaves, structure
from tinygrad_rnn.errors import NativeError


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Return an array of standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def leaf(*shape: int, seed: int = 0) -> tr.Tensor:
    """Return a parameter called w, of standard normal numbers."""
    return tr.tensor(normal(*shape, seed=seed), requires_grad=True, name="w")


def array_of(part: Any) -> Any:
    """Return the array of a Tensor; anything else as it is."""
    return np.array(part.data) if isinstance(part, tr.Tensor) else part


def assert_equal(actual: Any, expected: Any, tolerance: float) -> None:
    """Compare two nestings: structure, shapes, dtypes; floats by relative error, all else exactly."""
    assert structure(actual) == structure(expected)
    for got, want in zip(flatten(actual), map(array_of, flatten(expected)), strict=True):
        if not isinstance(want, np.ndarray | np.generic):
            assert got is want or got == want
            continue
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        if want.dtype.kind in "fc":
            assert np.array_equal(np.isfinite(got), np.isfinite(want))
            finite = np.isfinite(want)
            assert relative_error(got[finite], want[finite]) <= tolerance
        else:
            assert np.array_equal(got, want)


@contextmanager
def small_plans_shared() -> Iterator[None]:
    """Let plans that are made here be shared by as many workers as they are given, however small they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "_SHARED", 0)
        yield


def need_library() -> None:
    """Skip a test where there is no C library; where CI is set, there must be one."""
    try:
        library()
    except NativeError as error:
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))


def replay_call(
    operator: Operator, inputs: Sequence[Any], outputs: Sequence[np.ndarray], workers: int = 1, **attrs: Any
) -> None:
    """Let the C library do one call on arrays, which may be views of any memory; it must know the call.

    Args:
        operator: what is computed.
        inputs: arrays and numbers.
        outputs: arrays that are written, where they lie.
        workers: that share the call.
        attrs: attributes, arrays among them.
    """
    memory: dict[int, tuple[Buffer, np.ndarray]] = {}

    def slot(part: Any) -> Any:
        if not isinstance(part, np.ndarray):
            return part
        whole = part
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        buffer, _ = memory.setdefault(id(whole), (Buffer("donated", whole.nbytes), whole))
        return Slot(buffer, _address(part) - _address(whole), part.shape, part.strides, part.dtype)

    slots = {name: slot(part) for name, part in attrs.items()}
    made = tuple(map(slot, outputs))
    instruction = Instruction(operator, tuple(map(slot, inputs)), made, slots, None)
    program = encode(Plan([instruction], [], list(made), 0, Graph([], [], [])), workers)
    arrays = {id(buffer): array for buffer, array in memory.values()}
    arrays |= {id(b): np.empty(b.nbytes, np.uint8) for b in program.buffers if id(b) not in arrays}
    bases = np.array([0, *(_address(arrays[id(buffer)]) for buffer in program.buffers)], np.int64)
    for table in program.pieces:
        assert isinstance(table, Records), f"the library does not know {operator.name} of these operands"
        Replay(table, bases, workers)()


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def executors() -> list[dict[str, Any]]:
    """Return the settings of `compile` under which plans are tested: two workers, in C where there is a compiler."""
    return [{"executor": name, "threads": 2} for name in (("numpy", "native") if available() else ("numpy",))]


def value_and_gradient(f: Callable[..., Any], x: np.ndarray, setting: dict[str, Any] | None) -> tuple[Any, Any]:
    """Return f(x) and the gradient of its sum, as arrays: eagerly, or with a setting of `executors` compiled."""

    def both(x: tr.Tensor) -> Any:
        y = f(x)
        return y, tr.grad(np.sum(y), x)

    leaf = tr.tensor(x, requires_grad=True)
    y, gradient = both(leaf) if setting is None else tr.compile(both, **setting)(leaf)
    return array_of(y), gradient


def assert_replays(f: Callable[..., Any], *calls: tuple[Any, ...], tolerance: float = 1e-12, **options: Any) -> Any:
    """Call f and its compiled twins with the arguments of each call, compare results and generators; return a twin.

    There is a twin for each executor. Results of earlier calls are kept, and must not change.
    """
    twins = [tr.compile(f, **setting, **options) for setting in executors()]
    kept = []
    for args in calls:
        copies = [map_leaves(_copied_generator, args) for _ in twins]
        expected = f(*args)
        for compiled, own in zip(twins, copies, strict=True):
            with small_plans_shared():
                result = compiled(*own)
            assert_equal(result, expected, tolerance)
            for mine, theirs in zip(flatten(args), flatten(own), strict=True):
                if isinstance(mine, np.random.Generator):
                    assert mine.bit_generator.state == theirs.bit_generator.state
            kept.append((result, map_leaves(copy.deepcopy, result)))
    for result, before in kept:
        assert_equal(result, before, 0)
    return twins[-1]


def _copied_generator(part: Any) -> Any:
    return copy.deepcopy(part) if isinstance(part, np.random.Generator) else part


def record(f: Callable[..., Any], *args: Any) -> Recorded:
    """Record f, called with these arguments."""
    return trace(f, (args, {}))


def rolled(function: Callable[..., Any], *args: Any, tolerance: float = 1e-12) -> Graph:
    """Record a function and roll its graph up; return that, if it computes the same, draws included."""
    recorded = record(function, *args)

    def arrays() -> list[Any]:
        parts = (*args, *recorded.captured)
        return [np.array(part.data) if isinstance(part, tr.Tensor) else copy.deepcopy(part) for part in parts]

    before = interpret(recorded.graph, arrays())
    graph = roll(recorded.graph)
    for got, want in zip(interpret(graph, arrays()), before, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        finite = np.isfinite(want)
        assert np.array_equal(np.isfinite(got), finite)
        if want.dtype.kind == "f":
            assert relative_error(got[finite], want[finite]) <= tolerance
        else:
            assert np.array_equal(got, want)
    return graph


def planned(function: Callable[..., Any], *args: Any, without: str | None = None) -> Plan:
    """Return the plan of a function, after all passes, or (without="all") after none."""
    if without == "all":
        return make_plan(record(function, *args).graph)
    step = tr.compile(function)
    step(*args)
    return step.plan


def names(plan: Plan) -> list[str]:
    """Return the operators of a plan, in order."""
    return [instruction.operator.name for instruction, _ in plan.flat()]


def arrays_of(recorded: Recorded, args: tuple[Any, ...]) -> list[Any]:
    """Return the arrays that a recorded function is run on: its arguments, and the parameters it captured."""
    return [part.data if isinstance(part, tr.Tensor) else part for part in (*args, *recorded.captured)]


def rewritten(f: Callable[..., Any], args: tuple[Any, ...], *passes: Callable[[Graph], Graph]) -> Graph:
    """Record f, run passes over its graph, check that each leaves the results as they were, and return the graph."""
    recorded = record(f, *args)
    graph, arrays = recorded.graph, arrays_of(recorded, args)
    before = interpret(graph, arrays)
    for one in passes:
        graph = one(graph)
        for got, want in zip(interpret(graph, arrays), before, strict=True):
            assert got.dtype == want.dtype
            assert relative_error(got, want) <= 1e-12
    return graph


def counts(graph: Graph) -> Counter[str]:
    """Return how many calls of each operator a graph has."""
    return Counter(call.name for call in graph.calls)
