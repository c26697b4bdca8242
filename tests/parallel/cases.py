"""Runs that several processes make together, and one alone: as a program, under mpiexec, it compares them.

mpiexec -n 2 python tests/parallel/cases.py 20 cell:lstm policy:windowed     # updates, and names; none: all
"""

import json
import sys
import time

import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn import optim
from tinygrad_rnn.data import Sequences
from tinygrad_rnn.parallel import Group

V, N, T = 12, 5, 6  # 5 streams cannot be divided evenly
TEXT = np.random.default_rng(1).integers(0, V, 1300)


class Apart(Group):
    """Processes that begin sums before the end of a plan, as those of several machines do."""

    def can_add_beside(self):
        return True


def language(
    comm, updates, *, cell="lstm", optimizer=None, policy=None, clip=0.0, drop=0.0, exchange="gradients", **how
):
    """Updates of a language model on offset streams: losses, norms and parameters."""
    made = {"cell": cell, "layers": 2, "dropout": drop, **how.pop("model", {})}
    model = tr.RNNLM(
        how.pop("vocabulary", V), 5, how.pop("hidden", 6), np.random.default_rng(0), dtype=np.float64, **made
    )
    rng = np.random.default_rng(2) if how.pop("draws", False) or drop else None
    rule = tr.SGD(0.3) if optimizer is None else optimizer()
    accumulate = how.pop("accumulate", 1)
    comm = Apart(comm) if how.pop("apart", False) else comm
    step = tr.TrainStep(
        model,
        lambda model, batch, state, rng: model.loss(*batch, state, rng=rng),
        rule,
        clip=clip,
        policy=policy() if callable(policy) else policy,
        comm=comm,
        exchange=exchange,
        **how,
    )
    found = []

    def note(result):
        found.append((result.loss, result.gradient_norm, result.weight))
        return len(found) == updates

    while len(found) < updates:
        windows = tr.OffsetBatches(TEXT, N, T)
        tr.run_epoch(step, windows, model.initial_state(N), rng=rng, accumulate=accumulate, on_update=note)
    step.settle()
    return {"found": np.array(found), **model.state_dict()}


class Labels(tr.Module):
    """A class for each step of sequences of any length."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.cell = tr.GRUCell(2, 5, rng, dtype=np.float64)
        self.out = tr.Linear(5, 3, rng, dtype=np.float64)


def lengths(comm, updates, *, valid=True, **how):
    """A Trainer on padded sequences of 1 to 9 steps, 7 in a batch and 2 in the last: all means and parameters."""
    rng = np.random.default_rng(3)
    rows = [rng.standard_normal((int(n), 2)) for n in rng.integers(1, 10, 23)]
    data = Sequences(rows, [rng.integers(0, 3, len(row)) for row in rows], dtype=np.float64)

    def loss(model, batch, rng=None):
        hs, _ = tr.unroll(model.cell, batch.inputs, model.cell.initial_state(len(batch.inputs)), lengths=batch.lengths)
        logits = model.out(hs)
        metrics = {"weight": np.sum(batch.target_mask), "accuracy": tr.metrics.accuracy(logits, batch.targets)}
        return tr.cross_entropy(logits, batch.targets, ignore_label=-1), None, metrics

    model = Labels()
    trainer = tr.Trainer(
        model,
        loss,
        data.batches(7, np.random.default_rng(4)),
        data.batches(6) if valid else None,
        optimizer=tr.Adam(0.02),
        clip=0.5,
        updates=updates,
        comm=comm,
        progress=False,
        **how,
    )
    history = trainer.fit()
    means = [[*record.train.values(), *record.valid.values(), record.weight] for record in history.records]
    return {"means": np.array(means), **model.state_dict()}


def unit(cell):
    """A language model with any cell."""
    return {"model": {"cell": lambda D, H, rng, dtype: cell(tr.LSTMCell(D, H, rng, dtype=dtype)), "layers": 1}}


CELLS = (
    "rnn",
    "lstm",
    "gru",
    tr.CoupledLSTMCell,
    tr.LayerNormLSTMCell,
    tr.PeepholeLSTMCell,
    tr.IndRNNCell,
    tr.MinGRUCell,
)
OPTIMIZERS = {
    "momentum": lambda: optim.Momentum(0.1),
    "nesterov": lambda: optim.Momentum(0.1, nesterov=True),
    "adam": lambda: optim.Adam(0.01),
    "adamw": lambda: optim.AdamW(0.01),
    "rmsprop": lambda: optim.RMSprop(0.01),
    "adagrad": lambda: optim.Adagrad(0.1),
    "lion": lambda: optim.Lion(0.003),
    "averaged": lambda: optim.Averaged(optim.SGD(0.3), decay=0.9),
    "grouped": lambda: optim.Grouped({"embedding.*": optim.SGD(0.3), "*": optim.Adam(0.01)}),
}
POLICIES = {
    "full": "full",
    "chunked": "chunked:6",
    "decay": "decay:0.8",
    "windowed": "windowed:9/3",
    "randomized": lambda: tr.Randomized(0.2, every=6, rng=5),
    "adaptive": lambda: tr.Adaptive(0.1, max_window=12, every=3),
    "checkpointed": "checkpointed:2",
    "rtrl": lambda: tr.RTRL(every=3),
    "snap": lambda: tr.SnAp(1, every=3),
    "rflo": lambda: tr.RFLO(every=3),
    "eprop": lambda: tr.EProp(feedback="random", rng=3, every=3),
    "forward": lambda: tr.ForwardGradient(rng=3, every=3),
    "uoro": lambda: tr.UORO(rng=3, every=3),
    "kronecker": lambda: tr.KroneckerFactored(rng=3, every=3),
}

# Large enough for parts of updates, for tables whose gradients are rows, and for sums before the end of a plan.
LARGE = {"vocabulary": 1200, "hidden": 32}

CASES = {f"cell:{cell if isinstance(cell, str) else cell.__name__}": (language, {"cell": cell}) for cell in CELLS}
# It divides by the deviation of numbers that are almost equal, and so rounding grows from update to update, also of one
# process on another executor: that is what its difference is compared with.
SENSITIVE = "cell:LayerNormLSTMCell"
CASES[SENSITIVE][1].update(model={"layers": 1}, optimizer=lambda: tr.SGD(0.01))
CASES |= {f"optimizer:{name}": (language, {"optimizer": made, "clip": 0.5}) for name, made in OPTIMIZERS.items()}
CASES |= {
    f"policy:{name}": (language, {"policy": made, "model": {"layers": 1}, "cell": "rnn"})
    for name, made in POLICIES.items()
}
CASES |= {  # large variance: small steps
    f"policy:{name}": (language, {**CASES[f"policy:{name}"][1], "optimizer": lambda: tr.SGD(0.05)})
    for name in ("forward", "uoro", "kronecker")
}
CASES |= {
    "uoro, eager": (language, {**CASES["policy:uoro"][1], "compile": False}),
    "uoro, momentum, two layers": (
        language,
        {"policy": POLICIES["uoro"], "optimizer": lambda: optim.Momentum(0.01), "clip": 0.5, "cell": "gru"},
    ),
    "clip": (language, {"clip": 0.1}),
    "dropout": (language, {"drop": 0.4}),
    "dropout, policy": (language, {"drop": 0.4, "policy": "windowed:9/3"}),
    "zoneout": (language, {"draws": True, **unit(lambda cell: tr.Zoneout(cell, 0.3))}),
    "variational": (language, {"draws": True, **unit(lambda cell: tr.VariationalDropout(cell, 0.2, 0.3))}),
    "weight drop": (language, {"draws": True, **unit(lambda cell: tr.WeightDrop(cell, 0.4))}),
    "overlap": (
        language,
        {**LARGE, "drop": 0.2, "apart": True},
    ),
    "divided": (language, {**LARGE, "clip": 0.1, "drop": 0.2}),
    "divided, decay": (language, {**LARGE, "optimizer": lambda: tr.SGD(0.3, weight_decay=0.01)}),
    "divided, accumulate": (language, {**LARGE, "clip": 0.1, "accumulate": 3}),
    "divided, numpy": (language, {**LARGE, "clip": 0.1, "executor": "numpy"}),
    "rows, adam": (language, {**LARGE, "optimizer": OPTIMIZERS["adam"], "clip": 0.5}),
    "rows, tied": (language, {**LARGE, "model": {"tied": True}, "hidden": 5}),
    "rows, overlap, adam": (language, {**LARGE, "optimizer": OPTIMIZERS["adam"], "apart": True}),
    "accumulate": (language, {"accumulate": 3, "clip": 0.1, "drop": 0.2}),
    "eager": (language, {"compile": False, "drop": 0.2}),
    "numpy": (language, {"executor": "numpy", "drop": 0.2}),
    "lengths": (lengths, {}),
    "lengths, accumulate": (lengths, {"accumulate": 2}),
    "lengths, eager": (lengths, {"compile": False}),
}
# What is no update of one process, but equals data-parallel training: one inner step, all entries.
SAME = {"local:1": "gradients", "topk:1": "gradients"}


def difference(one, other):
    """The largest difference of arrays by name; infinity where their shapes differ."""
    return max(
        float(np.max(np.abs(one[k] - other[k]), initial=0)) if one[k].shape == other[k].shape else np.inf for k in one
    )


def compared(name, comm, updates):
    """What a case gives on all processes, next to one alone, and to itself again."""
    if name in SAME:
        function, how = language, {"exchange": name}
        alone = language(comm, updates, exchange=SAME[name])
    else:
        function, how = CASES[name]
        alone = function(None, updates, **how)
    together = function(comm, updates, **how)
    again = function(comm, updates, **how)
    if name in SAME:  # the norms are those of one process's gradient
        for run in (alone, together, again):
            run["found"] = run["found"][:, [0, 2]]
    everywhere = comm.allgather(together)
    return {
        "case": name,
        "difference": difference(together, alone),
        "rounding": difference(alone, function(None, updates, executor="numpy", **how)) if name == SENSITIVE else 0.0,
        "repeats": all(np.array_equal(together[k], again[k]) for k in together),
        "alike": all(np.array_equal(together[k], other[k]) for other in everywhere for k in together),
    }


if __name__ == "__main__":
    from mpi4py import MPI

    updates, *names = sys.argv[1:]
    for name in names or [*CASES, *SAME]:
        started = time.perf_counter()
        line = compared(name, MPI.COMM_WORLD, int(updates))
        if MPI.COMM_WORLD.rank == 0:
            print(json.dumps(line | {"seconds": round(time.perf_counter() - started, 2)}), flush=True)
