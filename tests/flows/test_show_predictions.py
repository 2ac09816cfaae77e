"""``extract --show-predictions``: what is shown, where it is printed, and what is refused before any work."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from flows import cli_output, stages
from flows.runner import DirectRunner
from pipeline import anywhere, predictions
from pipeline.encode import write_h264
from pipeline.errors import SettingsError
from pipeline.extractors import load_i3d
from pipeline.outcome import VideoOutcome
from pipeline.predictions import SeenClass, VideoPrediction
from pipeline.preprocess import i3d_frames
from pipeline.probe import probe_video
from pipeline.settings import ExtractSettings
from pipeline.video import read_frames
from pipeline.weights import random_weights

NAMES = "".join(f"class of number {index}\n" for index in range(400))


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    for place in ("P01", "P02"):
        (folder / place).mkdir(parents=True)
        (folder / place / "cam.mp4").write_bytes(b"\0\1\2" * 100)
    return folder


def settings(videos, tmp_path, *, features=("i3d-rgb",), **options):
    extraction = {"features": features, "weights": "random", "device": "cpu"}
    given = {"recursive": True, "show_predictions": True, **options}
    return ExtractSettings(store=tmp_path / "store", videos=(videos,), extraction=extraction, **given)


@pytest.fixture
def done(monkeypatch):
    """Every video is extracted at once, and seen as its folder's name."""

    def see(paths, **_options):
        return [
            VideoPrediction(
                video=path.stem,
                path=str(path),
                profile="i3d-rgb",
                classes=(SeenClass(name=path.parent.name, probability=0.25, logit=1.5),),
                random_weights=False,
            )
            for path in paths
        ]

    def extract(paths, **_options):
        return [VideoOutcome(video=path.stem, status="done", path=str(path)) for path in paths]

    monkeypatch.setattr(anywhere, "extract_batch", extract)
    monkeypatch.setattr(anywhere, "plan_batch", extract)
    monkeypatch.setattr(predictions, "predict_classes", see)


@pytest.mark.usefixtures("done")
def test_the_classes_carry_the_names_of_the_final_table(videos, tmp_path, capsys):
    report = stages.extract(settings(videos, tmp_path), DirectRunner())
    shown = [(one["video"], one["classes"][0]["name"]) for one in report.facts["predictions"]]
    assert shown == [("P01/cam", "P01"), ("P02/cam", "P02")]
    assert [one.video for one in report.outcomes] == ["P01/cam", "P02/cam"]
    cli_output.print_predictions(report, as_json=True)
    told = capsys.readouterr()
    # Standard output is one JSON value, that of the outcomes.
    assert told.out == ""
    assert told.err.splitlines()[0].split("\t") == ["P01/cam", "i3d-rgb", "P01", "0.250", "1.50"]
    cli_output.print_predictions(report, as_json=False)
    told = capsys.readouterr()
    assert "P02/cam" in told.out
    assert told.err == ""


@pytest.mark.usefixtures("done")
def test_nothing_is_seen_where_it_is_not_asked_for_or_nothing_is_made(videos, tmp_path):
    for options in ({"show_predictions": False}, {"dry_run": True}):
        assert (
            "predictions" not in stages.extract(settings(videos, tmp_path, **options), DirectRunner()).facts
        )


def test_what_could_not_be_shown_is_refused_before_any_work(monkeypatch, videos, tmp_path):
    monkeypatch.setattr(anywhere, "extract_batch", lambda *_, **__: pytest.fail("a video was looked at"))
    (tmp_path / "short.txt").write_text("one\ntwo\n")
    refused = [
        (settings(videos, tmp_path).model_copy(update={"videos": ("https://host/a.mp4",)}), "give no URL"),
        (settings(videos, tmp_path, features=("clip:stride=4",)), r"clip:stride=4 has no I3D\. Leave it out"),
        (settings(videos, tmp_path, class_names=tmp_path / "short.txt"), "holds 2 class names"),
        (
            settings(videos, tmp_path, class_names=tmp_path / "gone.txt"),
            r"gone\.txt: class names cannot be read",
        ),
    ]
    for given, reason in refused:
        with pytest.raises(SettingsError, match=reason):
            stages.extract(given, DirectRunner())
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_the_command_line_prints_what_a_forward_of_the_whole_network_sees(factseg, tmp_path):
    folder, names = tmp_path / "videos", tmp_path / "names.txt"
    folder.mkdir()
    names.write_text(NAMES)
    pictures = np.random.default_rng(3).integers(0, 255, (20, 64, 96, 3), dtype=np.uint8)
    write_h264(folder / "film.mp4", pictures, width=96, height=64, fps=10)
    shutil.copy(folder / "film.mp4", folder / "film.mov")
    (folder / "bad.mp4").write_text("no video\n")
    profile = "i3d-rgb:window=9:stride=9:edge=drop"
    options = ("--direct", "--weights", "random", "--device", "cpu", "--profile", profile)
    ran = factseg(
        *("extract", folder, *options, "--store", tmp_path / "store"),
        *("--show-predictions", "--class-names", names, "--json"),
    )
    assert ran.returncode == 1, ran.stderr
    assert {one["video"]: one["status"] for one in json.loads(ran.stdout)} == {
        "bad": "failed",
        "film.mov": "done",
        "film.mp4": "skipped",
    }
    assert "note: the weights are random numbers, and so are the classes" in ran.stderr.splitlines()
    lines = [line.split("\t") for line in ran.stderr.splitlines() if "\t" in line]
    expected = seen_by_forwards(folder / "film.mp4")
    for video, group in itertools.groupby(lines, key=lambda line: line[0]):
        assert video in {"film.mov", "film.mp4"}
        shown = [(name, float(logit)) for _, _, name, _, logit in group]
        assert [name for name, _ in shown] == [f"class of number {index}" for index in expected[1]]
        np.testing.assert_allclose([logit for _, logit in shown], expected[0], atol=0.006)
    assert len(lines) == 10


def seen_by_forwards(path: Path):
    """The five largest logits and their classes: mean over two windows of nine frames."""
    _, pictures = next(read_frames(path, probe_video(path)))
    frames = i3d_frames(torch.from_numpy(pictures))
    encoder = load_i3d(random_weights("i3d-rgb", seed=0), device=torch.device("cpu"))
    windows = torch.stack([frames[0:9], frames[9:18]]).permute(0, 4, 1, 2, 3)
    with torch.inference_mode():
        logits = encoder._model(windows).logits.mean(dim=(0, 1))
    return [values.tolist() for values in logits.topk(5)]
