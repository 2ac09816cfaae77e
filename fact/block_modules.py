"""The blocks of FACT, made of layers (Lu & Elhamifar, CVPR 2024, section 3).

Axes: B batch, T steps, M tokens, N predicted segments, D feature width, H width between blocks, A token
width, W width of the texts. Attribute names are those of published checkpoints (FACT.md section 11).
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fact.attention import Sequence
from fact.dropout import Dropout
from fact.heads import ClassChannels, Head
from fact.outputs import BlockOutput
from fact.recurrent import run_gru
from fact.segments import Segmentation, copy_to_steps, mean_by_segment, segment_runs


class InputBlock(nn.Module):
    """Block ``i``: the frame branch reads the features, the tokens read the frames."""

    def __init__(self, *, frame_branch: nn.Module, action_branch: nn.Module, head: Head) -> None:
        super().__init__()
        self.frame_branch = frame_branch
        self.action_branch = action_branch
        self.head = head

    def forward(self, frames: Sequence, tokens: Sequence) -> BlockOutput:
        """From features (B, T, D) and tokens (B, M, A)."""
        frame = self.head.split(self.frame_branch(frames.features, frames.valid), with_null=False)
        token = self.head.split(
            self.action_branch(tokens, replace(frames, features=frame.features)), with_null=True
        )
        return BlockOutput(
            frame_features=frame.features,
            frame_logits=frame.logits,
            frame_log_probs=frame.log_probs,
            token_features=token.features,
            token_logits=token.logits,
            token_log_probs=token.log_probs,
        )


class InputBlockTDU(nn.Module):
    """Block ``I``: as ``i``, but the tokens read predicted segments (verb/noun variant)."""

    def __init__(
        self,
        *,
        frame_branch: nn.Module,
        seg_update: nn.GRU,
        seg_combine: nn.Module,
        action_branch: nn.Module,
        head: Head,
    ) -> None:
        super().__init__()
        self.frame_branch = frame_branch
        self.seg_update = seg_update
        self.seg_combine = seg_combine
        self.action_branch = action_branch
        self.head = head

    def forward(self, frames: Sequence, tokens: Sequence) -> BlockOutput:
        """From features (B, T, D) and tokens (B, M, A)."""
        frame = self.head.split(self.frame_branch(frames.features, frames.valid), with_null=False)
        frames = replace(frames, features=frame.features)
        pooled = _pool_segments(frames, self.head, self.seg_update, self.seg_combine)
        token = self.head.split(self.action_branch(tokens, pooled.segments), with_null=True)
        return BlockOutput(
            frame_features=frame.features,
            frame_logits=frame.logits,
            frame_log_probs=frame.log_probs,
            token_features=token.features,
            token_logits=token.logits,
            token_log_probs=token.log_probs,
            segmentation=pooled.segmentation,
            segment_logits=pooled.classes.logits,
            segment_log_probs=pooled.classes.log_probs,
        )


class UpdateBlock(nn.Module):
    """Block ``u``: tokens take from steps, then steps take from tokens."""

    def __init__(
        self,
        *,
        f2a_layer: nn.Module,
        action_branch: nn.Module,
        a2f_layer: nn.Module,
        frame_branch: nn.Module,
        head: Head,
    ) -> None:
        super().__init__()
        self.f2a_layer = f2a_layer
        self.action_branch = action_branch
        self.a2f_layer = a2f_layer
        self.frame_branch = frame_branch
        self.head = head

    def forward(self, frames: Sequence, tokens: Sequence) -> BlockOutput:
        """From steps (B, T, H) and tokens (B, M, H)."""
        taken, f2a_logits = self.f2a_layer(frames, tokens)
        token = self.head.split(self.action_branch(replace(tokens, features=taken), frames), with_null=True)
        taken, a2f_logits = self.a2f_layer(replace(tokens, features=token.features), frames)
        frame = self.head.split(self.frame_branch(taken, frames.valid), with_null=False)
        return BlockOutput(
            frame_features=frame.features,
            frame_logits=frame.logits,
            frame_log_probs=frame.log_probs,
            token_features=token.features,
            token_logits=token.logits,
            token_log_probs=token.log_probs,
            frame_to_token_logits=f2a_logits,
            token_to_frame_logits=a2f_logits,
            attention=_softmax_over_tokens(a2f_logits, tokens),
        )


class UpdateBlockTDU(nn.Module):
    """Block ``U``: as ``u``, but between tokens and predicted segments (temporal down- and upsampling)."""

    def __init__(
        self,
        *,
        seg_update: nn.GRU,
        seg_combine: nn.Module,
        f2a_layer: nn.Module,
        action_branch: nn.Module,
        a2f_layer: nn.Module,
        sf_merge: nn.Module,
        frame_branch: nn.Module,
        head: Head,
    ) -> None:
        super().__init__()
        self.seg_update = seg_update
        self.seg_combine = seg_combine
        self.f2a_layer = f2a_layer
        self.action_branch = action_branch
        self.a2f_layer = a2f_layer
        self.sf_merge = sf_merge
        self.frame_branch = frame_branch
        self.head = head

    def forward(self, frames: Sequence, tokens: Sequence) -> BlockOutput:
        """From steps (B, T, H) and tokens (B, M, H)."""
        pooled = _pool_segments(frames, self.head, self.seg_update, self.seg_combine)
        segmentation, segment, segments = pooled.segmentation, pooled.classes, pooled.segments
        taken, f2a_logits = self.f2a_layer(segments, tokens)
        token = self.head.split(self.action_branch(replace(tokens, features=taken), segments), with_null=True)
        taken, a2f_logits = self.a2f_layer(replace(tokens, features=token.features), segments)
        merged = self.sf_merge(torch.cat([copy_to_steps(taken, segmentation), frames.features], dim=-1))
        frame = self.head.split(self.frame_branch(merged, frames.valid), with_null=False)
        return BlockOutput(
            frame_features=frame.features,
            frame_logits=frame.logits,
            frame_log_probs=frame.log_probs,
            token_features=token.features,
            token_logits=token.logits,
            token_log_probs=token.log_probs,
            segmentation=segmentation,
            segment_logits=segment.logits,
            segment_log_probs=segment.log_probs,
            frame_to_token_logits=f2a_logits,
            token_to_frame_logits=a2f_logits,
            attention=copy_to_steps(_softmax_over_tokens(a2f_logits, tokens), segmentation),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pooled:
    """Predicted segments of a batch."""

    segmentation: Segmentation
    classes: ClassChannels
    segments: Sequence


def _pool_segments(frames: Sequence, head: Head, seg_update: nn.GRU, seg_combine: nn.Module) -> _Pooled:
    """Mean of the steps of each run of one class, then a GRU over the runs."""
    segmentation = segment_runs(head.classes(frames.features), frames.valid, room=frames.room)
    pooled_BNH = mean_by_segment(frames.features, segmentation, frames.valid)
    pooled_BNH = torch.relu(run_gru(seg_update, pooled_BNH, segmentation.valid))
    classes = head.split(seg_combine(pooled_BNH), with_null=False)
    segments = Sequence(
        features=classes.features,
        position=_rows_of_position(frames.position, segmentation.middle),
        valid=segmentation.valid,
    )
    return _Pooled(segmentation=segmentation, classes=classes, segments=segments)


def _softmax_over_tokens(logits_BXM: Tensor, tokens: Sequence) -> Tensor:
    if tokens.padding is not None:
        logits_BXM = logits_BXM.masked_fill(tokens.padding[:, None], -math.inf)
    return logits_BXM.softmax(-1)


def _rows_of_position(position_1TP: Tensor | None, rows_BN: Tensor) -> Tensor | None:
    return None if position_1TP is None else position_1TP[0][rows_BN]


class FeatureProjection(nn.Module):
    """Steps into the space of the texts: linear, norm, relu, dropout, linear, then unit length."""

    def __init__(
        self, input_dim: int, output_dim: int, *, hidden_dim: int = 512, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(input_dim, hidden_dim),
            nn.LayerNorm(hidden_dim),
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(hidden_dim, output_dim),
        )

    def forward(self, features_BTH: Tensor) -> Tensor:
        """Unit rows, (B, T, W)."""
        return nn.functional.normalize(self.projection(features_BTH), dim=-1)
