"""What the hand on the drawn bench does: its actions, their order, and where everything is at each moment."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pipeline.bench_parts import Assembly
from pipeline.bench_scene import POSES, BenchLook, BenchState, HandPose, Held

FRAMES_PER_SECOND = 15
"""Frame rate of the videos."""

BACKGROUND = "background"
"""Class of the frames on which nobody works."""

MIN_SECONDS, MAX_SECONDS = 12, 20
"""Shortest and longest video."""


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
    presses: bool = False
    """Whether the work is pressing the button."""


_ACTIONS: Mapping[str, _Action] = {
    BACKGROUND: _Action(seconds=1.5, path=((0.4, "away", "open"), (1, "away", "open"))),
    "take the base plate": _Action(
        seconds=2.2,
        path=(
            (0.28, "plates", "open"),
            (0.34, "plates", "carry"),
            (0.84, "jig", "carry"),
            (1, "jig", "open"),
        ),
        held="base plate",
        carry=(0.3, 0.9),
    ),
    "insert the gear": _Action(
        seconds=2.6,
        path=(
            (0.2, "gears", "open"),
            (0.25, "gears", "pinch"),
            (0.48, "gear seat", "pinch"),
            (0.92, "gear seat", "pinch"),
            (1, "gear seat", "open"),
        ),
        held="gear",
        carry=(0.21, 0.95),
        work=(0.48, 0.92),
        sway=(9, 0),
        beats=3,
        gear_turns=0.25,
    ),
    "insert the ball": _Action(
        seconds=2.5,
        path=(
            (0.2, "balls", "open"),
            (0.25, "balls", "pinch"),
            (0.48, "ball seat", "pinch"),
            (0.92, "ball seat", "pinch"),
            (1, "ball seat", "open"),
        ),
        held="ball",
        carry=(0.21, 0.95),
        work=(0.48, 0.92),
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
        path=((0.22, "button", "palm"), (1, "button", "palm")),
        work=(0.22, 1),
        sway=(0, 12),
        beats=3,
        presses=True,
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


def plan_video(*, seed: int, index: int) -> list[tuple[str, int]]:
    """The (class, number of frames) of each segment of a video, by the grammar of the work.

    The base plate comes first and is put away last; between them gear and ball are inserted in either
    order, the screw is turned and the button pressed. Ball, screw and turning of the gear are optional, a
    failed test repeats screw and button, and the worker sometimes pauses. The first video, index 0, leaves
    nothing out, so that every class occurs in training.
    """
    rng = np.random.default_rng([seed, index, 0])
    while True:
        order = _order(rng, complete=index == 0)
        pace = rng.uniform(0.85, 1.05)
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
    ball = ["insert the ball"] * (chance(0.9) or complete)
    finish = ["turn the screw"] * (chance(0.85) or complete) + ["press the button"]
    repeat = finish * (len(finish) == 2 and chance(0.2) and not complete)
    pause = [BACKGROUND] * (chance(0.2) and not complete)
    parts = ball + gear if chance(0.35) else gear + ball
    work = ["take the base plate", *parts, *pause, *finish, *repeat, "put away the base plate"]
    return [BACKGROUND, *work, BACKGROUND]


def choreography(
    plan: Sequence[tuple[str, int]], look: BenchLook, rng: np.random.Generator
) -> Iterator[BenchState]:
    """One state per frame; the hand starts where the action before left it."""
    state = BenchState(target=look.place("away"), pose=POSES["open"])
    for name, frames in plan:
        act = _Performance(_ACTIONS[name], before=state, look=look, rng=rng)
        for frame in range(frames):
            state = act.state((frame + 1) / frames)
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

    def state(self, moment: float) -> BenchState:
        """What the picture shows at ``moment``, a share of the duration."""
        action, before = self._action, self._before
        work = _share(moment, *action.work)
        swing = math.tau * action.beats * work
        # The movement grows from rest and dies down again, so that the hand never jumps.
        strength = min(1.0, 6 * work, 6 * (1 - work))
        (x, y), pose = self._hand(moment)
        lifted, done = moment >= action.carry[0], moment > action.carry[1]
        taken, put = action.held == "base plate" and done, action.held == "assembly"
        return replace(
            before,
            target=(
                x + strength * action.sway[0] * math.sin(swing),
                y - strength * action.sway[1] * math.cos(swing),
            ),
            pose=pose,
            held=action.held if lifted and not done else None,
            plate_on_jig=(before.plate_on_jig or taken) and not (put and lifted),
            plate_away=before.plate_away or (put and done),
            assembly=Assembly(
                gear=before.assembly.gear or (action.held == "gear" and done),
                ball=before.assembly.ball or (action.held == "ball" and done),
                gear_angle=before.assembly.gear_angle + math.tau * action.gear_turns * work,
                screw_angle=before.assembly.screw_angle + math.tau * action.screw_turns * work,
            ),
            pressed=0.5 - 0.5 * math.cos(swing) if action.presses else 0.0,
            lamp=min(1.0, 8 * work) if action.presses else 0.0,
        )

    def _hand(self, moment: float) -> tuple[tuple[float, float], HandPose]:
        for (start, here, pose), (stop, there, next_pose) in pairwise(self._stops):
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
