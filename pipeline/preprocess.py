"""Decoded pictures to network input, once per frame however many windows it is in."""

# Axes: N frames, C channels, H rows, W columns.

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.errors import WeightsError

I3D_SHORT_SIDE = 256
I3D_CROP = 224


def upload(frames: NDArray[np.uint8], *, device: torch.device) -> Tensor:
    """Pictures (N, H, W, 3) uint8 on a device; to a GPU from pinned memory, without waiting for the copy."""
    pictures = torch.from_numpy(np.ascontiguousarray(frames))
    if device.type != "cuda":
        return pictures.to(device)
    return pictures.pin_memory().to(device, non_blocking=True)


def i3d_frames(frames_NHWC: Tensor) -> Tensor:
    """RGB pictures (N, H, W, 3) uint8 as I3D wants them: (N, 224, 224, 3) in [-1, 1]."""
    return (resize_and_crop(frames_NHWC) - 127.5) / 127.5


def centre_crop(images_NHWC: Tensor) -> Tensor:
    """The middle 224 x 224 of images, from size // 2 - 112 on, as the published features have it."""
    top, left = (size // 2 - I3D_CROP // 2 for size in images_NHWC.shape[1:3])
    return images_NHWC[:, top : top + I3D_CROP, left : left + I3D_CROP]


def resized_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a picture whose short side is brought to 256, rounded.

    >>> resized_size(720, 1280)
    (256, 455)
    """
    scale = I3D_SHORT_SIDE / min(height, width)
    return round(height * scale), round(width * scale)


def resize_and_crop(images_NHWC: Tensor) -> Tensor:
    """Bilinear without antialiasing to a short side of 256, then the centre: (N, 224, 224, C) float32.

    Sizes are rounded and the crop starts at size // 2 - 112, as the published features have it. Only the
    pixels that the crop needs are touched: for high definition much less work than resizing first.
    """
    height, width = images_NHWC.shape[1:3]
    rows, columns = resized_size(height, width)
    y0, y1, y_weight = _bilinear_axis(height, rows, device=images_NHWC.device)
    x0, x1, x_weight = _bilinear_axis(width, columns, device=images_NHWC.device)
    upper_NHWC, lower_NHWC = images_NHWC.index_select(1, y0), images_NHWC.index_select(1, y1)
    x_weight, y_weight = x_weight.view(1, 1, -1, 1), y_weight.view(1, -1, 1, 1)
    upper_NHWC, lower_NHWC = (
        torch.lerp(lines.index_select(2, x0).float(), lines.index_select(2, x1).float(), x_weight)
        for lines in (upper_NHWC, lower_NHWC)
    )
    return torch.lerp(upper_NHWC, lower_NHWC, y_weight)


def _bilinear_axis(size: int, resized: int, *, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each of the 224 kept cells of a resized axis: its two source cells and the second one's weight."""
    cells = torch.arange(I3D_CROP, device=device) + (resized // 2 - I3D_CROP // 2)
    source = ((cells + 0.5) * (size / resized) - 0.5).clamp(min=0)
    lower = source.long().clamp(max=size - 1)
    return lower, (lower + 1).clamp(max=size - 1), source - lower


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPreprocessing:
    """How a CLIP image tower wants its pictures.

    Raises:
        WeightsError: The resizing is none that is known here.
    """

    size: int
    """Pixels of a side."""
    mean: tuple[float, ...]
    """By channel, of values in [0, 1]."""
    std: tuple[float, ...]
    """By channel, of values in [0, 1]."""
    interpolation: str
    """``bicubic`` or ``bilinear``, antialiased."""
    resize_mode: str
    """``shortest`` fits the short side and crops the centre; ``squash`` ignores the aspect."""

    def __post_init__(self) -> None:
        if self.interpolation not in {"bicubic", "bilinear"} or self.resize_mode not in {
            "shortest",
            "squash",
        }:
            raise WeightsError(
                f"CLIP pictures resized by {self.interpolation!r}, {self.resize_mode!r} are not known here. "
                "Choose another model."
            )

    def __call__(self, frames_NHWC: Tensor) -> Tensor:
        """RGB pictures (N, H, W, 3) uint8 to (N, 3, size, size) float32, on their device.

        On a CPU resizing rounds to 8 bits as the picture library does that CLIP was trained with.
        """
        resized_NCHW = self._resize(frames_NHWC.permute(0, 3, 1, 2))
        top, left = (round((side - self.size) / 2) for side in resized_NCHW.shape[2:])
        cropped_NCHW = resized_NCHW[:, :, top : top + self.size, left : left + self.size].float()
        rounded_NCHW = cropped_NCHW.round().clamp(0, 255) / 255
        # Made on the host and sent without waiting: made on a GPU they would stop it.
        pair = torch.tensor([self.mean, self.std]).to(frames_NHWC.device, non_blocking=True)
        mean_std = pair[..., None, None]
        normalised_NCHW: Tensor = (rounded_NCHW - mean_std[0]) / mean_std[1]
        return normalised_NCHW

    def _resize(self, images_NCHW: Tensor) -> Tensor:
        height, width = images_NCHW.shape[2:]
        short = min(height, width)
        target = (self.size * height // short, self.size * width // short)
        if self.resize_mode == "squash":
            target = (self.size, self.size)
        if (height, width) == target:
            return images_NCHW
        # Only the CPU resizes bytes; elsewhere the same filter runs in floating point and rounds at the end.
        source = images_NCHW if images_NCHW.device.type == "cpu" else images_NCHW.float()
        return functional.interpolate(
            source, size=target, mode=self.interpolation, align_corners=False, antialias=True
        )
