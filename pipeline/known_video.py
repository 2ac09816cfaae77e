"""A video as status sees it: what the store knows of its content of today."""

from dataclasses import dataclass

from pipeline.catalogue import Video
from pipeline.imported import Recording


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownVideo:
    """A video of the catalogue or of a data set."""

    id: str
    path: str
    """Path or URL; empty for a recording without a video."""
    video: Video | Recording | None
    """None where its content of today was never probed."""
    former_hash: str
    """SHA-256 of the content that was probed last, be it today's or not; empty where none was."""
    features: tuple[str, ...] | None = None
    """Keys of imported features; None where features come from a video."""
