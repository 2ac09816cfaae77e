"""The steps of retraining, whoever carries them out."""

import logging
from dataclasses import replace
from functools import partial
from typing import Any

from flows.reports import StageReport
from flows.runner import Runner
from flows.stages import StageCaller, merge_outcomes, prepare
from pipeline.dataset import dataset_classes
from pipeline.model import read_description
from pipeline.promotion import rolled_back_reason
from pipeline.retraining import (
    News,
    Verdict,
    drift_of_news,
    find_news,
    judge,
    predict_test_videos,
    training_content,
)
from pipeline.settings import EvaluateSettings, RunSettings
from pipeline.settings_operations import RetrainSettings
from storage.atomic import artefact_lock
from storage.folders import read_manifest
from storage.registry import RegisteredRun, Registry
from storage.store import Store

log = logging.getLogger(__name__)


def retrain_stage(settings: RetrainSettings, runner: Runner, call: StageCaller) -> StageReport:
    """A challenger where labelled videos are new or changed since the champion, promoted where it is not worse.

    A failure on the way changes nothing: the champion stays what it was until the last step.
    """
    store = Store(settings.store)
    name = settings.dataset.title
    # The deployment's limit lets a second run wait; this lets one from another command line wait, too.
    with artefact_lock(store.root / "retrain" / name):
        champion = Registry(store).champions().get(name)
        news = runner.run("find-news", partial(_news, settings, champion))
        facts: dict[str, Any] = {"model": name, "news": str(news)}
        if champion is not None and not news:
            facts |= {"promoted": False, "champion": champion.version, "decision": str(news)}
            return StageReport(stage="retrain", facts=facts, conclusion=str(news))
        return _challenge(settings, runner, call, champion=champion, news=news, facts=facts)


def _news(settings: RetrainSettings, champion: RegisteredRun | None) -> News:
    trained = read_manifest(Store(settings.store).run_folder(champion.run))["content"] if champion else {}
    return find_news(training_content(settings), trained)


def _challenge(
    settings: RetrainSettings,
    runner: Runner,
    call: StageCaller,
    *,
    champion: RegisteredRun | None,
    news: News,
    facts: dict[str, Any],
) -> StageReport:
    plain = RunSettings(**{field: getattr(settings, field) for field in RunSettings.model_fields})
    reports = [] if settings.dataset.has_features else prepare(plain, call)
    reports.append(call("train", plain))
    run = str(reports[-1].facts["run"])
    reports.append(call("evaluate", EvaluateSettings(**dict(plain), run=run, promote=False)))
    scored = reports[-1].facts
    facts |= {
        "run": run,
        "version": scored["version"],
        "report": scored["report"],
        "scores": scored["scores"],
    }
    if champion is None or champion.run == run:
        reason = "it is the first model of this name" if champion is None else "the champion is this very run"
        facts |= {"promoted": champion is None, "champion": scored["champion"], "decision": reason}
    else:
        facts["drift"] = runner.run(
            "measure-drift", partial(drift_of_news, settings, run=champion.run, news=news)
        )
        verdict = runner.run("judge-challenger", partial(_judge, settings, champion=champion, run=run))
        facts |= _decide(Store(settings.store), champion, run=run, verdict=verdict, drift=facts["drift"])
    return StageReport(
        stage="retrain",
        outcomes=merge_outcomes([report.outcomes for report in reports]),
        facts=facts,
        notes=tuple(dict.fromkeys(note for report in reports for note in report.notes)),
        conclusion=f"{'promoted' if facts['promoted'] else 'not promoted'}: {facts['decision']}",
    )


def _judge(settings: RetrainSettings, *, champion: RegisteredRun, run: str) -> Verdict:
    description = read_description(Store(settings.store).run_folder(run))
    return judge(
        predict_test_videos(settings, run=champion.run),
        predict_test_videos(settings, run=run),
        class_names=dataset_classes(settings.dataset, store=Store(settings.store)).names,
        background=description.background,
        settings=settings,
    )


def _decide(
    store: Store, champion: RegisteredRun, *, run: str, verdict: Verdict, drift: float | None
) -> dict[str, Any]:
    """Write the decision into the registry, then carry it out."""
    registry = Registry(store)
    challenger = next(entry for entry in registry.versions(champion.name) if entry.run == run)
    if challenger.rolled_back:
        reasons = (rolled_back_reason(challenger), *verdict.reasons)
        verdict = replace(verdict, promote=False, reasons=reasons)
    registry.note_decision(challenger, verdict.facts() | {"champion": champion.version, "drift": drift})
    if verdict.promote:
        registry.promote(challenger)
    now = challenger if verdict.promote else champion
    decision = "; ".join(verdict.reasons)
    log.info(
        "version %d is %s: %s",
        challenger.version,
        "promoted" if verdict.promote else "not promoted",
        decision,
    )
    return {
        "promoted": verdict.promote,
        "champion": now.version,
        "decision": decision,
        "verdict": verdict.facts(),
    }
