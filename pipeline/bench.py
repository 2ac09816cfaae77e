"""The data set of the demo: drawn videos of a hand that assembles parts on a bench, with a label for every frame.

The files are what users bring: H.264 in MP4 beside labels in the MS-TCN layout. The generator knows the truth of
every video, also of the one whose labels it does not write.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipeline.bench_scene import HEIGHT, POSES, WIDTH, BenchLook, BenchPainter, BenchState, Held, HandPose, Image
from pipeline.errors import DatasetError
from storage.atomic import artefact_lock, atomic_path, write_json_atomically, write_text_atomically

BENCH_VERSION = 1
"""Raised whenever the same arguments give other bytes or labels; older data sets are then drawn again."""

FRAMES_PER_SECOND = 15
"""Frame rate of the videos."""

BACKGROUND = "background"
"""Class of the frames on which nobody works."""

MIN_SECONDS, MAX_SECONDS = 12, 20
"""Shortest and longest video."""

_CRF = 21


@dataclass(frozen=True, kw_only=True, slots=True)
class _Action:
    """How the hand does one action; moments are shares of its duration, 0 to 1."""

    seconds: float
    """Usual duration."""
    path: tuple[tuple[float, str, str], ...]
    """(moment, place, pose) that the hand reaches, moving smoothly from one to the next."""
    work: tuple[float, float] = (1.0, 1.0)
    """From when to when the hand works where it is."""
    sway: tuple[float, float] = (0.0, 0.0)
    """Movement of the hand while it works: to the side and forwards, in canvas pixels."""
    beats: float = 0.0
    """How often that movement repeats."""
    held: Held | None = None
    carry: tuple[float, float] = (1.0, 1.0)
    """From when to when ``held`` is in the hand."""
    gear_turns: float = 0.0
    screw_turns: float = 0.0


_ACTIONS: Mapping[str, _Action] = {
    BACKGROUND: _Action(seconds=1.5, path=((0.4, "away", "open"), (1, "away", "open"))),
    "take the base plate": _Action(
        seconds=2.2,
        path=((0.34, "plates", "open"), (0.42, "plates", "carry"), (0.84, "jig", "carry"), (1, "jig", "open")),
        held="base plate",
        carry=(0.38, 0.9),
    ),
    "insert the gear": _Action(
        seconds=2.6,
        path=(
            (0.26, "gears", "open"),
            (0.32, "gears", "pinch"),
            (0.55, "gear seat", "pinch"),
            (0.9, "gear seat", "pinch"),
            (1, "gear seat", "open"),
        ),
        held="gear",
        carry=(0.28, 0.93),
        work=(0.55, 0.9),
        sway=(9, 0),
        beats=3,
        gear_turns=0.25,
    ),
    "insert the ball": _Action(
        seconds=2.5,
        path=(
            (0.26, "balls", "open"),
            (0.32, "balls", "pinch"),
            (0.55, "ball seat", "pinch"),
            (0.9, "ball seat", "pinch"),
            (1, "ball seat", "open"),
        ),
        held="ball",
        carry=(0.28, 0.93),
        work=(0.55, 0.9),
        sway=(0, 14),
        beats=2.5,
    ),
    "turn the gear": _Action(
        seconds=2.2,
        path=((0.14, "gear seat", "point"), (0.9, "gear seat", "point"), (1, "gear seat", "open")),
        work=(0.14, 0.9),
        sway=(24, 24),
        beats=2.5,
        gear_turns=2.5,
    ),
    "turn the screw": _Action(
        seconds=2.8,
        path=(
            (0.18, "driver", "open"),
            (0.22, "driver", "fist"),
            (0.36, "screw", "fist"),
            (0.86, "screw", "fist"),
            (0.97, "driver", "fist"),
            (1, "driver", "open"),
        ),
        held="screwdriver",
        carry=(0.2, 0.98),
        work=(0.36, 0.86),
        sway=(5, 0),
        beats=4,
        screw_turns=4,
    ),
    "press the button": _Action(
        seconds=1.9,
        path=((0.26, "button", "palm"), (1, "button", "palm")),
        work=(0.26, 1),
        sway=(0, 12),
        beats=3,
    ),
    "put away the base plate": _Action(
        seconds=2.3,
        path=(
            (0.22, "jig", "open"),
            (0.28, "jig", "carry"),
            (0.72, "tray", "carry"),
            (0.82, "tray", "carry"),
            (1, "tray", "open"),
        ),
        held="assembly",
        carry=(0.25, 0.88),
    ),
}

CLASS_NAMES: tuple[str, ...] = tuple(_ACTIONS)
"""All classes in the order of ``mapping.txt``; the background is class 0."""


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
            f"A bench data set of {num_train} training and {num_test} test videos with seed {seed} was asked for; "
            "choose at least 1 of each and a seed of 0 or more."
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


def plan_video(*, seed: int, index: int) -> list[tuple[str, int]]:
    """The (class, number of frames) of each segment of a video, by the grammar of the work.

    The base plate comes first and is put away last; between them gear and ball are inserted in either order,
    the screw is turned and the button pressed. Ball, screw and turning of the gear are optional, a failed test
    repeats the last two steps, and the worker sometimes pauses. The first video, index 0, leaves nothing out, so
    that every class occurs in training.
    """
    rng = np.random.default_rng([seed, index, 0])
    while True:
        order = _order(rng, complete=index == 0)
        pace = rng.uniform(0.9, 1.15)
        plan = [
            (name, round(FRAMES_PER_SECOND * _ACTIONS[name].seconds * pace * rng.uniform(0.85, 1.2)))
            for name in order
        ]
        if MIN_SECONDS <= sum(frames for _, frames in plan) / FRAMES_PER_SECOND <= MAX_SECONDS:
            return plan


def frame_labels(plan: Sequence[tuple[str, int]]) -> list[str]:
    """The class of every frame of a plan.

    >>> frame_labels([("background", 2), ("turn the screw", 1)])
    ['background', 'background', 'turn the screw']
    """
    return [name for name, frames in plan for _ in range(frames)]


def _order(rng: np.random.Generator, *, complete: bool) -> list[str]:
    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    gear = ["insert the gear"] + ["turn the gear"] * (chance(0.6) or complete)
    ball = ["insert the ball"] * (chance(0.8) or complete)
    finish = ["turn the screw"] * (chance(0.85) or complete) + ["press the button"]
    repeat = finish * (len(finish) == 2 and chance(0.2) and not complete)
    pause = [BACKGROUND] * (chance(0.2) and not complete)
    parts = ball + gear if chance(0.35) else gear + ball
    work = ["take the base plate", *parts, *pause, *finish, *repeat, "put away the base plate"]
    return [BACKGROUND, *work, BACKGROUND]


def _is_complete(dataset: BenchDataset, manifest: Mapping[str, Any]) -> bool:
    written = dataset.root / "bench.json"
    labelled = (*dataset.train, *dataset.test)
    files = [dataset.mapping, *(dataset.splits / f"{part}.split1.bundle" for part in ("train", "test"))]
    files += [dataset.labels / f"{video_id}.txt" for video_id in labelled]
    files += [dataset.video(video_id) for video_id in (*labelled, dataset.new)]
    if not written.is_file() or not all(path.is_file() for path in files):
        return False
    # A manifest that cannot be read belongs to no data set of ours; the data set is then drawn again.
    with contextlib.suppress(ValueError):
        return bool(json.loads(written.read_text(encoding="utf-8")) == manifest)
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
    write_text_atomically(dataset.mapping, _lines(f"{number} {name}" for number, name in enumerate(CLASS_NAMES)))
    for part, ids in (("train", dataset.train), ("test", dataset.test)):
        write_text_atomically(dataset.splits / f"{part}.split1.bundle", _lines(f"{name}.txt" for name in ids))
        for video_id in ids:
            write_text_atomically(dataset.labels / f"{video_id}.txt", _lines(frame_labels(plans[video_id])))
    # Drawing and encoding release the interpreter lock most of the time, so two threads use two cores.
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = [
            pool.submit(_write_video, dataset.video(video_id), plan, rng=np.random.default_rng([seed, index, 1]))
            for index, (video_id, plan) in enumerate(plans.items())
        ]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                if progress is not None:
                    progress(done, len(jobs))
        finally:
            pool.shutdown(cancel_futures=True)


def _lines(items: Sequence[str] | Iterator[str]) -> str:
    return "".join(f"{item}\n" for item in items)


def _write_video(path: Path, plan: Sequence[tuple[str, int]], *, rng: np.random.Generator) -> None:
    look = BenchLook.random(rng)
    painter = BenchPainter(look, rng)
    states = _choreography(plan, look, rng)
    with atomic_path(path) as scratch:
        _encode(scratch, (painter.paint(state, index=index) for index, state in enumerate(states)))


def _encode(path: Path, pictures: Iterator[Image]) -> None:
    """Write RGB pictures as H.264; one thread, because the bytes must not depend on the machine's load."""
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FRAMES_PER_SECOND)
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(_CRF), "preset": "veryfast", "g": str(2 * FRAMES_PER_SECOND)}
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _choreography(
    plan: Sequence[tuple[str, int]], look: BenchLook, rng: np.random.Generator
) -> Iterator[BenchState]:
    """One state per frame; the hand starts where the action before left it."""
    state = BenchState(target=look.place("away"), pose=POSES["open"])
    for name, frames in plan:
        act = _Performance(_ACTIONS[name], before=state, look=look, rng=rng)
        for frame in range(frames):
            state = act.state(name, (frame + 1) / frames)
            yield state


class _Performance:
    """One action as done once: where the hand passes is jittered, so no two are alike."""

    def __init__(
        self, action: _Action, *, before: BenchState, look: BenchLook, rng: np.random.Generator
    ) -> None:
        self._action, self._before = action, before
        stops: list[tuple[float, tuple[float, float], HandPose]] = [(0.0, before.target, before.pose)]
        jitter = {place: rng.normal(0, 3, 2) for _, place, _ in action.path}
        for moment, place, pose in action.path:
            x, y = np.array(look.place(place)) + jitter[place]
            stops.append((moment, (x, y), POSES[pose]))
        self._stops = stops
        self._bow = float(rng.uniform(-0.12, 0.12))

    def state(self, name: str, moment: float) -> BenchState:
        """What the picture shows at ``moment``, a share of the duration."""
        action, before = self._action, self._before
        target, pose = self._hand(moment)
        work = _share(moment, *action.work)
        swing = math.tau * action.beats * work
        # A cosine sideways and a sine forwards make a circle; each starts and ends near rest.
        working = action.work[0] <= moment <= action.work[1] and work > 0
        sway = np.array([math.sin(swing), -math.cos(swing)]) * action.sway * working
        done = moment > action.carry[1]
        pressing = name == "press the button" and working
        return replace(
            before,
            target=(target[0] + sway[0], target[1] + sway[1]),
            pose=pose,
            held=action.held if action.carry[0] <= moment <= action.carry[1] else None,
            plate_on_jig=_after(before.plate_on_jig, name, moment, action),
            gear_in=before.gear_in or (name == "insert the gear" and done),
            ball_in=before.ball_in or (name == "insert the ball" and done),
            plate_away=before.plate_away or (name == "put away the base plate" and done),
            gear_angle=before.gear_angle + math.tau * action.gear_turns * work,
            screw_angle=before.screw_angle + math.tau * action.screw_turns * work,
            pressed=(0.5 - 0.5 * math.cos(swing)) if pressing else 0.0,
            lamp=min(1.0, 4 * work) if pressing else 0.0,
        )

    def _hand(self, moment: float) -> tuple[tuple[float, float], HandPose]:
        for (start, here, pose), (stop, there, next_pose) in zip(self._stops, self._stops[1:], strict=False):
            if moment <= stop:
                share = _share(moment, start, stop)
                ease = share * share * (3 - 2 * share)
                across = (there[0] - here[0], there[1] - here[1])
                bow = self._bow * math.sin(math.pi * share)
                x = here[0] + ease * across[0] - bow * across[1]
                y = here[1] + ease * across[1] + bow * across[0]
                return (x, y), pose.blended(next_pose, ease)
        return self._stops[-1][1], self._stops[-1][2]


def _share(moment: float, start: float, stop: float) -> float:
    """How much of [start, stop] has passed, 0 to 1."""
    return min(1.0, max(0.0, (moment - start) / (stop - start))) if stop > start else 0.0


def _after(on_jig: bool, name: str, moment: float, action: _Action) -> bool:  # noqa: FBT001  (a state, not a switch)
    if name == "take the base plate":
        return moment > action.carry[1]
    return on_jig and not (name == "put away the base plate" and moment >= action.carry[0])
