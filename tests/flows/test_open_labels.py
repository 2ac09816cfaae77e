"""Labels that no training video has, on the command line; the text tower has seeded random weights."""

import json

import pytest

pytestmark = pytest.mark.slow


def test_a_new_video_is_segmented_by_labels_never_trained_on(trained, dataset, factseg):
    store, _ = trained
    video = dataset / "videos" / "c.mp4"
    labels = ["open the box", "insert the ball"]
    ran = factseg("segment", video, "--labels", *labels, "--store", store, "--direct", "--json")
    assert ran.returncode == 0, ran.stderr
    (found,) = json.loads(ran.stdout)
    assert {part["class"] for part in found["segments"]} <= set(labels)
    twice = factseg("segment", video, "--labels", "stir", "stir", "--store", store, "--direct")
    assert twice.returncode == 1
    assert "given twice" in twice.stderr
