"""What a configuration is built into."""

import dataclasses

import pytest

from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.training.language.build import make_optimizer, make_schedule

CHOICES = {field.name: field.metadata["limits"].choices for field in dataclasses.fields(TrainConfig)}


@pytest.mark.parametrize("name", CHOICES["optimizer"])
def test_every_optimizer_that_can_be_chosen_is_made(name):
    optimizer = make_optimizer(TrainConfig(optimizer=name, lr=0.25, weight_decay=0.1))
    rule = optimizer.optimizer if name == "asgd" else optimizer
    assert type(rule).__name__.lower() == name.removeprefix("a" if name == "asgd" else "")
    assert optimizer.lr == rule.lr == 0.25
    assert rule.weight_decay == 0.1


@pytest.mark.parametrize("name", CHOICES["schedule"])
def test_every_schedule_that_can_be_chosen_is_made(name):
    assert make_schedule(TrainConfig(schedule=name, lr=0.25), total_steps=10).lr(0) == 0.25
