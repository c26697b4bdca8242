"""Weights as constants: what is computed from them alone is computed when the program is written."""

from __future__ import annotations

import numpy as np

from ...compiler.ir.graph import Call, Graph, Rewriter, Value, map_attrs
from ...compiler.ir.table import VIEWS
from ...compiler.passes.simplify import remove_dead_code
from ...compiler.plans.layout import make_plan
from ...compiler.replay.executor import Executor
from ...compiler.settings import chosen_executor
from ...engine.tape import Array
from ..program import Program
from .tables import multiply_tables


def frozen(program: Program) -> Graph:
    """Return the graph of a program with its weights as constants. The program is used up."""
    known: dict[Value, Array] = {}
    for weight in program.weights:
        weight.value.constant = known[weight.value] = weight.array
    direct = set(known)  # weights, and views of them, which cost nothing
    graph = multiply_tables(program.graph)
    new = Rewriter(graph)
    for call in graph.calls:
        made = new.keep(call)
        arrays = _computed(made, known)
        if arrays is None:
            continue
        known.update(zip(call.outputs, arrays, strict=True))
        if call.name in VIEWS and made.inputs[0] in direct:
            direct.update(call.outputs)
            continue
        new.calls.pop()
        for value, array in zip(call.outputs, arrays, strict=True):
            constant = Value(array.shape, array.dtype, constant=np.ascontiguousarray(array).reshape(array.shape))
            new.now[value] = constant
            known[constant] = array
    return remove_dead_code(new.done())


def _computed(call: Call, known: dict[Value, Array]) -> list[Array] | None:
    """Return the results of a call whose operands are known; None if it must not be done in advance."""
    values = list(call.values())
    if not values or not call.operator.pure or call.name == "loop":
        return None
    if not all(value in known or value.constant is not None for value in values):
        return None

    def array(part: object) -> object:
        return known.get(part, part.constant) if isinstance(part, Value) else part

    if call.name in VIEWS:
        attrs = map_attrs(array, call.attrs)
        made = call.operator.compute(*map(array, call.inputs), **attrs)
        return [np.asarray(part) for part in call.operator.results(made)]
    stand_ins = {value: Value(*value.spec) for value in values}

    def stand_in(part: object) -> object:
        return stand_ins[part] if isinstance(part, Value) else part

    attrs = map_attrs(stand_in, call.attrs)
    specs = [value.spec for value in call.outputs]
    alone = Call(call.operator, map(stand_in, call.inputs), attrs, specs)
    graph = Graph([*stand_ins.values()], [alone], [*alone.outputs])
    arrays = [np.asarray(array(value)) for value in stand_ins]
    with np.errstate(all="ignore"):  # by the executor, whose functions may differ from NumPy's in the last bit
        return Executor(make_plan(graph), native=chosen_executor() == "native").run(arrays)
