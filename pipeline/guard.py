"""Decoding in a process of its own: one that hangs, dies or runs away is stopped, and the next video goes on.

``probe_guarded`` and ``read_guarded`` answer as ``probe_video`` and ``read_frames`` do. Processes are started
when first needed and reused for many videos; pictures come through shared memory without a copy.
"""

import atexit
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.decode_rules import DecodeRules
from pipeline.errors import DecoderError
from pipeline.guard_process import DecodeProcess
from pipeline.probe import VideoFacts, probe_video
from pipeline.video import check_indices, read_frames
from pipeline.watchdog import Watchdog

log = logging.getLogger(__name__)

_SLOTS = 4
"""One is held by the reader of the pictures, the others are filled ahead of it."""

_SLOT_BYTES = 32 << 20
_MIB = 1 << 20
_PROBE_MEMORY_BYTES = 4096 * _MIB
_READ_MEMORY_BYTES = 1024 * _MIB
_READ_MEMORY_FRAMES = 64  # references, frames in flight in the decoder's threads, and their RGB
_SLOWEST_BYTES_PER_SECOND = _MIB
_SLOWEST_FRAMES_PER_SECOND = 1
_RECYCLE_BYTES = 512 * _MIB

Reader = Callable[..., Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]]
"""A function with the arguments of ``read_frames``; found by its module and name in the other process."""


def probe_guarded(
    path: Path, *, rules: DecodeRules | None = None, prober: Callable[..., VideoFacts] = probe_video
) -> VideoFacts:
    """What ``probe_video`` finds, found in another process; without decord where decord brings that down.

    Raises:
        DecoderError: The decoder hung, died or ran away with memory.
        VideoError: As ``probe_video``.
    """
    rules = rules or DecodeRules()
    try:
        return _probe(path, rules, prober, None)
    except DecoderError as error:
        log.warning("%s: it is probed again without decord, because %s.", path, error.reason)
        return _probe(path, rules, prober, "pyav")


def _probe(
    path: Path, rules: DecodeRules, prober: Callable[..., VideoFacts], decoder: str | None
) -> VideoFacts:
    size = path.stat().st_size if path.is_file() else 0
    watchdog = Watchdog(
        stall_seconds=rules.timeout_seconds,
        total_seconds=rules.timeout_seconds + size / _SLOWEST_BYTES_PER_SECOND,
        memory_bytes=_PROBE_MEMORY_BYTES,
    )
    with _lent() as process:
        facts: VideoFacts = process.call(path, prober, (decoder, rules.on_corrupt), watchdog=watchdog)
    return facts


def read_guarded(
    path: Path,
    facts: VideoFacts,
    indices: Sequence[int] | None = None,
    batch_frames: int = 32,
    *,
    rules: DecodeRules | None = None,
    reader: Reader = read_frames,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Pictures in batches, as ``read_frames`` gives them, decoded ahead in another process.

    Args:
        path: The video.
        facts: What probing found.
        indices: Frames wanted, strictly increasing; all of them if None.
        batch_frames: Most frames of a batch; batches of large pictures are smaller.
        rules: When a decoder is stopped.
        reader: Reads there.

    Raises:
        DecoderError: The decoder hung, died or ran away with memory.
        VideoError: As ``read_frames``.
    """
    rules = rules or DecodeRules()
    wanted = check_indices(path, facts, indices)
    frame_shape = (facts.height, facts.width, 3)
    frame_bytes = facts.height * facts.width * 3
    watchdog = Watchdog(
        stall_seconds=rules.timeout_seconds,
        total_seconds=rules.timeout_seconds + facts.num_frames / _SLOWEST_FRAMES_PER_SECOND,
        memory_bytes=_READ_MEMORY_BYTES + _READ_MEMORY_FRAMES * frame_bytes,
    )
    start = 0
    with _lent() as process:
        batches = process.stream(
            path,
            reader,
            (facts, wanted),
            frame_shape=frame_shape,
            batch_frames=max(1, min(batch_frames, _SLOT_BYTES // frame_bytes)),
            slots=_SLOTS,
            watchdog=watchdog,
        )
        for frames in batches:
            count = len(frames)
            yield wanted[start : start + count], frames
            # Held on to, the batch could not be filled anew.
            del frames
            start += count


class _Pool:
    """Processes without work, for the next who needs one."""

    def __init__(self) -> None:
        self._idle: list[DecodeProcess] = []
        self._lock = threading.Lock()

    def take(self) -> DecodeProcess:
        while True:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is None:
                return DecodeProcess()
            if process.is_alive():
                return process
            process.close()

    def give_back(self, process: DecodeProcess) -> None:
        if process.is_ready() and process.memory_bytes() < _RECYCLE_BYTES:
            with self._lock:
                self._idle.append(process)
        else:
            process.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.close()


_pools = [_Pool()]


def _forget() -> None:
    # A forked child must neither use nor end the processes of its parent: they stay referenced, unused.
    _pools.append(_Pool())


def _close() -> None:
    _pools[-1].close()


os.register_at_fork(after_in_child=_forget)
atexit.register(_close)


@contextmanager
def _lent() -> Iterator[DecodeProcess]:
    """A process for one job, kept for the next unless the job was not finished."""
    pool = _pools[-1]
    process = pool.take()
    try:
        yield process
    finally:
        pool.give_back(process)


def live_processes() -> list[int]:
    """Ids of the idle decoding processes of this process, for whoever looks after them."""
    return [process.pid for process in _pools[-1]._idle]  # noqa: SLF001
