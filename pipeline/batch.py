"""Videos of different lengths as one padded batch: the only place where padding is decided."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

# Axes: B batch, T feature steps, D feature width.


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One video, ready for the model."""

    video_id: str
    features_TD: Tensor
    """float32, standardised."""
    labels_T: Tensor
    """int64 class ids."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Some videos, padded to the longest."""

    video_ids: tuple[str, ...]
    features_BTD: Tensor
    """Zero on padding."""
    labels_BT: Tensor
    """Zero on padding."""
    valid_BT: Tensor
    """False on padding."""

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return Batch(
            video_ids=self.video_ids,
            features_BTD=self.features_BTD.to(device),
            labels_BT=self.labels_BT.to(device),
            valid_BT=self.valid_BT.to(device),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Pad videos of different lengths into one batch."""
    lengths_B = torch.tensor([len(sample.features_TD) for sample in samples])
    features_BTD = pad_sequence([sample.features_TD for sample in samples], batch_first=True)
    return Batch(
        video_ids=tuple(sample.video_id for sample in samples),
        features_BTD=features_BTD,
        labels_BT=pad_sequence([sample.labels_T for sample in samples], batch_first=True),
        valid_BT=torch.arange(features_BTD.shape[1]) < lengths_B[:, None],
    )


def shuffled_batches(
    samples: Sequence[Sample], *, batch_size: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Every video once, in an order drawn from ``generator``; the last batch may be smaller."""
    order = torch.randperm(len(samples), generator=generator).tolist()
    for start in range(0, len(order), batch_size):
        yield collate([samples[index] for index in order[start : start + batch_size]])
