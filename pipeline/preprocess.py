"""Decoded pictures to network input, once per frame however many windows it is in."""

# Axes: N frames, C channels, H rows, W columns.

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

I3D_SHORT_SIDE = 256
I3D_CROP = 224


def i3d_frames(frames: NDArray[np.uint8], *, device: torch.device) -> Tensor:
    """RGB pictures (N, H, W, 3) uint8 as I3D wants them: (N, 3, 224, 224) in [-1, 1]."""
    small_NHWC = resize_and_crop(torch.from_numpy(np.ascontiguousarray(frames)).to(device))
    return ((small_NHWC - 127.5) / 127.5).permute(0, 3, 1, 2)


def resize_and_crop(images_NHWC: Tensor) -> Tensor:
    """Bilinear without antialiasing to a short side of 256, then the centre: (N, 224, 224, C) float32.

    Sizes are rounded and the crop starts at size // 2 - 112, as the published features have it. Only the
    pixels that the crop needs are touched: for high definition much less work than resizing first.
    """
    height, width = images_NHWC.shape[1:3]
    scale = I3D_SHORT_SIDE / min(height, width)
    y0, y1, y_weight = _bilinear_axis(height, round(height * scale), device=images_NHWC.device)
    x0, x1, x_weight = _bilinear_axis(width, round(width * scale), device=images_NHWC.device)
    upper_NHWC, lower_NHWC = images_NHWC.index_select(1, y0), images_NHWC.index_select(1, y1)
    x_weight, y_weight = x_weight.view(1, 1, -1, 1), y_weight.view(1, -1, 1, 1)
    upper_NHWC, lower_NHWC = (
        torch.lerp(rows.index_select(2, x0).float(), rows.index_select(2, x1).float(), x_weight)
        for rows in (upper_NHWC, lower_NHWC)
    )
    return torch.lerp(upper_NHWC, lower_NHWC, y_weight)


def _bilinear_axis(size: int, resized: int, *, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each of the 224 kept cells of a resized axis: its two source cells and the second one's weight."""
    cells = torch.arange(I3D_CROP, device=device) + (resized // 2 - I3D_CROP // 2)
    source = ((cells + 0.5) * (size / resized) - 0.5).clamp(min=0)
    lower = source.long().clamp(max=size - 1)
    return lower, (lower + 1).clamp(max=size - 1), source - lower


def clip_frames(
    frames: NDArray[np.uint8],
    *,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    interpolation: str,
    device: torch.device,
) -> Tensor:
    """RGB pictures (N, H, W, 3) uint8 as a CLIP image tower wants them: (N, 3, size, size).

    Antialiased resize of the short side, rounded to 8 bits as picture libraries do, then the centre crop.
    """
    images_NCHW = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).to(device)
    height, width = images_NCHW.shape[2:]
    short = min(height, width)
    target = (int(size * height / short), int(size * width / short))
    if (height, width) != target:
        images_NCHW = functional.interpolate(
            images_NCHW if device.type == "cpu" else images_NCHW.float(),
            size=target,
            mode=interpolation,
            align_corners=False,
            antialias=True,
        )
    top, left = (round((side - size) / 2) for side in target)
    cropped_NCHW = images_NCHW[:, :, top : top + size, left : left + size].float().round().clamp(0, 255) / 255
    shift, scale = (torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (mean, std))
    return (cropped_NCHW - shift) / scale
