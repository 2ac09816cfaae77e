"""Features that people have as ``.npy`` files: which axis is time, and into the store, bit for bit.

The published sets hold (D, T), others (T, D), and no file says which. Of two axes the one of equal length in all
files is D; where both or neither is, the axis that fits the number of labels is T; else the file is refused.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import LabelError
from pipeline.imported import IMPORTED
from pipeline.labels import length_tolerance
from storage.atomic import artefact_lock
from storage.features import FeatureMetadata, write_features
from storage.keys import digest_of
from storage.store import Store

IMPORT_VERSION = 1
"""Version of the code between a ``.npy`` file and its stored rows; part of every key."""

Orientation = Literal["DT", "TD"]
"""Which axis of a file is time: the second or the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureFile:
    """A ``.npy`` file and how it is to be read."""

    path: Path
    orientation: Orientation
    num_steps: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedFeatures:
    """Features now in the store."""

    key: str
    content: str
    """SHA-256 of the file."""
    note: str
    """What was rounded, or an empty string."""


def feature_shape(path: Path) -> tuple[int, int]:
    """Shape of the array in a ``.npy`` file, without reading it.

    Raises:
        LabelError: The file is no array of two axes of numbers.
    """
    array = _open(path)
    if array.ndim != 2 or 0 in array.shape:
        raise LabelError(
            f"{path} holds an array of shape {array.shape}. Give features of shape (D, T) or (T, D)."
        )
    if array.dtype.kind not in "fiu":
        raise LabelError(f"{path} holds values of type {array.dtype}. Give real numbers, best float32.")
    return int(array.shape[0]), int(array.shape[1])


def orient(
    shapes: Mapping[Path, tuple[int, int]], num_labels: Mapping[Path, int], *, said: Orientation | None = None
) -> tuple[dict[Path, FeatureFile], dict[Path, str]]:
    """Which axis of each file is time.

    Args:
        shapes: Of every file.
        num_labels: Labels of the video, for the files that have any.
        said: What the user says; then nothing is guessed.

    Returns:
        The files that can be read, and why each of the others cannot.
    """
    axis = said or _equal_axis(shapes)
    found: dict[Path, FeatureFile] = {}
    refused: dict[Path, str] = {}
    for path, shape in shapes.items():
        orientation = axis or _by_labels(shape, num_labels.get(path))
        if orientation is None:
            refused[path] = _undecidable(path, shape, num_labels.get(path))
        else:
            width, steps = shape if orientation == "DT" else shape[::-1]
            found[path] = FeatureFile(path=path, orientation=orientation, num_steps=steps, width=width)
    return _of_one_width(found, refused)


def import_features(file: FeatureFile, *, fps: float | None, store: Store) -> ImportedFeatures:
    """Store the rows of a file, unless the store has them.

    Raises:
        LabelError: A value is NaN or infinite, or the file cannot be read.
    """
    content = store.digests.digest(file.path)
    identity = {
        "stage": "import",
        "version": IMPORT_VERSION,
        "content": content,
        "orientation": file.orientation,
        "fps": fps,
    }
    key = digest_of(identity)
    target = store.feature_path(IMPORTED, key)
    rows, note = _rows(file)
    with artefact_lock(target):
        if not target.exists():
            metadata = FeatureMetadata(
                profile=IMPORTED,
                identity=identity,
                weights_digest="",
                random_weights=False,
                video_hash=content,
                decoder="none",
                fps=fps or 1.0,
                num_frames=file.num_steps,
                window_frames=1,
                stride_frames=1,
            )
            with write_features(target, width=file.width, metadata=metadata, packing="exact") as writer:
                writer.append(np.arange(file.num_steps) / (fps or 1.0), rows)
    return ImportedFeatures(key=key, content=content, note=note)


def _open(path: Path) -> NDArray[np.generic]:
    try:
        # Mapped, so that looking at the shapes of a data set reads no more than the headers.
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise LabelError(
            f"{path} is no readable .npy array ({error}). Replace it by an intact file."
        ) from error
    return array


def _rows(file: FeatureFile) -> tuple[NDArray[np.float32], str]:
    """(T, D) float32 and what was lost on the way to it."""
    array = _open(file.path)
    oriented = array.T if file.orientation == "DT" else array
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(oriented, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise LabelError(
            f"{file.path}: step {bad[0]} holds a value that is NaN, infinite or beyond float32 ({len(bad)} such "
            "steps). Extract these features again."
        )
    exact = bool((rows == oriented).all())
    return rows, "" if exact else f"{file.path}: {array.dtype} values were rounded to float32"


def _equal_axis(shapes: Mapping[Path, tuple[int, int]]) -> Orientation | None:
    first, second = ({shape[axis] for shape in shapes.values()} for axis in (0, 1))
    if (len(first) == 1) == (len(second) == 1):
        return None
    return "DT" if len(first) == 1 else "TD"


def _by_labels(shape: tuple[int, int], num_labels: int | None) -> Orientation | None:
    if num_labels is None:
        return None
    fits = [abs(num_labels - steps) <= length_tolerance(steps) for steps in shape]
    if fits[0] == fits[1]:
        return None
    return "TD" if fits[0] else "DT"


def _undecidable(path: Path, shape: tuple[int, int], num_labels: int | None) -> str:
    labels = "it has no labels" if num_labels is None else f"its {num_labels} labels do not decide"
    return (
        f"{path}: of {shape[0]} x {shape[1]} values neither axis can be told to be time: no axis alone is equal in "
        f"all files, and {labels}. Say it with --orientation DT or TD."
    )


def _of_one_width(
    found: dict[Path, FeatureFile], refused: dict[Path, str]
) -> tuple[dict[Path, FeatureFile], dict[Path, str]]:
    """Files as wide as most; the others cannot be joined with them in one model input."""
    widths = Counter(file.width for file in found.values())
    if not widths:
        return found, refused
    usual = max(widths, key=lambda width: widths[width])
    for path, file in list(found.items()):
        if file.width != usual:
            del found[path]
            refused[path] = (
                f"{path}: its rows have {file.width} values, those of {widths[usual]} other files {usual}. "
                "Extract it as the others were, or leave it out."
            )
    return found, refused
