"""The terms of the loss as functions of tensors (FACT.md section 6); each returns one value per video, (B,).

Axes: B batch, T steps, R rows (steps, or predicted segments), M tokens, C classes.
"""

import math

import torch
from torch import Tensor

from fact.matching import Match
from fact.segments import Segmentation
from fact.target import SegmentTarget

MAX_SQUARED_STEP = 16.0
"""Ceiling of a squared difference of log-probabilities in the smoothing loss (MS-TCN, section 3.3)."""


def _picked(log_probs_BRC: Tensor, rows_BT: Tensor | None, columns_BT: Tensor) -> Tensor:
    """Entry (row of t, column of t) for every step t, shape (B, T); without rows, t is its own row."""
    if rows_BT is None:
        return log_probs_BRC.gather(2, columns_BT[..., None])[..., 0]
    width = log_probs_BRC.shape[-1]
    return log_probs_BRC.flatten(1).gather(1, rows_BT * width + columns_BT)


def _weighted_sum(log_probs_BT: Tensor, weights_BT: Tensor) -> Tensor:
    """-sum over steps of weight x log-probability; where the weight is 0 even -inf counts nothing."""
    return -(log_probs_BT.masked_fill(weights_BT == 0, 0) * weights_BT).sum(1)


def _row_shares(target: SegmentTarget, segmentation: Segmentation | None) -> tuple[Tensor | None, Tensor]:
    """Row of each step, and the share 1 / (steps in its row x rows of its video) with which it counts."""
    if segmentation is None:
        return None, target.valid / target.valid.sum(1, keepdim=True)
    length_BT = segmentation.length.gather(1, segmentation.index)
    rows_B1 = (segmentation.length > 0).sum(1, keepdim=True)
    return segmentation.index, target.valid / (length_BT.clamp(min=1) * rows_B1)


def label_loss(
    log_probs_BRC: Tensor,
    target: SegmentTarget,
    class_weight_C: Tensor,
    segmentation: Segmentation | None = None,
) -> Tensor:
    """Weighted cross entropy of steps, or of predicted segments with their steps' mean label distribution."""
    rows_BT, share_BT = _row_shares(target, segmentation)
    weights_BT = class_weight_C[target.labels] * share_BT
    return _weighted_sum(_picked(log_probs_BRC, rows_BT, target.labels), weights_BT)


def token_loss(log_probs_BMC: Tensor, match: Match, class_weight_C: Tensor, token_valid_BM: Tensor) -> Tensor:
    """Weighted mean cross entropy of all tokens; an unmatched token's class is null."""
    weights_BM = class_weight_C[match.class_of_token] * token_valid_BM
    total_B = weights_BM.sum(1).clamp(min=torch.finfo(weights_BM.dtype).tiny)
    return _weighted_sum(_picked(log_probs_BMC, None, match.class_of_token), weights_BM) / total_B


def mean_token_loss(
    log_probs_BMC: Tensor, match: Match, class_weight_C: Tensor, token_valid_BM: Tensor
) -> Tensor:
    """Plain mean over tokens of the weighted negative log-probability (verb/noun variant)."""
    weights_BM = class_weight_C[match.class_of_token] * token_valid_BM
    return _weighted_sum(_picked(log_probs_BMC, None, match.class_of_token), weights_BM) / token_valid_BM.sum(
        1
    )


def _matched_steps(
    target: SegmentTarget, match: Match, class_weight_C: Tensor, segmentation: Segmentation | None
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Row, matched token and weight of each step; the weight is 0 where the step's segment has no token."""
    rows_BT, share_BT = _row_shares(target, segmentation)
    token_BT = match.token_of_segment.gather(1, target.segmentation.index)
    weights_BT = class_weight_C[target.labels] * share_BT * (token_BT >= 0)
    return rows_BT, token_BT.clamp(min=0), weights_BT


def frame_to_token_loss(
    logits_BMR: Tensor,
    target: SegmentTarget,
    match: Match,
    class_weight_C: Tensor,
    segmentation: Segmentation | None = None,
) -> Tensor:
    """Where in time each matched token should look: cross entropy over steps, or predicted segments."""
    rows_BT, token_BT, weights_BT = _matched_steps(target, match, class_weight_C, segmentation)
    present_BR = target.valid if segmentation is None else segmentation.length > 0
    log_probs_BMR = logits_BMR.masked_fill(~present_BR[:, None], -math.inf).log_softmax(-1)
    return _weighted_sum(_picked(log_probs_BMR.transpose(1, 2), rows_BT, token_BT), weights_BT)


def token_to_frame_loss(
    logits_BRM: Tensor,
    target: SegmentTarget,
    match: Match,
    class_weight_C: Tensor,
    segmentation: Segmentation | None = None,
) -> Tensor:
    """Which matched token each step, or predicted segment, should look at.

    A token that stands for n segments has n equal columns in the softmax, which normalise as one with log(n)
    added to its logit; each of the n has its own share of that column.
    """
    rows_BT, token_BT, weights_BT = _matched_steps(target, match, class_weight_C, segmentation)
    columns_B1M = match.segments_of_token.to(logits_BRM.dtype).log()[:, None]
    log_probs_BRM = logits_BRM - (logits_BRM + columns_B1M).logsumexp(-1, keepdim=True)
    return _weighted_sum(_picked(log_probs_BRM, rows_BT, token_BT), weights_BT)


def smooth_loss(log_probs_BTC: Tensor, valid_BT: Tensor, channel_valid_BC: Tensor | None = None) -> Tensor:
    """Mean over neighbouring steps and channels of the squared change of log-probability, at most 16 each.

    One step has no neighbour: 0.
    """
    pairs_BT = valid_BT[:, 1:] & valid_BT[:, :-1]
    change_BTC = log_probs_BTC[:, 1:] - log_probs_BTC[:, :-1]
    squared_BTC = change_BTC.square().clamp(max=MAX_SQUARED_STEP).masked_fill(~pairs_BT[..., None], 0)
    num_channels_B: Tensor | int = log_probs_BTC.shape[-1]
    if channel_valid_BC is not None:
        squared_BTC = squared_BTC.masked_fill(~channel_valid_BC[:, None], 0)
        num_channels_B = channel_valid_BC.sum(1)
    return squared_BTC.sum((1, 2)) / (pairs_BT.sum(1).clamp(min=1) * num_channels_B)


def attention_log_probs(logits_BRM: Tensor, token_valid_BM: Tensor) -> Tensor:
    """Log-softmax over all tokens, padded tokens left out; 0 at these."""
    absent_B1M = ~token_valid_BM[:, None]
    return logits_BRM.masked_fill(absent_B1M, -math.inf).log_softmax(-1).masked_fill(absent_B1M, 0)
