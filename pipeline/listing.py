"""Which files of a folder are videos to be judged, and which are plainly something else."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.sniff import has_video_suffix, is_text


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoListing:
    """The regular files of a folder, sorted by path."""

    folder: Path
    videos: tuple[Path, ...]
    """Files to probe: whether each is a video its content decides."""
    not_videos: tuple[Path, ...]
    """Hidden files, and text files that do not claim to be videos: listed, skipped and no failure."""


def list_videos(folder: Path, *, recursive: bool = False, may_be_empty: bool = False) -> VideoListing:
    """Every regular file directly in ``folder``, or at any depth; links to folders are not followed.

    A link to nothing is listed too: whoever probes it says so.

    Raises:
        DatasetError: The folder is missing, is a file, cannot be read, or holds no file though it must.
    """
    if not folder.exists():
        raise DatasetError(f"{folder}: no such folder. Give the folder that holds the videos.")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is a file, not a folder. Give the folder that holds it.")
    files = sorted(_files_in(folder, recursive=recursive))
    if not files and not may_be_empty:
        raise DatasetError(f"{folder}: holds no file. Put the videos directly into this folder.")
    not_videos = tuple(path for path in files if _is_plainly_no_video(path))
    videos = tuple(path for path in files if path not in set(not_videos))
    return VideoListing(folder=folder, videos=videos, not_videos=not_videos)


def list_some_videos(folder: Path, *, recursive: bool = False) -> VideoListing:
    """``list_videos`` of a folder that must hold a file that may be a video.

    Raises:
        DatasetError: The folder is missing, is a file, cannot be read, or holds none.
    """
    listing = list_videos(folder, recursive=recursive)
    if not listing.videos:
        raise DatasetError(
            f"{folder} holds no video ({len(listing.not_videos)} other files). Give a folder of videos."
        )
    return listing


def _files_in(folder: Path, *, recursive: bool) -> Iterator[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise DatasetError(
            f"{printable(folder)}: cannot be listed ({error.strerror}). Check its permissions."
        ) from error
    for path in entries:
        if path.is_file() or (path.is_symlink() and not path.exists()):
            yield path
        elif recursive and path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _files_in(path, recursive=True)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A name for each of several videos: the file's without its ending, after as many folders as tell them apart.

    >>> distinct_names([Path("a/P01/cam.mp4"), Path("a/P02/cam.mp4"), Path("a/P02/hand.mp4")])
    ['P01/cam', 'P02/cam', 'hand']
    """
    bare = Counter(path.absolute().with_suffix("") for path in set(paths))
    full = [path.absolute() for path in paths]
    full = [path.with_suffix("") if bare[path.with_suffix("")] == 1 else path for path in full]
    depths = [1] * len(paths)
    while True:
        names = [Path(*path.parts[-depth:]).as_posix() for path, depth in zip(full, depths, strict=True)]
        meant: dict[str, set[Path]] = {}
        for name, path in zip(names, full, strict=True):
            meant.setdefault(name, set()).add(path)
        if all(len(paths_of_name) == 1 for paths_of_name in meant.values()):
            return [printable(name) for name in names]
        depths = [depth + (len(meant[name]) > 1) for name, depth in zip(names, depths, strict=True)]


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
