"""When a decoding process has gone wrong: a pure judgement of what is seen from outside."""

from dataclasses import dataclass, field

MAX_BLINK_SECONDS = 1.0
"""The most that may count as elapsed between two looks: a watcher that was itself kept waiting, on a machine
under load, knows nothing of the time between."""


@dataclass(kw_only=True, slots=True)
class Watchdog:
    """Judges one job by its beats, its working time and its memory."""

    stall_seconds: float
    """Longest working time without a beat."""
    total_seconds: float
    """Longest working time of the job."""
    memory_bytes: int
    """Most private memory."""
    _beats: int = field(default=-1, init=False)
    _last_look: float | None = field(default=None, init=False)
    _silent: float = field(default=0.0, init=False)
    _worked: float = field(default=0.0, init=False)

    def verdict(self, *, now: float, beats: int, working: bool, memory_bytes: int) -> str | None:
        """What is wrong, as the end of a sentence about the decoder; None while all is well.

        Args:
            now: A monotonic clock, in seconds.
            beats: Steps done so far.
            working: False while the process waits for its reader, which is not its fault.
            memory_bytes: Its private memory now.
        """
        elapsed = 0.0 if self._last_look is None else min(now - self._last_look, MAX_BLINK_SECONDS)
        self._last_look = now
        if beats != self._beats or not working:
            self._beats = beats
            self._silent = 0.0
        elif working:
            self._silent += elapsed
        if working:
            self._worked += elapsed
        if memory_bytes > self.memory_bytes:
            return f"ran away with memory, beyond {self.memory_bytes >> 20} MiB"
        if self._silent > self.stall_seconds:
            return f"hung, without a step in {self.stall_seconds:g} s"
        if self._worked > self.total_seconds:
            return f"is too slow, with {self.total_seconds:.0f} s of work for this length"
        return None
