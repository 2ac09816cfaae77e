"""What was read of a file, kept for as long as the file stays as it is."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from storage.places import Place

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """The value that a function reads from a local file or folder; of an object store it is read every time.

    Args:
        path: The file or folder, which need not exist.
        read: Reads the value.
    """

    def __init__(self, path: Place, read: Callable[[], Value]) -> None:
        self._path = path
        self._read = read
        self._lock = threading.Lock()
        self._known: tuple[object, Value] | None = None

    def get(self) -> Value:
        """The value of today."""
        with self._lock:
            # Stamped before it is read: a change in between is seen the next time.
            stamp = stamp_of(self._path)
            if self._known is None or stamp is None or self._known[0] != stamp:
                self._known = stamp, self._read()
            return self._known[1]


def stamp_of(path: Place) -> object:
    """Something that is equal for as long as a local file or folder stays as it is; None in an object store."""
    if not isinstance(path, Path):
        return None
    try:
        stat = path.stat()
    except FileNotFoundError:
        return "missing"
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
