"""Learning rates and averaged weights against their formulas."""

import math

import pytest
import torch
from torch import nn

from fact.config import TrainingConfig
from pipeline.optim import make_average, make_optimizer, make_schedules

STEPS = 5


def rates(*, epochs=4, warmup_epochs=0, name="step", lr_decay=None):
    """The learning rate of every step of a training."""
    parameter = nn.Parameter(torch.ones(1))
    training = TrainingConfig(lr=0.2, epochs=epochs, lr_decay=lr_decay)
    optimizer = make_optimizer([parameter], training, name="sgd")
    schedules = make_schedules(
        optimizer, training, name=name, warmup_epochs=warmup_epochs, steps_per_epoch=STEPS
    )
    found = []
    for _ in range(epochs * STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for schedule in schedules:
            schedule.step()
    return found


def test_without_a_decay_the_rate_stays():
    assert rates() == [0.2] * 20


def test_a_step_comes_once_after_its_epoch():
    assert rates(lr_decay=3) == pytest.approx([0.2] * 15 + [0.02] * 5)


def test_a_cosine_falls_from_the_full_rate_towards_zero():
    assert rates(name="cosine") == pytest.approx([0.1 * (1 + math.cos(math.pi * n / 20)) for n in range(20)])


@pytest.mark.parametrize("name", ["step", "cosine"])
def test_a_warm_up_rises_in_a_straight_line_and_multiplies_with_the_rest(name):
    rest = rates(name=name, lr_decay=3)
    rise = [0.01 + 0.99 * min(1, n / (2 * STEPS)) for n in range(20)]
    assert rates(name=name, lr_decay=3, warmup_epochs=2) == pytest.approx(
        [factor * rate for factor, rate in zip(rise, rest, strict=True)]
    )


@pytest.mark.parametrize(
    ("name", "published", "expected"),
    [
        (None, "Adam", "Adam"),
        (None, "SGD", "SGD"),
        ("adamw", "SGD", "AdamW"),
        ("sgd", "Adam", "SGD"),
        ("adam", "SGD", "Adam"),
    ],
)
def test_the_optimiser_is_the_one_named_else_the_recipes(name, published, expected):
    training = TrainingConfig(optimizer=published, lr=0.3, weight_decay=0.25, momentum=0.5)
    optimizer = make_optimizer([nn.Parameter(torch.ones(1))], training, name=name)
    group = optimizer.param_groups[0]
    assert type(optimizer).__name__ == expected
    assert (group["lr"], group["weight_decay"], group.get("momentum", 0.5)) == (0.3, 0.25, 0.5)


def test_the_average_follows_the_weights_by_its_decay():
    network = nn.Linear(1, 1, bias=False)
    average = make_average(network, decay=0.75)
    expected = None
    for value in (4.0, 8.0, -2.0):
        with torch.no_grad():
            network.weight.fill_(value)
        average.update_parameters(network)
        expected = value if expected is None else 0.75 * expected + 0.25 * value
    assert average.module.weight.item() == pytest.approx(expected)


def test_no_decay_makes_no_average():
    assert make_average(nn.Linear(1, 1), decay=None) is None
