"""One cold epoch over sequences of many lengths in a process of its own: `python -m peers.epoch MODULE EPOCH`.

EPOCH is a JSON list of the fields of `Epoch`; see `process.once`. Answers with the seconds and the loss of each batch
as it was met for the first time, and then, for each T that was met, the seconds of a batch of this T right after
another one of it: the difference is the cost of a new length. It is measured in processor time of all threads too.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any, NamedTuple

import numpy as np

from .task import Config, make_weights


class Epoch(NamedTuple):
    """Sequences, their batches, and the model: `Config` without T.

    Attributes:
        shortest, longest: bounds of the lengths, drawn uniformly.
        batches: how many, of `config.N` sequences each.
        order: "random": any sequences make a batch; "alike": those of about the same length do.
        padded: whether all batches are padded to the longest length of all instead of their own.
    """

    config: Config
    shortest: int
    longest: int
    batches: int
    order: str
    padded: bool
    seed: int


def make_batches(epoch: Epoch) -> list[tuple[Any, Any]]:
    """Return (ids, targets), (N, T) each, T the longest of its sequences; beyond a sequence ids are 0, targets -1."""
    config, rng = epoch.config, np.random.default_rng(epoch.seed)
    lengths = rng.integers(epoch.shortest, epoch.longest + 1, epoch.batches * config.N)
    if epoch.order == "alike":
        lengths = rng.permutation(np.sort(lengths).reshape(-1, config.N)).reshape(-1)
    shares = 1 / np.arange(1, config.V + 1)
    texts = rng.choice(config.V, size=(len(lengths), epoch.longest + 1), p=shares / shares.sum())
    made = []
    for start in range(0, len(lengths), config.N):
        own = lengths[start : start + config.N, None]
        T = epoch.longest if epoch.padded else int(own.max())
        inside = np.arange(T) < own
        text = texts[start : start + config.N]
        made.append((np.where(inside, text[:, :T], 0), np.where(inside, text[:, 1 : T + 1], -1)))
    return made


def measure(module: str, epoch: Epoch) -> dict[str, Any]:
    """Return what an epoch takes; see the module's text."""
    begin = time.perf_counter()
    peer = importlib.import_module(f"peers.{module}")
    imported = time.perf_counter() - begin
    if hasattr(peer, "warm_up"):
        peer.warm_up()
    weights, batches = make_weights(epoch.config), make_batches(epoch)
    begin = time.perf_counter()
    step = peer.start(epoch.config, weights, carry=False)
    made = time.perf_counter() - begin

    def timed(batch: tuple[Any, Any]) -> tuple[float, float, float]:
        begin, work = time.perf_counter(), time.process_time()
        loss = step(*batch)
        return time.perf_counter() - begin, time.process_time() - work, loss

    met = [timed(batch) for batch in batches]
    of_length = {batch[0].shape[1]: batch for batch in batches}
    again = {T: [timed(batch) for _ in range(3)] for T, batch in of_length.items()}
    return {
        "version": peer.VERSION,
        "import_s": imported,
        "start_s": made,
        "epoch_s": made + sum(seconds for seconds, _, _ in met),
        "lengths": [batch[0].shape[1] for batch in batches],
        "batch_s": [seconds for seconds, _, _ in met],
        "batch_cpu_s": [work for _, work, _ in met],
        "losses": [loss for _, _, loss in met],
        "again_s": {T: min(seconds for seconds, _, _ in runs) for T, runs in again.items()},
        "again_cpu_s": {T: min(work for _, work, _ in runs) for T, runs in again.items()},
    }


if __name__ == "__main__":
    fields = json.loads(sys.argv[2])
    print(json.dumps(measure(json.loads(sys.argv[1]), Epoch(Config(*fields[0]), *fields[1:]))))
