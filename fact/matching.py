"""Which token stands for which ground-truth segment (FACT.md section 5): a cost and an assignment.

Axes: B batch, T steps, M tokens, S ground-truth segments, C classes, P (token, segment) pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fact.errors import MatchError
from fact.segments import soft_overlap
from fact.target import SegmentTarget

Rule = Literal["o2o", "o2m", "seq"]

# Equal costs do occur: two segments of one class and length cost the same while a block predicts one segment
# for the whole video. As whole multiples of this, float64 adds and subtracts costs exactly, so neither rounding
# noise nor the processor decides between equals, and no video depends on another; a coarser step would overrule
# differences by which the published float32 costs do decide.
COST_STEP = 1e-12

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The token of every segment; no token stands for segments of two classes."""

    token_of_segment: Tensor
    """(B, S) int64; -1 where a segment has no token or there is no segment."""
    segments_of_token: Tensor
    """(B, M) int64: number of segments a token stands for."""
    class_of_token: Tensor
    """(B, M) int64: class of a token's segments; C, the null class, where it has none."""

    def pairs(self, video: int = 0) -> set[tuple[int, int]]:
        """(token, segment) pairs of one video of the batch."""
        tokens = self.token_of_segment[video].tolist()
        return {(token, segment) for segment, token in enumerate(tokens) if token >= 0}


@torch.no_grad()
def token_costs(
    token_log_probs_BMC: Tensor,
    attention_BTM: Tensor,
    target: SegmentTarget,
    *,
    class_weight: float,
    overlap_weight: float,
) -> Tensor:
    """Price of giving each token each segment, shape (B, M, S); lower is better."""
    classes_BMS = target.classes[:, None].expand(-1, token_log_probs_BMC.shape[1], -1)
    class_probs_BMS = token_log_probs_BMC.exp().gather(2, classes_BMS)
    overlap_BMS = soft_overlap(attention_BTM, target.segmentation, target.valid)
    return -class_weight * class_probs_BMS - overlap_weight * overlap_BMS


def assign_one_to_one(cost_MS: NDArray[np.floating]) -> Pairs:
    """The cheapest pairs, each token and each segment at most once; min(M, S) of them."""
    tokens, segments = linear_sum_assignment(cost_MS)
    return tokens, segments


def assign_one_to_many(cost_MS: NDArray[np.floating], classes_S: Sequence[int]) -> Pairs:
    """One token for each class present, the others to their cheapest; segments take the cheapest of a class.

    With fewer tokens than classes present, the classes without a token keep their segments unmatched.
    """
    present, class_of_segment = np.unique(np.asarray(classes_S), return_inverse=True)
    class_cost_MK = np.zeros((len(cost_MS), len(present)), dtype=cost_MS.dtype)
    np.add.at(class_cost_MK.T, class_of_segment, cost_MS.T)
    class_of_token_M = class_cost_MK.argmin(1)
    tokens, classes = linear_sum_assignment(class_cost_MK)
    class_of_token_M[tokens] = classes
    eligible_MS = class_of_token_M[:, None] == class_of_segment[None]
    segments = np.flatnonzero(eligible_MS.any(0))
    return np.where(eligible_MS, cost_MS, np.inf).argmin(0)[segments], segments


def assign_in_order(cost_MS: NDArray[np.floating]) -> Pairs:
    """The i-th token to the i-th segment.

    Raises:
        MatchError: there are more segments than tokens.
    """
    num_tokens, num_segments = cost_MS.shape
    if num_tokens < num_segments:
        raise MatchError(
            f"Matching in order ('seq') needs a token for each segment, found {num_tokens} tokens and "
            f"{num_segments} segments: give the transcript of the labels."
        )
    order = np.arange(num_segments)
    return order, order


def match_tokens(
    cost_BMS: Tensor, target: SegmentTarget, *, rule: Rule, num_tokens: Sequence[int], null_class: int
) -> Match:
    """Assign every video's tokens; the costs of the batch are copied to the CPU once.

    Args:
        cost_BMS: as :func:`token_costs` returns them.
        target: the segments.
        rule: ``o2o``, ``o2m`` or ``seq``.
        num_tokens: valid tokens of each video.
        null_class: class of a token without a segment, C.

    Raises:
        MatchError: a cost is not finite, or ``seq`` lacks tokens.
    """
    # numpy knows no bfloat16; float64 holds every other type exactly.
    costs = cost_BMS.detach().double().cpu().numpy()
    token_of_segment = assign_tokens(costs, target.transcripts, rule=rule, num_tokens=num_tokens)
    tokens_BS = torch.from_numpy(token_of_segment).to(cost_BMS.device, non_blocking=True)
    return describe_match(tokens_BS, target.classes, num_tokens=cost_BMS.shape[1], null_class=null_class)


def assign_tokens(
    costs: NDArray[np.float64],
    transcripts: Sequence[Sequence[int]],
    *,
    rule: Rule,
    num_tokens: Sequence[int],
) -> NDArray[np.int64]:
    """The token of every segment on the host, (B, S), -1 where there is none; as :func:`match_tokens`."""
    costs = np.rint(costs / COST_STEP)
    token_of_segment = np.full((len(costs), costs.shape[2]), -1, dtype=np.int64)
    for video, classes in enumerate(transcripts):
        cost_MS = costs[video, : num_tokens[video], : len(classes)]
        if not np.isfinite(cost_MS).all():
            raise MatchError(
                f"Matching costs of video {video} of the batch are not finite: the model's weights or outputs"
                " are not. Lower the learning rate or go back to an earlier checkpoint."
            )
        tokens, segments = _assign(cost_MS, classes, rule=rule)
        token_of_segment[video, segments] = tokens
    return token_of_segment


def _assign(cost_MS: NDArray[np.floating], classes_S: Sequence[int], *, rule: Rule) -> Pairs:
    if rule == "o2o":
        return assign_one_to_one(cost_MS)
    if rule == "o2m":
        return assign_one_to_many(cost_MS, classes_S)
    return assign_in_order(cost_MS)


def describe_match(tokens_BS: Tensor, classes_BS: Tensor, *, num_tokens: int, null_class: int) -> Match:
    """The match in which these tokens, -1 for none, stand for segments of these classes."""
    matched_BS = tokens_BS >= 0
    # Unmatched segments write into one token more, which is cut off again.
    slot_BS = tokens_BS.masked_fill(~matched_BS, num_tokens)
    empty_BM = tokens_BS.new_zeros(len(tokens_BS), num_tokens + 1)
    counts_BM = empty_BM.scatter_add(1, slot_BS, matched_BS.long())
    class_BM = (empty_BM + null_class).scatter(1, slot_BS, classes_BS)
    return Match(
        token_of_segment=tokens_BS,
        segments_of_token=counts_BM[:, :num_tokens],
        class_of_token=class_BM[:, :num_tokens],
    )
