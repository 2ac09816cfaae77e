"""Which files of a folder are videos to be judged, and which are plainly something else."""

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.sniff import has_video_suffix, is_text


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoListing:
    """The regular files of a folder, sorted by name."""

    folder: Path
    videos: tuple[Path, ...]
    """Files to probe: whether each is a video its content decides."""
    not_videos: tuple[Path, ...]
    """Hidden files, and text files that do not claim to be videos: listed, skipped and no failure."""


def list_videos(folder: Path) -> VideoListing:
    """Every regular file directly in ``folder``.

    Raises:
        DatasetError: The folder is missing, is a file, cannot be read, or holds no file.
    """
    if not folder.exists():
        raise DatasetError(f"{folder}: no such folder. Give the folder that holds the videos.")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is a file, not a folder. Give the folder that holds it.")
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise DatasetError(
            f"{folder}: cannot be listed ({error.strerror}). Check its permissions."
        ) from error
    if not files:
        raise DatasetError(f"{folder}: holds no file. Put the videos directly into this folder.")
    not_videos = tuple(path for path in files if _is_plainly_no_video(path))
    videos = tuple(path for path in files if path not in set(not_videos))
    return VideoListing(folder=folder, videos=videos, not_videos=not_videos)


def printable(path: Path | str) -> str:
    """A path or name as text that can be stored and shown, also where its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_plainly_no_video(path: Path) -> bool:
    # Desktops leave hidden files in folders that people look at.
    return path.name.startswith(".") or (not has_video_suffix(path) and _is_readable_text(path))


def _is_readable_text(path: Path) -> bool:
    try:
        return is_text(path)
    except OSError:
        # An unreadable file is not skipped in silence: probing it reports why it cannot be read.
        return False
