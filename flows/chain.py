"""The Prefect flows: one per stage, and ``full-pipeline`` that chains them as subflows.

How a flow ends: COMPLETED; COMPLETED under the name ``PartlyFailed`` where some videos failed, so that a parent
goes on; FAILED where none succeeded or the data set cannot be used. The state's message is one sentence.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.futures import wait
from prefect.states import Completed, Failed
from prefect.tasks import exponential_backoff

from flows import stages
from flows.hooks import note_failure, progress_artifacts, publish
from flows.ray_cluster import anywhere, check_ray, ray_tasks
from flows.reports import RUN_LOG, StageReport
from flows.runner import EXPECTED_ERRORS
from flows.time_limit import limit_of_environment, time_limit
from pipeline.cluster import RayCluster
from pipeline.errors import SettingsError
from pipeline.outcome import failures, summary
from pipeline.settings import (
    EmbedSettings,
    EvaluateSettings,
    ExtractionSettings,
    ExtractSettings,
    RunSettings,
    SegmentSettings,
)
from pipeline.settings_base import StrictSettings

Given = TypeVar("Given")
Made = TypeVar("Made")

GPU_LIMIT_VARIABLE = "FACTSEG_GPU_LIMIT"
"""Environment variable that names the global concurrency limit which whoever uses the GPU holds."""

RETRIES = 2
"""Tries after the first, where an error may pass: a busy database, a share that was gone for a moment."""

log = logging.getLogger(RUN_LOG)


class AllFailedError(Exception):
    """No video could be used. The data of a FAILED state must be an exception, so this one carries the report."""

    def __init__(self, message: str, report: StageReport) -> None:
        super().__init__(message)
        self.report = report


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Hold a slot of the global concurrency limit that the environment names; none is needed without a name.

    The limit must exist: with a misspelt name nobody would wait for anybody.

    Raises:
        SettingsError: It does not exist.
    """
    name = os.environ.get(GPU_LIMIT_VARIABLE, "")
    if not name:
        yield
        return
    with ExitStack() as slot:
        try:
            # A server that is gone for a while must not end the work of a day: the slot is then merely not renewed.
            slot.enter_context(concurrency(name, occupy=1, strict=True, raise_on_lease_renewal_failure=False))
        except ConcurrencySlotAcquisitionError as error:
            raise SettingsError(
                f"{GPU_LIMIT_VARIABLE} names the limit {name!r}, of which no slot can be had: {error}. "
                f"Make it with `prefect gcl create {name} --limit 1`, or correct the name."
            ) from error
        yield


def may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether to try again: what users must mend is the same the next time."""
    return not isinstance(state.data, EXPECTED_ERRORS)


class PrefectRunner:
    """Carries out steps as Prefect tasks. The store is the only cache; results stay in memory."""

    def run(self, name: str, step: Callable[[], Made]) -> Made:
        """Carry out one step; what it raises is raised."""
        return self._task(name, lambda _: step())(None)

    def map(
        self,
        name: str,
        step: Callable[[Given], Made],
        batches: Sequence[Given],
        *,
        on: RayCluster | None = None,
    ) -> list[Made | Exception]:
        """Carry out a step for every batch; a batch that broke gives its exception and the others go on."""
        if on is not None:
            return self._map_over(on, name, step, batches)
        step_task = self._task(name, step)
        # One batch of videos at a time: a batch already uses every core, or the GPU.
        return [_unless_expected(step_task(batch, return_state=True)) for batch in batches]

    def _map_over(
        self, cluster: RayCluster, name: str, step: Callable[[Given], Made], batches: Sequence[Given]
    ) -> list[Made | Exception]:
        step_task = self._task(name, anywhere(step))
        with ray_tasks(cluster) as tasks:
            futures = [tasks.submit(step_task, {"given": batch}) for batch in anywhere(batches)]
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
            with gpu_slot():
                return step(given)

        return task(
            name=name,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=RETRIES,
            retry_delay_seconds=exponential_backoff(backoff_factor=2),
            retry_jitter_factor=0.5,
            retry_condition_fn=may_pass,
        )(carry_out)


def _unless_expected(state: State[Any]) -> Any:  # noqa: ANN401  (what the task gives)
    """What a task gave, or the exception that broke it; what users can mend is raised, before the next task starts."""
    result = state.result(raise_on_failure=False)
    if isinstance(result, EXPECTED_ERRORS):
        raise result
    return result


def conclude(work: Callable[[], StageReport]) -> State[Any]:
    """Do the work of a flow and turn its report, or an error that users can mend, into the flow's state."""
    try:
        with _around_the_work():
            report = work()
    except EXPECTED_ERRORS as error:
        return Failed(message=str(error), data=error)
    publish(report)
    listed = [outcome for outcome in report.outcomes if outcome.reason != "not a video"]
    failed = failures(listed)
    for outcome in failed:
        log.error("%s: %s", outcome.video, outcome.reason)
    counted = summary(listed) if listed else ""
    message = "; ".join(part for part in (counted, report.conclusion) if part) or "done"
    if not failed:
        return Completed(message=message, data=report)
    if len(failed) < len(listed):
        return Completed(name="PartlyFailed", message=message, data=report)
    return Failed(message=message, data=AllFailedError(message, report))


@contextmanager
def _around_the_work() -> Iterator[None]:
    """The time limit of the environment, for a flow that is nobody's subflow, and progress artifacts."""
    running = FlowRunContext.get()
    if running is None or running.flow_run is None or running.flow_run.parent_task_run_id:
        yield
        return
    with ExitStack() as around:
        around.enter_context(time_limit(str(running.flow_run.id), seconds=limit_of_environment()))
        around.enter_context(progress_artifacts())
        yield


COMMON: Any = {
    "persist_result": False,
    "on_failure": [note_failure],
    "on_crashed": [note_failure],
}
"""What every flow has in common."""


@flow(name="extract", **COMMON)
def extract(settings: ExtractSettings) -> State[Any]:
    """Decode every listed video once and store the features it does not have yet."""
    return conclude(lambda: stages.extract(settings, PrefectRunner()))


@flow(name="embed-text", **COMMON)
def embed_text(settings: EmbedSettings) -> State[Any]:
    """Store the text embedding of every class that has none yet."""
    return conclude(lambda: stages.embed_text(settings, PrefectRunner()))


@flow(name="train", **COMMON)
def train(settings: RunSettings) -> State[Any]:
    """Train a model on the training videos of a split, unless that very run is stored."""
    return conclude(lambda: stages.train_model(settings, PrefectRunner()))


@flow(name="evaluate", **COMMON)
def evaluate(settings: EvaluateSettings) -> State[Any]:
    """Score a run on the test videos, write its report, register it and choose the champion."""
    return conclude(lambda: stages.evaluate(settings, PrefectRunner()))


@flow(name="segment", **COMMON)
def segment(settings: SegmentSettings) -> State[Any]:
    """Segment new videos with the champion."""
    return conclude(lambda: stages.segment(settings, PrefectRunner()))


@flow(name="full-pipeline", **COMMON)
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
    extraction = getattr(settings, "extraction", None)
    if isinstance(extraction, ExtractionSettings) and extraction.cluster is not None:
        # Before an embedded server is started for nothing.
        check_ray()
    return report_of(FLOWS[name](settings, return_state=True))


def report_of(state: State[Any]) -> StageReport:
    """The report of a flow that ended in a state; what it raised is raised."""
    result = state.result(raise_on_failure=False)
    if isinstance(result, StageReport):
        return result
    if isinstance(result, AllFailedError):
        return result.report
    if isinstance(result, BaseException):
        raise result
    raise RuntimeError(f"A flow ended {state.name} without a report: {state.message}")
