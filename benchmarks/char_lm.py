"""Character language model against PyTorch: the same text, settings, windows and updates, epoch by epoch.

    python benchmarks/char_lm.py CORPUS --cell lstm --epochs 10
    python benchmarks/char_lm.py CORPUS --cell lstm --epochs 10 --alone      # without PyTorch

H=128, one layer, D=64, Adam 2e-3, global norm clipped at 5, windows of 50 steps, 50 streams, text split 90/10.
Each side starts from its own initialisation. Prints nats per character on the held-out part after each epoch, and the
seconds of its training pass; epochs alternate, so both sides meet the same machine. One JSON line an epoch goes to
--json. Needs the extra [bench] (PyTorch, CPU build) unless --alone is given.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import blas_threads, cpu_level, describe

import tinygrad_rnn as tr
from tinygrad_rnn.data import OffsetBatches, load_corpus, read_text
from tinygrad_rnn.optim import Adam
from tinygrad_rnn.training import evaluate, train_epoch

D, H, N, T, LR, CLIP = 64, 128, 50, 50, 2e-3, 5.0


def ours(train: Any, valid: Any, cell: str, seed: int) -> Iterator[tuple[float, float]]:
    """Yield (held-out nats per character, training seconds) for one epoch after another."""
    model = tr.RNNLM(len(train.vocabulary), D, H, np.random.default_rng(seed), cell=cell)
    optimizer, windows = Adam(LR), OffsetBatches(train.ids, N, T)
    while True:
        result = train_epoch(model, windows, optimizer, model.initial_state(N), clip=CLIP)
        yield evaluate(model, valid.ids, N, T).nats, result.seconds


def pytorch(train: Any, valid: Any, cell: str, seed: int, threads: int) -> Iterator[tuple[float, float]]:
    """Yield the same of a PyTorch model."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    V = len(train.vocabulary)
    layer = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](D, H, batch_first=True)
    embedding, output = torch.nn.Embedding(V, D), torch.nn.Linear(H, V)
    parameters = [*embedding.parameters(), *layer.parameters(), *output.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LR)

    def run(windows: OffsetBatches, update: bool) -> float:
        state, nats, count = None, 0.0, 0
        for xs, ts in windows:
            if state is not None:
                state = tuple(part.detach() for part in state) if cell == "lstm" else state.detach()
            hs, state = layer(embedding(torch.from_numpy(xs)), state)
            loss = torch.nn.functional.cross_entropy(output(hs).reshape(-1, V), torch.from_numpy(ts).reshape(-1))
            if update:
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, CLIP)
                optimizer.step()
            nats, count = nats + loss.item() * ts.size, count + ts.size
        return nats / count

    while True:
        start = time.perf_counter()
        run(OffsetBatches(train.ids, N, T), update=True)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            yield run(OffsetBatches(valid.ids, N, T), update=False), seconds


def main(argv: list[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="text file, utf-8")
    parser.add_argument("--cell", choices=("rnn", "lstm", "gru"), default="lstm")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", action="store_true", help="leave PyTorch out")
    parser.add_argument("--json", type=Path, help="file that gets a line an epoch")
    args = parser.parse_args(argv)

    train, valid = load_corpus(read_text(args.corpus), "char", held_out=0.1)
    threads = blas_threads()
    print(f"{args.cell}, H={H}, D={D}, V={len(train.vocabulary)}, {len(train):,} + {len(valid):,} characters, ", end="")
    print(f"{describe()}, seed {args.seed}")
    sides = {"tinygrad_rnn": ours(train, valid, args.cell, args.seed)}
    if not args.alone:
        sides["pytorch"] = pytorch(train, valid, args.cell, args.seed, threads)
    print("epoch" + "".join(f"  {name:>12} nats  seconds" for name in sides))
    for epoch in range(1, args.epochs + 1):
        row = {name: next(side) for name, side in sides.items()}
        print(f"{epoch:5}" + "".join(f"  {nats:17.4f}  {seconds:7.1f}" for nats, seconds in row.values()), flush=True)
        if args.json:
            record = {"cell": args.cell, "seed": args.seed, "epoch": epoch, "threads": threads, "cpu": cpu_level()}
            record |= {f"{n}_{key}": v for n, pair in row.items() for key, v in zip(("nats", "s"), pair, strict=True)}
            with args.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
