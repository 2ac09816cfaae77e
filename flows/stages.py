"""The stages and the order of their steps, whoever carries them out.

Every stage is a function of its settings and a ``Runner``: ``flows.chain`` makes a Prefect flow of each, and
``--direct`` calls it as it is.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from flows.reports import StageReport
from flows.runner import Runner
from pipeline.anywhere import extract_anywhere, segment_anywhere
from pipeline.catalogue import find_videos, videos_by_id
from pipeline.errors import DatasetError, SettingsError
from pipeline.evaluate import EvaluateOutcome, evaluate_run
from pipeline.extract_batch import videos_per_task
from pipeline.inputs import resolve_extraction
from pipeline.labels import read_mapping
from pipeline.listing import distinct_names, list_some_videos, printable
from pipeline.outcome import VideoOutcome
from pipeline.remote_videos import VideoAddress, list_remote, name_of, path_in, without_query
from pipeline.results import write_results
from pipeline.segment import choose_run
from pipeline.settings import EmbedSettings, EvaluateSettings, ExtractSettings, RunSettings, SegmentSettings
from pipeline.settings_base import StrictSettings
from pipeline.texts import embed_classes
from pipeline.train import find_trained, train
from storage.datasets import read_dataset
from storage.outcomes import write_outcomes
from storage.places import Address, absolute
from storage.registry import check_tracking
from storage.store import Store

Batched = TypeVar("Batched")

StageCaller = Callable[[str, StrictSettings], StageReport]
"""Calls another stage by name: as a subflow, or directly."""


def extract(settings: ExtractSettings, runner: Runner) -> StageReport:
    """Features of every video that has none yet, and the table of what became of each."""
    if settings.show_predictions:
        _check_predictions(settings)
    # First what costs nothing: a mistyped path waits for no weights, and leaves no store behind. One missing file
    # among others is for its own outcome to say. (`os.path` answers for names of any length.)
    if not any(isinstance(path, str) or os.path.lexists(path) for path in settings.videos):
        others = f", nor is any other of the {len(settings.videos)} given" if len(settings.videos) > 1 else ""
        raise DatasetError(f"{printable(settings.videos[0])} is not there{others}. Check the path.")
    paths, outcomes = _list_videos(settings.videos, recursive=settings.recursive)
    # Before any task starts: without weights none of them could do anything.
    resolve_extraction(settings.extraction, store=Store(settings.store))
    names = _names(paths)
    paths = paths[: settings.limit]
    step = partial(
        extract_anywhere,
        extraction=settings.extraction,
        store=settings.store,
        cache_gib=settings.video_cache_gib,
        dry_run=settings.dry_run,
    )
    batches = _batches(paths, size=videos_per_task(settings.extraction))
    found_by_batch = runner.map("extract-features", step, batches, on=settings.extraction.cluster)
    for batch, made in zip(batches, found_by_batch, strict=True):
        found = _broken(batch, made) if isinstance(made, Exception) else made
        outcomes += [replace(one, video=names[path]) for path, one in zip(batch, found, strict=True)]
    facts: dict[str, Any] = {}
    if not settings.dry_run:
        if settings.show_predictions:
            facts["predictions"] = _see_classes(paths, settings, runner, names=names)
        folder = settings.table or Store(settings.store).tables
        facts["table"] = str(write_outcomes(folder, "extract", [asdict(one) for one in outcomes])[0])
    return StageReport(stage="extract", outcomes=tuple(outcomes), facts=facts)


def _check_predictions(settings: ExtractSettings) -> None:
    """Refuse what would come to light only after hours of extraction.

    Raises:
        SettingsError: Nothing could be shown, or the class names cannot be used.
    """
    from pipeline.predictions import read_class_names

    if any(isinstance(video, str) for video in settings.videos):
        raise SettingsError("--show-predictions takes local videos; leave it out, or give no URL.")
    profiles = settings.extraction.profiles
    if not any(profile.kind == "i3d" for profile in profiles):
        raise SettingsError(
            f"--show-predictions shows what I3D sees, and {', '.join(one.spec for one in profiles)} has no I3D. "
            "Leave it out, or add a profile such as i3d-rgb."
        )
    if settings.class_names is not None:
        read_class_names(settings.class_names)


def _see_classes(
    paths: Sequence[VideoAddress],
    settings: ExtractSettings,
    runner: Runner,
    *,
    names: Mapping[VideoAddress, str],
) -> list[dict[str, Any]]:
    """The Kinetics classes that I3D sees in each video whose features are stored."""
    from pipeline.predictions import predict_classes

    see = partial(
        predict_classes,
        [path for path in paths if isinstance(path, Path)],
        extraction=settings.extraction,
        store=settings.store,
        class_names=settings.class_names,
    )
    found = runner.run("show-predictions", see)
    return [asdict(replace(one, video=names[Path(one.path)])) for one in found]


def embed_text(settings: EmbedSettings, runner: Runner) -> StageReport:
    """Text embeddings of every class that has none yet."""
    store = Store(settings.store)
    if settings.mapping is None:
        names = read_dataset(store, settings.imported).classes
    else:
        names = read_mapping(settings.mapping).names
    step = partial(
        embed_classes,
        names,
        text=settings.text,
        extraction=settings.extraction,
        store=store,
        beside_features=not settings.imported,
    )
    texts = runner.run("embed-classes", step)
    facts = {
        "classes": len(names),
        "encoded": texts.num_encoded,
        "stored": len(texts.sentences) - texts.num_encoded,
        "model": texts.encoder.model,
        "texts": [asdict(sentence) for sentence in texts.sentences],
    }
    return StageReport(stage="embed-text", facts=facts, notes=texts.notices)


def train_model(settings: RunSettings, runner: Runner) -> StageReport:
    """A trained run."""
    outcome = runner.run("train-model", partial(train, settings))
    facts = {"run": outcome.run, "trained": outcome.trained, "epochs": outcome.epochs}
    return StageReport(stage="train", outcomes=outcome.outcomes, facts=facts, notes=outcome.notes)


def evaluate(settings: EvaluateSettings, runner: Runner) -> StageReport:
    """Scores, report and registry entry of a run."""
    run = find_trained(settings)
    outcome: EvaluateOutcome = runner.run(
        "score-run",
        partial(
            evaluate_run, settings, run=run, promote=settings.promote, videos_beside=settings.videos_beside
        ),
    )
    promotion = outcome.promotion
    facts = {
        "run": outcome.run,
        "evaluated": outcome.evaluated,
        "report": absolute(outcome.folder / "report.html"),
        "scores": outcome.scores,
        "intervals": outcome.intervals,
        "zero_shot": outcome.zero_shot,
        "model": promotion.entry.name,
        "version": promotion.entry.version,
        "champion": promotion.champion.version,
        "decision": promotion.reason,
    }
    return StageReport(stage="evaluate", outcomes=outcome.outcomes, facts=facts, notes=outcome.notes)


def segment(settings: SegmentSettings, runner: Runner) -> StageReport:
    """Segments of new videos."""
    paths, outcomes = _list_videos(settings.videos, recursive=settings.recursive)
    names = _names(paths)
    if settings.out is not None:
        _check_file_names(paths)
    run = choose_run(settings)
    step = partial(segment_anywhere, settings=settings, run=run)
    batches = _batches(paths, size=settings.batch_videos)
    videos = []
    for batch, made in zip(batches, runner.map("segment-videos", step, batches), strict=True):
        if isinstance(made, Exception):
            outcomes += _broken(batch, made)
            continue
        for path, video in zip(batch, made, strict=True):
            outcome = replace(video.outcome, video=names[path])
            outcomes.append(outcome)
            if video.prediction:
                videos.append(asdict(replace(video, outcome=outcome)))
    facts: dict[str, Any] = {"run": run, "videos": videos, "latency": _latency(outcomes)}
    if settings.out is not None:
        write = partial(_write_results, videos, store=settings.store, folder=settings.out)
        facts["files"] = runner.run("write-results", write)
    return StageReport(stage="segment", outcomes=tuple(outcomes), facts=facts)


def _write_results(videos: Sequence[Mapping[str, Any]], *, store: Address, folder: Path) -> list[str]:
    """JSON, CSV, WebVTT and a page of every segmented video; the files that were written."""
    opened = Store(store)
    return [
        str(file)
        for video in videos
        for file in write_results(
            Path(video["path"]), prediction=video["prediction"], store=opened, folder=folder
        )
    ]


def _check_file_names(addresses: Sequence[VideoAddress]) -> None:
    """Refuse two videos whose results would have one name, before anything is computed."""
    counts = Counter(name_of(address) for address in addresses)
    name, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise SettingsError(
            f"{count} of the videos are called {name}, and their results would overwrite each other in one folder. "
            "Segment each folder with an --out of its own, or leave it out."
        )


def _latency(outcomes: Sequence[VideoOutcome]) -> dict[str, Any]:
    """How long the videos took that were segmented now: the median, and the slowest; nothing where there is none."""
    done = sorted((one for one in outcomes if one.status == "done"), key=lambda one: one.seconds)
    if not done:
        return {}
    return {
        "median_seconds": median(one.seconds for one in done),
        "slowest_seconds": done[-1].seconds,
        "slowest_video": done[-1].video,
    }


def full_pipeline(settings: RunSettings, call: StageCaller) -> StageReport:
    """Videos and labels in; features, texts, a trained run, scores and a champion out."""
    if not settings.dataset.has_features:
        # A missing or empty folder ends the chain here, before a store is made or anything is computed.
        videos_by_id(settings.dataset.video_source)
    check_tracking(Store(settings.store))
    reports = [] if settings.dataset.has_features else prepare(settings, call)
    reports.append(call("train", settings))
    run = reports[-1].facts["run"]
    reports.append(call("evaluate", EvaluateSettings(**dict(settings), run=run)))
    return StageReport(
        stage="full-pipeline",
        outcomes=merge_outcomes([report.outcomes for report in reports]),
        facts={report.stage: dict(report.facts) for report in reports},
        notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
    )


def prepare(settings: RunSettings, call: StageCaller) -> list[StageReport]:
    """Features of the videos, and texts where they are needed; an imported data set has its features."""
    store, dataset, extraction = settings.store, settings.dataset, settings.extraction
    wanted_videos = ExtractSettings(
        store=store,
        videos=(dataset.video_source,),
        video_cache_gib=dataset.video_cache_gib,
        extraction=extraction,
    )
    extracted = call("extract", wanted_videos)
    outcomes = merge_outcomes([_namesakes(dataset.video_source), extracted.outcomes])
    reports = [replace(extracted, outcomes=outcomes)]
    if settings.training.model == "fact-clip" and settings.dataset.mapping is not None:
        wanted = EmbedSettings(
            store=store, mapping=settings.dataset.mapping, text=settings.text, extraction=extraction
        )
        reports.append(call("embed-text", wanted))
    return reports


def _namesakes(folder: VideoAddress) -> list[VideoOutcome]:
    """Videos that a data set leaves out because another one has their id: features are made, but never trained on."""
    if isinstance(folder, str):
        return []
    return [
        VideoOutcome(video=path.name, status="failed", reason=reason, path=_shown(path))
        for path, reason in find_videos(folder).failed.items()
    ]


STAGES: Mapping[str, Callable[[Any, Runner], StageReport]] = {
    "extract": extract,
    "embed-text": embed_text,
    "train": train_model,
    "evaluate": evaluate,
    "segment": segment,
}
"""Every stage but the one that chains them, by the name of its flow."""


def _names(addresses: Sequence[VideoAddress]) -> dict[VideoAddress, str]:
    """A name for each video that tells it from all others."""
    names = distinct_names([path_in(address) for address in addresses])
    return dict(zip(addresses, names, strict=True))


def _list_videos(
    given: Sequence[VideoAddress], *, recursive: bool
) -> tuple[list[VideoAddress], list[VideoOutcome]]:
    """The files to look at, and what is already known of files that cannot take part.

    Raises:
        DatasetError: A folder is empty.
        VideoError: A folder behind a URL cannot be listed, or holds no video.
    """
    paths: list[VideoAddress] = []
    outcomes: list[VideoOutcome] = []
    for path in given:
        if isinstance(path, str):
            paths += list_remote(path)
            continue
        if not os.path.isdir(path):  # noqa: PTH112  (Path.is_dir raises where a name is too long)
            paths.append(path)
            continue
        listing = list_some_videos(path, recursive=recursive)
        paths += listing.videos
        outcomes += [
            VideoOutcome(video=file.name, status="skipped", reason="not a video", path=_shown(file))
            for file in listing.not_videos
        ]
    return paths, outcomes


def _shown(address: VideoAddress) -> str:
    return without_query(address) if isinstance(address, str) else printable(address.absolute())


def _batches(items: Sequence[Batched], *, size: int) -> list[Sequence[Batched]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _broken(paths: Sequence[VideoAddress], error: Exception) -> list[VideoOutcome]:
    reason = f"unexpected {type(error).__name__}: {error}. Please report it with the log."
    return [
        VideoOutcome(
            video=Path(name_of(path)).stem, status="failed", reason=reason, may_pass=True, path=_shown(path)
        )
        for path in paths
    ]


def merge_outcomes(stages: Sequence[Sequence[VideoOutcome]]) -> tuple[VideoOutcome, ...]:
    """One outcome per video over all stages: the first failure, else what its first stage said."""
    merged: dict[str, VideoOutcome] = {}
    for outcome in (outcome for outcomes in stages for outcome in outcomes):
        known = merged.setdefault(outcome.video, outcome)
        if outcome.status == "failed" and known.status != "failed":
            merged[outcome.video] = outcome
    return tuple(merged.values())
