"""``factseg import`` as its users type it."""

import json

import numpy as np
import pytest

from flows.reports import StageReport
from flows.stages import full_pipeline
from pipeline.settings import DatasetSettings, RunSettings
from tests.flows.conftest import TINY_RECIPE


@pytest.fixture
def folder(tmp_path):
    """Three recordings of features; one of them is damaged."""
    root = tmp_path / "sets" / "tea time"
    for name in ("features", "groundTruth", "splits"):
        (root / name).mkdir(parents=True)
    for index, video in enumerate("abx"):
        labels = ["rest"] * (12 + index) + ["pour milk"] * 20
        rows = np.array([[label == "rest", index, 1.0, 0.0] for label in labels], dtype=np.float32)
        np.save(root / "features" / f"{video}.npy", rows.T)
        (root / "groundTruth" / f"{video}.txt").write_text("\n".join(labels))
    (root / "features" / "b.npy").write_bytes(b"no array")
    (root / "mapping.txt").write_text("0 rest\n1 pour milk\n")
    (root / "splits" / "train.split1.bundle").write_text("a.txt\nb.txt\n")
    (root / "splits" / "test.split1.bundle").write_text("x.txt\n")
    (root / "tiny.yaml").write_text(TINY_RECIPE)
    return root


def test_features_are_taken_in_and_trained_on_without_a_video(factseg, folder, tmp_path):
    store = tmp_path / "store"
    ran = factseg("import", "mstcn", folder, "--store", store, "--fps", "15", "--json")
    assert ran.returncode == 1
    (failed,) = [line for line in ran.stderr.splitlines() if line.startswith("failed:")]
    assert "b.npy is no readable .npy array" in failed
    facts = json.loads(ran.stdout)
    assert (facts["dataset"], facts["videos"], facts["width"], facts["orientation"]) == (
        "tea time",
        2,
        4,
        "DT",
    )
    recipe = (
        "--recipe",
        folder / "tiny.yaml",
        "--model",
        "fact",
        "--epochs",
        "1",
        "--every",
        "2",
        "--batch-size",
        "1",
    )
    ran = factseg("train", "--dataset", "tea time", *recipe, "--store", store, "--direct", "--json")
    assert ran.returncode == 1
    assert "failed: b: Split 'split1' names video 'b', which was not imported" in ran.stderr
    assert json.loads(ran.stdout)["epochs"] == 1


def test_the_chain_of_an_imported_data_set_asks_for_no_video(tmp_path):
    called = []

    def call(name, settings):
        called.append((name, settings.dataset.imported))
        return StageReport(stage=name, facts={"run": "ab" * 32})

    settings = RunSettings(store=tmp_path, dataset=DatasetSettings(imported="tea"))
    full_pipeline(settings, call)
    assert called == [("train", "tea"), ("evaluate", "tea")]


def test_a_missing_folder_is_one_sentence(factseg, tmp_path):
    ran = factseg("import", "mstcn", tmp_path / "gone", "--store", tmp_path / "store")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "mapping.txt: there is no such mapping. Check the path." in ran.stderr


def test_labels_come_in_from_one_format_and_go_out_in_another(factseg, tmp_path):
    store, folder = tmp_path / "store", tmp_path / "in"
    folder.mkdir()
    (folder / "v.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\npour milk\n")
    (folder / "w.vtt").write_text("no subtitles")
    ran = factseg(
        *("import", "labels", folder, "--format", "vtt", "--name", "tea"),
        *("--fps", "4", "--gaps", "rest", "--store", store, "--json"),
    )
    assert ran.returncode == 1
    assert "w.vtt, line 1: 'no subtitles' is not 'WEBVTT'" in ran.stderr
    assert json.loads(ran.stdout)["classes"] == 2
    export = ("export", "--labels", "tea", "--format", "mstcn", "--out", tmp_path / "out", "--store", store)
    ran = factseg(*export)
    assert ran.returncode == 1
    assert "class 'pour milk' holds a blank" in ran.stderr
    ran = factseg(*export, "--blank-as", "_")
    assert ran.returncode == 0
    words = ["rest"] * 4 + ["pour_milk"] * 4
    assert (tmp_path / "out" / "v").read_text() == f"### Frame level recognition: ###\n{' '.join(words)}"
    assert (tmp_path / "out" / "mapping.txt").read_text() == "0 rest\n1 pour_milk\n"
