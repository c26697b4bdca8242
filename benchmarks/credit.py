"""An online step with credit carried forward: forward, carry, gradient and SGD update, compiled, one stream.

    python benchmarks/credit.py            # two or three minutes
    python benchmarks/credit.py --quick

"none" is the same step with the state cut before it: no credit at all. "Products" are the products D @ J of dense RTRL
alone, in NumPy on the same BLAS, D taken for dense; "both" are they and the step without credit. JAX computes the same
RTRL in two ways: with `jacrev` by the state and by the parameters inside one jitted step, and with `jacfwd` by both
inside a jitted `lax.scan` of 8 steps. All take turns in short bursts; medians of processor time (of JAX's steps one in
fifty is over before its work is counted, so minima would say nothing), and ratios of them. "kept" is what is carried
from step to step, beside P. Needs JAX for its columns only. One BLAS thread: set OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers.process import commit, describe_machine, environment
from report import brief, head, save, table

import tinygrad_rnn as tr
from tinygrad_rnn.engine.tree import flatten

CELLS = {"rnn": tr.RNNCell, "lstm": tr.LSTMCell, "gru": tr.GRUCell}
RESULTS = Path(__file__).parent / "results" / "credit"
D, V, LR = 32, 32, 0.01
SCANNED = 8  # steps of JAX's scan


class Online:
    """A cell with an output layer that learns after each step from one stream."""

    def __init__(self, kind: str, H: int, policy: tr.ForwardPolicy | None) -> None:
        rng = np.random.default_rng(0)
        cell, output = CELLS[kind](D, H, rng), tr.Linear(H, V, rng)
        self.params = {
            **{f"cell.{name}": p for name, p in cell.parameters().items()},
            **{f"output.{name}": p for name, p in output.parameters().items()},
        }
        self.state: Any = cell.initial_state(1)
        self.carry: Any = None
        self.inputs = rng.standard_normal((64, 1, 1, D)).astype(np.float32)
        self.targets = rng.integers(0, V, (64, 1, 1))

        def step(inputs: Any, state: Any) -> Any:
            xs, ys = inputs
            h, state = cell(xs[:, 0], state)
            return np.sum(tr.cross_entropy(output(h), ys[:, 0])), state

        def cut_off(params: Any, xs: Any, ys: Any, state: Any, carry: Any) -> Any:
            loss, state = step((xs, ys), tr.cut(state))
            gradients = tr.grad(loss, params)
            return state, {name: p - LR * gradients[name] for name, p in params.items()}, carry

        def online(params: Any, xs: Any, ys: Any, state: Any, carry: Any) -> Any:
            run = tr.Recurrence(step, params, policy, state, carry=carry)
            (update,) = run.feed((xs, ys))
            new = {name: p - LR * update.gradients[name] for name, p in params.items()}
            return update.state, new, run.carry

        self.call: Callable[..., Any] = tr.compile(online if policy else cut_off, donate=["params", "carry"])
        if policy:  # the first step finds out what there is to carry
            self.state, _, self.carry = online(self.params, self.inputs[0], self.targets[0], self.state, None)
        self.now = 0
        carried = flatten(self.carry) if policy else [p for name, p in self.params.items() if name.startswith("cell.")]
        self.kept = sum(part.size for part in carried)

    def __call__(self) -> None:
        at = self.now % 64
        self.state, new, self.carry = self.call(self.params, self.inputs[at], self.targets[at], self.state, self.carry)
        for name, p in self.params.items():
            p.data = np.asarray(new[name])
        self.now += 1


def products(kind: str, H: int) -> Callable[[], None]:
    """Return D @ J of dense RTRL, all products of a step."""
    rng = np.random.default_rng(0)
    cell = CELLS[kind](D, H, rng)
    n = H * (2 if kind == "lstm" else 1)
    P = sum(p.size for p in cell.parameters().values())
    jacobian, influence = rng.standard_normal((n, n)).astype(np.float32), np.zeros((n, P), np.float32)
    out = np.empty_like(influence)
    return lambda: (np.matmul(jacobian, influence, out=out), None)[1]


def in_jax(kind: str, H: int, in_scan: bool) -> Callable[[], None]:
    """Return a jitted step of dense RTRL, or 8 of them in a scan."""
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    rng = np.random.default_rng(0)
    cell, output = CELLS[kind](D, H, rng), tr.Linear(H, V, rng)
    own = {name: jnp.asarray(p.data) for name, p in cell.parameters().items()}
    flat, restore = ravel_pytree(own)
    W, b = jnp.asarray(output.W.data), jnp.asarray(output.b.data)

    def forward(theta: Any, h: Any, x: Any) -> Any:
        p = restore(theta)
        if kind == "rnn":
            return jnp.tanh(x @ p["Wx"] + h @ p["Wh"] + p["b"])
        if kind == "lstm":
            sums = x @ p["Wx"] + h[:H] @ p["Wh"] + p["b"]
            i, f, o = jnp.split(jax.nn.sigmoid(sums[: 3 * H]), 3)
            c = f * h[H:] + i * jnp.tanh(sums[3 * H :])
            return jnp.concatenate([o * jnp.tanh(c), c])
        gx, hx = x @ p["Wx"] + p["b"], h @ p["Wh"]
        r, z = jnp.split(jax.nn.sigmoid(gx[: 2 * H] + hx[: 2 * H]), 2)
        n = jnp.tanh(gx[2 * H :] + r * (hx[2 * H :] + p["bh"]))
        return n + z * (h - n)

    def loss(h: Any, W: Any, b: Any, y: Any) -> Any:
        return -jax.nn.log_softmax(h[:H] @ W + b)[y]

    derivative = jax.jacfwd if in_scan else jax.jacrev

    def step(theta: Any, W: Any, b: Any, h: Any, J: Any, x: Any) -> Any:
        new = forward(theta, h, x)
        J = derivative(forward, 1)(theta, h, x) @ J + derivative(forward, 0)(theta, h, x)
        delta, gW, gb = jax.grad(loss, (0, 1, 2))(new, W, b, 3)
        return theta - LR * (delta @ J), W - LR * gW, b - LR * gb, new, J

    def steps(*carry: Any) -> Any:
        return jax.lax.scan(lambda carry, x: (step(*carry, x), None), carry[:-1], carry[-1])[0]

    n = H * (2 if kind == "lstm" else 1)
    state = [flat, W, b, jnp.zeros(n), jnp.zeros((n, flat.size))]
    call, shape = jax.jit(steps if in_scan else step), (SCANNED, D) if in_scan else (D,)
    xs = jnp.asarray(rng.standard_normal(shape).astype(np.float32))

    def once() -> None:
        state[:] = call(*state, xs)
        state[0].block_until_ready()

    return once


def take_turns(peers: dict[str, Callable[[], None]], rounds: int, seconds: float) -> dict[str, float]:
    """Return the median time of a step of each peer in microseconds of processor time, in alternating bursts."""
    times: dict[str, list[float]] = {name: [] for name in peers}
    for peer in peers.values():
        for _ in range(3):
            peer()
    for _ in range(rounds):
        for name, peer in peers.items():
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                started = time.process_time_ns()
                peer()
                times[name].append((time.process_time_ns() - started) / 1000)
    return {name: float(np.median(found)) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    rounds, seconds = (2, 0.1) if args.quick else (8, 0.3)
    policies = {"snap:1": tr.SnAp(1), "eprop": tr.EProp(), "uoro": tr.UORO(), "kf": tr.KroneckerFactored()}
    steps: dict[str, dict[str, float]] = {}
    kept: dict[str, dict[str, int]] = {}
    for kind in CELLS:
        peers: dict[str, Callable[[], None]] = {"none": Online(kind, 128, None)}
        peers.update({name: Online(kind, 128, policy) for name, policy in policies.items()})
        steps[kind] = take_turns(peers, rounds, seconds)
        kept[kind] = {name: peer.kept for name, peer in peers.items() if isinstance(peer, Online)}
    dense: dict[str, dict[str, float]] = {}
    for kind, H in (("rnn", 64), ("gru", 64), ("lstm", 32), ("rnn", 128), ("gru", 128), ("lstm", 128)):
        peers = {"rtrl": Online(kind, H, tr.RTRL()), "products": products(kind, H), "none": Online(kind, H, None)}
        if importlib.util.find_spec("jax"):
            peers["jacrev"] = in_jax(kind, H, in_scan=False)
            if H < 128:
                peers["jacfwd"] = in_jax(kind, H, in_scan=True)
        row = take_turns(peers, rounds, seconds)
        if "jacfwd" in row:
            row["jacfwd"] /= SCANNED
        dense[f"{kind}, H={H}"] = row
    machine = describe_machine(environment(int(os.environ.get("OPENBLAS_NUM_THREADS", "0")) or 1, None))
    found: dict[str, Any] = {
        "machine": machine,
        "versions": [f"tinygrad_rnn {tr.__version__}"],
        "commit": commit(Path(__file__).parents[1]),
        "steps_us": steps,
        "kept_numbers": kept,
        "dense_us": dense,
    }
    first = table(
        ["cell, H = 128", "P of the cell", "no credit (us)", *(f"{name}, kept" for name in policies)],
        [
            [
                kind,
                f"{kept[kind]['none']:,}",
                brief(row["none"]),
                *(f"{row[name] / row['none']:.2f}x, {kept[kind][name]:,}" for name in policies),
            ]
            for kind, row in steps.items()
        ],
    )
    second = table(
        [
            "dense RTRL",
            "step (us)",
            "its products (us)",
            "no credit (us)",
            "step / products",
            "step / both",
            "JAX, jacrev",
            "JAX, jacfwd in a scan",
        ],
        [
            [
                kind,
                brief(row["rtrl"]),
                brief(row["products"]),
                brief(row["none"]),
                f"{row['rtrl'] / row['products']:.2f}",
                f"{row['rtrl'] / (row['products'] + row['none']):.2f}",
                *(f"{row[way] / row['rtrl']:.2f}x" if way in row else "" for way in ("jacrev", "jacfwd")),
            ]
            for kind, row in dense.items()
        ],
    )
    text = f"# An online step with credit carried forward\n\n{head(found)}\n\n{first}\n{second}"
    save(found, text, args.out)


if __name__ == "__main__":
    main()
