"""Colours of classes in pictures: the same index always gets the same colour, far from all earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Ottosson, "A perceptual color space for image processing", 2020: OKLab to cone responses to linear sRGB.
_LAB_TO_LMS: Final = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_RGB: Final = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency",
# IEEE TVCG 2009: deuteranopia (severity 1.0) on linear sRGB.
_DEUTERANOPIA: Final = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
_LUMINANCE: Final = np.array([0.2126, 0.7152, 0.0722])
_GREY_LAB: Final = np.array([[0.62, 0.0, 0.0]])
"""Background is drawn in grey, so no class may come near it."""
_FIRST_LAB: Final = np.array([0.62, -0.04, -0.13])
"""Class 0 is a blue; the rest follows from it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassColor:
    """A fill and the text colour that is readable on it, as CSS hex colours."""

    fill: str
    text: str


def class_colors(num_classes: int) -> tuple[ClassColor, ...]:
    """A colour per class index; a longer list starts with the shorter one.

    Each colour is the candidate farthest from grey and from all before it, as seen with normal sight and with
    red-green blindness, whichever is nearer. Past some dozens they come close: names must accompany them.

    >>> class_colors(3) == class_colors(8)[:3]
    True
    """
    ramp = _ramp()
    return tuple(ramp[index % len(ramp)] for index in range(num_classes))


@cache
def _ramp(length: int = 240) -> tuple[ClassColor, ...]:
    lab, linear = _candidates()
    blind = _to_lab(np.clip(linear @ _DEUTERANOPIA.T, 0.0, 1.0))
    grey_distance = np.linalg.norm(lab - _GREY_LAB, axis=1)
    nearest = grey_distance.copy()
    chosen = [int(np.linalg.norm(lab - _FIRST_LAB, axis=1).argmin())]
    for _ in range(length - 1):
        last = chosen[-1]
        sighted = np.linalg.norm(lab - lab[last], axis=1)
        red_green_blind = np.linalg.norm(blind - blind[last], axis=1)
        # The blind solid is about half as wide, so its distances count double before they are compared.
        nearest = np.minimum(nearest, np.minimum(sighted, 2.0 * red_green_blind))
        chosen.append(int(nearest.argmax()))
    return tuple(_color(linear[index]) for index in chosen)


def _candidates() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Colours neither pale nor dark nor glaring, so that they stand out on white and on black pages."""
    lightness, chroma, hue = (
        axis.ravel()
        for axis in np.meshgrid(
            np.linspace(0.52, 0.82, 12),
            np.linspace(0.06, 0.155, 6),
            np.linspace(0.0, 2.0 * np.pi, 72, endpoint=False),
            indexing="ij",
        )
    )
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    linear = (lab @ _LAB_TO_LMS.T) ** 3 @ _LMS_TO_RGB.T
    inside = ((linear >= 0.0) & (linear <= 1.0)).all(axis=1)
    return lab[inside], linear[inside]


def _to_lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    lms = np.cbrt(linear @ np.linalg.inv(_LMS_TO_RGB).T)
    lab: NDArray[np.float64] = lms @ np.linalg.inv(_LAB_TO_LMS).T
    return lab


def _color(linear: NDArray[np.float64]) -> ClassColor:
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (round(255 * channel) for channel in encoded.tolist())
    # WCAG 2 contrast is higher against black exactly where luminance exceeds 0.179.
    text = "#000000" if float(linear @ _LUMINANCE) > 0.179 else "#ffffff"
    return ClassColor(fill=f"#{red:02x}{green:02x}{blue:02x}", text=text)
