"""Training videos changed a little at random: as if other people had made them, or in other time.

Random numbers are drawn from torch's generator of the CPU, wherever the videos lie, so a seed means the same
everywhere. Axes: B batch, T feature steps, D channels.
"""

import math

import torch

from pipeline.batch import Batch, valid_steps


def augmented(batch: Batch, *, channel_jitter: float, time_stretch: float) -> Batch:
    """A changed copy; the batch itself where there is nothing to change, and then nothing is drawn.

    Args:
        batch: Some videos.
        channel_jitter: Deviation of the factor around 1 and of the shift around 0 of each channel of a video.
        time_stretch: A video takes between 1 / (1 + time_stretch) and 1 + time_stretch times its time, by a factor
            that is uniform in its logarithm.
    """
    if time_stretch:
        batch = _stretched(batch, time_stretch)
    if channel_jitter:
        batch = _jittered(batch, channel_jitter)
    return batch


def _jittered(batch: Batch, deviation: float) -> Batch:
    num_videos, _, width = batch.features_BTD.shape
    normal_2B1D = deviation * torch.randn(2, num_videos, 1, width)
    factor_B1D, shift_B1D = normal_2B1D.to(batch.features_BTD.device)
    changed_BTD = torch.addcmul(batch.features_BTD + shift_B1D, batch.features_BTD, factor_B1D)
    return Batch(
        video_ids=batch.video_ids,
        features_BTD=changed_BTD.masked_fill(~batch.valid_BT[..., None], 0),
        labels_BT=batch.labels_BT,
        valid_BT=batch.valid_BT,
        lengths=batch.lengths,
    )


def _stretched(batch: Batch, most: float) -> Batch:
    """Every step of a stretched video is the step of the video at its place in time."""
    device = batch.features_BTD.device
    logarithms_B = (2 * torch.rand(len(batch.lengths), dtype=torch.float64) - 1) * math.log1p(most)
    lengths = tuple(
        max(1, round(length * math.exp(logarithm)))
        for length, logarithm in zip(batch.lengths, logarithms_B.tolist(), strict=True)
    )
    old_B1, new_B1 = torch.tensor(batch.lengths)[:, None], torch.tensor(lengths)[:, None]
    # The middle of each new step, in whole numbers: floor((t + 1/2) * old / new).
    index_BT = (2 * torch.arange(max(lengths)) + 1) * old_B1 // (2 * new_B1)
    index_BT = torch.minimum(index_BT, old_B1 - 1)
    labels_BT = batch.labels_BT.gather(1, index_BT).masked_fill(~valid_steps(lengths), 0)
    valid_BT = valid_steps(lengths, device=device)
    width = batch.features_BTD.shape[2]
    features_BTD = batch.features_BTD.gather(1, index_BT.to(device)[..., None].expand(-1, -1, width))
    return Batch(
        video_ids=batch.video_ids,
        features_BTD=features_BTD.masked_fill(~valid_BT[..., None], 0),
        labels_BT=labels_BT,
        valid_BT=valid_BT,
        lengths=lengths,
    )
