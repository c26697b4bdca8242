"""Make docs/pages/leaky.html, which trains the README's LeakyCell: python docs/make_page.py (needs [native])."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinygrad_rnn as tr


class LeakyCell(tr.Module):
    """h' = (1 - a) * h + a * tanh(x @ Wx + h @ Wh): each unit learns how fast it forgets."""

    def __init__(self, input_size: int, hidden_size: int, rng: np.random.Generator) -> None:
        self.Wx = tr.parameter(rng.standard_normal((input_size, hidden_size)) / input_size**0.5, np.float32)
        self.Wh = tr.parameter(rng.standard_normal((hidden_size, hidden_size)) / hidden_size**0.5, np.float32)
        self.leak = tr.parameter(np.zeros(hidden_size), np.float32)

    def initial_state(self, batch_size: int) -> np.ndarray:
        """Return zeros (N, H)."""
        return np.zeros((batch_size, len(self.leak)), np.float32)

    def __call__(self, x: tr.Tensor, h: tr.Tensor) -> tuple[tr.Tensor, tr.Tensor]:
        """Return (output, state) of one step."""
        a = tr.sigmoid(self.leak)
        h = (1 - a) * h + a * np.tanh(x @ self.Wx + h @ self.Wh)
        return h, h


def make(path: Path) -> None:
    """Write the page of a character model with V = 96, D = 24, H = 64."""
    model = tr.RNNLM(96, 24, 64, np.random.default_rng(0), cell=LeakyCell, embedding_scale=0.3)
    tr.export(model, path)


if __name__ == "__main__":
    make(Path(__file__).parent / "pages" / "leaky.html")
