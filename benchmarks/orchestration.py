"""What Prefect costs per video: the same stage with and without it, over videos whose features are stored.

    python -m benchmarks.orchestration --videos 1000

Where ``PREFECT_API_URL`` names a server, that one keeps the runs; else an embedded one does. Progress goes to
standard error, a JSON line to standard output. Videos are drawn, weights are seeded random numbers: nothing here says
anything about features. Most of the time goes into the features themselves, so ``--contents`` may draw fewer
different videos than there are files; what Prefect does is the same.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import numpy as np

from flows.invoke import execute
from pipeline import progress
from pipeline.encode import write_h264
from pipeline.settings import ExtractionSettings, ExtractSettings
from pipeline.weights import WeightsPolicy

SAY_EVERY = 100
"""Videos between two lines of progress."""


def say(message: str) -> None:
    """A line for whoever waits."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def phase(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Note how long a part of the benchmark took, and say so."""
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 1)
    say(f"{name}: {seconds[name]} s")


def draw(folder: Path, *, files: int, contents: int) -> None:
    """Videos of four frames of noise; those beyond ``contents`` are links to earlier ones."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(files):
        path = folder / f"v{index:05}.mp4"
        if index >= contents:
            path.hardlink_to(folder / f"v{index % contents:05}.mp4")
            continue
        pictures = list(rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8))
        write_h264(path, pictures, width=32, height=32, fps=10)


class Counter:
    """Says how many videos are extracted, now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done: set[str] = set()

    def __call__(self, state: progress.Progress) -> None:
        """Take a report of progress."""
        if state.done < state.total or state.work in self._done:
            return
        self._done.add(state.work)
        if len(self._done) % SAY_EVERY == 0:
            say(f"  features of {len(self._done)} of {self._total} videos")


def measure(settings: ExtractSettings, *, direct: bool) -> float:
    """Seconds of one run of the stage; it must do nothing but find its features."""
    started = time.perf_counter()
    report = execute("extract", settings, direct=direct)
    seconds = time.perf_counter() - started
    if any(outcome.status != "skipped" for outcome in report.outcomes):
        raise RuntimeError("A video was not skipped: the figures would be of something else.")
    say(f"  {'without' if direct else 'with'} Prefect: {seconds:.2f} s")
    return seconds


def settled(count: Callable[[], int]) -> tuple[int, int]:
    """What is counted at once and in the end: a server writes down task runs after they ran."""
    first = now = count()
    while True:
        time.sleep(2.0)
        before, now = now, count()
        if now == before:
            return first, now


def count_task_runs() -> int:
    """Task runs of the flow run that started last, as far as the server has written them down."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    page = 200  # the most that the server answers at once
    with get_client(sync_client=True) as client:
        (latest,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(str(latest.id))]))
        found = 0
        while True:
            runs = client.read_task_runs(flow_run_filter=mine, limit=page, offset=found)
            found += len(runs)
            if len(runs) < page:
                return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--contents", type=int, help="different videos among them; all unless given")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "videos"
        contents = min(given.contents or given.videos, given.videos)
        with phase("drawing", seconds):
            draw(folder, files=given.videos, contents=contents)
        settings = ExtractSettings(
            store=Path(scratch) / "store",
            videos=(folder,),
            extraction=ExtractionSettings(features=("clip:stride=4",), weights=WeightsPolicy.RANDOM),
        )
        with phase("features", seconds), progress.listening(Counter(contents)):
            execute("extract", settings, direct=True)
        # The first flow starts the embedded server, which a run on a real server does not do.
        with phase("first flow", seconds):
            measure(settings, direct=False)
        with phase("rounds", seconds):
            pairs = [
                (measure(settings, direct=True), measure(settings, direct=False)) for _ in range(given.rounds)
            ]
        at_once, task_runs = settled(count_task_runs)
    overhead = sorted(1000.0 * (flow - plain) / given.videos for plain, flow in pairs)
    line = {
        "benchmark": "orchestration",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "server": "a server" if os.environ.get("PREFECT_API_URL") else "embedded",
        "videos": given.videos,
        "contents": contents,
        "task_runs": task_runs,
        "task_runs_when_the_flow_ended": at_once,
        "rounds": given.rounds,
        "seconds": seconds,
        "direct_ms_per_video": round(min(1000.0 * plain / given.videos for plain, _ in pairs), 3),
        "overhead_ms_per_video": [round(value, 3) for value in overhead],
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
