"""``factseg evaluate --predictions`` and ``factseg compare`` as people use them."""

import json
from pathlib import Path

import pytest

from flows.cli import run_command
from pipeline.label_text import RECOGNITION_HEAD as HEADER


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Labels of six videos and two predictions of them, one much worse."""
    for name in ("labels", "good", "bad"):
        (tmp_path / name).mkdir()
    for index in range(6):
        truth = ["background"] * 20 + ["cut"] * 20 + ["fry"] * 20
        good = ["background"] * (22 + index) + ["cut"] * (18 - index) + ["fry"] * 20
        bad = (["background", "cut", "fry"] * 20)[:60]
        (tmp_path / "labels" / f"v{index}.txt").write_text("\n".join(truth))
        for name, row in (("good", good), ("bad", bad)):
            (tmp_path / name / f"v{index}").write_text(f"{HEADER}\n{' '.join(row)}\n")
    return tmp_path


def test_files_are_scored_without_a_model_or_a_store(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    options = ["evaluate", "--predictions", "good", "--labels", "labels", "--unseen", "fry", "--json"]
    assert run_command(options) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["mstcn"]["frame accuracy"] == pytest.approx(100 * (360 - 27) / 360)
    low, high = found["intervals"]["mstcn"]["frame accuracy"]
    assert low < found["scores"]["mstcn"]["frame accuracy"] < high
    assert found["zero_shot"]["mstcn"]["unseen"]["f1@50"] == 100.0
    assert not (files / "factseg-store").exists()
    assert run_command(options[:-1]) == 0
    shown = capsys.readouterr().out
    for wanted in ("mstcn", "fact", "harmonic", "95 %"):
        assert wanted in shown


def test_a_missing_prediction_is_said_and_makes_the_exit_code(files, capsys):
    (files / "good" / "v3").unlink()
    arguments = ["evaluate", "--predictions", str(files / "good"), "--labels", str(files / "labels")]
    assert run_command(arguments) == 1
    assert "failed: v3: " in capsys.readouterr().err


def test_two_predictions_are_compared_by_their_reports_without_a_store(files, capsys, monkeypatch):
    monkeypatch.chdir(files)
    for name in ("good", "bad"):
        arguments = ["evaluate", "--predictions", str(files / name), "--labels", str(files / "labels")]
        assert run_command([*arguments, "--out", str(files / f"{name}-report")]) == 0
    capsys.readouterr()
    sides = [str(files / "bad-report"), str(files / "good-report")]
    assert run_command(["compare", *sides, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["figure"]: row for row in found["differences"]}
    assert rows["f1@50"]["difference"] > 90
    # Six videos: 64 swaps, of which the found one and its mirror image differ as much.
    assert (found["exact"], rows["f1@50"]["p_value"]) == (True, 2 / 64)
    assert run_command(["compare", *sides]) == 0
    assert "6 videos, convention mstcn" in capsys.readouterr().out
    assert not (files / "factseg-store").exists()


def test_runs_scored_on_other_labels_are_not_compared(files, capsys):
    for name in ("good", "bad"):
        arguments = ["evaluate", "--predictions", str(files / name), "--labels", str(files / "labels")]
        assert run_command([*arguments, "--out", str(files / f"{name}-report")]) == 0
        path = files / "labels" / "v2.txt"
        path.write_text(path.read_text().replace("background", "cut"))
    assert run_command(["compare", str(files / "bad-report"), str(files / "good-report")]) == 1
    assert "different labels of 'v2' (1 such videos)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predictions", "p"], "--predictions needs --labels"),
        (["--predictions", "p", "--labels", "l", "--run", "ab"], "exclude each other"),
        (["--out", "o"], "--out belongs to --predictions"),
        (["--predictions", "p", "--labels", "l", "--fps", "0"], "--fps 0.0 is no rate"),
        (["--predictions", "p", "--labels", "l", "--videos-beside", "v"], "give --out too"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(arguments, message, capsys):
    assert run_command(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_address_that_holds_no_video_is_wrong_usage(files, capsys):
    arguments = ["evaluate", "--predictions", str(files / "good"), "--labels", str(files / "labels")]
    options = ["--out", str(files / "o"), "--videos-beside", "javascript:alert(1)"]
    assert run_command([*arguments, *options]) == 2
    assert "neither a folder" in capsys.readouterr().err
