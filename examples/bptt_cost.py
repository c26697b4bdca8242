"""What backpropagation through time costs, and what a cut changes.

Three things change with the number of steps that a gradient travels: the time and the memory of one forward and
backward pass grow in proportion, and the gradient itself shrinks or grows by a factor at every step.

    python examples/bptt_cost.py

The output (8 s with OPENBLAS_NUM_THREADS=1; with more threads on a busy machine the times jump):

    1. One forward and backward pass over T steps (N = 8, D = H = 64, V = 50, float32)

                      full BPTT     cuts in one graph         windows of 10
        T         ms        MiB         ms        MiB         ms        MiB
       50        4.1       0.82        4.2       0.82        5.3       0.27
      100        8.3       1.63        7.9       1.63       10.9       0.31
      200       16.5       3.26       15.6       3.39       21.8       0.30
      400       32.0       6.65       32.8       6.84       42.0       0.31
      800       70.5      13.15       70.9      13.18       86.0       0.31

    2. Norm of dL/dh by distance from the loss (H = 64, float64), and the factor per step that fits it

    spectral       factor per step             norm, tiny inputs     the same, a cut every 10 steps
      radius   tiny inputs   size 1     9 steps  10 steps  59 steps     9 steps  10 steps  59 steps
         0.5         0.494    0.297      0.0028    0.0011   6.6e-19      0.0028         0         0
         0.9         0.889    0.529        0.56      0.39   0.00076        0.56         0         0
         1.0         0.988    0.585         1.5       1.1      0.38         1.5         0         0
         1.1         1.087    0.637         3.4       2.9   1.1e+02         3.4         0         0
         1.5         1.482    0.778          56        64   9.3e+09          56         0         0

    picture: runs/examples/bptt_cost.png

Time and memory of full BPTT are proportional to T. A cut saves no time: every step still goes forward and backward
once, and each window has a small cost of its own. It saves memory where each window goes backward at once and is
dropped; inside one graph all steps are kept for the one backward pass at its end.

The factor per step is the spectral radius of Wh, to about 1 %, as long as tanh is a straight line. That takes inputs of
1e-12: with radius 1.5 the states grow as fast as the gradient, and soon bend tanh. With inputs of size 1 its slope is
below 1, and the gradient vanishes at every radius of the table. Beyond a cut it is exactly 0.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import tinygrad_rnn as tr

WINDOW = 10  # steps between two cuts
N, V, H = 8, 50, 64  # sequences, words and hidden size of the language model whose cost is measured
RADII = (0.5, 0.9, 1.0, 1.1, 1.5)

Ids = NDArray[np.int64]
Norms = NDArray[np.float64]


class Cost(NamedTuple):
    """Time and peak memory of one forward and backward pass over T steps."""

    T: int
    ms: float
    mib: float


class Gradients(NamedTuple):
    """Norm of dL/dh by distance from the loss in steps, for one spectral radius of Wh."""

    small: Norms  # inputs so small that tanh is a straight line
    ordinary: Norms  # inputs of size 1: tanh bends
    cut: Norms  # small inputs, a cut every WINDOW steps


def full_bptt(model: tr.RNNLM, ids: Ids) -> None:
    """Record one graph over all steps."""
    loss, _ = model.loss(ids[:, :-1], ids[:, 1:])
    tr.grad(loss, model.parameters())


def cuts_in_one_graph(model: tr.RNNLM, ids: Ids) -> None:
    """Record one graph over all steps, with cuts inside, and go backward once at its end."""
    loss, _ = model.loss(ids[:, :-1], ids[:, 1:], cut_every=WINDOW)
    tr.grad(loss, model.parameters())


def windows(model: tr.RNNLM, ids: Ids) -> None:
    """Record one graph for each window, go backward at its end, and carry the state on across a cut."""
    state = model.initial_state(N)
    for start in range(0, ids.shape[1] - 1, WINDOW):
        part = ids[:, start : start + WINDOW + 1]
        loss, state = model.loss(part[:, :-1], part[:, 1:], tr.cut(state))
        tr.grad(loss, model.parameters())


SCHEMES: dict[str, Callable[[tr.RNNLM, Ids], None]] = {
    "full BPTT": full_bptt,
    "cuts in one graph": cuts_in_one_graph,
    f"windows of {WINDOW}": windows,
}


def measure(scheme: Callable[[tr.RNNLM, Ids], None], T: int, repeats: int) -> Cost:
    """Return the shortest time of some passes, and the peak memory of another pass, which is not timed."""
    rng = np.random.default_rng(0)
    model, ids = tr.RNNLM(V, H, H, rng), rng.integers(0, V, (N, T + 1))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        scheme(model, ids)
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    try:
        scheme(model, ids)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return Cost(T, 1e3 * min(seconds), peak / 2**20)


def state_gradients(radius: float, input_size: float, steps: int, cut_every: int | None = None) -> Norms:
    """Return |dL/dh| by distance from the loss: first that of the last state, last that of the first state.

    L is the product of the last state and a random vector; Wh is random, scaled to the spectral radius.
    """
    rng = np.random.default_rng(0)
    cell = tr.RNNCell(H, H, rng, dtype=np.float64)
    cell.Wh.data = cell.Wh.data * (radius / np.abs(np.linalg.eigvals(cell.Wh.data)).max())
    xs, direction = input_size * rng.standard_normal((steps, 1, H)), rng.standard_normal(H)
    h, states = cell.initial_state(1), []
    for t in range(steps):
        if cut_every is not None and t and t % cut_every == 0:
            h = tr.cut(h)
        h, _ = cell(xs[t], h)
        states.append(h)
    gradients = tr.grad((h @ direction).sum(), states, allow_unused=True)  # zeros behind a cut
    return np.asarray(np.linalg.norm(np.concatenate(gradients)[::-1], axis=1))


def factor_per_step(norms: Norms) -> float:
    """Return the factor of the geometric curve that fits the norms best, from a distance of WINDOW steps on.

    The first steps are left out: there the norm still depends on the direction that the gradient starts in.
    """
    far = norms[WINDOW:]
    return float(np.exp(np.polyfit(np.arange(len(far)), np.log(far), 1)[0]))


def draw(path: Path, costs: dict[str, list[Cost]], gradients: dict[float, Gradients]) -> None:
    """Draw time and memory over T, and the norm of the gradient over the distance."""
    from matplotlib.figure import Figure  # here, not above: the tables need no matplotlib

    figure = Figure(figsize=(14, 5), layout="constrained", facecolor="white")
    times, memory, norms = figure.subplots(1, 3, width_ratios=[1, 1, 1.4])
    looks = (("#0072B2", "o-"), ("#000000", "^--"), ("#D55E00", "s-."))
    for (name, rows), (colour, style) in zip(costs.items(), looks, strict=True):
        times.plot([row.T for row in rows], [row.ms for row in rows], style, color=colour, label=name)
        memory.plot([row.T for row in rows], [row.mib for row in rows], style, color=colour, label=name)
    times.set_title("Time, forward and backward")
    times.set_ylabel("time (ms)")
    memory.set_title("Peak memory, forward and backward")
    memory.set_ylabel("peak memory (MiB)")
    for axes in (times, memory):
        axes.set_xlabel("steps T")
        axes.set_ylim(bottom=0)
        axes.legend()

    colours = ("#0072B2", "#56B4E9", "#000000", "#E69F00", "#D55E00")
    for (radius, found), colour, marker in zip(gradients.items(), colours, "vDos^", strict=True):
        norms.semilogy(found.small, marker=marker, markevery=5, color=colour)
        norms.annotate(f"  radius {radius}", (len(found.small) - 1, found.small[-1]), va="center")
    radius, found = max(gradients.items())
    end = len(found.ordinary) - 1
    norms.semilogy(found.ordinary, "--", color=colours[-1])
    norms.annotate(f"  radius {radius},\n  inputs of size 1", (end, found.ordinary[-1]), va="center")
    norms.axvline(WINDOW - 0.5, color="0.3", linestyle=":")
    bottom = min(rows.small[-1] for rows in gradients.values())
    norms.annotate(f"with a cut every {WINDOW} steps:\nexactly 0 from here on", (WINDOW + 0.5, bottom))
    norms.set_xlim(right=1.35 * end)
    norms.set_title("Gradient that reaches a state, tiny inputs")
    norms.set_xlabel("distance from the loss (steps)")
    norms.set_ylabel("norm of dL/dh (log scale)")
    for axes in (times, memory, norms):
        axes.grid(color="0.9")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> tuple[dict[str, list[Cost]], dict[float, Gradients]]:
    """Measure, print both tables, draw the picture; return the numbers."""
    parser = argparse.ArgumentParser(description="Time, memory and gradients of backpropagation through time.")
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100, 200, 400, 800], help="lengths T to measure")
    parser.add_argument("--repeats", type=int, default=7, help="timed passes for each; the shortest counts (default 7)")
    parser.add_argument("--distance", type=int, default=60, help="steps of the gradient's way back (default 60)")
    parser.add_argument("--out", type=Path, default=Path("runs/examples/bptt_cost.png"), help="file of the picture")
    args = parser.parse_args(argv)
    if args.distance % WINDOW or args.distance < 2 * WINDOW:
        parser.error(f"--distance must be a multiple of {WINDOW} and at least {2 * WINDOW}, got {args.distance}")

    costs = {name: [measure(scheme, T, args.repeats) for T in args.steps] for name, scheme in SCHEMES.items()}
    print(f"1. One forward and backward pass over T steps (N = {N}, D = H = {H}, V = {V}, float32)\n")
    print("     " + "".join(f"{name:>22}" for name in costs))
    print("    T" + "         ms        MiB" * len(costs))
    for rows in zip(*costs.values(), strict=True):
        print(f"{rows[0].T:5}" + "".join(f"{row.ms:11.1f}{row.mib:11.2f}" for row in rows))

    gradients = {
        radius: Gradients(
            state_gradients(radius, 1e-12, args.distance),
            state_gradients(radius, 1.0, args.distance),
            state_gradients(radius, 1e-12, args.distance, WINDOW),
        )
        for radius in RADII
    }
    print(f"\n2. Norm of dL/dh by distance from the loss (H = {H}, float64), and the factor per step that fits it\n")
    places = (WINDOW - 1, WINDOW, args.distance - 1)
    distances = "".join(f"{place:4} steps" for place in places)
    print(f"spectral       factor per step             norm, tiny inputs     the same, a cut every {WINDOW} steps")
    print(f"  radius   tiny inputs   size 1  {distances}  {distances}")
    for radius, found in gradients.items():
        line = f"{radius:8}{factor_per_step(found.small):14.3f}{factor_per_step(found.ordinary):9.3f}"
        for norms in (found.small, found.cut):
            line += "  " + "".join(f"{norms[place]:10.2g}" for place in places)
        print(line)

    if find_spec("matplotlib") is None:
        print('\nno picture: pip install "tinygrad_rnn[plot]"')
    else:
        draw(args.out, costs, gradients)
        print(f"\npicture: {args.out}")
    return costs, gradients


if __name__ == "__main__":
    main()
