"""What decoding may cost, and what becomes of damaged videos."""

from dataclasses import dataclass
from typing import Literal

OnCorrupt = Literal["fail", "keep-decodable"]

DEFAULT_TIMEOUT_SECONDS = 60.0
"""Long for a frame on any machine that is not itself stuck, short for a person who waits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeRules:
    """How patient decoding is, and whether the whole part of a damaged video is worth having."""

    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    """A decoder that gets no step further for so long is stopped."""
    on_corrupt: OnCorrupt = "fail"
    """``keep-decodable`` takes the frames before the first damage of a video, ``fail`` takes none."""
