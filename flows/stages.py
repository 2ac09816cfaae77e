"""The stages and the order of their steps, whoever carries them out.

Every stage is a function of its settings and a ``Runner``: ``flows.chain`` makes a Prefect flow of each, and
``--direct`` calls it as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from flows.reports import StageReport
from flows.runner import Runner
from pipeline.catalogue import find_videos
from pipeline.evaluate import EvaluateOutcome, evaluate_run
from pipeline.extract_batch import extract_batch
from pipeline.inputs import resolve_extraction
from pipeline.labels import read_mapping
from pipeline.outcome import VideoOutcome
from pipeline.segment import choose_run, segment_batch
from pipeline.settings import (
    EmbedSettings,
    EvaluateSettings,
    ExtractSettings,
    RunSettings,
    SegmentSettings,
    StrictSettings,
)
from pipeline.texts import embed_classes
from pipeline.train import find_trained, train
from storage.store import Store

Batched = TypeVar("Batched")

StageCaller = Callable[[str, StrictSettings], StageReport]
"""Calls another stage by name: as a subflow, or directly."""


def extract(settings: ExtractSettings, runner: Runner) -> StageReport:
    """Features of every video that has none yet."""
    # Before any task starts: without weights none of them could do anything.
    resolve_extraction(settings.extraction, store=Store(settings.store))
    paths, outcomes = _list_videos(settings.videos)
    step = partial(extract_batch, extraction=settings.extraction, store=settings.store)
    batches = _batches(paths, size=settings.extraction.batch_videos)
    for batch, made in zip(batches, runner.map("extract-features", step, batches), strict=True):
        outcomes += _broken(batch, made) if isinstance(made, Exception) else made
    return StageReport(stage="extract", outcomes=tuple(outcomes))


def embed_text(settings: EmbedSettings, runner: Runner) -> StageReport:
    """Text embeddings of every class that has none yet."""
    names = read_mapping(settings.mapping).names
    step = partial(
        embed_classes, names, text=settings.text, extraction=settings.extraction, store=Store(settings.store)
    )
    texts = runner.run("embed-classes", step)
    facts = {"classes": len(names), "encoded": texts.num_encoded, "model": texts.encoder.model}
    return StageReport(stage="embed-text", facts=facts, notes=texts.notices)


def train_model(settings: RunSettings, runner: Runner) -> StageReport:
    """A trained run."""
    outcome = runner.run("train-model", partial(train, settings))
    facts = {"run": outcome.run, "trained": outcome.trained, "epochs": outcome.epochs}
    return StageReport(stage="train", outcomes=outcome.outcomes, facts=facts, notes=outcome.notes)


def evaluate(settings: EvaluateSettings, runner: Runner) -> StageReport:
    """Scores, report and registry entry of a run."""
    run = find_trained(settings)
    outcome: EvaluateOutcome = runner.run("score-run", partial(evaluate_run, settings, run=run))
    promotion = outcome.promotion
    facts = {
        "run": outcome.run,
        "evaluated": outcome.evaluated,
        "report": str(outcome.folder / "report.html"),
        "scores": outcome.scores,
        "model": promotion.entry.name,
        "version": promotion.entry.version,
        "champion": promotion.champion.version,
        "decision": promotion.reason,
    }
    return StageReport(stage="evaluate", outcomes=outcome.outcomes, facts=facts, notes=outcome.notes)


def segment(settings: SegmentSettings, runner: Runner) -> StageReport:
    """Segments of new videos."""
    paths, outcomes = _list_videos(settings.videos)
    run = choose_run(settings)
    step = partial(segment_batch, settings=settings, run=run)
    batches = _batches(paths, size=settings.batch_videos)
    videos = []
    for batch, made in zip(batches, runner.map("segment-videos", step, batches), strict=True):
        if isinstance(made, Exception):
            outcomes += _broken(batch, made)
            continue
        outcomes += [video.outcome for video in made]
        videos += [asdict(video) for video in made if video.prediction]
    return StageReport(stage="segment", outcomes=tuple(outcomes), facts={"run": run, "videos": videos})


def full_pipeline(settings: RunSettings, call: StageCaller) -> StageReport:
    """Videos and labels in; features, texts, a trained run, scores and a champion out."""
    # A missing or empty folder ends the chain here, before anything is computed.
    find_videos(settings.dataset.videos)
    store, extraction = settings.store, settings.extraction
    reports = [
        call(
            "extract", ExtractSettings(store=store, videos=(settings.dataset.videos,), extraction=extraction)
        )
    ]
    if settings.training.model == "fact-clip":
        reports.append(
            call(
                "embed-text",
                EmbedSettings(
                    store=store, mapping=settings.dataset.mapping, text=settings.text, extraction=extraction
                ),
            )
        )
    reports.append(call("train", settings))
    run = reports[-1].facts["run"]
    reports.append(call("evaluate", EvaluateSettings(**dict(settings), run=run)))
    return StageReport(
        stage="full-pipeline",
        outcomes=_merge([report.outcomes for report in reports]),
        facts={report.stage: dict(report.facts) for report in reports},
        notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
    )


STAGES: Mapping[str, Callable[[Any, Runner], StageReport]] = {
    "extract": extract,
    "embed-text": embed_text,
    "train": train_model,
    "evaluate": evaluate,
    "segment": segment,
}
"""Every stage but the one that chains them, by the name of its flow."""


def _list_videos(given: Sequence[Path]) -> tuple[list[Path], list[VideoOutcome]]:
    """The files to look at, and what is already known of files that cannot take part."""
    paths: list[Path] = []
    outcomes: list[VideoOutcome] = []
    for path in given:
        if not path.is_dir():
            paths.append(path)
            continue
        candidates = find_videos(path)
        paths += candidates.by_id.values()
        outcomes += [
            VideoOutcome(video=file.name, status="failed", reason=reason)
            for file, reason in candidates.failed.items()
        ]
        outcomes += [
            VideoOutcome(video=file.name, status="skipped", reason="not a video")
            for file in candidates.not_videos
        ]
    return paths, outcomes


def _batches(items: Sequence[Batched], *, size: int) -> list[Sequence[Batched]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _broken(paths: Sequence[Path], error: Exception) -> list[VideoOutcome]:
    reason = f"unexpected {type(error).__name__}: {error}. Please report it with the log."
    return [VideoOutcome(video=path.stem, status="failed", reason=reason) for path in paths]


def _merge(stages: Sequence[Sequence[VideoOutcome]]) -> tuple[VideoOutcome, ...]:
    """One outcome per video over all stages: the first failure, else what its first stage said."""
    merged: dict[str, VideoOutcome] = {}
    for outcome in (outcome for outcomes in stages for outcome in outcomes):
        known = merged.setdefault(outcome.video, outcome)
        if outcome.status == "failed" and known.status != "failed":
            merged[outcome.video] = outcome
    return tuple(merged.values())
