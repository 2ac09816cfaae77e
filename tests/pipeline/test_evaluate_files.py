"""Predictions in files: scored as the published evaluators score them, and every bad file named while others go on."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DatasetError, LabelError
from pipeline.evaluate_files import evaluate_files, write_file_report
from pipeline.label_text import RECOGNITION_HEAD as HEADER
from pipeline.label_text import recognition_labels
from pipeline.metrics import IOU_PERCENTS, stretch
from pipeline.outcome import failures
from pipeline.report_tables import read_counts
from tests.pipeline.test_metrics import GOLDEN, golden_names, id_of, slow_edit, slow_f1, slow_segments

LONG = 30
"""Frames: more than the tolerance of 10 can hide."""


def write(folder: Path, video: str, truth: list[str] | None, predicted: list[str] | None) -> None:
    for name in ("labels", "predictions"):
        (folder / name).mkdir(exist_ok=True)
    if truth is not None:
        (folder / "labels" / f"{video}.txt").write_text("\n".join(truth) + "\n")
    if predicted is not None:
        (folder / "predictions" / video).write_text(f"{HEADER}\n{' '.join(predicted)}")


def score(folder: Path, **options):
    return evaluate_files(folder / "predictions", folder / "labels", **options)


@pytest.mark.parametrize("case", GOLDEN["random"][:2], ids=id_of)
def test_files_score_as_the_published_evaluator(case, tmp_path):
    names = golden_names(case)
    (tmp_path / "mapping.txt").write_text("".join(f"{index} {name}\n" for index, name in enumerate(names)))
    for video in case["videos"]:
        predicted = stretch(np.array(video["predicted"], dtype=np.int64), len(video["ground_truth"]))
        write(
            tmp_path, video["name"], [names[i] for i in video["ground_truth"]], [names[i] for i in predicted]
        )
    found = score(
        tmp_path, mapping=tmp_path / "mapping.txt", background=[names[i] for i in case["background"]]
    )
    _, fact = found.scores
    expected = case["expected"]
    assert fact.frame_accuracy == pytest.approx(expected["AccB"], abs=1e-6)
    assert fact.edit == pytest.approx(expected["Edit"], abs=1e-6)
    for percent in IOU_PERCENTS:
        assert fact.f1[percent] == pytest.approx(expected[f"F1@0.{percent}"], abs=1e-6)


def test_without_a_mapping_the_names_found_are_the_classes(tmp_path):
    truth = ["background"] * 10 + ["cut"] * 10 + ["stir"] * 10
    predicted = ["background"] * 12 + ["cut"] * 8 + ["fry"] * 10
    write(tmp_path, "a.b", truth, predicted)
    found = score(tmp_path)
    mstcn = found.scores[0]
    assert mstcn.class_names == ("background", "cut", "fry", "stir")
    ids = [[mstcn.class_names.index(name) for name in row] for row in (truth, predicted)]
    assert mstcn.frame_accuracy == pytest.approx(100 * 18 / 30)
    for percent in IOU_PERCENTS:
        assert mstcn.f1[percent] == pytest.approx(slow_f1([(ids[0], ids[1])], {0}, percent, 0.0))
    rows = [[segment.label for segment in slow_segments(row, {0})] for row in ids]
    assert mstcn.edit == pytest.approx(slow_edit(*rows))


def test_every_bad_file_is_named_and_the_others_are_scored(tmp_path):
    good = ["cut"] * LONG
    write(tmp_path, "good", good, good)
    write(tmp_path, "unpredicted", good, None)
    write(tmp_path, "unlabelled", None, good)
    write(tmp_path, "short", good, ["cut"])
    write(tmp_path, "long", good, [*good, *good])
    write(tmp_path, "empty", good, [])
    write(tmp_path, "headless", good, good)
    (tmp_path / "predictions" / "headless").write_text(" ".join(good))
    found = score(tmp_path)
    assert [video.video_id for video in found.videos] == ["good"]
    reasons = {each.video: each.reason for each in failures(found.outcomes)}
    assert set(reasons) == {"unpredicted", "unlabelled", "short", "long", "empty", "headless"}
    assert "has no prediction for unpredicted.txt" in reasons["unpredicted"]
    assert "has no unlabelled.txt for this prediction" in reasons["unlabelled"]
    assert "has 1 labels but its video has 30 frames" in reasons["short"]
    assert "has 60 labels but its video has 30 frames" in reasons["long"]
    assert "has no labels in its second line" in reasons["empty"]
    assert "'cut cut" in reasons["headless"]
    assert "is not '### Frame level recognition: ###'" in reasons["headless"]
    for video, reason in reasons.items():
        assert video in reason


def test_a_few_frames_too_few_are_cut_and_told(tmp_path):
    write(tmp_path, "a", ["cut"] * 20 + ["fry"] * 10, ["cut"] * 20 + ["fry"] * 8)
    found = score(tmp_path)
    assert len(found.videos[0].truth) == 28
    assert found.scores[0].frame_accuracy == 100.0
    assert "28 labels for 30 frames, 2 frames left out" in found.notes[0]


def test_a_class_that_the_mapping_lacks_is_named_with_its_file(tmp_path):
    (tmp_path / "mapping.txt").write_text("0 cut\n")
    write(tmp_path, "good", ["cut"] * LONG, ["cut"] * LONG)
    write(tmp_path, "odd", ["cut"] * LONG, ["fry"] * LONG)
    (reason,) = (each.reason for each in failures(score(tmp_path, mapping=tmp_path / "mapping.txt").outcomes))
    assert "odd, label 1: 'fry' begins no class of the mapping" in reason
    with pytest.raises(LabelError, match="'stir' is not in the mapping"):
        score(tmp_path, mapping=tmp_path / "mapping.txt", unseen=["stir"])


def test_nothing_to_score_is_an_error_that_says_why(tmp_path):
    write(tmp_path, "a", ["cut"] * LONG, ["cut"])
    with pytest.raises(DatasetError, match=r"None of the 1 videos can be scored; the first: .*1 labels"):
        score(tmp_path)
    with pytest.raises(DatasetError, match="no such folder of predictions"):
        evaluate_files(tmp_path / "nowhere", tmp_path / "labels")
    (tmp_path / "void").mkdir()
    with pytest.raises(DatasetError, match="void holds no labels"):
        evaluate_files(tmp_path / "predictions", tmp_path / "void")


def test_one_frame_and_background_alone_have_defined_scores(tmp_path):
    write(tmp_path, "one", ["cut"], ["cut"])
    write(tmp_path, "idle", ["background"] * 3, ["background"] * 3)
    mstcn = score(tmp_path).scores[0]
    assert (mstcn.frame_accuracy, mstcn.edit, mstcn.f1[50]) == (100.0, 100.0, 100.0)


def test_unseen_classes_are_scored_apart(tmp_path):
    write(tmp_path, "a", ["cut"] * 10 + ["fry"] * 10, ["cut"] * 15 + ["fry"] * 5)
    (mstcn, fact) = score(tmp_path, unseen=["fry"]).zero_shot
    assert (mstcn.convention, fact.convention) == ("mstcn", "fact")
    assert (mstcn.seen.frame_accuracy, mstcn.unseen.frame_accuracy) == (100.0, 50.0)
    assert mstcn.harmonic.frame_accuracy == pytest.approx(2 * 100 * 50 / 150)


def test_the_report_of_files_holds_their_scores_and_no_path_of_the_machine(tmp_path):
    write(tmp_path, "a", ["cut"] * 10 + ["fry"] * 10, ["cut"] * 15 + ["fry"] * 5)
    found = score(tmp_path)
    write_file_report(
        tmp_path / "out",
        found,
        predictions=tmp_path / "predictions",
        labels=tmp_path / "labels",
        fps=10,
    )
    counts, _ = read_counts(tmp_path / "out", convention="mstcn")
    assert np.array_equal(counts.counts_VK, found.scores[0].counts.counts_VK)
    for name in ("report.html", "report.json", "report.md"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert facts["videos"][0]["seconds"] == {"first": 0.0, "end": 2.0, "step": 0.1}


# --- recognition files --------------------------------------------------------------------------------------


def recognition(tmp_path, text: str, **options) -> list[str]:
    (tmp_path / "v").write_bytes(text.encode("latin-1"))
    return recognition_labels(tmp_path / "v", **options)


def test_line_ends_encodings_and_spare_blanks_do_not_matter(tmp_path):
    assert recognition(tmp_path, f"{HEADER}\r\ncut  crème \r\n") == ["cut", "crème"]


@given(st.lists(st.sampled_from(["pour", "pour milk", "cut", "cut open"]), min_size=1, max_size=20))
def test_names_with_blanks_are_put_together_again(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("files") / "v"
    path.write_text(f"{HEADER}\n{' '.join(names)}")
    assert recognition_labels(path, classes=["pour", "pour milk", "cut", "cut open"]) == names


def test_a_sign_for_blanks_is_read_back(tmp_path):
    (tmp_path / "mapping.txt").write_text("0 pour milk\n1 cut\n")
    write(tmp_path, "a", ["pour milk"] * 2 + ["cut"], ["pour_milk"] * 2 + ["cut"])
    found = score(tmp_path, mapping=tmp_path / "mapping.txt", blank_as="_")
    assert found.scores[0].frame_accuracy == 100.0


def test_words_that_are_no_names_or_several_are_refused(tmp_path):
    with pytest.raises(LabelError, match="label 3: 'jug' begins no class"):
        recognition(tmp_path, f"{HEADER}\npour milk jug", classes=["pour milk", "cut"])
    with pytest.raises(LabelError, match="in more than one way"):
        recognition(tmp_path, f"{HEADER}\na b", classes=["a", "b", "a b"])
    with pytest.raises(LabelError, match="no such recognition file"):
        recognition_labels(tmp_path / "missing")
