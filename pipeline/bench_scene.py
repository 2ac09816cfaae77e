"""Pictures of an assembly bench: wood, bins of parts, a jig, and the hand that works there.

Everything is drawn anti-aliased on a canvas twice the size of the picture and shrunk, so that edges stay
smooth where a part moves by a fraction of a pixel. What matters lies in the middle square of the picture,
because feature extractors look at a centre crop.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pipeline import bench_parts as parts
from pipeline.bench_parts import Assembly, Colour, Image, Points, shade, turned

Held = Literal["base plate", "gear", "ball", "screwdriver", "assembly"]

WIDTH, HEIGHT = 320, 240
"""Size of a picture in pixels."""

_ZOOM = 2
_CANVAS = (WIDTH * _ZOOM, HEIGHT * _ZOOM)
# A part in the hand is nearer to the camera than one on the bench.
_LIFT = 1.4
_DRIVER_REST_ANGLE = 0.15


def _beside(place: tuple[float, float], offset: tuple[float, float]) -> tuple[float, float]:
    return place[0] + offset[0], place[1] + offset[1]


_JIG = (318.0, 262.0)
# Canvas pixels; the centre crop shows x from about 110 to 530.
_PLACES: Mapping[str, tuple[float, float]] = {
    "plates": (196, 84),
    "gears": (320, 84),
    "balls": (444, 84),
    "jig": _JIG,
    "gear seat": _beside(_JIG, parts.GEAR_SEAT),
    "ball seat": _beside(_JIG, parts.BALL_SEAT),
    "screw": _beside(_JIG, parts.SCREW_SEAT),
    "tray": (160, 268),
    "button": (484, 208),
    "driver": (500, 255),
    "away": (470, 660),
}
_ON_JIG = frozenset({"jig", "gear seat", "ball seat", "screw"})


@dataclass(frozen=True, kw_only=True, slots=True)
class HandPose:
    """How the fingers lie, relative to the point between the finger tips; forward is -y."""

    tips: Points
    """(5, 2) finger tips in canvas pixels: thumb, index, middle, ring, little finger."""
    reach: float
    """How far the thing worked on lies ahead of the finger tips, in canvas pixels."""

    def blended(self, other: "HandPose", share: float) -> "HandPose":
        """The pose on the way to ``other``; ``share`` 0 is this one, 1 the other."""
        return HandPose(
            tips=self.tips + share * (other.tips - self.tips),
            reach=self.reach + share * (other.reach - self.reach),
        )


def _pose(reach: float, *tips: tuple[float, float]) -> HandPose:
    return HandPose(tips=np.array(tips, dtype=np.float64), reach=reach)


POSES: Mapping[str, HandPose] = {
    "open": _pose(6, (-70, 44), (-40, -16), (-10, -32), (20, -22), (50, 8)),
    "pinch": _pose(38, (-36, 14), (-20, -8), (2, -12), (20, -2), (32, 18)),
    "carry": _pose(54, (-74, 10), (-38, -26), (-8, -34), (22, -28), (54, -6)),
    "fist": _pose(parts.DRIVER_REACH, (-16, 30), (-24, 30), (-8, 24), (8, 28), (24, 40)),
    "point": _pose(30, (-20, 50), (-10, -32), (-6, 36), (10, 40), (26, 52)),
    "palm": _pose(-66, (-58, 40), (-20, -26), (-4, -34), (12, -28), (28, -8)),
}
"""The poses of the hand by name."""

_KNUCKLES = np.array([(-34, 96), (-27, 52), (-9, 44), (9, 47), (26, 57)], dtype=np.float64)
_FINGER_WIDTHS = (24, 21, 22, 21, 18)
_PALM = np.array(
    [(-34, 54), (-22, 44), (12, 38), (34, 54), (36, 92), (26, 130), (-22, 132), (-38, 100)], dtype=np.float64
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchState:
    """What one picture shows."""

    target: tuple[float, float]
    """Where the hand works, in canvas pixels; the hand itself is behind, towards the lower edge."""
    pose: HandPose
    held: Held | None = None
    plate_on_jig: bool = False
    plate_away: bool = False
    assembly: Assembly = field(default_factory=Assembly)
    pressed: float = 0.0
    """How far the button is down, 0 to 1."""
    lamp: float = 0.0
    """Brightness of the signal lamp, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchLook:
    """What stays the same throughout a video and differs between videos."""

    shift: tuple[float, float]
    """How far the whole bench is moved under the camera, in canvas pixels."""
    jig_shift: tuple[float, float]
    """How far the jig is moved on the bench, in canvas pixels."""
    wood: Colour
    skin: Colour
    sleeve: Colour
    light: float
    """Gain of the lighting; 1 is neutral."""
    light_slope: tuple[float, float]
    """Change of the gain from the centre to the right and the lower edge."""
    noise: float
    """Standard deviation of the camera noise, in grey levels."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> "BenchLook":
        """A look drawn at random, close enough to the others to be the same bench on another day."""
        wood = np.array(((196, 148, 100), (186, 138, 92), (204, 160, 112))[rng.integers(3)])
        skin = np.array(((236, 188, 156), (206, 150, 112), (150, 102, 74))[rng.integers(3)])
        sleeve = np.array(((52, 66, 98), (64, 70, 84), (48, 80, 92))[rng.integers(3)])
        return cls(
            shift=(float(rng.uniform(-8, 8)), float(rng.uniform(-6, 6))),
            jig_shift=(float(rng.uniform(-8, 8)), float(rng.uniform(-8, 8))),
            wood=parts.colour(wood * rng.uniform(0.96, 1.04, 3)),
            skin=parts.colour(skin * rng.uniform(0.97, 1.03, 3)),
            sleeve=parts.colour(sleeve * rng.uniform(0.9, 1.1, 3)),
            light=float(rng.uniform(0.92, 1.06)),
            light_slope=(float(rng.uniform(-0.08, 0.08)), float(rng.uniform(-0.06, 0.06))),
            noise=float(rng.uniform(1.2, 2.2)),
        )

    def place(self, name: str) -> tuple[float, float]:
        """Where a named place lies on the canvas, in canvas pixels."""
        moved = _beside(_PLACES[name], self.shift)
        return _beside(moved, self.jig_shift) if name in _ON_JIG else moved


class _Stroke(NamedTuple):
    """A round-ended line on the canvas."""

    points: Points
    width: float
    paint: Colour


class _Hand(NamedTuple):
    """Where the point between the finger tips is, and which way the forearm points."""

    grip: Points
    angle: float


class BenchPainter:
    """Draws the pictures of one video in order; what does not change is drawn once."""

    def __init__(self, look: BenchLook, rng: np.random.Generator) -> None:
        self._look = look
        self._empty = _empty_bench(look, rng)
        self._laid, self._laid_for = self._empty, BenchState(target=(0, 0), pose=POSES["open"])
        self._light = _lighting(look)
        self._glow = _glow(look.place("button"))
        noise = rng.standard_normal((6, HEIGHT, WIDTH, 3), dtype=np.float32) * look.noise
        self._noise = noise.round().astype(np.int16)
        self._rng = rng

    def paint(self, state: BenchState) -> Image:
        """The picture of ``state``: (HEIGHT, WIDTH, 3) uint8 RGB."""
        self._lay_out(state)
        hand = _hand(state)
        strokes = _arm_strokes(hand, self._look.sleeve) + _hand_strokes(state.pose, hand, self._look.skin)
        canvas = _shadowed(self._laid, strokes, state)
        _paint_held(canvas, state, hand.angle)
        _paint_hand(canvas, strokes, state.pose, hand, skin=self._look.skin)
        picture = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        picture = cv2.multiply(picture, self._light, scale=1 / 128)
        if state.lamp > 0:
            picture = cv2.addWeighted(picture, 1.0, self._glow, state.lamp, 0)
        noisy: Image = cv2.add(picture, self._noise[self._rng.integers(len(self._noise))], dtype=cv2.CV_8U)
        return noisy

    def _lay_out(self, state: BenchState) -> None:
        """Put the things where ``state`` has them; while only the hand moves, they stay as they were."""
        if self._laid is not self._empty and _things(state) == _things(self._laid_for):
            return
        canvas, look = self._empty.copy(), self._look
        if state.plate_on_jig:
            parts.paint_assembly(canvas, look.place("jig"), 0.0, assembly=state.assembly)
        if state.plate_away:
            parts.paint_assembly(canvas, look.place("tray"), math.pi / 2, assembly=state.assembly)
        if state.held != "screwdriver":
            parts.paint_screwdriver(canvas, look.place("driver"), _DRIVER_REST_ANGLE, roll=0.0)
        parts.paint_button(canvas, look.place("button"), pressed=state.pressed, lamp=state.lamp)
        self._laid, self._laid_for = canvas, state


def _things(state: BenchState) -> tuple[object, ...]:
    in_hand = state.held == "screwdriver"
    return state.plate_on_jig, state.plate_away, state.assembly, in_hand, state.pressed, state.lamp


def _hand(state: BenchState) -> _Hand:
    """The arm comes from the lower edge; its elbow follows the hand at a third of the way."""
    target = np.array(state.target, dtype=np.float64)
    elbow = np.array([294 + 0.3 * target[0], 560 + 0.36 * target[1]])
    ahead = target - elbow
    return _Hand(target - ahead / np.hypot(*ahead) * state.pose.reach, math.atan2(ahead[0], -ahead[1]))


def _arm_strokes(hand: _Hand, sleeve: Colour) -> list[_Stroke]:
    forearm = turned([(0, 168), (0, 220), (0, 430)], *hand)
    return [
        _Stroke(forearm, 78, sleeve),
        _Stroke(forearm[1:], 92, sleeve),
        _Stroke(turned([(-33, 166), (33, 166)], *hand), 16, shade(sleeve, 1.35)),
    ]


def _hand_strokes(pose: HandPose, hand: _Hand, skin: Colour) -> list[_Stroke]:
    # A finger bends outwards at its middle joint.
    middles = (_KNUCKLES + pose.tips) / 2 + np.sign(_KNUCKLES[:, :1]) * (4, 0) - (0, 4)
    fingers = turned(np.stack([_KNUCKLES, middles, pose.tips], axis=1), *hand)
    wrist = _Stroke(turned([(0, 120), (0, 164)], *hand), 56, skin)
    return [wrist, *(_Stroke(*finger, skin) for finger in zip(fingers, _FINGER_WIDTHS, strict=True))]


def _shadowed(canvas: Image, strokes: Sequence[_Stroke], state: BenchState) -> Image:
    """A copy of the canvas with the shadow of the arm and of what the hand holds."""
    mask = np.zeros((HEIGHT // 2, WIDTH // 2), dtype=np.uint8)
    offset, shrink, depth = np.array([12.0, 16.0]), 0.25, 96
    for stroke in strokes:
        parts.line(mask, (stroke.points + offset) * shrink, depth, width=stroke.width * shrink)
    radius = {"base plate": 74.0, "assembly": 74.0, "gear": 58.0, "ball": 42.0}.get(state.held or "", 0.0)
    if radius:
        parts.disc(mask, (np.array(state.target) + offset) * shrink, radius * shrink, depth)
    light = cv2.resize(255 - cv2.blur(mask, (5, 5)), _CANVAS, interpolation=cv2.INTER_LINEAR)
    result: Image = cv2.multiply(canvas, cv2.merge([light] * 3), scale=1 / 255)
    return result


def _paint_held(canvas: Image, state: BenchState, angle: float) -> None:
    place, assembly = state.target, state.assembly
    match state.held:
        case "base plate":
            parts.paint_plate(canvas, place, angle, scale=_LIFT)
        case "assembly":
            parts.paint_assembly(canvas, place, angle, assembly=assembly, scale=_LIFT)
        case "gear":
            parts.paint_gear(canvas, place, parts.GEAR_RADIUS * _LIFT, assembly.gear_angle)
        case "ball":
            parts.paint_ball(canvas, place, parts.BALL_RADIUS * _LIFT)
        case "screwdriver":
            parts.paint_screwdriver(canvas, place, angle, roll=assembly.screw_angle)
        case None:
            pass


def _paint_hand(
    canvas: Image, strokes: Sequence[_Stroke], pose: HandPose, hand: _Hand, *, skin: Colour
) -> None:
    palm = turned(_PALM, *hand)
    for stroke in strokes:
        parts.line(canvas, stroke.points, shade(stroke.paint, 0.62), width=stroke.width + 5)
    parts.outline(canvas, palm, shade(skin, 0.62), width=22)
    for stroke in strokes:
        parts.line(canvas, stroke.points, stroke.paint, width=stroke.width)
    parts.polygon(canvas, palm, skin)
    parts.outline(canvas, palm, skin, width=17)
    for nail, width in zip(turned(pose.tips, *hand), _FINGER_WIDTHS, strict=True):
        parts.disc(canvas, nail, width * 0.28, shade(skin, 1.16))
    creases = _KNUCKLES[:, None] + np.array([(-5.0, -2.0), (5.0, -2.0)])
    for crease in turned(creases, *hand):
        parts.line(canvas, crease, shade(skin, 0.84), width=3)


def _wood(rng: np.random.Generator, paint: Colour) -> Image:
    """Planks with grain, the size of the canvas."""
    width, height = _CANVAS
    fine: Any = rng.standard_normal((height, width), dtype=np.float32)
    coarse: Any = rng.standard_normal((height, width), dtype=np.float32)
    grain = cv2.GaussianBlur(fine, (0, 0), sigmaX=38, sigmaY=1.1)
    waves = cv2.GaussianBlur(coarse, (0, 0), sigmaX=70, sigmaY=6)
    tone: npt.NDArray[np.float32] = 1 + 0.4 * grain + 0.05 * np.sin(160 * waves)
    rows = np.arange(height)
    planks = rows // 96
    tone *= rng.uniform(0.94, 1.05, planks.max() + 1)[planks][:, None]
    tone[rows % 96 < 3] *= 0.72
    wood: Image = np.clip(tone[:, :, None] * np.array(paint), 0, 255).astype(np.uint8)
    return wood


def _empty_bench(look: BenchLook, rng: np.random.Generator) -> Image:
    """The bench with everything on it that nobody moves."""
    canvas = _wood(rng, look.wood)
    shadow = shade(look.wood, 0.6)
    _lay_jig(canvas, look.place("jig"), shadow)
    parts.polygon(
        canvas, turned(parts.rounded_box(122, 168, 12), look.place("tray"), 0), shadow, moved=(5, 7)
    )
    parts.paint_box(canvas, look.place("tray"), size=(122, 168), rim=(226, 224, 214), inside=(196, 194, 184))
    for name in ("plates", "gears", "balls"):
        box = turned(parts.rounded_box(118, 98, 10), look.place(name), 0)
        parts.polygon(canvas, box, shadow, moved=(5, 8))
        parts.paint_box(canvas, look.place(name), size=(118, 98), rim=(94, 98, 106), inside=(58, 60, 66))
    _fill_bins(canvas, look, rng)
    return canvas


def _lay_jig(canvas: Image, place: tuple[float, float], shadow: Colour) -> None:
    """A cutting mat with a grid, and the jig screwed on it."""
    mat = turned(parts.rounded_box(228, 176, 12), place, 0)
    parts.polygon(canvas, mat, shadow, moved=(5, 7))
    parts.polygon(canvas, mat, (46, 84, 80))
    for offset in range(-100, 101, 25):
        parts.line(canvas, turned([(offset, -84), (offset, 84)], place, 0), (58, 98, 94), width=1)
    for offset in range(-75, 76, 25):
        parts.line(canvas, turned([(-110, offset), (110, offset)], place, 0), (58, 98, 94), width=1)
    parts.polygon(canvas, turned(parts.rounded_box(172, 126, 8), place, 0), (84, 88, 96))
    parts.polygon(canvas, turned(parts.rounded_box(154, 108, 6), place, 0), (34, 36, 42))
    for bolt in turned([(-86, -63), (86, -63), (-86, 63), (86, 63)], place, 0):
        parts.disc(canvas, bolt, 11, (150, 154, 160))
        parts.disc(canvas, bolt, 5, parts.DARK)


def _fill_bins(canvas: Image, look: BenchLook, rng: np.random.Generator) -> None:
    x, y = look.place("plates")
    for layer in range(3):
        place = (x + rng.uniform(-3, 3), y + 6 - 5 * layer)
        parts.paint_plate(canvas, place, rng.uniform(-0.06, 0.06), scale=0.6)
    spots = np.array([(-30, -18), (28, -20), (-2, -8), (-26, 20), (30, 18)])
    for spot in spots + rng.uniform(-4, 4, spots.shape) + look.place("gears"):
        parts.paint_gear(canvas, spot, 22, rng.uniform(0, 1))
    for spot in spots + rng.uniform(-4, 4, spots.shape) + look.place("balls"):
        parts.paint_ball(canvas, spot, 17)


def _lighting(look: BenchLook) -> Image:
    """Gain of every pixel as 128 times its value: overall level, slope and darker corners."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    gain = look.light * (1 + look.light_slope[0] * x + look.light_slope[1] * y) * (1 - 0.09 * (x**2 + y**2))
    return np.repeat((gain * 128).round()[:, :, None], 3, axis=2).astype(np.uint8)


def _glow(place: tuple[float, float]) -> Image:
    """Green light that the lit lamp throws over the bench."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    distance = np.hypot(x - place[0] / _ZOOM, y - (place[1] - 34) / _ZOOM)
    strength: npt.NDArray[np.float64] = np.exp(-distance / 90)
    return np.asarray((strength[:, :, None] * np.array((16, 96, 40))).round(), dtype=np.uint8)
