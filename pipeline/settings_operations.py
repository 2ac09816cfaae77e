"""Settings of what runs for a long time or on a schedule: watching a folder, retraining."""

from pathlib import Path

from pydantic import Field

from pipeline.settings import RunSettings, SegmentSettings
from pipeline.settings_base import StrictSettings


class WatchSettings(StrictSettings):
    """Which folder is watched for new videos, and how they are segmented."""

    folder: Path
    """Folder whose files are segmented once they are complete; nothing in it is moved or changed."""
    out: Path | None = None
    """Folder for the results; beside each video where it is not given."""
    settle_seconds: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    """A file whose size and date did not change for so long is complete."""
    poll_seconds: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """Time between two looks at the folder."""
    segment: SegmentSettings
    """How videos are segmented; its list of videos is that of the files found."""


class RetrainSettings(RunSettings):
    """Everything the full pipeline can be told, and when a challenger replaces the champion."""

    margin: float = Field(default=0.0, ge=-100, le=100, allow_inf_nan=False)
    """The lower confidence bound of the gain in F1@50 must not lie below this, in points."""
    max_class_drop: float = Field(default=10.0, ge=0, le=100, allow_inf_nan=False)
    """No class may lose more than this in frame F1, in points."""
    confidence: float = Field(default=0.9, gt=0, lt=1)
    """Of the interval whose lower bound decides."""
    resamples: int = Field(default=1000, ge=100)
    """Of the test videos, for the interval."""
