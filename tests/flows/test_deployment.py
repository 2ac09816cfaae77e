"""Deployments on a real server with a real worker, as an operator starts them."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.flows.conftest import ROOT

pytestmark = pytest.mark.slow

DEADLINE_SECONDS = 300


def prefect(*arguments, environment, timeout=DEADLINE_SECONDS):
    ran = subprocess.run(
        [sys.executable, "-m", "prefect", *map(str, arguments)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(answers, *, what):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if answers():
            return
        time.sleep(0.5)
    pytest.fail(f"{what} did not come up within {DEADLINE_SECONDS} s")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Environment of a running server with a pool, its deployments and a worker."""
    home = tmp_path_factory.mktemp("server")
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    log = (home / "log").open("w")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    started = [subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)]

    def is_healthy():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    try:
        wait_for(is_healthy, what="the server")
        prefect("work-pool", "create", "--type", "process", "factseg", environment=environment)
        prefect("--no-prompt", "deploy", "--all", environment=environment)
        worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "factseg", "--name", "bench"]
        started.append(subprocess.Popen(worker, env=environment, cwd=ROOT, stdout=log, stderr=log))
        yield environment
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            process.wait(timeout=60)
        log.close()


def test_both_deployments_are_there_with_their_descriptions(server):
    listed = json.loads(prefect("deployment", "ls", "--output", "json", environment=server))
    assert {entry["name"] for entry in listed} >= {"full-pipeline", "segment"}
    assert all(entry["description"] for entry in listed)


def test_a_deployment_run_segments_a_video_on_the_worker(server, trained, dataset):
    store, _ = trained
    video = dataset / "videos" / "a.mp4"
    before = set((store / "predictions").glob("*.parquet"))
    settings = json.dumps({"videos": [str(video)], "store": str(store)})
    printed = prefect(
        *("deployment", "run", "segment/segment", "--param", f"settings={settings}", "--watch"),
        environment=server,
    )
    assert "Completed" in printed or "finished successfully" in printed.lower()
    assert len(set((store / "predictions").glob("*.parquet")) - before) == 1


def test_a_wrong_parameter_is_refused_before_the_run_starts(server):
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "prefect",
            "deployment",
            "run",
            "segment/segment",
            "--param",
            'settings={"vidoes": []}',
        ],
        env=server,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert ran.returncode != 0
    assert "vidoes" in ran.stdout + ran.stderr or "videos" in ran.stdout + ran.stderr


def test_the_full_pipeline_runs_on_the_worker(server, dataset, tmp_path):
    settings = {
        "store": str(tmp_path / "store"),
        "dataset": {
            "videos": str(dataset / "videos"),
            "labels": str(dataset / "labels"),
            "mapping": str(dataset / "mapping.txt"),
            "splits": str(dataset / "splits"),
            "name": "tiny",
        },
        "extraction": {"features": ["clip:stride=5"], "weights": "random"},
        "training": {"recipe": str(dataset / "tiny.yaml"), "epochs": 3},
    }
    prefect(
        *(
            "deployment",
            "run",
            "full-pipeline/full-pipeline",
            "--param",
            f"settings={json.dumps(settings)}",
            "--watch",
        ),
        environment=server,
    )
    assert len(list((tmp_path / "store" / "evaluations").glob("*/report.html"))) == 1
