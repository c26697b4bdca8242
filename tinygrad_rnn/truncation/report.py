"""The truncation report: the bias and the cost of policies on real text, and how far back the gradient reaches.

A gradient g is compared with the full one, f, by its cosine and by its relative error |g - f| / |f|. How far back the
full gradient reaches is its credit profile: the norms of its parts G_k from k steps back, see `credit_profile`.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from ..checks import integer, number
from ..credit.forward import ForwardPolicy
from ..credit.nests import arrays_of
from ..credit.policy import Policy
from ..credit.update import Step, step_of_mean
from ..engine.tape import Array
from ..engine.tensor import Operand, Tensor, shape_of
from ..engine.tree import flatten
from ..errors import ConfigError, NonFiniteError, ShapeError
from .deciding import Randomized
from .driver import bptt
from .measure import DRAWS, Agreement, PolicyCost, agreement, default_policies, measure
from .parse import parse_policy
from .plot import Picture, Point, draw
from .policies import Chunked, Full
from .profile import Trend, credit_profile, fit_trend

State = TypeVar("State")


class LanguageModel(Protocol[State]):
    """The interface of a model for `truncation_report`."""

    def parameters(self) -> Mapping[str, Tensor]:
        """Return name to leaf Tensor."""

    def initial_state(self, batch_size: int) -> State:
        """Return the state before the first step."""

    def loss(self, ids: Array, targets: Array, state: State) -> tuple[Tensor, State]:
        """Return the mean loss over the targets that are not -1, and the new state."""


@dataclass(frozen=True)
class TruncationReport:
    """The effect of policies on the gradient of one sequence, and the decay of its credit with the distance.

    Attributes:
        steps: T.
        batch_size: N.
        wanted_cosine: cosine that the recommended window reaches in every parameter.
        policies: the measurements of each policy.
        profile: norm of G_k for k = 0 .. horizon, the part of the full gradient that comes from k steps back.
        profiles: parameter to the norms of its part of G_k.
        windows: for h = 1 .. horizon + 1, the agreement of the gradient of Windowed(h) with the full one.
    """

    steps: int
    batch_size: int
    wanted_cosine: float
    policies: tuple[PolicyCost, ...]
    profile: tuple[float, ...]
    profiles: dict[str, tuple[float, ...]]
    windows: tuple[Agreement, ...]

    def __repr__(self) -> str:
        names = ", ".join(row.name for row in self.policies)
        window = f"recommended_window={self.recommended_window}"
        return f"<TruncationReport of T = {self.steps}, N = {self.batch_size}: {names}; {window}>"

    @property
    def horizon(self) -> int:
        """The largest k of the profile."""
        return len(self.profile) - 1

    @property
    def trend(self) -> Trend | None:
        """The trend of the profile's tail; None if the profile is too short."""
        return fit_trend(self.profile)

    @property
    def recommended_window(self) -> int | None:
        """The smallest h from which on Windowed(h) reaches `wanted_cosine` in every parameter; None: above horizon."""
        too_short = [h for h, found in enumerate(self.windows, 1) if not found.lowest >= self.wanted_cosine]
        h = too_short[-1] + 1 if too_short else 1
        return h if h <= len(self.windows) else None

    @property
    def trend_sentence(self) -> str:
        """The trend of the credit with the distance, in words and numbers."""
        largest = int(np.argmax(self.profile))
        last = max((k for k, norm in enumerate(self.profile) if norm), default=0)
        if not last:
            return "none: nothing comes from more than 0 steps back"
        share = f"the part from k = {last} has {self.profile[last] / self.profile[largest]:.2g} times the norm of the "
        share += f"largest, from k = {largest}"
        trend = self.trend
        return f"{share}; too few steps to fit a trend" if trend is None else f"{trend.sentence}; {share}"

    @property
    def recommendation(self) -> str:
        """The recommended window, or why there is none, in words and numbers."""
        h, most = self.recommended_window, self.windows[-1]
        if h is None:
            return (
                f"none: with {len(self.windows)} uses of the parameters, the most that were looked at, {most.worst} "
                f"has a cosine of {most.lowest:.5f}, below {self.wanted_cosine:g}; raise the horizon"
            )
        chunks = [
            row.policy.n
            for row in self.policies
            if isinstance(row.policy, Chunked) and row.agreement.lowest >= self.wanted_cosine
        ]
        chunk = f"chunked:{min(chunks)} is the shortest" if chunks else "none"
        forward = [row for row in self.policies if isinstance(row.policy, ForwardPolicy)]
        good = [row for row in forward if row.agreement.lowest >= self.wanted_cosine]
        online = f"{min(good, key=lambda row: row.ms).name} is the quickest" if good else "none"
        return (
            f"h = {h}: with windowed:{h} or longer every parameter has a cosine of {self.wanted_cosine:g} or more "
            f"(windowed:{2 * h - 1}/{h} reaches as far, in fewer passes); of the chunks measured, {chunk} that does"
            + (f"; of the policies that carry credit forward, {online} that does" if forward else "")
        )

    @property
    def choice(self) -> str:
        """The policies to choose among those measured: in time, in memory, and for an update after each step."""
        good = [row for row in self.policies if row.agreement.lowest >= self.wanted_cosine]
        if not good:
            return f"of the policies measured, none has a cosine of {self.wanted_cosine:g} in every parameter"
        time, memory = min(good, key=lambda row: row.ms), min(good, key=lambda row: row.peak_mib)
        said = (
            f"of the policies measured with a cosine of {self.wanted_cosine:g} or more in every parameter, {time.name} "
            f"takes the least time ({time.ms:.1f} ms) and {memory.name} the least memory ({memory.peak_mib:.2f} MiB)"
        )
        quickest = min((row for row in good if row.passes == self.steps), key=lambda row: row.ms, default=None)
        if quickest is None:
            other = "" if self.recommended_window is None else f", as windowed:{self.recommended_window} would have"
            return f"{said}; none of these has an update after each step{other}"
        return f"{said}; with an update after each step, {quickest.name} takes the least ({quickest.ms:.1f} ms)"

    def table(self) -> str:
        """Return the report as text for a terminal, up to 120 columns."""
        wide = max(len(row.name) for row in self.policies)
        lines = [
            f"Truncated gradients against the full one, T = {self.steps} steps, N = {self.batch_size}",
            "",
            f"{'policy':<{wide}}  {'time':>8}  {'memory':>8}  {'alive':>6}  {'forward':>8}  {'backward':>8}  "
            f"{'relative':>8}  {'cosine':>8}  lowest cosine",
            f"{'':<{wide}}  {'ms':>8}  {'MiB':>8}  {'steps':>6}  {'steps':>8}  {'passes':>8}  {'error':>8}  {'':>8}  "
            "of a parameter",
        ]
        for row in self.policies:
            found = row.agreement
            lines.append(
                f"{row.name:<{wide}}  {row.ms:8.1f}  {row.peak_mib:8.2f}  {row.alive_steps:6}  {row.forward_steps:8}  "
                f"{row.passes:8}  {found.error:8.1e}  {found.cosine:8.5f}  {found.lowest:8.5f}  {found.worst}"
            )
        lines += self._drawn_lines(wide)
        lines += ["", "Cosine of each parameter"]
        columns = list(self.profiles)
        for start in range(0, len(columns), 6):  # six fit on one line
            names = columns[start : start + 6]
            lines.append(" " * wide + "".join(f"  {name:>13}" for name in names))
            for row in self.policies:
                cosines = (f"  {row.agreement.cosines[name]:{max(13, len(name))}.5f}" for name in names)
                lines.append(f"{row.name:<{wide}}" + "".join(cosines))
        ks = [k for k in (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if k < self.horizon] + [self.horizon]
        lines += [
            "",
            "Credit profile: norm of the part of the gradient that comes from k steps back",
            f"{'k':<{wide}}" + "".join(f"  {k:>7}" for k in ks),
            f"{'norm':<{wide}}" + "".join(f"  {self.profile[k]:7.1e}" for k in ks),
            "",
        ]
        remarks = [f"Credit  {self.trend_sentence}.", f"Window  {self.recommendation}.", f"Choice  {self.choice}."]
        if any(isinstance(row.policy, Randomized) for row in self.policies):
            remarks.append("Note    randomized is one draw; the mean over all draws is the full gradient.")
        for remark in remarks:
            lines += textwrap.wrap(remark, 100, subsequent_indent=" " * 8)
        return "\n".join(line.rstrip() for line in lines)

    def _drawn_lines(self, wide: int) -> list[str]:
        """Return a table of the policies that draw: their mean and how far a draw lies from it."""
        drawn = [row for row in self.policies if row.deviation]
        if not drawn:
            return []
        lines = [
            "",
            f"Over {DRAWS} draws, relative to the full gradient (a policy without bias has one by chance)",
            f"{'':<{wide}}  {'bias':>8}  {'by chance':>9}  {'deviation':>9}",
        ]
        return lines + [
            f"{row.name:<{wide}}  {row.bias:8.2g}  {row.deviation / math.sqrt(DRAWS):9.2g}  {row.deviation:9.2g}"
            for row in drawn
        ]

    def to_json(self) -> str:
        """Return the report as JSON text, with trend and recommendation; null stands for non-finite numbers."""
        trend = self.trend
        report = {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "wanted_cosine": self.wanted_cosine,
            "recommended_window": self.recommended_window,
            "recommendation": self.recommendation,
            "choice": self.choice,
            "trend": None if trend is None else {"kind": trend.kind, **trend._asdict()},
            "trend_sentence": self.trend_sentence,
            "profile": self.profile,
            "profiles": self.profiles,
            "windows": [{"h": h, **vars(found)} for h, found in enumerate(self.windows, 1)],
            "policies": [{**vars(row), "policy": row.name, "agreement": vars(row.agreement)} for row in self.policies],
        }
        return json.dumps(_finite(report), indent=1, allow_nan=False)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw masks, the credit profile, and bias against cost, side by side.

        Args:
            path: file to write; its ending chooses the format.

        Raises:
            ImportError: if matplotlib, the extra tinygrad_rnn[plot], is not there.
            OSError: if the file cannot be written.
        """
        kinds: dict[type, list[PolicyCost]] = {}
        for row in self.policies:
            if not isinstance(row.policy, ForwardPolicy):  # what they leave out is not a matter of steps
                kinds.setdefault(type(row.policy), []).append(row)
        middle = [rows[len(rows) // 2] for rows in kinds.values()]
        picture = Picture(
            # a copy repeats the measured draws, and does not advance the policy's generator
            masks=[(row.name, copy.deepcopy(row.policy).mask(min(self.steps, 60))) for row in middle[:6]],
            profile=self.profile,
            trend=self.trend,
            window=self.recommended_window,
            points=[Point(row.name, row.ms, 1 - row.agreement.lowest) for row in self.policies],
            wanted_bias=1 - self.wanted_cosine,
        )
        draw(picture, path)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def truncation_report(
    model: LanguageModel[State],
    ids: Operand,
    targets: Operand,
    policies: Sequence[Policy | str] | None = None,
    *,
    horizon: int | None = None,
    state: State | None = None,
    wanted_cosine: float = 0.99,
    repeats: int = 3,
) -> TruncationReport:
    """Measure truncation policies, and how far back credit reaches, for a language model on some text.

    The loss is the mean nats per target. There is no dropout, and no parameter changes.

    Args:
        model: an `RNNLM`, or anything with `parameters()`, `initial_state(N)` and
            `loss(ids, targets, state) -> (mean loss, state)`.
        ids: (N, T) integers.
        targets: (N, T) integers; -1 does not count.
        policies: as in `recurrence_report`.
        horizon: as in `recurrence_report`.
        state: before the first step; None: `model.initial_state(N)`.
        wanted_cosine: as in `recurrence_report`.
        repeats: as in `recurrence_report`.

    Raises:
        ShapeError: if ids and targets are not of one shape (N, T).
        NonFiniteError, ConfigError: as `recurrence_report`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.RNNLM(7, 4, 4, np.random.default_rng(0), dtype=np.float64)
    >>> text = np.arange(26).reshape(2, 13) % 7
    >>> report = truncation_report(model, text[:, :-1], text[:, 1:], [tr.Full(), tr.Chunked(4)])
    >>> [(row.name, row.passes) for row in report.policies], len(report.profile)
    ([('full', 1), ('chunked:4', 3)], 12)
    """
    shape = shape_of(ids)
    if len(shape) != 2 or shape != shape_of(targets):
        raise ShapeError(
            f"truncation_report: expected ids and targets of one shape (N, T), got {shape} and {shape_of(targets)}"
        )
    state = model.initial_state(shape[0]) if state is None else state
    return recurrence_report(
        step_of_mean(model.loss, np.asarray(targets)),
        model.parameters(),
        (np.asarray(ids), np.asarray(targets)),
        state,
        policies,
        horizon=horizon,
        wanted_cosine=wanted_cosine,
        repeats=repeats,
    )


def recurrence_report(
    step: Step,
    parameters: Mapping[str, Tensor],
    inputs: object,
    state: object,
    policies: Sequence[Policy | str] | None = None,
    *,
    horizon: int | None = None,
    wanted_cosine: float = 0.99,
    repeats: int = 3,
) -> TruncationReport:
    """Measure truncation policies, and how far back credit reaches, for any recurrence.

    Args:
        step: as in `Recurrence`; it must compute the same each time.
        parameters: name to leaf Tensor.
        inputs: arrays (N, T, ...), or any nesting of them.
        state: before the first step.
        policies: to measure, or their texts; None: some of each kind, those that are not affordable left out.
        horizon: largest k of the credit profile, in steps; None: 50. At most T - 1 are looked at.
        wanted_cosine: cosine that the recommended window is to reach, in (0, 1].
        repeats: timed runs of each policy, of which the shortest counts; fewer if they take longer than 2 seconds.

    Raises:
        ConfigError: if horizon, wanted_cosine or repeats is out of range, or policies is empty or contains anything
            else.
        NonFiniteError: if the full gradient is not finite.
        ShapeError, GradientError: as `Recurrence`.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> w = tr.tensor(0.5, requires_grad=True)
    >>> def step(xs, h):
    ...     total = 0.0
    ...     for t in range(xs.shape[1]):
    ...         h = h * w + xs[:, t]
    ...         total = total + h.sum()
    ...     return total, h
    >>> report = recurrence_report(step, {"w": w}, np.ones((1, 30)), np.zeros(1), [tr.Chunked(5)])
    >>> report.trend.kind, round(report.policies[0].agreement.error, 3)
    ('vanishing', 0.172)
    """
    wanted_cosine = number("recurrence_report", "wanted_cosine", wanted_cosine, 0, 1, above=True)
    horizon = 50 if horizon is None else integer("recurrence_report", "horizon", horizon, 0)
    repeats = integer("recurrence_report", "repeats", repeats)
    chosen = None if policies is None else _parsed(policies)
    state = arrays_of(state)
    found = bptt(step, parameters, inputs, state, Full())
    full, T = found.gradients, found.end
    for name, g in full.items():
        if not np.isfinite(g).all():
            raise NonFiniteError(
                f"recurrence_report: the full gradient of {name} over {T} steps is not finite, so nothing can be "
                "compared with it; take fewer steps, or float64"
            )
    if chosen is None:
        numbers = sum(math.prod(shape_of(part)) for part in flatten(state))  # N n
        chosen = default_policies(T, numbers * sum(parameter.size for parameter in parameters.values()))
    rows = tuple(measure(step, parameters, inputs, state, policy, full, repeats) for policy in chosen)

    norms: dict[str, list[float]] = {name: [] for name in full}
    window = {name: np.zeros(g.shape, np.result_type(g, np.float64)) for name, g in full.items()}
    windows = []
    parts = credit_profile(step, parameters, inputs, state)
    for part in itertools.islice(parts, 1 + horizon):
        for name, g in part.items():
            norms[name].append(float(np.linalg.norm(g.astype(window[name].dtype).ravel())))
            window[name] += g
        windows.append(agreement(window, full))
    return TruncationReport(
        steps=T,
        batch_size=shape_of(flatten(inputs)[0])[0],
        wanted_cosine=wanted_cosine,
        policies=rows,
        profile=tuple(math.hypot(*column) for column in zip(*norms.values(), strict=True)),
        profiles={name: tuple(column) for name, column in norms.items()},
        windows=tuple(windows),
    )


def _parsed(policies: Sequence[Policy | str]) -> list[Policy]:
    if isinstance(policies, Policy | str):
        raise ConfigError(f"recurrence_report: policies must be a list of policies, got {policies!r}; write [...]")
    if not policies:
        raise ConfigError("recurrence_report: policies is empty; expected one or more, or None")
    return [parse_policy(policy, argument=f"recurrence_report: policies[{n}]") for n, policy in enumerate(policies)]
