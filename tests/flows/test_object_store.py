"""The whole chain on a store by URL: videos and labels here, everything else behind the S3 protocol."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from mlflow import MlflowClient

from flows.cli import run_command
from storage.places import listed, name_within, place_of, put_file
from storage.registry import Registry
from storage.store import Store
from tests.flows.conftest import dataset_options

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """Address of an MLflow server of this test's own."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": f"sqlite:///{folder}/server.db",
        "--artifacts-destination": str(folder / "artifacts"),
    }
    command = [sys.executable, "-m", "mlflow", "server", *(part for pair in options.items() for part in pair)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(f"{address}/health", server, folder / "log")
        yield address
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(url, server, log):
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=60):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    pytest.fail(log.read_text())


@pytest.fixture
def asked(capsys, tmp_path, monkeypatch):
    """Runs a command in an empty folder; its JSON, or what it said where it is expected to fail."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACTSEG_CACHE", str(tmp_path / "cache"))

    def ask(*arguments, code=0, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert run_command([*map(str, arguments), "--json"]) == code
        said = capsys.readouterr()
        return said.err if code else json.loads(said.out)

    return ask


def test_a_store_in_a_folder_registers_its_models_with_a_server_that_is_named(
    tracking, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    registry = Registry(Store(tmp_path / "store"))
    asked = {"run": "ab" * 32, "test": "t", "scores": {"f1@50": 50.0}, "parameters": {}, "curves": []}
    entry = registry.register("in a folder", **asked)
    assert registry.register("in a folder", **asked) == entry
    registry.promote(entry)
    assert Registry(Store(tmp_path / "store")).champion("in a folder") == entry
    assert not (tmp_path / "store" / "mlflow.db").exists()
    server = MlflowClient(tracking)
    leading = server.get_model_version_by_alias("in a folder", "champion")
    assert leading.tags["factseg.run"] == "ab" * 32
    # Other tests have the same server, where theirs is to be the only model.
    server.delete_registered_model("in a folder")


def test_the_chain_runs_on_a_store_by_url(bucket, tracking, dataset, tmp_path, asked):
    store = f"{bucket}/store"
    chain = ["run", *dataset_options(dataset), "--store", store, "--direct"]
    assert "mlflow server" in asked(*chain, code=1)
    first = asked(*chain, MLFLOW_TRACKING_URI=tracking)
    assert first["train"]["trained"]
    assert first["evaluate"]["report"].startswith(store)
    again = asked(*chain)
    assert not again["train"]["trained"]
    assert not again["evaluate"]["evaluated"]
    assert again["evaluate"]["scores"] == first["evaluate"]["scores"]

    place = place_of(store)
    kinds = {name_within(place, found).partition("/")[0] for found in listed(place, "*/*")}
    assert {"timelines", "features", "texts", "runs", "evaluations"} <= kinds
    assert not [name_within(place, found) for found in place.rglob("*.lease")]

    video = place_of(bucket) / "videos" / "c.mp4"
    put_file(dataset / "videos" / "c.mp4", video, once=True)
    extracted = asked("extract", str(video), "--store", store, *dataset_options(dataset)[-6:-2], "--direct")
    assert [outcome["status"] for outcome in extracted] == ["skipped"]
    (segmented,) = asked("segment", str(video), "--store", store, "--direct")
    assert segmented["path"] == str(video)
    assert segmented["segments"][-1]["end_frame"] == 40
    # The same chain from videos by URL finds the same content, so it does nothing again.
    for path in sorted((dataset / "videos").iterdir()):
        put_file(path, place_of(bucket) / "remote" / path.name, once=True)
    options = dataset_options(dataset)
    options[options.index("--videos") + 1] = f"{bucket}/remote"
    remote = asked("run", *options, "--store", store, "--direct")
    assert remote["train"] == {**first["train"], "trained": False}
    assert remote["evaluate"]["scores"] == first["evaluate"]["scores"]
    judged = asked("status", *options, "--store", store)
    assert {
        row["stage"] for row in judged if row["path"] == f"{bucket}/remote/a.mp4" and row["status"] == "done"
    } == {"probe", "features", "labels"}
    (listed_model,) = asked("models", "--store", store)
    assert listed_model["champion"]
    rows = asked("status", "--store", store)
    done = {(row["video"], row["stage"]) for row in rows if row["status"] == "done"}
    assert {("a", "features"), ("c", "evaluation"), ("c", "prediction"), ("", "texts")} <= done
    # MLflow, given a file at a URL, would silently make one here.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]
