"""Classes never seen in training: the frames and steps that carry them are dropped from every training video.

Dropped, not masked: what is left is a shorter video, and nothing of an unseen class, not even its features as the
neighbours of others, has a say in the weights, in the standardisation or in the choice of a checkpoint.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fact.config import Config
from pipeline.dataset import LabelledSource
from pipeline.errors import DatasetError, LabelError, SettingsError
from pipeline.labels import ClassList
from pipeline.recipes import recipe_unseen
from pipeline.settings import DatasetSettings
from pipeline.settings_training import TrainingSettings


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SeenPart:
    """Training videos without their unseen classes."""

    sources: tuple[LabelledSource, ...]
    """Videos that have another class too; ``dropped`` is set in them."""
    notes: tuple[str, ...]
    """Sentences worth showing: what was held out, and which videos had nothing else."""


def unseen_ids(
    training: TrainingSettings, *, dataset: DatasetSettings, classes: ClassList
) -> tuple[int, ...]:
    """Ids of the classes to hold out of training: as the settings name them, else as the FACT file does.

    Raises:
        SettingsError: A class is not in the data set, or none would be left to train on.
    """
    try:
        named = classes.ids_named(training.unseen)
    except LabelError as error:
        raise SettingsError(f"--unseen: {error} Give names as {dataset.class_source} has them.") from error
    ids = tuple(sorted(set(named or recipe_unseen(training.recipe, classes=classes))))
    if len(ids) == len(classes):
        raise SettingsError(
            f"All {len(classes)} classes of {dataset.class_source} are to be unseen, and none would be left to train "
            "on. Name fewer with --unseen."
        )
    return ids


def drop_unseen(sources: Sequence[LabelledSource], *, unseen: Sequence[int], classes: ClassList) -> SeenPart:
    """Training videos whose frames of unseen classes no longer count; those that have no other are left out.

    Raises:
        DatasetError: No training video is left; the message names the classes.
    """
    if not unseen:
        return SeenPart(sources=tuple(sources), notes=())
    names = ", ".join(repr(classes.names[index]) for index in unseen)
    kept = [dataclasses.replace(source, dropped=tuple(unseen)) for source in sources]
    left = tuple(source for source in kept if source.kept.any())
    if not left:
        raise DatasetError(
            f"No training video is left after holding out {names}: none of the {len(sources)} has a frame of another "
            "class. Hold out fewer classes with --unseen, or add videos of others."
        )
    notes = [f"Held out of training: {names}."]
    if len(left) < len(kept):
        gone = [source.video.id for source in kept if not source.kept.any()]
        notes.append(
            f"{len(gone)} of {len(kept)} training videos show nothing else and are left out: {', '.join(gone)}."
        )
    return SeenPart(sources=left, notes=tuple(notes))


def untrained_note(
    sources: Sequence[LabelledSource], *, unseen: Sequence[int], classes: ClassList
) -> tuple[str, ...]:
    """A sentence on classes that no training video has although they are not held out; else nothing.

    A model with texts can find them, but only those it knows to be unseen: else its tokens, which never saw them,
    decide.
    """
    known = classes_of(sources) | set(unseen)
    missing = [name for index, name in enumerate(classes.names) if index not in known]
    if not missing:
        return ()
    names = ", ".join(repr(name) for name in missing)
    sentence = (
        f"No training video has {names}, so the model will hardly ever output any of these. Name them with --unseen "
        "to have them found by their texts."
    )
    return (sentence,)


def unfavoured_note(training: TrainingSettings, *, config: Config) -> tuple[str, ...]:
    """A sentence where texts are to find unseen classes and nobody said how far these are favoured; else nothing."""
    asked = training.unseen_bias is not None or config.clip.unseen_bias != 0
    if not config.use_clip or not config.unseen_classes or asked:
        return ()
    sentence = (
        "Unseen classes are not favoured, and on real features a model then hardly ever outputs one. Give "
        "--unseen-folds 3 to have chosen by how many nats they are, --unseen-bias 4 to say it, or --unseen-bias 0 to "
        "leave it at that."
    )
    return (sentence,)


def classes_of(sources: Sequence[LabelledSource]) -> set[int]:
    """Ids of all classes that count in some videos."""
    return {int(label) for source in sources for label in np.unique(source.labels[source.kept])}
