"""FACT's configuration: users' nested mappings in, frozen and checked settings out.

The keys and what they mean are FACT.md's section 1 (Lu & Elhamifar, CVPR 2024, published YAML files). Reading
a file is the caller's: this module needs the standard library alone.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import TypeVar

from fact._mapping import as_mapping, build, dump, plain_fields, published_key, reject_unknown
from fact._settings import (
    BlockConfig,
    ClipConfig,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    SegmentBlockConfig,
    TimeMaskConfig,
    TrainingConfig,
)
from fact.errors import ConfigError
from fact.recipes import (
    RECIPES,
    auto_config,
    fact_breakfast,
    fact_egoprocel,
    fact_epic_kitchens,
    fact_gtea,
    fact_havid_holdout,
    recipe,
)

__all__ = [
    "RECIPES",
    "BlockConfig",
    "ClipConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "SegmentBlockConfig",
    "TimeMaskConfig",
    "TrainingConfig",
    "auto_config",
    "fact_breakfast",
    "fact_egoprocel",
    "fact_epic_kitchens",
    "fact_gtea",
    "fact_havid_holdout",
    "parse_config",
    "recipe",
]

B = TypeVar("B", bound=BlockConfig)

_SECTIONS = ("FACT", "Bi", "Bu", "BU", "Loss", "TM", "CLIP")
# Keys of users' files that have no effect here.
_IGNORED = {
    "TM": ("inplace",),
    "CLIP": ("text_trainable",),
    "aux": (
        "gpu",
        "mark",
        "runid",
        "debug",
        "wandb_project",
        "wandb_user",
        "wandb_offline",
        "resume",
        "eval_every",
        "print_every",
    ),
}
_UPDATE_DEFAULTS: Mapping[str, object] = {"a": "sa", "a_layers": 1, "f_layers": 5}


def parse_config(source: object) -> Config:
    """Settings from a :class:`Config`, a nested mapping or an object with the published keys.

    Missing keys take their defaults, ``"None"`` and null mean "not given", ``Bu`` inherits what is null from
    ``Bi`` and ``BU`` from the block before it.

    Raises:
        ConfigError: a key is unknown (the message names the nearest one), or a value has the wrong type, is
            out of range or contradicts another.

    >>> config = parse_config({"FACT": {"ntoken": 9}, "Bi": {"hid_dim": 64}, "TM": {"inplace": True}})
    >>> config.model.num_tokens, config.update_block.hidden_dim, config.ignored
    (9, 64, ('TM.inplace',))
    """
    if isinstance(source, Config):
        return source
    given = as_mapping(source)
    top = [
        published_key(f) for cls in (Config, TrainingConfig, DataConfig) for f in plain_fields(cls).values()
    ]
    reject_unknown(given, [*top, *_SECTIONS, "aux"])
    sections, ignored = _split_sections(given)
    model = build(ModelConfig, sections["FACT"], where="FACT")
    first = build(BlockConfig, sections["Bi"], where="Bi")
    update = _inherit(BlockConfig, sections["Bu"], first, where="Bu")
    before = update if "u" in model.blocks.partition("U")[0] else first
    return build(
        Config,
        _pick(given, Config),
        model=model,
        input_block=first,
        update_block=update,
        segment_block=_inherit(SegmentBlockConfig, sections["BU"], before, where="BU"),
        loss=build(LossConfig, sections["Loss"], where="Loss"),
        time_mask=build(TimeMaskConfig, sections["TM"], where="TM"),
        clip=build(ClipConfig, sections["CLIP"], where="CLIP"),
        training=build(TrainingConfig, _pick(given, TrainingConfig)),
        data=build(DataConfig, _pick(given, DataConfig)),
        ignored=ignored,
    )


def _split_sections(given: Mapping[str, object]) -> tuple[dict[str, dict[str, object]], tuple[str, ...]]:
    """The keys of each section that have an effect, and the dotted names of those that have none."""
    sections: dict[str, dict[str, object]] = {}
    ignored: list[str] = []
    for name in (*_SECTIONS, "aux"):
        section = given.get(name)
        keys = as_mapping({} if section is None else section, where=name)
        without_effect = _IGNORED.get(name, ())
        ignored += [f"{name}.{key}" for key in keys if key in without_effect]
        sections[name] = {key: value for key, value in keys.items() if key not in without_effect}
    reject_unknown(sections["aux"], _IGNORED["aux"], where="aux")
    return sections, tuple(ignored)


def _pick(given: Mapping[str, object], cls: type) -> dict[str, object]:
    known = plain_fields(cls)
    return {key: value for key, value in given.items() if key in known}


def _inherit(cls: type[B], given: Mapping[str, object], before: BlockConfig, *, where: str) -> B:
    """An update block: what is null comes from the block before it."""
    own = {**_UPDATE_DEFAULTS, **given}
    inherited = {key: value for key, value in dump(before).items() if key in _names(BlockConfig)}
    reject_unknown(given, plain_fields(cls), where=where)
    return build(
        cls, {**inherited, **{key: value for key, value in own.items() if value is not None}}, where=where
    )


def _names(cls: type) -> set[str]:
    return {published_key(field) for field in fields(cls)}
