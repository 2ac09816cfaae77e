"""Frame branches: stacks of dilated convolutions over steps.

Axes: B batch, T steps, D input width, F inner width, H output width. Attribute names are those of published
checkpoints (FACT.md section 11).
"""

import torch
from torch import Tensor, nn


def zero_padding(x: Tensor, valid: Tensor | None) -> Tensor:
    """``x`` with the padded entries zero; None means that nothing is padded."""
    return x if valid is None else x.masked_fill(~valid, 0)


class DilatedResidualLayer(nn.Module):
    """x + dropout(conv1(relu(dilated conv3(x)))), then a layer norm where asked for."""

    def __init__(self, width: int, *, dilation: int, groups: int, dropout: float, norm: bool) -> None:
        super().__init__()
        self.conv_dilated = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, groups=groups)
        self.conv_1x1 = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width) if norm else None

    def forward(self, x_BFT: Tensor) -> Tensor:
        """Same shape as the input, (B, F, T)."""
        update_BFT = self.conv_1x1(torch.relu(self.conv_dilated(x_BFT)))
        x_BFT = x_BFT + self.dropout(update_BFT)
        if self.norm is None:
            return x_BFT
        normed_BTF: Tensor = self.norm(x_BFT.transpose(1, 2))
        return normed_BTF.transpose(1, 2)


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
        self.conv_1x1 = None if input_dim is None else nn.Conv1d(input_dim, inner_dim, 1)
        self.layers = nn.ModuleList(
            DilatedResidualLayer(inner_dim, dilation=2**i, groups=groups, dropout=dropout, norm=norm)
            for i in range(num_layers)
        )
        self.conv_out = nn.Conv1d(inner_dim, out_dim, 1)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Steps with their surroundings, (B, T, H); padded steps do not reach valid ones."""
        valid_B1T = None if valid_BT is None else valid_BT[:, None]
        x_BFT = x_BTD.transpose(1, 2)
        if self.conv_1x1 is not None:
            x_BFT = self.conv_1x1(x_BFT)
        for layer in self.layers:
            x_BFT = layer(zero_padding(x_BFT, valid_B1T))
        out_BHT: Tensor = self.conv_out(x_BFT)
        return out_BHT.transpose(1, 2)


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
        self.conv_1x1_in = None if input_dim is None else nn.Conv1d(input_dim, inner_dim, 1)

        def dilated(dilation: int) -> nn.Conv1d:
            return nn.Conv1d(inner_dim, inner_dim, 3, padding=dilation, dilation=dilation, groups=groups)

        self.conv_dilated_1 = nn.ModuleList(dilated(2 ** (num_layers - 1 - i)) for i in range(num_layers))
        self.conv_dilated_2 = nn.ModuleList(dilated(2**i) for i in range(num_layers))
        self.conv_fusion = nn.ModuleList(nn.Conv1d(2 * inner_dim, inner_dim, 1) for _ in range(num_layers))
        self.dropout = nn.Dropout(dropout)
        self.conv_out = nn.Conv1d(inner_dim, out_dim, 1)

    def forward(self, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Steps with their surroundings, (B, T, H); padded steps do not reach valid ones."""
        valid_B1T = None if valid_BT is None else valid_BT[:, None]
        x_BFT = x_BTD.transpose(1, 2)
        if self.conv_1x1_in is not None:
            x_BFT = self.conv_1x1_in(x_BFT)
        last = len(self.conv_fusion) - 1
        layers = zip(self.conv_dilated_1, self.conv_dilated_2, self.conv_fusion, strict=True)
        for i, (far, near, fusion) in enumerate(layers):
            x_BFT = zero_padding(x_BFT, valid_B1T)
            update_BFT = torch.relu(fusion(torch.cat([far(x_BFT), near(x_BFT)], dim=1)))
            x_BFT = x_BFT + (update_BFT if i == last else self.dropout(update_BFT))
        out_BHT: Tensor = self.conv_out(x_BFT)
        return out_BHT.transpose(1, 2)
