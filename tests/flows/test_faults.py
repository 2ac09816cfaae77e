"""What goes wrong while deployments run: workers, servers, decoders, limits. On a real server with real workers."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.encode import write_h264
from tests.flows.conftest import ROOT, write_dataset
from tests.flows.ray_scene import family
from tests.flows.server import deployed, wait_for

pytestmark = pytest.mark.slow

HANGS = """
import sys
if "pipeline.guard_worker" in sys.orig_argv:
    import time
    from pipeline import video
    read = video.read_frames
    def read_frames(path, *arguments, **named):
        while path.name == "hangs.mp4":
            time.sleep(1)
        return read(path, *arguments, **named)
    read_frames.__module__ = read.__module__
    video.read_frames = read_frames
"""
"""Put into every Python that starts: decoding `hangs.mp4` never ends."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with deployed(tmp_path_factory.mktemp("server")) as server:
        server.prefect("automation", "create", "--from-file", "crashed-runs.yaml")
        yield server


@pytest.fixture
def hanging(tmp_path):
    """A video, and the environment of a process whose decoder hangs with it."""
    pictures = list(np.random.default_rng(7).integers(0, 255, (40, 64, 96, 3), dtype=np.uint8))
    write_h264(tmp_path / "hangs.mp4", pictures, width=96, height=64, fps=10)
    (tmp_path / "sitecustomize.py").write_text(HANGS)
    return tmp_path / "hangs.mp4", {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}


def segmenting(dataset, trained, name):
    return {"videos": [str(dataset / "videos" / f"{name}.mp4")], "store": str(trained[0])}


def test_a_video_that_hangs_the_decoder_costs_a_scheduled_run_that_video_alone(server, hanging, tmp_path):
    video, environment = hanging
    data = write_dataset(tmp_path / "data")
    video.rename(data / "videos" / video.name)
    settings = {
        "store": str(tmp_path / "store"),
        "dataset": {
            "videos": str(data / "videos"),
            "labels": str(data / "labels"),
            "mapping": str(data / "mapping.txt"),
            "splits": str(data / "splits"),
            "name": "tiny",
        },
        "extraction": {"features": ["clip:stride=5"], "weights": "random", "decode_timeout_seconds": 5},
        "training": {"recipe": str(data / "tiny.yaml"), "epochs": 3},
    }
    run = server.submit("retrain/retrain", settings, after_seconds=5, **environment)
    second = server.submit("retrain/retrain", settings, after_seconds=5, **environment)
    ended = [server.wait_for_end(each) for each in (run, second)]
    # Whichever came first trained; the deployment's limit made the other one wait, and it found nothing new.
    assert sorted(ended) == [
        ("Completed", "no labelled video is new or changed"),
        ("PartlyFailed", "1 of 4 failed; promoted: it is the first model of this name"),
    ]
    states = {name: server.states(each) for each, (name, _) in zip((run, second), ended, strict=True)}
    assert "AwaitingConcurrencySlot" in states["Completed"]
    assert "AwaitingConcurrencySlot" not in states["PartlyFailed"]
    results = server.post("/artifacts/filter", {"artifacts": {"key": {"any_": ["retrain-results"]}}})
    assert any("| decision | it is the first model of this name |" in each["data"] for each in results)
    reasons = [
        row["reason"]
        for table in server.post("/artifacts/filter", {"artifacts": {"key": {"any_": ["retrain-videos"]}}})
        for row in json.loads(table["data"])
    ]
    assert any("the decoder hung, without a step in 5 s" in reason for reason in reasons)


def documented_time_limit(seconds, environment):
    """The option of docs/operations.md that limits one run, with other seconds and more in its environment."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    option, variables = re.search(r"(--job-variable) 'env=(\{.*?\})'", page).groups()
    assert json.loads(variables) == {"FACTSEG_TIME_LIMIT_SECONDS": "600"}
    limited = {**environment, "FACTSEG_TIME_LIMIT_SECONDS": seconds}
    return [option, f"env={json.dumps(limited)}"]


def test_a_run_over_its_time_limit_is_killed_with_its_hanging_decoder_and_ends_timed_out(
    server, hanging, trained
):
    video, environment = hanging
    settings = {"videos": [str(video)], "store": str(trained[0])}
    ran = server.prefect(
        *("deployment", "run", "segment/segment", "--params", json.dumps({"settings": settings})),
        *documented_time_limit("30", environment),
    )
    run = re.search(r"UUID: (\S+)", ran.stdout)[1]
    worker = server.process("worker").pid

    def decoding():
        started = {pid: Path(f"/proc/{pid}/cmdline") for pid in family(worker) if pid != worker}
        words = {pid: path.read_bytes() for pid, path in started.items() if path.exists()}
        return any(b"guard_worker" in command for command in words.values()) and list(words)

    processes = wait_for(decoding, what="a process that decodes")
    name, message = server.wait_for_end(run)
    assert (name, "FACTSEG_TIME_LIMIT_SECONDS" in message) == ("TimedOut", True)
    wait_for(
        lambda: not [pid for pid in processes if Path(f"/proc/{pid}").exists()],
        what="the end of its processes",
        seconds=30,
    )


def test_a_worker_that_is_killed_takes_no_run_with_it(server, dataset, trained):
    run = server.submit("segment/segment", segmenting(dataset, trained, "c"))
    server.wait_until_running(run)
    server.end("worker", kill=True)
    server.start_worker()
    again = server.submit("segment/segment", segmenting(dataset, trained, "c"))
    assert server.wait_for_end(run)[0] == "Completed"
    assert server.wait_for_end(again)[0] == "Completed"
    assert server.states(run).count("Running") == 1


def test_a_run_that_died_with_its_machine_ends_as_crashed_and_a_rerun_goes_on(
    server, hanging, trained, tmp_path
):
    video, environment = hanging
    settings = {"videos": [str(video)], "store": str(trained[0]), "out": str(tmp_path / "out")}
    run = server.submit("segment/segment", settings, **environment)
    server.wait_until_running(run)

    def seen_alive():
        wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}}
        wanted["resource"] = {"id": [f"prefect.flow-run.{run}"]}
        return server.post("/events/filter", {"filter": wanted})["total"]

    wait_for(seen_alive, what="a sign of life")
    worker = server.process("worker")
    for pid in family(worker.pid):
        os.kill(pid, signal.SIGKILL)
    server.end("worker")
    server.start_worker()
    # The decoder is whole again, as on another machine.
    again = server.submit("segment/segment", settings)
    assert server.wait_for_end(again) == ("Completed", "1 done, 0 skipped")
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".csv", ".vtt", ".html"}
    name, message = server.wait_for_end(run)
    assert name.upper() == "CRASHED"
    assert "no sign of life" in message


def test_a_server_that_restarts_while_a_worker_runs_loses_nothing(server, dataset, trained):
    run = server.submit("segment/segment", segmenting(dataset, trained, "b"))
    server.wait_until_running(run)
    server.end("server", kill=True)
    server.start_server()
    # The worker is the same one as before.
    again = server.submit("segment/segment", segmenting(dataset, trained, "b"))
    assert server.wait_for_end(run)[0] == "Completed"
    assert server.wait_for_end(again)[0] == "Completed"
    assert server.states(run).count("Running") == 1


def test_a_limit_for_the_gpu_must_exist(server, dataset, trained):
    run = server.submit(
        "segment/segment", segmenting(dataset, trained, "a"), FACTSEG_GPU_LIMIT="factseg-gpu-of-nobody"
    )
    name, message = server.wait_for_end(run)
    assert name == "Failed"
    assert "prefect gcl create factseg-gpu-of-nobody --limit 1" in message

    def said():
        return [line for line in server.logged(run) if "What it stored is kept; mend the cause" in line]

    (sentence,) = wait_for(said, what="the last word of the run in its log", seconds=60)
    assert f"of segment ended Failed: {message.rstrip('.')}. " in sentence


def test_a_run_waits_for_the_gpu_while_another_has_it(server, dataset, trained, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(trained[0], store)
    new = tmp_path / "new.mp4"
    new.write_bytes((dataset / "videos" / "a.mp4").read_bytes() + (8).to_bytes(4, "big") + b"free")
    settings = {"videos": [str(new)], "store": str(store)}

    def stored():
        return {
            path.name for room in ("features", "predictions") for path in (store / room).rglob("*.parquet")
        }

    before = stored()
    server.prefect("gcl", "create", "factseg-gpu", "--limit", "1")
    slot = {"names": ["factseg-gpu"], "slots": 1, "mode": "concurrency"}
    server.post("/v2/concurrency_limits/increment", slot)
    run = server.submit("segment/segment", settings, FACTSEG_GPU_LIMIT="factseg-gpu")
    server.wait_until_running(run)
    # More than such a run takes from here to its end.
    time.sleep(30)
    assert server.state(run)[1] == "RUNNING"
    assert stored() == before
    server.post("/v2/concurrency_limits/decrement", slot)
    assert server.wait_for_end(run) == ("Completed", "1 done, 0 skipped")
    assert len(stored() - before) == 2
    assert server.get("/v2/concurrency_limits/factseg-gpu")["active_slots"] == 0
