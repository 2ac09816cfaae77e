"""Files appear whole or not at all: written beside their target, synced, then renamed; or put by one request."""

import contextlib
import errno
import glob
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from storage.errors import DiskFullError
from storage.leases import Lease
from storage.places import Place, put_file

if TYPE_CHECKING:
    from upath import UPath

log = logging.getLogger(__name__)


def _read_umask() -> int:
    # There is no way to read the mask without setting it; once, at import, before any thread writes files.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_UMASK = _read_umask()

_PART = ".part"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a full disk, a full quota and a limit on the size of files."""


_POLL_SECONDS = 1.0
"""How often a lease that somebody else holds is asked for."""

_held: list[Lease] = []
"""Leases this process holds."""


@contextlib.contextmanager
def atomic_path(target: Place, *, once: bool = False) -> Iterator[Path]:
    """A local scratch path that becomes ``target`` only when the block succeeds.

    A reader sees the old file or the new one and never a part. Beside a local target the scratch file is synced
    before it is renamed, and removed when the block raises; to an object store it goes by one put.

    Args:
        target: Where the file goes.
        once: The name says all that can change the content. An object store then keeps what is there already, so
            that two writers never store two results; between processes of one machine the lock sees to that.

    Raises:
        LeaseLostError: Another process took over this work; nothing was written.
        DiskFullError: There is no room; what was there stays.
    """
    if isinstance(target, Path):
        try:
            with _beside(target) as scratch:
                yield scratch
        except Exception as error:
            number = _errno(error)
            if number not in _NO_ROOM:
                raise
            raise DiskFullError.writing(target, os.strerror(number)) from error
        return
    with tempfile.TemporaryDirectory(prefix="factseg-") as folder:
        scratch = Path(folder) / target.name
        yield scratch
        _check_leases(target)
        if not put_file(scratch, target, once=once):
            log.info("%s: another process stored it first; that one stays.", target)


def _errno(error: Exception) -> int:
    """The system's number of an error; 0 where it is none of the system's."""
    if isinstance(error, OSError):
        return error.errno or 0
    # Libraries in Rust, such as safetensors, have an error of their own that says it in words alone.
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else 0


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
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


def reserve(scratch: Path, num_bytes: int) -> None:
    """Take the room of a file that is written later, and then in place."""
    scratch.write_bytes(bytes(num_bytes))
    _sync(scratch)


def write_text_atomically(target: Place, text: str, *, once: bool = False) -> None:
    """Write UTF-8 text so that a reader never sees a part of it; ``once`` as for ``atomic_path``."""
    with atomic_path(target, once=once) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json_atomically(
    target: Place,
    value: Any,  # noqa: ANN401  (any JSON value)
    *,
    once: bool = False,
) -> None:
    """Write ``value`` as indented JSON; NaN and Infinity are refused because JSON has no words for them."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text_atomically(target, text, once=once)


@contextlib.contextmanager
def artefact_lock(target: Place, *, timeout_seconds: float | None = None) -> Iterator[None]:
    """Hold the lock of whoever makes ``target``, so that two processes do the work once.

    Look again inside whether ``target`` appeared meanwhile. Parts that a killed writer left behind are removed:
    while the lock is held nobody else writes ``target``. On an object store the lock is a lease, which a process
    that stands still for long may lose; its writes are then refused.

    Raises:
        TimeoutError: Another process kept the lock for ``timeout_seconds``; without it, wait for ever.
    """
    if not isinstance(target, Path):
        with _leased(target, timeout_seconds=timeout_seconds):
            yield
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(
        target.with_name(f".{target.name}.lock"), timeout=-1 if timeout_seconds is None else timeout_seconds
    )
    with lock:
        for leftover in target.parent.glob(f"{glob.escape(_part_prefix(target))}*{_PART}"):
            leftover.unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def _leased(target: "UPath", *, timeout_seconds: float | None) -> Iterator[None]:
    lease = Lease(target)
    started = time.monotonic()
    while not lease.take():
        if timeout_seconds is not None and time.monotonic() - started >= timeout_seconds:
            raise TimeoutError(f"{target}: another process has been making it for {timeout_seconds} seconds.")
        time.sleep(_POLL_SECONDS)
    with lease.renewed():
        _held.append(lease)
        try:
            yield
        finally:
            _held.remove(lease)


def _check_leases(target: "UPath") -> None:
    """Refuse to write what this process took a lease for and then lost."""
    for lease in _held:
        if lease.target == target or lease.target in target.parents:
            lease.check()


def _part_prefix(target: Path) -> str:
    return f".{target.name}."


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
