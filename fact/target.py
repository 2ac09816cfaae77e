"""What an output is compared with: the labels of a batch and their segments.

Axes: B batch, T steps, S ground-truth segments, C classes.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fact.errors import TargetError
from fact.segments import Segmentation, segment_runs


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentTarget:
    """Labels of a padded batch; make it by :meth:`from_labels`."""

    labels: Tensor
    """(B, T) int64; 0 on padded steps."""
    valid: Tensor
    """(B, T) bool, False on padded steps."""
    lengths: tuple[int, ...]
    """Steps of each video, on the host."""
    segmentation: Segmentation
    """Runs of equal labels."""
    classes: Tensor
    """(B, S) int64 class of each segment; 0 where a video has fewer segments."""
    transcripts: tuple[tuple[int, ...], ...]
    """Ordered segment labels of each video, on the host."""

    @classmethod
    def from_labels(cls, labels: Tensor, valid: Tensor | None = None, *, num_classes: int) -> "SegmentTarget":
        """Cut labels into segments.

        Args:
            labels: (B, T) class ids, or (T,) of one video; anything on padded steps.
            valid: (B, T) bool, False on padding, which lies at the end; None: nothing is padded.
            num_classes: number of classes, C.

        Raises:
            TargetError: a shape is wrong, a video has no step, or a label is not in [0, C).
        """
        labels_BT = labels[None] if labels.dim() == 1 else labels
        if valid is None:
            valid = torch.ones(labels_BT.shape, dtype=torch.bool, device=labels_BT.device)
        valid_BT = valid[None] if valid.dim() == 1 else valid
        _check_shapes(labels_BT, valid_BT)
        labels_BT = labels_BT.long().masked_fill(~valid_BT, 0)
        lengths = _check_values(labels_BT, valid_BT, num_classes=num_classes)
        segmentation = segment_runs(labels_BT, valid_BT)
        present_BS = segmentation.length > 0
        starts_BS = segmentation.first.masked_fill(~present_BS, 0)
        classes_BS = labels_BT.gather(1, starts_BS).masked_fill(~present_BS, 0)
        rows = classes_BS.masked_fill(~present_BS, -1).tolist()
        return cls(
            labels=labels_BT,
            valid=valid_BT,
            lengths=lengths,
            segmentation=segmentation,
            classes=classes_BS,
            transcripts=tuple(tuple(label for label in row if label >= 0) for row in rows),
        )

    @property
    def transcript(self) -> Tensor:
        """(B, S) int64 ordered segment labels, -1 on padding: what transcript mode takes."""
        return self.classes.masked_fill(self.segmentation.length == 0, -1)

    def to(self, device: torch.device | str) -> "SegmentTarget":
        """The same target on another device."""
        runs = self.segmentation
        return replace(
            self,
            labels=self.labels.to(device),
            valid=self.valid.to(device),
            classes=self.classes.to(device),
            segmentation=replace(
                runs, index=runs.index.to(device), length=runs.length.to(device), found=runs.found.to(device)
            ),
        )


def _check_shapes(labels_BT: Tensor, valid_BT: Tensor) -> None:
    wrong = labels_BT.dim() != 2 or 0 in labels_BT.shape or labels_BT.is_floating_point()
    if wrong or valid_BT.shape != labels_BT.shape or valid_BT.dtype != torch.bool:
        raise TargetError(
            "Labels must be integers of shape (B, T) with at least one step and valid a bool mask of it, "
            f"found {tuple(labels_BT.shape)} of {labels_BT.dtype} and {tuple(valid_BT.shape)} of "
            f"{valid_BT.dtype}."
        )


def _check_values(labels_BT: Tensor, valid_BT: Tensor, *, num_classes: int) -> tuple[int, ...]:
    holes_B = (valid_BT[:, 1:] & ~valid_BT[:, :-1]).any(1)
    facts = torch.stack([valid_BT.sum(1), holes_B.long(), labels_BT.amin(1), labels_BT.amax(1)])
    lengths, holes, lowest, highest = facts.tolist()
    for video, length in enumerate(lengths):
        if length == 0 or holes[video]:
            raise TargetError(
                f"Video {video} of the batch has no valid step, or padding between valid steps."
            )
        if lowest[video] < 0 or highest[video] >= num_classes:
            raise TargetError(
                f"Video {video} of the batch has labels from {lowest[video]} to {highest[video]}, but the "
                f"classes are 0 to {num_classes - 1}: map the labels to class ids first."
            )
    return tuple(lengths)
