"""Frame branches: stacks of dilated convolutions over steps.

Axes: B batch, T steps, D input width, F inner width, H output width. Attribute names are those of published
checkpoints (FACT.md section 11).
"""

from typing import cast

import torch
from torch import Tensor, nn

from fact.convolution import DilatedConv, PointConv, join_convolutions, sum_of_taps
from fact.dropout import Dropout


def zero_padding(x_BTF: Tensor, valid_BT: Tensor | None) -> Tensor:
    """``x`` with the padded steps zero, which hold finite numbers; None means that nothing is padded."""
    # A product, because a CPU fills by a mask one element at a time.
    return x_BTF if valid_BT is None else x_BTF * valid_BT[..., None].to(x_BTF.dtype)


class DilatedResidualLayer(nn.Module):
    """x + dropout(conv1(relu(dilated conv3(x)))), then a layer norm where asked for."""

    def __init__(self, width: int, *, dilation: int, groups: int, dropout: float, norm: bool) -> None:
        super().__init__()
        self.conv_dilated = DilatedConv(width, dilation=dilation, groups=groups)
        self.conv_1x1 = PointConv(width, width)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(width) if norm else None

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Same shape as the input, (B, T, F)."""
        update_BTF = self.conv_1x1(torch.relu_(self.conv_dilated(x_BTF)))
        x_BTF = self.dropout.add(x_BTF, update_BTF)
        return x_BTF if self.norm is None else self.norm(x_BTF)


class MSTCN(nn.Module):
    """One stage of MS-TCN (Farha & Gall, CVPR 2019): layer i looks 2**i steps to either side."""

    def __init__(
        self,
        inner_dim: int,
        out_dim: int,
        *,
        num_layers: int,
        input_dim: int | None = None,
        groups: int = 1,
        dropout: float = 0.0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.conv_1x1 = None if input_dim is None else PointConv(input_dim, inner_dim)
        self.layers = nn.ModuleList(
            DilatedResidualLayer(inner_dim, dilation=2**i, groups=groups, dropout=dropout, norm=norm)
            for i in range(num_layers)
        )
        self.conv_out = PointConv(inner_dim, out_dim)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Steps with their surroundings, (B, T, H); padded steps do not reach valid ones."""
        x_BTF = x_BTD if self.conv_1x1 is None else self.conv_1x1(x_BTD)
        for layer in self.layers:
            x_BTF = layer(zero_padding(x_BTF, valid_BT))
        out_BTH: Tensor = self.conv_out(x_BTF)
        return out_BTH


class MSTCN2(nn.Module):
    """One stage of MS-TCN++ (Li et al., TPAMI 2020): each layer joins a near and a far dilation."""

    def __init__(
        self,
        inner_dim: int,
        out_dim: int,
        *,
        num_layers: int,
        input_dim: int | None = None,
        groups: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv_1x1_in = None if input_dim is None else PointConv(input_dim, inner_dim)

        def dilated(dilation: int) -> DilatedConv:
            return DilatedConv(inner_dim, dilation=dilation, groups=groups)

        self.conv_dilated_1 = nn.ModuleList(dilated(2 ** (num_layers - 1 - i)) for i in range(num_layers))
        self.conv_dilated_2 = nn.ModuleList(dilated(2**i) for i in range(num_layers))
        self.conv_fusion = nn.ModuleList(PointConv(2 * inner_dim, inner_dim) for _ in range(num_layers))
        self.dropout = Dropout(dropout)
        self.conv_out = PointConv(inner_dim, out_dim)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Steps with their surroundings, (B, T, H); padded steps do not reach valid ones."""
        x_BTF = x_BTD if self.conv_1x1_in is None else self.conv_1x1_in(x_BTD)
        last = len(self.conv_fusion) - 1
        layers = list(zip(self.conv_dilated_1, self.conv_dilated_2, self.conv_fusion, strict=True))
        for i, joined in enumerate(
            join_convolutions(cast("list[tuple[DilatedConv, DilatedConv, PointConv]]", layers))
        ):
            x_BTF = zero_padding(x_BTF, valid_BT)
            update_BTF = torch.relu_(sum_of_taps(x_BTF, *joined))
            x_BTF = x_BTF + update_BTF if i == last else self.dropout.add(x_BTF, update_BTF)
        out_BTH: Tensor = self.conv_out(x_BTF)
        return out_BTH
