"""FACT and FACT_CLIP: the blocks, and the models made of them.

Lu & Elhamifar, "FACT: Frame-Action Cross-Attention Temporal Modeling for Efficient Action Segmentation", CVPR 2024,
section 3. Axes: B batch, T steps, M tokens, N predicted segments, C classes, H width between blocks, A token width,
F frame-branch width. Attribute names are those of published checkpoints (FACT.md section 11).
"""

import math
from dataclasses import replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fact.attention import CrossBranchAttention, GRUDecoder, SADecoder, SCADecoder, Sequence
from fact.config import BlockConfig, Config, SegmentBlockConfig, parse_config
from fact.errors import ConfigError
from fact.heads import ClassHead, Head
from fact.inputs import Batch, Transcript, check_features, check_transcript
from fact.masking import mask_channels, mask_time
from fact.outputs import BlockOutput, FactOutput
from fact.positions import sinusoid
from fact.predict import Fusion, Prediction, predict, predict_with_texts
from fact.recurrent import run_gru
from fact.segments import copy_to_steps, mean_by_segment, segment_runs
from fact.temporal_conv import MSTCN, MSTCN2

__all__ = ["FACT", "FACT_CLIP", "FeatureProjection", "InputBlock", "UpdateBlock", "UpdateBlockTDU"]


class Block(Protocol):
    """A block takes the steps and tokens of the one before it."""

    def __call__(self, frames: Sequence, tokens: Sequence) -> BlockOutput:
        """Return everything that the block computes."""
        ...


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
        segmentation = segment_runs(self.head.classes(frames.features), frames.valid)
        pooled_BNH = mean_by_segment(frames.features, segmentation, frames.valid)
        pooled_BNH = F.relu(run_gru(self.seg_update, pooled_BNH, segmentation.counts))
        segment = self.head.split(self.seg_combine(pooled_BNH), with_null=False)
        segments = Sequence(
            features=segment.features,
            position=_rows_of_position(frames.position, segmentation.middle_BN),
            valid=segmentation.valid_BN,
            lengths=segmentation.counts,
        )
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
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, output_dim),
        )

    def forward(self, features_BTH: Tensor) -> Tensor:
        """Unit rows, (B, T, W)."""
        return F.normalize(self.projection(features_BTH), dim=-1)


def _frame_branch(block: BlockConfig, *, input_dim: int | None) -> nn.Module:
    if block.frame_branch == "m2":
        return MSTCN2(
            block.frame_dim,
            block.hidden_dim,
            num_layers=block.frame_layers,
            input_dim=input_dim,
            groups=block.frame_groups,
            dropout=block.dropout,
        )
    return MSTCN(
        block.frame_dim,
        block.hidden_dim,
        num_layers=block.frame_layers,
        input_dim=input_dim,
        groups=block.frame_groups,
        dropout=block.dropout,
        norm=block.frame_norm,
    )


def _action_branch(block: BlockConfig) -> nn.Module:
    if block.action_branch in ("gru", "gru_om"):
        out_dim = block.hidden_dim if block.action_branch == "gru_om" else None
        return GRUDecoder(block.token_dim, out_dim, num_layers=block.token_layers, dropout=block.dropout)
    decoder = SCADecoder if block.action_branch == "sca" else SADecoder
    return decoder(
        block.token_dim,
        block.hidden_dim,
        num_layers=block.token_layers,
        heads=block.token_heads,
        feedforward_dim=block.token_feedforward_dim,
        dropout=block.dropout,
    )


def _cross_attention(block: BlockConfig, out_dim: int) -> CrossBranchAttention:
    width = block.hidden_dim
    return CrossBranchAttention(source_dim=width, target_dim=width, out_dim=out_dim, dropout=block.dropout)


def _update_block(block: BlockConfig, head: Head) -> UpdateBlock:
    return UpdateBlock(
        f2a_layer=_cross_attention(block, block.token_dim),
        action_branch=_action_branch(block),
        a2f_layer=_cross_attention(block, block.frame_dim),
        frame_branch=_frame_branch(block, input_dim=None),
        head=head,
    )


def _segment_gru(width: int, num_layers: int) -> nn.GRU:
    return nn.GRU(width, width // 2, num_layers, batch_first=True, bidirectional=True)


def _segment_block(block: SegmentBlockConfig, head: Head) -> UpdateBlockTDU:
    width = block.hidden_dim
    return UpdateBlockTDU(
        seg_update=_segment_gru(width, block.segment_layers),
        seg_combine=nn.Linear(width, width),
        f2a_layer=_cross_attention(block, block.token_dim),
        action_branch=_action_branch(block),
        a2f_layer=_cross_attention(block, block.frame_dim),
        sf_merge=nn.Sequential(nn.Linear(block.frame_dim + width, block.frame_dim), nn.ReLU()),
        frame_branch=_frame_branch(block, input_dim=None),
        head=head,
    )


def _build_block(letter: str, config: Config, *, input_dim: int, head: Head) -> nn.Module:
    if letter == "i":
        return InputBlock(
            frame_branch=_frame_branch(config.input_block, input_dim=input_dim),
            action_branch=_action_branch(config.input_block),
            head=head,
        )
    if letter == "u":
        return _update_block(config.update_block, head)
    if letter == "U":
        return _segment_block(config.segment_block, head)
    raise ConfigError(
        f"FACT.block is {config.model.blocks!r}: block {letter!r} belongs to the verb/noun variant; FACT and "
        "FACT_CLIP start with 'i'."
    )


class FACT(nn.Module):
    """Action segmentation by a frame branch and action tokens that attend to each other.

    Args:
        cfg: a :class:`fact.config.Config`, or a nested mapping or object with the published keys.
        input_dim: width of the features, D.
        n_classes: number of classes, C.

    Raises:
        ConfigError: the settings are malformed, or the width leaves no room for the classes.
    """

    def __init__(self, cfg: object, input_dim: int = 2048, n_classes: int = 75) -> None:
        super().__init__()
        config = parse_config(cfg)
        first = config.input_block
        self.config = config
        self.input_dim = input_dim
        self.num_classes = n_classes
        head = ClassHead(n_classes, hidden_dim=first.hidden_dim)
        self.block_list = nn.ModuleList(
            _build_block(letter, config, input_dim=input_dim, head=head) for letter in config.model.blocks
        )
        if config.model.transcript:
            self.action_embed = nn.Embedding(n_classes, first.token_dim)
        else:
            self.action_query = nn.Parameter(torch.randn(config.model.num_tokens, 1, first.token_dim))

    def forward(
        self,
        features: Tensor,
        valid: Tensor | None = None,
        transcript: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> FactOutput:
        """Run all blocks on one video or a padded batch.

        Args:
            features: (B, T, D), or (T, D) for one video.
            valid: (B, T) bool, False on padding, which lies at the end; None: nothing is padded.
            transcript: (B, S) ordered class ids, negative on padding; needed in transcript mode only.
            generator: source of the random masks of training; None: torch's global one.

        Raises:
            FeatureError: a shape, a mask or a number is wrong; the message names the video and the row.
        """
        batch = check_features(features, valid, input_dim=self.input_dim)
        frames = self._frames(batch, generator)
        tokens, classes_BS = self._tokens(batch, transcript)
        blocks: list[BlockOutput] = []
        for block in self.block_list:
            out: BlockOutput = block(frames, tokens)
            blocks.append(out)
            frames = replace(frames, features=out.frame_features)
            tokens = replace(tokens, features=out.token_features)
        return FactOutput(
            blocks=tuple(blocks),
            valid=_mask_of(frames),
            lengths=batch.lengths,
            token_valid=_mask_of(tokens),
            transcript=classes_BS,
        )

    def _frames(self, batch: Batch, generator: torch.Generator | None) -> Sequence:
        """The input steps, masked while training, with their positions."""
        x_BTD = batch.features_BTD
        model, spans = self.config.model, self.config.time_mask
        if self.training and model.channel_mask_rate:
            x_BTD = mask_channels(x_BTD, rate=model.channel_mask_rate, generator=generator)
        if self.training and spans.use:
            x_BTD = mask_time(
                x_BTD,
                torch.tensor(batch.lengths, device=x_BTD.device),
                max_steps=spans.max_steps,
                max_fraction=spans.max_fraction,
                spans=spans.spans,
                generator=generator,
            )
        position = None
        if model.step_position:
            width = self.config.input_block.hidden_dim
            position = sinusoid(x_BTD.shape[1], width, device=x_BTD.device, dtype=x_BTD.dtype)[None]
        return Sequence(features=x_BTD, position=position, valid=batch.valid_BT, lengths=batch.lengths)

    def _tokens(self, batch: Batch, transcript: Tensor | None) -> tuple[Sequence, Tensor | None]:
        """The tokens before the first block, and their classes in transcript mode."""
        if self.config.model.transcript:
            checked = check_transcript(
                transcript, batch_size=len(batch.lengths), num_classes=self.num_classes
            )
            return self._transcript_tokens(checked), checked.classes_BS
        query_1MA = self.action_query.transpose(0, 1)
        start_BMA = torch.zeros_like(query_1MA).expand(len(batch.lengths), -1, -1)
        lengths = (query_1MA.shape[1],) * len(batch.lengths)
        return Sequence(features=start_BMA, position=query_1MA, valid=None, lengths=lengths), None

    def _transcript_tokens(self, transcript: Transcript) -> Sequence:
        classes_BS = transcript.classes_BS.to(self.action_embed.weight.device)
        embedded_BSA = self.action_embed(classes_BS)
        _, num_positions, width = embedded_BSA.shape
        order_SA = sinusoid(num_positions, width, device=embedded_BSA.device, dtype=embedded_BSA.dtype)
        return Sequence(
            features=embedded_BSA + order_SA,
            position=None,
            valid=transcript.valid_BS,
            lengths=transcript.lengths,
        )

    @torch.no_grad()
    def predict(
        self, features: Tensor, valid: Tensor | None = None, transcript: Tensor | None = None
    ) -> Prediction:
        """Label every step of one video or a padded batch (FACT.md section 7); arguments as in :meth:`forward`."""
        output = self(features, valid, transcript)
        return predict(output, frame_weight=self.config.model.frame_weight)


def _mask_of(sequence: Sequence) -> Tensor:
    if sequence.valid is not None:
        return sequence.valid
    return torch.ones(sequence.features.shape[:2], dtype=torch.bool, device=sequence.features.device)


class FACT_CLIP(FACT):  # noqa: N801 - the name users know
    """FACT whose steps are also aligned to text embeddings of the classes (FACT.md section 8).

    Args:
        cfg: as for :class:`FACT`.
        input_dim: width of the features, D.
        n_classes: number of classes, C.
        text_embeddings: (C, W), one row per class; rows are scaled to unit length.

    Raises:
        ConfigError: as :class:`FACT`, or the text embeddings are not C finite rows.
    """

    text_embeddings: Tensor

    def __init__(
        self, cfg: object, input_dim: int = 2048, n_classes: int = 75, *, text_embeddings: Tensor
    ) -> None:
        super().__init__(cfg, input_dim, n_classes)
        if text_embeddings.dim() != 2 or len(text_embeddings) != n_classes:
            raise ConfigError(
                f"text_embeddings must have one row for each of {n_classes} classes, found shape "
                f"{tuple(text_embeddings.shape)}."
            )
        if not bool(text_embeddings.isfinite().all()) or not bool(text_embeddings.any(-1).all()):
            raise ConfigError(
                "text_embeddings has rows that are zero or not finite: embed the class names again."
            )
        clip = self.config.clip
        self.frame_projection = FeatureProjection(
            self.config.input_block.hidden_dim - n_classes,
            text_embeddings.shape[1],
            hidden_dim=clip.projection_dim,
            dropout=clip.projection_dropout,
        )
        rows_CW = text_embeddings.detach().to(torch.get_default_dtype())
        self.register_buffer("text_embeddings", F.normalize(rows_CW, dim=-1))

    def forward(
        self,
        features: Tensor,
        valid: Tensor | None = None,
        transcript: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> FactOutput:
        """As :meth:`FACT.forward`, with ``projected`` and ``text_embeddings`` set."""
        output = super().forward(features, valid, transcript, generator=generator)
        # Class probabilities ride in the last channels; the projection must not see them.
        projected = self.frame_projection(output.final.frame_features[..., : -self.num_classes])
        return replace(output, projected=projected, text_embeddings=self.text_embeddings)

    @torch.no_grad()
    def eval_with_clip(
        self,
        features: Tensor,
        transcript: Tensor | None = None,
        fusion: Fusion = "segments",
        valid: Tensor | None = None,
    ) -> Prediction:
        """Label every step with the help of the texts, so that classes never seen in training can come out.

        Args:
            features: as in :meth:`forward`.
            transcript: as in :meth:`forward`.
            fusion: ``segments`` or ``published``, see :func:`fact.predict.predict_with_texts`.
            valid: as in :meth:`forward`.
        """
        return predict_with_texts(
            self(features, valid, transcript),
            frame_weight=self.config.model.frame_weight,
            temperature=self.config.clip.temperature,
            unseen_classes=self.config.unseen_classes,
            fusion=fusion,
        )
