"""Optical flow that was computed before: fields on disk, named by the pictures they are between."""

import hashlib
import logging
import threading
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.flow_stream import FlowMethod
from storage.atomic import atomic_path

log = logging.getLogger(__name__)

FLOW_CACHE_VERSION = 1
"""Version of how fields are computed and stored; another finds nothing of this one."""

_KEEP = 0.9  # of the limit, when the oldest files are deleted


class FlowCache:
    """Fields in a folder of bounded size; what was not asked for the longest is deleted first.

    Args:
        folder: Made unless it exists; several processes may share it.
        max_bytes: Size beyond which files are deleted.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._bytes = sum(size for _, size, _ in self._files())

    def around(self, method: FlowMethod, *, name: str) -> FlowMethod:
        """The method, asked only for what is not here; exactly its fields either way.

        Args:
            method: Computes fields.
            name: Everything but the pictures that can change them.
        """

        def fields(frames: NDArray[np.uint8]) -> Tensor:
            path = self._folder / f"{_key(frames, name)}.npy"
            found = _read(path, count=len(frames) - 1)
            if found is None:
                made = method(frames)
                self._write(path, made.cpu().numpy())
                return made
            return torch.from_numpy(found)

        return fields

    def _write(self, path: Path, fields: NDArray[np.float32]) -> None:
        with atomic_path(path) as scratch, scratch.open("wb") as file:
            np.save(file, fields, allow_pickle=False)
        with self._lock:
            self._bytes += path.stat().st_size
            if self._bytes > self._max_bytes:
                self._shrink()

    def _shrink(self) -> None:
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= _KEEP * self._max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        self._bytes = total

    def _files(self) -> list[tuple[int, int, Path]]:
        """Time of the last use, size and path of every file; another process may delete some meanwhile."""
        found = []
        for path in self._folder.glob("*.npy"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            found.append((stat.st_mtime_ns, stat.st_size, path))
        return found


def _key(frames: NDArray[np.uint8], name: str) -> str:
    digest = hashlib.blake2b(digest_size=32)
    digest.update(f"{FLOW_CACHE_VERSION} {name} {frames.shape}".encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()


def _read(path: Path, *, count: int) -> NDArray[np.float32] | None:
    """Fields of a file, now the last used; None where it is not there or damaged."""
    try:
        fields = np.load(path, allow_pickle=False)
        path.touch()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        log.warning("%s: cached optical flow does not open (%s); it is computed anew.", path, error)
        return None
    if fields.shape[0] != count or fields.dtype != np.float32:
        log.warning("%s: cached optical flow is of shape %s; it is computed anew.", path, fields.shape)
        return None
    checked: NDArray[np.float32] = fields
    return checked
