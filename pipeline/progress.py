"""How long work tells whoever listens how far it is, as logging does for messages.

A step calls ``report``; the command line registers a listener that draws bars, a flow one that writes to its
log. Without a listener nothing happens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far one piece of work is."""

    work: str
    """What is being done, e.g. ``extract P03_tea``; the same text for every report of one piece of work."""
    done: int
    """Units finished, from 0 to ``total``."""
    total: int
    """Units in all."""
    unit: str
    """What is counted, in the plural: ``frames``, ``epochs``, ``videos``."""
    note: str = ""
    """A short figure to show beside the bar, e.g. ``loss 1.23``."""


Listener = Callable[[Progress], None]

_listeners: list[Listener] = []
_lock = Lock()


def report(work: str, *, done: int, total: int, unit: str, note: str = "") -> None:
    """Tell every listener how far a piece of work is. Safe to call from any thread."""
    progress = Progress(work=work, done=done, total=total, unit=unit, note=note)
    with _lock:
        for listener in _listeners:
            listener(progress)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call ``listener`` with every report made while the block runs."""
    with _lock:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)
