"""Convolutions over steps, (B, T, F) to (B, T, F), as matrix products.

Axes: B batch, T steps, F width, G groups, I and O input and output width of a group, K taps, Z = G B, R = B T.

Steps stay ahead of channels as everywhere else in this room, so no layer transposes for the next one, and what
multiplies is the matrix product that every device is fastest at, at every dilation. Each tap adds its product
to the steps it reaches: gathering the taps for one product took a quarter of a training step on an H200.
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
        return nn.functional.linear(x_BTF, self.weight.flatten(1), self.bias)


class DilatedConv(nn.Conv1d):
    """A convolution of three steps ``dilation`` apart, (B, T, F) to (B, T, F); outside the video lie zeros."""

    def __init__(self, width: int, *, dilation: int, groups: int) -> None:
        super().__init__(width, width, TAPS, padding=dilation, dilation=dilation, groups=groups)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """(B, T, F)."""
        device = x_BTF.device.type
        if torch.is_autocast_enabled(device):
            # A function of its own is not on autocast's list: it multiplies in the type of its input.
            x_BTF = x_BTF.to(torch.get_autocast_dtype(device))
        layout = self.dilation[0], self.groups
        out_BTF: Tensor = _DilatedProduct.apply(x_BTF, self.weight, cast("Tensor", self.bias), layout)
        return out_BTF


class _DilatedProduct(torch.autograd.Function):
    """Keeps the input and the kernel alone for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x_BTF: Tensor, weight: Tensor, bias: Tensor, layout: tuple[int, int]) -> Tensor:  # noqa: ANN401 - torch's context has no type
        """See :class:`DilatedConv`; the layout is its dilation and groups."""
        kernel_KFI = weight.permute(2, 0, 1).to(x_BTF.dtype, memory_format=torch.contiguous_format)
        kernel_KFI, bias = kernel_KFI.contiguous(), bias.to(x_BTF.dtype)
        ctx.save_for_backward(x_BTF, kernel_KFI)
        ctx.dilation, ctx.groups = layout
        ctx.weight_dtype = weight.dtype
        x_ZTI, kernel_KZOI = _grouped(x_BTF, ctx.groups), _per_video(kernel_KFI, x_BTF, ctx.groups)
        if ctx.groups == 1:
            out_ZTO = nn.functional.linear(x_ZTI, kernel_KFI[1], bias)
        else:
            bias_Z1O = bias.view(ctx.groups, 1, -1).repeat_interleave(len(x_BTF), 0)
            out_ZTO = torch.baddbmm(bias_Z1O, x_ZTI, kernel_KZOI[1].mT)
        _add_shifted(out_ZTO, x_ZTI, kernel_KZOI[0].mT, by=ctx.dilation)
        _add_shifted(out_ZTO, x_ZTI, kernel_KZOI[2].mT, by=-ctx.dilation)
        return _ungrouped(out_ZTO, ctx.groups)

    @staticmethod
    def backward(ctx: Any, grad_BTF: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """The transposed convolution for the input, products with the shifted input for the kernel."""
        x_BTF, kernel_KFI = ctx.saved_tensors
        grad_ZTO, kernel_KZOI = _grouped(grad_BTF, ctx.groups), _per_video(kernel_KFI, x_BTF, ctx.groups)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_ZTI = torch.bmm(grad_ZTO, kernel_KZOI[1])
            _add_shifted(grad_ZTI, grad_ZTO, kernel_KZOI[0], by=-ctx.dilation)
            _add_shifted(grad_ZTI, grad_ZTO, kernel_KZOI[2], by=ctx.dilation)
            grad_x = _ungrouped(grad_ZTI, ctx.groups)
        if ctx.needs_input_grad[1]:
            grad_KZOI = _kernel_gradient(grad_ZTO, _grouped(x_BTF, ctx.groups), dilation=ctx.dilation)
            grad_KGBOI = grad_KZOI.view(TAPS, ctx.groups, -1, *grad_KZOI.shape[2:])
            grad_KFI = grad_KGBOI.sum(2, dtype=ctx.weight_dtype).flatten(1, 2)
            grad_weight = grad_KFI.permute(1, 2, 0).contiguous()
        if ctx.needs_input_grad[2]:
            # A product with ones takes half the time of a sum over rows on an H200.
            rows_RF = grad_BTF.reshape(-1, grad_BTF.shape[2])
            grad_bias = torch.mv(rows_RF.T, rows_RF.new_ones(len(rows_RF))).to(ctx.weight_dtype)
        return grad_x, grad_weight, grad_bias, None


def _grouped(x_BTF: Tensor, groups: int) -> Tensor:
    """Every group of every video by itself, (Z, T, I); a view where there is one group."""
    return x_BTF.reshape(*x_BTF.shape[:2], groups, -1).permute(2, 0, 1, 3).flatten(0, 1)


def _ungrouped(x_ZTI: Tensor, groups: int) -> Tensor:
    """Back to (B, T, F)."""
    return x_ZTI.view(groups, -1, *x_ZTI.shape[1:]).permute(1, 2, 0, 3).flatten(2)


def _per_video(kernel_KFI: Tensor, x_BTF: Tensor, groups: int) -> Tensor:
    """The kernel of each group for every video, (K, Z, O, I); a view where there is one group."""
    kernel_KGOI = kernel_KFI.view(TAPS, groups, -1, kernel_KFI.shape[2])
    return kernel_KGOI[:, :, None].expand(-1, -1, len(x_BTF), -1, -1).flatten(1, 2)


def _shifted(later_ZTF: Tensor, earlier_ZTF: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Steps of the first that have a step of the second ``by`` steps before them, and these."""
    if by < 0:
        earlier, later = _shifted(earlier_ZTF, later_ZTF, -by)
        return later, earlier
    kept = max(later_ZTF.shape[1] - by, 0)
    return later_ZTF[:, by:], earlier_ZTF[:, :kept]


def _add_shifted(out_ZTO: Tensor, x_ZTI: Tensor, matrix_ZIO: Tensor, *, by: int) -> None:
    """Add to every step the product of the step ``by`` steps before it."""
    target, source = _shifted(out_ZTO, x_ZTI, by)
    if target.shape[1]:
        torch.baddbmm(target, source, matrix_ZIO, out=target)


def _kernel_gradient(grad_ZTO: Tensor, x_ZTI: Tensor, *, dilation: int) -> Tensor:
    """(K, Z, O, I)."""
    shape = TAPS, len(x_ZTI), grad_ZTO.shape[2], x_ZTI.shape[2]
    if dilation >= x_ZTI.shape[1]:
        products_KZOI = grad_ZTO.new_zeros(shape)
        torch.bmm(grad_ZTO.mT, x_ZTI, out=products_KZOI[1])
        return products_KZOI
    products_KZOI = grad_ZTO.new_empty(shape)
    for tap, by in enumerate((dilation, 0, -dilation)):
        target, source = _shifted(grad_ZTO, x_ZTI, by)
        torch.bmm(target.mT, source, out=products_KZOI[tap])
    return products_KZOI
