"""Optimisers, learning-rate schedules and averaged weights, all of them torch's own."""

from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fact.config import TrainingConfig as FactTraining

OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["step", "cosine"]

_WARM_UP_START = 0.01
"""A warm-up starts at this part of the learning rate."""


def make_optimizer(
    parameters: Iterable[Tensor], training: FactTraining, *, name: OptimizerName | None
) -> Optimizer:
    """The optimiser ``name``, or the recipe's; rate, weight decay and momentum are the recipe's."""
    chosen = name or training.optimizer.lower()
    if chosen == "sgd":
        return SGD(parameters, lr=training.lr, momentum=training.momentum, weight_decay=training.weight_decay)
    kind = AdamW if chosen == "adamw" else Adam
    parameters = list(parameters)
    # One kernel for all parameters; on a CPU torch's default, whose bits checkpoints of older runs go on with.
    fused = all(parameter.is_cuda for parameter in parameters)
    return kind(parameters, lr=training.lr, weight_decay=training.weight_decay, fused=fused or None)


def make_schedules(
    optimizer: Optimizer,
    training: FactTraining,
    *,
    name: ScheduleName,
    warmup_epochs: int,
    steps_per_epoch: int,
) -> tuple[LRScheduler, ...]:
    """Schedules to step one after the other after every step of the optimiser; their factors multiply.

    ``step``: times 0.1, once, after epoch ``lr_decay``. ``cosine``: from the full rate to zero over all epochs.
    A warm-up rises in a straight line to the full rate.
    """
    schedules: list[LRScheduler] = []
    if warmup_epochs:
        steps = warmup_epochs * steps_per_epoch
        schedules.append(LinearLR(optimizer, start_factor=_WARM_UP_START, total_iters=steps))
    if name == "cosine":
        schedules.append(CosineAnnealingLR(optimizer, T_max=training.epochs * steps_per_epoch))
    elif training.lr_decay is not None:
        milestones = [training.lr_decay * steps_per_epoch]
        schedules.append(MultiStepLR(optimizer, milestones=milestones, gamma=0.1))
    return tuple(schedules)


def make_average(network: nn.Module, *, decay: float | None) -> AveragedModel | None:
    """Exponential moving average of the weights, or None where no decay is asked for."""
    if decay is None:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average)
