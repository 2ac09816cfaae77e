"""From settings to blocks: the one place where a configuration meets the layers."""

from torch import nn

from fact.attention import CrossBranchAttention, GRUDecoder, SADecoder, SCADecoder
from fact.block_modules import InputBlock, InputBlockTDU, UpdateBlock, UpdateBlockTDU
from fact.config import BlockConfig, Config, SegmentBlockConfig
from fact.errors import ConfigError
from fact.heads import Head, VerbNounHead
from fact.temporal_conv import MSTCN, MSTCN2


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


def build_block(letter: str, config: Config, *, input_dim: int, head: Head) -> nn.Module:
    """The block that a letter of ``FACT.block`` names.

    Raises:
        ConfigError: it belongs to the verb/noun variant.
    """
    if letter == "i":
        return InputBlock(
            frame_branch=_frame_branch(config.input_block, input_dim=input_dim),
            action_branch=_action_branch(config.input_block),
            head=head,
        )
    if letter == "I" and isinstance(head, VerbNounHead):
        width = config.input_block.hidden_dim
        return InputBlockTDU(
            frame_branch=_frame_branch(config.input_block, input_dim=input_dim),
            seg_update=_segment_gru(width, num_layers=2),
            seg_combine=nn.Linear(width, width),
            action_branch=_action_branch(config.input_block),
            head=head,
        )
    if letter == "u":
        return _update_block(config.update_block, head)
    if letter == "U":
        return _segment_block(config.segment_block, head)
    raise ConfigError(
        f"FACT.block is {config.model.blocks!r}: block {letter!r} belongs to the verb/noun variant "
        "(fact.blocks_sep_verb_noun); FACT and FACT_CLIP start with 'i'."
    )
