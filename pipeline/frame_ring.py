"""Memory that two processes share: pictures in slots, and a pulse."""

import mmap
import os
import tempfile
from typing import IO

import numpy as np
from numpy.typing import NDArray

PULSE_BYTES = 16


def shared_file(size: int) -> IO[bytes]:
    """An anonymous file of ``size`` bytes that lives in memory where the system has such files.

    Not ``multiprocessing.shared_memory``: that lives in ``/dev/shm``, which containers limit to 64 MiB, and a
    write beyond the limit is a crash; and its names survive a killed process, while this file never does.
    """
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("factseg"), "r+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    file.truncate(size)
    return file


class FrameRing:
    """Slots for batches of pictures in a shared file."""

    def __init__(self, descriptor: int, *, slot_bytes: int, slots: int) -> None:
        self.slot_bytes = slot_bytes
        self.slots = slots
        self._map = mmap.mmap(descriptor, slot_bytes * slots)

    def batch(self, slot: int, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """The pictures of a slot as an array; the memory lives as long as any such array."""
        return np.ndarray(shape, np.uint8, buffer=self._map, offset=slot * self.slot_bytes)


class Pulse:
    """Two numbers that a watched process writes and its watcher reads."""

    def __init__(self, descriptor: int) -> None:
        self._values = memoryview(mmap.mmap(descriptor, PULSE_BYTES)).cast("q")

    @property
    def beats(self) -> int:
        """Steps done since the process started."""
        return self._values[0]

    @property
    def working(self) -> bool:
        """Whether the process has work that waits for nobody else."""
        return bool(self._values[1])

    @working.setter
    def working(self, value: bool) -> None:
        self._values[1] = value

    def beat(self) -> None:
        """Count a step."""
        self._values[0] += 1
