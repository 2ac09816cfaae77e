"""Training by several processes that torchrun started; one process alone is a team of one.

Every process runs the same code on its share of each batch. Gradients are summed as one flat buffer: a batch may
leave a process without a video, which the wrapper of torch has no way to say.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.errors import TrainingError

Sent = TypeVar("Sent")


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """The processes of one training and which of them this is."""

    rank: int
    size: int
    device: torch.device
    """Where this process computes."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and scores the validation videos."""
        return self.rank == 0

    def share(self, batch: Sequence[int]) -> list[int]:
        """The part of a batch that this process takes; may be empty."""
        return list(batch[self.rank :: self.size])

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse batches that would leave processes idle in every step.

        Raises:
            TrainingError: There are more processes than videos in a batch.
        """
        if batch_size < self.size:
            raise TrainingError(
                f"A batch of {batch_size} cannot be shared by {self.size} processes. The batch size counts the videos "
                f"of all processes together: give --batch-size {self.size} or more, or start fewer."
            )

    def total(self, value: float) -> float:
        """Sum of one number over the team."""
        if self.size == 1:
            return value
        number = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(number)
        return float(number)

    def from_first(self, value: Sent) -> Sent:
        """What the first process has; the others' value is of no account."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return cast("Sent", box[0])

    def first_said(self, text: str) -> str:
        """The first process's text that is not empty, the same for all; empty where all are."""
        if self.size == 1:
            return text
        texts = [""] * self.size
        dist.all_gather_object(texts, text)
        return next(filter(None, texts), "")

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients of all processes in place; a process without any adds zeros."""
        if self.size == 1:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        parts = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in trained
        ]
        flat = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(flat)
        for parameter, part in zip(trained, torch.split(flat, [part.numel() for part in parts]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def wait(self) -> None:
        """Go on when every process has come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join_team(device: torch.device) -> Iterator[Team]:
    """The team that torchrun's environment describes, for as long as the block runs."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(rank=0, size=1, device=device)
        return
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(rank=dist.get_rank(), size=size, device=device)
    finally:
        dist.destroy_process_group()
