"""The kernels by the name of their operator, and the body of the step that is made of them."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import UnsupportedError
from ..checks import BACKWARD_ORDER, CHECK_OF_IDS, CHECK_OF_LENGTHS
from . import lookups, products, reductions
from .checks import function_of
from .code import Code
from .groups import write_group
from .schedule import Group, Item, Kernel, Repeat, Schedule

_KERNELS: dict[str, Callable[[Code, Kernel], None]] = {
    "matmul": products.matmul,
    "sum": reductions.reduce_sum,
    "mean": reductions.reduce_sum,
    "max": reductions.reduce_other,
    "min": reductions.reduce_other,
    "prod": reductions.reduce_other,
    "logsumexp": reductions.log_sum_exp,
    "log_softmax": reductions.log_softmax,
    "cumsum": reductions.scan,
    "cumprod": reductions.scan,
    "linear_recurrence": reductions.recurrence,
    "take": lookups.take,
    "take_back": lookups.take_back,
    "take_along": lookups.take_along,
    "equal_rows": lookups.equal_rows,
    "subtract_rows": lookups.subtract_rows,
    "loss_and_gradient": lookups.loss,
    "cross_entropy": lookups.loss,
    "cross_entropy_back": lookups.loss,
}

_FUNCTIONS: dict[str, Callable[[Code, Kernel], None]] = {
    CHECK_OF_IDS: lookups.check_ids,
    CHECK_OF_LENGTHS: lookups.check_lengths,
    BACKWARD_ORDER: lookups.backward_order,
    "numpy.argmax": reductions.position,
    "numpy.argmin": reductions.position,
}


def write_schedule(code: Code, schedule: Schedule) -> None:
    """Append everything that a step does.

    Raises:
        UnsupportedError: if C has no such operator.
    """
    for item in schedule:
        if not isinstance(item, Repeat):
            _write(code, item)
            continue
        head = f"for (long t0 = 0; t0 < {item.steps}; t0++)"
        if item.reverse:
            head = f"for (long t0 = {item.steps - 1}; t0 >= 0; t0--)"
        with code.block(head):
            for inner in item.items:
                _write(code, inner)


def _write(code: Code, item: Item) -> None:
    if isinstance(item, Group):
        write_group(code, item)
        return
    name = item.instruction.operator.name
    if function_of(item.instruction) in _FUNCTIONS:
        _FUNCTIONS[function_of(item.instruction)](code, item)
        return
    if name not in _KERNELS:
        raise UnsupportedError(
            f"export: C has no operator {name}; it has the elementwise ones and {', '.join(_KERNELS)}: write the step "
            "with those, or compute that part before the step and pass it"
        )
    _KERNELS[name](code, item)
