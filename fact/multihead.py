"""Attention with several heads on the parameters of torch's layer.

Axes: B batch, Y queries, X keys and values, A width of all heads together, E heads, W width of one head.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fact.dropout import keep_mask

Map = tuple[Tensor, Tensor]
"""Weight and bias of a linear map."""


class MultiheadAttention(nn.MultiheadAttention):
    """``nn.MultiheadAttention``, batch first, whose keys and values may have been mapped beforehand."""

    def __init__(self, width: int, heads: int, *, dropout: float, memory_dim: int | None = None) -> None:
        super().__init__(width, heads, dropout=dropout, batch_first=True, kdim=memory_dim, vdim=memory_dim)

    def maps(self) -> tuple[Map, Map, Map]:
        """Of queries, keys and values."""
        weights: Sequence[Tensor] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        query, key, value = zip(weights, cast("Tensor", self.in_proj_bias).chunk(3), strict=True)
        return query, key, value

    def forward(  # type: ignore[override]
        self, query_BYA: Tensor, key_BXA: Tensor, value_BXA: Tensor, valid_BX: Tensor | None
    ) -> Tensor:
        """What each query takes of the values, (B, Y, A)."""
        _, key, value = self.maps()
        linear = nn.functional.linear
        return self.take(query_BYA, linear(key_BXA, *key), linear(value_BXA, *value), valid_BX)

    def take(self, query_BYA: Tensor, key_BXA: Tensor, value_BXA: Tensor, valid_BX: Tensor | None) -> Tensor:
        """As :meth:`forward`, of keys and values that went through their maps."""
        query_BYA = nn.functional.linear(query_BYA, *self.maps()[0])
        rate = self.dropout if self.training else 0.0
        query_BEYW, key_BEXW, value_BEXW = map(self._by_head, (query_BYA, key_BXA, value_BXA))
        taken_BEYW = _attend(query_BEYW, key_BEXW, value_BEXW, valid_BX, rate=rate)
        out_BYA: Tensor = self.out_proj(taken_BEYW.transpose(1, 2).flatten(2))
        return out_BYA

    def _by_head(self, x_BXA: Tensor) -> Tensor:
        num_heads: int = self.num_heads
        return x_BXA.reshape(*x_BXA.shape[:2], num_heads, -1).transpose(1, 2)


def _attend(
    query_BEYW: Tensor, key_BEXW: Tensor, value_BEXW: Tensor, valid_BX: Tensor | None, *, rate: float
) -> Tensor:
    """softmax(query . key / sqrt(W)) with dropout, times the values, (B, E, Y, W)."""
    if not rate or query_BEYW.device.type != "cpu":
        mask_B11X = None if valid_BX is None else valid_BX[:, None, None]
        return nn.functional.scaled_dot_product_attention(
            query_BEYW, key_BEXW, value_BEXW, attn_mask=mask_B11X, dropout_p=rate
        )
    # With dropout torch has no fused kernel for a CPU; what it does then took six times as long as this.
    logits_BEYX = (query_BEYW * query_BEYW.shape[-1] ** -0.5) @ key_BEXW.mT
    if valid_BX is not None:
        absent_BX = torch.zeros_like(valid_BX, dtype=logits_BEYX.dtype).masked_fill(~valid_BX, float("-inf"))
        logits_BEYX = logits_BEYX + absent_BX[:, None, None]
    weights_BEYX = logits_BEYX.softmax(-1)
    taken_BEYW: Tensor = (weights_BEYX * keep_mask(weights_BEYX, rate)) @ value_BEXW
    return taken_BEYW


def map_for_all(x_BXD: Tensor, maps: Sequence[Map]) -> tuple[Tensor, ...]:
    """``x`` by several linear maps of one width in one product, (B, X, A) each."""
    weights, biases = zip(*maps, strict=True)
    mapped_BXA = nn.functional.linear(x_BXD, torch.cat(weights), torch.cat(biases))
    return mapped_BXA.chunk(len(maps), dim=-1)
