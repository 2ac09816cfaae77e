"""Labels as people have them: the MS-TCN layout of mapping, split and label files.

Files may be CRLF or Latin-1 and may lack the last newline: nothing is lost. Every error names the file.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import LabelError

MIN_TOLERANCE_FRAMES = 10
"""A label file may be this many frames longer or shorter than its video ..."""
TOLERANCE_FRACTION = 0.01
"""... or this fraction of the video, whichever is more (CONVENTIONS: label lengths often differ a little)."""


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set; a class id is a position in ``names``."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise LabelError("A class list needs at least one class; the mapping is empty.")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise LabelError(f"Class {repeated[0]!r} occurs twice in the class list; give each class one id.")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def id_of(self) -> dict[str, int]:
        """Class id by name."""
        return {name: index for index, name in enumerate(self.names)}

    def ids_named(self, names: Sequence[str]) -> tuple[int, ...]:
        """Class ids of some names.

        Raises:
            LabelError: A name is not in the list; the message names the nearest one.
        """
        for name in names:
            if name not in self.id_of:
                raise LabelError(f"Class {name!r} is not in the mapping{nearest_name(name, self.names)}.")
        return tuple(self.id_of[name] for name in names)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which videos train and which test."""

    name: str
    train: tuple[str, ...]
    """Video ids, in the order of the file."""
    test: tuple[str, ...]
    """Video ids, in the order of the file."""


@dataclass(frozen=True, kw_only=True)
class FittedLabels:
    """Labels cut to what both the label file and the video cover."""

    labels: NDArray[np.int64]
    """(n,) class ids of the first n video frames."""
    note: str
    """What was cut, or an empty string."""


def read_mapping(path: Path) -> ClassList:
    """Classes of a ``mapping.txt``: lines ``<id> <name>``; a name may contain blanks.

    The ids must be whole numbers, each once; classes are numbered from 0 in their order.

    Raises:
        LabelError: The file is missing, empty or malformed.
    """
    by_id: dict[int, str] = {}
    for number, line in enumerate(_lines(path, what="mapping"), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\d+)\s+(.*\S)\s*", line)
        if match is None:
            raise LabelError(
                f"{path}, line {number}: {line!r} is not `<id> <name>`. "
                "Write one class a line, e.g. `0 background`."
            )
        index, name = int(match[1]), match[2]
        if index in by_id:
            raise LabelError(
                f"{path}, line {number}: id {index} is already {by_id[index]!r}. Give each class its own id."
            )
        by_id[index] = name
    if not by_id:
        raise LabelError(f"{path} names no class. Write one `<id> <name>` a line.")
    names = [by_id[index] for index in sorted(by_id)]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise LabelError(f"{path} names class {repeated!r} twice. Give each class one id.")
    return ClassList(tuple(names))


def read_labels(path: Path, *, classes: ClassList) -> NDArray[np.int64]:
    """(N,) class ids of a label file with one class name per video frame.

    Raises:
        LabelError: The file is missing or empty, or a line is no class of the mapping.
    """
    lines = [line.strip() for line in _lines(path, what="label file")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise LabelError(f"{path} has no labels. Write one class name per video frame.")
    unknown = next((number for number, name in enumerate(lines, start=1) if name not in classes.id_of), None)
    if unknown is not None:
        name = lines[unknown - 1]
        found = (
            f"class {name!r} is not in the mapping{nearest_name(name, classes.names)}"
            if name
            else "the line is empty"
        )
        raise LabelError(
            f"{path}, line {unknown}: {found}. Correct the line, or add the class to the mapping."
        )
    return np.array([classes.id_of[name] for name in lines], dtype=np.int64)


def read_split(folder: Path, name: str) -> Split:
    """Video ids of ``train.<name>.bundle`` and ``test.<name>.bundle``.

    Raises:
        LabelError: A file is missing, names no video, names one twice, or shares one with the other file.
    """
    train, test = (_read_bundle(folder / f"{part}.{name}.bundle") for part in ("train", "test"))
    shared = sorted(set(train) & set(test))
    if shared:
        raise LabelError(
            f"{folder}: video {shared[0]!r} is in both train.{name}.bundle and test.{name}.bundle "
            f"({len(shared)} such videos). A test video must not be trained on: remove it from one."
        )
    return Split(name=name, train=train, test=test)


def length_tolerance(num_frames: int) -> int:
    """Frames by which labels may be longer or shorter than their video."""
    return max(MIN_TOLERANCE_FRAMES, int(TOLERANCE_FRACTION * num_frames))


def fit_labels(labels: NDArray[np.int64], *, num_frames: int, source: Path | str) -> FittedLabels:
    """Cut labels or frames to the shorter of the two, if they differ by no more than the tolerance.

    Raises:
        LabelError: They differ by more than max(10 frames, 1 % of the video).
    """
    tolerance = length_tolerance(num_frames)
    difference = len(labels) - num_frames
    if abs(difference) > tolerance:
        raise LabelError(
            f"{source} has {len(labels)} labels but its video has {num_frames} frames; "
            f"a difference of up to {tolerance} would be cut. Give one label per video frame."
        )
    note = ""
    if difference:
        surplus = (
            f"{abs(difference)} {'label' if difference > 0 else 'frame'}{'s' if abs(difference) > 1 else ''}"
        )
        note = f"{source}: {len(labels)} labels for {num_frames} frames, {surplus} left out at the end"
    return FittedLabels(labels=labels[:num_frames], note=note)


def _read_bundle(path: Path) -> tuple[str, ...]:
    names = [line.strip() for line in _lines(path, what="split") if line.strip()]
    # Published bundles name label files; a video id itself may well contain dots.
    ids = [name.removesuffix(".txt") for name in names]
    if not ids:
        raise LabelError(f"{path} names no video. Write one video id a line.")
    repeated = next((video for video in ids if ids.count(video) > 1), None)
    if repeated is not None:
        raise LabelError(f"{path} names video {repeated!r} twice. Remove one of the lines.")
    return tuple(ids)


def read_text(path: Path, *, what: str) -> str:
    """A text file, UTF-8 with or without mark or else Latin-1, its lines ended by line feeds alone.

    Raises:
        LabelError: It cannot be read.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise LabelError(f"{path}: there is no such {what}. Check the path.") from None
    except OSError as error:
        raise LabelError(
            f"{path}: the {what} cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def nearest_name(name: str, known: Sequence[str]) -> str:
    """The known name nearest to one that is not, for the end of a message; empty where none is near."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (nearest: {close[0]!r})" if close else ""


def _lines(path: Path, *, what: str) -> list[str]:
    # Not str.splitlines: a class name may hold a character that it takes for the end of a line.
    return read_text(path, what=what).split("\n")
