"""Inception-I3D over windows that overlap: the first layers are computed once for all of them.

Convolutions 1a, 2b and 2c see 5 frames to each side of theirs. Separate windows see zeros beyond their ends there;
here they see the video. That is another answer at the two ends of a window, so it is a profile of its own. The
share of the stem is three fifths of a window's arithmetic, and at stride 1 it is computed once instead of 11 times.
"""

# Axes: B windows, C channels, T frames, P places of the stem's output, H rows, W columns.

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.i3d import I3DOutput, InceptionI3D, max_pool_same, strided_convolution

REACH = 5
"""Frames that the stem sees before the first and after the last frame of a window."""

_STRIDE = 2  # frames between neighbouring places of a window's stem


def encode_shared(model: InceptionI3D, video_BCTHW: Tensor, *, stride: int, window_frames: int) -> I3DOutput:
    """Features and logits of windows that start every ``stride`` frames of one piece of video.

    Args:
        model: As ``for_inference`` makes it.
        video_BCTHW: (1, C, T, 224, 224), from ``REACH`` frames before the first window to ``REACH`` after the last.
        stride: Frames between the starts of windows.
        window_frames: Frames of each; odd.
    """
    stem_BCTHW = dense_stem(model, video_BCTHW)
    length = stem_BCTHW.shape[2]
    starts_B = torch.arange(0, length - window_frames + 1, stride, device=stem_BCTHW.device)
    places_P = torch.arange(0, window_frames, _STRIDE, device=stem_BCTHW.device)
    picked_BPHWC = stem_BCTHW[0].permute(1, 2, 3, 0)[starts_B[:, None] + places_P]
    return model.trunk(picked_BPHWC.permute(0, 4, 1, 2, 3))


def dense_stem(model: InceptionI3D, video_BCTHW: Tensor) -> Tensor:
    """(1, 192, T - 10, 28, 28): the stem's output centred on every frame that has 5 others to each side."""
    first, second, third = model.Conv3d_1a_7x7.conv3d, model.Conv3d_2b_1x1, model.Conv3d_2c_3x3.conv3d
    x = functional.relu_(strided_convolution(first, video_BCTHW, step=1))
    x = second(max_pool_same(x, kernel=(1, 3, 3), stride=(1, 2, 2)))
    # Neighbours in a window's stem lie two frames apart.
    x = functional.relu_(
        functional.conv3d(x, third.weight, third.bias, padding=(0, 1, 1), dilation=(_STRIDE, 1, 1))
    )
    return max_pool_same(x, kernel=(1, 3, 3), stride=(1, 2, 2))
