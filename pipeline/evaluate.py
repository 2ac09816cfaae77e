"""Evaluation: a trained run and labelled test videos in; scores, report and registry entry out."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.dataset import LabelledSource, survey_part
from pipeline.device import choose_device
from pipeline.errors import DatasetError
from pipeline.inputs import inputs_of_model
from pipeline.labels import read_mapping, read_split
from pipeline.metrics import Convention, LabelledPrediction, Scores, evaluate
from pipeline.model import ModelDescription, TrainedModel, load_model, read_description
from pipeline.outcome import VideoOutcome, failures
from pipeline.predict import predict_frames
from pipeline.promotion import Promotion, promote_if_better
from pipeline.report import Failure, Report, VideoTimeline, write_report
from pipeline.settings import RunSettings
from pipeline.train import read_curves
from storage.atomic import artefact_lock
from storage.errors import MissingArtefactError
from storage.folders import finish_folder, is_finished, read_manifest, start_folder
from storage.keys import digest_of
from storage.registry import Registry
from storage.runs import find_run
from storage.store import Store

EVALUATE_VERSION = 1
"""Version of the code between weights and scores; part of every evaluation's key."""

CONVENTIONS: tuple[Convention, ...] = ("mstcn", "fact")
"""The named conventions every report shows, the headline first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOutcome:
    """What an evaluation ended with."""

    run: str
    evaluated: bool
    """False where this evaluation was already there."""
    folder: Path
    """Folder with ``report.html``, ``report.json`` and ``report.md``."""
    scores: dict[str, dict[str, float]]
    """Percent by name, by convention."""
    promotion: Promotion
    """The registered version, the champion now, and why."""
    outcomes: tuple[VideoOutcome, ...]
    """What became of each test video."""
    notes: tuple[str, ...]
    """Sentences worth showing: labels that were cut, random weights."""


def evaluate_run(settings: RunSettings, *, run: str) -> EvaluateOutcome:
    """Score a finished run on the test videos, write the report, register it and choose the champion.

    Args:
        settings: The data set; features are those the run was trained with.
        run: Key of the run.

    Raises:
        DatasetError: No test video can be used, or the mapping has other classes than the model.
    """
    store = Store(settings.store)
    folder = store.run_folder(run)
    trained = read_manifest(folder)
    description = read_description(folder)
    classes = read_mapping(settings.dataset.mapping)
    _check_classes(description, classes.names, source=settings.dataset.mapping)
    split = read_split(settings.dataset.splits, settings.dataset.split)
    inputs = inputs_of_model(description.inputs)
    survey = survey_part(split.test, dataset=settings.dataset, inputs=inputs, classes=classes, store=store)
    failed = failures(survey.outcomes)
    if not survey.sources:
        raise DatasetError(
            f"None of the {len(failed)} test videos can be used; the first: {failed[0].reason}"
        )
    _check_untrained(survey.sources, trained=trained, run=run)
    target = store.evaluation_folder(_key(run, survey.sources, failed))
    with artefact_lock(target):
        evaluated = not is_finished(target)
        if evaluated:
            _evaluate_into(target, settings=settings, run=run, sources=survey.sources, failed=failed)
    scores: dict[str, dict[str, float]] = read_manifest(target)["scores"]
    promotion = _register(settings, run=run, sources=survey.sources, scores=scores[CONVENTIONS[0]])
    return EvaluateOutcome(
        run=run,
        evaluated=evaluated,
        folder=target,
        scores=scores,
        promotion=promotion,
        outcomes=survey.outcomes,
        notes=(*(source.note for source in survey.sources if source.note), *description.notices),
    )


def _check_classes(description: ModelDescription, names: Sequence[str], *, source: Path) -> None:
    if description.class_names != tuple(names):
        raise DatasetError(
            f"The model knows {len(description.class_names)} classes ({', '.join(description.class_names[:3])}, ...), "
            f"{source} names {len(names)} ({', '.join(names[:3])}, ...). Use the mapping it was trained with."
        )


def _check_untrained(sources: Sequence[LabelledSource], *, trained: Mapping[str, Any], run: str) -> None:
    # Keys of features hold the digest of the video's content: a copy under another name is found too.
    content = {key for keys in trained["videos"].values() for key in keys}
    shared = sorted(
        source.video.id
        for source in sources
        if source.video.id in trained["videos"] or content & set(source.stored.keys)
    )
    if shared:
        raise DatasetError(
            f"Run {run[:12]} was trained on test video {shared[0]!r}, or a copy of it ({len(shared)} such videos). "
            "Score it with the split it was trained with, and remove copies."
        )


def _key(run: str, sources: Sequence[LabelledSource], failed: Sequence[VideoOutcome]) -> str:
    return digest_of(
        {
            "version": EVALUATE_VERSION,
            "run": run,
            "videos": [[source.video.id, *source.stored.keys, source.label_digest] for source in sources],
            "failed": [[outcome.video, outcome.reason] for outcome in failed],
        }
    )


def _evaluate_into(
    folder: Path,
    *,
    settings: RunSettings,
    run: str,
    sources: Sequence[LabelledSource],
    failed: Sequence[VideoOutcome],
) -> None:
    start_folder(folder)
    store = Store(settings.store)
    model = load_model(store.run_folder(run), device=choose_device(settings.extraction.device))
    timelines = [_timeline(source, model=model, store=store) for source in sources]
    described = model.description
    labelled = [
        LabelledPrediction(video_id=timeline.video_id, truth=timeline.truth, predicted=timeline.predicted)
        for timeline in timelines
        if timeline.truth is not None
    ]
    scores = [
        evaluate(
            labelled,
            class_names=described.class_names,
            background=described.background,
            convention=convention,
        )
        for convention in CONVENTIONS
    ]
    report = Report(
        title=settings.dataset.title,
        run_id=run,
        created_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        scores=scores,
        timelines=timelines,
        epochs=read_curves(store.run_folder(run)),
        settings=settings.model_dump(mode="json") | {"model": described.config.to_mapping()},
        lineage=_lineage(store.run_folder(run), described, sources=sources),
        notices=described.notices,
        failures=[Failure(what=outcome.video, reason=outcome.reason) for outcome in failed],
    )
    write_report(folder, report)
    finish_folder(
        folder,
        {
            "kind": "evaluation",
            "version": EVALUATE_VERSION,
            "run": run,
            "scores": {score.convention: headline(score) for score in scores},
        },
    )


def headline(scores: Scores) -> dict[str, float]:
    """The figures of the papers' tables, in percent; ``Acc`` without background where there is one."""
    figures = {"frame accuracy": scores.frame_accuracy, "edit": scores.edit}
    if scores.foreground_accuracy is not None:
        figures["foreground accuracy"] = scores.foreground_accuracy
    return figures | {f"f1@{percent}": value for percent, value in scores.f1.items()}


def _timeline(source: LabelledSource, *, model: TrainedModel, store: Store) -> VideoTimeline:
    prediction = predict_frames(source.stored, model=model, store=store)
    count = len(source.labels)
    return VideoTimeline(
        video_id=source.video.id,
        times=source.video.facts.frame_times[:count],
        truth=source.labels,
        predicted=prediction.labels[:count],
        confidence=prediction.confidence[:count],
    )


def _lineage(
    run_folder: Path, described: ModelDescription, *, sources: Sequence[LabelledSource]
) -> dict[str, Any]:
    trained = read_manifest(run_folder)
    return {
        "run": run_folder.name,
        "git revision": trained["git_revision"],
        "machine": trained["machine"],
        "seconds of training": trained["seconds"],
        "seed": trained["seed"],
        "features": [dataclasses.asdict(item) for item in described.inputs],
        "text embeddings": described.text
        and {
            "model": described.text.model,
            "weights": described.text.weights_digest,
            "random weights": described.text.random_weights,
        },
        "training videos": sorted(trained["videos"]),
        "test videos": {source.video.id: source.video.video_hash for source in sources},
    }


def _register(
    settings: RunSettings, *, run: str, sources: Sequence[LabelledSource], scores: Mapping[str, float]
) -> Promotion:
    store = Store(settings.store)
    folder = store.run_folder(run)
    registry = Registry(store)
    entry = registry.register(
        settings.dataset.title,
        run=run,
        test=digest_of({source.video.video_hash: source.label_digest for source in sources}),
        scores=scores,
        parameters=_parameters(read_description(folder), seed=read_manifest(folder)["seed"]),
        curves=read_curves(folder),
    )
    return promote_if_better(registry, entry)


def _parameters(described: ModelDescription, *, seed: int) -> dict[str, str]:
    training = described.config.training
    return {
        "model": described.kind,
        "blocks": described.config.model.blocks,
        "tokens": str(described.config.model.num_tokens),
        "features": ",".join(item.spec for item in described.inputs),
        "random weights": str(bool(described.notices)),
        "epochs": str(training.epochs),
        "learning rate": str(training.lr),
        "batch size": str(training.batch_size),
        "seed": str(seed),
    }


def find_evaluations(store: Store, *, run: str, model: str) -> list[dict[str, Any]]:
    """Every evaluation of a run: its scores and where its report lies.

    Args:
        store: The store.
        run: Key of a run, or its first digits; empty for the champion of ``model``.
        model: Name in the registry; may be empty where there is one model only.

    Raises:
        MissingArtefactError: There is no such run, or it was never evaluated.
    """
    key = find_run(store, run) if run else Registry(store).champion(model).run
    found = []
    for folder in sorted((store.root / "evaluations").glob("*")):
        if not is_finished(folder):
            continue
        facts = read_manifest(folder)
        if facts["run"] == key:
            found.append({"run": key, "scores": facts["scores"], "report": str(folder / "report.html")})
    if not found:
        raise MissingArtefactError(f"Run {key[:12]} was never evaluated. Run `factseg evaluate` on it.")
    return found
