"""Videos named by URLs: fetched into a local cache that never holds more bytes than it may.

A decoder jumps about in a file, so a video is fetched whole before it is opened. Each version of a remote file has a
folder of its own in the cache; the files that were not used for longest make room for new ones, and one that is in
use stays.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from pipeline.errors import VideoError
from pipeline.sniff import has_video_suffix
from storage.atomic import artefact_lock, atomic_path, write_json_atomically
from storage.errors import StoreError
from storage.keys import digest_of
from storage.places import cache_folder, is_url, open_url

if TYPE_CHECKING:
    from upath import UPath

VideoAddress: TypeAlias = Path | str
"""A local video, or the URL of one."""

DEFAULT_CACHE_GIB = 20.0
"""Room for some hundred videos."""

SCHEMES = {
    "s3": "pip install 'factseg[s3]'",
    "gs": "pip install gcsfs",
    "az": "pip install adlfs",
    "http": "pip install aiohttp",
    "https": "pip install aiohttp",
    "memory": "",
}
"""Where videos can be fetched from, and how to get what speaks to each."""

_SOURCE = "source.json"
_CHUNK_BYTES = 4 << 20

_VERSION_FACTS = ("size", "ETag", "etag", "LastModified", "mtime", "created")
"""What servers say that changes with the content of a file."""


def check_address(text: str) -> str:
    """The URL itself.

    Raises:
        VideoError: Videos cannot be fetched from there.
    """
    scheme = text.partition("://")[0]
    if scheme not in SCHEMES or "::" in text:
        raise VideoError(
            f"{without_query(text)}: videos are not fetched from {scheme}://. Give a file, a folder, or a URL that "
            f"starts with one of {', '.join(f'{known}://' for known in SCHEMES)}."
        )
    return text


def without_query(url: str) -> str:
    """A URL as it is shown and stored: signatures in its query are secrets."""
    return url.partition("?")[0]


def path_in(address: VideoAddress) -> Path:
    """The path in an address: all that comes after the kind of a URL, but no query."""
    if isinstance(address, Path):
        return address
    parts = urlsplit(address)
    return Path(parts.netloc + unquote(parts.path))


def name_of(address: VideoAddress) -> str:
    """File name of a video."""
    return path_in(address).name


def list_remote(url: str) -> list[str]:
    """URLs of the videos directly in the folder at ``url``, which ends with a stroke; else ``url`` itself.

    Raises:
        VideoError: The folder cannot be listed, or holds no video.
    """
    if not url.endswith("/"):
        return [url]
    with _told(url):
        place = _open(url.rstrip("/"))
        names = sorted(entry.name for entry in place.iterdir() if has_video_suffix(Path(entry.name)))
    if not names:
        raise VideoError(f"{url}: holds no video. Give a folder of videos, or the URL of one.")
    return [url + name for name in names]


def origin(path: Path) -> str:
    """Where a video is from: the URL it was fetched from, else the full path."""
    noted = _noted(path) if path.parent.parent == _videos_folder() else {}
    return noted.get("url") or str(path.absolute())


def fetched_content(url: str) -> tuple[Path, str]:
    """Where the remote video of today lies, or lay, in the cache, and the SHA-256 of its content.

    The content is known once the video was opened here, also where the file made room since; else it is empty.

    Raises:
        VideoError: The server cannot be asked.
    """
    with _told(url):
        target = _target(url, _open(url))
    return target, str(_noted(target).get("content", ""))


def note_content(path: Path, digest: str) -> None:
    """Remember the content of a fetched video for ``fetched_content``; nothing happens for any other file."""
    if path.parent.parent != _videos_folder():
        return
    noted = _noted(path)
    if noted.get("content") != digest:
        write_json_atomically(path.parent / _SOURCE, {**noted, "content": digest})


@contextlib.contextmanager
def local_video(address: VideoAddress, *, cache_gib: float) -> Iterator[Path]:
    """The video as a local file, for as long as the block runs; a URL is fetched unless the cache has it.

    Args:
        address: A path, which is given back as it is, or a URL.
        cache_gib: GiB that all fetched videos together may take.

    Raises:
        VideoError: The URL cannot be read, or the video does not fit into the cache.
    """
    if isinstance(address, Path):
        yield address
        return
    with _told(address):
        place = _open(address)
        target = _target(address, place)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Held while the video is in use, so that it does not make room for others.
    with FileLock(target.parent / ".in-use.lock"):
        if not target.is_file():
            _fetch(address, place, target, max_bytes=int(cache_gib * 2**30))
        stat = target.stat()
        # The time of use is kept as the time of access: that of the last change stays, by which digests are known.
        os.utime(target, ns=(time.time_ns(), stat.st_mtime_ns))
        yield target


def _videos_folder() -> Path:
    return cache_folder().absolute() / "videos"


def _open(url: str) -> "UPath":
    return open_url(check_address(url), remedy=SCHEMES[url.partition("://")[0]])


def _target(url: str, place: "UPath") -> Path:
    """Where this version of a remote video lies in the cache once it is fetched."""
    return _videos_folder() / _version(url, place) / name_of(url)


def _noted(path: Path) -> dict[str, str]:
    """What is remembered of a fetched video."""
    source = path.parent / _SOURCE
    noted: dict[str, str] = json.loads(source.read_text(encoding="utf-8")) if source.is_file() else {}
    return noted


def _version(url: str, place: "UPath") -> str:
    """Name of this version of the remote file."""
    facts = place.fs.info(place.path)
    known = {name: str(facts[name]) for name in _VERSION_FACTS if name in facts}
    return digest_of({"url": without_query(url), "version": known})[:32]


def _fetch(url: str, place: "UPath", target: Path, *, max_bytes: int) -> None:
    size = int(place.fs.info(place.path).get("size") or 0)
    with artefact_lock(_videos_folder() / "room"):
        _make_room(size, max_bytes=max_bytes, url=url)
        write_json_atomically(target.parent / _SOURCE, {**_noted(target), "url": without_query(url)})
        with (
            _told(url),
            atomic_path(target) as scratch,
            place.open("rb") as remote,
            scratch.open("wb") as local,
        ):
            done = 0
            while chunk := remote.read(_CHUNK_BYTES):
                done += len(chunk)
                if done > size:
                    # The server said less, or nothing, of the size: room is made as the bytes come.
                    _make_room(done, max_bytes=max_bytes, url=url)
                local.write(chunk)


def _make_room(size: int, *, max_bytes: int, url: str) -> None:
    """Remove the videos that were not used for longest until ``size`` bytes fit in."""
    held = {path: path.stat() for path in _videos_folder().glob("*/[!.]*") if path.name != _SOURCE}
    total = sum(stat.st_size for stat in held.values())
    for path in sorted(held, key=lambda path: held[path].st_atime_ns):
        if total + size <= max_bytes:
            return
        with contextlib.suppress(Timeout), FileLock(path.parent / ".in-use.lock", timeout=0):
            path.unlink(missing_ok=True)
            total -= held[path].st_size
    if total + size > max_bytes:
        raise VideoError(
            f"{without_query(url)}: takes {size / 2**30:.3f} GiB, and the cache of videos may hold "
            f"{max_bytes / 2**30:.3f} GiB, {total / 2**30:.3f} of them in use. Give more with --video-cache-gib."
        )


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn what goes wrong at a server, which every kind of server tells in its own way, into one error."""
    try:
        yield
    except VideoError:
        raise
    except StoreError as error:
        raise VideoError(str(error)) from error
    except Exception as error:
        # A web server that cannot be reached is told as a missing file, caused by what happened.
        if isinstance(error, FileNotFoundError) and not isinstance(error.__cause__, OSError):
            raise VideoError(f"{without_query(url)}: there is no such file. Check the address.") from error
        raise VideoError(
            f"{without_query(url)}: cannot be fetched ({type(error).__name__}). Check the address, and the credentials "
            "in the environment."
        ) from error


def as_address(text: str) -> VideoAddress:
    """What a user typed as a path or a URL.

    Raises:
        VideoError: Videos cannot be fetched from such a URL.
    """
    if not is_url(text):
        return Path(text)
    scheme, _, rest = text.partition("://")
    return Path(rest) if scheme == "file" else check_address(text)
