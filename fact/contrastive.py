"""Alignment of embeddings to the texts of their classes (FACT.md section 8).

Axes: B batch, X embeddings (steps, or matched segments), C classes, W width of the texts.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fact.matching import Match
from fact.target import SegmentTarget


def infonce_contrastive_loss(
    embeddings: Tensor,
    text_embeddings: Tensor,
    labels: Tensor,
    valid: Tensor | None = None,
    *,
    temperature: float = 0.07,
    unseen_classes: Sequence[int] = (),
) -> Tensor:
    """Symmetric InfoNCE between embeddings and the texts of the seen classes, one value per video, (B,).

    Embeddings to texts: mean cross entropy over the texts of seen classes. Texts to embeddings: log-softmax
    over the video's embeddings of seen classes, the mean over each class's embeddings, the sum over classes
    divided by the number of seen classes. A video without an embedding of a seen class: 0.

    Args:
        embeddings: (B, X, W) unit rows.
        text_embeddings: (C, W) unit rows.
        labels: (B, X) class of each embedding; anything where not valid.
        valid: (B, X) bool; None: all are.
        temperature: similarities are divided by it.
        unseen_classes: classes whose texts and embeddings are left out.
    """
    num_classes = len(text_embeddings)
    seen_C = torch.ones(num_classes, dtype=torch.bool, device=labels.device)
    for unseen in unseen_classes:
        # Filled on the device: a list of indices, or a value to assign, would be copied there.
        seen_C[unseen].fill_(value=False)
    num_seen = num_classes - len(set(unseen_classes))
    labels_BX = labels if valid is None else labels.masked_fill(~valid, 0)
    used_BX = seen_C[labels_BX] if valid is None else seen_C[labels_BX] & valid
    logits_BXC = embeddings @ text_embeddings.T / temperature
    to_text_BXC = logits_BXC.masked_fill(~seen_C, -math.inf).log_softmax(-1)
    # A video without any used embedding would have columns of -inf alone: keep them, they weigh nothing.
    hidden_BX = ~used_BX & used_BX.any(1, keepdim=True)
    to_step_BXC = logits_BXC.masked_fill(hidden_BX[..., None], -math.inf).log_softmax(1)
    per_class_BC = torch.zeros_like(logits_BXC[:, 0])
    per_class_BC = per_class_BC.scatter_add(1, labels_BX, used_BX.to(per_class_BC.dtype))
    text_weight_BX = used_BX / used_BX.sum(1, keepdim=True).clamp(min=1)
    step_weight_BX = used_BX / per_class_BC.gather(1, labels_BX).clamp(min=1) / max(num_seen, 1)
    to_text_B = _weighted_nll(to_text_BXC, labels_BX, text_weight_BX)
    to_step_B = _weighted_nll(to_step_BXC, labels_BX, step_weight_BX)
    return (to_text_B + to_step_B) / 2


def _weighted_nll(log_probs_BXC: Tensor, labels_BX: Tensor, weights_BX: Tensor) -> Tensor:
    own_BX = log_probs_BXC.gather(2, labels_BX[..., None])[..., 0]
    return -(own_BX.masked_fill(weights_BX == 0, 0) * weights_BX).sum(1)


def token_contrastive_loss(
    token_embeddings: Tensor,
    text_embeddings: Tensor,
    target: SegmentTarget,
    match: Match,
    *,
    temperature: float = 0.07,
    unseen_classes: Sequence[int] = (),
) -> Tensor:
    """InfoNCE of each matched token, once for each of its segments, against the texts of these, (B,).

    Args:
        token_embeddings: (B, M, W) unit rows.
        text_embeddings: (C, W) unit rows.
        target: the segments.
        match: the token of each segment.
        temperature: as in :func:`infonce_contrastive_loss`.
        unseen_classes: as in :func:`infonce_contrastive_loss`.
    """
    matched_BS = match.token_of_segment >= 0
    rows_BS1 = match.token_of_segment.clamp(min=0)[..., None]
    per_segment_BSW = token_embeddings.gather(1, rows_BS1.expand(-1, -1, token_embeddings.shape[-1]))
    return infonce_contrastive_loss(
        per_segment_BSW,
        text_embeddings,
        target.classes,
        matched_BS,
        temperature=temperature,
        unseen_classes=unseen_classes,
    )
