"""How flows end, without a server: the state of a flow is made from the report of its stage."""

import logging
import pickle
from dataclasses import replace

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.testing.utilities import prefect_test_harness

from flows import chain, hooks, stages
from flows.chain import FLOWS, AllFailedError, PrefectRunner, conclude, report_of
from flows.reports import RUN_LOG, StageReport
from pipeline import progress
from pipeline.errors import DatasetError
from pipeline.outcome import VideoOutcome
from pipeline.overlap import ahead
from pipeline.settings import ExtractSettings
from storage.errors import DiskFullError


def report(*statuses):
    outcomes = [
        VideoOutcome(video=f"v{index}", status=status, reason="" if status == "done" else f"why {index}")
        for index, status in enumerate(statuses)
    ]
    return StageReport(stage="extract", outcomes=tuple(outcomes))


def test_a_flow_whose_videos_all_went_well_completes():
    state = conclude(lambda: report("done", "skipped"))
    assert (state.is_completed(), state.name, state.message) == (True, "Completed", "1 done, 1 skipped")


def test_a_flow_with_a_failed_video_completes_as_partly_failed_and_logs_why(caplog):
    with caplog.at_level(logging.ERROR, logger=RUN_LOG):
        state = conclude(lambda: report("done", "failed", "skipped"))
    assert (state.is_completed(), state.name, state.message) == (True, "PartlyFailed", "1 of 3 failed")
    assert "v1: why 1" in caplog.text


def test_a_flow_whose_videos_all_failed_fails():
    state = conclude(lambda: report("failed", "failed"))
    assert (state.is_failed(), state.message) == (True, "2 of 2 failed")
    # Who calls the flow gets the reasons; the engine of a worker, which raises what it finds, says the sentence.
    assert report_of(state) == report("failed", "failed")
    with pytest.raises(AllFailedError, match=r"^2 of 2 failed$"):
        state.result()


def test_a_text_file_beside_the_videos_counts_as_neither():
    notes = VideoOutcome(video="notes.tsv", status="skipped", reason="not a video")
    failed = StageReport(stage="extract", outcomes=(*report("failed").outcomes, notes))
    assert conclude(lambda: failed).is_failed()


def test_what_a_stage_decided_is_in_the_message_of_its_state():
    idle = StageReport(stage="retrain", conclusion="no labelled video is new or changed")
    assert conclude(lambda: idle).message == "no labelled video is new or changed"
    decided = replace(report("done", "done"), conclusion="promoted: no class loses")
    assert conclude(lambda: decided).message == "2 done, 0 skipped; promoted: no class loses"


def test_steps_are_tried_again_after_a_random_pause_unless_only_a_person_can_help():
    step = PrefectRunner._task("extract-features", lambda given: given)
    assert (step.retries, step.retry_jitter_factor) == (2, 0.5)
    assert step.retry_delay_seconds == [2, 4]
    again = step.retry_condition_fn
    assert again(step, None, Failed(data=ConnectionResetError()))
    assert not again(step, None, Failed(data=DatasetError("there: no such folder. Give another.")))


@pytest.fixture(scope="module")
def embedded_server():
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_server")
def test_a_batch_that_breaks_harms_no_other_and_a_full_disk_starts_no_other(monkeypatch):
    monkeypatch.setattr(chain, "RETRIES", 0)
    tried = []

    def step(batch):
        tried.append(batch)
        if batch == "broken":
            raise ZeroDivisionError
        if batch == "no room":
            raise DiskFullError.writing("a.parquet", "No space left on device")
        return f"{batch} done"

    @flow
    def over(batches):
        return PrefectRunner().map("step", step, batches)

    first, second, third = over(["a", "broken", "c"])
    assert (first, third) == ("a done", "c done")
    assert isinstance(second, ZeroDivisionError)
    tried.clear()
    with pytest.raises(DiskFullError, match=r"no room to write a\.parquet"):
        over(["a", "no room", "c"])
    assert tried == ["a", "no room"]


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_server")
def test_a_step_whose_error_may_pass_is_carried_out_again_and_one_that_a_person_must_mend_is_not():
    tried = []

    def step(batch):
        tried.append(batch)
        if batch == "share" and tried.count("share") == 1:
            raise ConnectionResetError("the share was gone for a moment")
        if batch == "labels":
            raise DatasetError("there: no such folder. Give another.")
        return f"{batch} done"

    @flow
    def over(batches):
        return PrefectRunner().map("step", step, batches)

    assert over(["share"]) == ["share done"]
    assert tried == ["share", "share"]
    with pytest.raises(DatasetError, match="no such folder"):
        over(["labels"])
    assert tried.count("labels") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_server")
def test_progress_that_a_thread_reports_is_an_artifact_of_the_flow_run(monkeypatch):
    monkeypatch.setattr(hooks, "PROGRESS_EVERY_SECONDS", 0.0)

    def decoded():
        for done in range(1, 4):
            progress.report("extract a.mp4", done=done, total=4, unit="frames")
            yield done

    def step(_):
        with ahead(decoded()) as frames:
            return list(frames)

    @flow
    def extracting():
        with hooks.progress_artifacts():
            PrefectRunner().map("step", step, ["batch"])
        return flow_run.id

    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[extracting()]))
    with get_client(sync_client=True) as client:
        (made,) = client.read_artifacts(artifact_filter=wanted)
    assert (made.type, made.data) == ("progress", 75.0)
    assert made.task_run_id is not None


def test_ten_thousand_videos_are_a_task_run_for_every_eight(monkeypatch, tmp_path):
    videos = [tmp_path / f"v{number:05}.mp4" for number in range(10_000)]
    videos[0].touch()
    made = []

    def run_here(name, step):
        def carry_out(given, **_):
            # What crosses the border of a task: paths and settings one way, a few words for each video the other.
            assert len(pickle.dumps((step, given))) < 20_000
            made.append((name, len(given)))
            return Completed(data=[VideoOutcome(video=path.stem, status="skipped") for path in given])

        return carry_out

    monkeypatch.setattr(PrefectRunner, "_task", staticmethod(run_here))
    extraction = {"features": ("clip",), "weights": "random"}
    settings = ExtractSettings(store=tmp_path / "store", videos=tuple(videos), extraction=extraction)
    report = stages.extract(settings, PrefectRunner())
    assert made == [("extract-features", 8)] * 1250
    assert len(report.outcomes) == 10_000


def test_what_a_user_can_mend_fails_the_flow_with_one_sentence():
    def work():
        raise DatasetError("there: no such folder. Give another.")

    state = conclude(work)
    assert (state.is_failed(), state.message) == (True, "there: no such folder. Give another.")


def test_what_nobody_expected_is_raised():
    def work():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        conclude(work)


def test_there_is_a_flow_per_stage_and_one_that_chains_them():
    assert {flow.name for flow in FLOWS.values()} == {
        "extract",
        "embed-text",
        "train",
        "evaluate",
        "segment",
        "full-pipeline",
    }
    assert all(name == flow.name and flow.description for name, flow in FLOWS.items())
