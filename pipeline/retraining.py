"""Whether there is something new to learn, and whether what was learnt is good enough to take over.

A challenger takes over only where the test videos leave little doubt: the lower confidence bound of its gain
decides, not the gain, and no class may pay for the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.bootstrap import bootstrap_weights
from pipeline.catalogue import content_of, videos_by_id
from pipeline.dataset import dataset_classes, dataset_split, load_features, survey_part
from pipeline.device import choose_device
from pipeline.errors import DatasetError
from pipeline.evaluate import check_untrained
from pipeline.inputs import inputs_of_model
from pipeline.metrics import LabelledPrediction, Scores, evaluate
from pipeline.model import load_model, read_description
from pipeline.outcome import failures
from pipeline.predict import predict_frames
from pipeline.promotion import DECIDING_SCORE
from pipeline.settings import RunSettings
from pipeline.settings_operations import RetrainSettings
from storage.datasets import read_dataset
from storage.folders import read_manifest
from storage.store import Store

# Axes: V videos, R resamples, T steps, D feature width.


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """How today's labelled videos differ from those a run was trained on."""

    new: tuple[str, ...]
    """Ids the run never saw."""
    changed: tuple[str, ...]
    """Ids whose pictures or labels are others now."""
    gone: tuple[str, ...]
    """Ids that the run was trained on and that are no longer there."""

    def __bool__(self) -> bool:
        return bool(self.new or self.changed)

    def __str__(self) -> str:
        parts = [
            f"{len(ids)} {what} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"
            for what, ids in (("new", self.new), ("changed", self.changed), ("gone", self.gone))
            if ids
        ]
        return ", ".join(parts) if parts else "no labelled video is new or changed"


def find_news(now: Mapping[str, Sequence[str]], trained: Mapping[str, Sequence[str]]) -> News:
    """Compare what training videos are made of, by id: keys of their features and digest of their labels.

    >>> str(find_news({"a": ["1"], "b": ["2"]}, {"a": ["0"], "c": ["3"]}))
    '1 new (b), 1 changed (a), 1 gone (c)'
    """
    return News(
        new=tuple(sorted(set(now) - set(trained))),
        changed=tuple(
            sorted(name for name in set(now) & set(trained) if list(now[name]) != list(trained[name]))
        ),
        gone=tuple(sorted(set(trained) - set(now))),
    )


def training_content(settings: RunSettings) -> dict[str, list[str]]:
    """Digests of the pictures (or imported features) and labels of every training video that is there, by id.

    Nothing is decoded.

    Raises:
        DatasetError: There is none, so that a share that is not mounted is not taken for a quiet night.
    """
    train = dataset_split(settings.dataset, store=Store(settings.store)).train
    found = _content_of(train, settings=settings)
    if not found:
        raise DatasetError(
            f"None of the {len(train)} training videos of {settings.dataset.title!r} is there with its labels. Check "
            "the folders of videos and labels, and whether the disk they lie on is mounted."
        )
    return found


def _content_of(train: Sequence[str], *, settings: RunSettings) -> dict[str, list[str]]:
    dataset, store = settings.dataset, Store(settings.store)
    known = read_dataset(store, dataset.imported).recordings if dataset.imported else {}
    if dataset.has_features:
        return {video: [known[video].content, known[video].labels] for video in train if video in known}
    if dataset.imported:
        labels = {video: recording.labels for video, recording in known.items()}
    else:
        files = {video: dataset.place("labels") / f"{video}.txt" for video in train}
        labels = {video: store.digests.digest(file) for video, file in files.items() if file.is_file()}
    videos = videos_by_id(dataset.video_source)
    return {
        video: [content_of(videos[video], store=store, cache_gib=dataset.video_cache_gib), labels[video]]
        for video in train
        if video in videos and video in labels
    }


def predict_test_videos(settings: RunSettings, *, run: str) -> list[LabelledPrediction]:
    """Labels of the test videos by a run, as ids of the mapping; nothing is stored.

    The run may know fewer classes than the mapping: those it lacks it never predicts.

    Raises:
        DatasetError: A test video cannot be used, was trained on, or the run knows a class that the mapping lacks.
    """
    store = Store(settings.store)
    folder = store.run_folder(run)
    description = read_description(folder)
    classes = dataset_classes(settings.dataset, store=store)
    ids = {name: index for index, name in enumerate(classes.names)}
    lost = [name for name in description.class_names if name not in ids]
    if lost:
        raise DatasetError(
            f"Run {run[:12]} knows class {lost[0]!r}, which the mapping no longer names. "
            "Put it back, or give the data set another --name."
        )
    ids_C = np.array([ids[name] for name in description.class_names], dtype=np.int64)
    split = dataset_split(settings.dataset, store=store)
    inputs = inputs_of_model(description.inputs)
    survey = survey_part(split.test, dataset=settings.dataset, inputs=inputs, classes=classes, store=store)
    for outcome in failures(survey.outcomes):
        raise DatasetError(outcome.reason)
    check_untrained(survey.sources, trained=read_manifest(folder), run=run)
    model = load_model(folder, device=choose_device(settings.extraction.device))
    predictions = []
    for source in survey.sources:
        count = len(source.labels)
        predicted = predict_frames(source.stored, model=model, store=store).labels[:count]
        predictions.append(
            LabelledPrediction(video_id=source.video.id, truth=source.labels, predicted=ids_C[predicted])
        )
    return predictions


def drift_of_news(settings: RunSettings, *, run: str, news: News) -> float | None:
    """``feature_drift`` of the new and changed videos from those a run was trained on; None where either is empty.

    Args:
        settings: The data set of today.
        run: Key of the run; its own features are read.
        news: What is new since it was trained.
    """
    store = Store(settings.store)
    folder = store.run_folder(run)
    inputs = inputs_of_model(read_description(folder).inputs)
    survey = survey_part(
        dataset_split(settings.dataset, store=store).train,
        dataset=settings.dataset,
        inputs=inputs,
        classes=dataset_classes(settings.dataset, store=store),
        store=store,
    )
    fresh = {*news.new, *news.changed}
    known = read_manifest(folder)["content"].keys() - fresh
    rows: dict[bool, list[NDArray[np.float32]]] = {True: [], False: []}
    for source in survey.sources:
        if source.video.id in fresh | known:
            loaded = load_features(source.stored, sample_rate=1, store=store)
            rows[source.video.id in fresh].append(loaded.features)
    if not rows[True] or not rows[False]:
        return None
    old_TD = np.concatenate(rows[False])
    return feature_drift(
        np.concatenate(rows[True]),
        mean_D=old_TD.mean(axis=0, dtype=np.float64),
        std_D=old_TD.std(axis=0, dtype=np.float64),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether the challenger takes over, and why, in figures."""

    promote: bool
    reasons: tuple[str, ...]
    """Sentences, the deciding one first."""
    gain: float
    """Points of the deciding score."""
    lower_bound: float
    """Of the gain, at the confidence asked for."""
    worst_class: str
    """The class that loses most; empty where none loses."""
    worst_drop: float
    """Points of frame F1 that it loses."""

    def facts(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "promote": self.promote,
            "reasons": list(self.reasons),
            "gain": self.gain,
            "lower_bound": self.lower_bound,
            "worst_class": self.worst_class,
            "worst_drop": self.worst_drop,
        }


def judge(
    champion: Sequence[LabelledPrediction],
    challenger: Sequence[LabelledPrediction],
    *,
    class_names: Sequence[str],
    background: Sequence[int],
    settings: RetrainSettings,
) -> Verdict:
    """Compare two models on the very same videos.

    Args:
        champion: Its predictions, a video each.
        challenger: Its predictions of the same videos in the same order.
        class_names: By class id.
        background: Ids of background classes.
        settings: Margin, largest drop of a class, confidence, resamples.

    Raises:
        ValueError: The videos differ.
    """
    if [video.video_id for video in champion] != [video.video_id for video in challenger]:
        raise ValueError("Champion and challenger must be judged on the same videos in the same order.")
    scores = [
        evaluate(videos, class_names=class_names, background=background, convention="mstcn")
        for videos in (champion, challenger)
    ]
    gains_R = _resampled_gains(scores, resamples=settings.resamples)
    old, new = (score.f1[50] for score in scores)
    gain = (new or 0.0) - (old or 0.0)
    lower = gain if len(champion) < 2 else float(np.percentile(gains_R, 50 * (1 - settings.confidence)))
    worst_class, worst_drop = _worst_drop(*scores)
    good = lower >= settings.margin
    fair = worst_drop <= settings.max_class_drop
    bound = (
        f"{DECIDING_SCORE} changes by {gain:+.1f} points on {len(champion)} videos, lower bound "
        f"{lower:+.1f} at {settings.confidence:.0%} confidence; the margin is {settings.margin:+.1f}"
    )
    drop = (
        f"class {worst_class!r} loses {worst_drop:.1f} points of frame F1; {settings.max_class_drop:.1f} are allowed"
        if worst_class
        else "no class loses"
    )
    reasons = (bound, drop) if fair or not good else (drop, bound)
    return Verdict(
        promote=good and fair,
        reasons=reasons,
        gain=gain,
        lower_bound=lower,
        worst_class=worst_class,
        worst_drop=worst_drop,
    )


def _resampled_gains(scores: Sequence[Scores], *, resamples: int) -> NDArray[np.float64]:
    """(R,) gain of the second over the first, each time over the same drawn videos."""
    weights_RV = bootstrap_weights(len(scores[0].counts.video_ids), resamples=resamples)
    old_R, new_R = (score.counts.figures(weights_RV)[DECIDING_SCORE] for score in scores)
    gains_R: NDArray[np.float64] = np.nan_to_num(new_R) - np.nan_to_num(old_R)
    return gains_R


def _worst_drop(champion: Scores, challenger: Scores) -> tuple[str, float]:
    drops = {
        old.name: (old.f1 or 0.0) - (new.f1 or 0.0)
        for old, new in zip(champion.per_class, challenger.per_class, strict=True)
        if old.support
    }
    name = max(drops, key=drops.__getitem__, default="")
    return (name, drops[name]) if name and drops[name] > 0 else ("", 0.0)


def feature_drift(
    new_TD: NDArray[np.float32], *, mean_D: NDArray[np.float64], std_D: NDArray[np.float64]
) -> float:
    """How far features lie from those of the training set: mean absolute standardised difference of channel means.

    Cohen's d of each channel (Cohen, "Statistical Power Analysis", 1988), by the training set's deviation, averaged
    over channels; 0 for features like those of training, about 1 where channels moved by a deviation.

    Args:
        new_TD: (T, D) features of new videos.
        mean_D: (D,) channel means over the training set.
        std_D: (D,) channel deviations over the training set; channels that never vary are left out.
    """
    varies_D = std_D > 0
    if not varies_D.any():
        return 0.0
    shift_D = np.abs(new_TD.mean(axis=0, dtype=np.float64) - mean_D)[varies_D] / std_D[varies_D]
    return float(shift_D.mean())
