"""Optical flow of a video that arrives in batches, whatever the method."""

# Axes: N pictures, n fields, H rows, W columns.

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.preprocess import I3D_CROP

PAIRS_PER_BATCH = 8
"""Pairs of pictures given to a method at once, counted from the first picture on, so that a run that is taken up
again makes the same batches."""

FlowMethod = Callable[[NDArray[np.uint8]], Tensor]
"""Takes neighbouring pictures (n + 1, H, W, 3) and gives the input of I3D (n, 224, 224, 2), in [-1, 1]."""


class FlowStream:
    """The optical-flow input of a video that arrives in batches.

    Field j is the displacement from picture j to picture j + 1; the one past the last picture is zero.

    Args:
        method: Computes fields.
        first: Index of the first picture to come; a multiple of ``PAIRS_PER_BATCH``.
    """

    def __init__(self, method: FlowMethod, *, first: int = 0) -> None:
        self._method = method
        self._first = first
        self._waiting: list[NDArray[np.uint8]] = []

    @property
    def first(self) -> int:
        """Index of the next field."""
        return self._first

    def push(self, frames: NDArray[np.uint8]) -> Tensor:
        """Fields (n, 224, 224, 2) of whole batches that the next pictures (N, H, W, 3) complete."""
        self._waiting.extend(frames)
        made = []
        while len(self._waiting) > PAIRS_PER_BATCH:
            made.append(self._fields(PAIRS_PER_BATCH))
        return torch.cat(made) if made else torch.zeros(0, I3D_CROP, I3D_CROP, 2)

    def finish(self) -> Tensor:
        """The fields that waited, and the zero field past the last picture."""
        if not self._waiting:
            raise ValueError("No picture was pushed, so there is no last one.")
        waiting = self._fields(len(self._waiting) - 1)
        return torch.cat([waiting, waiting.new_zeros(1, I3D_CROP, I3D_CROP, 2)])

    def _fields(self, pairs: int) -> Tensor:
        if pairs == 0:
            return torch.zeros(0, I3D_CROP, I3D_CROP, 2)
        fields = self._method(np.stack(self._waiting[: pairs + 1]))
        self._waiting = self._waiting[pairs:]
        self._first += pairs
        return fields
