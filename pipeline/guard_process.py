"""The near end of a decoding process: starts it, watches it, and takes its answers."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DecoderError, ProcessError
from pipeline.frame_ring import PULSE_BYTES, FrameRing, Pulse, shared_file
from pipeline.guard_jobs import Call, Stream
from pipeline.watchdog import Watchdog

_LOOK_SECONDS = 0.05
_START_SECONDS = 300
"""A process that has not said that it is ready after so long will not."""

_SPARE_SLOTS = 2
"""Slots that are never lent to the reader of the pictures, so that decoding goes on whatever it keeps."""


class DecodeProcess:
    """A process that decodes for this one, a job at a time.

    A thread of its own starts and watches it: the kernel ends the process together with that thread, so it
    never outlives this program, even a killed one.
    """

    def __init__(self) -> None:
        self._connection, self._theirs = Pipe()
        pulse = shared_file(PULSE_BYTES)
        self._pulse = Pulse(pulse.fileno())
        self._watchdog: Watchdog | None = None
        self._verdict: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started = threading.Event()
        self._job = threading.Event()
        self._closed = False
        self._ready = False
        watcher = threading.Thread(target=self._watch, args=(pulse.fileno(),), daemon=True)
        self._watcher = watcher
        watcher.start()
        self._started.wait()
        self._theirs.close()
        pulse.close()
        self._ready = self._hears_that_it_is_ready()
        if not self._ready:
            self.close()
            raise ProcessError(
                "A decoding process does not start. Check that this machine has memory and processes left."
            )

    def _hears_that_it_is_ready(self) -> bool:
        if self._process is None or not self._connection.poll(_START_SECONDS):
            return False
        try:
            self._receive(Path("-"))
        except DecoderError:
            # It ended before it had any job.
            return False
        return True

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    @property
    def _child(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProcessError("The decoding process was never started. Please report it with the log.")
        return self._process

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._child.poll() is None

    def is_ready(self) -> bool:
        """Whether the process runs and has finished its last job."""
        return self._ready and self.is_alive()

    def memory_bytes(self) -> int:
        """Private memory of the process now; 0 where the system does not tell."""
        return _private_bytes(self.pid)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._closed = True
        self._job.set()
        self._connection.close()
        if self._process is not None:
            self._process.kill()
        self._watcher.join()

    def call(
        self, path: Path, function: Callable[..., Any], arguments: tuple[Any, ...], *, watchdog: Watchdog
    ) -> Any:  # noqa: ANN401
        """The value of ``function(path, *arguments)``.

        Raises:
            DecoderError: The process hung, died or ran away with memory.
            VideoError: What the function raises.
        """
        self._begin(Call(path=path, function=function, arguments=arguments), watchdog)
        (_, value) = self._receive(path)
        self._finish()
        return value

    def stream(
        self,
        path: Path,
        reader: Callable[..., Any],
        arguments: tuple[Any, ...],
        *,
        frame_shape: tuple[int, int, int],
        batch_frames: int,
        slots: int,
        watchdog: Watchdog,
    ) -> Iterator[NDArray[np.uint8]]:
        """Batches of pictures that ``reader`` gives there.

        An array is shared memory, free for a coming batch as soon as nobody holds it.

        Raises:
            DecoderError: The process hung, died or ran away with memory.
            VideoError: What the reader raises.
        """
        slot_bytes = int(np.prod(frame_shape)) * batch_frames
        job = Stream(
            path=path,
            reader=reader,
            arguments=arguments,
            frame_shape=frame_shape,
            batch_frames=batch_frames,
            slot_bytes=slot_bytes,
            slots=slots,
        )
        with shared_file(slot_bytes * slots) as file:
            ring = FrameRing(file.fileno(), slot_bytes=slot_bytes, slots=slots)
            self._begin(job, watchdog)
            self._deliver(path, partial(send_handle, self._connection, file.fileno(), self.pid))
        lender = _Lender(ring)
        while True:
            for slot in lender.returned():
                self._send(path, slot)
            kind, *details = self._receive(path)
            if kind == "end":
                break
            slot, count = details
            yield lender.lend(slot, (count, *frame_shape))
        self._finish()

    def _begin(self, job: Call | Stream, watchdog: Watchdog) -> None:
        self._ready = False
        self._watchdog = watchdog
        self._pulse.working = True
        self._job.set()
        self._send(job.path, job)

    def _finish(self) -> None:
        self._job.clear()
        self._watchdog = None
        self._ready = True

    def _send(self, path: Path, message: object) -> None:
        self._deliver(path, partial(self._connection.send, message))

    def _deliver(self, path: Path, send: Callable[[], None]) -> None:
        with suppress(ConnectionError):
            send()
            return
        # Not from the error: its frames hold buffers that Python 3.13 complains of when it frees them.
        raise self._died(path)

    def _receive(self, path: Path) -> tuple[Any, ...]:
        """The next answer; log records on the way are logged here."""
        while True:
            try:
                message: tuple[Any, ...] = self._connection.recv()
            except (EOFError, ConnectionError) as error:
                raise self._died(path) from error
            if message[0] == "log":
                _log_again(*message[1:])
            elif message[0] == "error":
                self._finish()
                raise message[1]
            else:
                return message

    def _died(self, path: Path) -> DecoderError:
        """Why the process is no more, as the video's failure."""
        code = self._child.wait()
        ended = f"died ({signal.Signals(-code).name})" if code < 0 else f"ended (exit code {code})"
        return DecoderError.on(path, f"the decoder {self._verdict or ended}; it was given up")

    def _watch(self, pulse: int) -> None:
        """Start the process, and stop it when it has gone wrong or is not wanted any more."""
        try:
            self._process = self._start(pulse)
        finally:
            self._started.set()
        while not self._closed and self._process.poll() is None:
            self._job.wait()
            watchdog = self._watchdog
            if watchdog is not None:
                self._verdict = watchdog.verdict(
                    now=time.monotonic(),
                    beats=self._pulse.beats,
                    working=self._pulse.working,
                    memory_bytes=self.memory_bytes(),
                )
                if self._verdict is not None:
                    self._process.kill()
                    break
            time.sleep(_LOOK_SECONDS)
        self._process.wait()

    def _start(self, pulse: int) -> subprocess.Popen[bytes]:
        theirs = self._theirs.fileno()
        level = logging.getLogger("pipeline").getEffectiveLevel()
        given = [str(number) for number in (theirs, pulse, os.getpid(), level)]
        return subprocess.Popen(  # noqa: S603  (this very interpreter, no shell)
            [sys.executable, "-P", "-m", "pipeline.guard_worker", *given],
            stdin=subprocess.DEVNULL,
            # What a library prints must not end up between the data of the command line.
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs, pulse),
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)},
            # Ctrl-C is for this process, which then ends the other.
            start_new_session=True,
        )


class _Lender:
    """Hands out slots of a ring as arrays, and knows when each is free again."""

    def __init__(self, ring: FrameRing) -> None:
        self._ring = ring
        self._free: deque[int] = deque()
        self._lent = 0

    def lend(self, slot: int, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """The pictures of a slot; a copy of them where the reader holds on to many."""
        frames = self._ring.batch(slot, shape)
        self._lent += 1
        if self._lent > self._ring.slots - _SPARE_SLOTS:
            self._free.append(slot)
            return frames.copy()
        finalizer = weakref.finalize(frames, self._free.append, slot)
        finalizer.atexit = False
        return frames

    def returned(self) -> Iterator[int]:
        """Slots that nobody holds any more."""
        while self._free:
            self._lent -= 1
            yield self._free.popleft()


def _log_again(name: str, level: int, message: str) -> None:
    logging.getLogger(name).log(level, "%s", message)


def _private_bytes(pid: int) -> int:
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
