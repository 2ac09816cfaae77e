"""Token branches and the attention between branches.

Axes: B batch, M tokens, T steps (or predicted segments), A token width, H width between blocks, X source and
Y target of an attention. Attribute names are those of published checkpoints (FACT.md section 11).
"""

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from fact.dropout import Dropout
from fact.multihead import MultiheadAttention, map_for_all
from fact.positions import add_position
from fact.recurrent import run_gru


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequence:
    """A padded sequence of features: steps, predicted segments or tokens."""

    features: Tensor
    """(B, X, H)."""
    position: Tensor | None
    """Added where positions matter; (B or 1, X, P) with P <= H; None is zero."""
    valid: Tensor | None
    """(B, X) bool, False on padding; None when nothing is padded."""
    room: int | None = None
    """Segments that a block may cut a video of these steps into; None: as many as it finds."""

    @property
    def padding(self) -> Tensor | None:
        """(B, X) bool, True on padding, as torch's attention wants it."""
        return None if self.valid is None else ~self.valid


class FeedForward(nn.Module):
    """Not a module of its own in published checkpoints: a base that gives a layer its two linear maps."""

    def __init__(self, width: int, *, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, width)
        self.dropout = Dropout(dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """linear(dropout(relu(linear(x)))), shape of the input."""
        out: Tensor = self.linear2(self.dropout(torch.relu(self.linear1(x))))
        return out


class SALayer(FeedForward):
    """Self-attention among tokens and a feed-forward map, each with residual and norm after it."""

    def __init__(self, width: int, *, heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__(width, feedforward_dim=feedforward_dim, dropout=dropout)
        self.multihead_attn = MultiheadAttention(width, heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, tokens_BMA: Tensor, *, position: Tensor | None, valid_BM: Tensor | None) -> Tensor:
        """Tokens that have seen each other, (B, M, A)."""
        query = add_position(tokens_BMA, position)
        attended = self.multihead_attn(query, query, tokens_BMA, valid_BM)
        tokens_BMA = self.norm1(self.dropout.add(tokens_BMA, attended))
        out: Tensor = self.norm2(self.dropout.add(tokens_BMA, self.feed_forward(tokens_BMA)))
        return out


class SCALayer(FeedForward):
    """Self-attention among tokens, cross-attention to the steps, feed-forward; norms after each."""

    def __init__(
        self, width: int, *, memory_dim: int, heads: int, feedforward_dim: int, dropout: float
    ) -> None:
        super().__init__(width, feedforward_dim=feedforward_dim, dropout=dropout)
        self.self_attn = MultiheadAttention(width, heads, dropout=dropout)
        self.multihead_attn = MultiheadAttention(width, heads, dropout=dropout, memory_dim=memory_dim)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(
        self, tokens: Sequence, *, key_BXA: Tensor, value_BXA: Tensor, valid_BX: Tensor | None
    ) -> Tensor:
        """Tokens that have seen each other and the steps, (B, M, A).

        Args:
            tokens: of width A.
            key_BXA: the steps by this layer's own map of keys.
            value_BXA: the steps by its map of values.
            valid_BX: False on padded steps.
        """
        tokens_BMA, position = tokens.features, tokens.position
        query = add_position(tokens_BMA, position)
        attended = self.self_attn(query, query, tokens_BMA, tokens.valid)
        tokens_BMA = self.norm1(self.dropout.add(tokens_BMA, attended))
        query = add_position(tokens_BMA, position)
        attended = self.multihead_attn.take(query, key_BXA, value_BXA, valid_BX)
        tokens_BMA = self.norm2(self.dropout.add(tokens_BMA, attended))
        out: Tensor = self.norm3(self.dropout.add(tokens_BMA, self.feed_forward(tokens_BMA)))
        return out


class SADecoder(nn.Module):
    """Token branch ``sa``: self-attention layers and a linear map A -> H."""

    def __init__(
        self, width: int, out_dim: int, *, num_layers: int, heads: int, feedforward_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SALayer(width, heads=heads, feedforward_dim=feedforward_dim, dropout=dropout)
            for _ in range(num_layers)
        )
        self.out_linear = nn.Linear(width, out_dim)

    def forward(self, tokens: Sequence, memory: Sequence) -> Tensor:
        """Tokens of width H; the memory is not looked at."""
        del memory
        x_BMA = tokens.features
        for layer in self.layers:
            x_BMA = layer(x_BMA, position=tokens.position, valid_BM=tokens.valid)
        out: Tensor = self.out_linear(x_BMA)
        return out


class SCADecoder(nn.Module):
    """Token branch ``sca``: self- and cross-attention layers, a norm and a linear map A -> H."""

    def __init__(
        self, width: int, out_dim: int, *, num_layers: int, heads: int, feedforward_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SCALayer(width, memory_dim=out_dim, heads=heads, feedforward_dim=feedforward_dim, dropout=dropout)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.out_linear = nn.Linear(width, out_dim)

    def forward(self, tokens: Sequence, memory: Sequence) -> Tensor:
        """Tokens of width H that have attended to the memory, whose width is H too."""
        # What layers read does not change from one to the next, so one product maps it for all of them.
        attentions = [cast("SCALayer", layer).multihead_attn for layer in self.layers]
        _, key_maps, value_maps = zip(*(attention.maps() for attention in attentions), strict=True)
        keys = map_for_all(add_position(memory.features, memory.position), key_maps)
        values = map_for_all(memory.features, value_maps)
        for layer, key_BXA, value_BXA in zip(self.layers, keys, values, strict=True):
            x_BMA = layer(tokens, key_BXA=key_BXA, value_BXA=value_BXA, valid_BX=memory.valid)
            tokens = replace(tokens, features=x_BMA)
        out: Tensor = self.out_linear(self.norm(tokens.features))
        return out


class GRUDecoder(nn.Module):
    """Token branches ``gru`` and ``gru_om``: a bidirectional GRU over tokens in their order, then a norm.

    ``out_dim`` adds a linear map A -> H; without it A is the width between blocks.
    """

    def __init__(self, width: int, out_dim: int | None, *, num_layers: int, dropout: float) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.gru = nn.GRU(
            width, width // 2, num_layers, batch_first=True, bidirectional=True, dropout=between
        )
        self.layernorm = nn.LayerNorm(width)
        self.out_map = nn.Identity() if out_dim is None else nn.Linear(width, out_dim)

    def forward(self, tokens: Sequence, memory: Sequence) -> Tensor:
        """Tokens of width H; positions and memory are not looked at, the order says where a token is."""
        del memory
        out: Tensor = self.out_map(self.layernorm(run_gru(self.gru, tokens.features, tokens.valid)))
        return out


class CrossBranchAttention(nn.Module):
    """What each target takes from the other branch (FACT, CVPR 2024, section 3.3): one head of width H."""

    def __init__(self, *, source_dim: int, target_dim: int, out_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.X_K = nn.Linear(source_dim, target_dim)
        self.X_V = nn.Linear(source_dim, target_dim)
        self.Y_Q = nn.Linear(target_dim, target_dim)
        self.Y_W = nn.Linear(2 * target_dim, out_dim)
        self.dropout = Dropout(dropout)

    def forward(self, source: Sequence, target: Sequence) -> tuple[Tensor, Tensor]:
        """Updated targets (B, Y, out) and the attention logits (B, Y, X); padded sources carry no weight."""
        logits_BYX = self._logits(
            add_position(source.features, source.position), add_position(target.features, target.position)
        )
        seen_BYX = logits_BYX
        if source.padding is not None:
            seen_BYX = logits_BYX.masked_fill(source.padding[:, None], -math.inf)
        taken_BYH = self._take(seen_BYX.softmax(-1), source.features)
        joined = self.dropout(torch.cat([target.features, taken_BYH], dim=-1))
        out: Tensor = self.Y_W(joined)
        return out, logits_BYX

    def _logits(self, x_BXH: Tensor, y_BYH: Tensor) -> Tensor:
        """X_K(x) . Y_Q(y) / sqrt(H), (B, Y, X); both matrices map the shorter side, of which there are few."""
        scale = self.X_K.out_features**-0.5
        if x_BXH.shape[1] > y_BYH.shape[1]:
            query_BYH = self.Y_Q(y_BYH)
            bias_BY1 = (query_BYH @ self.X_K.bias)[..., None]
            return torch.baddbmm(bias_BY1, query_BYH @ self.X_K.weight, x_BXH.mT, beta=scale, alpha=scale)
        key_BXH = self.X_K(x_BXH)
        bias_B1X = (key_BXH @ self.Y_Q.bias)[:, None]
        return torch.baddbmm(bias_B1X, y_BYH, (key_BXH @ self.Y_Q.weight).mT, beta=scale, alpha=scale)

    def _take(self, weights_BYX: Tensor, x_BXH: Tensor) -> Tensor:
        """Weighted means of X_V(x), (B, Y, H); a mean of the mapped is the mean mapped."""
        if x_BXH.shape[1] > weights_BYX.shape[1]:
            mapped_BYH: Tensor = self.X_V(torch.bmm(weights_BYX, x_BXH))
            return mapped_BYH
        return torch.bmm(weights_BYX, self.X_V(x_BXH))
