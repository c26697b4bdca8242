"""The smallest planted error that each framework's own gradient checker catches.

    python benchmarks/gradcheck_sensitivity.py                 # a few minutes
    python benchmarks/gradcheck_sensitivity.py --seeds 3 --sides tinygrad_rnn pytorch

A layer of T=4 steps (RNN or LSTM; N=2, D=3, H=4; float64) whose backward is right but for a relative error in dWh, in
one entry of it or in all of it. In each framework it is an operation with a backward of its own: a custom Function, a
custom_vjp, a primitive. Its gradient is that framework's own automatic one of the same plain layer, with the error put
in. Each framework's own checker, with its own defaults (float64, reverse mode, first order, all inputs), looks at it.
The table gives the smallest error of a grid (1, 0.3, 0.1, 0.03, ...) from which on every larger one is caught for each
of several seeds of weights and inputs; "never" if not even an error of 1 is. "false" counts alarms where no error is
planted, "ms" is the median time of such a check. Needs PyTorch, JAX and HIPS autograd (the extra [bench]); a framework
that is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, machine

import tinygrad_rnn as tr
from tinygrad_rnn.testing import GradCheckError, check_grads

N, T, D, H = 2, 4, 3, 4
GRID = [digit * 10.0**-power for power in range(13) for digit in (1, 0.3)]
ENTRY = (1, 2)

Check = Callable[[str, list[np.ndarray], np.ndarray, int], bool]
"""check(cell, arrays, factor of dWh, seed): whether the checker raised an alarm."""


def layer(cell: str, tanh: Any, stack: Any, xs: Any, h: Any, Wx: Any, Wh: Any, b: Any) -> Any:
    """Return the states hs (N, T, H), with the functions of any of the frameworks."""
    hs, c = [], 0 * h
    for t in range(T):
        a = xs[:, t] @ Wx + h @ Wh + b
        if cell == "rnn":
            h = tanh(a)
        else:
            i, f, o = (0.5 * (tanh(0.5 * a[:, k * H : (k + 1) * H]) + 1) for k in range(3))
            c = f * c + i * tanh(a[:, 3 * H :])
            h = o * tanh(c)
        hs.append(h)
    return stack(hs)


def draw(cell: str, seed: int) -> list[np.ndarray]:
    """Return xs, h, Wx, Wh and b."""
    rng, width = np.random.default_rng(seed), H if cell == "rnn" else 4 * H
    shapes = ((N, T, D), (N, H), (D, width), (H, width), (width,))
    return [rng.standard_normal(shape) * (1 if k < 2 else 0.5) for k, shape in enumerate(shapes)]


def ours(directions: bool) -> Check:
    """Return the check of this package: complex step, of every entry or of three random directions a leaf."""

    def check(cell: str, arrays: list[np.ndarray], factor: np.ndarray, seed: int) -> bool:
        def plain(*values: Any) -> Any:
            return layer(cell, np.tanh, lambda hs: np.stack(hs, axis=1), *values)

        @tr.primitive()
        def planted(xs: Any, h: Any, Wx: Any, Wh: Any, b: Any, /) -> Any:
            return plain(xs, h, Wx, Wh, b)

        @planted.rule(keep="xs h Wx Wh b")
        def _(g: Any, y: Any, xs: Any, h: Any, Wx: Any, Wh: Any, b: Any) -> Any:
            leaves = [tr.tensor(value, requires_grad=True) for value in (xs, h, Wx, Wh, b)]
            dxs, dh, dWx, dWh, db = tr.grad(plain(*leaves), leaves, cotangent=g)
            return dxs, dh, dWx, dWh * factor, db

        try:
            check_grads(planted, *arrays, seed=seed, full=False if directions else "auto")
        except GradCheckError:
            return True
        return False

    return check


def pytorch(fast: bool) -> Check:
    """Return torch.autograd.gradcheck."""
    import torch

    def check(cell: str, arrays: list[np.ndarray], factor: np.ndarray, seed: int) -> bool:
        torch.manual_seed(seed)

        def plain(*values: Any) -> Any:
            return layer(cell, torch.tanh, lambda hs: torch.stack(hs, dim=1), *values)

        class Planted(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *values: Any) -> Any:
                ctx.save_for_backward(*values)
                return plain(*values)

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                with torch.enable_grad():
                    leaves = [value.detach().requires_grad_() for value in ctx.saved_tensors]
                    dxs, dh, dWx, dWh, db = torch.autograd.grad(plain(*leaves), leaves, g)
                return dxs, dh, dWx, dWh * torch.from_numpy(factor), db

        inputs = [torch.tensor(array, requires_grad=True) for array in arrays]
        return not torch.autograd.gradcheck(Planted.apply, inputs, fast_mode=fast, raise_exception=False)

    return check


def jax() -> Check:
    """Return jax.test_util.check_grads."""
    import jax
    import jax.numpy as jnp
    from jax.test_util import check_grads as checker

    jax.config.update("jax_enable_x64", True)

    def check(cell: str, arrays: list[np.ndarray], factor: np.ndarray, seed: int) -> bool:
        def plain(*values: Any) -> Any:
            return layer(cell, jnp.tanh, lambda hs: jnp.stack(hs, axis=1), *values)

        planted = jax.custom_vjp(plain)

        def backward(values: Any, g: Any) -> Any:
            dxs, dh, dWx, dWh, db = jax.vjp(plain, *values)[1](g)
            return dxs, dh, dWx, dWh * factor, db

        planted.defvjp(lambda *values: (plain(*values), values), backward)
        try:
            checker(planted, tuple(map(jnp.asarray, arrays)), order=1, modes=("rev",))
        except AssertionError:
            return True
        return False

    return check


def hips() -> Check:
    """Return autograd.test_util.check_grads."""
    import autograd.numpy as anp
    from autograd import make_vjp
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads as checker

    def check(cell: str, arrays: list[np.ndarray], factor: np.ndarray, seed: int) -> bool:
        # Its checker draws from NumPy's global generator.
        np.random.seed(seed)  # noqa: NPY002

        def plain(*values: Any) -> Any:
            return layer(cell, anp.tanh, lambda hs: anp.stack(hs, axis=1), *values)

        planted = primitive(plain)

        def rule(k: int) -> Any:
            def maker(y: Any, *values: Any) -> Any:
                pull = make_vjp(plain, k)(*values)[0]
                return (lambda g: pull(g) * factor) if k == 3 else pull

            return maker

        defvjp(planted, *map(rule, range(5)))
        try:
            checker(planted, list(range(5)), modes=["rev"], order=1)(*arrays)
        except AssertionError:
            return True
        return False

    return check


SIDES: dict[str, tuple[str, Callable[[], Check]]] = {
    "tinygrad_rnn": ("tinygrad_rnn check_grads", lambda: ours(directions=False)),
    "directions": ("tinygrad_rnn check_grads, full=False", lambda: ours(directions=True)),
    "pytorch": ("torch.autograd.gradcheck", lambda: pytorch(fast=False)),
    "pytorch_fast": ("torch.autograd.gradcheck, fast_mode", lambda: pytorch(fast=True)),
    "jax": ("jax.test_util.check_grads", jax),
    "autograd": ("autograd.test_util.check_grads", hips),
}


def smallest(check: Check, cell: str, where: str, seeds: int) -> float | None:
    """Return the smallest error of the grid from which on all are caught for all seeds, or None."""
    mask = np.ones((H, H if cell == "rnn" else 4 * H))
    if where == "one entry":
        mask[...] = 0
        mask[ENTRY] = 1
    found = None
    for error in GRID:
        if not all(check(cell, draw(cell, seed), 1 + error * mask, seed) for seed in range(seeds)):
            return found
        found = error
    return found


def unplanted(check: Check, cell: str, seeds: int) -> tuple[int, list[float]]:
    """Return the false alarms, and the seconds of each check."""
    alarms, seconds, ones = 0, [], np.ones((H, H if cell == "rnn" else 4 * H))
    for seed in range(seeds):
        start = time.perf_counter()
        alarms += check(cell, draw(cell, seed), ones, seed)
        seconds.append(time.perf_counter() - start)
    return alarms, seconds


def versions() -> dict[str, str]:
    """Return the versions of the frameworks that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("tinygrad_rnn", "torch", "jax", "autograd"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = tr.__version__ if package == "tinygrad_rnn" else "-"
    return found


def main(argv: list[str] | None = None) -> None:
    """Print the table and save what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--json", type=Path, help="file that gets the figures")
    args = parser.parse_args(argv)

    print(f"{args.seeds} seeds, {describe()}, {versions()}\n")
    print("| checker | RNN, one entry | RNN, all of dWh | LSTM, one entry | LSTM, all of dWh | false | ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for side in args.sides:
        name, make = SIDES[side]
        try:
            check = make()
        except ModuleNotFoundError as error:
            print(f"| {name} | not installed: {error.name} |")
            continue
        row: dict[str, Any] = {"checker": name, "false_alarms": 0, "checks": 0}
        seconds: list[float] = []
        for cell in ("rnn", "lstm"):
            alarms, times = unplanted(check, cell, args.seeds)
            row["false_alarms"] += alarms
            row["checks"] += args.seeds
            seconds += times
            for where in ("one entry", "all"):
                row[f"{cell}, {where}"] = smallest(check, cell, where, args.seeds)
        row["seconds"] = statistics.median(seconds)
        rows.append(row)
        found = [row[f"{cell}, {where}"] for cell in ("rnn", "lstm") for where in ("one entry", "all")]
        cells = ["never" if error is None else f"{error:.0e}" for error in found]
        cells += [f"{row['false_alarms']} of {row['checks']}", f"{row['seconds'] * 1000:.0f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if args.json:
        record = {"machine": machine(), "versions": versions(), "seeds": args.seeds, "T": T, "N": N, "D": D, "H": H}
        args.json.write_text(json.dumps({**record, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
