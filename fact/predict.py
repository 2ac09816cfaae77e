"""From a model's output to a label for every step (FACT.md sections 7 and 8).

Axes: B batch, T steps, M tokens, S transcript positions, C classes, U unseen classes, N segments.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fact._settings import SWITCH_COST
from fact.errors import ConfigError, FeatureError
from fact.outputs import BlockOutput, FactOutput
from fact.paths import best_path
from fact.segments import copy_to_steps, mean_by_segment, segment_runs

Fusion = Literal["path", "segments", "published"]

PADDING = -1
"""Label of a padded step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedSegment:
    """A run of equal labels in one video."""

    start: int
    """First step."""
    stop: int
    """One past the last step."""
    label: int
    """Class id."""
    confidence: float
    """Mean confidence of its steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Labels of a batch."""

    labels: Tensor
    """(B, T) int64; -1 on padded steps."""
    confidence: Tensor
    """(B, T) score of the label; 0 on padded steps."""
    scores: Tensor
    """(B, T, C) merged probabilities, or those of whole segments by the texts under fusion ``path``; in transcript mode
    the best score among a class's positions."""
    lengths: tuple[int, ...]
    """Steps of each video."""
    position_scores: Tensor | None = None
    """(B, T, S) in transcript mode: scores of its positions, whose argmax was taken; -inf on padding."""

    def segments(self, video: int = 0) -> list[PredictedSegment]:
        """Runs of equal labels of one video of the batch."""
        length = self.lengths[video]
        labels_1T = self.labels[video : video + 1, :length]
        runs = segment_runs(labels_1T)
        means = mean_by_segment(self.confidence[video : video + 1, :length, None], runs)[0, :, 0].tolist()
        starts = runs.first[0].tolist()
        stops = [*starts[1:], length]
        labels = labels_1T[0, starts].tolist()
        return [
            PredictedSegment(start=start, stop=stop, label=label, confidence=mean)
            for start, stop, label, mean in zip(starts, stops, labels, means, strict=True)
        ]


def predict(output: FactOutput, *, frame_weight: float) -> Prediction:
    """The published rule: each step's own probabilities merged with those of the token it attends to most."""
    return _decide(output, output.final.frame_log_probs.exp(), frame_weight=frame_weight)


def _decide(output: FactOutput, frame_probs_BTC: Tensor, *, frame_weight: float) -> Prediction:
    if output.transcript is None:
        scores_BTC = _merge_tokens(output.final, frame_probs_BTC, frame_weight=frame_weight)
        return _pick_best(output, scores_BTC)
    return _decide_position(output, frame_probs_BTC, frame_weight=frame_weight)


def _pick_best(output: FactOutput, scores_BTC: Tensor) -> Prediction:
    confidence_BT, labels_BT = scores_BTC.max(-1)
    return Prediction(
        labels=labels_BT.masked_fill(~output.valid, PADDING),
        confidence=confidence_BT.masked_fill(~output.valid, 0),
        scores=scores_BTC,
        lengths=output.lengths,
    )


def _attention(block: BlockOutput) -> Tensor:
    if block.attention is None:
        raise FeatureError(
            "The last block has no attention between steps and tokens: end FACT.block with u or U."
        )
    return block.attention


def _merge_tokens(block: BlockOutput, frame_probs_BTC: Tensor, *, frame_weight: float) -> Tensor:
    """Merged probabilities, (B, T, C); the frame branch alone in a video whose tokens are all null."""
    null = block.token_log_probs.shape[-1] - 1
    is_null_BM = block.token_log_probs.argmax(-1) == null
    best_BT = _attention(block).masked_fill(is_null_BM[:, None], -1).argmax(-1)
    token_probs_BMC = block.token_log_probs[..., :null].softmax(-1)
    index_BTC = best_BT[..., None].expand(-1, -1, null)
    token_probs_BTC = token_probs_BMC.gather(1, index_BTC)
    merged_BTC = frame_weight * frame_probs_BTC + (1 - frame_weight) * token_probs_BTC
    return torch.where(is_null_BM.all(1)[:, None, None], frame_probs_BTC, merged_BTC)


def _decide_position(output: FactOutput, frame_probs_BTC: Tensor, *, frame_weight: float) -> Prediction:
    """Transcript mode: choose the position, output its class. The attention goes through a second softmax."""
    if output.transcript is None:
        raise FeatureError("Positions can be decided in transcript mode only.")
    absent_B1S = ~output.token_valid[:, None]
    second_BTS = _attention(output.final).masked_fill(absent_B1S, -math.inf).softmax(-1)
    classes_BTS = output.transcript[:, None].expand(-1, frame_probs_BTC.shape[1], -1)
    own_BTS = frame_probs_BTC.gather(2, classes_BTS)
    scores_BTS = frame_weight * own_BTS + (1 - frame_weight) * second_BTS
    scores_BTS = scores_BTS.masked_fill(absent_B1S, -math.inf)
    confidence_BT, position_BT = scores_BTS.max(-1)
    labels_BT = output.transcript.gather(1, position_BT)
    scores_BTC = torch.zeros_like(frame_probs_BTC).scatter_reduce(
        2, classes_BTS, scores_BTS.clamp(min=0), reduce="amax"
    )
    return Prediction(
        labels=labels_BT.masked_fill(~output.valid, PADDING),
        confidence=confidence_BT.masked_fill(~output.valid, 0),
        scores=scores_BTC,
        lengths=output.lengths,
        position_scores=scores_BTS,
    )


def _follow_path(output: FactOutput, logits_BTC: Tensor, *, switch_cost: float) -> Prediction:
    labels_BT = best_path(logits_BTC.log_softmax(-1), output.valid, switch_cost=switch_cost)
    runs = segment_runs(labels_BT, output.valid)
    probs_BTC = copy_to_steps(mean_by_segment(logits_BTC, runs, output.valid).softmax(-1), runs)
    confidence_BT = probs_BTC.gather(2, labels_BT[..., None])[..., 0]
    return Prediction(
        labels=labels_BT.masked_fill(~output.valid, PADDING),
        confidence=confidence_BT.masked_fill(~output.valid, 0),
        scores=probs_BTC,
        lengths=output.lengths,
    )


_SAME_TEXT = 1 - 1e-4
"""Cosine from which on two embeddings are of one text; encoders round."""


def predict_texts(
    output: FactOutput,
    text_embeddings: Tensor,
    *,
    temperature: float,
    switch_cost: float = SWITCH_COST,
    unseen_classes: Sequence[int] = (),
    unseen_bias: float = 0.0,
) -> Prediction:
    """Labels among any texts, whether the model was trained with them or not, by fusion ``path``.

    Args:
        output: what a FACT_CLIP gave.
        text_embeddings: (L, W) one row per text, of the encoder the model was trained with; scaled to unit length.
        temperature: similarities are divided by it.
        switch_cost: price of a change of text between two steps, in nats.
        unseen_classes: classes whose own texts the model was not trained with.
        unseen_bias: nats by which texts are favoured that are none of a class trained with.

    Raises:
        ConfigError: the output has no projection, or the texts are not finite rows of its width.
    """
    if output.projected is None or output.text_embeddings is None:
        raise ConfigError("This output has no projection into the space of texts: it takes FACT_CLIP.")
    width = output.projected.shape[-1]
    if text_embeddings.dim() != 2 or text_embeddings.shape[1] != width or len(text_embeddings) == 0:
        raise ConfigError(
            f"Text embeddings must be rows of width {width}, found shape {tuple(text_embeddings.shape)}. "
            "Encode the texts with the encoder the model was trained with."
        )
    rows_LW = torch.nn.functional.normalize(text_embeddings.to(output.projected), dim=-1)
    trained = [index for index in range(len(output.text_embeddings)) if index not in set(unseen_classes)]
    unseen_L = ~(rows_LW @ output.text_embeddings[trained].T > _SAME_TEXT).any(-1)
    logits_BTL = output.projected @ rows_LW.T / temperature + unseen_bias * unseen_L
    return _follow_path(output, logits_BTL, switch_cost=switch_cost)


def predict_with_texts(
    output: FactOutput,
    *,
    frame_weight: float,
    temperature: float,
    unseen_classes: Sequence[int],
    fusion: Fusion,
    switch_cost: float = SWITCH_COST,
    unseen_bias: float = 0.0,
) -> Prediction:
    """Labels with the help of the texts.

    ``published``: :func:`predict` with the steps' probabilities replaced by softmax(similarity /
    temperature). As the tokens know only the classes of training and usually weigh 0.9, it can hardly output
    an unseen class.

    ``path``: every step has a log-probability of every class by its similarity to the texts, and every change of
    class a price; the labels are the path of the largest sum (:func:`fact.paths.best_path`). So a class is found by
    the evidence of whole segments, seen or unseen alike. The confidence is the probability that the texts give the
    label over its whole segment. With no unseen class, or a transcript, it is :func:`predict`. Steps were never drawn
    to the text of an unseen class, so seen ones are favoured; ``unseen_bias``, in nats, evens that out (calibrated
    stacking: Chao et al., "An Empirical Study and Analysis of Generalized Zero-Shot Learning", ECCV 2016).

    ``segments``: the video is cut where the label of :func:`predict` changes; the texts give each whole
    segment a distribution over all classes (softmax of its mean similarity / temperature), whose mass on
    unseen classes is the probability that the segment is of such a class. It stays where the texts put it;
    the rest is shared among the seen classes as :func:`predict` shares it. With no unseen class, or a
    transcript, it is :func:`predict`.

    Raises:
        ConfigError: the output has no text similarities, or the fusion is unknown.
    """
    if output.projected is None or output.text_embeddings is None:
        raise ConfigError("This output has no projection into the space of texts: it takes FACT_CLIP.")
    if fusion not in get_args(Fusion):
        raise ConfigError(f"fusion must be one of {', '.join(get_args(Fusion))}, found {fusion!r}.")
    logits_BTC = output.projected @ output.text_embeddings.T / temperature
    if fusion == "published":
        return _decide(output, logits_BTC.softmax(-1), frame_weight=frame_weight)
    closed = predict(output, frame_weight=frame_weight)
    if output.transcript is not None or not unseen_classes:
        return closed
    unseen_C = torch.zeros(logits_BTC.shape[-1], dtype=torch.bool, device=logits_BTC.device)
    unseen_C[list(unseen_classes)] = True
    if fusion == "path":
        return _follow_path(output, logits_BTC + unseen_bias * unseen_C, switch_cost=switch_cost)
    runs = segment_runs(closed.labels, output.valid)
    text_probs_BNC = mean_by_segment(logits_BTC, runs, output.valid).softmax(-1)
    text_probs_BTC = copy_to_steps(text_probs_BNC, runs)
    seen_BTC = closed.scores.masked_fill(unseen_C, 0)
    seen_BTC = seen_BTC / seen_BTC.sum(-1, keepdim=True).clamp(min=torch.finfo(seen_BTC.dtype).tiny)
    seen_mass_BT1 = text_probs_BTC.masked_fill(unseen_C, 0).sum(-1, keepdim=True)
    return _pick_best(output, torch.where(unseen_C, text_probs_BTC, seen_mass_BT1 * seen_BTC))
