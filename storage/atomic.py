"""Files appear whole or not at all: written beside their target, synced, then renamed."""

import contextlib
import glob
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock


def _read_umask() -> int:
    # There is no way to read the mask without setting it; once, at import, before any thread writes files.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _read_umask()

_PART = ".part"


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A scratch path beside ``target`` that becomes ``target`` only when the block succeeds.

    The scratch file is synced before it is renamed, and removed when the block raises, so a reader sees the
    old file or the new one and never a part.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_part_prefix(target), suffix=_PART, dir=target.parent)
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        _sync(scratch)
        # mkstemp makes the file private; what the store holds follows the user's umask like any other file.
        scratch.chmod(0o666 & ~_UMASK)
        scratch.replace(target)
        _sync(target.parent)
    finally:
        scratch.unlink(missing_ok=True)


def write_text_atomically(target: Path, text: str) -> None:
    """Write UTF-8 text so that a reader never sees a part of it."""
    with atomic_path(target) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json_atomically(target: Path, value: Any) -> None:  # noqa: ANN401  (any JSON value)
    """Write ``value`` as indented JSON; NaN and Infinity are refused because JSON has no words for them."""
    write_text_atomically(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def artefact_lock(target: Path, *, timeout_seconds: float | None = None) -> Iterator[None]:
    """Hold the lock of whoever makes ``target``, so that two processes do the work once.

    Look again inside whether ``target`` appeared meanwhile. Parts that a killed writer left behind are removed:
    while the lock is held nobody else writes ``target``.

    Raises:
        TimeoutError: Another process kept the lock for ``timeout_seconds``; without it, wait for ever.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(
        target.with_name(f".{target.name}.lock"), timeout=-1 if timeout_seconds is None else timeout_seconds
    )
    with lock:
        for leftover in target.parent.glob(f"{glob.escape(_part_prefix(target))}*{_PART}"):
            leftover.unlink(missing_ok=True)
        yield


def _part_prefix(target: Path) -> str:
    return f".{target.name}."


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
