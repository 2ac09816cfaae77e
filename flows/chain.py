"""The Prefect flows: one per stage, and ``full-pipeline`` that chains them as subflows.

How a flow ends: COMPLETED; COMPLETED under the name ``PartlyFailed`` where some videos failed, so that a parent
goes on; FAILED where none succeeded or the data set cannot be used. The state's message is one sentence.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import wait
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import stages
from flows.reports import StageReport
from flows.runner import EXPECTED_ERRORS
from pipeline.outcome import failures, summary
from pipeline.settings import (
    EmbedSettings,
    EvaluateSettings,
    ExtractSettings,
    RunSettings,
    SegmentSettings,
    StrictSettings,
)

Given = TypeVar("Given")
Made = TypeVar("Made")

# One batch of videos at a time: a batch already uses every core, or the GPU.
_ONE_AT_A_TIME: Any = ThreadPoolTaskRunner(max_workers=1)

log = logging.getLogger(__name__)


class PrefectRunner:
    """Carries out steps as Prefect tasks. The store is the only cache; results stay in memory."""

    def run(self, name: str, step: Callable[[], Made]) -> Made:
        """Carry out one step; what it raises is raised."""
        return self._task(name, lambda _: step())(None)

    def map(
        self, name: str, step: Callable[[Given], Made], batches: Sequence[Given]
    ) -> list[Made | Exception]:
        """Carry out a step for every batch; a batch that broke gives its exception and the others go on."""
        step_task = self._task(name, step)
        futures = [step_task.submit(batch) for batch in batches]
        wait(futures)
        results: list[Made | Exception] = [future.result(raise_on_failure=False) for future in futures]
        for result in results:
            if isinstance(result, EXPECTED_ERRORS):
                raise result
        return results

    @staticmethod
    def _task(name: str, step: Callable[[Given], Made]) -> Task[[Given], Made]:
        # A partial has no source for Prefect to look at; a function around it has.
        def carry_out(given: Given) -> Made:
            return step(given)

        return task(name=name, cache_policy=NO_CACHE, persist_result=False)(carry_out)


def conclude(work: Callable[[], StageReport]) -> State[Any]:
    """Do the work of a flow and turn its report, or an error that users can mend, into the flow's state."""
    try:
        report = work()
    except EXPECTED_ERRORS as error:
        return Failed(message=str(error), data=error)
    listed = [outcome for outcome in report.outcomes if outcome.reason != "not a video"]
    failed = failures(listed)
    for outcome in failed:
        log.error("%s: %s", outcome.video, outcome.reason)
    message = summary(listed) if listed else "done"
    if not failed:
        return Completed(message=message, data=report)
    if len(failed) < len(listed):
        return Completed(name="PartlyFailed", message=message, data=report)
    return Failed(message=message, data=report)


@flow(name="extract", task_runner=_ONE_AT_A_TIME, persist_result=False)
def extract(settings: ExtractSettings) -> State[Any]:
    """Decode every listed video once and store the features it does not have yet."""
    return conclude(lambda: stages.extract(settings, PrefectRunner()))


@flow(name="embed-text", task_runner=_ONE_AT_A_TIME, persist_result=False)
def embed_text(settings: EmbedSettings) -> State[Any]:
    """Store the text embedding of every class that has none yet."""
    return conclude(lambda: stages.embed_text(settings, PrefectRunner()))


@flow(name="train", task_runner=_ONE_AT_A_TIME, persist_result=False)
def train(settings: RunSettings) -> State[Any]:
    """Train a model on the training videos of a split, unless that very run is stored."""
    return conclude(lambda: stages.train_model(settings, PrefectRunner()))


@flow(name="evaluate", task_runner=_ONE_AT_A_TIME, persist_result=False)
def evaluate(settings: EvaluateSettings) -> State[Any]:
    """Score a run on the test videos, write its report, register it and choose the champion."""
    return conclude(lambda: stages.evaluate(settings, PrefectRunner()))


@flow(name="segment", task_runner=_ONE_AT_A_TIME, persist_result=False)
def segment(settings: SegmentSettings) -> State[Any]:
    """Segment new videos with the champion."""
    return conclude(lambda: stages.segment(settings, PrefectRunner()))


@flow(name="full-pipeline", task_runner=_ONE_AT_A_TIME, persist_result=False)
def full_pipeline(settings: RunSettings) -> State[Any]:
    """From videos and labels to features, a trained run, scores, a report and a champion."""
    return conclude(lambda: stages.full_pipeline(settings, call_flow))


FLOWS: dict[str, Callable[..., Any]] = {
    "extract": extract,
    "embed-text": embed_text,
    "train": train,
    "evaluate": evaluate,
    "segment": segment,
    "full-pipeline": full_pipeline,
}
"""Every flow by name."""


def call_flow(name: str, settings: StrictSettings) -> StageReport:
    """Run a flow here and return its report, whatever state it ended in.

    Raises:
        PipelineError, StorageError, FactError: The flow failed for a reason that users can mend.
        Exception: What else the flow raised.
    """
    state = FLOWS[name](settings, return_state=True)
    result = state.result(raise_on_failure=False)
    if isinstance(result, StageReport):
        return result
    if isinstance(result, BaseException):
        raise result
    raise RuntimeError(f"Flow {name} ended {state.name} without a report: {state.message}")
