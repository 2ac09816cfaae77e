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
        if self._is_torchs(x):
            return nn.functional.dropout(x, self.p, self.training)
        return x * keep_mask(x, self.p)

    def add(self, x: Tensor, update: Tensor) -> Tensor:
        """``x`` plus the update that is dropped out, whose memory may be used for the sum."""
        if not self._is_torchs(update):
            return torch.addcmul(x, update, keep_mask(update, self.p))
        update = nn.functional.dropout(update, self.p, self.training)
        if torch.is_grad_enabled() or update.dtype != x.dtype:
            return x + update
        # Fresh memory of a long video costs a CPU several times what the sum does.
        return update.add_(x)

    def _is_torchs(self, x: Tensor) -> bool:
        return not self.training or self.p == 0 or x.device.type != "cpu"


def keep_mask(x: Tensor, rate: float) -> Tensor:
    """0 for this part of the elements on average, else the scale that keeps the mean; shape and type of ``x``."""
    dropped = round(rate * 2**_BITS)
    if dropped == 2**_BITS:
        return torch.zeros_like(x)
    words = torch.empty(-(-x.numel() // _PER_WORD), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: x.numel()].view(x.shape)
    kept = torch.empty_like(bits, dtype=x.dtype)
    # Written as numbers at once: a mask of bools is slow to make and slow to multiply by on a CPU.
    torch.ge(bits, dropped - 2 ** (_BITS - 1), out=kept)
    return kept.mul_(2**_BITS / (2**_BITS - dropped))
