"""Pictures of an assembly bench: wood, bins of parts, a jig, and the hand that works there.

Everything is drawn anti-aliased on a canvas twice the size of the picture and shrunk, so that edges stay smooth
where a part moves by a fraction of a pixel. What matters lies in the middle square of the picture, because
feature extractors look at a centre crop.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Colour = tuple[int, int, int]
Held = Literal["base plate", "gear", "ball", "screwdriver", "assembly"]

WIDTH, HEIGHT = 320, 240
"""Size of a picture in pixels."""

_ZOOM = 2
_CANVAS = (WIDTH * _ZOOM, HEIGHT * _ZOOM)
# OpenCV takes coordinates as integers with this many fractional bits.
_BITS = 4

# Fixed places on the canvas, in canvas pixels.
_BINS: Mapping[str, tuple[float, float]] = {"plates": (196, 84), "gears": (320, 84), "balls": (444, 84)}
_JIG, _TRAY, _BUTTON, _REST = (318, 262), (160, 268), (484, 208), (488, 338)
# Seats on the base plate, relative to its centre.
_GEAR_SEAT, _BALL_SEAT, _SCREW_SEAT = (-34, 0), (42, -22), (42, 28)

_STEEL: Colour = (88, 142, 200)
_BRASS: Colour = (238, 166, 40)
_RED: Colour = (214, 40, 58)
_LIME: Colour = (166, 214, 48)
_DARK: Colour = (40, 42, 48)
_GEAR_RADIUS, _BALL_RADIUS = 44.0, 27.0
# A part in the hand is nearer to the camera than one on the bench.
_LIFT = 1.25


class Stroke(NamedTuple):
    """A round-ended line on the canvas."""

    points: Points
    width: float
    colour: Colour


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
    "pinch": _pose(24, (-36, 14), (-20, -8), (2, -12), (20, -2), (32, 18)),
    "carry": _pose(46, (-74, 10), (-38, -26), (-8, -34), (22, -28), (54, -6)),
    "fist": _pose(84, (-16, 30), (-24, 30), (-8, 24), (8, 28), (24, 40)),
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
    gear_in: bool = False
    ball_in: bool = False
    plate_away: bool = False
    gear_angle: float = 0.0
    """Radians, of the gear held or on the plate."""
    screw_angle: float = 0.0
    """Radians, of the screw and of the screwdriver in the hand."""
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
            wood=_colour(wood * rng.uniform(0.96, 1.04, 3)),
            skin=_colour(skin * rng.uniform(0.97, 1.03, 3)),
            sleeve=_colour(sleeve * rng.uniform(0.9, 1.1, 3)),
            light=float(rng.uniform(0.92, 1.06)),
            light_slope=(float(rng.uniform(-0.08, 0.08)), float(rng.uniform(-0.06, 0.06))),
            noise=float(rng.uniform(1.2, 2.2)),
        )

    def place(self, name: str) -> tuple[float, float]:
        """Where a named place lies on the canvas, in canvas pixels."""
        x, y = _PLACES[name]
        dx, dy = self.jig_shift if name in _ON_JIG else (0.0, 0.0)
        return x + dx + self.shift[0], y + dy + self.shift[1]


def _beside(place: tuple[float, float], offset: tuple[float, float]) -> tuple[float, float]:
    return place[0] + offset[0], place[1] + offset[1]


_PLACES: Mapping[str, tuple[float, float]] = {
    **_BINS,
    "jig": _JIG,
    "gear seat": _beside(_JIG, _GEAR_SEAT),
    "ball seat": _beside(_JIG, _BALL_SEAT),
    "screw": _beside(_JIG, _SCREW_SEAT),
    "tray": _TRAY,
    "button": _BUTTON,
    "rest": _REST,
    # The driver is held behind its tip; this is where the tip lies while it rests.
    "driver": _beside(_REST, (12, -83)),
    "away": (470, 660),
}
_ON_JIG = frozenset({"jig", "gear seat", "ball seat", "screw"})


class BenchPainter:
    """Draws the pictures of one video; what never changes is drawn once."""

    def __init__(self, look: BenchLook, rng: np.random.Generator) -> None:
        self._look = look
        self._bench = _empty_bench(look, rng)
        self._light = _lighting(look)
        self._glow = _glow(look.place("button"))
        noise = rng.standard_normal((6, HEIGHT, WIDTH, 3), dtype=np.float32) * look.noise
        self._noise = noise.round().astype(np.int16)

    def paint(self, state: BenchState, *, index: int) -> Image:
        """The picture of ``state``: (HEIGHT, WIDTH, 3) uint8 RGB; ``index`` picks the camera noise."""
        canvas = self._bench.copy()
        self._paint_things(canvas, state)
        elbow, grip, angle = _arm(state)
        strokes = _arm_strokes(elbow, grip, angle, self._look.sleeve) + _hand_strokes(
            state.pose, grip, angle, self._look.skin
        )
        canvas = _shadowed(canvas, strokes, state)
        _paint_held(canvas, state, angle)
        _paint_hand(canvas, strokes, state.pose, grip, angle, self._look.skin)
        picture = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        picture = cv2.multiply(picture, self._light, scale=1 / 128)
        if state.lamp > 0:
            picture = cv2.addWeighted(picture, 1.0, self._glow, state.lamp, 0)
        # Seven is coprime to the pool's size, so the same noise never repeats at a steady beat of two or three.
        noise = self._noise[(index * 7 + index // 6) % len(self._noise)]
        noisy: Image = cv2.add(picture, noise, dtype=cv2.CV_8U)
        return noisy

    def _paint_things(self, canvas: Image, state: BenchState) -> None:
        look = self._look
        if state.plate_on_jig:
            _assembly(canvas, look.place("jig"), 0.0, state)
        if state.plate_away:
            _assembly(canvas, look.place("tray"), math.pi / 2, state)
        if state.held != "screwdriver":
            _screwdriver(canvas, look.place("rest"), 0.15, 0.0)
        _button(canvas, look.place("button"), pressed=state.pressed, lamp=state.lamp)


def _colour(values: npt.ArrayLike) -> Colour:
    red, green, blue = np.clip(np.asarray(values), 0, 255).round().astype(int).tolist()
    return red, green, blue


def _shade(colour: Colour, gain: float) -> Colour:
    return _colour(np.array(colour) * gain)


def _fixed(points: npt.ArrayLike) -> npt.NDArray[np.int32]:
    return np.round(np.asarray(points, dtype=np.float64) * (1 << _BITS)).astype(np.int32)


def _polygon(canvas: Image, points: Points, colour: Colour | int) -> None:
    cv2.fillPoly(canvas, [_fixed(points)], colour, cv2.LINE_AA, _BITS)


def _disc(canvas: Image, centre: tuple[float, float] | Points, radius: float, colour: Colour | int) -> None:
    x, y = _fixed(centre).tolist()
    cv2.circle(canvas, (x, y), round(radius * (1 << _BITS)), colour, cv2.FILLED, cv2.LINE_AA, _BITS)


def _line(canvas: Image, points: npt.ArrayLike, colour: Colour | int, width: float) -> None:
    cv2.polylines(canvas, [_fixed(points)], False, colour, max(1, round(width)), cv2.LINE_AA, _BITS)  # noqa: FBT003


def _turned(points: npt.ArrayLike, centre: tuple[float, float] | Points, angle: float) -> Points:
    """Points given around the origin, turned clockwise on the screen and moved to ``centre``."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    return np.asarray(points, dtype=np.float64) @ turn + np.asarray(centre, dtype=np.float64)


def _rounded_box(width: float, height: float, radius: float) -> Points:
    """Outline of a box with round corners around the origin."""
    arc = np.linspace(0, math.pi / 2, 6)
    corner = radius * np.stack([np.cos(arc), np.sin(arc)], axis=1)
    x, y = width / 2 - radius, height / 2 - radius
    centres = ((x, y), (-x, y), (-x, -y), (x, -y))
    return np.concatenate([_turned(corner, centre, k * math.pi / 2) for k, centre in enumerate(centres)])


def _gear(canvas: Image, centre: tuple[float, float] | Points, radius: float, angle: float) -> None:
    steps = (np.arange(48) + np.tile([-0.25, 0.25, 0.0, 0.0], 12)) * (math.tau / 48) + angle
    rim = np.stack([np.cos(steps), np.sin(steps)], axis=1) * (radius * np.tile([1.0, 1.0, 0.8, 0.8], 12))[:, None]
    _polygon(canvas, rim * 1.04 + np.asarray(centre) + (0, 2), _shade(_BRASS, 0.55))
    _polygon(canvas, rim + np.asarray(centre), _BRASS)
    _disc(canvas, centre, radius * 0.68, _shade(_BRASS, 1.12))
    holes = angle + np.arange(4) * math.tau / 4
    for x, y in np.stack([np.cos(holes), np.sin(holes)], axis=1) * radius * 0.45 + np.asarray(centre):
        _disc(canvas, (x, y), radius * 0.15, _shade(_BRASS, 0.4))
    _disc(canvas, centre, radius * 0.18, _DARK)


def _ball(canvas: Image, centre: tuple[float, float] | Points, radius: float) -> None:
    x, y = np.asarray(centre).tolist()
    for k in range(5):
        share = k / 4
        inner = (x - 0.28 * radius * share, y - 0.3 * radius * share)
        _disc(canvas, inner, radius * (1 - 0.62 * share), _shade(_RED, 0.68 + 0.5 * share))
    _disc(canvas, (x - 0.34 * radius, y - 0.38 * radius), radius * 0.16, (255, 226, 222))


def _plate(canvas: Image, centre: tuple[float, float] | Points, angle: float, scale: float = 1.0) -> None:
    outline = _rounded_box(150, 104, 14) * scale
    _polygon(canvas, _turned(outline, centre, angle) + (0, 4), _shade(_STEEL, 0.5))
    _polygon(canvas, _turned(outline, centre, angle), _STEEL)
    _polygon(canvas, _turned(outline * 0.93, centre, angle), _shade(_STEEL, 1.12))
    seats = _turned(np.array([_GEAR_SEAT, _BALL_SEAT, _SCREW_SEAT]) * scale, centre, angle)
    _disc(canvas, seats[0], 14 * scale, _shade(_STEEL, 0.45))
    _disc(canvas, seats[1], _BALL_RADIUS * 0.8 * scale, _shade(_STEEL, 0.6))
    _disc(canvas, seats[2], 15 * scale, _shade(_STEEL, 0.6))


def _assembly(
    canvas: Image, centre: tuple[float, float] | Points, angle: float, state: BenchState, scale: float = 1.0
) -> None:
    _plate(canvas, centre, angle, scale)
    gear, ball, screw = _turned(np.array([_GEAR_SEAT, _BALL_SEAT, _SCREW_SEAT]) * scale, centre, angle)
    _disc(canvas, screw, 12 * scale, (206, 208, 214))
    turn = angle + state.screw_angle
    for slot in (turn, turn + math.pi / 2):
        _line(canvas, _turned([(-8 * scale, 0), (8 * scale, 0)], screw, slot), _DARK, 4 * scale)
    if state.gear_in:
        _gear(canvas, gear, _GEAR_RADIUS * scale, angle + state.gear_angle)
    if state.ball_in:
        _ball(canvas, ball, _BALL_RADIUS * scale)


def _screwdriver(canvas: Image, centre: tuple[float, float] | Points, angle: float, roll: float) -> None:
    """A screwdriver whose tip is 84 pixels ahead of ``centre``, which is on its handle; ``roll`` in radians."""
    _line(canvas, _turned([(0, -30), (0, -84)], centre, angle), (120, 124, 132), 12)
    _line(canvas, _turned([(-2, -30), (-2, -80)], centre, angle), (206, 210, 216), 4)
    _polygon(canvas, _turned(_rounded_box(46, 112, 20) + (0, 20), centre, angle), _shade(_LIME, 0.6))
    _polygon(canvas, _turned(_rounded_box(40, 106, 18) + (0, 20), centre, angle), _LIME)
    # Grooves wander across the handle as it is turned.
    for k in range(3):
        across = 17 * math.sin(roll + k * math.tau / 3)
        if math.cos(roll + k * math.tau / 3) > 0:
            _line(canvas, _turned([(across, -22), (across, 62)], centre, angle), _DARK, 6)


def _button(canvas: Image, centre: tuple[float, float], *, pressed: float, lamp: float) -> None:
    _polygon(canvas, _turned(_rounded_box(88, 104, 12), centre, 0) + (0, 4), (60, 60, 62))
    _polygon(canvas, _turned(_rounded_box(86, 102, 12), centre, 0), (196, 198, 204))
    x, y = centre
    _disc(canvas, (x, y + 14), 32, (246, 206, 40))
    _disc(canvas, (x, y + 14 + 3), 25 - 2 * pressed, (88, 20, 110))
    _disc(canvas, (x, y + 14 - 3 * (1 - pressed)), 24 - 3 * pressed, (150, 62, 190))
    _disc(canvas, (x, y - 34), 13, _DARK)
    _disc(canvas, (x, y - 34), 11, _colour(np.array((40, 92, 56)) + lamp * np.array((150, 163, 150))))


def _arm(state: BenchState) -> tuple[Points, Points, float]:
    """Elbow, point between the finger tips, and the angle of the forearm for a state."""
    target = np.array(state.target, dtype=np.float64)
    elbow = np.array([0.3 * target[0] + 0.7 * 420, 330 + 0.72 * target[1] * 0.5 + 230])
    ahead = target - elbow
    angle = math.atan2(ahead[0], -ahead[1])
    grip = target - ahead / np.hypot(*ahead) * state.pose.reach
    return elbow, grip, angle


def _arm_strokes(elbow: Points, grip: Points, angle: float, sleeve: Colour) -> list[Stroke]:
    wrist = _turned([(0, 168)], grip, angle)[0]
    # The elbow may be nearer than the cuff when the hand is off the bench; the sleeve then runs straight down.
    far = wrist + _turned([(0, 260)], (0, 0), angle)[0]
    cuff = _turned([(-33, 166), (33, 166)], grip, angle)
    return [
        Stroke(np.stack([wrist, far]), 78, sleeve),
        Stroke(np.stack([wrist + 0.2 * (elbow - wrist), far]), 92, sleeve),
        Stroke(cuff, 16, _shade(sleeve, 1.35)),
    ]


def _hand_strokes(pose: HandPose, grip: Points, angle: float, skin: Colour) -> list[Stroke]:
    strokes = [Stroke(_turned([(0, 120), (0, 164)], grip, angle), 56, skin)]
    for knuckle, tip, width in zip(_KNUCKLES, pose.tips, _FINGER_WIDTHS, strict=True):
        # A finger bends outwards at its middle joint, the more the shorter it looks from above.
        middle = (knuckle + tip) / 2 + (np.sign(knuckle[0]) * 4, -4)
        strokes.append(Stroke(_turned([knuckle, middle, tip], grip, angle), width, skin))
    return strokes


def _shadowed(canvas: Image, strokes: Sequence[Stroke], state: BenchState) -> Image:
    mask = np.zeros((HEIGHT // 2, WIDTH // 2), dtype=np.uint8)
    offset, shrink = np.array([12.0, 16.0]), 0.25
    for stroke in strokes:
        _line(mask, (stroke.points + offset) * shrink, 96, stroke.width * shrink)
    radius = {"base plate": 66.0, "assembly": 66.0, "gear": 52.0, "ball": 34.0}.get(state.held or "", 0.0)
    if radius:
        _disc(mask, (np.array(state.target) + offset) * shrink, radius * shrink, 96)
    shade = cv2.resize(255 - cv2.blur(mask, (5, 5)), _CANVAS, interpolation=cv2.INTER_LINEAR)
    result: Image = cv2.multiply(canvas, cv2.merge([shade] * 3), scale=1 / 255)
    return result


def _paint_held(canvas: Image, state: BenchState, angle: float) -> None:
    match state.held:
        case "base plate":
            _plate(canvas, state.target, angle, _LIFT)
        case "assembly":
            _assembly(canvas, state.target, angle, state, _LIFT)
        case "gear":
            _gear(canvas, state.target, _GEAR_RADIUS * _LIFT, state.gear_angle)
        case "ball":
            _ball(canvas, state.target, _BALL_RADIUS * _LIFT)
        case "screwdriver":
            handle = _turned([(0, 84)], state.target, angle)[0]
            _screwdriver(canvas, handle, angle, state.screw_angle)
        case None:
            pass


def _paint_hand(
    canvas: Image, strokes: Sequence[Stroke], pose: HandPose, grip: Points, angle: float, skin: Colour
) -> None:
    edge = _shade(skin, 0.62)
    palm = _turned(_PALM, grip, angle)
    for stroke in strokes:
        _line(canvas, stroke.points, _shade(stroke.colour, 0.62), stroke.width + 5)
    cv2.polylines(canvas, [_fixed(palm)], True, edge, 22, cv2.LINE_AA, _BITS)  # noqa: FBT003
    for stroke in strokes:
        _line(canvas, stroke.points, stroke.colour, stroke.width)
    _polygon(canvas, palm, skin)
    cv2.polylines(canvas, [_fixed(palm)], True, skin, 17, cv2.LINE_AA, _BITS)  # noqa: FBT003
    for tip, knuckle, width in zip(pose.tips, _KNUCKLES, _FINGER_WIDTHS, strict=True):
        nail = tip + (tip - knuckle) / max(1.0, float(np.hypot(*(tip - knuckle)))) * 2
        _disc(canvas, _turned([nail], grip, angle)[0], width * 0.28, _shade(skin, 1.16))
        crease = _turned([knuckle + (-5, -2), knuckle + (5, -2)], grip, angle)
        _line(canvas, crease, _shade(skin, 0.84), 3)


def _wood(rng: np.random.Generator, colour: Colour) -> npt.NDArray[np.float32]:
    """Planks with grain, (2 HEIGHT, 2 WIDTH, 3) float32."""
    width, height = _CANVAS
    grain: Any = rng.standard_normal((height, width), dtype=np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), sigmaX=38, sigmaY=1.1) * 8
    waves: Any = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), sigmaX=70, sigmaY=6)
    tone = 1 + 0.05 * grain + 0.05 * np.sin(waves * 160)
    planks = np.arange(height) // 96
    tone *= rng.uniform(0.94, 1.05, planks.max() + 1)[planks][:, None]
    tone[np.arange(height) % 96 < 3] *= 0.72
    wood: npt.NDArray[np.float32] = (tone[:, :, None] * np.array(colour)).astype(np.float32)
    return wood


def _empty_bench(look: BenchLook, rng: np.random.Generator) -> Image:
    """The bench with everything on it that nobody moves."""
    canvas: Image = np.clip(_wood(rng, look.wood), 0, 255).astype(np.uint8)
    jig = look.place("jig")
    mat = _rounded_box(228, 176, 12)
    _polygon(canvas, _turned(mat, jig, 0) + (5, 7), _shade(look.wood, 0.6))
    _polygon(canvas, _turned(mat, jig, 0), (46, 84, 80))
    for offset in range(-100, 101, 25):
        _line(canvas, np.array([(offset, -84), (offset, 84)]) + jig, (58, 98, 94), 1)
    for offset in range(-75, 76, 25):
        _line(canvas, np.array([(-110, offset), (110, offset)]) + jig, (58, 98, 94), 1)
    _polygon(canvas, _turned(_rounded_box(172, 126, 8), jig, 0), (84, 88, 96))
    _polygon(canvas, _turned(_rounded_box(154, 108, 6), jig, 0), (34, 36, 42))
    for x, y in ((-86, -63), (86, -63), (-86, 63), (86, 63)):
        _disc(canvas, (jig[0] + x, jig[1] + y), 11, (150, 154, 160))
        _disc(canvas, (jig[0] + x, jig[1] + y), 5, _DARK)
    tray = look.place("tray")
    _polygon(canvas, _turned(_rounded_box(122, 168, 12), tray, 0) + (5, 7), _shade(look.wood, 0.6))
    _polygon(canvas, _turned(_rounded_box(122, 168, 12), tray, 0), (226, 224, 214))
    _polygon(canvas, _turned(_rounded_box(106, 152, 8), tray, 0), (196, 194, 184))
    _fill_bins(canvas, look, rng)
    return canvas


def _fill_bins(canvas: Image, look: BenchLook, rng: np.random.Generator) -> None:
    for name in _BINS:
        centre = look.place(name)
        _polygon(canvas, _turned(_rounded_box(118, 98, 10), centre, 0) + (5, 8), _shade(look.wood, 0.55))
        _polygon(canvas, _turned(_rounded_box(118, 98, 10), centre, 0), (94, 98, 106))
        _polygon(canvas, _turned(_rounded_box(104, 84, 6), centre, 0), (58, 60, 66))
    x, y = look.place("plates")
    for k in range(3):
        _plate(canvas, (x + rng.uniform(-3, 3), y + 6 - 5 * k), rng.uniform(-0.06, 0.06), 0.6)
    for name in ("gears", "balls"):
        x, y = look.place(name)
        for dx, dy in ((-30, -18), (28, -20), (-2, -8), (-26, 20), (30, 18)):
            spot = (x + dx + rng.uniform(-4, 4), y + dy + rng.uniform(-3, 3))
            if name == "gears":
                _gear(canvas, spot, 22, rng.uniform(0, 1))
            else:
                _ball(canvas, spot, 17)


def _lighting(look: BenchLook) -> Image:
    """Gain of every pixel as 128 times its value: overall level, slope and darker corners."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    gain = look.light * (1 + look.light_slope[0] * x + look.light_slope[1] * y) * (1 - 0.09 * (x**2 + y**2))
    return np.repeat((gain * 128).round()[:, :, None], 3, axis=2).astype(np.uint8)


def _glow(centre: tuple[float, float]) -> Image:
    """Green light that the lit lamp throws over the bench."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    distance = np.hypot(x - centre[0] / _ZOOM, y - (centre[1] - 34) / _ZOOM)
    strength = np.exp(-distance / 90)
    return (strength[:, :, None] * np.array((16, 96, 40))).round().astype(np.uint8)
