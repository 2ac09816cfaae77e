"""The verb/noun variant of FACT for Epic-Kitchens: two heads, and classes that are pairs (FACT.md section 9).

Axes: B batch, S transcript positions, C classes, A token width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fact import blocks, terms
from fact.block_modules import InputBlockTDU
from fact.config import parse_config
from fact.errors import ConfigError
from fact.heads import VerbNounHead
from fact.loss import MatchCriterion
from fact.matching import Match
from fact.outputs import BlockOutput
from fact.predict import Prediction, predict
from fact.target import SegmentTarget

__all__ = ["FACT", "InputBlockTDU", "VerbNounCriterion"]


class FACT(blocks.FACT):
    """FACT with a softmax over verbs and one over nouns.

    Args:
        cfg: a :class:`fact.config.Config`, or a nested mapping or object with the published keys.
        input_dim: width of the features, D.
        verb_of_class: verb of each class.
        noun_of_class: noun of each class.
        n_verbs: number of verbs.
        n_nouns: number of nouns.

    Raises:
        ConfigError: the settings are malformed, a pair does not fit, or the width leaves no room for heads.
    """

    def __init__(
        self,
        cfg: object,
        input_dim: int = 2048,
        *,
        verb_of_class: Sequence[int],
        noun_of_class: Sequence[int],
        n_verbs: int = 98,
        n_nouns: int = 301,
    ) -> None:
        nn.Module.__init__(self)
        config = parse_config(cfg)
        head = VerbNounHead(
            verb_of_class,
            noun_of_class,
            num_verbs=n_verbs,
            num_nouns=n_nouns,
            hidden_dim=config.input_block.hidden_dim,
        )
        self.head = head
        self._build(config, input_dim, head)

    def _build_embedding(self, width: int) -> None:
        if width % 2:
            raise ConfigError(
                f"Bi.a_dim must be even, half for the verb and half for the noun, found {width}."
            )
        self.verb_embed = nn.Embedding(self.head.num_verbs, width // 2)
        self.noun_embed = nn.Embedding(self.head.num_nouns, width // 2)

    def _embed(self, classes_BS: Tensor) -> Tensor:
        verbs_C, nouns_C = self.head.pairs(classes_BS.device, with_null=False)
        return torch.cat([self.verb_embed(verbs_C[classes_BS]), self.noun_embed(nouns_C[classes_BS])], dim=-1)

    @torch.no_grad()
    def predict(
        self, features: Tensor, valid: Tensor | None = None, transcript: Tensor | None = None
    ) -> Prediction:
        """As :meth:`fact.blocks.FACT.predict`; in transcript mode the attention alone decides."""
        output = self(features, valid, transcript)
        in_order = output.transcript is not None
        return predict(output, frame_weight=0.0 if in_order else self.config.model.frame_weight)


class VerbNounCriterion(MatchCriterion):
    """The criterion of this variant: class terms are halved, tokens count alike in their mean."""

    def frame_loss(self, block: BlockOutput, target: SegmentTarget) -> Tensor:
        """Half the cross entropy of steps, (B,)."""
        return super().frame_loss(block, target) / 2

    def segment_loss(self, block: BlockOutput, target: SegmentTarget) -> Tensor | None:
        """Half the cross entropy of the block's predicted segments, (B,); None where it has none."""
        loss_B = super().segment_loss(block, target)
        return None if loss_B is None else loss_B / 2

    def action_token_loss(self, block: BlockOutput, match: Match, token_valid: Tensor) -> Tensor:
        """Half the plain mean over tokens of their weighted negative log-probability, (B,)."""
        return terms.mean_token_loss(block.token_log_probs, match, self.class_weight, token_valid) / 2
