"""Evaluation: scores that anybody can recompute, a report, a registry entry, and nothing done twice."""

import json
import shutil

import numpy as np
import pytest
import torch

from pipeline.dataset import find_stored
from pipeline.errors import DatasetError
from pipeline.evaluate import evaluate_run, find_evaluations
from pipeline.inputs import inputs_of_model
from pipeline.model import load_model
from pipeline.predict import predict_frames
from pipeline.train import train
from storage.errors import MissingArtefactError
from storage.folders import is_finished, read_manifest
from storage.registry import Registry
from storage.store import Store
from tests.pipeline.tiny import CLASSES, TEST, one_thread, write_split

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def evaluated(tiny, tiny_store, tiny_run):
    """The first evaluation of the shared run; MLflow makes its tables here, once."""
    with one_thread():
        return evaluate_run(tiny.settings(tiny_store), run=tiny_run)


def predictions(dataset, store, run):
    model = load_model(Store(store).run_folder(run), device=torch.device("cpu"))
    inputs = inputs_of_model(model.description.inputs)
    for video in TEST:
        stored = find_stored(dataset.root / "videos" / f"{video}.mp4", inputs=inputs, store=Store(store))
        yield dataset.labels_of(video), predict_frames(stored, model=model, store=Store(store)).labels


def runs_of(labels):
    """Segments as (class, set of frames)."""
    found = []
    for frame, label in enumerate(labels):
        if frame and labels[frame - 1] == label:
            found[-1][1].add(frame)
        else:
            found.append((label, {frame}))
    return found


def edit_distance(ours, theirs):
    if not ours or not theirs:
        return len(ours) + len(theirs)
    return min(
        edit_distance(ours[1:], theirs) + 1,
        edit_distance(ours, theirs[1:]) + 1,
        edit_distance(ours[1:], theirs[1:]) + (ours[0] != theirs[0]),
    )


def score_by_hand(pairs):
    """Accuracy, Edit and F1@50 of the papers, background left out of Edit and F1."""
    right = sum((truth == found).sum() for truth, found in pairs)
    edits, hits, wanted, given = [], 0, 0, 0
    for truth, found in pairs:
        true, ours = ([run for run in runs_of(labels) if run[0] != 0] for labels in (truth, found))
        names = [label for label, _ in true], [label for label, _ in ours]
        edits.append(100 * (1 - edit_distance(*names) / max(len(names[0]), len(names[1]))))
        taken = set()
        for label, frames in ours:
            overlaps = [len(frames & other) / len(frames | other) * (label == kind) for kind, other in true]
            best = int(np.argmax(overlaps))
            if overlaps[best] >= 0.5 and best not in taken:
                taken.add(best)
        hits, wanted, given = hits + len(taken), wanted + len(true), given + len(ours)
    return {
        "frame accuracy": 100 * right / sum(len(truth) for truth, _ in pairs),
        "edit": np.mean(edits),
        "f1@50": 100 * 2 * hits / (wanted + given),
    }


def test_scores_are_those_of_the_predictions_recomputed_by_hand(tiny, tiny_store, tiny_run, evaluated):
    expected = score_by_hand(list(predictions(tiny, tiny_store, tiny_run)))
    for name, value in expected.items():
        assert evaluated.scores["mstcn"][name] == pytest.approx(value)
    assert evaluated.scores["mstcn"]["frame accuracy"] > 85


def test_an_evaluation_has_its_reports_and_the_manifest(evaluated, tiny_run):
    assert {path.name for path in evaluated.folder.iterdir()} >= {
        "report.html",
        "report.json",
        "report.md",
        "manifest.json",
    }
    facts = read_manifest(evaluated.folder)
    assert (facts["run"], facts["scores"]) == (tiny_run, evaluated.scores)
    assert [outcome.status for outcome in evaluated.outcomes] == ["done", "done"]
    page = (evaluated.folder / "report.html").read_text()
    assert "seeded random weights" in page
    json.loads((evaluated.folder / "report.json").read_text())


def test_the_first_run_of_a_name_is_champion(tiny_store, tiny_run, evaluated):
    champion = Registry(Store(tiny_store)).champion("tiny")
    assert evaluated.promotion.champion == champion
    assert (champion.run, champion.version, champion.scores) == (tiny_run, 1, evaluated.scores["mstcn"])


def test_a_second_evaluation_does_nothing(tiny, tiny_store, tiny_run, evaluated, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("no model is loaded for what is known")

    before = {path: path.stat().st_mtime_ns for path in evaluated.folder.iterdir()}
    monkeypatch.setattr("pipeline.evaluate.load_model", refuse)
    again = evaluate_run(tiny.settings(tiny_store), run=tiny_run)
    assert not again.evaluated
    assert (again.scores, again.folder) == (evaluated.scores, evaluated.folder)
    assert again.promotion.reason == "it already was"
    assert len(Registry(Store(tiny_store)).versions("tiny")) == 1
    assert {path: path.stat().st_mtime_ns for path in evaluated.folder.iterdir()} == before


def test_evaluations_of_a_run_are_found_by_its_digits_or_as_the_champions(tiny_store, tiny_run, evaluated):
    store = Store(tiny_store)
    found = find_evaluations(store, run=tiny_run[:8], model="")
    assert found == find_evaluations(store, run="", model="tiny")
    assert found[0]["scores"] == evaluated.scores
    assert found[0]["report"] == str(evaluated.folder / "report.html")


@pytest.fixture
def own(tiny, tiny_store, evaluated, tmp_path):
    """Data set and store, both for the test to change; the registry has its tables already."""
    assert evaluated.evaluated
    shutil.copytree(tiny.root, tmp_path / "data")
    shutil.copytree(tiny_store, tmp_path / "store")
    return type(tiny)(tmp_path / "data")


def test_a_run_that_was_never_scored_has_no_evaluation(own, tmp_path):
    run = train(own.settings(tmp_path / "store", epochs=1)).run
    with pytest.raises(MissingArtefactError, match=r"was never evaluated\. Run `factseg evaluate`"):
        find_evaluations(Store(tmp_path / "store"), run=run, model="")


def test_a_worse_run_is_registered_but_leaves_the_champion(own, tmp_path):
    settings = own.settings(tmp_path / "store", epochs=1, learning_rate=1e-9)
    outcome = evaluate_run(settings, run=train(settings).run)
    assert outcome.promotion.entry.version == 2
    assert outcome.promotion.champion.version == 1
    assert "against" in outcome.promotion.reason


def test_a_failed_test_video_is_reported_and_the_others_are_scored(own, tmp_path, tiny_run):
    (own.root / "labels" / "x.txt").unlink()
    outcome = evaluate_run(own.settings(tmp_path / "store"), run=tiny_run)
    assert [one.status for one in outcome.outcomes] == ["failed", "done"]
    assert "x.mp4: there are no labels" in (outcome.folder / "report.md").read_text()
    assert "x.mp4" in (outcome.folder / "report.html").read_text()


def test_an_evaluation_that_was_killed_is_done_anew(own, tmp_path, tiny_run, evaluated):
    folder = Store(tmp_path / "store").evaluation_folder(evaluated.folder.name)
    (folder / "manifest.json").unlink()
    (folder / "report.html").write_text("half")
    again = evaluate_run(own.settings(tmp_path / "store"), run=tiny_run)
    assert again.evaluated
    assert is_finished(folder)
    assert again.scores == evaluated.scores
    assert (folder / "report.html").read_text() != "half"


def test_without_any_test_video_there_is_an_error_that_names_the_first(own, tmp_path, tiny_run):
    shutil.rmtree(own.root / "labels")
    with pytest.raises(DatasetError, match=r"None of the 2 test videos can be used; the first: .*x\.mp4"):
        evaluate_run(own.settings(tmp_path / "store"), run=tiny_run)


def test_a_test_video_that_was_trained_on_is_refused(own, tmp_path, tiny_run):
    write_split(own.root, train="bc", test="axy")
    with pytest.raises(DatasetError, match=r"was trained on test video 'a', or a copy of it \(1 such"):
        evaluate_run(own.settings(tmp_path / "store"), run=tiny_run)


def test_a_renamed_copy_of_a_training_video_is_refused(own, tmp_path, tiny_run):
    shutil.copy(own.root / "videos" / "b.mp4", own.root / "videos" / "copy.mp4")
    shutil.copy(own.root / "labels" / "b.txt", own.root / "labels" / "copy.txt")
    write_split(own.root, train="abc", test=("x", "copy"))
    with pytest.raises(DatasetError, match="was trained on test video 'copy'"):
        evaluate_run(own.settings(tmp_path / "store"), run=tiny_run)


def test_a_run_that_is_not_there_is_named(tiny, tiny_store):
    with pytest.raises(MissingArtefactError, match="holds no finished work"):
        evaluate_run(tiny.settings(tiny_store), run="0" * 64)


def test_corrected_test_labels_make_another_evaluation(own, tmp_path, tiny_run, evaluated):
    path = own.root / "labels" / "x.txt"
    path.write_text(path.read_text().replace("stir", "background"))
    again = evaluate_run(own.settings(tmp_path / "store"), run=tiny_run)
    assert again.evaluated
    assert again.folder != evaluated.folder
    assert again.scores != evaluated.scores
    assert "test videos or labels changed" in again.promotion.reason


def test_a_class_that_never_occurs_still_has_its_row(own, tmp_path):
    with (own.root / "mapping.txt").open("a") as file:
        file.write("3 never seen\n")
    settings = own.settings(tmp_path / "store", epochs=1)
    outcome = evaluate_run(settings, run=train(settings).run)
    assert "never seen" in (outcome.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            (*CLASSES[:2], "stir slowly"),
            "names 3, and class 2 is .*: 'stir' for the model, 'stir slowly' here",
        ),
        ((*CLASSES, "pour tea"), "names 4, and class 3 is .*: none for the model, 'pour tea' here"),
        (CLASSES[:2], "names 2, and class 2 is .*: 'stir' for the model, none here"),
        (CLASSES[::-1], "names 3, and class 0 is .*: 'background' for the model, 'stir' here"),
    ],
)
def test_the_first_class_that_is_another_is_named(own, tmp_path, tiny_run, names, words):
    (own.root / "mapping.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(names)))
    with pytest.raises(
        DatasetError, match=rf"The model knows 3 classes, .*mapping\.txt {words}\. Use the mapping"
    ):
        evaluate_run(own.settings(tmp_path / "store"), run=tiny_run)
