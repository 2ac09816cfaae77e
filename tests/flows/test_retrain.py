"""Retraining through the command line: nothing new, something new, and a failure that changes nothing."""

import json
import shutil

import pytest

from storage.registry import Registry
from storage.store import Store
from tests.flows.conftest import dataset_options

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
    labels = (data / "labels" / "a.txt").read_text().splitlines()
    (data / "labels" / "a.txt").write_text("\n".join(["background"] * 11 + labels[11:]) + "\n")
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
