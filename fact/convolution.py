"""Convolutions over steps, (B, T, F) to (B, T, F), as matrix products.

Axes: B batch, T steps, F width, G groups, I and O input and output width of a group, K taps, Z = G B, R = B T, C
convolutions that are joined, L layers.

Steps stay ahead of channels as everywhere else in this room, so no layer transposes for the next one, and what
multiplies is the matrix product that every device is fastest at, at every dilation. Each tap adds its product
to the steps it reaches: gathering the taps for one product took a quarter of a training step on an H200.
"""

from collections.abc import Sequence
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

    @property
    def shifts(self) -> tuple[int, ...]:
        """How many steps before a step each tap looks."""
        return self.dilation[0], 0, -self.dilation[0]

    def forward(self, x_BTF: Tensor) -> Tensor:
        """(B, T, F)."""
        return sum_of_taps(
            x_BTF, self.weight.permute(2, 0, 1), cast("Tensor", self.bias), self.shifts, groups=self.groups
        )


def join_convolutions(
    layers: Sequence[tuple[DilatedConv, DilatedConv, PointConv]],
) -> list[tuple[Tensor, Tensor, tuple[int, ...]]]:
    """Each layer's map of two convolutions' joined outputs as kernel, bias and shifts of :func:`sum_of_taps`.

    Nothing lies between them that is not linear, so both convolutions and the map are one convolution of five steps:
    five products in place of eight, and the convolutions' outputs are never built. All layers are joined at once: a
    GPU takes longer to start ten small products than to compute them.

    Args:
        layers: Far and near convolution and their map, all of one size.
    """
    fars, nears, fusions = zip(*layers, strict=True)
    count, width, groups = len(layers), fars[0].out_channels, fars[0].groups
    kernels = torch.stack([conv.weight for conv in (*fars, *nears)])
    kernel_CLGOIK = kernels.view(2, count, groups, -1, *kernels.shape[2:])
    fusion_LFCGO = torch.stack([fusion.weight for fusion in fusions]).view(count, width, 2, groups, -1)
    joined_CKLFI = torch.einsum("lfcgo,clgoik->cklfgi", fusion_LFCGO, kernel_CLGOIK).flatten(4)
    biases_CLO = torch.stack([cast("Tensor", conv.bias) for conv in (*fars, *nears)]).view(2, count, width)
    mapped_LF = torch.einsum("lfco,clo->lf", fusion_LFCGO.flatten(3), biases_CLO)
    bias_LF = mapped_LF + torch.stack([cast("Tensor", fusion.bias) for fusion in fusions])
    (far_first, far_own, far_last), (near_first, near_own, near_last) = (
        part.unbind() for part in joined_CKLFI
    )
    kernel_LKFI = torch.stack([far_first, near_first, far_own + near_own, near_last, far_last], dim=1)
    shifts = [
        (far.shifts[0], near.shifts[0], 0, near.shifts[2], far.shifts[2])
        for far, near in zip(fars, nears, strict=True)
    ]
    return list(zip(kernel_LKFI.unbind(), bias_LF.to(kernel_LKFI.dtype).unbind(), shifts, strict=True))


def sum_of_taps(
    x_BTF: Tensor, kernel_KFI: Tensor, bias: Tensor, shifts: tuple[int, ...], *, groups: int = 1
) -> Tensor:
    """A convolution whose tap k looks ``shifts[k]`` steps back, (B, T, F); one of the shifts is 0."""
    device = x_BTF.device.type
    if torch.is_autocast_enabled(device):
        # A function of its own is not on autocast's list: it multiplies in the type of its input.
        x_BTF = x_BTF.to(torch.get_autocast_dtype(device))
    kernel_KFI = kernel_KFI.to(x_BTF.dtype, memory_format=torch.contiguous_format).contiguous()
    out_BTF: Tensor = _SumOfTaps.apply(x_BTF, kernel_KFI, bias.to(x_BTF.dtype), (shifts, groups))
    return out_BTF


class _SumOfTaps(torch.autograd.Function):
    """Keeps the input and the kernel alone for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context has no type
        x_BTF: Tensor,
        kernel_KFI: Tensor,
        bias: Tensor,
        layout: tuple[tuple[int, ...], int],
    ) -> Tensor:
        """See :func:`sum_of_taps`; the layout is shifts and groups."""
        ctx.save_for_backward(x_BTF, kernel_KFI)
        ctx.shifts, ctx.groups = shifts, groups = layout
        x_ZTI, kernel_KZOI = _grouped(x_BTF, groups), _per_video(kernel_KFI, x_BTF, groups)
        own = shifts.index(0)
        if groups == 1:
            # Into memory of its own: what a linear map returns is a view with torch 2.11, which nobody could change
            # in place.
            out_ZTO = x_ZTI.new_empty(*x_ZTI.shape[:2], kernel_KFI.shape[1])
            torch.addmm(bias, x_ZTI.flatten(0, 1), kernel_KFI[own].T, out=out_ZTO.view(-1, out_ZTO.shape[2]))
        else:
            bias_Z1O = bias.view(groups, 1, -1).repeat_interleave(len(x_BTF), 0)
            out_ZTO = torch.baddbmm(bias_Z1O, x_ZTI, kernel_KZOI[own].mT)
        for tap, by in enumerate(shifts):
            if tap != own:
                _add_shifted(out_ZTO, x_ZTI, kernel_KZOI[tap].mT, by=by)
        return _ungrouped(out_ZTO, groups)

    @staticmethod
    def backward(ctx: Any, grad_BTF: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        """The transposed convolution for the input, products with the shifted input for the kernel."""
        x_BTF, kernel_KFI = ctx.saved_tensors
        shifts, own = ctx.shifts, ctx.shifts.index(0)
        grad_ZTO, kernel_KZOI = _grouped(grad_BTF, ctx.groups), _per_video(kernel_KFI, x_BTF, ctx.groups)
        grad_x = grad_kernel = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_ZTI = torch.bmm(grad_ZTO, kernel_KZOI[own])
            for tap, by in enumerate(shifts):
                if tap != own:
                    _add_shifted(grad_ZTI, grad_ZTO, kernel_KZOI[tap], by=-by)
            grad_x = _ungrouped(grad_ZTI, ctx.groups)
        if ctx.needs_input_grad[1]:
            grad_KZOI = _kernel_gradient(grad_ZTO, _grouped(x_BTF, ctx.groups), shifts)
            grad_KGBOI = grad_KZOI.view(len(shifts), ctx.groups, -1, *grad_KZOI.shape[2:])
            # Videos are added in float32 at least.
            total_dtype = torch.promote_types(x_BTF.dtype, torch.float32)
            grad_kernel = grad_KGBOI.sum(2, dtype=total_dtype).flatten(1, 2)
        if ctx.needs_input_grad[2]:
            # A product with ones takes half the time of a sum over rows on an H200.
            rows_RF = grad_BTF.reshape(-1, grad_BTF.shape[2])
            grad_bias = torch.mv(rows_RF.T, rows_RF.new_ones(len(rows_RF)))
        return grad_x, grad_kernel, grad_bias, None


def _grouped(x_BTF: Tensor, groups: int) -> Tensor:
    """Every group of every video by itself, (Z, T, I)."""
    return (
        x_BTF
        if groups == 1
        else x_BTF.reshape(*x_BTF.shape[:2], groups, -1).permute(2, 0, 1, 3).flatten(0, 1)
    )


def _ungrouped(x_ZTI: Tensor, groups: int) -> Tensor:
    """Back to (B, T, F); never a view of several groups, so that whoever takes it may change it in place."""
    return x_ZTI if groups == 1 else torch.cat(x_ZTI.chunk(groups), dim=-1)


def _per_video(kernel_KFI: Tensor, x_BTF: Tensor, groups: int) -> Tensor:
    """The kernel of each group for every video, (K, Z, O, I); a view where there is one group."""
    kernel_KGOI = kernel_KFI.view(len(kernel_KFI), groups, -1, kernel_KFI.shape[2])
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
    if not target.shape[1]:
        return
    if out_ZTO.is_cuda:
        torch.baddbmm(target, source, matrix_ZIO, out=target)
        return
    # On a CPU a batched product copies what has gaps between its matrices, in bfloat16 for as long as it multiplies.
    for out_TO, x_TI, matrix_IO in zip(target, source, matrix_ZIO, strict=True):
        torch.addmm(out_TO, x_TI, matrix_IO, out=out_TO)


def _kernel_gradient(grad_ZTO: Tensor, x_ZTI: Tensor, shifts: tuple[int, ...]) -> Tensor:
    """(K, Z, O, I)."""
    products_KZOI = grad_ZTO.new_empty(len(shifts), len(x_ZTI), grad_ZTO.shape[2], x_ZTI.shape[2])
    for products_ZOI, by in zip(products_KZOI, shifts, strict=True):
        target, source = _shifted(grad_ZTO, x_ZTI, by)
        if not target.shape[1]:
            products_ZOI.zero_()
        elif grad_ZTO.is_cuda:
            torch.bmm(target.mT, source, out=products_ZOI)
        else:
            for product_OI, grad_TO, x_TI in zip(products_ZOI, target, source, strict=True):
                torch.mm(grad_TO.T, x_TI, out=product_OI)
    return products_KZOI
