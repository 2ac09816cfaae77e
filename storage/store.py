"""The folder that holds everything, and where in it each kind of artefact lies."""

import json
import re
from functools import cached_property
from pathlib import Path

from storage.atomic import artefact_lock, write_json_atomically
from storage.errors import InvalidNameError, StoreError
from storage.keys import DigestMemo

STORE_VERSION = 1
"""Layout of the folder; a store of a later layout is refused, never guessed at."""

_PROFILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{8,64}")


class Store:
    """A local folder of artefacts, each addressed by the key of what made it.

    Args:
        root: The folder. It is made, with its version file, unless it exists.

    Raises:
        StoreError: ``root`` is a file, a non-empty folder that is no store, or a store of an unknown version.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        marker = root / "store.json"
        if not marker.exists():
            self._create(marker)
        self._check(marker)

    def timeline_path(self, key: str) -> Path:
        """Frame time stamps and probe facts of a video."""
        return self._path("timelines", key, ".parquet")

    def feature_path(self, profile: str, key: str) -> Path:
        """Features of one video under one profile."""
        if not _PROFILE.fullmatch(profile):
            raise InvalidNameError(
                f"{profile!r} cannot name a profile in the store. "
                "Use at most 64 lower-case letters, digits, dots, dashes and underscores."
            )
        return self._path(f"features/{profile}", key, ".parquet")

    def text_path(self, key: str) -> Path:
        """Embedding of one prompt by one text encoder."""
        return self._path("texts", key, ".parquet")

    def prediction_path(self, key: str) -> Path:
        """Predicted segments of one video by one model."""
        return self._path("predictions", key, ".parquet")

    def run_folder(self, key: str) -> Path:
        """Folder of one training run."""
        return self._path("runs", key, "")

    def evaluation_folder(self, key: str) -> Path:
        """Folder of one evaluation of one run: scores and report."""
        return self._path("evaluations", key, "")

    @property
    def runs(self) -> Path:
        """Parent of every run folder."""
        return self.root / "runs"

    @property
    def catalogue_path(self) -> Path:
        """The table of all videos."""
        return self.root / "catalogue.parquet"

    @property
    def tracking_database(self) -> Path:
        """SQLite file of the experiment tracker and model registry."""
        return self.root / "mlflow.db"

    @cached_property
    def digests(self) -> DigestMemo:
        """Remembered digests of the files outside the store."""
        return DigestMemo(self.root / "digests.sqlite")

    def _path(self, folder: str, key: str, suffix: str) -> Path:
        if not _KEY.fullmatch(key):
            raise InvalidNameError(f"{key!r} is not a key: keys are 8 to 64 hexadecimal digits.")
        return self.root / folder / f"{key}{suffix}"

    def _create(self, marker: Path) -> None:
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
            self.root.mkdir(parents=True, exist_ok=True)
            with artefact_lock(marker):
                if not marker.exists():
                    write_json_atomically(marker, {"layout": "factseg-store", "version": STORE_VERSION})
        except OSError as error:
            raise StoreError(
                f"Cannot make a store at {self.root}: {error.strerror}. Give --store a writable folder."
            ) from error

    def _check(self, marker: Path) -> None:
        try:
            facts = json.loads(marker.read_text(encoding="utf-8"))
            version = int(facts["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{marker} cannot be read ({error}). Restore it, or give --store another folder."
            ) from error
        if version != STORE_VERSION:
            raise StoreError(
                f"{self.root} is a store of version {version}; this program knows version {STORE_VERSION}. "
                "Use the program that wrote it, or give --store another folder."
            )
