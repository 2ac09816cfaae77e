"""What a training was in the middle of: saved so that it goes on as if nothing had happened.

One safetensors file, which also carries the JSON of everything that is no tensor, so that a single rename makes both
appear. Random numbers need no state: every step draws from a seed of its own (``sampler.seed_of``).
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from storage.atomic import atomic_path
from storage.errors import CorruptArtefactError
from storage.places import Place, local_copy
from storage.seal import BLANK_SAFETENSORS_SEAL, is_safetensors_whole, seal_safetensors

CHECKPOINT_LAYOUT = "checkpoint/1"
"""Version of the file; a reader refuses any other."""


@dataclass(kw_only=True, slots=True)
class Position:
    """Where a training is, and the figures so far; JSON values only."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Steps of the optimiser done in the epoch after them."""
    loss: float = 0.0
    """Loss of those steps, summed over their videos."""
    learning_rate: float = 0.0
    """Of the last step."""
    curves: list[dict[str, float | None]] = field(default_factory=list)
    """Figures of each finished epoch."""
    best_epoch: int = 0
    """Epoch of the best validation score; 0 before there is one."""
    best: dict[str, float] = field(default_factory=dict)
    """Validation scores of that epoch, in percent by name."""
    without_gain: int = 0
    """Validations since then."""


@dataclass(kw_only=True, slots=True)
class TrainingState:
    """Everything that changes while a model trains."""

    network: nn.Module
    optimizer: Optimizer
    schedules: tuple[LRScheduler, ...]
    average: AveragedModel | None
    """Moving average of the weights, where asked for."""
    position: Position = field(default_factory=Position)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best validation score, on the CPU."""

    @property
    def evaluated(self) -> nn.Module:
        """The network that is scored and kept: the average where there is one."""
        return self.network if self.average is None else self.average.module

    def keep_best(self) -> None:
        """Remember the weights as they are now."""
        self.best_weights = {
            name: tensor.detach().cpu().clone() for name, tensor in self.evaluated.state_dict().items()
        }


def save_checkpoint(path: Place, state: TrainingState) -> None:
    """Write the state; the old checkpoint stays until the new one is whole."""
    tensors = {
        **_prefixed("network", state.network.state_dict()),
        **_prefixed("best", state.best_weights),
        **({} if state.average is None else _prefixed("average", state.average.state_dict())),
    }
    for index, slots in state.optimizer.state_dict()["state"].items():
        tensors |= _prefixed(f"optimizer.{index}", {k: v for k, v in slots.items() if v is not None})
    rest = {
        "position": dataclasses.asdict(state.position),
        "rates": [group["lr"] for group in state.optimizer.param_groups],
        "schedules": [_schedule_state(schedule) for schedule in state.schedules],
    }
    facts = {"layout": CHECKPOINT_LAYOUT, "state": json.dumps(rest, allow_nan=False)}
    with atomic_path(path) as scratch:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            scratch,
            facts | BLANK_SAFETENSORS_SEAL,
        )
        seal_safetensors(scratch)


def load_checkpoint(path: Place, state: TrainingState) -> None:
    """Bring ``state``, freshly made by the same settings, to where the checkpoint was written.

    Raises:
        CorruptArtefactError: The file is damaged or of another layout, or does not fit the state.
    """
    try:
        rest, tensors = _read(path)
        state.network.load_state_dict(_part(tensors, "network"))
        if state.average is not None:
            state.average.load_state_dict(_part(tensors, "average"))
        state.best_weights = _part(tensors, "best")
        _load_optimizer(state.optimizer, tensors, rates=rest["rates"])
        for schedule, values in zip(state.schedules, rest["schedules"], strict=True):
            schedule.load_state_dict(values)
        state.position = Position(**rest["position"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CorruptArtefactError(
            f"{path} cannot be gone on from ({error}). Delete it to train from the start."
        ) from error


def _read(path: Place) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with local_copy(path) as local, safe_open(local, framework="pt", device="cpu") as file:
        metadata = file.metadata() or {}
        if metadata.get("layout") != CHECKPOINT_LAYOUT:
            raise ValueError(f"its layout is {metadata.get('layout')!r}, not {CHECKPOINT_LAYOUT!r}")
        if not is_safetensors_whole(local):
            raise ValueError("its checksum is missing or does not match")
        return json.loads(metadata["state"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], *, rates: list[float]) -> None:
    now = optimizer.state_dict()
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer").items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = tensor
    for group, rate in zip(now["param_groups"], rates, strict=True):
        group["lr"] = rate
    optimizer.load_state_dict({"state": slots, "param_groups": now["param_groups"]})


def _schedule_state(schedule: LRScheduler) -> dict[str, Any]:
    # The rest of a schedule's state is made by its constructor; the milestones' keys would not survive JSON.
    values = schedule.state_dict()
    return {name: values[name] for name in ("last_epoch", "_step_count", "_last_lr")}


def _prefixed(prefix: str, tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": torch.as_tensor(tensor) for name, tensor in tensors.items()}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
