"""The reach of the gradient back in time, as numbers and as a plot, which needs the extra tinygrad_rnn[plot]."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from ..errors import ConfigError, DrawingError
from ..files import new_figure, write_figure
from ..truncation import Full, Policy, parse_policy
from .model.flow import flow_of
from .model.graph import Graph, Use
from .model.operations import Dataflow, operations_of
from .model.record import policy_name, record
from .model.rolling import Unlike, roll

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, whose colours colour-blind readers can distinguish.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# A style for each policy. Curves often coincide, so the second one is broad and pale, and visible below the first.
_LOOKS: tuple[dict[str, str | float], ...] = (
    {"linewidth": 1.6, "marker": "o", "markersize": 3.5},
    {"linewidth": 7, "alpha": 0.3},
    {"linewidth": 1.8, "linestyle": "--"},
    {"linewidth": 1.8, "linestyle": ":"},
)

Norms = dict[str, list[float]]
"""Name of a state, such as "layers.0 h", to the norms of its gradient from step t+2 to step t+1, t = 0 .. T-2."""


def gradient_flow(graph: Graph, losses: Literal["last", "all"] = "last") -> Norms:
    """Return the norm of the cotangent that flows back along each state edge, for each state.

    norm_t = ||dL/dh_t through step t+1||: the whole gradient that step t receives from later steps.

    Args:
        graph: a recurrence whose steps all record the same operations.
        losses: "last": L is the last loss alone, to show how far back a single loss reaches; "all": it is their sum.

    Raises:
        DrawingError: if the steps do not match; the message names the first one that differs.
    """
    ops = operations_of(graph)
    rolling = roll(graph, ops)
    if isinstance(rolling, Unlike):
        remedy = "" if rolling.step is None else "; record the same operations in every step"
        raise DrawingError(f"plot_gradient_flow: {rolling.reason}{remedy}")
    found: dict[str, list[tuple[Use, ...]]] = {}
    bundles: dict[tuple[str, int], tuple[Use, ...]] = {}
    for state, readers in rolling.states().items():
        name = f"{'.'.join(state.source.scope)} {graph.name(state.source, state.output) or 'state'}".strip()
        while name in found:
            name += "'"
        found[name] = carried = rolling.carried(state, readers)
        bundles.update(((name, number), uses) for number, uses in enumerate(carried))
    _, terms = Dataflow(graph, ops).terms_of(graph.losses[-1])  # the last of several losses, or all terms of a sum
    joint = flow_of(graph, terms[-1:] if losses == "last" else None).joint(bundles)
    return {name: [joint.get((name, t), 0.0) for t in range(len(found[name]))] for name in sorted(found)}


def plot_gradient_flow(
    target: object,
    *example: object,
    policies: Sequence[Policy | str] | None = None,
    path: str | os.PathLike[str] | None = None,
    axes: Axes | None = None,
    losses: Literal["last", "all"] = "last",
) -> dict[str, Norms]:
    """Plot the norm of the gradient of each layer's state at each step, under one or more truncation policies.

    A curve ends where a cut stops the gradient. Unlike `credit_profile`, which splits up the gradient of a parameter,
    this follows the loss back through the states.

    Args:
        target: a loss Tensor that was recorded with steps; or a model, with ids and targets (N, T) as example; or a
            cell, with xs (N, T, D).
        example: the arguments that the model or the cell is recorded on.
        policies: truncation policies, or their text ("chunked:10"); None: `Full()`. Only with an example.
        path: file to write; its suffix chooses the format.
        axes: a matplotlib Axes to draw into. Without `path` and `axes` nothing is drawn.
        losses: "last": how far back the last step's loss reaches; "all": the sum of all losses.

    Returns:
        The norms plotted: policy to state to one norm for each state edge, earliest first; 0 where no gradient passes.

    Raises:
        ImportError: if something is to be drawn, and matplotlib is not installed.
        ConfigError: if policies are given for a loss that has already been recorded, or one of them is not a policy.
        DrawingError: if the steps do not match.
        OSError: if the file cannot be written.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.RNNLM(7, 4, 5, np.random.default_rng(0))
    >>> text = np.arange(14).reshape(2, 7) % 7
    >>> found = plot_gradient_flow(model, text[:, :-1], text[:, 1:], policies=["full", "chunked:4"])
    >>> [(name, [norm > 0 for norm in norms["layers.0 h"]]) for name, norms in found.items()]
    [('full', [True, True, True, True, True]), ('chunked:4', [False, False, False, False, True])]
    """
    if policies is not None and not example:
        raise ConfigError("plot_gradient_flow: policies= needs a model or cell with its example, not a recorded loss")
    if losses not in ("last", "all"):
        raise ConfigError(f"plot_gradient_flow: losses must be 'last' or 'all', got {losses!r}")
    if isinstance(policies, Policy | str):
        raise ConfigError(f"plot_gradient_flow: policies must be a list of policies, got {policies!r}; write [...]")
    given = policies or [Full()]
    chosen = [parse_policy(one, argument=f"plot_gradient_flow: policies[{n}]") for n, one in enumerate(given)]
    found: dict[str, Norms] = {}
    for policy in chosen:
        graph = record(target, example, policy if example else None)
        found[policy_name(policy) if example else "as recorded"] = gradient_flow(graph, losses)
    if path is not None or axes is not None:
        _draw(found, path, axes, losses)
    return found


def _draw(found: Mapping[str, Norms], path: str | os.PathLike[str] | None, axes: Axes | None, losses: str) -> None:
    figure = new_figure("plot_gradient_flow", 8, 4.6) if axes is None else axes.figure
    axes = figure.subplots() if axes is None else axes
    from matplotlib.ticker import MaxNLocator  # an optional extra, which the figure has loaded

    several = len(found) > 1
    states = list(next(iter(found.values())))
    stopped = None
    for number, (policy, norms) in enumerate(found.items()):
        for place, state in enumerate(states):
            values = [norm if norm > 0 else math.nan for norm in norms[state]]
            steps = range(1, len(values) + 1)
            label = f"{state}, {policy}" if several else state
            looks = _LOOKS[number if number < 2 else 2 + number % 2]
            axes.semilogy(steps, values, label=label, color=_COLOURS[place % len(_COLOURS)], **looks)
            stops = [t for t in steps if t > 1 and norms[state][t - 1] > 0 and norms[state][t - 2] == 0]
            (line,) = axes.plot(stops, [values[t - 1] for t in stops], "|", ms=16, mew=2, color="#dc2626")
            stopped = line if stops else stopped
    which = "the last step's loss" if losses == "last" else "the sum of all losses"
    if stopped is not None:
        stopped.set_label("stopped by a cut")
    axes.set(
        title=f"How far back the gradient of {which} reaches",
        xlabel="t: from step t+1 back to the state of step t",
        ylabel="norm of the state gradient (log scale)",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.9")
    axes.legend(fontsize=9)
    if path is not None:
        write_figure(path, cast("Figure", figure), dpi=120)
