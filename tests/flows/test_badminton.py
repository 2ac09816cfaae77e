"""The chain on two real broadcast rallies, where they are at hand."""

import json

import pyarrow.parquet as pq
import pytest

from tests.conftest import SHARED

DATA = SHARED / "datasets" / "badminton"
TRAIN, TEST = "2_03_05", "2_01_04"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not DATA.is_dir(), reason=f"the badminton rallies are not at {DATA.name} beside the checkout"
    ),
]


@pytest.fixture(scope="module")
def ran(factseg, tmp_path_factory):
    folder = tmp_path_factory.mktemp("badminton")
    videos = folder / "videos"
    videos.mkdir()
    for name in (TRAIN, TEST):
        (videos / f"{name}.mp4").symlink_to(DATA / "videos" / f"{name}.mp4")
    splits = folder / "splits"
    splits.mkdir()
    (splits / "train.split1.bundle").write_text(f"{TRAIN}.txt")
    (splits / "test.split1.bundle").write_text(f"{TEST}.txt")
    done = factseg(
        *("run", "--videos", videos, "--labels", DATA / "groundTruth", "--mapping", DATA / "mapping.txt"),
        *(
            "--splits",
            splits,
            "--name",
            "rallies",
            "--weights",
            "random",
            "--epochs",
            "2",
            "--json",
            "--direct",
        ),
        *("--store", folder / "store"),
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return folder / "store", json.loads(done.stdout)


def test_the_test_rally_is_scored_on_every_labelled_frame(ran):
    _, facts = ran
    report = json.loads((ran[0].parent / facts["evaluate"]["report"]).with_name("report.json").read_text())
    labels = (DATA / "groundTruth" / f"{TEST}.txt").read_text().split()
    assert report["scores"][0]["num_frames"] == len(labels)


def test_frame_counts_and_time_stamps_are_exact(ran):
    store, _ = ran
    rows = pq.read_table(store / "catalogue.parquet").to_pylist()
    assert {row["id"] for row in rows} == {TRAIN, TEST}
    for row in rows:
        labels = (DATA / "groundTruth" / f"{row['id']}.txt").read_text().split()
        assert row["num_frames"] == len(labels)
        assert row["fps"] == 25
    for profile, stride in (("i3d-rgb", 8), ("clip", 4)):
        for path in (store / "features" / profile).glob("*.parquet"):
            time = pq.read_table(path)["time"].to_numpy()
            frames = json.loads(pq.read_schema(path).metadata[b"factseg"])["num_frames"]
            assert time.tolist() == pytest.approx(
                [index / 25 for index in range(0, frames, stride)], abs=1e-9
            )
