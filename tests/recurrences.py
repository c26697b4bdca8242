"""Drawn recurrences, written as a Python loop over time: what a pass that finds loops must find, or leave alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_rnn as tr

N, H = 2, 3


@dataclass(repr=False)
class Recurrence:
    """Source of a function f(xs, rng) -> results, and what it reads."""

    source: str
    names: dict[str, Any]
    xs: Any
    steps: int

    def function(self) -> Any:
        """Return the function."""
        scope = {"np": np, "tr": tr, "drop": tr.Dropout(0.4), **self.names}
        exec(self.source, scope)
        return scope["f"]

    def __repr__(self) -> str:
        return f"\n{self.source}\n# T = {self.steps}"


class _Writer:
    def __init__(self, rng: np.random.Generator, steps: int, dtype: str) -> None:
        self.rng, self.steps, self.dtype = rng, steps, dtype
        self.names: dict[str, Any] = {}
        self.weights: list[str] = []

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def one_of(self, parts: Any) -> Any:
        return parts[int(self.rng.integers(len(parts)))]

    def array(self, *shape: int) -> np.ndarray:
        return (self.rng.standard_normal(shape) / 2).astype(self.dtype)

    def weight(self, *shape: int) -> str:
        alike = [name for name in self.weights if self.names[name].shape == shape]
        if alike and self.chance(0.3):  # shared
            return str(self.one_of(alike))
        name = f"W{len(self.weights)}"
        self.names[name] = tr.tensor(self.array(*shape), requires_grad=True, name=name)
        self.weights.append(name)
        return name

    def constant(self, array: Any) -> str:
        name = f"C{len(self.names)}"
        self.names[name] = array
        return name

    def input(self) -> str:
        kinds = [f"xs[:, {t}]" for t in ("t", "t", "t", "t", "-1 - t", "t - 1", "0")]
        kinds += ["drop(xs[:, t], rng)", "xs[:, t, None][:, 0]", "xs[:, t, ::-1]", "parts[t]"]
        return str(self.one_of(kinds))

    def term(self, known: list[str]) -> str:
        a = self.input() if self.chance(0.35) else self.one_of(known)
        number = int(self.rng.integers(11))
        if number == 0:
            return f"({a}) @ {self.weight(H, H)}"
        if number == 1:
            return f"({a}) @ {self.weight(H, H)}.T"
        if number == 2:
            return f"{a} * {self.weight(H)}"
        if number == 3:
            return f"{a} * tr.sigmoid({self.one_of(known)})"
        if number == 4:
            return f"tr.sigmoid({self.weight(H)}) * {a}"
        if number == 5:
            return f"{a} * {self.one_of(['0.5', '0.9**t', '(t + 1)', '1'])}"
        if number == 6:
            mask = self.constant(self.rng.random((N, self.steps, self.one_of([1, H]))) > 0.4)
            return f"np.where({mask}[:, t], {a}, {self.one_of([*known, '0.0'])})"
        if number == 7:
            return f"{self.constant(self.array(self.steps, H))}[t] * {a}"
        if number == 8:
            return f"np.concatenate([{a}, {self.one_of(known)}], axis=1) @ {self.weight(2 * H, H)}"
        if number == 9:
            return f"np.split({a} @ {self.weight(H, 2 * H)}, 2, axis=1)[{self.one_of([0, 1])}]"
        return str(a)

    def value(self, known: list[str]) -> str:
        text = " + ".join(self.term(known) for _ in range(self.one_of([1, 2, 2, 3])))
        return f"{self.one_of(['np.tanh', 'np.tanh', 'tr.sigmoid', '0.5 * '])}({text})"


def write(seed: int, steps: int, dtype: str) -> Recurrence:
    """Return a recurrence of `steps` turns."""
    w = _Writer(np.random.default_rng(seed), steps, dtype)
    states = ["h", "c", "k"][: w.one_of([1, 1, 2, 3])]
    lines = ["def f(xs, rng):", "    parts, ys, zs, total = np.unstack(xs, axis=1), [], [], 0.0"]
    for name in states:
        first = [f"np.zeros(({N}, {H}), '{dtype}')", w.constant(w.array(N, H)), "xs[:, 0] * 1", "None"]
        lines.append(f"    {name} = {w.one_of(first)}")
    lines.append("    before = " + ", ".join(f"np.zeros(({N}, {H}), '{dtype}')" for _ in states) + ",")
    lines += ["    zero = np.zeros_like(before[0])"]
    reverse = w.chance(0.2)
    times = f"range({w.one_of([0, 0, 0, 1])}, {steps})"
    lines.append(f"    for t in {f'reversed({times})' if reverse else times}:")
    old = [f"{name}0" for name in states]
    for name in states:
        if w.chance(0.8):
            lines.append(f"        {name}0 = zero if {name} is None else {name}")
        else:
            lines.append(f"        {name}0 = {name} if {name} is not None else xs[:, 0]")
    known = [*old, *old, *(["before[0]"] if w.chance(0.3) else []), *(["before[-1]"] if w.chance(0.2) else [])]
    for number in range(w.one_of([0, 0, 1, 2])):
        lines.append(f"        v{number} = {w.value(known)}")
        known.append(f"v{number}")
    for name in states:
        lines.append(f"        {name}1 = {w.value(known)}")
        known.append(f"{name}1")
    if w.chance(0.15):
        lines.append(f"        if t == {w.one_of([1, steps // 2])}:")
        lines.append(f"            {states[0]}1 = {w.one_of([f'tr.cut({states[0]}1)', f'{states[0]}1 * 2'])}")
    lines.append(f"        before = ({', '.join(old)},)")
    lines += [f"        {name} = {name}1" for name in states]
    lines.append(f"        ys.append({w.one_of(known)})")
    if w.chance(0.4):
        lines.append(f"        zs.append(drop({w.one_of(known)}, rng))")
    if w.chance(0.4):
        lines.append(f"        total = total + np.sum({w.one_of(known)} {w.one_of(['', '* 0.9**t', '** 2'])})")
    lines.append("    results = [value for value in (" + ", ".join(states) + ",) if value is not None]")
    last = [
        f"results.append(np.stack(ys, axis={w.one_of([0, 1, 2])}))",
        "results.append(np.stack(ys[::-1], axis=1))",
        "results.append(sum(ys))",
        "results.append(np.concatenate(ys, axis=1))",
        "results += ys[1:2]",
        "results.append(np.stack([*ys, ys[0]], axis=0))",
        "results.append(np.sum(np.stack(ys, axis=1) @ " + w.weight(H, H) + "))",
    ]
    chosen = [w.one_of(last) for _ in range(w.one_of([1, 1, 2]))]
    lines += [f"    if ys:\n        {line}" for line in chosen]
    lines.append("    results += zs[:1] if len(zs) < 3 else [np.stack(zs[1:], axis=1)]")
    if w.chance(0.3):  # a second loop over what the first one made
        lines += [f"    g = np.zeros(({N}, {H}), '{dtype}')", "    for y in ys:"]
        lines += [f"        g = np.tanh(y @ {w.weight(H, H)} + g @ {w.weight(H, H)})", "    results.append(g)"]
    if w.chance(0.7):
        wanted = ", ".join([*w.weights, "xs"])
        lines.append("    loss = total + sum(np.sum(value * value) for value in results)")
        lines.append(f"    gradients = tr.grad(loss, [{wanted}], create_graph={w.chance(0.2)}, allow_unused=True)")
        lines.append("    results += [total * 1.0, *gradients]")
    else:
        lines.append("    results.append(total * 1.0)")
    lines.append("    return results")
    xs = tr.tensor(w.array(N, steps, H), requires_grad=True)
    return Recurrence("\n".join(lines), w.names, xs, steps)
