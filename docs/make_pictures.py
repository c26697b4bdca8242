"""Draw the pictures of the documentation: python docs/make_pictures.py (needs the extra [plot])."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import tinygrad_rnn as tr

T = 12
MASKS = [
    ("Full()", tr.Full()),
    ("Chunked(4): truncated BPTT", tr.Chunked(4)),
    ("Windowed(4): a window for each loss", tr.Windowed(4)),
    ("Windowed(6, every=3)", tr.Windowed(6, every=3)),
    ("Decay(0.8)", tr.Decay(0.8)),
    ("Randomized(c=0.25): one draw", tr.Randomized(c=0.25, rng=3)),
    ("Randomized(c=0.25): the mean", None),
    ("Checkpointed(4): exact", tr.Checkpointed(4)),
]


def masks(path: Path) -> None:
    """Draw the mask M of every policy, on one scale."""
    figure = Figure(figsize=(12, 6.6), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 4).ravel()
    for ax, (title, policy) in zip(axes, MASKS, strict=True):
        M = tr.Randomized(c=0.25).expected_mask(T) if policy is None else policy.mask(T)
        # Below the diagonal a weight of 0 is a statement, drawn; above it there is nothing.
        image = ax.pcolormesh(np.where(np.tri(T) > 0, M, np.nan), cmap="Blues", vmin=-0.15, vmax=2, edgecolors="white")
        ax.set_aspect("equal")
        ax.invert_yaxis()
        if title.startswith("Checkpointed"):
            for border in range(4, T, 4):
                ax.axvline(border, ymax=1 - border / T, color="black", linestyle=":", linewidth=1.5)
        ax.set_title(title, fontsize=10)
        ax.set_xticks(np.arange(0, T, 3) + 0.5, [str(t + 1) for t in range(0, T, 3)])
        ax.set_yticks(np.arange(0, T, 3) + 0.5, [str(t + 1) for t in range(0, T, 3)])
        ax.set_xlabel("use of the parameters, step t")
        ax.set_ylabel(r"loss, step $\tau$")
        ax.spines[["top", "right"]].set_visible(False)
    figure.colorbar(image, ax=axes.tolist(), shrink=0.6, ticks=[0, 0.5, 1, 1.5, 2]).set_label("weight M")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    folder = Path(__file__).parent / "pictures"
    masks(folder / "masks.png")
    print(f"{folder / 'masks.png'}")
