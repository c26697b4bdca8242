"""Forecasting a noisy cycle: a GRU against the value of one cycle ago and against linear autoregression.

The series is made here, in the manner of sunspot numbers: a cycle of about eleven years whose length and strength
change, always above 0, with noise that grows with the number. A CSV of your own, in order of time, takes its place:

    python examples/forecast.py [series.csv --column 1 --cycle 11]

The last fifth is held out; the GRU's best epoch is chosen on the tenth before it. Each model predicts the next value
from the last `--window`. The output (2 s of one core):

    700 values, 136 of them held out

    model                  RMSE      MAE       R2
    the last value        15.51    12.45    0.688
    one cycle ago         22.66    17.16    0.335
    linear, 22 values      9.86     7.63    0.874
    GRU                    9.53     7.27    0.882

On the yearly sunspot numbers of 1700 to 2008 (statsmodels has them), 57 of them held out:

    the last value        33.02    25.20    0.607
    one cycle ago         38.06    28.20    0.478
    linear, 22 values     19.18    14.12    0.867
    GRU                   16.04    12.31    0.907
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import tinygrad_rnn as tr


class Forecaster(tr.Module):
    """A GRU that reads a window, and a linear layer that adds to the last value."""

    def __init__(self, hidden_size: int, rng: np.random.Generator) -> None:
        self.scale = tr.Standardize()
        self.cell, self.head = tr.GRUCell(1, hidden_size, rng), tr.Linear(hidden_size, 1, rng)

    def __call__(self, inputs: NDArray[np.float32]) -> tr.Tensor:
        """Return the next values (N, 1), standardized, after windows (N, T, 1)."""
        xs = self.scale(inputs)
        _, state = tr.unroll(self.cell, xs)
        return xs[:, -1] + self.head(state)


def cycles(rng: np.random.Generator, years: int = 700) -> NDArray[np.float64]:
    """Return numbers (years,) that rise and fall in about eleven years."""
    pace = 2 * np.pi / 11 * (1 + 0.15 * np.cumsum(rng.standard_normal(years)) / np.sqrt(np.arange(1, years + 1)))
    strength = 70 + 30 * np.sin(np.arange(years) / 14) + 20 * np.sin(np.arange(years) / 5.3)
    level = strength * (1 - np.cos(np.cumsum(pace))) / 2
    return np.maximum(0, level + np.sqrt(1 + level) * rng.standard_normal(years))


def autoregression(train: tr.Sequences, valid: tr.Sequences, test: tr.Sequences) -> NDArray[np.float64]:
    """Return the predictions of the linear model of the window that fits what was before best."""

    def design(data: tr.Sequences) -> NDArray[np.float64]:
        return np.column_stack([np.ones(len(data)), np.stack(data.inputs)[..., 0]]).astype(np.float64)

    wanted = np.concatenate([*(train.targets or []), *(valid.targets or [])])
    weights, *_ = np.linalg.lstsq(np.concatenate([design(train), design(valid)]), wanted, rcond=None)
    return np.asarray(design(test) @ weights)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Print the errors, and return them by model."""
    parser = argparse.ArgumentParser(description="Forecast a noisy cycle.")
    parser.add_argument("series", nargs="?", help="CSV file; none: a series that is made here")
    parser.add_argument("--column", type=int, default=1, help="which of the file's columns, from 0 (default 1)")
    parser.add_argument("--cycle", type=int, default=11, help="steps of a cycle (default 11)")
    parser.add_argument("--window", type=int, default=22, help="steps that a prediction sees (default 22)")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rng, started = np.random.default_rng(options.seed), time.perf_counter()
    if options.series is None:
        series = cycles(rng)
    else:
        series = np.loadtxt(options.series, delimiter=",", skiprows=1, usecols=options.column)

    train, valid, test = tr.sliding_windows(series, options.window).split(0.1, 0.2)
    model = Forecaster(24, rng)
    model.scale.fit(np.concatenate(train.inputs))

    def loss(model: Forecaster, batch: tr.Batch) -> tr.Tensor:
        found: tr.Tensor = tr.huber(model(batch.inputs), model.scale(batch.targets))
        return found

    updates = options.epochs * -(-len(train) // 32)
    trainer = tr.Trainer(
        model,
        loss,
        train.batches(32, rng),
        valid.batches(256),
        optimizer=tr.AdamW(0.005),
        schedule=tr.optim.OneCycle(0.005, updates),
        clip=1.0,
        epochs=options.epochs,
        progress=False,
    )
    trainer.fit()

    (batch,) = test.batches(len(test))
    found = {
        "the last value": batch.inputs[:, -1, 0],
        "one cycle ago": batch.inputs[:, -options.cycle, 0],
        f"linear, {options.window} values": autoregression(train, valid, test),
        "GRU": model.scale.inverse(model(batch.inputs).data)[:, 0],
    }
    print(f"{len(series):,} values, {len(test)} of them held out\n\n{'model':18s}     RMSE      MAE       R2")
    errors = {}
    for name, predictions in found.items():
        scores = [score(predictions, batch.targets[:, 0]) for score in (tr.metrics.rmse, tr.metrics.mae, tr.metrics.r2)]
        print(f"{name:18s} {scores[0].value:8.2f} {scores[1].value:8.2f} {scores[2].value:8.3f}")
        errors[name] = scores[0].value
    print(f"\n{time.perf_counter() - started:.0f} s")
    return errors


if __name__ == "__main__":
    main()
