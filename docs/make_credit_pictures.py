"""Draw the pictures of docs/credit.md: python docs/make_credit_pictures.py (needs the extra [plot])."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tinygrad_rnn as tr
from tinygrad_rnn.truncation.profile import credit_profile

LINES = [
    ("full BPTT, and RTRL", tr.RTRL(), "#000000", "o"),
    ("SnAp(1)", tr.SnAp(1), "#0072B2", "s"),
    ("EProp()", tr.EProp(), "#009E73", "^"),
]
T, H = 24, 16


def norms(parts: list[dict[str, Any]]) -> list[float]:
    """Return the norm of each part of a gradient, over the parameters of the cell."""
    found = [float(np.sqrt(sum(np.sum(g**2) for g in part.values()))) for part in parts]
    return [norm or np.nan for norm in found]  # nothing is no point on a logarithmic axis


def profiles(path: Path) -> None:
    """Draw how much of the gradient comes from k steps back, under policies that carry credit, and under a cut."""
    rng = np.random.default_rng(0)
    figure = Figure(figsize=(11, 3.8), layout="constrained", facecolor="white")
    for ax, (title, cell) in zip(
        figure.subplots(1, 2, sharey=True),
        [
            ("an LSTM of 16 units", tr.LSTMCell(4, H, rng, np.float64, forget_bias=2.0)),
            ("an RNN of 16 units", tr.RNNCell(4, H, rng, np.float64)),
        ],
        strict=True,
    ):
        inputs, state = rng.standard_normal((4, T, 4)), cell.initial_state(4)
        step = made_step(cell, rng.standard_normal(H))
        for label, policy, colour, marker in LINES:
            found = norms(list(credit_profile(step, cell.parameters(), inputs, state, policy)))
            ax.plot(found, color=colour, marker=marker, markersize=4, linewidth=1.2, label=label)
        full = norms(list(credit_profile(step, cell.parameters(), inputs, state)))
        ax.plot(full[:5], color="#D55E00", linewidth=5, alpha=0.35, label="Windowed(5): nothing after k = 4")
        ax.set_yscale("log")
        ax.set_ylim(1e-8, 1e3)
        ax.set_xlabel("k, steps back")
        ax.set_title(title, fontsize=10)
        ax.grid(visible=True, alpha=0.25)
    figure.axes[0].set_ylabel("norm of the part of the gradient")
    figure.axes[0].legend(fontsize=9, frameon=False)
    figure.savefig(path, dpi=130)


def made_step(cell: Any, weights: Any) -> Callable[[Any, Any], Any]:
    """Return a step whose loss is a nonlinear function of the outputs."""

    def step(xs: Any, state: Any) -> Any:
        outputs, state = tr.unroll(cell, xs, state)
        return np.sum(np.sin(outputs * weights)), state

    return step


def patterns(path: Path) -> None:
    """Draw which units the parameters of an LSTM reach within one step."""
    cell = tr.LSTMCell(2, 4, np.random.default_rng(0))
    inputs = np.ones((1, 1, 2), np.float32)
    found = tr.influence_pattern(made_step(cell, np.ones(4)), cell.parameters(), inputs, cell.initial_state(1))
    found.plot(path)


if __name__ == "__main__":
    pictures = Path(__file__).parent / "pictures"
    profiles(pictures / "credit_profiles.png")
    patterns(pictures / "influence_pattern.png")
