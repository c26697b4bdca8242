"""The picture of a truncation report; it needs matplotlib, the extra tinygrad_rnn[plot]."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..engine.tape import Array
from ..files import new_figure, write_figure
from .profile import Trend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from matplotlib.ticker import Formatter

# Okabe and Ito's colours, which colour-blind people can distinguish; the markers differ too.
_LOOKS = {
    "full": ("#000000", "*"),
    "checkpointed": ("#000000", "P"),
    "chunked": ("#0072B2", "o"),
    "windowed": ("#D55E00", "s"),
    "decay": ("#009E73", "^"),
    "randomized": ("#CC79A7", "D"),
    "adaptive": ("#E69F00", "v"),
    # what carries credit forward has one colour
    **{name: ("#56B4E9", marker) for name, marker in zip(("rtrl", "snap", "eprop", "rflo"), "hX<>", strict=True)},
    **{name: ("#56B4E9", marker) for name, marker in zip(("kf", "uoro", "forward"), "pd8", strict=True)},
}
_OTHER = ("#666666", "X")
_EXACT = 1e-9  # a smaller bias is rounding


class Point(NamedTuple):
    """A policy in the panel of bias against cost.

    Attributes:
        name: the text form of the policy, by `policy_text`.
        ms: time, milliseconds.
        bias: 1 - cosine.
    """

    name: str
    ms: float
    bias: float


class Picture(NamedTuple):
    """The content of the picture.

    Attributes:
        masks: names of policies, and their M, up to 6.
        profile: norms of G_k, k = 0, 1, ...
        trend: trend fitted to the profile, or None.
        window: recommended window in uses, or None.
        points: of the policies.
        wanted_bias: 1 - wanted cosine.
    """

    masks: Sequence[tuple[str, Array]]
    profile: Sequence[float]
    trend: Trend | None
    window: int | None
    points: Sequence[Point]
    wanted_bias: float


def draw(picture: Picture, path: str | os.PathLike[str]) -> None:
    """Draw masks, credit profile, and bias against cost, side by side, into a file.

    Args:
        picture: what to draw.
        path: file to write; its ending chooses the format.

    Raises:
        ImportError: if matplotlib is not there.
        OSError: if the file cannot be written.
    """
    figure = new_figure("TruncationReport.plot", 18, 6)
    from matplotlib.ticker import LogFormatter  # an optional extra: there is one by now

    (panels,) = figure.subfigures(1, 3, squeeze=False, width_ratios=[1.2, 1, 1.2], wspace=0.03)
    _draw_masks(panels[0], picture.masks)
    _draw_profile(panels[1].add_subplot(), picture)
    _draw_cost(panels[2].add_subplot(), picture, LogFormatter(minor_thresholds=(1.5, 0.5)))
    write_figure(path, figure, dpi=150)


def _draw_masks(figure: SubFigure, masks: Sequence[tuple[str, Array]]) -> None:
    columns = min(len(masks), 3)
    panels = figure.subplots(math.ceil(len(masks) / columns), columns, squeeze=False)
    for axes in panels.flat[len(masks) :]:
        axes.set_axis_off()
    for axes, (name, M) in zip(panels.flat, masks, strict=False):
        image = axes.imshow(M, cmap="gray_r", vmin=0, vmax=2, interpolation="nearest")
        axes.set_title(name, fontsize=10)
        axes.tick_params(labelsize=8)
    extend = "max" if any(M.max() > 2 for _, M in masks) else "neither"
    figure.colorbar(image, ax=panels, location="top", aspect=40, extend=extend, label="weight M of the credit")
    figure.suptitle("What each policy keeps")
    figure.supxlabel("use of the parameters, t (step)", fontsize=10)
    figure.supylabel("loss, tau (step)", fontsize=10)


def _draw_profile(axes: Axes, picture: Picture) -> None:
    profile, trend = picture.profile, picture.trend
    ks = [k for k, norm in enumerate(profile) if norm > 0]
    axes.semilogy(ks, [profile[k] for k in ks], "o-", color="#0072B2", markersize=4, label="measured")
    if trend is not None:
        ends = [trend.first, trend.last]
        line = [trend.level * trend.rate**k for k in ends]
        axes.semilogy(ends, line, "--", color="#D55E00", linewidth=2.5, label=f"fit: {trend.rate:.3g} per step")
    if picture.window is not None:
        axes.axvline(picture.window - 0.5, color="0.3", linestyle=":", label=f"window of {picture.window} uses")
    axes.set(
        title="Where the gradient comes from",
        xlabel="distance k of the use from the loss (steps)",
        ylabel="norm of the gradient from k steps back (log scale)",
    )
    axes.grid(color="0.9")
    axes.legend()


def _draw_cost(axes: Axes, picture: Picture, minor: Formatter) -> None:
    families: dict[str, list[Point]] = {}
    for point in picture.points:
        name = point.name.partition(":")[0]
        families.setdefault(name if name in _LOOKS else "other", []).append(point)
    for name, points in families.items():
        colour, marker = _LOOKS.get(name, _OTHER)
        times, heights = [p.ms for p in points], [max(p.bias, _EXACT) for p in points]
        axes.loglog(times, heights, linestyle=":", linewidth=1, marker=marker, color=colour, markersize=9, label=name)
    axes.axhline(picture.wanted_bias, color="0.3", linestyle="--", label=f"cosine {1 - picture.wanted_bias:g}")
    axes.margins(x=0.12, y=0.08)
    axes.set(
        title="Bias against cost",
        xlabel="time, forward and backward (ms, log scale)",
        ylabel="bias: 1 - lowest cosine of a parameter (log scale)",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(minor)
    axes.grid(color="0.9")
    axes.legend()
    _label(axes, picture.points)


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Write the numbers of each policy at its point, at the corner with the most room."""
    places = [(p.ms, max(p.bias, _EXACT)) for p in points]
    spots = [tuple(axes.transData.transform(place)) for place in places]  # in pixels
    for number, (point, place) in enumerate(zip(points, places, strict=True)):
        text = point.name.partition(":")[2] + (" exact" if point.bias <= _EXACT else "")
        x, y = spots[number]
        others = [spot for spot in spots if spot != (x, y)]
        corners = [(dx, dy) for dx in (1, -1) for dy in (1, -1)]
        dx, dy = max(
            corners, key=lambda c: min((math.dist(s, (x + 25 * c[0], y + 12 * c[1])) for s in others), default=0)
        )
        axes.annotate(
            text.strip(),
            place,
            (6 * dx, 4 * dy),
            textcoords="offset points",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            ha="left" if dx > 0 else "right",
            va="bottom" if dy > 0 else "top",
        )
