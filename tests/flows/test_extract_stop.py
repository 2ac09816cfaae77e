"""Ctrl-C during an extraction: exit code 130, nothing half-written, and the next run finishes the work."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.encode import write_h264

ROOT = Path(__file__).resolve().parents[2]

# Networks that cost nothing; the first run waits in its second batch until it is stopped.
EXTRACT = """
import sys, time
from flows.cli import main
from pipeline import extract_batch
from pipeline.extractors import ExtractorSet
from tests.pipeline.test_extract import FakeClip, fake_extractors

videos, store, wait = sys.argv[1:]
_, extractors = fake_extractors("clip")
extract_batch.shared_extractors = lambda *_: (ExtractorSet(extractors=tuple(extractors)),)
encode = FakeClip.encode_images

def slow(self, images):
    print("encoding", flush=True)
    while wait == "wait":
        time.sleep(0.05)
    return encode(self, images)

FakeClip.encode_images = slow
sys.argv = ["factseg", "extract", videos, "--store", store, "--features", "clip", "--weights", "random", "--direct"]
main()
"""


def start(videos, store, wait):
    return subprocess.Popen(
        [sys.executable, "-c", EXTRACT, str(videos), str(store), wait],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_the_next_run_goes_on(tmp_path):
    import numpy as np

    videos = tmp_path / "videos"
    videos.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    write_h264(videos / "a.mp4", pictures, width=64, height=48, fps=25)
    with start(videos, tmp_path / "store", "wait") as stopped:
        assert stopped.stdout.readline() == "encoding\n"
        stopped.send_signal(signal.SIGINT)
        _, said = stopped.communicate()
    assert stopped.returncode == 130
    assert "stopped; what was finished is kept" in said
    assert "Traceback" not in said
    features = tmp_path / "store" / "features" / "clip"
    assert not list(features.glob("*.parquet"))
    assert not list(tmp_path.rglob("*.part"))
    with start(videos, tmp_path / "store", "go on") as finished:
        said = finished.communicate()
    assert finished.returncode == 0, said
    assert len(list(features.glob("*.parquet"))) == 1
