"""Measure the table of docs/credit.md: python docs/measure_credit.py (some minutes)."""

from __future__ import annotations

import sys

import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn.data.text import embedded_text

POLICIES = [
    "windowed:1",
    "windowed:5",
    "windowed:20",
    "rtrl",
    "snap:1",
    "eprop",
    "eprop:random",
    "kf",
    "uoro",
    "forward",
]
N, T, H, UPDATES = 4, 60, 32, 200


def measured(cell: str) -> tr.TruncationReport:
    """Return the report for a language model of one layer, after a short training on the text that Python ships."""
    train, valid = tr.load_corpus(embedded_text(), "char", max_tokens=100_000)
    model = tr.RNNLM(len(train.vocabulary), 16, H, np.random.default_rng(0), cell=cell, dtype=np.float64)
    step = tr.TrainStep(model, lambda model, batch: model.loss(*batch)[0], tr.Adam(lr=0.01))
    windows = iter(tr.OffsetBatches(train.ids[: 8 * 20 * UPDATES + 8], batch_size=8, bptt=20))
    for batch in windows:
        step(tuple(batch))
    ids = valid.ids[: N * T].reshape(N, T)
    targets = valid.ids[1 : N * T + 1].reshape(N, T)
    return tr.truncation_report(model, ids, targets, POLICIES, horizon=1, repeats=1)


if __name__ == "__main__":
    print("| policy | cell | cosine | relative error | deviation of a draw | peak memory | ms per step |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in sys.argv[1:] or ["lstm", "gru"]:
        for row in measured(name).policies:
            found = row.agreement
            spread = f"{row.deviation:.2g}" if row.deviation else ""
            print(
                f"| `{row.name}` | {name} | {found.cosine:.3f} | {found.error:.2g} | {spread} | {row.peak_mib:.2f} MiB "
                f"| {row.ms / T:.2f} |",
                flush=True,
            )
