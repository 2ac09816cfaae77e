"""Deployments on a real server with a real worker, as docs/operations.md says."""

import json
import re

import pytest
from mlflow import MlflowClient

from tests.flows.server import deployed, documented_commands, documented_toml, wait_for

pytestmark = pytest.mark.slow

DEPLOYMENTS = {"extract", "embed-text", "train", "evaluate", "segment", "full-pipeline", "retrain"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with deployed(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_every_deployment_is_there_with_description_tags_and_parameter_schema(server):
    listed = server.post("/deployments/filter", {})
    assert {entry["name"] for entry in listed} == DEPLOYMENTS
    for entry in listed:
        assert entry["description"]
        assert "factseg" in entry["tags"]
        assert entry["enforce_parameter_schema"]
        assert entry["job_variables"]["env"]["FACTSEG_TIME_LIMIT_SECONDS"]
        assert entry["global_concurrency_limit"]["limit"] == (
            1 if entry["name"] == "retrain" else 20 if entry["name"] == "segment" else 4
        )
    retrain = next(entry for entry in listed if entry["name"] == "retrain")
    assert [(plan["slug"], plan["active"], plan["schedule"]["cron"]) for plan in retrain["schedules"]] == [
        ("nightly", True, "0 2 * * *")
    ]


def test_the_schedule_really_schedules_runs(server):
    def scheduled():
        runs = server.flow_runs(deployment_id={"any_": [server.deployment("retrain/retrain")]})
        return [run for run in runs if run["auto_scheduled"] and run["state"]["type"] == "SCHEDULED"]

    (first, *_) = sorted(
        wait_for(scheduled, what="a scheduled run"), key=lambda run: run["expected_start_time"]
    )
    assert first["expected_start_time"][11:16] == "02:00"


def test_the_last_command_of_the_page_segments_a_video_on_the_worker_and_leaves_artifacts(
    server, trained, dataset, tmp_path
):
    store, _ = trained
    before = set((store / "predictions").glob("*.parquet"))
    # Like another, but nobody segmented it before.
    new = tmp_path / "new.mp4"
    new.write_bytes((dataset / "videos" / "a.mp4").read_bytes() + (8).to_bytes(4, "big") + b"free")
    *_, command = documented_commands()
    words = [word.replace("new.mp4", str(new)).replace("factseg-store", str(store)) for word in command]
    run = re.search(r"UUID: (\S+)", server.prefect(*words[1:]).stdout)[1]
    assert server.wait_for_end(run) == ("Completed", "1 done, 0 skipped")
    assert len(set((store / "predictions").glob("*.parquet")) - before) == 1
    made = server.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
    assert {artifact["key"] for artifact in made} >= {"segment-videos", "segment-results"}


def toml_of(settings):
    """Settings as TOML; JSON writes its strings, numbers and lists in the same way."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for group in settings.keys() - plain.keys():
        lines += [f"[{group}]", *(f"{key} = {json.dumps(value)}" for key, value in settings[group].items())]
    return "\n".join(lines)


def test_the_settings_file_of_the_page_gives_the_schedule_its_first_model(server, dataset, tmp_path):
    page = documented_toml()
    places = {"videos": "videos", "groundTruth": "labels", "mapping.txt": "mapping.txt", "splits": "splits"}
    settings = page | {
        "store": str(tmp_path / page["store"]),
        "dataset": {key: str(dataset / places[value]) for key, value in page["dataset"].items()},
        # The page's defaults need weights that are trained, and hours.
        "extraction": {"features": ["clip:stride=5"], "weights": "random"},
        "training": {"recipe": str(dataset / "tiny.yaml"), "epochs": 3},
    }
    (tmp_path / "factseg.toml").write_text(toml_of(settings))
    run = server.submit("retrain/retrain", tmp_path / "factseg.toml")
    assert server.wait_for_end(run) == (
        "Completed",
        "3 done, 0 skipped; promoted: it is the first model of this name",
    )
    registry = MlflowClient(f"sqlite:///{tmp_path / page['store'] / 'mlflow.db'}")
    (model,) = registry.search_registered_models()
    leading = registry.get_model_version_by_alias(model.name, "champion")
    noted = json.loads(leading.tags["factseg.decision"])
    assert (noted["promote"], noted["reasons"]) == (True, ["it is the first model of this name"])
    # What is new, a batch of videos, texts, training, scoring, and the four subflows of the latter four.
    server.wait_for_tasks(run, count=9)
    # The next night finds nothing new.
    again = server.submit("retrain/retrain", tmp_path / "factseg.toml")
    assert server.wait_for_end(again) == ("Completed", "no labelled video is new or changed")
    server.wait_for_tasks(again, count=1)


def test_a_wrong_parameter_is_refused_before_the_run_starts(server):
    before = len(server.flow_runs())
    ran = server.prefect(
        *("deployment", "run", "segment/segment", "--param", 'settings={"vidoes": []}'), check=False
    )
    assert ran.returncode != 0
    assert "vidoes" in ran.stdout + ran.stderr or "videos" in ran.stdout + ran.stderr
    assert len(server.flow_runs()) == before


def test_the_full_pipeline_runs_on_the_worker_with_one_bad_video(server, dataset, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for video in (dataset / "videos").iterdir():
        (videos / video.name).symlink_to(video)
    (videos / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(100))
    settings = {
        "store": str(tmp_path / "store"),
        "dataset": {
            "videos": str(videos),
            "labels": str(dataset / "labels"),
            "mapping": str(dataset / "mapping.txt"),
            "splits": str(dataset / "splits"),
            "name": "tiny",
        },
        "extraction": {"features": ["clip:stride=5"], "weights": "random"},
        "training": {"recipe": str(dataset / "tiny.yaml"), "epochs": 3},
    }
    run = server.submit("full-pipeline/full-pipeline", settings)
    assert server.wait_for_end(run) == ("PartlyFailed", "1 of 4 failed")
    assert len(list((tmp_path / "store" / "evaluations").glob("*/report.html"))) == 1
    server.wait_for_tasks(run, count=8)

    def reasons():
        # Logs reach the server in batches, after the end of the run too; the subflow has its own.
        logged = server.post("/logs/filter", {"logs": {"level": {"ge_": 40}}})
        return any("broken" in entry["message"] for entry in logged)

    wait_for(reasons, what="the reason in the log", seconds=60)
