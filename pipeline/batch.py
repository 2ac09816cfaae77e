"""Videos of different lengths as one padded batch: the only place where padding is decided."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fact.loss import SegmentTarget

# Axes: B batch, T feature steps, D feature width.


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One video, ready for the model."""

    video_id: str
    features_TD: Tensor
    """float32, standardised."""
    labels_T: Tensor
    """int64 class ids, on the host."""

    def to(self, device: torch.device) -> "Sample":
        """The sample with its features on another device."""
        return replace(self, features_TD=self.features_TD.to(device))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Some videos, padded to the longest."""

    video_ids: tuple[str, ...]
    features_BTD: Tensor
    """Zero on padding."""
    labels_BT: Tensor
    """Zero on padding. On the host, wherever the rest is: it decides there what a step is compared with."""
    valid_BT: Tensor
    """False on padding."""
    lengths: tuple[int, ...]
    """Steps of each video."""

    def to(self, device: torch.device) -> "Batch":
        """The batch with its features on another device."""
        return replace(self, features_BTD=self.features_BTD.to(device), valid_BT=self.valid_BT.to(device))


def collate(samples: Sequence[Sample]) -> Batch:
    """Pad videos of different lengths into one batch."""
    features_BTD = pad_sequence([sample.features_TD for sample in samples], batch_first=True)
    lengths = tuple(len(sample.features_TD) for sample in samples)
    return Batch(
        video_ids=tuple(sample.video_id for sample in samples),
        features_BTD=features_BTD,
        labels_BT=pad_sequence([sample.labels_T for sample in samples], batch_first=True),
        valid_BT=valid_steps(lengths, device=features_BTD.device),
        lengths=lengths,
    )


def valid_steps(lengths: Sequence[int], *, device: torch.device | None = None) -> Tensor:
    """(B, T) True on the steps of videos of these lengths, False on padding after them."""
    lengths_B = torch.tensor(lengths, device=device)
    return torch.arange(max(lengths), device=device) < lengths_B[:, None]


def target_of(batch: Batch, *, num_classes: int) -> SegmentTarget:
    """What an output of the batch is compared with, on the device of its features.

    Where segments begin is found on the host, where the labels are: no accelerator is waited for to say it.
    """
    target = SegmentTarget.from_labels(batch.labels_BT, valid_steps(batch.lengths), num_classes=num_classes)
    return target.to(batch.features_BTD.device)
