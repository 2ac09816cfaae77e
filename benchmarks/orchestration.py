"""What Prefect costs per video: the same stage with and without it, over videos whose features are stored.

    python -m benchmarks.orchestration --videos 1000

Prints a JSON line per way. Videos are drawn, weights are seeded random numbers: nothing here says anything about
features.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from flows.invoke import execute
from pipeline.encode import write_h264
from pipeline.settings import ExtractionSettings, ExtractSettings
from pipeline.weights import WeightsPolicy


def draw(folder: Path, count: int) -> None:
    """Videos of four frames of noise, each with its own content."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        pictures = list(rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8))
        write_h264(folder / f"v{index:05}.mp4", pictures, width=32, height=32, fps=10)


def measure(settings: ExtractSettings, *, direct: bool) -> float:
    """Seconds of one run of the stage; it must do nothing but find its features."""
    started = time.perf_counter()
    report = execute("extract", settings, direct=direct)
    seconds = time.perf_counter() - started
    if any(outcome.status != "skipped" for outcome in report.outcomes):
        raise RuntimeError("A video was not skipped: the figures would be of something else.")
    return seconds


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "videos"
        draw(folder, given.videos)
        settings = ExtractSettings(
            store=Path(scratch) / "store",
            videos=(folder,),
            extraction=ExtractionSettings(features=("clip:stride=4",), weights=WeightsPolicy.RANDOM),
        )
        execute("extract", settings, direct=True)
        # The first flow starts the embedded server, which a run on a real server does not do.
        measure(settings, direct=False)
        pairs = [
            (measure(settings, direct=True), measure(settings, direct=False)) for _ in range(given.rounds)
        ]
    overhead = sorted(1000.0 * (flow - plain) / given.videos for plain, flow in pairs)
    line = {
        "benchmark": "orchestration",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "videos": given.videos,
        "rounds": given.rounds,
        "direct_ms_per_video": round(min(1000.0 * plain / given.videos for plain, _ in pairs), 3),
        "overhead_ms_per_video": [round(value, 3) for value in overhead],
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
