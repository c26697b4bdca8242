"""`check_grads`: gradients compared, leaf by leaf, with an oracle that uses no derivative rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from ..engine.tensor import Tensor
from ..truncation import Policy
from .judge import Method, Options, judged
from .report import GradReport, LeafResult
from .targets.backward import BackwardPass
from .targets.base import Target
from .targets.build import build_target
from .targets.function import second_order


def check_grads(
    f: object,
    *inputs: object,
    loss: Callable[..., object] | None = None,
    directions: int = 3,
    full: bool | Literal["auto"] = "auto",
    rtol: float = 1e-10,
    atol: float = 1e-13,
    seed: int = 0,
    method: Method = "auto",
    order: int = 1,
    truncation: Policy | str | None = None,
    parameters: Mapping[str, Tensor] | None = None,
    allow_unused: bool = False,
    check: bool = True,
) -> GradReport:
    """Check the gradient of a function, a cell, a model or a recurrence under a truncation policy.

    The outputs y are weighted with random cotangents c; the gradient of sum(c * y), as `grad` or `bptt` gives it, is
    compared with the slope that an oracle finds, leaf by leaf: at every entry, or along random directions u. It is
    right if |j - s| <= rtol * (|s|_1 + |j|) + atol * max(Gmax, 1) * |u|_1, for j the gradient times u, s the slope,
    |s|_1 the sum of the absolute terms of j, and Gmax the largest gradient. The oracle is the complex step,
    s = Im(value(x + ihu)) / h with h = 1e-30 (Squire and Trapp 1998), which has no step-size error; a cut scales the
    imaginary part, so truncated gradients are checked exactly. A graph with an operation that is not complex-analytic
    is checked by four-point differences in longdouble, and at a kink every value between the one-sided slopes is
    right. Under a policy the oracle is sum(M * C), M = policy.mask(T) and C the credits of untied steps.

    Also checked: the function and the backward pass are deterministic, inputs and cotangents are not written to,
    gradients share no memory, and every leaf has a gradient. Leaves are checked in float64, whatever their dtype, and
    are restored afterwards.

    Args:
        f: a function of Tensors and arrays that returns a Tensor or a nesting of them; a cell, with x (N, D) or xs (N,
            T, D), and optionally a state; a module with a method `loss`, with the inputs of that method; any module, or
            a bound method of one, with its inputs; with `truncation` also step(inputs, state) -> (loss, state).
        inputs: inputs of f, or of its loss, one by one or as a tuple. Floating point arrays and Tensors, in any
            nesting, are leaves; integers, targets of losses and the rest are constants. A Generator is rewound for each
            call.
        loss: a loss of the module f: `loss(f, *inputs)` is checked instead of f.
        directions: number of random directions for each leaf of which not every entry is compared.
        full: compare every entry; "auto": where entries times operations are at most 3,000.
        rtol: relative tolerance.
        atol: tolerance relative to the largest gradient.
        seed: seed of cotangents, directions and noise.
        method: "complex", "longdouble", or "auto" to choose.
        order: 1, or 2 to check the gradient of the gradient.
        truncation: the truncation policy to apply, or its text.
        parameters: name to leaf Tensor; further leaves, such as Tensors that f captures.
        allow_unused: accept a leaf that the result does not depend on.
        check: raise an error if something is wrong; False: only report it.

    Returns:
        The report; print it for a table.

    Raises:
        GradCheckError: if something is wrong; its message is the report, and `report` holds it.
        TypeError: if f is not callable and has no loss.
        ConfigError: if an option is out of range or does not fit: a policy whose gradient is an estimate, or whose mask
            is not lower triangular; `method="longdouble"` where there are cuts, which differences do not see.
        DTypeError: if there is nothing to differentiate, or an input is complex.
        GradientError: if f returns no Tensor that depends on a leaf, or a parameter is not a leaf with requires_grad.
        NonFiniteError: if an input, an output or a loss is not finite.
        ShapeError: if the inputs do not fit a cell or a model, or do not agree on N and T.
        UnsupportedError: if complex numbers do not pass through f, and `method="complex"` or a cut needs them.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> from tinygrad_rnn.testing import check_grads
    >>> cell = tr.GRUCell(3, 4, np.random.default_rng(0), np.float64)
    >>> report = check_grads(cell, np.random.default_rng(1).standard_normal((2, 5, 3)), truncation=tr.Windowed(3))
    >>> report.ok, [leaf.name for leaf in report.leaves]
    (True, ['Wx', 'Wh', 'b', 'bh', 'first state'])
    """
    options = Options(seed, directions, full, rtol, atol, method, order, truncation, allow_unused)
    target = build_target(f, inputs, loss, parameters, truncation, np.random.default_rng(seed))
    call = ", ".join([*target.call, *["parameters=parameters"] * bool(parameters), *options.written])
    report = _report(target, options, call, 1)
    if order == 2 and report.ok:
        report = _report(second_order(target, np.random.default_rng([seed, order])), options, call, 2)
    return report.or_raised(check)


def _report(target: Target, options: Options, call: str, order: int) -> GradReport:
    evaluation = target.evaluate(np.float64)
    found = evaluation.gradient()
    changed = ((name, array) for name, array, copy in target.constants if array.tobytes() != copy.tobytes())
    writes = f"input changed: {target.title} wrote into its input"
    failures = [*found.failures, *(f"{writes} {name}, of shape {array.shape}" for name, array in changed)]
    leaves, notes = ([], []) if failures else judged(evaluation, found, options)
    shapes = [f"{name} {leaf.shape}" for name, leaf in target.leaves.items()]
    shapes += [f"{name} {array.shape} {array.dtype}" for name, array, _ in target.constants]
    return GradReport(
        target=target.title,
        results=tuple(leaves),
        seed=options.seed,
        order=order,
        notes=(*target.notes, *_remarks(target, found, leaves), *notes),
        failures=tuple(failures),
        reproducer=f"check_grads({call})  # {', '.join(shapes)}",
    )


def _remarks(target: Target, found: BackwardPass, leaves: Sequence[LeafResult]) -> Iterator[str]:
    """Yield notes on what was not checked, or barely."""
    wide = [f"{name} ({leaf.dtype})" for name, leaf in target.leaves.items() if leaf.dtype != np.float64]
    if wide:
        yield f"checked in float64: {', '.join(wide)}"
    ours = {node for node, _ in found.places.values()}
    others = [node for node in found.nodes if node.operation is None and node not in ours]
    if others:
        owners = [getattr(node.owner and node.owner(), "name", None) or "?" for node in others]
        named = [f"{owner} {node.specs[0].shape}" for owner, node in zip(owners, others, strict=True)]
        yield f"not checked: {', '.join(named)}, used from outside; pass parameters={{name: Tensor}} to check them"
    zero = [leaf.name for leaf in leaves if leaf.verdict == "ok" and not found.gradients[leaf.name].any()]
    if zero:
        yield f"the gradient of {', '.join(zero)} is 0 everywhere, so the check says little about it"
