"""Names made from everything that can change the bytes they name."""

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.errors import StorageError
from storage.places import Place
from storage.sealed_json import read_sealed_json, write_sealed_json

_CHUNK_BYTES = 1 << 20


def digest_of(identity: Mapping[str, Any]) -> str:
    """SHA-256 in hexadecimal of a JSON-able identity, whatever the order of its keys.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Place) -> str:
    """SHA-256 in hexadecimal of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class DigestMemo:
    """Digests of files, remembered by path, size, modification time and inode.

    A large file is read once; touching, replacing or growing it makes its digest anew. One small sealed JSON file
    per path: the memo may be deleted at any time, a damaged entry counts for nothing, and where the folder cannot
    be written nothing is remembered.

    Args:
        folder: Where the entries are kept.
        read_only: Never write an entry.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._folder = folder
        self._read_only = read_only

    def digest(self, path: Path) -> str:
        """SHA-256 of the file's content, read only when the file changed since it was last asked for."""
        path = path.resolve()
        stamp, entry = self._stamp(path)
        known = self._read(entry)
        if known.get("stamp") == stamp:
            return str(known["digest"])
        digest = file_digest(path)
        if not self._read_only:
            self._write(entry, {"stamp": stamp, "digest": digest})
        return digest

    def remembered(self, path: Path) -> str | None:
        """The digest where the file is as it was when its content was read last, else None; never reads content.

        Raises:
            OSError: There is no such file.
        """
        stamp, entry = self._stamp(path.resolve())
        known = self._read(entry)
        return str(known["digest"]) if known.get("stamp") == stamp else None

    def _stamp(self, path: Path) -> tuple[list[int], Path]:
        """What changes with the file, and where its digest is remembered; ``path`` is resolved."""
        stat = path.stat()
        # surrogateescape: names whose bytes are no UTF-8.
        name = hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).hexdigest()
        return [stat.st_size, stat.st_mtime_ns, stat.st_ino], self._folder / f"{name}.json"

    def _read(self, entry: Path) -> dict[str, Any]:
        try:
            return read_sealed_json(entry)
        except StorageError:
            return {}

    def _write(self, entry: Path, facts: Mapping[str, Any]) -> None:
        try:
            write_sealed_json(entry, facts)
        except OSError as error:
            # A store on a read-only disk is read all the same; every other error is the caller's.
            if error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
                raise
