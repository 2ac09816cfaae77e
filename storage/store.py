"""The folder, or the part of an object store, that holds everything; and where in it each kind of artefact lies."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

from storage.atomic import artefact_lock
from storage.errors import InvalidNameError, MissingArtefactError, StorageError, StoreError
from storage.keys import DigestMemo, digest_of
from storage.places import Address, Place, cache_folder, place_of
from storage.sealed_json import read_sealed_json, write_sealed_json

STORE_VERSION = 2
"""Layout of the folder; 2: every file carries its checksum. A later layout is refused, never guessed at."""

MARKER = "store.json"
"""File that makes a folder a store and says its version."""

DATABASE = "mlflow.db"
"""SQLite file of the experiment tracker and model registry."""

_PROFILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{8,64}")


class Store:
    """Artefacts, each addressed by the key of what made it.

    Args:
        root: A local folder, or a URL such as ``s3://bucket/factseg``. It is made, with its version file, unless it
            exists.
        read_only: Write nothing, not even the folder; a store of an earlier version is read as it is.
        must_exist: Make no store: for work that lives on what others stored, and may then add to it.

    Raises:
        StoreError: ``root`` is a file, a non-empty folder that is no store, a store of an unknown version, or a URL
            that cannot be reached.
        MissingArtefactError: ``read_only`` or ``must_exist``, and there is no store.
    """

    def __init__(self, root: Address, *, read_only: bool = False, must_exist: bool = False) -> None:
        self.root = place_of(root)
        self.read_only = read_only
        marker = self.root / MARKER
        try:
            if not marker.exists():
                self._create(marker, forbidden=read_only or must_exist)
            self._check(marker)
        except StorageError:
            raise
        except Exception as error:
            if isinstance(self.root, Path):
                raise
            # Every kind of object store has errors of its own, which have nothing in common.
            raise StoreError(
                f"{self.root} cannot be reached ({type(error).__name__}: {error}). Check the address, whether the "
                "bucket exists, and the credentials in the environment."
            ) from error

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.root, Path)

    def timeline_path(self, key: str) -> Place:
        """Frame time stamps and probe facts of a video."""
        return self._path("timelines", key, ".parquet")

    def feature_path(self, profile: str, key: str) -> Place:
        """Features of one video under one profile."""
        if not _PROFILE.fullmatch(profile):
            raise InvalidNameError(
                f"{profile!r} cannot name a profile in the store. "
                "Use at most 64 lower-case letters, digits, dots, dashes and underscores."
            )
        return self._path(f"features/{profile}", key, ".parquet")

    def text_path(self, key: str) -> Place:
        """Embedding of one prompt by one text encoder."""
        return self._path("texts", key, ".parquet")

    def label_path(self, key: str) -> Place:
        """Segments of one video as people labelled it."""
        return self._path("labels", key, ".parquet")

    def dataset_path(self, name: str) -> Place:
        """What belongs to an imported data set; ``storage.datasets`` checks the name."""
        return self.root / "datasets" / f"{name}.json"

    def prediction_path(self, key: str) -> Place:
        """Predicted segments of one video by one model."""
        return self._path("predictions", key, ".parquet")

    def run_folder(self, key: str) -> Place:
        """Folder of one training run."""
        return self._path("runs", key, "")

    def checkpoint_path(self, key: str) -> Place:
        """Where a training run that is not finished can go on from."""
        return self._path("checkpoints", key, ".safetensors")

    def evaluation_folder(self, key: str) -> Place:
        """Folder of one evaluation of one run: scores and report."""
        return self._path("evaluations", key, "")

    @property
    def runs(self) -> Place:
        """Parent of every run folder."""
        return self.root / "runs"

    @property
    def tables(self) -> Place:
        """Parent of the tables that say what became of the videos of a stage."""
        return self.root / "tables"

    @property
    def catalogue_path(self) -> Place:
        """The table of all videos."""
        return self.root / "catalogue.parquet"

    @property
    def status_path(self) -> Place:
        """The table that says what there is of every video."""
        return self.root / "status.parquet"

    @property
    def tracking_database(self) -> Place:
        """SQLite file of the experiment tracker and model registry; of a store by URL only its lock has this name."""
        return self.root / DATABASE

    @cached_property
    def digests(self) -> DigestMemo:
        """Remembered digests of the files outside the store."""
        if isinstance(self.root, Path):
            return DigestMemo(self.root / "digests", read_only=self.read_only)
        # Paths, times and inodes are those of one machine: they are remembered there.
        return DigestMemo(cache_folder() / "stores" / digest_of({"store": str(self.root)})[:16])

    def _path(self, folder: str, key: str, suffix: str) -> Place:
        if not _KEY.fullmatch(key):
            raise InvalidNameError(f"{key!r} is not a key: keys are 8 to 64 hexadecimal digits.")
        return self.root / folder / f"{key}{suffix}"

    def _create(self, marker: Place, *, forbidden: bool) -> None:
        if forbidden:
            raise MissingArtefactError(
                f"There is no store at {self.root}. Name another with --store, or make one with "
                "`factseg extract` or `factseg import`."
            )
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root} is a file. Give --store a folder.")
        foreign = (
            [path.name for path in self.root.iterdir() if not path.name.startswith(".")]
            if self.root.exists()
            else []
        )
        if foreign and not marker.exists():
            raise StoreError(
                f"{self.root} holds other files ({min(foreign)!r}, ...) and is not a store. "
                "Give --store a new or empty folder."
            )
        try:
            with artefact_lock(marker):
                if not marker.exists():
                    write_sealed_json(marker, marker_facts(), once=True)
        except OSError as error:
            if not isinstance(self.root, Path):
                raise
            raise StoreError(
                f"Cannot make a store at {self.root}: {error.strerror}. Give --store a writable folder."
            ) from error

    def _check(self, marker: Place) -> None:
        version = store_version(marker)
        if version < STORE_VERSION and not self.read_only:
            raise StoreError(
                f"{self.root} is a store of version {version}; this program writes version {STORE_VERSION}. "
                "Run `factseg migrate --dry-run`, then `factseg migrate`, with the same --store."
            )


def marker_facts(version: int = STORE_VERSION) -> dict[str, Any]:
    """What the marker of a store says."""
    return {"layout": "factseg-store", "version": version}


def store_version(marker: Place) -> int:
    """Version of the store that ``marker`` belongs to.

    Raises:
        StoreError: The marker cannot be read, or the version is not known here.
    """
    try:
        version = int(read_sealed_json(marker)["version"])
    except (OSError, ValueError, KeyError, TypeError, StorageError) as error:
        raise StoreError(
            f"{marker} cannot be read ({error}). Restore it, or give --store another folder."
        ) from error
    if not 1 <= version <= STORE_VERSION:
        raise StoreError(
            f"{marker.parent} is a store of version {version}; this program knows versions 1 to {STORE_VERSION}. "
            "Use the program that wrote it, or give --store another folder."
        )
    return version
