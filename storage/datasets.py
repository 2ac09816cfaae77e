"""Imported data sets at rest: which features, labels, classes and splits belong together under one name."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from storage.atomic import artefact_lock
from storage.errors import CorruptArtefactError, InvalidNameError, MissingArtefactError
from storage.places import listed
from storage.sealed_json import read_sealed_json, write_sealed_json
from storage.store import Store

DATASET_LAYOUT = "dataset/1"
"""Version of the JSON below; a reader refuses any other."""

_NAME = re.compile(r"\w(?:[\w .-]{0,98}\w)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRecording:
    """One video of an imported data set."""

    labels: str
    """Key of its segments in the store; empty where it has none."""
    features: str = ""
    """Key of its features in the store; empty where a video gives them."""
    content: str = ""
    """SHA-256 of the file of features."""
    num_frames: int = 0
    """Rows of features; 0 where a video says."""
    note: str = ""
    """What was cut or rounded, or an empty string."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSplit:
    """Which videos train and which test."""

    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredDataset:
    """An imported data set."""

    name: str
    classes: tuple[str, ...]
    """Class names; a class id is a position."""
    recordings: Mapping[str, StoredRecording]
    """By video id."""
    splits: Mapping[str, StoredSplit]
    """By name; empty where the source has none."""
    width: int = 0
    """Values of a row of features; 0 where there are labels only."""
    fps: float | None = None
    """Frames per second, where the user said so; without it, times count frames."""
    source: Mapping[str, Any]
    """Where it comes from and by which rules it was read."""


def write_dataset(store: Store, dataset: StoredDataset) -> None:
    """Store the data set under its name, in place of an earlier import of that name."""
    target = store.dataset_path(_checked(dataset.name))
    with artefact_lock(target):
        write_sealed_json(target, {"layout": DATASET_LAYOUT, **asdict(dataset)})


def read_dataset(store: Store, name: str) -> StoredDataset:
    """The data set imported under ``name``.

    Raises:
        MissingArtefactError: There is none; the message names those there are.
        CorruptArtefactError: The file is malformed or of another layout.
        InvalidNameError: No data set can have such a name.
    """
    path = store.dataset_path(_checked(name))
    try:
        values = read_sealed_json(path)
        if values.pop("layout") != DATASET_LAYOUT:
            raise CorruptArtefactError(
                f"{path} is not of layout {DATASET_LAYOUT!r}. Use the program that wrote it, or import again."
            )
        return _from_json(values)
    except MissingArtefactError:
        known = ", ".join(dataset_names(store)) or "none"
        raise MissingArtefactError(
            f"No data set {name!r} was imported into {store.root} (there are: {known}). "
            "Run `factseg import` first."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtefactError(f"{path} is malformed ({error}). Import the data set again.") from error


def dataset_names(store: Store) -> list[str]:
    """Names of the imported data sets."""
    return [path.stem for path in listed(store.dataset_path("any").parent, "*.json")]


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidNameError(
            f"{name!r} cannot name a data set. Use up to 100 letters, digits, '-', '_', '.' and blanks, "
            "with a letter or digit at both ends."
        )
    return name


def _from_json(values: dict[str, Any]) -> StoredDataset:
    return StoredDataset(
        **{
            **values,
            "classes": tuple(values["classes"]),
            "recordings": {key: StoredRecording(**row) for key, row in values["recordings"].items()},
            "splits": {
                key: StoredSplit(train=tuple(split["train"]), test=tuple(split["test"]))
                for key, split in values["splits"].items()
            },
        }
    )
