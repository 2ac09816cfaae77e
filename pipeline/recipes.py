"""From settings to the configuration a model is built and trained with."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from fact.config import (
    RECIPES,
    ClipConfig,
    Config,
    ConfigError,
    DataConfig,
    auto_config,
    parse_config,
    recipe,
)
from pipeline.errors import LabelError, SettingsError
from pipeline.labels import ClassList
from pipeline.settings import DatasetSettings
from pipeline.settings_file import read_settings_file
from pipeline.settings_training import TRAINING_SECTION, TrainingSettings

log = logging.getLogger(__name__)

BACKGROUND_NAME = "background"
"""The class that counts as background where nothing else is said, as in the published scripts."""

_DATA_FIELDS = (
    "dataset",
    "split",
    "feature_path",
    "label_path",
    "split_path",
    "mapping_path",
    "mean_segments",
)
_TEXT_FIELDS = ("model_name", "use_prompt", "text_embeddings_path")


def is_file(name: str) -> bool:
    """Whether a recipe's name is that of a FACT YAML file."""
    return Path(name).suffix.lower() in {".yaml", ".yml"}


def resolve_config(settings: TrainingSettings, *, max_segments: int, unseen: Sequence[int] = ()) -> Config:
    """The configuration that ``settings`` ask for.

    Args:
        settings: Recipe and overrides.
        max_segments: Largest number of segments in a training video; `auto` makes tokens from it.
        unseen: Ids of the classes held out of training, whatever the recipe says.

    Raises:
        SettingsError: The recipe is unknown, or its file is malformed.
    """
    config = _base_config(settings.recipe, max_segments=max_segments)
    unused = (*config.ignored, *_set_elsewhere(config))
    if unused and is_file(settings.recipe):
        log.info("%s: these keys have no effect here: %s", settings.recipe, ", ".join(unused))
    if config.model.transcript:
        raise SettingsError(
            f"{settings.recipe}: FACT.trans asks for the transcript of every video, which new videos do not have. "
            "Set it to false, or use fact.blocks.FACT directly."
        )
    training = config.training
    epochs, decay = training.epochs, training.lr_decay
    if settings.epochs is not None:
        epochs = settings.epochs
        decay = None if decay is None else max(1, round(epochs * decay / training.epochs))
    overridden = dataclasses.replace(
        training,
        epochs=epochs,
        lr_decay=decay,
        lr=settings.learning_rate or training.lr,
        batch_size=settings.batch_size or training.batch_size,
        sample_rate=settings.every or training.sample_rate,
        weight_decay=training.weight_decay if settings.weight_decay is None else settings.weight_decay,
    )
    clip = dataclasses.replace(
        config.clip,
        unseen_bias=config.clip.unseen_bias if settings.unseen_bias is None else settings.unseen_bias,
        switch_cost=config.clip.switch_cost if settings.switch_cost is None else settings.switch_cost,
    )
    return dataclasses.replace(
        config,
        training=overridden,
        clip=clip,
        use_clip=settings.model == "fact-clip",
        holdout_mode=bool(unseen),
        holdout_classes=tuple(unseen),
    )


def recipe_unseen(name: str, *, classes: ClassList) -> tuple[int, ...]:
    """Ids of the classes that a FACT file holds out; nothing for a recipe by name.

    Raises:
        SettingsError: The file is malformed, or an id is not a class.
    """
    if not is_file(name):
        return ()
    return _known_ids(
        _base_config(name, max_segments=1).unseen_classes,
        classes,
        f"{name}: holdout_classes",
        remedy="--unseen",
    )


def background_ids(
    config: Config, *, recipe_name: str, dataset: DatasetSettings, classes: ClassList
) -> tuple[int, ...]:
    """Ids of the background classes: as the data set says, else the FACT YAML file, else by name."""
    if dataset.background:
        try:
            return classes.ids_named(dataset.background)
        except LabelError as error:
            raise SettingsError(f"{dataset.class_source}, background: {error} Correct the name.") from error
    if is_file(recipe_name):
        return _known_ids(
            config.data.background_classes, classes, f"{recipe_name}: bg_class", remedy="--background"
        )
    return classes.ids_named([name for name in (BACKGROUND_NAME,) if name in classes.id_of])


def _base_config(name: str, *, max_segments: int) -> Config:
    if name == "auto":
        return auto_config(max_segments)
    if is_file(name):
        try:
            keys = read_settings_file(Path(name))
            return parse_config({key: value for key, value in keys.items() if key != TRAINING_SECTION})
        except ConfigError as error:
            raise SettingsError(f"{name}: {error}") from error
    if name not in RECIPES:
        raise SettingsError(
            f"No recipe {name!r}. Known: auto, {', '.join(RECIPES)}, or a FACT file ending in .yaml."
        )
    return recipe(name)


def _set_elsewhere(config: Config) -> list[str]:
    """What a FACT file says of the data and the texts, where options and settings decide here."""
    said = [(config.data, DataConfig(), _DATA_FIELDS), (config.clip, ClipConfig(), _TEXT_FIELDS)]
    return [
        f"{name} ({getattr(given, name)})"
        for given, default, names in said
        for name in names
        if getattr(given, name) != getattr(default, name)
    ]


def _known_ids(ids: Sequence[int], classes: ClassList, source: str, *, remedy: str) -> tuple[int, ...]:
    beyond = [index for index in ids if index >= len(classes)]
    if beyond:
        raise SettingsError(
            f"{source} {beyond[0]} is not a class of this data set ({len(classes)} classes). "
            f"Correct it, or give names with {remedy}."
        )
    return tuple(ids)
