"""What a training is made of, decided before anything is read or trained: videos, model, texts, key."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fact.config import Config
from pipeline.dataset import LabelledSource, Survey, dataset_classes, dataset_split, survey_part
from pipeline.errors import DatasetError, SettingsError
from pipeline.fine_tune import InitialWeights, check_initial, find_initial
from pipeline.inputs import inputs_of_run
from pipeline.labels import ClassList
from pipeline.model import ModelDescription, TextInput
from pipeline.outcome import failures
from pipeline.recipes import background_ids, resolve_config
from pipeline.settings import RunSettings
from pipeline.settings_training import TrainingSettings
from pipeline.texts import ClassTexts, embed_classes
from pipeline.unseen import classes_of, drop_unseen, unfavoured_note, unseen_ids, untrained_note
from pipeline.validation import Partition, hold_out
from storage.keys import digest_of
from storage.store import Store

TRAIN_VERSION = 3
"""Version of the code between features and weights; part of every run's key."""

_HOW = (
    "standardize",
    "optimizer",
    "schedule",
    "warmup_epochs",
    "accumulate",
    "ema",
    "precision",
    "deterministic",
    "graphs",
    "channel_jitter",
    "time_stretch",
    "validate_every",
    "patience",
)
"""Settings that change the weights and are not part of the model's configuration."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """Everything a run's key is made of."""

    sources: tuple[LabelledSource, ...]
    """Videos to train on."""
    validation: tuple[LabelledSource, ...]
    """Videos of the training part that are held out."""
    description: ModelDescription
    texts: ClassTexts | None
    mean_segments: float
    how: TrainingSettings
    initial: InitialWeights | None
    """Weights to start from; None: random ones."""
    notes: tuple[str, ...]
    """Sentences worth showing on classes that are not trained."""

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return self.how.seed

    @property
    def used(self) -> tuple[LabelledSource, ...]:
        """Every video that has a say in the weights."""
        return self.sources + self.validation

    def key(self) -> str:
        """Name of the run. The device is left out: where a run happens is no reason to repeat it."""
        described = dataclasses.asdict(self.description)
        described["config"] = self.description.config.to_mapping()
        for part in (*described["inputs"], described["text"] or {}):
            # What is put on record about weights changes none.
            part.pop("licence", None)
        return digest_of(
            {
                "version": TRAIN_VERSION,
                "model": described,
                "videos": _identity(self.sources),
                "validation": _identity(self.validation),
                "text encoder": self.texts and dataclasses.asdict(self.texts.encoder),
                "seed": self.seed,
                "initial": self.initial and self.initial.digest,
                "how": self.how.model_dump(include=set(_HOW)),
            }
        )


def plan_run(settings: RunSettings, *, store: Store) -> tuple[Plan, Survey]:
    """What a run would be made of; reads labels, but neither pictures nor features.

    Raises:
        DatasetError: No training video can be used, or their labels cannot teach anything.
        SettingsError: A setting does not fit the data.
    """
    dataset = settings.dataset
    classes = dataset_classes(dataset, store=store)
    split = dataset_split(dataset, store=store)
    inputs = inputs_of_run(settings, store=store)
    survey = survey_part(split.train, dataset=dataset, inputs=inputs, classes=classes, store=store)
    if not survey.sources:
        failed = failures(survey.outcomes)
        raise DatasetError(
            f"None of the {len(failed)} training videos can be used; the first: {failed[0].reason}"
        )
    unseen = unseen_ids(settings.training, dataset=dataset, classes=classes)
    seen = drop_unseen(survey.sources, unseen=unseen, classes=classes)
    parted = _part(seen.sources, settings=settings)
    segments = [source.num_segments for source in parted.train]
    config = resolve_config(settings.training, max_segments=max(segments), unseen=unseen)
    background = background_ids(
        config, recipe_name=settings.training.recipe, dataset=dataset, classes=classes
    )
    _check_labels(parted.train, background=background, classes=classes)
    _check_batch(config, num_videos=len(parted.train))
    if not config.use_clip and not settings.training.allow_unseen:
        test = survey_part(split.test, dataset=dataset, inputs=inputs, classes=classes, store=store)
        # What is wrong with a test video is for the evaluation to say.
        _check_test_classes(test.sources, trained=seen.sources, classes=classes)
    texts = None
    if config.use_clip:
        texts = embed_classes(
            classes.names,
            text=settings.text,
            extraction=settings.extraction,
            store=store,
            beside_features=not dataset.has_features,
        )
    description = ModelDescription(
        kind=settings.training.model,
        config=config,
        class_names=classes.names,
        background=background,
        inputs=tuple(item.described for item in inputs),
        text=None if texts is None else _text_input(texts, templates=settings.text.templates),
        pool=settings.training.pool,
        standardized_over=settings.training.standardize_over if settings.training.standardize else "training",
    )
    plan = Plan(
        sources=parted.train,
        validation=parted.validation,
        description=description,
        texts=texts,
        mean_segments=float(np.mean(segments)),
        how=settings.training,
        initial=_initial(settings.training.init, description=description, store=store),
        notes=(
            *seen.notes,
            *(untrained_note(seen.sources, unseen=unseen, classes=classes) if config.use_clip else ()),
            *unfavoured_note(settings.training, config=config),
        ),
    )
    return plan, survey


def _initial(source: str, *, description: ModelDescription, store: Store) -> InitialWeights | None:
    if not source:
        return None
    initial = find_initial(source, store=store)
    check_initial(initial, description)
    return initial


def _part(sources: Sequence[LabelledSource], *, settings: RunSettings) -> Partition:
    training = settings.training
    if training.patience is not None and not training.validation_groups:
        raise SettingsError(
            f"--patience {training.patience} stops when validation scores no longer rise, but no video is held out for "
            "validation. Name the groups with --validation-groups, or leave --patience out."
        )
    return hold_out(
        sources,
        groups=training.validation_groups,
        count=training.validation_count,
        split=settings.dataset.split,
    )


def _text_input(texts: ClassTexts, *, templates: tuple[str, ...]) -> TextInput:
    return TextInput(
        model=texts.encoder.model,
        weights_digest=texts.encoder.weights_digest,
        random_weights=texts.random_weights,
        licence=texts.licence,
        prompts=texts.prompts,
        templates=templates,
    )


def _identity(sources: Sequence[LabelledSource]) -> list[list[str]]:
    return [[source.video.id, *source.stored.keys, source.label_digest] for source in sources]


def _check_labels(
    sources: Sequence[LabelledSource], *, background: Sequence[int], classes: ClassList
) -> None:
    found = classes_of(sources)
    if background and found <= set(background):
        names = ", ".join(repr(classes.names[index]) for index in sorted(found))
        others = len(classes) - len(background)
        raise DatasetError(
            f"All labels of the {len(sources)} training videos are background ({names}), none is of the {others} "
            "other classes: there is nothing to learn. Correct the labels, or name another class with --background."
        )


def _check_batch(config: Config, *, num_videos: int) -> None:
    size = config.training.batch_size
    if size > num_videos:
        raise SettingsError(
            f"A batch of {size} videos was asked for, but there are {num_videos} to train on. "
            f"Give --batch-size {num_videos} or less."
        )


def _check_test_classes(
    test: Sequence[LabelledSource], *, trained: Sequence[LabelledSource], classes: ClassList
) -> None:
    """A model without texts can never name a class that only test videos have; say so before training."""
    known = classes_of(trained)
    for source in test:
        only = sorted(classes_of([source]) - known)
        if only:
            name = classes.names[only[0]]
            raise DatasetError(
                f"Class {name!r} is in test video {source.video.id!r} but in none of the "
                f"{len(trained)} training videos, and `--model fact` can never name a class it was not trained on. "
                f"Use `--model fact-clip --unseen {name!r}`, correct the split, or accept the missing score with "
                "--allow-unseen."
            )
