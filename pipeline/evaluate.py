"""Evaluation: a trained run and labelled test videos in; scores, report and registry entry out."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from pipeline.catalogue import Video
from pipeline.dataset import LabelledSource, dataset_classes, dataset_split, survey_part
from pipeline.device import choose_device
from pipeline.errors import DatasetError
from pipeline.evaluate_files import CONVENTIONS, score_all, score_facts
from pipeline.inputs import ModelInput, imported_inputs, inputs_of_model
from pipeline.licences import licence_notice
from pipeline.metrics import LabelledPrediction
from pipeline.model import ModelDescription, TrainedModel, load_model, read_description
from pipeline.outcome import VideoOutcome, failures
from pipeline.predict import predict_frames
from pipeline.promotion import Promotion, promote_if_better
from pipeline.report import Failure, Report, VideoTimeline, write_report
from pipeline.run_files import read_curves
from pipeline.settings import DatasetSettings, RunSettings
from storage.atomic import artefact_lock
from storage.datasets import read_dataset
from storage.errors import MissingArtefactError
from storage.folders import finish_folder, is_finished, read_manifest, start_folder
from storage.keys import digest_of
from storage.places import Place, absolute, listed
from storage.registry import Registry, check_tracking
from storage.runs import find_run
from storage.store import Store

EVALUATE_VERSION = 4
"""Version of the code between weights and scores; part of every evaluation's key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOutcome:
    """What an evaluation ended with."""

    run: str
    evaluated: bool
    """False where this evaluation was already there."""
    folder: Place
    """Folder with ``report.html``, ``report.json`` and ``report.md``."""
    scores: dict[str, dict[str, float]]
    """Percent by name, by convention."""
    intervals: dict[str, dict[str, list[float] | None]]
    """95 % interval by name, by convention."""
    zero_shot: dict[str, dict[str, dict[str, float | None]]]
    """Percent by name for seen, unseen and their harmonic mean, by convention; empty where no class was held out."""
    promotion: Promotion
    """The registered version, the champion now, and why."""
    outcomes: tuple[VideoOutcome, ...]
    """What became of each test video."""
    notes: tuple[str, ...]
    """Sentences worth showing: labels that were cut, random weights."""


def evaluate_run(
    settings: RunSettings, *, run: str, promote: bool = True, videos_beside: str = ""
) -> EvaluateOutcome:
    """Score a finished run on the test videos, write the report, register it and choose the champion.

    Args:
        settings: The data set; features are those the run was trained with.
        run: Key of the run.
        promote: Whether it becomes champion where its scores are the best; else only a first model does.
        videos_beside: Where the report's page finds the video files; see ``Report.videos_beside``.

    Raises:
        DatasetError: No test video can be used, or classes or imported features are not those of the model.
    """
    store = Store(settings.store)
    check_tracking(store)
    folder = store.run_folder(run)
    trained = read_manifest(folder)
    description = read_description(folder)
    classes = dataset_classes(settings.dataset, store=store)
    _check_classes(description, classes.names, source=settings.dataset.class_source)
    split = dataset_split(settings.dataset, store=store)
    inputs = inputs_of_model(description.inputs)
    _check_features(settings.dataset, inputs, store=store)
    survey = survey_part(split.test, dataset=settings.dataset, inputs=inputs, classes=classes, store=store)
    failed = failures(survey.outcomes)
    if not survey.sources:
        raise DatasetError(
            f"None of the {len(failed)} test videos can be used; the first: {failed[0].reason}"
        )
    check_untrained(survey.sources, trained=trained, run=run)
    target = store.evaluation_folder(evaluation_key(run, survey.sources, failed, videos_beside=videos_beside))
    with artefact_lock(target):
        evaluated = not is_finished(target)
        if evaluated:
            _evaluate_into(
                target,
                settings=settings,
                run=run,
                videos_beside=videos_beside,
                sources=survey.sources,
                failed=failed,
            )
    found = read_manifest(target)
    scores: dict[str, dict[str, float]] = found["scores"]
    promotion = _register(
        settings, run=run, sources=survey.sources, scores=scores[CONVENTIONS[0]], promote=promote
    )
    return EvaluateOutcome(
        run=run,
        evaluated=evaluated,
        folder=target,
        scores=scores,
        intervals=found["intervals"],
        zero_shot=found["zero_shot"],
        promotion=promotion,
        outcomes=survey.outcomes,
        notes=(*(source.note for source in survey.sources if source.note), *description.notices),
    )


def _check_classes(description: ModelDescription, names: Sequence[str], *, source: str) -> None:
    """Refuse a data set of other classes, or of the same in another order; the first that differs is named."""
    trained = description.class_names
    if trained == tuple(names):
        return
    pairs = zip_longest(trained, names)
    first, (theirs, ours) = next((index, pair) for index, pair in enumerate(pairs) if pair[0] != pair[1])
    raise DatasetError(
        f"The model knows {len(trained)} classes, {source} names {len(names)}, and class {first} is the first that "
        f"differs: {_named(theirs)} for the model, {_named(ours)} here. Use the mapping it was trained with."
    )


def _named(name: str | None) -> str:
    return "none" if name is None else repr(name)


def _check_features(dataset: DatasetSettings, inputs: Sequence[ModelInput], *, store: Store) -> None:
    """Refuse imported features of another profile or width; others are looked up by their profile and weights."""
    if not dataset.has_features:
        return
    theirs = ", ".join(item.profile.spec for item in inputs)
    ours = ", ".join(item.profile.spec for item in imported_inputs(read_dataset(store, dataset.imported)))
    if theirs != ours:
        raise DatasetError(
            f"The model was trained on features {theirs}; the imported data set {dataset.imported!r} has {ours}. "
            "Score it on a data set of the same features, or on videos given with --videos."
        )


def check_untrained(sources: Sequence[LabelledSource], *, trained: Mapping[str, Any], run: str) -> None:
    """Refuse to score a run on a video that it was trained on, under whatever name.

    Args:
        sources: The test videos.
        trained: Manifest of the run.
        run: Its key.

    Raises:
        DatasetError: One of them was trained on.
    """
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


def evaluation_key(
    run: str, sources: Sequence[LabelledSource], failed: Sequence[VideoOutcome], *, videos_beside: str = ""
) -> str:
    """Name of the evaluation of a run on some labelled videos, without those that failed."""
    return digest_of(
        {
            "version": EVALUATE_VERSION,
            "run": run,
            "videos": [[source.video.id, *source.stored.keys, source.label_digest] for source in sources],
            "failed": [[outcome.video, outcome.reason] for outcome in failed],
            "videos beside": videos_beside,
        }
    )


def _evaluate_into(
    folder: Place,
    *,
    settings: RunSettings,
    run: str,
    videos_beside: str,
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
    scores, zero_shot = score_all(
        labelled,
        class_names=described.class_names,
        background=described.background,
        unseen=described.config.unseen_classes,
    )
    report = Report(
        title=settings.dataset.title,
        run_id=run,
        created_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        scores=scores,
        zero_shot=zero_shot,
        timelines=timelines,
        epochs=read_curves(store.run_folder(run)),
        settings=settings.model_dump(mode="json") | {"model": described.config.to_mapping()},
        lineage=_lineage(store.run_folder(run), described, sources=sources),
        notices=(*described.notices, *licence_notices(described)),
        failures=[Failure(what=outcome.video, reason=outcome.reason) for outcome in failed],
        videos_beside=videos_beside,
    )
    write_report(folder, report)
    finish_folder(
        folder,
        {
            "kind": "evaluation",
            "version": EVALUATE_VERSION,
            "run": run,
            "created_at": report.created_at,
            **score_facts(scores, zero_shot),
        },
    )


def _timeline(source: LabelledSource, *, model: TrainedModel, store: Store) -> VideoTimeline:
    prediction = predict_frames(source.stored, model=model, store=store)
    count = len(source.labels)
    return VideoTimeline(
        video_id=source.video.id,
        times=source.video.facts.frame_times[:count],
        truth=source.labels,
        predicted=prediction.labels[:count],
        confidence=prediction.confidence[:count],
        file=source.video.path.name if isinstance(source.video, Video) else "",
    )


def _lineage(
    run_folder: Place, described: ModelDescription, *, sources: Sequence[LabelledSource]
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
            "licence": described.text.licence,
        },
        "training videos": sorted(trained["videos"]),
        "test videos": {source.video.id: source.video.video_hash for source in sources},
    }


def licence_notices(described: ModelDescription) -> tuple[str, ...]:
    """Plain sentences on real weights whose licence is not on record, or asks for more than a notice."""
    made = [(f"features {item.spec}", item) for item in described.inputs if not item.random_weights]
    sentences = [
        licence_notice(what, licence=item.licence, digest=item.weights_digest) for what, item in made
    ]
    text = described.text
    if text is not None and not text.random_weights:
        sentences.append(
            licence_notice(
                f"text embeddings of {text.model}", licence=text.licence, digest=text.weights_digest
            )
        )
    return tuple(sentence for sentence in sentences if sentence)


def _register(
    settings: RunSettings,
    *,
    run: str,
    sources: Sequence[LabelledSource],
    scores: Mapping[str, float],
    promote: bool,
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
    champion = registry.champions().get(entry.name)
    if promote or champion is None:
        return promote_if_better(registry, entry)
    return Promotion(entry=entry, champion=champion, reason="it was only registered")


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
    """Every evaluation of a run, the latest last: its scores and where its report lies.

    Args:
        store: The store.
        run: Key of a run, or its first digits; empty for the champion of ``model``.
        model: Name in the registry; may be empty where there is one model only.

    Raises:
        MissingArtefactError: There is no such run, or it was never evaluated.
    """
    key = find_run(store, run) if run else Registry(store).champion(model).run
    found = []
    for folder in listed(store.root / "evaluations", "*"):
        if not is_finished(folder):
            continue
        facts = read_manifest(folder)
        if facts["run"] == key:
            found.append(
                {
                    "run": key,
                    **{name: facts.get(name, {}) for name in ("scores", "intervals", "zero_shot")},
                    "created_at": facts.get("created_at", ""),
                    "report": absolute(folder / "report.html"),
                }
            )
    if not found:
        raise MissingArtefactError(f"Run {key[:12]} was never evaluated. Run `factseg evaluate` on it.")
    return sorted(found, key=lambda facts: str(facts["created_at"]))
