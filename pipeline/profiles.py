"""Feature profiles: everything about an extraction but the video and the weights. No torch here."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from pipeline.errors import SettingsError
from pipeline.windows import Edge

Stream = Literal["rgb", "optical_flow"]
OpticalFlow = Literal["tvl1", "raft", "dis"]
Precision = Literal["float32", "bfloat16", "float16"]

I3D_STREAM_WIDTH = 1024
"""Values a stream of Inception-I3D contributes to a step (Carreira and Zisserman 2017, figure 3)."""

I3D_MIN_WINDOW_FRAMES = 9
"""Inception-I3D divides time by 8, rounding up, and its last pool spans 2."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """How pictures become feature rows: network, windows and streams.

    Raises:
        SettingsError: A value is out of range or contradicts another.
    """

    name: str
    """Name in the store; profiles that differ only in parameters share it and differ in their keys."""
    base: str = ""
    """Built-in profile it derives from; empty for a built-in one."""
    kind: Literal["i3d", "clip"]
    window_frames: int = 1
    """Pictures seen by a step."""
    stride_frames: int = 1
    """Pictures between neighbouring steps."""
    edge: Edge = "clone"
    """What becomes of a window that reaches beyond the video."""
    target_fps: float | None = None
    """Rate to which the video is resampled by time stamps; None takes every frame as it is."""
    streams: tuple[Stream, ...] = ("rgb",)
    """Streams in the order their features are joined."""
    optical_flow: OpticalFlow | None = None
    """Method that computes the optical-flow stream."""
    dense: bool = False
    """The first layers of I3D see the video around a window instead of zeros, and are shared by all windows."""
    clip_model: str | None = None
    """Model name in open_clip."""
    precision: Precision = "float32"
    """Type of the network's arithmetic."""

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_streams(self)

    @property
    def width(self) -> int:
        """Values of a feature row. For CLIP this imports open_clip, but builds no model."""
        if self.clip_model is None:
            return I3D_STREAM_WIDTH * len(self.streams)
        from pipeline.clip_models import clip_width

        return clip_width(self.clip_model)

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks whose weights the profile needs: those of its features, in order, then RAFT."""
        if self.clip_model is not None:
            return (f"clip/{self.clip_model}",)
        streams = tuple(f"i3d-{stream.replace('_', '-')}" for stream in self.streams)
        return (*streams, "raft") if self.optical_flow == "raft" else streams

    @property
    def extra_frames(self) -> int:
        """Pictures beyond its last that a window needs: optical flow looks at the next one."""
        return int(self.optical_flow is not None)

    @property
    def spec(self) -> str:
        """Canonical text that ``parse_profile`` reads back without any file.

        >>> parse_profile("i3d-rgb:window=21:stride=8").spec
        'i3d-rgb:stride=8'
        >>> parse_profile("raft-i3d:flow=dis:name=quick").spec
        'raft-i3d:flow=dis:name=quick'
        """
        standard = BUILT_IN[self.base or self.name]
        changed = [
            f"{key}={_written(getattr(self, field))}"
            for key, field in sorted(_keys_of(standard).items())
            if getattr(self, field) not in {getattr(standard, field), None}
        ]
        return ":".join([standard.name, *changed])

    def identity(self) -> dict[str, Any]:
        """Every parameter that can change a byte of the features, JSON-able."""
        return {
            "name": self.name,
            "kind": self.kind,
            "window_frames": self.window_frames,
            "stride_frames": self.stride_frames,
            "edge": self.edge,
            "target_fps": self.target_fps,
            "streams": list(self.streams),
            "optical_flow": self.optical_flow,
            "dense": self.dense,
            "clip_model": self.clip_model,
            "precision": self.precision,
        }


def _check_numbers(profile: Profile) -> None:
    name, window = profile.name, profile.window_frames
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} cannot name a profile: use at most 64 lower-case letters, digits, dots, dashes and underscores."
        )
    if profile.stride_frames < 1:
        raise SettingsError(
            f"Profile {name!r} has stride={profile.stride_frames}; a stride is at least 1 frame."
        )
    if window < 1 or (window % 2 == 0 and profile.edge != "drop"):
        raise SettingsError(
            f"Profile {name!r} has window={window} and edge={profile.edge}; "
            "a centred window has an odd number of frames, such as 21; only edge=drop takes an even one."
        )
    if profile.kind == "i3d" and window < I3D_MIN_WINDOW_FRAMES:
        raise SettingsError(
            f"Profile {name!r} has window={window}; I3D needs at least {I3D_MIN_WINDOW_FRAMES} frames."
        )
    if profile.target_fps is not None and not (math.isfinite(profile.target_fps) and profile.target_fps > 0):
        raise SettingsError(f"Profile {name!r} has fps={profile.target_fps}; give a positive number.")


def _check_streams(profile: Profile) -> None:
    name = profile.name
    if not profile.streams or len(set(profile.streams)) < len(profile.streams):
        raise SettingsError(f"Profile {name!r} has streams {profile.streams}; name each stream once.")
    if ("optical_flow" in profile.streams) != (profile.optical_flow is not None):
        raise SettingsError(
            f"Profile {name!r} has streams {profile.streams} and optical flow {profile.optical_flow!r}; "
            "name the method exactly when the stream is used."
        )
    if (profile.kind == "clip") != (profile.clip_model is not None):
        raise SettingsError(
            f"Profile {name!r} is of kind {profile.kind!r} with CLIP model {profile.clip_model!r}; "
            "a CLIP profile names a model and no other profile does."
        )
    if profile.dense and (
        profile.streams != ("rgb",) or profile.edge != "clone" or profile.stride_frames > 2
    ):
        raise SettingsError(
            f"Profile {name!r} shares the first layers of windows of RGB with edge=clone and stride 1 or 2 only; "
            "use i3d-rgb instead."
        )


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
        Profile(
            name="raft-i3d",
            kind="i3d",
            window_frames=64,
            stride_frames=64,
            edge="drop",
            streams=("rgb", "optical_flow"),
            optical_flow="raft",
        ),
        Profile(name="i3d-rgb", kind="i3d", window_frames=21),
        Profile(name="i3d-rgb-dense", kind="i3d", window_frames=21, dense=True),
        Profile(name="clip", kind="clip", clip_model="ViT-B-32"),
    )
}
"""Profiles by name, as CONVENTIONS of the published features have them."""


def parse_profile(text: str, *, known: Mapping[str, Profile] = BUILT_IN) -> Profile:
    """The profile that ``name[:key=value...]`` describes.

    >>> parse_profile("clip:stride=4").stride_frames
    4
    >>> parse_profile("mstcn-i3d").width
    2048

    Args:
        text: What a user wrote, or ``Profile.spec``.
        known: Profiles by name: the built-in ones, or those with a user's own.

    Raises:
        SettingsError: The name, a key or a value is unknown; the message names the nearest.
    """
    # A value may hold colons of its own, so only a colon before `key=` separates.
    name, *settings = re.split(r":(?=[^:=]*=)", text.strip())
    standard = known.get(name)
    if standard is None:
        raise SettingsError(
            f"No feature profile {name!r}. Did you mean {_nearest(name, list(known))!r}? "
            f"Known: {', '.join(sorted(known))}."
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
    own_name = changes.get("name")
    if own_name in BUILT_IN:
        raise SettingsError(f"Profile {text!r} takes the name of a built-in profile; choose another name.")
    if own_name is not None:
        changes["base"] = standard.base or standard.name
    return replace(standard, **_without_unused_method(standard, changes))


def _without_unused_method(standard: Profile, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes, and no method of optical flow where they leave its stream out."""
    if "optical_flow" in changes.get("streams", standard.streams) or "optical_flow" in changes:
        return changes
    return {**changes, "optical_flow": None}


def _keys_of(standard: Profile) -> dict[str, str]:
    """Settings a user may change, by the word they write."""
    common = {
        "stride": "stride_frames",
        "fps": "target_fps",
        "precision": "precision",
        "name": "name",
    }
    if standard.kind == "clip":
        return {**common, "model": "clip_model"}
    return {
        **common,
        "window": "window_frames",
        "edge": "edge",
        "streams": "streams",
        "flow": "optical_flow",
    }


_WORDS = {
    "edge": get_args(Edge),
    "flow": get_args(OpticalFlow),
    "precision": get_args(Precision),
}
"""Values of the settings that are words."""

_PATTERNS = {
    "name": (_NAME, "at most 64 lower-case letters, digits, dots, dashes and underscores"),
    "model": (
        re.compile(r"[A-Za-z0-9._-]+"),
        "a name that open_clip lists, such as ViT-B-32; weights from a folder are chosen by the weights settings",
    ),
    "fps": (re.compile(r"[0-9]{1,4}(\.[0-9]{1,9})?"), "frames per second, such as fps=25"),
}
_WHOLE_NUMBER = (re.compile(r"[0-9]{1,9}"), "a whole number of frames, such as 9")


def _value(text: str, key: str, value: str) -> int | float | str | tuple[str, ...]:
    if key in _WORDS:
        return _word(text, key, value, _WORDS[key])
    if key == "streams":
        streams = (_word(text, key, part.replace("-", "_"), get_args(Stream)) for part in value.split("+"))
        return tuple(streams)
    pattern, remedy = _PATTERNS.get(key, _WHOLE_NUMBER)
    if not re.fullmatch(pattern, value):
        raise SettingsError(f"Profile {text!r} has {key}={value!r}; give {remedy}.")
    if key in {"name", "model"}:
        return value
    return float(value) if key == "fps" else int(value)


def _word(text: str, key: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        words = ", ".join(word.replace("_", "-") for word in known)
        raise SettingsError(f"Profile {text!r} has {key}={value!r}; known are {words}.")
    return value


def _written(value: object) -> str:
    """A value as a user writes it."""
    if isinstance(value, tuple):
        return "+".join(value).replace("_", "-")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _nearest(word: str, known: list[str]) -> str:
    from rapidfuzz import process

    return str(process.extract(word, known, limit=1)[0][0])
