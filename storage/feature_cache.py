"""Features as a mapped file beside the Parquet, for those who read them epoch after epoch.

A cache file is derived from one content of one feature file, whose checksum is in its name: a changed feature file
has another cache, whatever its time stamps say. It may be deleted at any time. Layout: magic, SHA-256 of all that
follows, length of the header, header in JSON and blanks to a multiple of 64 bytes, time float64, feature float32; all
little-endian.
"""

import errno
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from storage.atomic import atomic_path
from storage.feature_file import FeatureMetadata, Features
from storage.features import read_features
from storage.places import Place
from storage.seal import parquet_digest

CACHE_FOLDER = ".cache"
"""Folder of the cache files, in that of the feature files."""

_MAGIC = b"FSEGMAP1"
_DIGEST_START, _LENGTH_START, _HEADER_START = 8, 40, 48
_ALIGNMENT = 64
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


def read_mapped_features(path: Place, *, read_only: bool = False) -> Features:
    """All features of a video from its cache, which is made first where it is missing.

    ``feature`` is a private mapping of the cache file: pages are read when they are touched, and writing to the
    array changes no file. Where no cache can be written, and from an object store, the features come from the
    Parquet file.

    Args:
        path: The feature file.
        read_only: Make no cache.

    Raises:
        MissingArtefactError: There is no such feature file.
        CorruptArtefactError: The feature file is damaged.
    """
    digest = parquet_digest(path) if isinstance(path, Path) and path.is_file() else None
    if not isinstance(path, Path) or digest is None:
        # In an object store, missing, or of a version-1 store, which is read as it is.
        return read_features(path)
    cache = cache_path(path, digest)
    mapped = _map(cache)
    if mapped is not None:
        return mapped
    features = read_features(path)
    if not read_only:
        _remember(path, cache, features)
    return features


def cache_path(path: Path, digest: str) -> Path:
    """Where the cache of a feature file with this content lies."""
    return path.parent / CACHE_FOLDER / f"{path.stem}-{digest[:32]}.f32"


def is_cache_whole(cache: Path) -> bool:
    """Whether every byte of a cache file is the one that was written."""
    content = cache.read_bytes()
    return (
        content[:_DIGEST_START] == _MAGIC
        and _digest(content[_LENGTH_START:]) == content[_DIGEST_START:_LENGTH_START]
    )


def _map(cache: Path) -> Features | None:
    """The features in a cache file; None where there is none or its header is no header."""
    try:
        with cache.open("rb") as file:
            start = file.read(_HEADER_START)
            header = file.read(int.from_bytes(start[_LENGTH_START:], "little"))
            described = json.loads(header)
            steps, width = described["steps"], described["width"]
            metadata = FeatureMetadata(**described["metadata"])
            data = _aligned(_HEADER_START + len(header))
            file.seek(data)
            time = np.fromfile(file, np.dtype("<f8"), steps)
        feature = np.memmap(cache, np.dtype("<f4"), "c", data + time.nbytes, (steps, width))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # A damaged cache is worth no more than none: the Parquet file holds the truth.
        return None
    return Features(time=time, feature=feature.view(np.ndarray), metadata=metadata)


def _remember(path: Path, cache: Path, features: Features) -> None:
    try:
        with atomic_path(cache) as scratch:
            scratch.write_bytes(_content(features))
        for stale in cache.parent.glob(f"{path.stem}-*.f32"):
            if stale != cache:
                stale.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise


def _content(features: Features) -> bytes:
    steps, width = features.feature.shape
    described = {"steps": steps, "width": width, "metadata": asdict(features.metadata)}
    header = json.dumps(described).encode()
    # Blanks, so that the numbers start at a multiple of 64 bytes.
    header = header.ljust(_aligned(_HEADER_START + len(header)) - _HEADER_START)
    rest = len(header).to_bytes(8, "little") + header + features.time.astype("<f8").tobytes()
    rest += features.feature.astype("<f4", copy=False).tobytes()
    return _MAGIC + _digest(rest) + rest


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _aligned(place: int) -> int:
    return -(-place // _ALIGNMENT) * _ALIGNMENT
