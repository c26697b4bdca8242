"""The same trajectories as PyTorch's optimizers and schedules, over 300 updates of a small network.

What PyTorch found stands in `pytorch.json`, so that the comparison runs without it. Where it is installed, the table is
checked at night, and written anew with --update-golden -m nightly.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn import optim

TABLE = Path(__file__).with_name("pytorch.json")
UPDATES = 300
NOTED = (1, 10, 100, UPDATES)

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((20, 4)), RNG.standard_normal((20, 3))
W, B = RNG.standard_normal((4, 3)), RNG.standard_normal(3)

# name -> ours, and the name and settings of PyTorch's. Weight decay leaves out biases in all of them.
CASES = {
    "sgd": (lambda: optim.SGD(0.1), "SGD", {"lr": 0.1}),
    "sgd decay": (lambda: optim.SGD(0.1, weight_decay=0.1), "SGD", {"lr": 0.1, "weight_decay": 0.1}),
    "momentum": (lambda: optim.Momentum(0.1, 0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (
        lambda: optim.Momentum(0.1, 0.9, nesterov=True, weight_decay=0.01),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    "rmsprop": (lambda: optim.RMSprop(0.01), "RMSprop", {"lr": 0.01}),
    "rmsprop centered": (
        lambda: optim.RMSprop(0.001, eps=1e-4, weight_decay=0.01, momentum=0.9, centered=True),
        "RMSprop",
        {"lr": 0.001, "eps": 1e-4, "weight_decay": 0.01, "momentum": 0.9, "centered": True},
    ),
    "adagrad": (
        lambda: optim.Adagrad(0.1, lr_decay=0.01, initial=0.1, weight_decay=0.01),
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.1, "weight_decay": 0.01},
    ),
    "adam": (lambda: optim.Adam(0.01), "Adam", {"lr": 0.01}),
    "amsgrad": (
        lambda: optim.Adam(0.05, (0.8, 0.95), weight_decay=0.01, amsgrad=True),
        "Adam",
        {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": 0.01, "amsgrad": True},
    ),
    "adamw": (lambda: optim.AdamW(0.01, weight_decay=0.1), "AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    "adamw amsgrad": (
        lambda: optim.AdamW(0.01, weight_decay=0.1, amsgrad=True),
        "AdamW",
        {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True},
    ),
    "mean of weights": (lambda: optim.Averaged(optim.SGD(0.1), decay=None, start=50), "SGD", {"lr": 0.1}),
    "groups": (
        lambda: optim.Grouped({"b": optim.Momentum(0.5), "*": optim.Momentum(0.1, weight_decay=0.1)}),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "bias lr": 0.5},
    ),
}

HELD_OUT = np.abs(1 + 3 * np.exp(-np.arange(UPDATES) / 30) + 0.2 * np.random.default_rng(1).standard_normal(UPDATES))

SCHEDULES = {
    "step": (lambda: optim.StepDecay(0.5, 40, 0.3), "StepLR", {"step_size": 40, "gamma": 0.3}),
    "milestones": (
        lambda: optim.StepDecay(0.5, [10, 200], 0.3),
        "MultiStepLR",
        {"milestones": [10, 200], "gamma": 0.3},
    ),
    "exponential": (lambda: optim.Exponential(0.5, 0.98), "ExponentialLR", {"gamma": 0.98}),
    "cosine": (lambda: optim.Cosine(0.5, UPDATES, 0.1), "CosineAnnealingLR", {"T_max": UPDATES, "eta_min": 0.1}),
    "one cycle": (lambda: optim.OneCycle(0.5, UPDATES), "OneCycleLR", {"max_lr": 0.5, "total_steps": UPDATES}),
    "plateau": (
        lambda: optim.Plateau(0.5, 0.25, patience=3, threshold=1e-2, floor=1e-3),
        "ReduceLROnPlateau",
        {"factor": 0.25, "patience": 3, "threshold": 1e-2, "min_lr": 1e-3},
    ),
}


def ours(name):
    """Return the weights after the updates that are noted, and the averages at the end."""
    optimizer = CASES[name][0]()
    params = {"W": tr.tensor(W, requires_grad=True), "b": tr.tensor(B, requires_grad=True)}
    found = []
    for update in range(1, UPDATES + 1):
        loss = np.mean((np.tanh(X @ params["W"] + params["b"]) - Y) ** 2)
        optimizer.update(params, tr.grad(loss, params))
        if update in NOTED:
            found.append([*params["W"].data.ravel(), *params["b"].data])
    if isinstance(optimizer, optim.Averaged):
        with optimizer.averaged(params):
            found.append([*params["W"].data.ravel(), *params["b"].data])
    return found


def theirs(name, torch):
    _, kind, settings = CASES[name]
    settings = dict(settings)
    w, b = (torch.tensor(array, requires_grad=True) for array in (W, B))
    bias = {"params": [b], "weight_decay": 0.0, "lr": settings.pop("bias lr", settings["lr"])}
    optimizer = getattr(torch.optim, kind)([{"params": [w]}, bias], **settings)
    found, kept = [], []
    for update in range(1, UPDATES + 1):
        optimizer.zero_grad()
        torch.mean((torch.tanh(torch.tensor(X) @ w + b) - torch.tensor(Y)) ** 2).backward()
        optimizer.step()
        row = [*w.detach().numpy().ravel().tolist(), *b.detach().numpy().tolist()]
        if update > 50:
            kept.append(row)
        if update in NOTED:
            found.append(row)
    return [*found, np.mean(kept, axis=0).tolist()] if name == "mean of weights" else found


def their_rates(name, torch):
    _, kind, settings = SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule, found = getattr(torch.optim.lr_scheduler, kind)(optimizer, **settings), []
    for update in range(UPDATES):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(*([float(HELD_OUT[update])] if kind == "ReduceLROnPlateau" else []))
    return found


def expected():
    return json.loads(TABLE.read_text(encoding="utf-8"))


@pytest.mark.sample(6)
@pytest.mark.parametrize("name", CASES)
def test_the_same_trajectory(name):
    np.testing.assert_allclose(ours(name), expected()["optimizers"][name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_same_rates(name):
    schedule, found = SCHEDULES[name][0](), []
    for update in range(UPDATES):
        found.append(schedule.lr(update))
        schedule.observe(float(HELD_OUT[update]))
    np.testing.assert_allclose(found[::10], expected()["schedules"][name], rtol=1e-9)
    assert len(set(found)) > 2


@pytest.mark.nightly  # what is compared with the table each time takes half a second, its making twenty
def test_the_table_is_what_pytorch_finds(request):
    torch = pytest.importorskip("torch", reason="PyTorch is for development only")
    found = {
        "optimizers": {name: theirs(name, torch) for name in CASES},
        "schedules": {name: their_rates(name, torch)[::10] for name in SCHEDULES},
    }
    if request.config.getoption("--update-golden"):
        lines = [
            f'"{part}": {{\n' + ",\n".join(f'"{name}": {json.dumps(row)}' for name, row in rows.items()) + "\n}"
            for part, rows in found.items()
        ]
        TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    for part, rows in expected().items():
        assert rows.keys() == found[part].keys()
        for name, row in rows.items():
            np.testing.assert_allclose(found[part][name], row, rtol=1e-9, atol=1e-12)
