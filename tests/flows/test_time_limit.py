"""A run over its limit dies, whatever becomes of the note that it did."""

import os
import subprocess
import sys
import threading
import time
from uuid import uuid4

import pytest

from flows import time_limit
from tests.flows.conftest import ROOT

NOBODY = "http://127.0.0.1:9/api"
"""An address where no server answers: the port of `discard`, which nothing serves."""


@pytest.fixture
def hanging():
    """A process that would go on for an hour."""
    with subprocess.Popen(["sleep", "3600"]) as process:
        yield process
        process.kill()


@pytest.fixture
def never_over(monkeypatch):
    """Standard input of a watcher whose run does not end."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w"):
        monkeypatch.setattr(time_limit.sys, "stdin", stdin)
        yield


def test_a_run_over_its_limit_is_killed_where_no_server_answers(hanging):
    command = [sys.executable, "-m", "flows.time_limit", str(hanging.pid), "0.5", str(uuid4())]
    environment = {**os.environ, "PREFECT_API_URL": NOBODY}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=ROOT, text=True
    ) as watcher:
        assert hanging.wait(timeout=120) == -9
        _, said = watcher.communicate(timeout=60)
    assert watcher.returncode == 0
    assert "could not be noted as TimedOut" in said


@pytest.mark.usefixtures("never_over")
def test_a_server_that_never_answers_holds_up_the_kill_no_longer_than_allowed(hanging, monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(time_limit, "NOTE_SECONDS", 0.3)
    monkeypatch.setattr(time_limit, "_note_timed_out", lambda *_: answer.wait(60))
    started = time.monotonic()
    assert time_limit.watch(hanging.pid, seconds=0.1, flow_run_id=str(uuid4()))
    answer.set()
    assert hanging.wait(timeout=10) == -9
    assert time.monotonic() - started < 30


@pytest.mark.usefixtures("never_over")
def test_the_note_comes_before_the_kill(hanging, monkeypatch):
    alive = []
    monkeypatch.setattr(time_limit, "_note_timed_out", lambda *_: alive.append(hanging.poll() is None))
    assert time_limit.watch(hanging.pid, seconds=0.1, flow_run_id=str(uuid4()))
    assert hanging.wait(timeout=10) == -9
    assert alive == [True]
