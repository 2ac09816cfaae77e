"""The process that decodes for another: it may hang, crash or run away, and harms nobody.

Started by ``pipeline.guard`` as ``python -m pipeline.guard_worker``; it does one job after the other until the
other end of its connection closes.
"""

import ctypes
import logging
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import heartbeat
from pipeline.errors import DecoderError, VideoError
from pipeline.frame_ring import FrameRing, Pulse
from pipeline.guard_jobs import Call, Stream

_PR_SET_PDEATHSIG = 1


class _Forward(logging.Handler):
    """Hands log records to the process that asked for the work."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self._connection.send(("log", record.name, record.levelno, record.getMessage()))


def main() -> None:
    """Do jobs until there is nobody to do them for."""
    connection, pulse = Connection(int(sys.argv[1])), Pulse(int(sys.argv[2]))
    _die_with(parent=int(sys.argv[3]))
    heartbeat.listen(pulse.beat)
    logging.basicConfig(level=int(sys.argv[4]), handlers=[_Forward(connection)])
    # The other end may go at any moment, as on Ctrl-C: then there is nobody to do anything for, or to tell.
    with suppress(EOFError, ConnectionError):
        connection.send(("ready",))
        while True:
            job = connection.recv()
            # A number is a slot that came back after the last picture was sent.
            if not isinstance(job, int):
                answer = _answer(job, connection, pulse)
                # The reader may be long in coming for it: the last pictures are still in its hands.
                pulse.working = False
                connection.send(answer)


def _die_with(*, parent: int) -> None:
    """Let the kernel end this process when the thread that started it ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()


def _answer(job: Call | Stream, connection: Connection, pulse: Pulse) -> tuple[Any, ...]:
    try:
        if isinstance(job, Call):
            return ("value", job.function(job.path, *job.arguments))
        _stream(job, connection, pulse)
    except VideoError as error:
        return ("error", error)
    except Exception as error:  # noqa: BLE001  (whatever a decoder throws is this video's fault, not the batch's)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return ("error", DecoderError.on(job.path, f"the decoder failed ({reason})"))
    return ("end",)


def _stream(job: Stream, connection: Connection, pulse: Pulse) -> None:
    descriptor = recv_handle(connection)
    ring = FrameRing(descriptor, slot_bytes=job.slot_bytes, slots=job.slots)
    os.close(descriptor)
    free = list(range(job.slots))
    taken: list[int] = []

    def allocate(count: int) -> NDArray[np.uint8]:
        while not free or connection.poll():
            # Waiting for the reader of the pictures is no fault of the decoder.
            pulse.working = False
            free.append(connection.recv())
            pulse.working = True
        taken.append(free.pop(0))
        return ring.batch(taken[-1], (count, *job.frame_shape))

    for indices, _ in job.reader(job.path, *job.arguments, batch_frames=job.batch_frames, allocate=allocate):
        pulse.beat()
        connection.send(("batch", taken.pop(0), len(indices)))


if __name__ == "__main__":
    main()
