"""FACT and FACT_CLIP.

Lu & Elhamifar, "FACT: Frame-Action Cross-Attention Temporal Modeling for Efficient Action Segmentation", CVPR
2024. Axes: B batch, T steps, M tokens, S transcript positions, C classes, D feature width, A token width, W
width of the texts. Attribute names are those of published checkpoints (FACT.md section 11).
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from fact.attention import Sequence
from fact.block_modules import FeatureProjection, InputBlock, UpdateBlock, UpdateBlockTDU
from fact.build import build_block
from fact.config import Config, parse_config
from fact.errors import ConfigError
from fact.heads import ClassHead, Head
from fact.inputs import Batch, Transcript, check_features, check_transcript
from fact.masking import mask_channels, mask_time
from fact.outputs import BlockOutput, FactOutput
from fact.positions import sinusoid
from fact.predict import Fusion, Prediction, predict, predict_texts, predict_with_texts

__all__ = ["FACT", "FACT_CLIP", "FeatureProjection", "InputBlock", "UpdateBlock", "UpdateBlockTDU"]


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
        self._build(config, input_dim, ClassHead(n_classes, hidden_dim=config.input_block.hidden_dim))

    def _build(self, config: Config, input_dim: int, head: Head) -> None:
        self.config = config
        self.input_dim = input_dim
        self.num_classes = head.num_classes
        self.block_list = nn.ModuleList(
            build_block(letter, config, input_dim=input_dim, head=head) for letter in config.model.blocks
        )
        if config.model.transcript:
            self._build_embedding(config.input_block.token_dim)
        else:
            self.action_query = nn.Parameter(
                torch.randn(config.model.num_tokens, 1, config.input_block.token_dim)
            )

    def _build_embedding(self, width: int) -> None:
        self.action_embed = nn.Embedding(self.num_classes, width)

    def _embed(self, classes_BS: Tensor) -> Tensor:
        embedded_BSA: Tensor = self.action_embed(classes_BS)
        return embedded_BSA

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
            features: (B, T, D), or (T, D) for one video, of any floating type.
            valid: (B, T) bool, False on padding, which lies at the end; None: nothing is padded.
            transcript: (B, S) ordered class ids, negative on padding; needed in transcript mode only.
            generator: source of the random masks of training; None: torch's global one.

        Raises:
            FeatureError: a shape, a mask or a number is wrong; the message names the video and the row.
        """
        return self.compute(self.check(features, valid), transcript, generator=generator)

    def check(self, features: Tensor, valid: Tensor | None) -> Batch:
        """Features as :meth:`compute` takes them; arguments and errors as in :meth:`forward`."""
        dtype = next(self.parameters()).dtype
        return check_features(features, valid, input_dim=self.input_dim, dtype=dtype)

    def compute(
        self,
        batch: Batch,
        transcript: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        room: int | None = None,
    ) -> FactOutput:
        """:meth:`forward` on checked features.

        Args:
            batch: what :meth:`check` returned.
            transcript: as in :meth:`forward`.
            generator: as in :meth:`forward`.
            room: predicted segments to compute with in every video; nothing waits for the device then (see
                :func:`fact.segments.segment_runs`). None: as many as there are.
        """
        frames = replace(self._frames(batch, generator), room=room)
        tokens, token_lengths, classes_BS = self._tokens(batch, transcript)
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
            token_lengths=token_lengths,
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
                batch.lengths_B,
                max_steps=spans.max_steps,
                max_fraction=spans.max_fraction,
                spans=spans.spans,
                generator=generator,
            )
        position = None
        if model.step_position:
            width = self.config.input_block.hidden_dim
            position = sinusoid(x_BTD.shape[1], width, device=x_BTD.device, dtype=x_BTD.dtype)[None]
        return Sequence(features=x_BTD, position=position, valid=batch.valid_BT)

    def _tokens(
        self, batch: Batch, transcript: Tensor | None
    ) -> tuple[Sequence, tuple[int, ...], Tensor | None]:
        """The tokens before the first block, their number in each video, their classes in transcript mode."""
        if self.config.model.transcript:
            checked = check_transcript(
                transcript, batch_size=len(batch.lengths), num_classes=self.num_classes
            )
            return self._transcript_tokens(checked), checked.lengths, checked.classes_BS
        query_1MA = self.action_query.squeeze(1)[None]
        start_BMA = torch.zeros_like(query_1MA).expand(len(batch.lengths), -1, -1)
        lengths = (query_1MA.shape[1],) * len(batch.lengths)
        return Sequence(features=start_BMA, position=query_1MA, valid=None), lengths, None

    def _transcript_tokens(self, transcript: Transcript) -> Sequence:
        embedded_BSA = self._embed(transcript.classes_BS)
        _, num_positions, width = embedded_BSA.shape
        order_SA = sinusoid(num_positions, width, device=embedded_BSA.device, dtype=embedded_BSA.dtype)
        return Sequence(features=embedded_BSA + order_SA, position=None, valid=transcript.valid_BS)

    @torch.no_grad()
    def predict(
        self, features: Tensor, valid: Tensor | None = None, transcript: Tensor | None = None
    ) -> Prediction:
        """Label every step of one video or a padded batch; arguments as in :meth:`forward`."""
        output = self(features, valid, transcript)
        return predict(output, frame_weight=self.config.model.frame_weight)


def _mask_of(sequence: Sequence) -> Tensor:
    if sequence.valid is not None:
        return sequence.valid
    return torch.ones(sequence.features.shape[:2], dtype=torch.bool, device=sequence.features.device)


class FACT_CLIP(FACT):  # noqa: N801 - the name users know
    """FACT whose steps are also aligned to text embeddings of the classes (FACT.md section 8).

    Where ``CLIP.token_contrastive_weight`` is above 0, so are the tokens that stand for a segment.

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
        self.token_projection = None
        if clip.token_weight:
            # The last channels of tokens carry the classes and null: one more than those of steps, so they have a
            # projection of their own. Published checkpoints have none.
            self.token_projection = FeatureProjection(
                self.config.input_block.hidden_dim - n_classes - 1,
                text_embeddings.shape[1],
                hidden_dim=clip.projection_dim,
                dropout=clip.projection_dropout,
            )
        rows_CW = text_embeddings.detach().to(torch.get_default_dtype())
        self.register_buffer("text_embeddings", nn.functional.normalize(rows_CW, dim=-1))

    def compute(
        self,
        batch: Batch,
        transcript: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        room: int | None = None,
    ) -> FactOutput:
        """As :meth:`FACT.compute`, with ``projected`` and ``text_embeddings`` set.

        ``projected_tokens`` is set too, where their contrastive loss has a weight.
        """
        output = super().compute(batch, transcript, generator=generator, room=room)
        # Class probabilities ride in the last channels; the projection must not see them.
        projected = self.frame_projection(output.final.frame_features[..., : -self.num_classes])
        tokens = None
        if self.token_projection is not None:
            tokens = self.token_projection(output.final.token_features[..., : -self.num_classes - 1])
        return replace(
            output, projected=projected, projected_tokens=tokens, text_embeddings=self.text_embeddings
        )

    @torch.no_grad()
    def eval_with_clip(
        self,
        features: Tensor,
        transcript: Tensor | None = None,
        fusion: Fusion = "path",
        valid: Tensor | None = None,
        *,
        switch_cost: float | None = None,
    ) -> Prediction:
        """Label every step with the help of the texts, so that classes never seen in training can come out.

        Args:
            features: as in :meth:`forward`.
            transcript: as in :meth:`forward`.
            fusion: ``path``, ``segments`` or ``published``, see :func:`fact.predict.predict_with_texts`.
            valid: as in :meth:`forward`.
            switch_cost: price of a change of class under ``path``, in nats; None: that of the configuration.
        """
        return predict_with_texts(
            self(features, valid, transcript),
            frame_weight=self.config.model.frame_weight,
            temperature=self.config.clip.temperature,
            unseen_classes=self.config.unseen_classes,
            fusion=fusion,
            switch_cost=self.config.clip.switch_cost if switch_cost is None else switch_cost,
            unseen_bias=self.config.clip.unseen_bias,
        )

    @torch.no_grad()
    def predict_texts(
        self,
        features: Tensor,
        text_embeddings: Tensor,
        valid: Tensor | None = None,
        *,
        switch_cost: float | None = None,
    ) -> Prediction:
        """Label every step with whichever of some texts fits best, trained with or not.

        Texts that are none of a class trained with are favoured by ``CLIP.unseen_bias``.

        Args:
            features: as in :meth:`forward`.
            text_embeddings: (L, W), of the encoder the model was trained with; labels are its rows.
            valid: as in :meth:`forward`.
            switch_cost: price of a change of text between two steps, in nats; None: that of the configuration.
        """
        return predict_texts(
            self(features, valid),
            text_embeddings,
            temperature=self.config.clip.temperature,
            switch_cost=self.config.clip.switch_cost if switch_cost is None else switch_cost,
            unseen_classes=self.config.unseen_classes,
            unseen_bias=self.config.clip.unseen_bias,
        )
