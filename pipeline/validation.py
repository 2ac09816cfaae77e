"""Validation on videos taken from the training part of a split; test videos are never looked at."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fact.blocks import FACT, FACT_CLIP
from pipeline.alignment import nearest_steps
from pipeline.dataset import LabelledSource, load_samples
from pipeline.errors import SettingsError
from pipeline.input_rules import Pool
from pipeline.labels import ClassList
from pipeline.metrics import IOU_PERCENTS, LabelledPrediction, Scores, evaluate
from pipeline.model import predict_steps
from pipeline.standardize import Standardisation
from pipeline.training_data import check_finite
from storage.store import Store

DECIDING_SCORE = "f1@50"
"""The validation score that chooses the weights."""

FIGURES = ("frame accuracy", "edit", *(f"f1@{percent}" for percent in IOU_PERCENTS))
"""What is measured on the held-out videos, in percent."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Partition:
    """Training videos, parted once more."""

    train: tuple[LabelledSource, ...]
    validation: tuple[LabelledSource, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ValidationVideo:
    """A held-out video, ready to be predicted and scored."""

    video_id: str
    features_TD: Tensor
    """Standardised."""
    owner: NDArray[np.int64]
    """(N,) the step of each labelled video frame."""
    truth: NDArray[np.int64]
    """(N,) class ids."""


def hold_out(sources: Sequence[LabelledSource], *, groups: str, count: int, split: str) -> Partition:
    """Take whole groups of videos, such as all of one person, out of training.

    Args:
        sources: Videos of the training part.
        groups: A regular expression that finds the group in a video's id: its first pair of brackets, or all it
            matches. Or a file that lists the ids to hold out, one a line. Empty: hold out nothing.
        count: Groups to hold out. Which ones depends on their names and the split alone, never on the seed.
        split: Name of the split.

    Raises:
        SettingsError: The expression or the file does not fit the videos, or nothing would be left to train on.
    """
    if not groups:
        return Partition(train=tuple(sources), validation=())
    ids = [source.video.id for source in sources]
    held = _listed(Path(groups), ids) if Path(groups).is_file() else _drawn(groups, ids, count, split)
    if len(held) == len(ids):
        raise SettingsError(
            f"--validation-groups {groups}: all {len(ids)} training videos would be held out and none be left to train "
            "on. Hold out fewer."
        )
    return Partition(
        train=tuple(source for source in sources if source.video.id not in held),
        validation=tuple(source for source in sources if source.video.id in held),
    )


def prepare_validation(
    sources: Sequence[LabelledSource],
    *,
    sample_rate: int,
    pool: Pool,
    standardisation: Standardisation,
    store: Store,
) -> tuple[ValidationVideo, ...]:
    """Read the held-out videos into memory, without frames and steps of unseen classes: seen ones alone decide.

    Raises:
        DatasetError: A video has a feature that is not finite.
    """
    videos = []
    for source in sources:
        ((loaded, _),) = load_samples([source], every=sample_rate, store=store, pool=pool)
        check_finite(loaded.features, video=source.video.id)
        times = source.video.facts.frame_times[: len(source.labels)]
        videos.append(
            ValidationVideo(
                video_id=source.video.id,
                features_TD=standardisation.apply(loaded.features),
                owner=nearest_steps(times[source.kept], loaded.step_times),
                truth=source.labels[source.kept],
            )
        )
    return tuple(videos)


def validate(
    network: FACT | FACT_CLIP,
    videos: Sequence[ValidationVideo],
    *,
    classes: ClassList,
    background: Sequence[int],
) -> dict[str, float]:
    """Scores in percent over all video frames, by the convention ``mstcn``; the network's mode is as before."""
    training = network.training
    predictions = [
        LabelledPrediction(
            video_id=video.video_id,
            truth=video.truth,
            predicted=predict_steps(network, video.features_TD).labels_T[video.owner],
        )
        for video in videos
    ]
    network.train(training)
    return figures(evaluate(predictions, class_names=classes.names, background=background))


def figures(scores: Scores) -> dict[str, float]:
    """Accuracy, Edit and F1 in percent, by name."""
    values = (scores.frame_accuracy, scores.edit, *scores.f1.values())
    return dict(zip(FIGURES, values, strict=True))


def is_better(scores: Mapping[str, float], best: Mapping[str, float]) -> bool:
    """Whether the deciding score rose; equal scores are decided by accuracy."""
    if not best:
        return True
    return (scores[DECIDING_SCORE], scores["frame accuracy"]) > (best[DECIDING_SCORE], best["frame accuracy"])


def _listed(file: Path, ids: Sequence[str]) -> set[str]:
    lines = [line.strip().removesuffix(".txt") for line in file.read_text(encoding="utf-8").splitlines()]
    held = {line for line in lines if line}
    unknown = sorted(held - set(ids))
    if unknown or not held:
        named = f"names {unknown[0]!r}, which is not among" if unknown else "names none of"
        raise SettingsError(
            f"--validation-groups {file} {named} the {len(ids)} training videos that can be used. List ids of training "
            "videos, one a line."
        )
    return held


def _drawn(pattern: str, ids: Sequence[str], count: int, split: str) -> set[str]:
    group_of = {video: _group(pattern, video) for video in ids}
    # By digest: spread over the groups from split to split, and the same in every run.
    groups = sorted(
        set(group_of.values()), key=lambda name: hashlib.sha256(f"{split}/{name}".encode()).digest()
    )
    if count >= len(groups):
        raise SettingsError(
            f"--validation-count {count}: --validation-groups {pattern!r} finds {len(groups)} "
            f"group{'s' if len(groups) > 1 else ''} in {len(ids)} training videos "
            f"({', '.join(sorted(groups)[:5])}), and one must be left to train on. Hold out fewer, or group finer."
        )
    held = set(groups[:count])
    return {video for video, group in group_of.items() if group in held}


def _group(pattern: str, video: str) -> str:
    try:
        found = re.search(pattern, video)
    except re.error as error:
        raise SettingsError(
            f"--validation-groups {pattern!r} is neither a file nor a regular expression ({error})."
        ) from error
    if found is None:
        raise SettingsError(
            f"--validation-groups {pattern!r} finds no group in the video id {video!r}. "
            "Write an expression that matches every id."
        )
    return found.group(1) if found.re.groups else found.group()
