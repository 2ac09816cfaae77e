"""Sinusoidal positions.

Axes: T positions, D width.
"""

import math

import torch
from torch import Tensor, nn

BASE = 10000.0


def sinusoid(num_positions: int, width: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sinusoids of Vaswani et al. 2017, section 3.5, (T, D): sines on even channels, cosines on odd ones.

    >>> sinusoid(2, 2, device=torch.device("cpu"), dtype=torch.float32)[0]
    tensor([0., 1.])
    """
    position_T1 = torch.arange(num_positions, device=device, dtype=dtype)[:, None]
    even_channels = torch.arange(0, width, 2, device=device, dtype=dtype)
    angle_TD = position_T1 * torch.exp(even_channels * (-math.log(BASE) / width))
    return torch.stack([angle_TD.sin(), angle_TD.cos()], dim=-1).flatten(1)[:, :width]


def add_position(x: Tensor, position: Tensor | None) -> Tensor:
    """``x`` with the position added to its first channels; None stands for the position zero."""
    if position is None:
        return x
    return x + nn.functional.pad(position, (0, x.shape[-1] - position.shape[-1]))
