"""Imported features as a model input, and recordings that have features but no video here."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IMPORTED = "imported"
"""Name of the profile of features that were made elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedProfile:
    """Features from files: all that is known is how wide a row is."""

    width: int
    """Values of a row."""
    name: str = IMPORTED

    @property
    def spec(self) -> str:
        """Canonical text that ``parse_imported`` reads back.

        >>> parse_imported(ImportedProfile(width=76).spec)
        ImportedProfile(width=76, name='imported')
        """
        return f"{self.name}:width={self.width}"


def parse_imported(spec: str) -> ImportedProfile | None:
    """The profile that ``imported:width=...`` describes; None for any other text."""
    match = re.fullmatch(rf"{IMPORTED}:width=([1-9][0-9]{{0,8}})", spec)
    return None if match is None else ImportedProfile(width=int(match[1]))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RowFacts:
    """When the rows of a recording are; named as a video's facts are, because frames are feature rows."""

    frame_times: NDArray[np.float64]
    """(N,) seconds of each row; its number where no rate is known."""
    fps: float
    """Rows per second; 1 where no rate is known."""

    @classmethod
    def of(cls, num_frames: int, *, fps: float | None) -> "RowFacts":
        """Rows at a constant rate."""
        rate = 1.0 if fps is None else fps
        return cls(frame_times=np.arange(num_frames) / rate, fps=rate)

    @property
    def num_frames(self) -> int:
        """Rows."""
        return len(self.frame_times)

    @property
    def duration(self) -> float:
        """Seconds to the end of the last row."""
        return self.num_frames / self.fps


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What stands in for a video where there are features only."""

    id: str
    video_hash: str
    """SHA-256 of the file of features: there is no video."""
    facts: RowFacts
