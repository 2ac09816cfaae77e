"""The demo as a newcomer runs it: drawn videos, the whole chain, a new video segmented."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.bench import write_bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def demo(factseg, tmp_path_factory):
    """The demo's folder, its options and what the first run printed."""
    folder = tmp_path_factory.mktemp("demo")
    options = ["demo", "--data", folder / "data", "--store", folder / "store", "--json"]
    # Weights that happen to lie in this machine's cache must not change what is tested.
    nowhere = {"FACTSEG_WEIGHTS": str(folder / "none"), "HF_HUB_CACHE": str(folder / "none")}
    ran = factseg(*options, timeout=1800, **nowhere)
    assert ran.returncode == 0, ran.stderr
    return folder, lambda: factseg(*options, timeout=1800, **nowhere), ran


def test_the_held_out_videos_are_segmented_well(demo):
    scores = json.loads(demo[2].stdout)["pipeline"]["evaluate"]["scores"]["mstcn"]
    assert scores["frame accuracy"] >= 80


def test_random_weights_are_named_in_log_report_and_metadata(demo):
    folder, _, ran = demo
    assert "seeded random weights" in ran.stderr
    page = Path(json.loads(ran.stdout)["pipeline"]["evaluate"]["report"])
    assert "seeded random weights" in page.read_text(encoding="utf-8")
    for path in (folder / "store" / "features").glob("*/*.parquet"):
        assert json.loads(pq.read_schema(path).metadata[b"factseg"])["random_weights"] is True


def test_the_new_video_is_segmented_as_it_was_drawn(demo):
    folder, _, ran = demo
    [video] = json.loads(ran.stdout)["segmented"]
    truth = write_bench(folder / "data").new_labels
    predicted = [
        row["class"] for row in video["segments"] for _ in range(row["start_frame"], row["end_frame"])
    ]
    assert len(predicted) == len(truth)
    right = sum(a == b for a, b in zip(predicted, truth, strict=True))
    assert right / len(truth) >= 0.7


def test_the_second_time_no_video_is_decoded_and_no_epoch_trained(demo):
    folder, run_again, first = demo
    made = {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.suffix in {".mp4", ".parquet", ".safetensors", ".html"}
        and path.name != "catalogue.parquet"
        # The table of a stage says what became of each video this time.
        and path.parent.name != "tables"
    }
    again = run_again()
    assert again.returncode == 0
    facts = json.loads(again.stdout)["pipeline"]
    assert (facts["train"]["trained"], facts["evaluate"]["evaluated"]) == (False, False)
    assert facts["train"]["run"] == json.loads(first.stdout)["pipeline"]["train"]["run"]
    assert "14 skipped" in again.stderr
    assert "extract bench" not in again.stderr
    assert "epochs" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_stored_video_is_segmented_directly(demo, factseg):
    folder, _, ran = demo
    video = next((folder / "data" / "new").glob("*.mp4"))
    direct = factseg("segment", video, "--store", folder / "store", "--direct", "--json")
    assert json.loads(direct.stdout) == json.loads(ran.stdout)["segmented"]


def test_insisting_on_real_weights_fails_with_the_remedy(factseg, tmp_path):
    ran = factseg(
        *("demo", "--pretrained", "--data", tmp_path / "data", "--store", tmp_path / "store", "--direct"),
        FACTSEG_WEIGHTS=str(tmp_path / "none"),
        HF_HUB_CACHE=str(tmp_path / "none"),
        HF_HUB_OFFLINE="1",
    )
    assert ran.returncode == 1
    assert "--weights random" in ran.stderr or "FACTSEG_WEIGHTS" in ran.stderr or "hub" in ran.stderr
    assert "Traceback" not in ran.stderr
