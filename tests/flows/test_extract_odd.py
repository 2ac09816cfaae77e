"""The command line over real odd files and odd names: a right table, exit code 1, every good video stored."""

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from pipeline.encode import write_h264
from storage.features import read_features
from storage.keys import file_digest
from tests.pipeline.test_probe import NAMED_ERRORS, STREAM_WITH_MOST_PIXELS

pytestmark = pytest.mark.slow

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
NAMES = ("-dash.mp4", "a 'b' \"c\".mp4", "two\nlines.mp4", "\N{CLAPPER BOARD}.mp4", "--help.mp4")
ODD = {
    "decord__corrupted.mp4": "corrupt after frame 28 of 50",
    "go-mp4__sample_init.encv.mp4": "encrypted",
    "moviepy__result.webm": "empty file",
    "mp4parse-rust__amr_nb_1f.3gp": "no video stream",
    "small__AudioVideoInterleave.avi": "holds no pictures",
    "decord__video_90.mov": "",
    "moviepy__no_duration.webm": "",
    "torchcodec__av1_video.mkv": "",
    "PROBE.jsonl": "not a video",
}


def table(store):
    rows = json.loads((store / "tables" / "extract.json").read_text())["videos"]
    return {Path(row["path"] or row["video"]).name: row for row in rows}


def test_odd_names_are_stored_and_bad_files_are_one_line_each(factseg, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for index, name in enumerate(NAMES):
        write_h264(folder / name, np.full((12, 64, 96, 3), 20 * index, np.uint8), width=96, height=64, fps=10)
    (folder / "a folder.mp4").mkdir()
    (folder / "text.mp4").write_text("no video\n")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s.mp4"))
        store = tmp_path / "store"
        ran = factseg(
            *("extract", "--direct", "--weights", "random", "--profile", "clip:stride=8", "--store", store),
            *("--", folder),
        )
    assert ran.returncode == 1, ran.stderr
    assert ran.stderr.splitlines()[-1] == "extract: 1 of 6 failed"
    rows = {row["status"]: [] for row in table(store).values()}
    for name, row in table(store).items():
        rows[row["status"]].append(name)
    assert sorted(rows["done"]) == sorted(NAMES)
    assert rows["failed"] == ["text.mp4"]
    assert len(list(store.rglob("features/clip/*.parquet"))) == len(NAMES)
    header = next(line for line in ran.stdout.splitlines() if "video" in line)
    assert header.replace("┃", " ").split() == ["video", "status", "seconds", "reason"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder of real videos beside the checkout")
def test_real_odd_files_are_stored_or_named(factseg, tmp_path):
    folder, store = tmp_path / "odd", tmp_path / "store"
    folder.mkdir()
    for name in ODD:
        shutil.copy(SHARED / "videos" / "odd" / name, folder)
    clip = SHARED / "videos" / "clips" / "pennaction_0003.mp4"
    ran = factseg(
        *("extract", clip, folder, "--direct", "--weights", "random"),
        *("--features", "clip:stride=32", "--store", store),
    )
    assert ran.returncode == 1, ran.stderr
    rows = table(store)
    assert set(rows) == {*ODD, clip.name}
    for name, reason in {**ODD, clip.name: ""}.items():
        status = {"": "done", "not a video": "skipped"}.get(reason, "failed")
        assert (name, rows[name]["status"]) == (name, status)
        assert reason in rows[name]["reason"]
        assert bool(rows[name]["reason"]) == bool(reason)
        assert "\n" not in rows[name]["reason"]
    stored = [read_features(path) for path in store.rglob("features/clip/*.parquet")]
    assert len(stored) == sum(not reason for reason in ODD.values()) + 1
    assert all(np.isfinite(one.feature).all() and len(one.feature) for one in stored)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder of real videos beside the checkout")
def test_whole_folders_of_real_videos_end_in_a_right_table_with_every_good_video_stored(factseg, tmp_path):
    clips, odd, store = SHARED / "videos" / "clips", SHARED / "videos" / "odd", tmp_path / "store"
    ran = factseg(
        *("extract", clips, odd, "--direct", "--weights", "random"),
        *("--profile", "clip:stride=64", "--store", store),
    )
    assert ran.returncode == 1, ran.stderr
    rows = json.loads((store / "tables" / "extract.json").read_text())["videos"]
    by_path = {row["path"]: row for row in rows}
    assert set(by_path) == {str(path) for path in (*clips.iterdir(), *odd.iterdir()) if path.is_file()}
    assert len(rows) == len(by_path)
    found = {path: judged(row) for path, row in by_path.items()}
    assert found == {path: expected(Path(path)) for path in by_path}
    good = [Path(path) for path, told in found.items() if told == "good"]
    failed = sum(told not in {"good", "not a video"} for told in found.values())
    assert ran.stderr.splitlines()[-1] == f"extract: {failed} of {len(rows)} failed"
    assert not any("\n" in row["reason"] for row in rows)
    stored = {
        one.metadata.video_hash: one for one in map(read_features, store.rglob("features/clip/*.parquet"))
    }
    assert set(stored) == {file_digest(path) for path in good}
    counts = frames_by_decoding(odd)
    for path in good:
        features = stored[file_digest(path)]
        num_frames = counts.get(path.name, features.metadata.num_frames)
        assert (path.name, features.metadata.num_frames) == (path.name, num_frames)
        assert features.feature.shape == (-(-num_frames // 64), 512)
        assert np.isfinite(features.feature).all()


def judged(row):
    """What a row says of its file: good, not a video, or the reason for which it failed."""
    if row["status"] == "done" or row["reason"] == "its features are stored":
        return "good"
    if row["status"] == "skipped":
        return row["reason"]
    named = NAMED_ERRORS.get(Path(row["path"]).name, "?")
    return named if named in row["reason"] else row["reason"]


def expected(path):
    return NAMED_ERRORS.get(path.name, "not a video" if path.suffix in {".vtt", ".jsonl", ".tsv"} else "good")


def frames_by_decoding(odd):
    """Frames of each odd file, as another program decoded them."""
    rows = [json.loads(line) for line in (odd / "PROBE.jsonl").read_text(encoding="utf-8").splitlines()]
    return {row["file"]: row["n"] for row in rows if "n" in row} | STREAM_WITH_MOST_PIXELS
