"""Retraining through the command line: nothing new, something new, and a failure that changes nothing."""

import errno
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flows.invoke import execute_retrain
from pipeline.encode import write_h264
from pipeline.errors import DatasetError
from pipeline.settings_operations import RetrainSettings
from storage import atomic
from storage.database_seal import database_problem
from storage.errors import DiskFullError
from storage.registry import Registry
from storage.store import Store
from tests.flows.conftest import COLOURS, dataset_options

pytestmark = pytest.mark.slow


@pytest.fixture
def world(trained, dataset, tmp_path):
    """A copy of the trained store and of its data set, whose labels may change."""
    store, data = tmp_path / "store", tmp_path / "data"
    shutil.copytree(trained[0], store)
    shutil.copytree(dataset, data)
    return store, data


def champion(store):
    return Registry(Store(store)).champion("tiny").version


def test_retraining_learns_what_is_new_and_changes_nothing_otherwise(world, factseg, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store, data = world
    options = [*dataset_options(data), "--store", store, "--direct", "--json"]

    idle = factseg("retrain", *options)
    assert idle.returncode == 0, idle.stderr
    facts = json.loads(idle.stdout)
    assert (facts["promoted"], facts["decision"]) == (False, "no labelled video is new or changed")

    # A frame of one training video is relabelled: that video is new to the champion.
    relabelled(data)
    failed = factseg("retrain", *options, "--learning-rate", "-1")
    assert failed.returncode == 2
    assert champion(store) == 1

    refused = factseg("retrain", *options, "--margin", "90")
    assert refused.returncode == 0, refused.stderr
    facts = json.loads(refused.stdout)
    assert facts["news"] == "1 changed (a)"
    assert (facts["promoted"], facts["champion"], facts["version"]) == (False, 1, 2)
    assert "margin is +90.0" in facts["decision"]
    assert facts["drift"] >= 0
    assert champion(store) == 1

    promoted = factseg("retrain", *options, "--margin", "-100", "--max-class-drop", "100")
    facts = json.loads(promoted.stdout)
    assert (facts["promoted"], facts["champion"]) == (True, 2)
    assert champion(store) == 2


def decision(store, *, version):
    """What the registry keeps of why a version was promoted or not, read by MLflow alone."""
    tags = MlflowClient(f"sqlite:///{store / 'mlflow.db'}").get_model_version("tiny", str(version)).tags
    return json.loads(tags["factseg.decision"])


def test_why_a_first_model_leads_is_in_the_registry(trained):
    noted = decision(trained[0], version=1)
    assert noted == {"promote": True, "reasons": ["it is the first model of this name"], "champion": None}


@pytest.mark.parametrize("moved", [False, True], ids=["alike", "moved"])
def test_a_new_video_alone_is_extracted_and_how_far_it_lies_from_the_others_is_noted(
    world, monkeypatch, moved
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store, data = world
    labels = (data / "labels" / "b.txt").read_text().split("\n")[:-1]
    rng = np.random.default_rng(5)
    colours = {label: np.roll(colour, 1) if moved else colour for label, colour in COLOURS.items()}
    pictures = [
        (np.array(colours[label]) + rng.integers(0, 30, (64, 96, 3))).astype(np.uint8) for label in labels
    ]
    write_h264(data / "videos" / "d.mp4", pictures, width=96, height=64, fps=10)
    shutil.copy(data / "labels" / "b.txt", data / "labels" / "d.txt")
    (data / "splits" / "train.split1.bundle").write_text("a\nb\nd")
    report = execute_retrain(retraining(store, data), direct=True)
    assert {outcome.video: outcome.status for outcome in report.outcomes} == {
        "a": "skipped",
        "b": "skipped",
        "c": "skipped",
        "d": "done",
    }
    assert report.facts["news"] == "1 new (d)"
    noted = decision(store, version=2)
    assert noted["drift"] == report.facts["drift"]
    assert (noted["drift"] > 0.5) is moved, noted["drift"]


def relabelled(data):
    """The data set, with a frame of one training video labelled anew."""
    labels = (data / "labels" / "a.txt").read_text().splitlines()
    (data / "labels" / "a.txt").write_text("\n".join(["background"] * 11 + labels[11:]) + "\n")
    return data


def test_a_disk_that_fills_up_during_a_retrain_changes_nothing_and_the_next_one_goes_on(world, factseg):
    store, data = world
    options = [*dataset_options(relabelled(data)), "--store", store, "--direct", "--json"]
    before = sorted(path.name for path in (store / "runs").iterdir() if not path.name.startswith("."))

    # Small files still fit; a checkpoint does not.
    full = factseg("retrain", *options, largest_file=60_000)
    assert full.returncode == 1
    assert "There is no room to write" in full.stderr
    assert "Free some space" in full.stderr
    assert "Traceback" not in full.stderr
    assert champion(store) == 1
    assert [entry.version for entry in Registry(Store(store)).versions("tiny")] == [1]
    assert sorted(path.name for path in (store / "runs").iterdir() if path.name[0] != ".") == before
    assert not list(store.rglob("*.part"))

    again = factseg("retrain", *options, "--margin", "-100", "--max-class-drop", "100")
    assert again.returncode == 0, again.stderr
    assert champion(store) == 2


def retraining(store, data):
    return RetrainSettings.model_validate(
        {
            "store": store,
            "dataset": {part: data / part for part in ("videos", "labels", "splits")}
            | {"mapping": data / "mapping.txt", "name": "tiny"},
            "extraction": {"features": ["clip:stride=5"], "weights": "random", "device": "cpu"},
            "training": {"recipe": str(data / "tiny.yaml"), "epochs": 3},
            "margin": -100,
            "max_class_drop": 100,
        }
    )


def test_labels_that_are_all_gone_are_no_quiet_night(world, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store, data = world
    (data / "labels").rename(data / "not mounted")
    with pytest.raises(
        DatasetError, match="None of the 2 training videos of 'tiny' is there with its labels"
    ):
        execute_retrain(retraining(store, data), direct=True)
    assert champion(store) == 1


FILES = (
    ("digests", r"\w+\.json"),
    ("timelines", r"\w+\.parquet"),
    ("store", r"catalogue\.parquet"),
    ("features/clip", r"\.?\w+\.parquet.*"),
    ("tables", r"extract\.parquet"),
    ("checkpoints", r"\w+\.safetensors"),
    (r"runs/\w+", r"model\.safetensors"),
    (r"runs/\w+", r"curves\.parquet"),
    (r"runs/\w+", r"manifest\.json"),
    (r"evaluations/\w+", r"report\.html"),
    (r"evaluations/\w+", r"manifest\.json"),
    ("store", r"mlflow\.db\.json"),
)
"""Folder and name of what a retrain writes into the store, in this order."""

CHANGES = ("create_model_version", "set_model_version_tag", "set_registered_model_alias")
"""What a retrain changes in the registry's database: the challenger's version, the decision, the champion."""


@contextmanager
def no_room_for(folder, name):
    """No file of a name in a folder finds room; all others do."""
    scratch = re.compile(rf"/{folder}/\.{name}\.\w+\.part")
    sync = atomic._sync

    def full(path):
        if scratch.search(str(path)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "_sync", full)
        with pytest.raises(DiskFullError, match=rf"no room to write \S+/{folder}/\S*{name} \(No space left"):
            yield


@contextmanager
def no_room_in_the_database(change):
    """One kind of change of the registry finds no room in the words of SQLite as MLflow passes them on."""

    def full(*_, **__):
        raise MlflowException("(sqlite3.OperationalError) database or disk is full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, change, full)
        with pytest.raises(
            DiskFullError, match=r"no room to write \S+/mlflow\.db \(database or disk is full"
        ):
            yield


def test_wherever_a_retrain_finds_no_room_it_names_the_file_and_the_champion_stays(
    world, dataset, monkeypatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store, data = world
    relabelled(data)
    content = (dataset / "videos" / "b.mp4").read_bytes()
    (data / "videos" / "d.mp4").write_bytes(content + (8).to_bytes(4, "big") + b"free")
    shutil.copy(dataset / "labels" / "b.txt", data / "labels" / "d.txt")
    (data / "splits" / "train.split1.bundle").write_text("a\nb\nd")
    settings = retraining(store, data)
    # Each try goes on from what the one before it stored.
    attempts = [no_room_for(*place) for place in FILES] + [no_room_in_the_database(one) for one in CHANGES]
    for attempt in attempts:
        with attempt:
            execute_retrain(settings, direct=True)
        assert champion(store) == 1
        assert database_problem(store / "mlflow.db") == ""
        assert not list(store.rglob("*.part"))
    report = execute_retrain(settings, direct=True)
    facts = report.facts
    assert {outcome.status for outcome in report.outcomes} == {"skipped"}
    assert (facts["news"], facts["promoted"]) == ("1 new (d), 1 changed (a)", True)
    assert [entry.version for entry in Registry(Store(store)).versions("tiny")] == [2, 1]
    noted = decision(store, version=2)
    assert (noted["promote"], noted["champion"], noted["drift"]) == (True, 1, facts["drift"])
    assert "; ".join(noted["reasons"]) == facts["decision"]
    # What was rolled back by hand stays so, however the same challenger would be judged every night.
    assert Registry(Store(store)).roll_back("tiny").version == 1
    facts = execute_retrain(settings, direct=True).facts
    assert (facts["promoted"], facts["champion"]) == (False, 1)
    assert "version 2 led and was rolled back; `factseg promote tiny 2`" in facts["decision"]
    assert champion(store) == 1


def test_of_two_retrains_at_once_the_second_waits_and_finds_nothing_new(world, factseg):
    store, data = world
    options = [*dataset_options(relabelled(data)), "--store", store, "--direct", "--json"]
    options += ["--margin", "-100", "--max-class-drop", "100"]
    with ThreadPoolExecutor(2) as both:
        ran = list(both.map(lambda _: factseg("retrain", *options), range(2)))
    assert [each.returncode for each in ran] == [0, 0], [each.stderr for each in ran]
    decisions = [json.loads(each.stdout)["promoted"] for each in ran]
    assert sorted(decisions) == [False, True]
    assert [entry.version for entry in Registry(Store(store)).versions("tiny")] == [2, 1]
