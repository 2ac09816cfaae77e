"""What a forward pass returns. Modules keep nothing of it.

Axes: B batch, T steps, M tokens, N predicted segments, S transcript positions, C classes, H width, W text
width.
"""

from dataclasses import dataclass

from torch import Tensor

from fact.segments import Segmentation


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockOutput:
    """Everything one block computed.

    Padded steps, tokens and segments hold finite numbers that mean nothing.
    """

    frame_features: Tensor
    """(B, T, H); the last channels carry the class probabilities (FACT.md section 3)."""
    frame_logits: Tensor
    """(B, T, C) class logits of steps; in the verb/noun variant (B, T, verbs + nouns)."""
    frame_log_probs: Tensor
    """(B, T, C)."""
    token_features: Tensor
    """(B, M, H)."""
    token_logits: Tensor
    """(B, M, C + 1), the last is the null class; in the verb/noun variant both heads with a null each."""
    token_log_probs: Tensor
    """(B, M, C + 1); the last is the null class."""
    segmentation: Segmentation | None = None
    """Runs of the incoming steps' classes, in blocks over segments."""
    segment_logits: Tensor | None = None
    """(B, N, C), in blocks over segments."""
    segment_log_probs: Tensor | None = None
    """(B, N, C), in blocks over segments."""
    frame_to_token_logits: Tensor | None = None
    """(B, M, T), or (B, M, N) in blocks over segments; None in input blocks."""
    token_to_frame_logits: Tensor | None = None
    """(B, T, M), or (B, N, M) in blocks over segments; None in input blocks."""
    attention: Tensor | None = None
    """(B, T, M) what each step takes of each token: a softmax over tokens, copied back to steps; zero on
    padded tokens. None in input blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FactOutput:
    """Everything a model computed for one batch."""

    blocks: tuple[BlockOutput, ...]
    """One per block, in order."""
    valid: Tensor
    """(B, T) bool, False on padded steps."""
    lengths: tuple[int, ...]
    """Steps of each video, on the host."""
    token_valid: Tensor
    """(B, M) bool, False on padded tokens (transcript mode)."""
    token_lengths: tuple[int, ...]
    """Tokens of each video, on the host."""
    transcript: Tensor | None
    """(B, S) int64 classes of the tokens in transcript mode, else None."""
    projected: Tensor | None = None
    """(B, T, W) unit rows in the space of the texts (FACT_CLIP)."""
    projected_tokens: Tensor | None = None
    """(B, M, W) unit rows in the space of the texts; None unless their contrastive loss is asked for."""
    text_embeddings: Tensor | None = None
    """(C, W) unit rows (FACT_CLIP)."""

    @property
    def final(self) -> BlockOutput:
        """The last block's output, which is matched and predicted from."""
        return self.blocks[-1]
