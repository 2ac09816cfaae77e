"""Random masks of the input while training, always on a copy.

Axes: B batch, T steps, D width, K spans.
"""

import torch
from torch import Tensor


def _uniform(*shape: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    # The generator may live on the CPU while the features are on an accelerator.
    device = like.device if generator is None else generator.device
    return torch.rand(*shape, device=device, generator=generator).to(like.device)


def mask_channels(features_BTD: Tensor, *, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Copy with whole channels of each video zero at this rate, the others scaled by 1 / (1 - rate)."""
    batch, _, width = features_BTD.shape
    keep_BD = _uniform(batch, width, like=features_BTD, generator=generator) >= rate
    return features_BTD * (keep_BD.to(features_BTD.dtype) / (1 - rate))[:, None]


def mask_time(
    features_BTD: Tensor,
    lengths_B: Tensor,
    *,
    max_steps: int,
    max_fraction: float,
    spans: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Copy with ``spans`` random spans of each video set to zero.

    A span takes n = min(floor(max_fraction * length), uniform integer in [0, max_steps)) steps from a uniform
    start in [0, length - n).
    """
    batch, num_steps, _ = features_BTD.shape
    draws_2BK = _uniform(2, batch, spans, like=features_BTD, generator=generator)
    lengths_B1 = lengths_B[:, None]
    longest_B1 = (lengths_B1 * max_fraction).floor().long()
    span_BK = torch.minimum((draws_2BK[0] * max_steps).long(), longest_B1)
    start_BK = (draws_2BK[1] * (lengths_B1 - span_BK)).long()
    step_T = torch.arange(num_steps, device=features_BTD.device)
    inside_BKT = (step_T >= start_BK[..., None]) & (step_T < (start_BK + span_BK)[..., None])
    # A product, because a CPU fills by a mask one element at a time.
    return features_BTD * (~inside_BKT.any(1)[..., None]).to(features_BTD.dtype)
