"""Optical flow between neighbouring frames, as the I3D stream of the published features wants it."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.preprocess import resize_and_crop

MAX_DISPLACEMENT = 20.0
"""Pixels per frame, at native resolution, at which displacements are clipped."""


class TvL1Stream:
    """TV-L1 flow fields of a video that arrives in batches (Zach, Pock and Bischof 2007; OpenCV's defaults).

    Field j is the displacement from frame j to frame j + 1, on grey frames at native resolution, resized
    like a picture without rescaling its values. The one past the last frame is zero.
    """

    def __init__(self) -> None:
        self._method = cv2.optflow.createOptFlow_DualTVL1()
        self._previous: NDArray[np.uint8] | None = None

    def push(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Fields (n, H, W, 2) completed by the next frames (N, H, W, 3): N, and N - 1 for the first batch."""
        fields = []
        for frame in frames:
            grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
            if self._previous is not None:
                fields.append(self._method.calc(self._previous, grey, None))
            self._previous = grey
        return np.stack(fields) if fields else np.zeros((0, *frames.shape[1:3], 2), np.float32)

    def finish(self) -> NDArray[np.float32]:
        """The zero field (1, H, W, 2) past the last frame."""
        if self._previous is None:
            raise ValueError("No frame was pushed, so there is no last one.")
        return np.zeros((1, *self._previous.shape, 2), np.float32)


def optical_flow_input(fields: NDArray[np.float32], *, device: torch.device) -> Tensor:
    """Flow fields (n, H, W, 2) in pixels as I3D wants them: (n, 224, 224, 2) in [-1, 1]."""
    small_NHWC = resize_and_crop(torch.from_numpy(fields).to(device))
    return small_NHWC.clamp(-MAX_DISPLACEMENT, MAX_DISPLACEMENT) / MAX_DISPLACEMENT
