"""What people see of a run while it lasts and when it failed."""

import logging
import threading
from types import SimpleNamespace
from uuid import uuid4

import httpx
import pytest
from prefect.states import Crashed

from flows import chain, hooks
from flows.chain import FLOWS, conclude, gpu_slot
from flows.reports import RUN_LOG, StageReport
from flows.retrain import retrain
from pipeline import progress
from pipeline.outcome import VideoOutcome


@pytest.fixture
def artifacts(monkeypatch):
    """Progress artifacts that were asked for, by id; time moves when the test says so."""
    made = SimpleNamespace(values={}, requests=0, now=0.0)

    def create(percent, *, description):
        made.requests += 1
        key = uuid4()
        made.values[key] = (description, percent)
        return key

    def update(key, percent, *, description):
        made.requests += 1
        made.values[key] = (description, percent)

    monkeypatch.setattr(hooks, "create_progress_artifact", create)
    monkeypatch.setattr(hooks, "update_progress_artifact", update)
    monkeypatch.setattr(hooks.FlowRunContext, "get", lambda: SimpleNamespace(flow_run=None))
    monkeypatch.setattr(hooks.time, "monotonic", lambda: made.now)
    return made


def test_work_that_lasts_has_a_progress_artifact_that_is_seldom_brought_up_to_date(artifacts):
    with hooks.progress_artifacts():
        for second in range(101):
            artifacts.now = float(second)
            progress.report("extract a.mp4", done=second, total=100, unit="frames", note="1.0 frames/s")
    assert list(artifacts.values.values()) == [("extract a.mp4 1.0 frames/s", 100.0)]
    assert artifacts.requests <= 100 / hooks.PROGRESS_EVERY_SECONDS + 1


def test_thousands_of_short_videos_make_no_progress_artifact(artifacts):
    with hooks.progress_artifacts():
        for number in range(1000):
            for done in range(5):
                artifacts.now += 0.5
                progress.report(f"extract {number}.mp4", done=done, total=4, unit="frames")
    assert artifacts.requests == 0


def report_of_work(*, seconds):
    for second in range(seconds + 1):
        yield second
        progress.report("extract a.mp4", done=second, total=seconds, unit="frames")


def test_a_server_that_is_gone_breaks_no_work_and_is_named_once(artifacts, monkeypatch, caplog):
    gone = []

    def refuse(*_, **__):
        gone.append(True)
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(hooks, "create_progress_artifact", refuse)
    with caplog.at_level(logging.WARNING, logger=RUN_LOG), hooks.progress_artifacts():
        for second in report_of_work(seconds=60):
            artifacts.now = float(second)
    # It is asked again each time, for it may be back.
    assert len(gone) == 6
    assert [record.getMessage() for record in caplog.records] == [
        "progress cannot be shown for now: connection refused"
    ]


def test_progress_of_a_server_that_is_back_is_shown(artifacts, monkeypatch):
    create = hooks.create_progress_artifact
    answers = [httpx.ReadTimeout("late"), httpx.ReadTimeout("late")]

    def late(percent, *, description):
        if answers:
            raise answers.pop()
        return create(percent, description=description)

    monkeypatch.setattr(hooks, "create_progress_artifact", late)
    with hooks.progress_artifacts():
        for second in report_of_work(seconds=60):
            artifacts.now = float(second)
    assert list(artifacts.values.values()) == [("extract a.mp4", 100.0)]


def test_a_server_that_does_not_answer_holds_up_neither_the_work_nor_its_end(artifacts, monkeypatch):
    answer, asked = threading.Event(), threading.Event()

    def hang(*_, **__):
        asked.set()
        assert answer.wait(60)
        return uuid4()

    monkeypatch.setattr(hooks, "LAST_WORDS_SECONDS", 0.2)
    monkeypatch.setattr(hooks, "create_progress_artifact", hang)
    with hooks.progress_artifacts():
        for second in report_of_work(seconds=60):
            artifacts.now = float(second)
        assert asked.wait(60)
    assert not answer.is_set()
    answer.set()


@pytest.mark.usefixtures("artifacts")
def test_artifacts_that_cannot_be_made_undo_no_work(monkeypatch, caplog):
    def refuse(*_, **__):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(hooks, "create_table_artifact", refuse)
    outcomes = (VideoOutcome(video="a", status="done"),)
    with caplog.at_level(logging.WARNING, logger=RUN_LOG):
        state = conclude(lambda: StageReport(stage="extract", outcomes=outcomes))
    assert (state.is_completed(), state.message) == (True, "1 done, 0 skipped")
    assert "the artifacts of extract could not be made: connection refused" in caplog.text


@pytest.mark.usefixtures("artifacts")
def test_a_table_that_leaves_videos_out_says_so_and_keeps_the_failed_ones(monkeypatch):
    made = []
    monkeypatch.setattr(hooks, "create_table_artifact", lambda rows, **named: made.append((rows, named)))
    outcomes = [VideoOutcome(video=f"v{number}", status="done") for number in range(1200)]
    outcomes[-1] = VideoOutcome(video="v1199", status="failed", reason="no video stream")
    hooks.publish(StageReport(stage="extract", outcomes=tuple(outcomes)))
    ((rows, named),) = made
    assert (len(rows), rows[0]["video"]) == (1000, "v1199")
    assert named["description"] == "What became of each video (the first 1000 of 1200, failed ones first)."


def test_every_flow_says_in_the_log_how_it_failed_and_what_to_do(caplog):
    assert all(
        flow.on_failure_hooks == flow.on_crashed_hooks == [hooks.note_failure]
        for flow in (*FLOWS.values(), retrain)
    )
    flow, run = SimpleNamespace(name="extract"), SimpleNamespace(name="proud-owl")
    with caplog.at_level(logging.ERROR, logger=RUN_LOG):
        hooks.note_failure(flow, run, Crashed(message="its process was killed."))
    assert "proud-owl of extract ended Crashed: its process was killed. What it stored is kept" in caplog.text


def test_without_the_name_of_a_limit_nobody_waits_for_the_gpu(monkeypatch):
    monkeypatch.delenv(chain.GPU_LIMIT_VARIABLE, raising=False)
    monkeypatch.setattr(chain, "concurrency", lambda *_, **__: pytest.fail("a slot was asked for"))
    with gpu_slot():
        pass
