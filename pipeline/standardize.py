"""Per-channel standardisation: by the training steps and stored with the model, or by each video's own steps."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.input_rules import Over

# Axes: T feature steps, D feature width.

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Below this a float32 loses digits, and in the end becomes the zero that nothing can be divided by."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Standardisation:
    """Per-channel mean and scale; applied to every input of the model."""

    mean_D: Tensor
    """Of the training steps."""
    scale_D: Tensor
    over: Over = "training"
    """``video``: the mean and scale of a video's own steps are taken, and those kept here are 0 and 1.
    ``both``: by those kept here, then once more by the video's own, side by side."""

    @classmethod
    def of(cls, features: Iterable[NDArray[np.float32]]) -> "Standardisation":
        """Mean and standard deviation over all steps of all videos; a constant channel keeps scale 1."""
        statistics = ChannelStatistics()
        for rows in features:
            statistics.add(rows)
        return statistics.standardisation()

    @classmethod
    def none(cls, width: int) -> "Standardisation":
        """Leaves features as they are."""
        return cls(mean_D=torch.zeros(width), scale_D=torch.ones(width))

    @classmethod
    def by_video(cls, width: int) -> "Standardisation":
        """Brings every channel of every video to mean 0 and deviation 1 over that video."""
        return cls(mean_D=torch.zeros(width), scale_D=torch.ones(width), over="video")

    def apply(self, features: NDArray[np.float32]) -> Tensor:
        """(T, D) standardised rows, (T, 2D) for ``both``."""
        if self.over == "video":
            return Standardisation.of([features]).apply(features)
        by_training_TD = (torch.from_numpy(features) - self.mean_D) / self.scale_D
        if self.over == "training":
            return by_training_TD
        return torch.cat([by_training_TD, Standardisation.of([features]).apply(features)], dim=1)


class ChannelStatistics:
    """Mean and variance of each channel over videos that are seen one at a time.

    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979:
    one pass over the data, and no difference of large sums.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean_D: NDArray[np.float64] = np.zeros(0)
        self._squares_D: NDArray[np.float64] = np.zeros(0)

    def add(self, rows: NDArray[np.float32]) -> None:
        """Take in the steps (T, D) of one more video."""
        if self._count == 0:
            self._mean_D = np.zeros(rows.shape[1])
            self._squares_D = np.zeros(rows.shape[1])
        mean_D = rows.mean(axis=0, dtype=np.float64)
        squares_D = ((rows - mean_D) ** 2).sum(axis=0)
        total = self._count + len(rows)
        shift_D = mean_D - self._mean_D
        self._squares_D += squares_D + shift_D**2 * (self._count * len(rows) / total)
        self._mean_D += shift_D * (len(rows) / total)
        self._count = total

    def standardisation(self) -> Standardisation:
        """Mean and standard deviation so far; a constant channel keeps scale 1."""
        deviation_D = np.sqrt(self._squares_D / self._count)
        # Rounding leaves a constant channel a deviation of about 1e-7 of its size; dividing by it makes noise.
        # No absolute limit but that of float32: channels of some networks are tiny and carry everything.
        constant_D = deviation_D <= np.maximum(1e-6 * np.abs(self._mean_D), _SMALLEST_SCALE)
        return Standardisation(
            mean_D=torch.from_numpy(self._mean_D.astype(np.float32)),
            scale_D=torch.from_numpy(np.where(constant_D, 1.0, deviation_D).astype(np.float32)),
        )
