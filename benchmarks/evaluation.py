"""Seconds to score many long videos: every figure, its interval, seen against unseen classes, two runs compared.

    python -m benchmarks.evaluation [videos] [frames]

Prints a JSON line per part; one part is all that a report shows: both conventions, with seen and unseen classes.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from pipeline.compare import compare
from pipeline.evaluate_files import score_all
from pipeline.metrics import LabelledPrediction, evaluate
from pipeline.metrics_zero_shot import evaluate_generalized

Made = TypeVar("Made")
CLASSES = tuple(f"class {index}" for index in range(75))


def draw(num_videos: int, num_frames: int, *, seed: int) -> list[LabelledPrediction]:
    """Truth in segments of 100 frames on average, a prediction in pieces of 5."""
    rng = np.random.default_rng(seed)
    return [
        LabelledPrediction(
            video_id=f"v{index}",
            truth=_runs(np.random.default_rng(index), num_frames, mean=100),
            predicted=_runs(rng, num_frames, mean=5),
        )
        for index in range(num_videos)
    ]


def _runs(rng: np.random.Generator, num_frames: int, *, mean: int) -> np.ndarray:
    count = 2 * num_frames // mean + 2
    labels = rng.integers(len(CLASSES), size=count)
    return np.resize(np.repeat(labels, rng.integers(1, 2 * mean, size=count)), num_frames)


def timed(part: str, work: Callable[[], Made], **facts: int) -> Made:
    """What the work makes, after its line was printed."""
    started = time.perf_counter()
    made = work()
    print(json.dumps({"part": part, **facts, "seconds": round(time.perf_counter() - started, 2)}), flush=True)
    return made


def main() -> None:
    """Print a line per part."""
    given = [int(argument) for argument in sys.argv[1:]]
    num_videos, num_frames = (given + [500, 10_000][len(given) :])[:2]
    sizes = {"videos": num_videos, "frames": num_frames}
    ours, theirs = (draw(num_videos, num_frames, seed=seed) for seed in (1, 2))
    scores = timed("evaluate, mstcn, with intervals", lambda: evaluate(ours, class_names=CLASSES), **sizes)
    timed(
        "evaluate, fact, with intervals",
        lambda: evaluate(ours, class_names=CLASSES, background=[0], convention="fact"),
        **sizes,
    )
    timed(
        "seen, unseen, harmonic",
        lambda: evaluate_generalized(ours, unseen=range(60, 75), class_names=CLASSES),
        **sizes,
    )
    timed(
        "a report's scores: both conventions, seen and unseen",
        lambda: score_all(ours, class_names=CLASSES, background=[0], unseen=range(60, 75)),
        **sizes,
    )
    other = evaluate(theirs, class_names=CLASSES)
    timed("compare two runs", lambda: compare(scores.counts, other.counts), **sizes)


if __name__ == "__main__":
    main()
