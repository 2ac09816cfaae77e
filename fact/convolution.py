"""Convolutions over steps, (B, T, F) to (B, T, F), as one matrix product each.

Axes: B batch, T steps, F width, G groups, I and O input and output width of a group, K taps, R = B T rows.

Steps stay ahead of channels as everywhere else in this room, so no layer transposes for the next one, and what
multiplies is the matrix product that every device is fastest at, at every dilation.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

TAPS = 3
"""Kernel size of a dilated convolution: the step itself and one step to either side."""


class PointConv(nn.Conv1d):
    """A convolution of one step: a linear map of (B, T, in) to (B, T, out) with a convolution's parameters."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim, 1)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """(B, T, out)."""
        return nn.functional.linear(x_BTF, self.weight[..., 0], self.bias)


class DilatedConv(nn.Conv1d):
    """A convolution of three steps ``dilation`` apart, (B, T, F) to (B, T, F); outside the video lie zeros."""

    def __init__(self, width: int, *, dilation: int, groups: int) -> None:
        super().__init__(width, width, TAPS, padding=dilation, dilation=dilation, groups=groups)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """(B, T, F)."""
        inputs = [x_BTF, self.weight, cast("Tensor", self.bias)]
        device = x_BTF.device.type
        if torch.is_autocast_enabled(device):
            # A function of its own is not on autocast's list: it casts here, and its backward sees one type.
            inputs = [tensor.to(torch.get_autocast_dtype(device)) for tensor in inputs]
        out_BTF: Tensor = _DilatedProduct.apply(*inputs, (self.dilation[0], self.groups))
        return out_BTF


class _DilatedProduct(torch.autograd.Function):
    """Keeps the input alone for the backward pass, where autograd would keep its gathered taps."""

    @staticmethod
    def forward(ctx: Any, x_BTF: Tensor, weight: Tensor, bias: Tensor, layout: tuple[int, int]) -> Tensor:  # noqa: ANN401 - torch's context has no type
        """See :class:`DilatedConv`; the layout is its dilation and groups."""
        ctx.save_for_backward(x_BTF, weight)
        ctx.dilation, ctx.groups = layout
        return _convolve(x_BTF, weight, bias, dilation=ctx.dilation, groups=ctx.groups)

    @staticmethod
    def backward(ctx: Any, grad_BTF: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """The transposed convolution for the input, the product with the taps for the kernel."""
        x_BTF, weight = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            swapped = _by_group(weight, ctx.groups).transpose(1, 2).flip(-1).flatten(0, 1)
            grad_x = _convolve(grad_BTF, swapped, None, dilation=ctx.dilation, groups=ctx.groups)
        if ctx.needs_input_grad[1]:
            taps_GRKI = _taps(x_BTF, dilation=ctx.dilation, groups=ctx.groups)
            num_groups, num_rows, taps, width = taps_GRKI.shape
            grad_GOR = grad_BTF.reshape(num_rows, num_groups, -1).permute(1, 2, 0)
            product_GOKI = torch.bmm(grad_GOR, taps_GRKI.flatten(2)).view(num_groups, -1, taps, width)
            grad_weight = product_GOKI.transpose(2, 3).flatten(0, 1)
        if ctx.needs_input_grad[2]:
            grad_bias = grad_BTF.sum((0, 1))
        return grad_x, grad_weight, grad_bias, None


def _by_group(weight: Tensor, groups: int) -> Tensor:
    """Kernel (G O, I, K) as (G, O, I, K)."""
    return weight.reshape(groups, -1, *weight.shape[1:])


def _taps(x_BTF: Tensor, *, dilation: int, groups: int) -> Tensor:
    """Each step with its neighbours at the dilation, (G, R, K, I)."""
    num_steps = x_BTF.shape[1]
    padded = nn.functional.pad(x_BTF, (0, 0, dilation, dilation))
    shifted = [padded[:, tap * dilation : tap * dilation + num_steps] for tap in range(TAPS)]
    taps_BTKF = torch.stack(shifted, dim=2)
    return taps_BTKF.reshape(-1, TAPS, groups, x_BTF.shape[-1] // groups).permute(2, 0, 1, 3)


def _convolve(x_BTF: Tensor, weight: Tensor, bias: Tensor | None, *, dilation: int, groups: int) -> Tensor:
    batch, num_steps, _ = x_BTF.shape
    taps_GRKI = _taps(x_BTF, dilation=dilation, groups=groups)
    kernel_GOKI = _by_group(weight, groups).transpose(2, 3)
    if groups == 1:
        rows_RO = nn.functional.linear(taps_GRKI[0].flatten(1), kernel_GOKI[0].flatten(1), bias)
        return rows_RO.view(batch, num_steps, -1)
    product_GRO = torch.bmm(taps_GRKI.flatten(2), kernel_GOKI.flatten(2).transpose(1, 2))
    rows_BTO = product_GRO.transpose(0, 1).reshape(batch, num_steps, -1)
    return rows_BTO if bias is None else rows_BTO + bias
