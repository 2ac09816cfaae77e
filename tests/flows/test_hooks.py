"""What people see of a run while it lasts and when it failed."""

import logging
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.states import Crashed

from flows import chain, hooks
from flows.chain import FLOWS, gpu_slot
from flows.reports import RUN_LOG
from flows.retrain import retrain
from pipeline import progress


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
    monkeypatch.setattr(hooks.FlowRunContext, "get", object)
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
