"""The demo's data set: drawn videos of a hand that assembles parts on a bench, with a label for every frame.

The files are what users bring: H.264 in MP4 beside labels in the MS-TCN layout. The generator knows the
truth of every video, also of the one whose labels it does not write.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bench_scene import HEIGHT, WIDTH, BenchLook, BenchPainter
from pipeline.bench_work import CLASS_NAMES, FRAMES_PER_SECOND, choreography, frame_labels, plan_video
from pipeline.encode import write_h264
from pipeline.errors import DatasetError
from storage.atomic import artefact_lock, atomic_path, write_json_atomically, write_text_atomically

BENCH_VERSION = 2
"""Raised whenever the same arguments give other bytes or labels; older data sets are then drawn again."""

_PARTS = ("train", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchDataset:
    """Where the parts of the data set lie and which video is for what."""

    root: Path
    train: tuple[str, ...]
    """Ids of the training videos."""
    test: tuple[str, ...]
    """Ids of the held-out videos."""
    new: str
    """Id of the video without labels."""
    new_labels: tuple[str, ...]
    """The class of every frame of the new video; it stands in no file."""

    @property
    def videos(self) -> Path:
        """Folder of the labelled videos, ``<id>.mp4``."""
        return self.root / "videos"

    @property
    def labels(self) -> Path:
        """Folder of the label files, ``<id>.txt`` with a class name per frame."""
        return self.root / "groundTruth"

    @property
    def mapping(self) -> Path:
        """File with ``<number> <class name>`` per line."""
        return self.root / "mapping.txt"

    @property
    def splits(self) -> Path:
        """Folder with ``train.split1.bundle`` and ``test.split1.bundle``."""
        return self.root / "splits"

    @property
    def new_video(self) -> Path:
        """The video without labels."""
        return self.root / "new" / f"{self.new}.mp4"

    def video(self, video_id: str) -> Path:
        """The file of a training, test or new video."""
        return self.new_video if video_id == self.new else self.videos / f"{video_id}.mp4"


def write_bench(
    root: Path,
    *,
    num_train: int = 10,
    num_test: int = 4,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> BenchDataset:
    """Draw the data set under ``root``, or leave it alone when it is already there with these arguments.

    The same arguments give the same bytes on the same machine. A data set drawn with other arguments is
    replaced. ``bench.json`` is written last, so a killed run is done again by the next one.

    Args:
        root: Folder of the data set; made when missing.
        num_train: Number of training videos, at least 1.
        num_test: Number of held-out videos, at least 1.
        seed: Decides what the videos show.
        progress: Called with (videos done, videos in all) after each video drawn.

    Raises:
        DatasetError: A number of videos below 1 or a negative seed was asked for.
    """
    if min(num_train, num_test) < 1 or seed < 0:
        raise DatasetError(
            f"A bench data set of {num_train} training and {num_test} test videos with seed {seed} was asked "
            "for; choose at least 1 of each and a seed of 0 or more."
        )
    ids = [f"bench-{number:02d}" for number in range(1, num_train + num_test + 2)]
    plans = {video_id: plan_video(seed=seed, index=index) for index, video_id in enumerate(ids)}
    dataset = BenchDataset(
        root=root,
        train=tuple(ids[:num_train]),
        test=tuple(ids[num_train:-1]),
        new=ids[-1],
        new_labels=tuple(frame_labels(plans[ids[-1]])),
    )
    manifest = {
        "version": BENCH_VERSION,
        "num_train": num_train,
        "num_test": num_test,
        "seed": seed,
        "frames": {video_id: sum(frames for _, frames in plan) for video_id, plan in plans.items()},
    }
    with artefact_lock(root / "bench.json"):
        if not _is_complete(dataset, manifest):
            _clear(dataset)
            _write_all(dataset, plans, seed=seed, progress=progress)
            write_json_atomically(root / "bench.json", manifest)
    return dataset


def _is_complete(dataset: BenchDataset, manifest: Mapping[str, Any]) -> bool:
    written, labelled = dataset.root / "bench.json", (*dataset.train, *dataset.test)
    files = [written, dataset.mapping, *(dataset.splits / f"{part}.split1.bundle" for part in _PARTS)]
    files += [dataset.labels / f"{video_id}.txt" for video_id in labelled]
    files += [dataset.video(video_id) for video_id in (*labelled, dataset.new)]
    if not all(path.is_file() for path in files):
        return False
    try:
        return bool(json.loads(written.read_text(encoding="utf-8")) == manifest)
    except ValueError:  # not a manifest of ours, so there is nothing to keep
        return False


def _clear(dataset: BenchDataset) -> None:
    """Remove what an earlier or killed run left; only files named as this module names them."""
    (dataset.root / "bench.json").unlink(missing_ok=True)
    for folder in (dataset.videos, dataset.labels, dataset.new_video.parent):
        for pattern in ("bench-*.mp4", "bench-*.txt", ".bench-*.part"):
            for path in folder.glob(pattern):
                path.unlink()


def _write_all(
    dataset: BenchDataset,
    plans: Mapping[str, list[tuple[str, int]]],
    *,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    write_text_atomically(dataset.mapping, _lines(f"{k} {name}" for k, name in enumerate(CLASS_NAMES)))
    for part, ids in zip(_PARTS, (dataset.train, dataset.test), strict=True):
        write_text_atomically(dataset.splits / f"{part}.split1.bundle", _lines(f"{name}.txt" for name in ids))
        for video_id in ids:
            write_text_atomically(dataset.labels / f"{video_id}.txt", _lines(frame_labels(plans[video_id])))
    # Drawing and encoding release the interpreter lock much of the time, so two threads use both cores.
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = [
            pool.submit(_write_video, dataset.video(video_id), plan, seed=seed, index=index)
            for index, (video_id, plan) in enumerate(plans.items())
        ]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                if progress is not None:
                    progress(done, len(jobs))
        finally:
            pool.shutdown(cancel_futures=True)


def _lines(items: Iterable[str]) -> str:
    return "".join(f"{item}\n" for item in items)


def _write_video(path: Path, plan: Sequence[tuple[str, int]], *, seed: int, index: int) -> None:
    look_rng, work_rng = np.random.default_rng([seed, index, 1]).spawn(2)
    look = BenchLook.random(look_rng)
    painter = BenchPainter(look, look_rng)
    with atomic_path(path) as scratch:
        pictures = map(painter.paint, choreography(plan, look, work_rng))
        write_h264(scratch, pictures, width=WIDTH, height=HEIGHT, fps=FRAMES_PER_SECOND)
