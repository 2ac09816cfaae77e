"""The things that lie on the drawn bench, and the few shapes that they are made of.

Coordinates are canvas pixels, x to the right and y down; angles are radians, clockwise on the screen. A
``place`` is where a thing's own origin goes.
"""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Point = tuple[float, float] | Points
Colour = tuple[int, int, int]

STEEL: Colour = (88, 142, 200)
BRASS: Colour = (238, 166, 40)
RED: Colour = (214, 40, 58)
LIME: Colour = (166, 214, 48)
DARK: Colour = (40, 42, 48)

GEAR_SEAT, BALL_SEAT, SCREW_SEAT = (-32.0, 0.0), (42.0, -18.0), (44.0, 34.0)
"""Seats on the base plate, relative to its centre."""
GEAR_RADIUS, BALL_RADIUS = 42.0, 32.0
"""Radii of the parts on the base plate."""
DRIVER_REACH = 84.0
"""From the middle of the screwdriver to its tip."""

# OpenCV takes coordinates as integers with this many fractional bits.
_BITS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembly:
    """The base plate and what is on it by now."""

    gear: bool = False
    ball: bool = False
    gear_angle: float = 0.0
    """Of the gear, whether still in the hand or on the plate."""
    screw_angle: float = 0.0
    """Of the screw, and of the screwdriver that turns it."""


def colour(values: npt.ArrayLike) -> Colour:
    """RGB clipped and rounded to what a pixel holds."""
    red, green, blue = np.clip(np.asarray(values), 0, 255).round().astype(int).tolist()
    return red, green, blue


@cache
def shade(base: Colour, gain: float) -> Colour:
    """The colour in more or less light."""
    return colour(np.array(base) * gain)


def polygon(canvas: Image, points: Points, paint: Colour, *, moved: tuple[float, float] = (0, 0)) -> None:
    """Fill an outline."""
    cv2.fillPoly(canvas, [_fixed(points + np.array(moved))], paint, cv2.LINE_AA, _BITS)


def outline(canvas: Image, points: Points, paint: Colour, *, width: int) -> None:
    """Draw along a closed outline."""
    cv2.polylines(
        canvas,
        [_fixed(points)],
        isClosed=True,
        color=paint,
        thickness=width,
        lineType=cv2.LINE_AA,
        shift=_BITS,
    )


def line(canvas: Image, points: npt.ArrayLike, paint: Colour | int, *, width: float) -> None:
    """Draw a round-ended line through points."""
    cv2.polylines(
        canvas,
        [_fixed(points)],
        isClosed=False,
        color=paint,
        thickness=max(1, round(width)),
        lineType=cv2.LINE_AA,
        shift=_BITS,
    )


def disc(canvas: Image, centre: Point, radius: float, paint: Colour | int) -> None:
    """Fill a circle."""
    x, y = _fixed(centre).tolist()
    cv2.circle(canvas, (x, y), round(radius * (1 << _BITS)), paint, cv2.FILLED, cv2.LINE_AA, _BITS)


def turned(points: npt.ArrayLike, place: Point, angle: float) -> Points:
    """Points given around the origin, turned by ``angle`` and moved to ``place``; any shape (..., 2)."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    return np.asarray(np.asarray(points, dtype=np.float64) @ turn + np.asarray(place), dtype=np.float64)


@cache
def rounded_box(width: float, height: float, radius: float) -> Points:
    """Outline of a box with round corners around the origin, (24, 2)."""
    arc = np.linspace(0, math.pi / 2, 6)
    corner = radius * _directions(arc)
    x, y = width / 2 - radius, height / 2 - radius
    centres = ((x, y), (-x, y), (-x, -y), (x, -y))
    return np.concatenate([turned(corner, centre, k * math.pi / 2) for k, centre in enumerate(centres)])


def paint_gear(canvas: Image, place: Point, radius: float, angle: float) -> None:
    """A brass gear of twelve teeth; its four holes show how far it has turned."""
    rim = turned(_gear_rim() * radius, place, angle)
    polygon(canvas, rim, shade(BRASS, 0.55), moved=(0, 3))
    polygon(canvas, rim, BRASS)
    disc(canvas, place, radius * 0.68, shade(BRASS, 1.12))
    for hole in turned(_directions(np.arange(4) * math.tau / 4) * radius * 0.45, place, angle):
        disc(canvas, hole, radius * 0.15, shade(BRASS, 0.4))
    disc(canvas, place, radius * 0.18, DARK)


def paint_ball(canvas: Image, place: Point, radius: float) -> None:
    """A red ball lit from the upper left."""
    x, y = place
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        inner = (x - 0.28 * radius * share, y - 0.3 * radius * share)
        disc(canvas, inner, radius * (1 - 0.62 * share), shade(RED, 0.68 + 0.5 * share))
    disc(canvas, (x - 0.34 * radius, y - 0.38 * radius), radius * 0.16, (255, 226, 222))


def paint_plate(canvas: Image, place: Point, angle: float, *, scale: float = 1.0) -> None:
    """An empty base plate with its three seats."""
    box = turned(rounded_box(150, 104, 14) * scale, place, angle)
    polygon(canvas, box, shade(STEEL, 0.5), moved=(0, 4))
    polygon(canvas, box, STEEL)
    polygon(canvas, turned(rounded_box(140, 96, 12) * scale, place, angle), shade(STEEL, 1.12))
    gear, ball, screw = turned(np.array([GEAR_SEAT, BALL_SEAT, SCREW_SEAT]) * scale, place, angle)
    disc(canvas, gear, 14 * scale, shade(STEEL, 0.45))
    disc(canvas, ball, BALL_RADIUS * 0.8 * scale, shade(STEEL, 0.6))
    disc(canvas, screw, 15 * scale, shade(STEEL, 0.6))


def paint_assembly(
    canvas: Image, place: Point, angle: float, *, assembly: Assembly, scale: float = 1.0
) -> None:
    """The base plate with its screw and the parts inserted so far."""
    paint_plate(canvas, place, angle, scale=scale)
    gear, ball, screw = turned(np.array([GEAR_SEAT, BALL_SEAT, SCREW_SEAT]) * scale, place, angle)
    disc(canvas, screw, 12 * scale, (206, 208, 214))
    turn = angle + assembly.screw_angle
    for slot in (turn, turn + math.pi / 2):
        line(canvas, turned([(-8 * scale, 0), (8 * scale, 0)], screw, slot), DARK, width=4 * scale)
    if assembly.gear:
        paint_gear(canvas, gear, GEAR_RADIUS * scale, angle + assembly.gear_angle)
    if assembly.ball:
        paint_ball(canvas, ball, BALL_RADIUS * scale)


def paint_screwdriver(canvas: Image, tip: Point, angle: float, *, roll: float) -> None:
    """A screwdriver by the place of its tip; grooves wander across the handle as it rolls."""
    place = turned([(0, DRIVER_REACH)], tip, angle)[0]
    line(canvas, turned([(0, -30), (0, -DRIVER_REACH)], place, angle), (120, 124, 132), width=12)
    line(canvas, turned([(-2, -30), (-2, 4 - DRIVER_REACH)], place, angle), (206, 210, 216), width=4)
    middle = turned([(0, 20)], place, angle)[0]
    polygon(canvas, turned(rounded_box(46, 112, 20), middle, angle), shade(LIME, 0.6))
    polygon(canvas, turned(rounded_box(40, 106, 18), middle, angle), LIME)
    for groove in roll + np.arange(3) * math.tau / 3:
        if math.cos(groove) > 0:
            across = 17 * math.sin(groove)
            line(canvas, turned([(across, -42), (across, 42)], middle, angle), DARK, width=6)


def paint_button(canvas: Image, place: Point, *, pressed: float, lamp: float) -> None:
    """The test station: a violet push button below a signal lamp, each 0 to 1."""
    x, y = place
    polygon(canvas, turned(rounded_box(88, 104, 12), place, 0), (60, 60, 62), moved=(0, 4))
    polygon(canvas, turned(rounded_box(86, 102, 12), place, 0), (196, 198, 204))
    disc(canvas, (x, y + 14), 32, (246, 206, 40))
    disc(canvas, (x, y + 17), 25 - 2 * pressed, (88, 20, 110))
    disc(canvas, (x, y + 11 + 3 * pressed), 24 - 3 * pressed, (150, 62, 190))
    disc(canvas, (x, y - 34), 13, DARK)
    disc(canvas, (x, y - 34), 11, colour(np.array((40, 92, 56)) + lamp * np.array((150, 163, 150))))


def paint_box(canvas: Image, place: Point, *, size: tuple[float, float], rim: Colour, inside: Colour) -> None:
    """An open box seen from above."""
    width, height = size
    polygon(canvas, turned(rounded_box(width, height, 10), place, 0), rim)
    polygon(canvas, turned(rounded_box(width - 14, height - 14, 6), place, 0), inside)


def _fixed(points: npt.ArrayLike) -> npt.NDArray[np.int32]:
    return np.rint(np.asarray(points, dtype=np.float64) * (1 << _BITS)).astype(np.int32)


def _directions(angles: Points) -> Points:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


@cache
def _gear_rim() -> Points:
    """Outline of a gear of radius 1, (48, 2): each tooth has two corners outside and two inside."""
    steps = (np.arange(48) + np.tile([-0.25, 0.25, 0.0, 0.0], 12)) * (math.tau / 48)
    return np.asarray(_directions(steps) * np.tile([1.0, 1.0, 0.8, 0.8], 12)[:, None], dtype=np.float64)
