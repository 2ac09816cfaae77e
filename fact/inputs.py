"""What the model checks before it computes: shapes, padding, numbers.

Axes: B batch, T steps, D feature width, S transcript positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fact.errors import FeatureError


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Checked features of one or more videos."""

    features_BTD: Tensor
    """Zero on padded steps."""
    valid_BT: Tensor | None
    """False on padded steps; None when nothing is padded."""
    lengths: tuple[int, ...]
    """Steps of each video, on the host."""
    lengths_B: Tensor
    """The same on the device, int64."""


def check_features(features: Tensor, valid: Tensor | None, *, input_dim: int, dtype: torch.dtype) -> Batch:
    """Features as a batch, (B, T, D) of this type, with padding set to zero. Waits for the device once.

    Raises:
        FeatureError: a shape, a mask or a number is wrong; the message names the video and the row.
    """
    features, mask_BT = check_shapes(features, valid, input_dim=input_dim)
    features = features.to(dtype)
    bad_BT = not_finite(features) & mask_BT
    holes_B = (mask_BT[:, 1:] & ~mask_BT[:, :-1]).any(1)
    lengths_B = mask_BT.sum(1)
    facts = torch.stack([lengths_B, bad_BT.any(1), holes_B]).tolist()
    lengths = tuple(int(length) for length in facts[0])
    _reject(lengths, facts[1], facts[2], bad_BT)
    if min(lengths) == features.shape[1]:
        return Batch(features_BTD=features, valid_BT=None, lengths=lengths, lengths_B=lengths_B)
    padded_BTD = features.masked_fill(~mask_BT[..., None], 0)
    return Batch(features_BTD=padded_BTD, valid_BT=mask_BT, lengths=lengths, lengths_B=lengths_B)


def check_shapes(features: Tensor, valid: Tensor | None, *, input_dim: int) -> tuple[Tensor, Tensor]:
    """Features as (B, T, D) and their mask as (B, T), by what the host knows of them.

    Raises:
        FeatureError: a shape or a type is wrong.
    """
    if features.dim() == 2:
        features = features[None]
        valid = valid[None] if valid is not None and valid.dim() == 1 else valid
    if features.dim() != 3 or features.shape[-1] != input_dim or not features.is_floating_point():
        raise FeatureError(
            f"The model takes floating-point features of shape (B, T, {input_dim}) or (T, {input_dim}), "
            f"found {tuple(features.shape)} of {features.dtype}. Give it the features that it was built for."
        )
    if 0 in features.shape:
        raise FeatureError(f"Features of shape {tuple(features.shape)} hold no step: leave empty videos out.")
    return features, _check_mask(features, valid)


def not_finite(features_BTD: Tensor) -> Tensor:
    """(B, T) bool, True where a row has NaN or infinity."""
    # Both survive in a row's extremes, so nothing of the size of the features is built; taking the two in one call
    # takes five times as long on a CPU.
    return ~(features_BTD.amin(-1).isfinite() & features_BTD.amax(-1).isfinite())


def _check_mask(features: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
    if valid.shape != features.shape[:2] or valid.dtype != torch.bool:
        raise FeatureError(
            f"valid must be a bool tensor of shape {tuple(features.shape[:2])}, found "
            f"{tuple(valid.shape)} of {valid.dtype}."
        )
    return valid.to(features.device)


def _reject(lengths: tuple[int, ...], bad_B: list[int], holes_B: list[int], bad_BT: Tensor) -> None:
    for video, (length, bad, holes) in enumerate(zip(lengths, bad_B, holes_B, strict=True)):
        if length == 0:
            raise FeatureError(f"Video {video} of the batch has no valid step: leave empty videos out.")
        if holes:
            raise FeatureError(
                f"Video {video} of the batch has padding between valid steps: pad at the end only."
            )
        if bad:
            rows = bad_BT[video].nonzero().flatten().tolist()
            raise FeatureError(
                f"Video {video} of the batch has NaN or infinite features in {len(rows)} rows, the first is "
                f"row {rows[0]}: extract them again or leave the video out."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """Checked transcripts of a batch."""

    classes_BS: Tensor
    """Class of each position, int64; 0 on padding."""
    valid_BS: Tensor | None
    """False on padding; None when nothing is padded."""
    lengths: tuple[int, ...]
    """Positions of each video, on the host."""


def check_transcript(transcript: Tensor | None, *, batch_size: int, num_classes: int) -> Transcript:
    """A transcript (B, S), or (S,) of one video, whose padding is negative. Waits for the device once.

    Raises:
        FeatureError: it is missing, or its shape, padding or a class id is wrong.
    """
    if transcript is None:
        raise FeatureError(
            "This model works in transcript mode (FACT.trans): give transcript=, the ordered labels."
        )
    classes_BS = transcript[None] if transcript.dim() == 1 else transcript
    if classes_BS.dim() != 2 or len(classes_BS) != batch_size or classes_BS.is_floating_point():
        raise FeatureError(
            f"transcript must be an integer tensor of shape ({batch_size}, S), found "
            f"{tuple(transcript.shape)} of {transcript.dtype}."
        )
    rows = classes_BS.tolist()
    lengths = tuple(sum(label >= 0 for label in row) for row in rows)
    for video, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if length == 0 or min(row[:length]) < 0:
            raise FeatureError(f"The transcript of video {video} is empty or padded before its end: {row}.")
        if max(row) >= num_classes:
            raise FeatureError(
                f"The transcript of video {video} names class {max(row)} of only {num_classes}."
            )
    padded = min(lengths) < classes_BS.shape[1]
    return Transcript(
        classes_BS=classes_BS.long().clamp(min=0),
        valid_BS=classes_BS >= 0 if padded else None,
        lengths=lengths,
    )
