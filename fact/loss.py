"""The criterion: a function of an output and a target that returns named terms (FACT.md sections 5, 6 and 8).

Axes: B batch, T steps, M tokens, S ground-truth segments, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fact import terms
from fact.config import Config, parse_config
from fact.contrastive import infonce_contrastive_loss, token_contrastive_loss
from fact.errors import ConfigError, FeatureError, TargetError
from fact.matching import Match, match_tokens, token_costs
from fact.outputs import BlockOutput, FactOutput
from fact.target import SegmentTarget

__all__ = [
    "BlockLosses",
    "Losses",
    "Match",
    "MatchCriterion",
    "SegmentTarget",
    "infonce_contrastive_loss",
    "null_class_weight",
    "token_contrastive_loss",
]


def null_class_weight(*, num_tokens: int, mean_segments: float, num_classes: int) -> float:
    """Weight that gives the null class the mass of one ordinary class: M / ((M - mean segments) * C).

    Raises:
        ConfigError: the tokens are not more than the mean number of segments.

    >>> null_class_weight(num_tokens=60, mean_segments=30, num_classes=10)
    0.2
    """
    idle_tokens = num_tokens - mean_segments
    if idle_tokens <= 0:
        raise ConfigError(
            f"{num_tokens} tokens leave none idle where a training video has {mean_segments} segments on "
            "average, so no weight of the null class can be derived: give more tokens (FACT.ntoken) or a "
            "weight (Loss.nullw)."
        )
    return num_tokens / (idle_tokens * num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockLosses:
    """Terms of one block, each (B,), one value per video; None where the block has no such term."""

    frame: Tensor
    """Cross entropy of steps."""
    token: Tensor
    """Cross entropy of tokens."""
    smooth: Tensor
    """Sum of the smoothing terms, before their weight."""
    total: Tensor
    """The block's loss."""
    segment: Tensor | None = None
    """Cross entropy of predicted segments."""
    frame_to_token: Tensor | None = None
    """Cross entropy of the tokens' attention over steps."""
    token_to_frame: Tensor | None = None
    """Cross entropy of the steps' attention over matched tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """Everything the criterion computed for one batch."""

    blocks: tuple[BlockLosses, ...]
    """One per block, in order."""
    per_video: Tensor
    """(B,) loss of each video, as it enters ``total``."""
    fact: Tensor
    """Scalar: FACT's loss, the mean over videos of the mean over blocks."""
    contrastive: Tensor | None
    """Scalar: InfoNCE of steps, the mean over videos (FACT_CLIP)."""
    token_contrastive: Tensor | None
    """Scalar: InfoNCE of matched tokens, the mean over videos; None where it has no weight."""
    total: Tensor
    """Scalar to call ``backward`` on."""
    match: Match
    """Which token stood for which segment."""

    def named(self) -> dict[str, Tensor]:
        """Detached scalars by name for a log: totals, and each block's terms as ``block0.frame``."""
        scalars = {"total": self.total, "fact": self.fact}
        for name in ("contrastive", "token_contrastive"):
            value = getattr(self, name)
            if value is not None:
                scalars[name] = value
        for index, block in enumerate(self.blocks):
            values = {name: getattr(block, name) for name in BlockLosses.__dataclass_fields__}
            scalars |= {
                f"block{index}.{name}": term.mean() for name, term in values.items() if term is not None
            }
        return {name: value.detach() for name, value in scalars.items()}


class MatchCriterion(nn.Module):
    """Matches tokens to segments once, by the last block, and scores every block by that match.

    Args:
        cfg: a :class:`fact.config.Config`, or a nested mapping or object with the published keys.
        n_classes: number of classes, C.
        bg_class: ids of background classes, weighted by ``Loss.bgw``; None: those of the configuration.
        class_weight: C weights in place of 1 and ``Loss.bgw``; the null class keeps its own.
        mean_segments: mean number of segments of a training video, needed where ``Loss.nullw`` is -1; None:
            the configuration's ``average_transcript_len``.
        holdout_classes: classes left out of the contrastive loss; None: those of the configuration.

    Raises:
        ConfigError: a class id or a weight does not fit, or the null weight cannot be derived.
    """

    class_weight: Tensor
    """(C + 1,), the last of the null class."""

    def __init__(
        self,
        cfg: object,
        n_classes: int = 75,
        bg_class: Sequence[int] | None = None,
        class_weight: Sequence[float] | Tensor | None = None,
        *,
        mean_segments: float | None = None,
        holdout_classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        config = parse_config(cfg)
        self.config = config
        self.num_classes = n_classes
        background = config.data.background_classes if bg_class is None else tuple(bg_class)
        unseen = config.unseen_classes if holdout_classes is None else tuple(holdout_classes)
        self.unseen_classes = _check_ids(unseen, n_classes=n_classes, what="Held-out")
        weights = _class_weights(
            _check_ids(background, n_classes=n_classes, what="Background"),
            class_weight,
            n_classes=n_classes,
            background_weight=config.loss.background_weight,
        )
        null = _null_weight(config, n_classes=n_classes, mean_segments=mean_segments)
        weights_C = torch.cat([weights, weights.new_tensor([null])])
        self.register_buffer("class_weight", weights_C, persistent=False)

    def costs(self, output: FactOutput, target: SegmentTarget) -> Tensor:
        """Price of giving each token of the last block each segment, (B, M, S), without gradient."""
        block = output.final
        if block.attention is None:
            raise FeatureError(
                "The last block has no attention between steps and tokens: end FACT.block with u or U."
            )
        return token_costs(
            block.token_log_probs,
            block.attention,
            target,
            class_weight=self.config.loss.class_cost,
            overlap_weight=self.config.loss.overlap_cost,
        )

    def match(self, output: FactOutput, target: SegmentTarget) -> Match:
        """Tokens of the last block given to segments, without gradient."""
        return match_tokens(
            self.costs(output, target),
            target,
            rule=self.config.loss.match,
            num_tokens=output.token_lengths,
            null_class=self.num_classes,
        )

    def forward(self, output: FactOutput, target: SegmentTarget) -> Losses:
        """All terms of one batch.

        Raises:
            TargetError: the target's videos have other lengths than the output's.
            MatchError: the outputs are not finite, or matching in order lacks tokens.
        """
        lengths, padded = output.lengths, output.valid.shape[1]
        if lengths != target.lengths or padded != target.valid.shape[1]:
            raise TargetError(
                f"The output has videos of {list(lengths)} steps padded to {padded}, the target of "
                f"{list(target.lengths)} padded to {target.valid.shape[1]}: cut or resample the labels first."
            )
        return self.score(output, target, self.match(output, target))

    def score(self, output: FactOutput, target: SegmentTarget, match: Match) -> Losses:
        """All terms of one batch under a given match."""
        blocks = tuple(self.block_losses(block, output, target, match) for block in output.blocks)
        fact_B = torch.stack([block.total for block in blocks]).mean(0)
        clip_B = self._contrastive(output, target)
        token_clip_B = self._token_contrastive(output, target, match)
        total_B, weights = fact_B, self.config.clip
        if clip_B is not None:
            total_B = weights.fact_weight * fact_B + weights.contrastive_weight * clip_B
        if token_clip_B is not None:
            total_B = total_B + weights.token_weight * token_clip_B
        return Losses(
            blocks=blocks,
            per_video=total_B,
            fact=fact_B.mean(),
            contrastive=None if clip_B is None else clip_B.mean(),
            token_contrastive=None if token_clip_B is None else token_clip_B.mean(),
            total=total_B.mean(),
            match=match,
        )

    def _contrastive(self, output: FactOutput, target: SegmentTarget) -> Tensor | None:
        if output.projected is None or output.text_embeddings is None:
            return None
        return infonce_contrastive_loss(
            output.projected,
            output.text_embeddings,
            target.labels,
            target.valid,
            temperature=self.config.clip.temperature,
            unseen_classes=self.unseen_classes,
        )

    def _token_contrastive(self, output: FactOutput, target: SegmentTarget, match: Match) -> Tensor | None:
        if output.projected_tokens is None or output.text_embeddings is None:
            return None
        return token_contrastive_loss(
            output.projected_tokens,
            output.text_embeddings,
            target,
            match,
            temperature=self.config.clip.temperature,
            unseen_classes=self.unseen_classes,
        )

    def block_losses(
        self, block: BlockOutput, output: FactOutput, target: SegmentTarget, match: Match
    ) -> BlockLosses:
        """Terms of one block under a given match."""
        frame_B = self.frame_loss(block, target)
        segment_B = self.segment_loss(block, target)
        token_B = self.action_token_loss(block, match, output.token_valid)
        labels_B = frame_B if segment_B is None else (frame_B + segment_B) / 2
        smooth_B = self.smooth_loss(block, target, output.token_valid)
        total_B = labels_B + token_B + self.config.loss.smooth_weight * smooth_B
        cross = self.cross_attn_loss(block, target, match)
        if cross is not None:
            total_B = total_B + cross[0] + cross[1]
        return BlockLosses(
            frame=frame_B,
            segment=segment_B,
            token=token_B,
            frame_to_token=None if cross is None else cross[0],
            token_to_frame=None if cross is None else cross[1],
            smooth=smooth_B,
            total=total_B,
        )

    def frame_loss(self, block: BlockOutput, target: SegmentTarget) -> Tensor:
        """Cross entropy of steps, (B,)."""
        return terms.label_loss(block.frame_log_probs, target, self.class_weight)

    def segment_loss(self, block: BlockOutput, target: SegmentTarget) -> Tensor | None:
        """Cross entropy of the block's predicted segments, (B,); None where it has none."""
        if block.segment_log_probs is None:
            return None
        return terms.label_loss(block.segment_log_probs, target, self.class_weight, block.segmentation)

    def action_token_loss(self, block: BlockOutput, match: Match, token_valid: Tensor) -> Tensor:
        """Cross entropy of tokens, (B,)."""
        return terms.token_loss(block.token_log_probs, match, self.class_weight, token_valid)

    def cross_attn_loss(
        self, block: BlockOutput, target: SegmentTarget, match: Match
    ) -> tuple[Tensor, Tensor] | None:
        """Frame-to-token and token-to-frame cross-attention terms, (B,) each; None in an input block."""
        if block.frame_to_token_logits is None or block.token_to_frame_logits is None:
            return None
        runs = block.segmentation
        return (
            terms.frame_to_token_loss(block.frame_to_token_logits, target, match, self.class_weight, runs),
            terms.token_to_frame_loss(block.token_to_frame_logits, target, match, self.class_weight, runs),
        )

    def smooth_loss(self, block: BlockOutput, target: SegmentTarget, token_valid: Tensor) -> Tensor:
        """Smoothing of the steps' classes, and in block ``u`` of both attentions over all tokens, (B,)."""
        smooth_B = terms.smooth_loss(block.frame_log_probs, target.valid)
        f2a, a2f = block.frame_to_token_logits, block.token_to_frame_logits
        if f2a is None or a2f is None or block.segmentation is not None:
            return smooth_B
        for logits_BTM in (f2a.transpose(1, 2), a2f):
            log_probs_BTM = terms.attention_log_probs(logits_BTM, token_valid)
            smooth_B = smooth_B + terms.smooth_loss(log_probs_BTM, target.valid, token_valid)
        return smooth_B


def _check_ids(ids: Sequence[int], *, n_classes: int, what: str) -> tuple[int, ...]:
    wrong = [class_id for class_id in ids if not 0 <= class_id < n_classes]
    if wrong:
        raise ConfigError(
            f"{what} class {wrong[0]} is not one of the {n_classes} classes 0 to {n_classes - 1}."
        )
    return tuple(ids)


def _class_weights(
    background: Sequence[int],
    given: Sequence[float] | Tensor | None,
    *,
    n_classes: int,
    background_weight: float,
) -> Tensor:
    if given is None:
        weights_C = torch.ones(n_classes)
        weights_C[list(background)] = background_weight
        return weights_C
    weights_C = torch.as_tensor(given, dtype=torch.get_default_dtype()).detach().flatten()
    if len(weights_C) != n_classes or not bool((weights_C >= 0).all()):
        raise ConfigError(
            f"class_weight must hold {n_classes} weights that are not negative, found {weights_C.tolist()}."
        )
    return weights_C


def _null_weight(config: Config, *, n_classes: int, mean_segments: float | None) -> float:
    if config.loss.null_weight is not None:
        return config.loss.null_weight
    if config.model.transcript:
        # Every token of a transcript stands for a segment, so the null class has no token to weigh.
        return 1.0
    mean = config.data.mean_segments if mean_segments is None else mean_segments
    if mean is None:
        raise ConfigError(
            "Loss.nullw is -1, to be derived: give mean_segments, the mean number of segments of a training "
            "video, or a weight."
        )
    return null_class_weight(num_tokens=config.model.num_tokens, mean_segments=mean, num_classes=n_classes)
