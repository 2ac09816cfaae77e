"""Names made from everything that can change the bytes they name."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def digest_of(identity: Mapping[str, Any]) -> str:
    """SHA-256 in hexadecimal of a JSON-able identity, whatever the order of its keys.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 in hexadecimal of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class DigestMemo:
    """Digests of files, remembered by path, size, modification time and inode.

    A large file is read once; touching, replacing or growing it makes its digest anew.
    """

    def __init__(self, database: Path) -> None:
        database.parent.mkdir(parents=True, exist_ok=True)
        self._database = database
        with closing(self._connect()) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS digests ("
                "path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, digest TEXT NOT NULL)"
            )

    def digest(self, path: Path) -> str:
        """SHA-256 of the file's content, read only when the file changed since it was last asked for."""
        path = path.resolve()
        stat = path.stat()
        stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        # surrogateescape names (bytes that are no UTF-8) cannot be bound as text.
        name = path.as_posix().encode("utf-8", "surrogateescape")
        with closing(self._connect()) as connection:
            row = connection.execute(
                "SELECT digest FROM digests WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?",
                (name, *stamp),
            ).fetchone()
        if row is not None:
            return str(row[0])
        digest = file_digest(path)
        with closing(self._connect()) as connection, connection:
            connection.execute(
                "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?)", (name, *stamp, digest)
            )
        return digest

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._database, timeout=60)
