"""Where artefacts lie: a local folder, or an object store named by a URL; and what differs between the two.

On a local folder a file appears by a rename and a lock is the system's. On an object store a file appears by one
put, which the server refuses where asked to create and something is there already, and a lock is a lease
(``storage.leases``). Readers need not care: both kinds of path open, list and join alike.
"""

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from storage.errors import StoreError

if TYPE_CHECKING:
    from upath import UPath

# Unions by name, so that fsspec is only imported for a URL, and `Place | None` can be written anywhere.
Place: TypeAlias = Union[Path, "UPath"]
"""A file or folder, here or in an object store."""

Address: TypeAlias = Union[str, Path, "UPath"]
"""A place as people and settings name it: a path, or a URL such as ``s3://bucket/folder``."""

CACHE_VARIABLE = "FACTSEG_CACHE"
"""Environment variable that names the folder for what can be fetched or computed again."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

_SCHEMES = {
    "s3": "pip install 'factseg[s3]'",
    "gs": "pip install gcsfs",
    "az": "pip install adlfs",
    "memory": "",
}
"""Object stores whose servers refuse a second creation of a name, and how to get what speaks to each."""


def is_url(text: str) -> bool:
    """Whether an address is a URL; a drive such as ``C:`` is not."""
    return _URL.match(text) is not None


def place_of(address: Address) -> Place:
    """The place that an address names.

    Raises:
        StoreError: The URL is of a kind no store can lie at, names no bucket, or needs a package that is not here.
    """
    if not isinstance(address, str):
        return address
    if not is_url(address):
        return Path(address)
    scheme, _, rest = address.partition("://")
    if scheme == "file":
        return Path(rest)
    if scheme not in _SCHEMES:
        raise StoreError(
            f"{address}: a store cannot lie at {scheme}://. Give a local folder, or a URL that starts with one of "
            f"{', '.join(f'{known}://' for known in _SCHEMES)}."
        )
    if not rest.strip("/") or ".." in rest.split("/"):
        raise StoreError(f"{address}: name a bucket and a folder in it, such as {scheme}://bucket/factseg.")
    return open_url(address.rstrip("/"), remedy=_SCHEMES[scheme])


def open_url(url: str, *, remedy: str) -> "UPath":
    """The path behind a URL; listings are never cached, because others write too.

    Args:
        url: Any URL that fsspec knows.
        remedy: The command that installs what speaks to it.

    Raises:
        StoreError: A package is missing, or no package knows such a URL.
    """
    from upath import UPath

    try:
        place = UPath(url, use_listings_cache=False)
        _ = place.fs
    except ImportError as error:
        raise StoreError(f"{url}: {error}. Run `{remedy}`.") from error
    except ValueError as error:
        raise StoreError(f"{url}: {error}. Check how the URL starts.") from error
    return place


def put_file(source: Path, target: "UPath", *, once: bool) -> bool:
    """Store a local file as one object; large ones go in parts that nobody sees before the last.

    Args:
        source: The file.
        target: Where it goes.
        once: Let the server refuse where something is stored there already.

    Returns:
        False where ``once`` was refused: what is stored there stays.
    """
    try:
        target.fs.put_file(str(source), target.path, mode="create" if once else "overwrite")
    except FileExistsError:
        if not once:
            raise
        return False
    return True


def put_bytes(target: "UPath", content: bytes, *, once: bool) -> bool:
    """``put_file`` for a few bytes."""
    try:
        target.fs.pipe_file(target.path, content, mode="create" if once else "overwrite")
    except FileExistsError:
        if not once:
            raise
        return False
    return True


def remove_tree(place: Place) -> None:
    """Remove a folder and all that is in it; nothing happens where there is none."""
    if isinstance(place, Path):
        if place.exists():
            shutil.rmtree(place)
    elif place.exists():
        place.fs.rm(place.path, recursive=True)


@contextlib.contextmanager
def local_copy(place: Place) -> Iterator[Path]:
    """The file itself where it is local, else a copy of it that lives as long as the block.

    For readers that take nothing but a local path.
    """
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="factseg-") as folder:
        copy = Path(folder) / place.name
        place.fs.get_file(place.path, str(copy))
        yield copy


def listed(folder: Place, pattern: str) -> list[Place]:
    """What matches under a folder, by name, without hidden files; nothing where there is no such folder."""
    found: list[Place] = [place for place in folder.glob(pattern) if not place.name.startswith(".")]
    return sorted(found, key=str)


def modified(place: Place) -> float:
    """When a file or local folder was last changed, in seconds of the epoch."""
    if isinstance(place, Path):
        return place.stat().st_mtime
    return float(place.fs.modified(place.path).timestamp())


def name_within(folder: Place, place: Place) -> str:
    """Path of a place relative to a folder above it, with strokes between its parts."""
    return "/".join(place.parts[len(folder.parts) :])


def absolute(place: Place) -> str:
    """The full address of a place, as text."""
    return str(place.absolute())


def cache_folder() -> Path:
    """Folder for what can be had again: ``FACTSEG_CACHE``, else ``factseg`` in the platform's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "factseg"
