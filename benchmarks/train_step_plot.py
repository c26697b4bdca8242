"""Pictures of the training-step benchmarks; matplotlib, the extra tinygrad_rnn[plot]."""

from __future__ import annotations

import os
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

# Okabe and Ito's colours, which colour-blind people can tell apart and which stand out on white and on black; the text
# is a grey of equal contrast to both.
COLOURS = {
    "ours": "#D55E00",
    "ours-numpy": "#E69F00",
    "ours-eager": "#F0E442",
    "handwritten": "#808080",
    "pytorch": "#0072B2",
    "pytorch-compiled": "#56B4E9",
    "jax": "#009E73",
    "mygrad": "#CC79A7",
    "autograd": "#9A6FB0",
}
LABELS = {
    "ours": "tinygrad_rnn, compiled",
    "ours-numpy": "the same, on NumPy",
    "ours-eager": "tinygrad_rnn, eager",
    "handwritten": "hand-written NumPy",
    "pytorch": "PyTorch",
    "pytorch-compiled": "PyTorch, compiled",
    "jax": "JAX",
    "mygrad": "MyGrad",
    "autograd": "HIPS autograd",
}
GREY = "#7A7A7A"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tinygrad_rnn",
    "font.family": "sans-serif",
    "font.size": 12,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY),
}


def draw_bars(found: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw how many times faster than the hand-written layers each peer is, from minima; an SVG without background.

    Where the hand-written layers were not measured it is how many times faster than ours.
    """
    configs = found["configs"]
    base = "handwritten" if all("min_ms" in c["peers"].get("handwritten", {}) for c in configs.values()) else "ours"
    names = [
        name
        for name in COLOURS
        if name != base and any("min_ms" in config["peers"].get(name, {}) for config in configs.values())
    ]
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        axes: Any = figure.add_subplot()
        width = 0.84 / len(names)
        for number, name in enumerate(names):
            places, heights = [], []
            for place, config in enumerate(configs.values()):
                record = config["peers"].get(name, {})
                if "min_ms" in record:
                    places.append(place + (number - (len(names) - 1) / 2) * width)
                    heights.append(_speed(config["peers"][base], record))
            bars = axes.bar(places, [h - 1 for h in heights], width * 0.92, 1, color=COLOURS[name], label=LABELS[name])
            if name == "ours":
                axes.bar_label(bars, [f"{h:.1f}" for h in heights], padding=2, fontsize=11)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.axhline(1, color=GREY, linewidth=1)
        axes.margins(y=0.12)
        axes.set_xticks(range(len(configs)), [_title(name, config["sizes"]) for name, config in configs.items()])
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(f"times faster than\n{LABELS[base]} (log scale)")
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=4, frameon=False)
        _save(figure, path)


def draw_growth(found: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the time of a step over T, N, H and V, each peer's and that of its matrix products alone; an SVG."""
    with rc_context(STYLE):
        figure = Figure(figsize=(12, 3.9), layout="constrained")
        panels: Any = figure.subplots(1, len(found["sweeps"]), sharey=True, squeeze=False)[0]
        for axes, (letter, points) in zip(panels, found["sweeps"].items(), strict=True):
            sizes = [point["sizes"][letter] for point in points]
            axes.loglog(sizes, [p["gemm_ms"] for p in points], "--", color=GREY, label="matrix products alone")
            for name in found["peers"]:
                some = [(size, p["ms"][name]) for size, p in zip(sizes, points, strict=True) if name in p["ms"]]
                axes.loglog(*zip(*some, strict=True), "o-", color=COLOURS[name], label=LABELS[name], markersize=5)
            axes.set_xlabel(f"{letter} ({found['letters'][letter]})")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
            axes.grid(color=GREY, alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("ms per training step")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
        _save(figure, path)


def _speed(base: dict[str, Any], record: dict[str, Any]) -> float:
    """Return the ratio of minima; both stand in pairs with ours, so it goes by way of ours."""
    return float(base.get("ratio_of_minima", 1) / record.get("ratio_of_minima", 1))


def _title(name: str, sizes: dict[str, Any]) -> str:
    layers = f", {sizes['layers']} layers" if sizes["layers"] > 1 else ""
    numbers = f"V={sizes['V']:,}\nD={sizes['D']} H={sizes['H']}\nN={sizes['N']} T={sizes['T']:,}"
    return f"{name}\n{sizes['cell'].upper()}{layers}\n{numbers}"


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    FigureCanvasSVG(figure)
    figure.savefig(path, transparent=True, metadata={"Date": None})
