"""The published training runs as named settings, and the rule for one's own data (FACT.md section 1)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Literal

from fact._settings import (
    BlockConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    SegmentBlockConfig,
    TimeMaskConfig,
    TrainingConfig,
)
from fact.errors import ConfigError


def _blocks(
    *, frame_branch: Literal["m", "m2"], branch_dim: int, dropout: float
) -> tuple[BlockConfig, BlockConfig, SegmentBlockConfig]:
    """The three kinds of block, which in every published run differ in their token branch alone."""
    block = BlockConfig(
        hidden_dim=512,
        dropout=dropout,
        action_branch="sca",
        token_heads=8,
        token_feedforward_dim=512,
        token_layers=6,
        token_dim=branch_dim,
        frame_branch=frame_branch,
        frame_layers=10,
        frame_norm=False,
        frame_dim=branch_dim,
        frame_groups=1,
    )
    update = replace(block, action_branch="sa", token_layers=1)
    segment = SegmentBlockConfig(**{f.name: getattr(update, f.name) for f in fields(BlockConfig)})
    return block, update, segment


def _config(
    *,
    model: ModelConfig,
    blocks: tuple[BlockConfig, BlockConfig, SegmentBlockConfig],
    loss: LossConfig,
    training: TrainingConfig,
    data: DataConfig,
    time_mask: TimeMaskConfig | None = None,
) -> Config:
    return Config(
        model=model,
        input_block=blocks[0],
        update_block=blocks[1],
        segment_block=blocks[2],
        loss=loss,
        time_mask=time_mask or TimeMaskConfig(),
        training=training,
        data=data,
    )


def _adam(
    *, batch_size: int, epochs: int, lr_decay: int, sample_rate: int, score_background: bool
) -> TrainingConfig:
    return TrainingConfig(
        batch_size=batch_size,
        optimizer="Adam",
        epochs=epochs,
        lr=1e-4,
        lr_decay=lr_decay,
        max_grad_norm=10.0,
        sample_rate=sample_rate,
        score_background=score_background,
    )


def fact_breakfast() -> Config:
    """Breakfast: one input, one update and two segment blocks of MSTCN++, 60 tokens."""
    return _config(
        model=ModelConfig(
            num_tokens=60, blocks="iuUU", step_position=False, channel_mask_rate=0.3, frame_weight=0.1
        ),
        blocks=_blocks(frame_branch="m2", branch_dim=512, dropout=0.0),
        loss=LossConfig(class_cost=0.2, smooth_weight=5.0),
        training=_adam(batch_size=4, epochs=150, lr_decay=80, sample_rate=1, score_background=True),
        data=DataConfig(dataset="breakfast"),
        time_mask=TimeMaskConfig(use=True, max_steps=30, max_fraction=0.05, spans=5),
    )


def fact_gtea() -> Config:
    """GTEA: one input, one update and one segment block of MSTCN, 60 tokens; background is class 10."""
    return _config(
        model=ModelConfig(
            num_tokens=60, blocks="iuU", step_position=False, channel_mask_rate=0.5, frame_weight=0.1
        ),
        blocks=_blocks(frame_branch="m", branch_dim=128, dropout=0.2),
        loss=LossConfig(class_cost=0.2, smooth_weight=5.0),
        training=_adam(batch_size=1, epochs=400, lr_decay=250, sample_rate=1, score_background=False),
        data=DataConfig(dataset="gtea", background_classes=(10,)),
        time_mask=TimeMaskConfig(use=True, max_steps=60, max_fraction=0.1, spans=5),
    )


def fact_egoprocel() -> Config:
    """EgoProceL: three segment blocks of MSTCN++, 200 tokens; every third step is used."""
    return _config(
        model=ModelConfig(
            num_tokens=200, blocks="iUUU", step_position=False, channel_mask_rate=0.3, frame_weight=0.9
        ),
        blocks=_blocks(frame_branch="m2", branch_dim=256, dropout=0.0),
        loss=LossConfig(class_cost=0.2, background_weight=0.5, smooth_weight=5.0),
        training=_adam(batch_size=1, epochs=350, lr_decay=250, sample_rate=3, score_background=False),
        data=DataConfig(dataset="egoprocel"),
    )


def fact_epic_kitchens() -> Config:
    """Epic-Kitchens, verb/noun variant: all blocks over segments, 300 tokens, one to many."""
    return _config(
        model=ModelConfig(
            num_tokens=300, blocks="IUUU", step_position=True, channel_mask_rate=0.3, frame_weight=0.1
        ),
        blocks=_blocks(frame_branch="m2", branch_dim=256, dropout=0.0),
        loss=LossConfig(
            class_cost=0.2, match="o2m", background_weight=0.5, null_weight=0.05, smooth_weight=5.0
        ),
        training=_adam(batch_size=1, epochs=200, lr_decay=600, sample_rate=4, score_background=False),
        data=DataConfig(dataset="epic-kitchens"),
    )


def fact_havid_holdout() -> Config:
    """HA-ViD with classes held out: FACT_CLIP, 75 tokens; the caller names the held-out classes."""
    config = _config(
        model=ModelConfig(
            num_tokens=75, blocks="iuUU", step_position=False, channel_mask_rate=0.3, frame_weight=0.1
        ),
        blocks=_blocks(frame_branch="m", branch_dim=256, dropout=0.2),
        loss=LossConfig(class_cost=0.2, smooth_weight=5.0),
        training=_adam(batch_size=2, epochs=250, lr_decay=80, sample_rate=1, score_background=True),
        data=DataConfig(dataset="havid"),
        time_mask=TimeMaskConfig(use=True, max_steps=30, max_fraction=0.05, spans=5),
    )
    return replace(config, use_clip=True, holdout_mode=True)


RECIPES: Mapping[str, Callable[[], Config]] = MappingProxyType(
    {
        "breakfast": fact_breakfast,
        "gtea": fact_gtea,
        "egoprocel": fact_egoprocel,
        "epic-kitchens": fact_epic_kitchens,
        "havid-holdout": fact_havid_holdout,
    }
)


def recipe(name: str) -> Config:
    """The settings of a published run by its name in ``RECIPES``.

    Raises:
        ConfigError: there is no such recipe.

    >>> recipe("gtea").model.blocks
    'iuU'
    """
    if name not in RECIPES:
        raise ConfigError(f"No recipe {name!r}. Recipes: {', '.join(RECIPES)}.")
    return RECIPES[name]()


def auto_config(max_segments: int) -> Config:
    """Settings for one's own data: the GTEA recipe with tokens for the busiest training video.

    Tokens are 1.5 times the largest number of segments in a training video, rounded up, at least 10; the
    weight of the null class is left to be derived from the mean (:func:`fact.loss.null_class_weight`). No
    class is background.

    Raises:
        ConfigError: ``max_segments`` is below 1.

    >>> auto_config(21).model.num_tokens
    32
    """
    if max_segments < 1:
        raise ConfigError(f"A training video has at least one segment, found max_segments = {max_segments}.")
    base = fact_gtea()
    tokens = max(10, math.ceil(1.5 * max_segments))
    return replace(
        base,
        model=replace(base.model, num_tokens=tokens),
        data=replace(base.data, dataset="own", background_classes=()),
    )
