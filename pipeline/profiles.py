"""Feature profiles: everything about an extraction but the video and the weights. No torch here."""

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from rapidfuzz import process

from pipeline.errors import SettingsError

Stream = Literal["rgb", "optical_flow"]

I3D_STREAM_WIDTH = 1024
"""Values a stream of Inception-I3D contributes to a step (Carreira and Zisserman 2017, figure 3)."""

I3D_MIN_WINDOW_FRAMES = 9
"""Inception-I3D divides time by 8, rounding up, and its last pool spans 2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """How pictures become feature rows: network, windows and streams.

    Raises:
        SettingsError: A value is out of range or contradicts another.
    """

    name: str
    """Name in the store; profiles that differ only in parameters share it and differ in their keys."""
    kind: Literal["i3d", "clip"]
    window_frames: int = 1
    """Video frames seen by a step, centred on its frame; odd."""
    stride_frames: int = 1
    """Video frames between the centres of neighbouring steps."""
    edge: Literal["clone"] = "clone"
    """A window that reaches beyond the video repeats the first or last frame."""
    streams: tuple[Stream, ...] = ("rgb",)
    """Streams in the order their features are joined."""
    optical_flow: Literal["tvl1"] | None = None
    """Method that computes the optical-flow stream."""
    clip_model: str | None = None
    """Model name in open_clip."""

    def __post_init__(self) -> None:
        if self.stride_frames < 1:
            raise SettingsError(
                f"Profile {self.name!r} has stride={self.stride_frames}; a stride is at least 1 frame."
            )
        if self.window_frames % 2 == 0 or self.window_frames < 1:
            raise SettingsError(
                f"Profile {self.name!r} has window={self.window_frames}; "
                "a centred window has an odd number of frames, such as 21."
            )
        if self.kind == "i3d" and self.window_frames < I3D_MIN_WINDOW_FRAMES:
            raise SettingsError(
                f"Profile {self.name!r} has window={self.window_frames}; "
                f"I3D needs at least {I3D_MIN_WINDOW_FRAMES} frames."
            )
        if ("optical_flow" in self.streams) != (self.optical_flow is not None):
            raise SettingsError(
                f"Profile {self.name!r} has streams {self.streams} and optical flow {self.optical_flow!r}; "
                "name the method exactly when the stream is used."
            )
        if (self.kind == "clip") != (self.clip_model is not None):
            raise SettingsError(
                f"Profile {self.name!r} is of kind {self.kind!r} with CLIP model {self.clip_model!r}; "
                "a CLIP profile names a model and no other profile does."
            )

    @property
    def width(self) -> int:
        """Values of a feature row. For CLIP this imports open_clip, but builds no model."""
        if self.clip_model is None:
            return I3D_STREAM_WIDTH * len(self.streams)
        from pipeline.clip_models import clip_width

        return clip_width(self.clip_model)

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks whose weights the profile needs, in the order of their features."""
        if self.clip_model is not None:
            return (f"clip/{self.clip_model}",)
        return tuple(f"i3d-{stream.replace('_', '-')}" for stream in self.streams)

    @property
    def spec(self) -> str:
        """Canonical text that ``parse_profile`` reads back.

        >>> parse_profile("i3d-rgb:window=21:stride=8").spec
        'i3d-rgb:stride=8'
        """
        standard = BUILT_IN[self.name]
        parts = [self.name]
        for key, field in sorted(_keys_of(standard).items()):
            if getattr(self, field) != getattr(standard, field):
                parts.append(f"{key}={getattr(self, field)}")
        return ":".join(parts)

    def identity(self) -> dict[str, Any]:
        """Every parameter that can change a byte of the features, JSON-able."""
        return {
            "name": self.name,
            "kind": self.kind,
            "window_frames": self.window_frames,
            "stride_frames": self.stride_frames,
            "edge": self.edge,
            "streams": list(self.streams),
            "optical_flow": self.optical_flow,
            "clip_model": self.clip_model,
        }


BUILT_IN = {
    profile.name: profile
    for profile in (
        Profile(
            name="mstcn-i3d",
            kind="i3d",
            window_frames=21,
            streams=("rgb", "optical_flow"),
            optical_flow="tvl1",
        ),
        Profile(name="i3d-rgb", kind="i3d", window_frames=21),
        Profile(name="clip", kind="clip", clip_model="ViT-B-32"),
    )
}
"""Profiles by name, as CONVENTIONS of the published features have them."""


def parse_profile(text: str) -> Profile:
    """The profile that ``name[:key=value...]`` describes.

    >>> parse_profile("clip:stride=4").stride_frames
    4
    >>> parse_profile("mstcn-i3d").width
    2048

    Raises:
        SettingsError: The name, a key or a value is unknown; the message names the nearest.
    """
    # A value may hold colons of its own, so only a colon before `key=` separates.
    name, *settings = re.split(r":(?=[^:=]*=)", text.strip())
    standard = BUILT_IN.get(name)
    if standard is None:
        raise SettingsError(
            f"No feature profile {name!r}. Did you mean {_nearest(name, list(BUILT_IN))!r}? "
            f"Known: {', '.join(sorted(BUILT_IN))}."
        )
    keys = _keys_of(standard)
    changes: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in keys:
            raise SettingsError(
                f"Profile {text!r} has no setting {key!r}. Did you mean {_nearest(key, list(keys))!r}? "
                f"Profile {name!r} has: {', '.join(sorted(keys))}."
            )
        if keys[key] in changes:
            raise SettingsError(f"Profile {text!r} sets {key!r} twice; give it once.")
        changes[keys[key]] = _value(text, key, value)
    return replace(standard, **changes)


def _keys_of(standard: Profile) -> dict[str, str]:
    """Settings a user may change, by the word they write."""
    if standard.kind == "clip":
        return {"stride": "stride_frames", "model": "clip_model"}
    return {"stride": "stride_frames", "window": "window_frames"}


def _value(text: str, key: str, value: str) -> int | str:
    if key == "model":
        if not re.fullmatch(r"[A-Za-z0-9._-]+", value):
            raise SettingsError(
                f"Profile {text!r} has model {value!r}; give a name that open_clip lists, such as ViT-B-32. "
                "Weights from a folder are chosen by the weights settings."
            )
        return value
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise SettingsError(
            f"Profile {text!r} has {key}={value!r}; give a whole number of frames, such as {key}=9."
        )
    return int(value)


def _nearest(word: str, known: list[str]) -> str:
    return process.extract(word, known, limit=1)[0][0]
