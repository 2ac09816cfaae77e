"""Dropout whose mask is cheap on a CPU too."""

import torch
from torch import Tensor, nn

_BITS = 16
_PER_WORD = 64 // _BITS


class Dropout(nn.Dropout):
    """``nn.Dropout`` at the nearest multiple of 1 / 65536 to its rate, where it runs on a CPU.

    There torch draws a number in double precision for each element, eight times as long as here, where four
    elements share a random word. Accelerators draw inside the kernel that multiplies, so torch's own is used.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Shape of the input."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return nn.functional.dropout(x, self.p, self.training)
        return x * _keep(x, dropped=round(self.p * 2**_BITS))


def _keep(x: Tensor, *, dropped: int) -> Tensor:
    """0 for ``dropped`` of 65536 elements on average, else the scale that keeps the mean; shape of ``x``."""
    if dropped == 2**_BITS:
        return torch.zeros_like(x)
    words = torch.empty(-(-x.numel() // _PER_WORD), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)
    scale = 2**_BITS / (2**_BITS - dropped)
    kept: Tensor = bits >= dropped - 2 ** (_BITS - 1)
    return kept.to(x.dtype).mul_(scale)
